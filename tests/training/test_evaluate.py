import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.training import TrainState, evaluate


def play(toys, params, **options):
    agent = toys.make_agent()
    return jax.jit(lambda key: evaluate(key, agent, (), toys.env, params, **options))(jax.random.key(0))


def test_whole_episodes_with_their_returns_and_lengths(toys):
    episodes = play(toys, toys.params, num_episodes=64)
    assert episodes.returns.shape == episodes.lengths.shape == (64,)
    assert episodes.finished.all() and episodes.lengths.dtype == jnp.int32
    assert set(np.asarray(episodes.lengths)) == {1, 2, 3, 4, 5}
    lengths = np.asarray(episodes.lengths)
    np.testing.assert_array_equal(episodes.returns, lengths * (lengths + 1) / 2)


def test_the_first_episode_counts_however_long_the_others_take(toys):
    episodes = play(toys, toys.make_params(shortest=1, longest=40), num_episodes=8)
    lengths = np.asarray(episodes.lengths)
    assert lengths.min() < 20 < lengths.max()
    np.testing.assert_array_equal(episodes.returns, lengths * (lengths + 1) / 2)


def test_max_steps_gives_up_and_says_so(toys):
    episodes = play(toys, toys.make_params(shortest=2, longest=9), num_episodes=64, max_steps=4)
    lengths, finished = np.asarray(episodes.lengths), np.asarray(episodes.finished)
    assert finished.any() and not finished.all()
    assert set(lengths[~finished]) == {4} and lengths.max() == 4
    np.testing.assert_array_equal(episodes.returns, lengths * (lengths + 1) / 2)


def test_the_time_limit_of_the_environment_ends_an_episode(toys):
    episodes = play(toys, toys.make_params(max_steps_in_episode=3, shortest=7, longest=7), num_episodes=4)
    np.testing.assert_array_equal(episodes.lengths, [3] * 4)
    assert episodes.finished.all(), "truncation is an end"


@pytest.mark.parametrize("explore", [False, True])
def test_acts_greedily_unless_asked_to_explore(toys, explore):
    class PaysActions(type(toys.env)):
        def step(self, key, state, action, params):
            observation, new, _, *rest = super().step(key, state, action, params)
            return observation, new, action, *rest

    agent = toys.make_agent()
    episodes = evaluate(jax.random.key(0), agent, (), PaysActions(), toys.params, num_episodes=4, explore=explore)
    assert np.all((episodes.returns > 0) == explore)


def test_same_key_same_episodes_and_the_state_is_left_alone(cartpole, toys):
    agent = cartpole.make_agent()
    state = jax.jit(agent.init, static_argnums=1)(jax.random.key(0), cartpole.num_envs)
    before = toys.copy(state)
    run = jax.jit(lambda key, state: evaluate(key, agent, state, cartpole.env, cartpole.params, num_episodes=4))
    first, again, other = (run(jax.random.key(seed), state) for seed in (1, 1, 2))
    toys.assert_same(first, again)
    toys.assert_same(before, state)
    assert not np.array_equal(first.returns, other.returns)
    np.testing.assert_array_equal(first.returns, first.lengths)  # CartPole pays 1 a step


def test_arguments_that_cannot_be_are_refused(toys):
    arguments = (jax.random.key(0), toys.make_agent(), (), toys.env)
    with pytest.raises(ValueError, match="num_episodes: got 0"):
        evaluate(*arguments, toys.params, num_episodes=0)
    with pytest.raises(ValueError, match="max_steps: got -1"):
        evaluate(*arguments, toys.params, max_steps=-1)
    with pytest.raises(ValueError, match="max_steps: got None, and params declare no max_steps_in_episode"):
        evaluate(*arguments, None)
    whole = TrainState(*[None] * len(TrainState._fields))
    with pytest.raises(TypeError, match="state: got a TrainState, must be the state of the agent in it: state.agent"):
        evaluate(jax.random.key(0), toys.make_agent(), whole, toys.env, toys.params)
