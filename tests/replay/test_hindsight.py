"""Hindsight replay against a plain-Python model that remembers everything ever added.

Goals are pairs (kind, name). The name says where a goal comes from: that of an achieved goal is the number of its
step, that of an original goal is -1 - episode. Kinds are few, so that a new goal is often reached earlier on the way.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, replay
from jaxrl.replay.hindsight import STRATEGIES
from jaxrl.types import Observation, Transition

ROWS, NUM_ENVS, BATCH, GAMMA = 7, 3, 96, 0.5
LENGTHS = (1, 3, 2, 1, 9, 3, 1, 1, 3, 2)
ALWAYS = 1e9


def reward_fn(achieved_goal, goal):
    return (achieved_goal[:, 0] == goal[:, 0]) + 4.0 * achieved_goal[:, 1] - goal[:, 1]


def terminated_fn(achieved_goal, goal):
    return achieved_goal[:, 0] == goal[:, 0]


def make(strategy="future", k=4, n_step=1, terminated_fn=terminated_fn, gamma=GAMMA, capacity=ROWS * NUM_ENVS - 1):
    return replay.hindsight(reward_fn, terminated_fn, strategy, k)(capacity, n_step=n_step, gamma=gamma)


class World:
    """Random episodes; ``steps[b]`` lists all steps of environment b as dicts."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.steps = [[] for _ in range(NUM_ENVS)]
        self.by_number = {}
        self.episodes = 0

    def trajectory(self, length):
        taken = [[self.step(b) for _ in range(length)] for b in range(NUM_ENVS)]
        column = lambda name, dtype: np.array([[step[name] for step in row] for row in taken], dtype).swapaxes(0, 1)  # noqa: E731
        number, goal = column("number", np.float32), column("goal", np.float32)
        return jax.tree.map(
            jnp.asarray,
            Transition(
                observation=Observation(number, goal=goal, achieved_goal=column("before", np.float32)),
                action=column("number", np.int32),
                reward=column("reward", np.float32),
                discount=1.0 - column("terminated", np.float32),
                terminated=column("terminated", bool),
                truncated=column("truncated", bool),
                next_observation=Observation(number + 0.5, goal=goal, achieved_goal=column("achieved", np.float32)),
                extras={"number": column("number", np.int32)},
            ),
        )

    def step(self, b):
        mine, number = self.steps[b], len(self.by_number)
        if not mine or mine[-1]["terminated"] or mine[-1]["truncated"]:
            goal, before, episode = (self.random.integers(8), -1.0 - self.episodes), (99.0, -99.0), self.episodes
            self.episodes += 1
        else:
            goal, before, episode = (mine[-1][name] for name in ("goal", "achieved", "episode"))
        achieved = (self.random.integers(8), float(number))
        fell = self.random.random() < 0.1
        step = dict(
            number=number,
            env=b,
            time=len(mine),
            episode=episode,
            goal=goal,
            before=before,
            achieved=achieved,
            fell=fell,
            terminated=fell or achieved[0] == goal[0],
            truncated=self.random.random() < 0.1,
            reward=float(self.random.integers(-50, 50)),
        )
        mine.append(step)
        self.by_number[number] = step
        return step

    def kept(self, b):
        return self.steps[b][-ROWS:]

    def legal(self, strategy, step):
        """The steps whose achieved goals may replace the goal of ``step``, by the definition of the paper."""
        if strategy == "random":
            return [other for b in range(NUM_ENVS) for other in self.kept(b)]
        same = [other for other in self.kept(step["env"]) if other["episode"] == step["episode"]]
        later = [other for other in same if other["time"] >= step["time"]]
        return {"final": later[-1:], "future": later, "episode": same}[strategy]

    def window(self, step, n, goal, relabelled, ends_at_goal):
        """The expected sample: reward, discount, last step, terminated, truncated."""
        total, weight = 0.0, 1.0
        for last in self.steps[step["env"]][step["time"] :][:n]:
            terminated, truncated, reward = last["terminated"], last["truncated"], last["reward"]
            if relabelled:
                achieved = last["achieved"]
                reward = float(achieved[0] == goal[0]) + 4.0 * achieved[1] - goal[1]
                if ends_at_goal:
                    terminated = last["fell"] or achieved[0] == goal[0]
                    truncated = truncated or (last["terminated"] and not terminated)
            total += weight * reward
            weight *= 0.0 if terminated else GAMMA
            if terminated or truncated:
                break
        return total, weight, last, terminated, truncated


@functools.cache
def sampler(*args):
    made = make(*args)
    return jax.jit(lambda key, state: made.sample(key, state, BATCH))


add = jax.jit(make().add)


@functools.cache
def filled(seed, num_chunks):
    world = World(seed)
    state = make().init(jax.tree.map(lambda x: x[0, 0], World(0).trajectory(1)), NUM_ENVS)
    for length in LENGTHS[:num_chunks]:
        state = add(state, world.trajectory(length))
    return world, state


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize(
    ("strategy", "ends_at_goal"), [*((strategy, True) for strategy in STRATEGIES), ("future", False)]
)
def test_every_sample_is_a_legal_one_and_right(strategy, ends_at_goal, n_step):
    sample = sampler(strategy, 4, n_step, terminated_fn if ends_at_goal else None)
    seen = dict.fromkeys(["stored", "earlier", "freed", "fell", "unfinished", "overwritten", "other"], 0)
    relabellings = 0
    for seed in range(3):
        for num_chunks in range(1, len(LENGTHS) + 1):
            world, state = filled(seed, num_chunks)
            batch = jax.tree.map(np.asarray, sample(jax.random.key(100 * seed + num_chunks), state))
            drawn = batch.transition
            for i in range(BATCH):
                step = world.by_number[int(drawn.observation.features[i])]
                assert step in world.kept(step["env"])
                goal = tuple(drawn.observation.goal[i].tolist())
                relabelled = goal[1] >= 0
                if relabelled:
                    source = world.by_number[int(goal[1])]
                    assert source in world.legal(strategy, step)
                    assert goal == source["achieved"]
                else:
                    assert goal == step["goal"]
                expected = world.window(step, n_step, goal, relabelled, ends_at_goal)
                reward, discount, last, terminated, truncated = expected
                np.testing.assert_allclose(drawn.reward[i], reward, rtol=1e-6)
                assert batch.discount[i] == discount
                assert (drawn.terminated[i], drawn.truncated[i]) == (terminated, truncated)
                assert drawn.discount[i] == (not terminated)
                assert drawn.next_observation.features[i] == last["number"] + 0.5
                assert tuple(drawn.next_observation.goal[i].tolist()) == goal
                assert tuple(drawn.next_observation.achieved_goal[i].tolist()) == last["achieved"]
                assert tuple(drawn.observation.achieved_goal[i].tolist()) == step["before"]
                assert drawn.action[i] == drawn.extras["number"][i] == step["number"]
                relabellings += relabelled
                mine = world.steps[step["env"]]
                seen["stored"] += not relabelled
                seen["earlier"] += relabelled and terminated and not last["terminated"]
                seen["freed"] += relabelled and last["terminated"] and not terminated
                seen["fell"] += relabelled and terminated and last["fell"]
                seen["unfinished"] += not (mine[-1]["terminated"] or mine[-1]["truncated"])
                seen["overwritten"] += mine[max(len(mine) - ROWS, 1) - 1]["episode"] == step["episode"]
                seen["other"] += relabelled and source["episode"] != step["episode"]
    total = 3 * len(LENGTHS) * BATCH
    np.testing.assert_allclose(relabellings / total, 0.8, atol=5 * np.sqrt(0.8 * 0.2 / total))
    # The cases that the test is about did occur.
    impossible = set() if strategy == "random" else {"other"}
    impossible |= set() if ends_at_goal else {"earlier"}
    # On the way to what is achieved later, no window leads past it to the end of the episode.
    impossible |= set() if ends_at_goal and strategy in ("episode", "random") else {"freed"}
    assert {name for name, count in seen.items() if count == 0} == impossible


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_new_goals_are_uniform_over_the_legal_ones(strategy):
    world, state = filled(1, 10)
    made = make(strategy, ALWAYS)
    num = 60_000
    drawn = jax.jit(lambda key: made.sample(key, state, num))(jax.random.key(0)).transition.observation
    numbers, sources = np.asarray(drawn.features).astype(int), np.asarray(drawn.goal[:, 1]).astype(int)
    assert (sources >= 0).all()
    choices = 0
    for number in np.unique(numbers):
        names = [step["number"] for step in world.legal(strategy, world.by_number[number])]
        counts = np.array([np.sum((numbers == number) & (sources == name)) for name in names])
        assert counts.sum() == np.sum(numbers == number)
        expected = counts.sum() / len(names)
        np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected))
        choices += len(names) > 1
    assert len(np.unique(numbers)) == ROWS * NUM_ENVS
    assert (choices == 0) == (strategy == "final")


@pytest.mark.parametrize("n_step", [1, 3])
def test_without_relabelling_it_is_the_plain_replay(n_step):
    _, state = filled(2, 10)
    batch = sampler("future", 0, n_step)(jax.random.key(0), state)
    ring = state.ring._replace(transitions=state.ring.transitions._replace(extras=state.ring.transitions.extras.extras))
    transition, discount = replay.n_step.at(ring, batch.index, n_step, GAMMA)
    for x, y in zip(jax.tree.leaves((transition, discount)), jax.tree.leaves(batch[:2]), strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(batch.weight, np.ones(BATCH))


@pytest.mark.parametrize("n_step", [1, 3])
def test_rewards_computed_anew_see_the_goals_that_samples_ask_for(n_step):
    """Rewards by goal that are computed when sampled are those that might have been stored."""
    _, state = filled(3, 10)
    nothing = replay.hindsight(lambda achieved, goal: jnp.zeros(len(goal)), terminated_fn)
    made, zero = make(n_step=n_step), nothing(ROWS * NUM_ENVS - 1, n_step=n_step, gamma=GAMMA)
    expected = made.sample(jax.random.key(0), state, BATCH)

    def anew(steps):
        assert steps.extras["number"].shape == (n_step, BATCH)
        relabelled = steps.observation.goal[..., 1] >= 0
        goals = (x.reshape(-1, 2) for x in (steps.next_observation.achieved_goal, steps.observation.goal))
        return jnp.where(relabelled, reward_fn(*goals).reshape(n_step, BATCH), steps.reward)

    drawn = zero.sample(jax.random.key(0), state, BATCH, reward_fn=anew)
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)


def test_it_works_under_vmap_over_seeds_and_with_traced_hyper_parameters():
    states = [filled(seed, 10)[1] for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    chunks = [World(seed + 10).trajectory(3) for seed in range(3)]
    keys, k, gamma = jax.random.split(jax.random.key(1), 3), jnp.array([0.0, 1.0, 4.0]), jnp.array([0.5, 0.9, 1.0])

    def one(key, state, chunk, k, gamma):
        made = make("episode", k, 3, terminated_fn, gamma)
        state = made.add(state, chunk)
        return state, made.sample(key, state, BATCH)

    several = jax.jit(jax.vmap(one))(keys, stacked, jax.tree.map(lambda *leaves: jnp.stack(leaves), *chunks), k, gamma)
    single = jax.jit(one)
    for i in range(3):
        alone = single(keys[i], states[i], chunks[i], k[i], gamma[i])
        for x, y in zip(jax.tree.leaves(several), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-6)


def test_memory_is_that_of_the_plain_replay_and_three_integers_a_transition():
    example = jax.tree.map(lambda x: x[0, 0], World(0).trajectory(1))
    plain = replay.size_bytes(replay.uniform, example, NUM_ENVS, 1000)
    small = 3 * 4 * 334 * NUM_ENVS + 2 * 4 * NUM_ENVS
    assert replay.size_bytes(replay.hindsight(reward_fn), example, NUM_ENVS, 1000) == plain + small


def test_adding_writes_in_place():
    made = make(capacity=30_000)
    chunk = World(0).trajectory(3)
    example = jax.tree.map(lambda x: x[0, 0], chunk)
    state = jax.eval_shape(lambda: made.init(example, NUM_ENVS))
    memory = jax.jit(made.add, donate_argnums=0).lower(state, chunk).compile().memory_analysis()
    size = replay.size_bytes(made, example, NUM_ENVS)
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < size / 500


def test_an_empty_replay_gives_zeros():
    example = jax.tree.map(lambda x: x[0, 0], World(0).trajectory(1))
    made = make(k=ALWAYS, n_step=3)
    transition, discount, _, _ = made.sample(jax.random.key(0), made.init(example, NUM_ENVS), 4)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves((transition, discount)))


def test_bit_flipping_goes_in_as_it_is():
    env, params = envs.make("BitFlipping-4")

    @jax.jit
    @jax.vmap
    def play(key):
        def body(carry, key):
            observation, state = carry
            action = jax.random.randint(key, (), 0, 4)
            after, state, reward, terminated, truncated, info = env.step(key, state, action, params)
            final = info["final_observation"]
            return (after, state), Transition(
                observation, action, reward, info["discount"], terminated, truncated, final
            )

        return jax.lax.scan(body, env.reset(key, params), jax.random.split(key, 50))[1]

    trajectory = jax.tree.map(lambda x: x.swapaxes(0, 1), play(jax.random.split(jax.random.key(0), 4)))
    made = replay.hindsight(env.reward_fn, env.terminated_fn)(200, n_step=1, gamma=0.98)
    state = made.add(made.init(jax.tree.map(lambda x: x[0, 0], trajectory), 4), trajectory)
    drawn = jax.jit(lambda key: made.sample(key, state, 1000))(jax.random.key(1)).transition
    flipped = drawn.observation.features ^ np.eye(4, dtype=np.int8)[drawn.action]
    np.testing.assert_array_equal(drawn.next_observation.features, flipped)
    success = (flipped == drawn.observation.goal).all(-1)
    np.testing.assert_array_equal(drawn.reward, success - 1.0)
    np.testing.assert_array_equal(drawn.terminated, success)
    # Random play succeeds in 5 % of its steps; hindsight asks for this very step with probability 1 / (steps left).
    assert trajectory.terminated.mean() < 0.12 and success.mean() > 0.3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reward_fn": None}, TypeError, r"reward_fn: got None, must be a function \(achieved_goal"),
        ({"terminated_fn": True}, TypeError, "terminated_fn: got True, must be a function"),
        ({"strategy": "furture"}, ValueError, 'strategy: got \'furture\', must be one of "final", "future"'),
        ({"k": -1}, ValueError, r"k: got -1.0, must lie in \[0, inf\)"),
        ({"k": float("inf")}, ValueError, r"k: got inf, must lie in \[0, inf\)"),
        ({"k": "4"}, TypeError, "k: got '4', must be a number"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        replay.hindsight(**{"reward_fn": reward_fn, **arguments})


@pytest.mark.parametrize("arguments", [{"capacity": 0}, {"n_step": 0}, {"gamma": 1.5}], ids=lambda x: next(iter(x)))
def test_wrong_arguments_of_the_maker_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        replay.hindsight(reward_fn)(**{"capacity": 10, "n_step": 1, "gamma": 0.9, **arguments})


def test_an_environment_without_goals_is_refused():
    made = make()
    example = jax.tree.map(lambda x: x[0, 0], World(0).trajectory(1))
    with pytest.raises(ValueError, match=r"observation: got an observation without goal and achieved_goal"):
        made.init(example._replace(observation=jnp.zeros(3), next_observation=jnp.zeros(3)), NUM_ENVS)
    with pytest.raises(ValueError, match=r"next_observation: got an observation without achieved_goal"):
        made.init(example._replace(next_observation=example.observation._replace(achieved_goal=None)), NUM_ENVS)
    with pytest.raises(ValueError, match=r"got goal float32\[2\] and achieved_goal float32\[3\]"):
        made.init(example._replace(observation=example.observation._replace(achieved_goal=jnp.zeros(3))), NUM_ENVS)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((lambda x, y: x - y,), r"reward_fn: got float32\[7, 2\] .*numbers"),
        ((reward_fn, reward_fn), r"terminated_fn: got float32\[7\] .*bool"),
    ],
)
def test_functions_of_the_wrong_result_are_refused(functions, message):
    example = jax.tree.map(lambda x: x[0, 0], World(0).trajectory(1))
    with pytest.raises(ValueError, match=message):
        replay.hindsight(*functions)(10, n_step=1, gamma=0.9).init(example, 2)
