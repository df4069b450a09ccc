import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import rollout
from jaxrl.types import Observation

T, B = 12, 3


@pytest.fixture(scope="module")
def play(toys):
    """``play(key, explore) -> (first observation, (env_state, observation, trajectory))``."""

    def run(key, explore=True):
        agent, (reset_key, run_key) = toys.make_agent(), jax.random.split(key)
        observation, env_state = rollout.reset(reset_key, toys.env, toys.params, B)
        state = agent.init(jax.random.key(0), B)
        out = rollout.rollout(run_key, agent, state, toys.env, toys.params, env_state, observation, T, explore=explore)
        return observation, out

    return jax.jit(run, static_argnums=1)


def test_trajectory_is_time_major_and_follows_the_environment(play):
    first, (_, last, trajectory) = play(jax.random.key(0))
    assert trajectory.observation.shape == trajectory.next_observation.shape == (T, B, 2)
    assert trajectory.action.shape == trajectory.reward.shape == trajectory.terminated.shape == (T, B)
    assert trajectory.reward.dtype == jnp.float32
    np.testing.assert_array_equal(trajectory.observation[0], first)
    done = np.asarray(trajectory.terminated | trajectory.truncated)
    assert done.any() and not done.all()
    after = np.concatenate([trajectory.observation[1:], last[None]])
    np.testing.assert_array_equal(np.asarray(trajectory.next_observation)[~done], after[~done])


def test_next_observation_is_the_final_one_and_not_the_reset_one(play):
    _, (_, last, trajectory) = play(jax.random.key(1))
    done = np.asarray(trajectory.terminated)
    final = np.asarray(trajectory.next_observation)[done]
    np.testing.assert_array_equal(final[:, 0], final[:, 1])  # the last step of an episode is its length
    after = np.concatenate([trajectory.observation[1:], last[None]])
    np.testing.assert_array_equal(after[done][:, 0], 0)
    # Step t pays t, and t is what the next observation shows.
    np.testing.assert_array_equal(trajectory.reward, trajectory.next_observation[..., 0])
    np.testing.assert_array_equal(trajectory.discount, 1.0 - done)


def test_same_key_same_rollout_other_key_another(play, toys):
    once, again, other = (play(jax.random.key(seed))[1] for seed in (3, 3, 4))
    toys.assert_same(once, again)
    assert not np.array_equal(once[2].action, other[2].action)


def test_explore_false_asks_for_the_greedy_policy(play):
    assert np.all(play(jax.random.key(0), False)[1][2].action == 0)
    assert np.all(play(jax.random.key(0), True)[1][2].action > 0)


def test_simulator_state_is_seen_by_the_agent_and_not_stored(toys):
    class Exposed(type(toys.env)):
        def observe(self, state):
            return Observation(features=super().observe(state), env_state=state.time)

        def step(self, key, state, action, params):
            observation, new, *rest, info = type(toys.env)().step(key, state, action, params)
            final = Observation(features=info["final_observation"], env_state=state.time + 1)
            return Observation(observation, env_state=new.time), new, *rest, {"final_observation": final}

    def act(key, state, observation, *, explore=True):
        return observation.env_state, ()

    env, agent = Exposed(), toys.make_agent()._replace(act=act)
    observation, env_state = rollout.reset(jax.random.key(0), env, toys.params, B)
    out = rollout.rollout(jax.random.key(1), agent, (), env, toys.params, env_state, observation, T)
    trajectory = out[2]
    assert trajectory.observation.env_state is None and trajectory.next_observation.env_state is None
    np.testing.assert_array_equal(trajectory.action, trajectory.observation.features[..., 0])
