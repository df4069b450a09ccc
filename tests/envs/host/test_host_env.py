"""Environments outside JAX: ends of episodes with known answers, odd environments, errors that name what failed."""

import threading
import time
import warnings
from functools import partial
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import jaxrl
from jaxrl import envs
from jaxrl.envs import wrappers
from jaxrl.envs.host import EnvironmentFailed, HostEnv, HostState, Serial, interface, suites
from jaxrl.types import Discrete, Observation


class Counter(gymnasium.Env):
    """Shows how many steps the episode has and which episode it is; pays the step; ends at 5, cut at 3 if odd."""

    observation_space = spaces.Box(0.0, 100.0, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, reuse=False, limit=None):
        self.episode, self.limit, self.buffer = -1, limit, np.zeros(2) if reuse else None

    def seen(self):
        if self.buffer is None:
            return np.array([self.count, self.episode], np.float64)
        self.buffer[:] = self.count, self.episode
        return self.buffer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.episode = 0, self.episode + 1
        return self.seen(), {}

    def step(self, action):
        self.count += 1
        truncated = self.count == self.limit
        return self.seen(), float(self.count), self.count == 5, truncated, {}


def hosted(make, limit=1000, timeout=60.0, restarts=0, **options):
    example = make()
    described = interface("host/test", example.observation_space, example.action_space, **options)
    vector = partial(Serial, make, restarts=restarts)
    return HostEnv("host/test", vector, described, max_steps_in_episode=limit, timeout=timeout)


def run(env, num_steps, num_envs=3, key=0, action=0):
    """Steps with one action; the transitions [T, B]."""
    params = env.default_params

    @jax.jit
    def go(key):
        observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)
        actions = jnp.broadcast_to(jnp.asarray(action), (num_envs, *jnp.shape(action)))

        def body(state, _):
            keys = jax.random.split(key, num_envs)
            observation, state, *rest = jax.vmap(env.step, (0, 0, 0, None))(keys, state, actions, params)
            return state, (observation, *rest)

        return observation, jax.lax.scan(body, state, length=num_steps)[1]

    first, (observation, reward, terminated, truncated, info) = go(jax.random.key(key))
    return jax.tree.map(np.asarray, (first, observation, reward, terminated, truncated, info))


@pytest.mark.parametrize("reuse", [False, True], ids=["copies", "reuses its buffer"])
@pytest.mark.parametrize("limit", [None, 3], ids=["terminated", "truncated"])
def test_ends_of_episodes(reuse, limit):
    length = limit or 5
    first, observation, reward, terminated, truncated, info = run(hosted(partial(Counter, reuse, limit)), 12)
    steps = np.arange(1, 13)
    count, episode = (steps - 1) % length + 1, (steps - 1) // length
    over = count == length
    np.testing.assert_array_equal(first, np.zeros((3, 2)))
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(info["final_observation"][:, 1], np.stack([count, episode], 1))
    after = np.where(over[:, None], np.stack([0 * count, episode + 1], 1), np.stack([count, episode], 1))
    np.testing.assert_array_equal(observation[:, 1], after)
    np.testing.assert_array_equal(reward[:, 1], count)
    np.testing.assert_array_equal((truncated if limit else terminated)[:, 1], over)
    assert not (terminated if limit else truncated).any()
    np.testing.assert_array_equal(info["discount"], 1.0 - terminated)


def test_the_limit_of_the_parameters_truncates():
    *_, terminated, truncated, _ = run(hosted(Counter, limit=2), 6)
    np.testing.assert_array_equal(truncated[:, 0], [False, True] * 3)
    assert not terminated.any()


def test_a_termination_at_the_limit_is_no_truncation():
    *_, terminated, truncated, _ = run(hosted(Counter, limit=5), 5)
    assert terminated[-1].all() and not truncated.any()


@pytest.mark.parametrize("name", ["gymnasium/CartPole-v1", "gymnasium/FrozenLake-v1"])
def test_suites_pass_the_check(name):
    env, params = jaxrl.make(name, max_steps_in_episode=20)
    report = envs.check(env, params, num_envs=16)
    assert report.episodes > 50
    assert jaxrl.spec(env, params).num_observations == (16 if "Lake" in name else None)


def test_seeds_and_environments_are_one_batch():
    env = hosted(Counter)
    agent = jaxrl.ppo(jaxrl.spec(env), num_minibatches=1, num_epochs=1)
    train = lambda key: jaxrl.train(key, agent, env, env.default_params, num_steps=20, num_envs=2, rollout_length=5)  # noqa: E731
    states, metrics = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 2))
    np.testing.assert_array_equal(states.env_state.place, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(metrics["episode_return"], np.full((2, 2), 15.0))


def test_equal_keys_give_equal_runs():
    env, _ = jaxrl.make("gymnasium/CartPole-v1")
    one, same, other = (run(env, 30, key=key)[1] for key in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[:, 0], one[:, 1])


class Bad(Counter):
    """Fails in one way at its third step."""

    def __init__(self, how, only=None):
        super().__init__()
        self.how, self.only = how, only

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.count == 3 and (self.only is None or self.episode in self.only):
            if self.how == "raises":
                raise ZeroDivisionError("the gripper is at infinity")
            if self.how == "hangs":
                time.sleep(3)
            if self.how == "nan":
                observation[1] = np.nan
            if self.how == "shape":
                observation = np.zeros(3)
            if self.how == "reward":
                reward = np.nan
        return observation, reward, *rest


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raises", ["environment 0", "seed", "ZeroDivisionError", "the gripper is at infinity", "in step"]),
        ("hangs", ["no answer for 0.3 s"]),
        ("nan", ["observation of environment 0", "NaN at step 3"]),
        ("reward", ["reward of environment 0", "NaN at step 3"]),
        ("shape", ["observation has shape (3,)", "(2,)"]),
    ],
)
def test_a_failure_names_the_environment(how, words):
    env = hosted(partial(Bad, how), timeout=0.3)
    with pytest.raises(Exception, match="EnvironmentFailed") as caught:
        run(env, 5)
    assert isinstance(env.failure, EnvironmentFailed)
    for word in words:
        assert word in str(env.failure)
        assert word in str(caught.value)


class InPlace(Counter):
    """Scales its action in place, as robots do, and keeps it."""

    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    kept = []

    def step(self, action):
        action *= 2.0
        self.kept.append(action)
        return super().step(action)


def test_actions_belong_to_the_environment():
    env = hosted(InPlace)
    run(env, 4, action=np.full(2, 0.25, np.float32))
    assert len(InPlace.kept) == 12
    np.testing.assert_array_equal(InPlace.kept, np.full((12, 2), 0.5, np.float32))


def test_an_environment_that_raises_is_made_anew_where_that_is_allowed():
    env = hosted(partial(Bad, "raises", only=(0,)), restarts=3)
    _, observation, reward, terminated, truncated, info = run(env, 4)
    assert env.restarted == 3
    # The episode is cut at the last observation that is known.
    np.testing.assert_array_equal(info["final_observation"][2], [[2, 0]] * 3)
    assert truncated[2].all() and not terminated[2].any() and (reward[2] == 0).all()
    np.testing.assert_array_equal(observation[3], [[1, 0]] * 3)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run(hosted(partial(Bad, "raises"), restarts=2), 5)


def test_a_state_is_left_once():
    env = hosted(Counter)
    observation, state = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 2))
    step = jax.jit(jax.vmap(env.step))
    actions = jnp.zeros(2, jnp.int32)
    keys = jax.random.split(jax.random.key(0), 2)
    step(keys, state, actions)
    with pytest.raises(Exception, match="can't be saved or stepped twice"):
        jax.block_until_ready(step(keys, state, actions))
    with pytest.raises(Exception, match="of one reset, in"):
        jax.block_until_ready(
            step(keys[:1], jax.tree.map(lambda x: x[:1], state)._replace(step=jnp.ones(1, jnp.int32)), actions[:1])
        )


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_it_is_found_in_its_wrappers(layers):
    env = hosted(Counter)
    stacked = env
    for _ in range(layers):
        stacked = wrappers.Wrapper(stacked)
    assert envs.is_host(stacked) and envs.host_of(stacked) is env
    inside = wrappers.Wrapper(wrappers.Wrapper(envs.make("CartPole-v1")[0]))
    assert not envs.is_host(inside) and envs.host_of(inside) is None


def test_threads_share_an_environment():
    """Each keeps its own batch; of two that step the same state one is refused, and the batch steps once."""
    env, errors, barrier = hosted(Counter), [], threading.Barrier(2)
    tokens = [env._reset(np.arange(4, dtype=np.uint32).reshape(2, 2) + 4 * i)[1:] for i in range(3)]

    def states(which, step):
        return HostState(*tokens[which], np.full(2, step, np.int32))

    def own(which):
        for step in range(50):
            env._step(states(which, step), np.zeros(2, np.int32), np.full(2, 1000, np.int32))

    def shared():
        for step in range(50):
            barrier.wait()
            try:
                env._step(states(2, step), np.zeros(2, np.int32), np.full(2, 1000, np.int32))
            except EnvironmentFailed as error:
                errors.append(str(error))

    threads = [threading.Thread(target=own, args=(which,)) for which in (0, 1)]
    threads += [threading.Thread(target=shared) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [instance.step for instance in env._instances.values()] == [50, 50, 50]
    assert len(errors) == 50 and all("stepped twice" in error for error in errors)


def test_the_training_survives_evaluations():
    env = hosted(Counter)
    params = env.default_params
    agent = jaxrl.ppo(jaxrl.spec(env), num_minibatches=1, num_epochs=1)
    settings = {"num_steps": 10, "num_envs": 2, "rollout_length": 5}
    state, _ = jaxrl.train(jax.random.key(0), agent, env, params, **settings)
    for seed in range(3):
        episodes = jaxrl.evaluate(jax.random.key(seed), agent, state.agent, env, params, num_episodes=2)
        np.testing.assert_array_equal(episodes.returns, [15.0, 15.0])
    state, metrics = jaxrl.train(jax.random.key(0), agent, env, params, state=state, **settings)
    assert metrics["episode_return"][0] == 15.0


def make_box(low, high, shape, dtype):
    return spaces.Box(low, high, shape, dtype)


class Odd(gymnasium.Env):
    """Returns a sample of its observation space; asserts that actions lie in its action space."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(0 if seed is None else seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action if np.ndim(action) else action.item()), action
        return self.observation_space.sample(), 1, False, False, {"is_success": True}


GOAL = spaces.Dict(
    observation=make_box(-1, 1, (4,), np.float64),
    desired_goal=make_box(-1, 1, (3,), np.float64),
    achieved_goal=make_box(-1, 1, (3,), np.float64),
)


def test_goals():
    env = hosted(partial(Odd, GOAL, make_box(-2, 2, (2,), np.float64)))
    spec = jaxrl.spec(env)
    assert isinstance(spec.observation, Observation)
    assert {leaf.dtype for leaf in jax.tree.leaves(spec.observation)} == {jnp.dtype("float32")}
    first, *_, info = run(env, 2, action=jnp.array([0.5, -2.0]))
    assert first.goal.shape == first.achieved_goal.shape == (3, 3) and first.features.shape == (3, 4)
    assert info["success"].all()


def test_images_become_channels_last():
    image = make_box(0, 255, (4, 8, 6), np.uint8)
    env = hosted(partial(Odd, image, spaces.Discrete(2)), channels_first=True)
    first, observation, *_ = run(env, 2)
    assert first.shape == (3, 8, 6, 4) and first.dtype == np.uint8
    image.seed(0)
    raw = Serial(partial(Odd, image, spaces.Discrete(2)), [0]).reset(np.array([True]))
    np.testing.assert_array_equal(env.interface.observe(raw)[0, 3, 2], raw[0, :, 3, 2])


def test_actions_that_start_at_1():
    env = hosted(partial(Odd, make_box(0, 1, (2,), np.float32), spaces.Discrete(3, start=1)))
    assert jaxrl.spec(env).action == Discrete(3)
    for action in range(3):
        run(env, 1, action=action)


@pytest.mark.parametrize(
    ("observation", "action", "word"),
    [
        (spaces.Tuple([spaces.Discrete(2)]), spaces.Discrete(2), "Tuple"),
        (spaces.Dict(a=spaces.Discrete(2)), spaces.Discrete(2), "Dict of a"),
        (spaces.Discrete(2), spaces.MultiDiscrete([2, 2]), "MultiDiscrete"),
        (spaces.Discrete(2), make_box(0, 3, (2,), np.int32), "Box of int32"),
    ],
)
def test_other_spaces_are_refused(observation, action, word):
    with pytest.raises(ValueError, match=word):
        interface("host/test", observation, action)


def test_names():
    assert "gymnasium/CartPole-v1" in envs.available("gymnasium")
    assert not any("gymnasium/" in name for name in envs.available())
    assert envs.settings("gymnasium/CartPole-v1")["max_steps_in_episode"] is None
    with pytest.raises(envs.UnknownEnvironment, match="CartPole-v1"):
        jaxrl.make("gymnasium/CartPol-v1")
    with pytest.raises(envs.UnknownEnvironment, match="gymnasiun"):
        envs.available("gymnasiun")


def test_warnings_of_bounds_that_are_cast_are_not_shown(recwarn):
    def make(name):
        warnings.warn("\x1b[33mWARN: Box low's precision lowered by casting to float32", UserWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
        return name

    assert suites.quiet(make)("CartPole-v1") == "CartPole-v1"
    assert [str(warning.message) for warning in recwarn] == ["another"]


def test_a_suite_that_is_absent_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "envpool", None)
    with pytest.raises(envs.NotInstalled, match=r'pip install "jaxrl\[envpool\]"'):
        jaxrl.make("envpool/BipedalWalker-v3")


def test_the_page_makes_an_environment_without_a_prefix():
    page = (Path(__file__).parents[3] / "docs" / "environments.md").read_text()
    namespace = {}
    exec(page.split("```python\n")[1].split("```")[0], namespace)
    env, params = namespace["make_env"]()
    first, *_ = run(env, 2)
    assert first.shape == (3, 6) and params.max_steps_in_episode == 500


def test_the_page_names_every_suite():
    page = (Path(__file__).parents[3] / "docs" / "environments.md").read_text()
    assert all(f"`{prefix}/`" in page for prefix in envs.registry.ADAPTERS)
