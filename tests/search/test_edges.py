"""Searches with values of any float dtype: statistics that hold, ties by chance, and no visits lost to underflow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import search
from jaxrl.search import qtransforms, selection
from jaxrl.search.base import NodeStats

DTYPES = ("float16", "bfloat16", "float32", "float64")
A = 4


def bandit(dtype, returns, params, key, action, embedding):
    """Each action pays its return and leads to a state worth nothing."""
    batch = action.shape[0]
    output = search.RecurrentFnOutput(
        reward=jnp.asarray(returns, dtype)[action],
        discount=jnp.ones(batch, dtype),
        prior_logits=jnp.zeros((batch, A), dtype),
        value=jnp.zeros(batch, dtype),
    )
    return output, embedding + 1


SEARCHES = {
    "puct": functools.partial(search.puct, dirichlet_fraction=0.25, temperature=0),
    "gumbel": functools.partial(search.gumbel, gumbel_scale=0.0),
    "uct": search.uct,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SEARCHES)
def test_the_best_action_is_found_in_any_dtype(name, dtype):
    returns = [0.0, 0.0, 1.0, 0.0]
    with jax.enable_x64(dtype == "float64"):
        root = search.RootFnOutput(jnp.zeros((8, A), dtype), jnp.zeros(8, dtype), jnp.zeros(8, jnp.int32))
        model = functools.partial(bandit, dtype, returns)
        found = SEARCHES[name](jax.random.key(0), (), root, model, 24, max_depth=1)
        visits = np.asarray(found.search_tree.summary().visit_counts)
        assert found.action.tolist() == [2] * 8
        assert (visits[:, 2] == visits.max(-1)).all() and (visits.sum(-1) == 24).all()
        # Statistics are float32 at least: half precision holds neither means of many visits nor noise against ties.
        assert found.search_tree.node_values.dtype == ("float64" if dtype == "float64" else "float32")
        assert np.isfinite(np.asarray(found.action_weights)).all()
        # Equal actions are tried in another order in every tree.
        firsts = np.asarray(found.search_tree.action_from_parent[:, 1])
        assert name == "gumbel" or len(set(firsts.tolist())) > 1


def node(dtype, qvalues, visits, value=0.0):
    qvalues, visits = jnp.asarray(qvalues, dtype), jnp.asarray(visits, jnp.int32)
    one = jnp.asarray(value, dtype)
    same = jnp.full(qvalues.shape, 0.25, dtype)
    noise = jnp.linspace(0.0, 0.9, qvalues.size).astype(dtype)
    return NodeStats(visits.sum() + 1, one, one, visits, qvalues, jnp.zeros_like(qvalues), same, noise)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rules_at_the_ends_of_their_dtype(dtype):
    with jax.enable_x64(True):
        top = float(jnp.finfo(dtype).max)
        extreme, equal = node(dtype, [top, -top, 0.0], [3, 1, 0]), node(dtype, [0.0, 0.0, 0.0], [1, 1, 1])
        scaled = qtransforms.by_parent_and_siblings(extreme)
        np.testing.assert_allclose(np.asarray(scaled, float), [1.0, 0.0, 0.0], atol=1e-2)
        bounded = qtransforms.by_min_max(extreme, min_value=-top, max_value=top)
        np.testing.assert_allclose(np.asarray(bounded, float), [1.0, 0.0, 0.0], atol=1e-2)
        completed = qtransforms.completed_by_mix_value(node(dtype, [top / 8, -top / 8, 0.0], [3, 1, 0]))
        assert float(completed[0]) == float(completed.max()) > float(completed[2]) > float(completed[1])
        for rule in (selection.puct_score, selection.uct_score, selection.gumbel_score):
            for stats in (extreme, equal):
                score = rule(stats)
                assert score.dtype == dtype and np.isfinite(np.asarray(score, float)).all()
        assert int(jnp.argmax(selection.uct_score(extreme))) == 2  # unvisited actions first
        for transform in (qtransforms.by_parent_and_siblings, qtransforms.completed_by_mix_value):
            assert transform(equal).tolist() == [0.0, 0.0, 0.0]
        # The mean of many visits, whose sum half precision can't hold.
        mean = search.mean_backup(jnp.asarray(100.0, dtype), jnp.int32(2000), jnp.asarray(100.0, dtype))
        assert mean.dtype == dtype and float(mean) == 100.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_actions_in_proportion_to_any_weights(dtype):
    with jax.enable_x64(True):
        info = jnp.finfo(dtype)
        weights = jnp.asarray([[0.0, float(info.tiny), float(info.max), 1.0]] * 16, dtype)
        for temperature in (0.0, 1e-30, 1.0):
            action = search.in_proportion(jax.random.key(0), weights, temperature)
            assert action.dtype == jnp.int32 and action.tolist() == [2] * 16


@pytest.mark.parametrize("dtype", DTYPES)
def test_rollouts_of_a_model_of_any_dtype(dtype):
    with jax.enable_x64(dtype == "float64"):
        model = search.with_rollouts(functools.partial(bandit, dtype, [1.0] * A), 5)
        output, _ = model((), jax.random.key(0), jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32))
        assert output.value.tolist() == [5.0, 5.0]
        root = search.rollout_root(jnp.zeros(2, jnp.int32), A)
        assert root.value.dtype == root.prior_logits.dtype == jnp.float32
