"""The state in the observation, and the environment as a model."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs
from jaxrl.envs.probes import TruncationProbe
from jaxrl.types import Observation


def test_the_exposed_state_is_the_one_that_is_stepped_from():
    env, params = envs.make("CartPole-v1", max_steps_in_episode=5)
    exposed = envs.expose_state(env)
    assert envs.check(exposed, params).truncated > 0
    observation, state = exposed.reset(jax.random.key(0), params)
    assert isinstance(observation, Observation)
    jax.tree.map(np.testing.assert_array_equal, observation.env_state, state)
    step = jax.jit(exposed.step)
    for t in range(12):
        observation, state, *_, info = step(jax.random.key(t), state, jnp.int32(t % 2), params)
        jax.tree.map(np.testing.assert_array_equal, observation.env_state, state)
        assert info["final_observation"].env_state is not None


def test_the_simulator_is_the_environment():
    env, params = envs.make("CartPole-v1")
    model = envs.simulator(env, params)
    assert model.num_players == 1
    _, state = env.reset(jax.random.key(0), params)
    found = model.step((), jax.random.key(1), state, jnp.int32(1))
    observation, stepped, reward, _, _, _ = env.step(jax.random.key(1), state, jnp.int32(1), params)
    jax.tree.map(np.testing.assert_array_equal, found.state, stepped)
    np.testing.assert_array_equal(found.observation, observation)
    assert (float(found.reward), float(found.discount), bool(found.truncated)) == (float(reward), 1.0, False)


def test_ends_of_the_simulator():
    env = TruncationProbe()
    model = envs.simulator(env)
    _, state = env.reset(jax.random.key(0), env.default_params)
    ends = []
    for t in range(env.default_params.max_steps_in_episode):
        found = model.step((), jax.random.key(t), state, jnp.int32(0))
        state = found.state
        ends.append((float(found.discount), bool(found.truncated)))
    # A cut keeps its weight and says so.
    assert ends == [(1.0, False)] * (len(ends) - 1) + [(1.0, True)]


def test_a_game_in_the_simulator_has_weights_of_minus_one_and_nothing_behind_its_end():
    env, params = envs.make("pgx/tic_tac_toe")
    model = envs.simulator(envs.expose_state(env), params)
    assert model.num_players == 2
    _, state = env.reset(jax.random.key(0), params)
    outcomes = []
    for move in (0, 3, 1, 4, 2):  # the first player fills the upper row
        found = model.step((), jax.random.key(0), state, jnp.int32(move))
        state = found.state
        outcomes.append((float(found.reward), float(found.discount)))
    assert outcomes == [(0.0, -1.0)] * 4 + [(1.0, 0.0)]
    assert np.asarray(found.observation.features).sum() == 5
