"""A model and an evaluation as what a search takes: the one rule for truncation, with a network and with rollouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import search
from jaxrl.search import models
from jaxrl.types import Model, Observation, Simulated

LENGTH, RESET, GAMMA = 3, 100, 0.9


def corridor(truncates):
    """Steps count up from 0 and pay ``params``; at ``LENGTH`` the episode ends, in the state of another one."""

    def step(params, key, state, action):
        count = state + 1
        ends = count == LENGTH
        return Simulated(
            state=jnp.where(ends, RESET, count),
            observation=Observation(features=count, action_mask=jnp.array([True, False, True])),
            reward=jnp.float32(params),
            discount=jnp.where(ends & (not truncates), 0.0, 1.0),
            truncated=ends & truncates,
        )

    return Model(init=lambda key: jnp.float32(2.0), step=step)


def evaluate(params, observation):
    """The value is ``params`` at the last observation, and absurd in the episode behind it."""
    count = observation.features
    value = jnp.where(count == LENGTH, params, jnp.where(count > LENGTH, -1e6, 0.0)).astype(jnp.float32)
    return jnp.zeros((*count.shape, 3), jnp.float32), value


def root(params):
    seen = Observation(features=jnp.array([LENGTH - 1, LENGTH - 2]), action_mask=jnp.ones((2, 3), bool))
    return models.root(evaluate, params, seen.features, seen)


@pytest.mark.parametrize(("truncates", "behind"), [(True, 5.0), (False, 0.0)])
def test_a_cut_is_worth_the_value_of_its_last_observation_and_an_end_nothing(truncates, behind):
    model = corridor(truncates)
    params = models.Params(model.init(jax.random.key(0)), jnp.float32(5.0))
    step = models.recurrent_fn(model, evaluate, GAMMA)
    expected = [2 + GAMMA * behind, 2 + GAMMA * (2 + GAMMA * behind)]
    legal = jnp.array([[True, False, True]] * 2)

    found = search.puct(jax.random.key(0), params, root(params), step, 30, ~legal, dirichlet_fraction=0.0)
    qvalues = found.search_tree.summary().qvalues
    # The corridor has one way, so that from one step before the end every path tells the same.
    np.testing.assert_allclose(qvalues[0][legal[0]], expected[0], rtol=1e-6)
    assert int(found.search_tree.depths().max()) > LENGTH

    # A random episode has no estimate along its way: it ends at the cut as well, with the value there.
    rolled = search.with_rollouts(step, 50)
    output, node = rolled(params, jax.random.key(0), jnp.zeros(2, jnp.int32), root(params).embedding)
    total = output.reward + output.discount * output.value
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert node.truncated.tolist() == [truncates, False]


def test_from_a_cut_every_step_pays_what_it_is_worth_and_ends():
    model = corridor(truncates=True)
    params = models.Params(jnp.float32(2.0), jnp.float32(5.0))
    step = models.recurrent_fn(model, evaluate, GAMMA)
    node, key, action = root(params).embedding, jax.random.key(0), jnp.zeros(2, jnp.int32)
    seen = []
    for _ in range(4):
        output, node = step(params, key, action, node)
        seen.append((float(output.reward[0]), float(output.discount[0])))
    assert seen == [(2.0, pytest.approx(GAMMA))] + [(5.0, 0.0)] * 3
    assert float(output.value[0]) != 5.0 and float(node.value[0]) == 5.0


def test_a_model_and_an_evaluation_are_asked_for():
    for model in (None, lambda *_: None, Model(init=None, step=None)):
        with pytest.raises(TypeError, match=r"model: got .* must be a types.Model such as envs.simulator"):
            models.recurrent_fn(model, evaluate)
    with pytest.raises(TypeError, match="evaluate: got 3"):
        models.recurrent_fn(corridor(False), 3)
