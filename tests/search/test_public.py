"""Every public function of search at the edges of every float dtype: one row each."""

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl import search
from jaxrl.search import models, qtransforms, selection
from jaxrl.search.base import NodeStats
from jaxrl.types import Model, Observation, Simulated

from ..edges import DTYPES, FEW, A, N, Row, check, covered, finite, legal, public, sums_to_1, within

SIMULATIONS = 6


def nodes(q, visits, value):
    logits = jnp.clip(q, -1.0, 1.0)
    q = jnp.where(visits > 0, q, 0)
    noise = jnp.broadcast_to(jnp.linspace(0.0, 0.9, A).astype(q.dtype), q.shape)
    return NodeStats(visits.sum(-1) + 1, value, value, visits, q, logits, jax.nn.softmax(logits), noise)


def on_nodes(function):
    return lambda q, visits, value: function(nodes(q, visits, value))


def bandit(params, key, action, embedding):
    """Each action pays its reward and leads to a state of the value; half of the actions are illegal there."""
    rewards, value = params
    illegal = jnp.broadcast_to(jnp.arange(A) % 2 == 0, (N, A))
    reward = jnp.take_along_axis(rewards, action[:, None], axis=1)[:, 0]
    one = jnp.ones_like(value)
    return search.RecurrentFnOutput(reward, one, jnp.zeros_like(rewards), value, illegal), embedding + 1


@functools.cache
def searching(name):
    """A search from roots of extreme logits and values in a model of extreme rewards, and the subtree it leaves."""
    search_fn = {
        "puct": functools.partial(search.puct, dirichlet_fraction=0.25),
        "gumbel": search.gumbel,
        "uct": search.uct,
        "search": lambda *args: search.PolicyOutput(None, None, search.search(*args, selection=selection.puct_score)),
    }[name]

    @jax.jit
    def run(key, logits, value, mask):
        root = search.RootFnOutput(logits, value, jnp.zeros(N, jnp.int32))
        found = search_fn(key, (logits, value), root, bandit, SIMULATIONS, ~mask)
        return found, search.subtree(found.search_tree, jnp.argmax(mask, axis=-1))

    return run


def searched(result, key, logits, value, mask):
    del key, logits, value
    found, kept = result
    tree = found.search_tree
    assert (tree.children_visits[:, 0].sum(-1) == SIMULATIONS).all()
    assert not np.asarray(tree.children_visits[:, 0])[~np.asarray(mask) & np.asarray(mask).any(-1, keepdims=True)].any()
    finite((tree.node_values, tree.children_qvalues, kept.node_values))
    if found.action is not None:
        legal(found.action, mask)
        sums_to_1(found.action_weights)


def model_step(params, key, state, action):
    reward = params[action % N]
    return Simulated(state + 1, state[None], reward, jnp.ones_like(reward), action == 0)


MODEL = Model(init=lambda key: (), step=model_step)


def evaluate(params, observation):
    return jnp.zeros((N, A), params.dtype), params


def in_model(value, reward, action):
    """Roots of extreme values, and a step from there with extreme rewards, twice: behind a cut nothing counts."""
    params = models.Params(reward, value)
    models.check_model("model", MODEL)
    root = models.root(evaluate, params, jnp.zeros(N, jnp.int32), jnp.zeros(N))
    step = models.recurrent_fn(MODEL, evaluate, 0.5)
    once, embedding = step(params, jax.random.key(0), action, root.embedding)
    twice, _ = step(params, jax.random.key(0), action, embedding)
    return (root.prior_logits, root.value), once, twice


def cut_is_worth_its_value(result, value, reward, action):
    _, _, twice = result
    cut = np.asarray(action) == 0
    np.testing.assert_array_equal(np.asarray(twice.reward)[cut], np.asarray(value)[cut])
    assert not np.asarray(twice.discount)[cut].any()


def rollouts(key, reward, value):
    root = search.rollout_root(jnp.zeros(N, jnp.int32), A)
    model = search.with_rollouts(bandit, 3)
    output, _ = model((reward, value), key, jnp.zeros(N, jnp.int32), root.embedding)
    return root, output


# Values times visits must fit into the dtype of the tree, float32 at least.
SUMS = {"share": 1 / 256}
ROWS = {
    "mean_backup": Row(
        "vv", lambda v, target: search.mean_backup(v, jnp.full(N, 50, jnp.int32), target), finite, **SUMS
    ),
    "in_proportion": Row(
        "knz",
        lambda key, visits, z: search.in_proportion(key, visits, z),
        lambda action, key, visits, z: legal(action, visits > 0),
    ),
    "puct": Row("kqvm", searching("puct"), searched, dtype="wide", oracle=False, **SUMS),
    "gumbel subtree": Row("kqvm", searching("gumbel"), searched, dtype="wide", oracle=False, **SUMS),
    "uct": Row("kqvm", searching("uct"), searched, dtype="wide", oracle=False, **SUMS),
    "search": Row("kqvm", searching("search"), searched, dtype="wide", oracle=False, **SUMS),
    "with_rollouts rollout_root": Row(
        "kqv", lambda *x: rollouts(*x)[1].value, finite, dtype="wide", oracle=False, **SUMS
    ),
    "models.root models.recurrent_fn models.check_model": Row("vva", in_model, cut_is_worth_its_value),
    "models.invalid_actions": Row(
        "qm",
        lambda q, mask: models.invalid_actions(Observation(q, action_mask=mask)),
        lambda result, q, mask: np.testing.assert_array_equal(result, ~mask),
    ),
    "qtransforms.by_parent_and_siblings": Row("qnv", on_nodes(qtransforms.by_parent_and_siblings), within(0.0, 1.01)),
    "qtransforms.by_min_max": Row(
        "qnv",
        lambda q, n, v: qtransforms.by_min_max(
            nodes(q, n, v), min_value=-float(jnp.finfo(q.dtype).max), max_value=float(jnp.finfo(q.dtype).max)
        ),
        within(0.0, 1.01),
    ),
    "qtransforms.completed_by_mix_value": Row(
        "qnv", on_nodes(qtransforms.completed_by_mix_value), within(0.0, 10.2), **SUMS
    ),
    "qtransforms.mixed_value": Row("qnv", on_nodes(qtransforms.mixed_value), finite, **SUMS),
    "selection.puct_score": Row("qnv", on_nodes(selection.puct_score), finite),
    "selection.uct_score": Row("qnv", on_nodes(selection.uct_score), finite, oracle=False),
    "selection.gumbel_score": Row("qnv", on_nodes(selection.gumbel_score), within(-1.01, 1.01), **SUMS),
    "selection.considered_score": Row(
        "qnv",
        lambda q, n, v: selection.considered_score(
            nodes(q, n, v), n, jnp.zeros_like(q), qtransforms.completed_by_mix_value, n.max(-1)
        ),
        lambda score, q, n, v: np.testing.assert_array_equal(np.isfinite(score), n == n.max(-1, keepdims=True)),
        oracle=False,
        **SUMS,
    ),
}
DRAWN = ("draw", "size_bytes")


def test_every_public_function_has_a_row():
    assert {*covered(ROWS), *DRAWN} == public(search)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
@FEW
@given(data=st.data())
def test_at_the_edges_of_its_dtype(name, dtype, data):
    check(ROWS[name], dtype, data)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_tree_of_extreme_values_is_drawn(dtype, tmp_path):
    top = float(jnp.finfo(dtype).max) / 256
    logits, value = jnp.zeros((N, A), dtype), jnp.asarray([top, -top, 0.0, 1.0], dtype)
    tree = searching("puct")(jax.random.key(0), logits, value, jnp.ones((N, A), bool))[0].search_tree
    for index in range(N):
        plt.close(search.draw(tree, tmp_path / f"{index}.svg", index=index))
        assert (tmp_path / f"{index}.svg").stat().st_size > 1000
    assert search.size_bytes(search.RootFnOutput(logits, value, jnp.zeros(N)), 7) > 0
    np.testing.assert_array_equal(tree.depths().max(-1) >= 1, True)
    assert tree.principal_variation(3).shape == (N, 3)
    assert np.isfinite(np.asarray(tree.summary().qvalues, float)).all()
