"""Pictures that are stored once, against a replay of whole stacks with the same keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import replay
from jaxrl.replay import frames, size_bytes
from jaxrl.types import Transition

K, B = 4, 3
MAKERS = {"uniform": replay.uniform, "prioritized": functools.partial(replay.prioritized, alpha=0.7)}


class Game:
    """B environments whose pictures are random, with stacks as ALE (zeros) or envpool (repeats) begins them."""

    def __init__(self, seed, repeats, ends=0.2):
        self.rng, self.repeats, self.ends = np.random.default_rng(seed), repeats, ends
        self.seen = np.stack([self.first() for _ in range(B)])

    def picture(self):
        return self.rng.integers(1, 256, (3, 2, 2)).astype(np.uint8)

    def first(self):
        new = self.picture()
        return np.concatenate([new if self.repeats or last else 0 * new for last in (0, 0, 0, 1)], -1)

    def steps(self, length):
        rows = [self.step() for _ in range(length)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def step(self):
        following = np.concatenate([self.seen[..., 2:], np.stack([self.picture() for _ in range(B)])], -1)
        terminated, truncated = self.rng.random((2, B)) < self.ends / 2
        before, self.seen = self.seen, following.copy()
        for i in np.flatnonzero(terminated | truncated):
            self.seen[i] = self.first()
        number = self.rng.random(B).astype(np.float32)
        return Transition(
            observation=before,
            action=self.rng.integers(0, 3, B).astype(np.int32),
            reward=number,
            discount=np.where(terminated, 0, 1).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            next_observation=following,
            extras=number + 1,
        )


def example(shape=(3, 2, 2 * K)):
    scalar, flag = jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct((), np.bool_)
    seen = jax.ShapeDtypeStruct(shape, np.uint8)
    return Transition(seen, jax.ShapeDtypeStruct((), np.int32), scalar, scalar, flag, flag, seen, scalar)


def weighted(sample):
    """Without the next observations of terminal steps, which have no weight and are not kept."""
    ended = np.asarray(sample.transition.terminated)[:, None, None, None]
    seen = np.where(ended, 0, sample.transition.next_observation)
    return sample._replace(transition=sample.transition._replace(next_observation=seen))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("repeats", [False, True], ids=["zeros first", "repeats first"])
@pytest.mark.parametrize("n", [1, 3])
def test_samples_are_those_of_stored_stacks(name, repeats, n):
    """While the ring fills, when it is full, when it wrapped, and after a trajectory longer than the ring."""
    plain, thrifty = (make(16 * B, n_step=n, gamma=0.9) for make in (MAKERS[name], frames(K, MAKERS[name])))
    game = Game(seed=n, repeats=repeats)
    stacks, pictures = plain.init(example(), B), thrifty.init(example(), B)
    reward_fn = lambda steps: steps.observation.mean((-3, -2, -1)) - steps.next_observation[..., :-2].mean((-3, -2, -1))  # noqa: E731
    play = jax.jit(lambda made, state, steps: made.add(state, steps), static_argnums=0)
    draw = jax.jit(lambda made, key, state, fn: made.sample(key, state, 64, reward_fn=fn), static_argnums=(0, 3))
    for i, length in enumerate((1, 2, 3, 5, 5, 5, 1, 3, 3, 5, 20, 1)):
        steps = game.steps(length)
        stacks, pictures = play(plain, stacks, steps), play(thrifty, pictures, steps)
        for fn in (None, reward_fn):
            key = jax.random.key(i)
            expected, got = draw(plain, key, stacks, fn), draw(thrifty, key, pictures, fn)
            jax.tree.map(np.testing.assert_array_equal, weighted(got), weighted(expected))
        if name == "prioritized":
            errors = got.transition.reward
            stacks = plain.update_priorities(stacks, expected.index, errors)
            pictures = thrifty.update_priorities(pictures, got.index, errors)


def test_the_final_picture_of_a_terminal_step_is_not_kept():
    made, game = frames(K)(64 * B, n_step=1, gamma=0.9), Game(seed=0, repeats=True)
    steps = game.steps(64)
    transition = made.sample(jax.random.key(0), made.add(made.init(example(), B), steps), 256).transition
    over = np.asarray(transition.terminated)
    assert 0 < over.sum() < 256
    np.testing.assert_array_equal(transition.next_observation[over][..., -2:], transition.observation[over][..., -2:])
    np.testing.assert_array_equal(transition.next_observation[over][..., :-2], transition.observation[over][..., 2:])


def test_more_truncations_than_room_keep_the_newest():
    """Every step is truncated: 16 final pictures are kept, the others fall back to the observation's newest."""
    made, game = frames(K)(32 * B, n_step=1, gamma=0.9), Game(seed=0, repeats=True, ends=0.0)
    steps = game.steps(32)
    steps = steps._replace(truncated=np.ones_like(steps.truncated))
    state = made.add(made.init(example(), B), steps)
    sample = made.sample(jax.random.key(0), state, 512)
    row = np.asarray(sample.index.row)
    final = sample.transition.next_observation[..., -2:]
    expected = np.where((row < 16)[:, None, None, None], steps.observation[row, sample.index.env], 0)[..., -2:]
    np.testing.assert_array_equal(np.where((row < 16)[:, None, None, None], final, 0), expected)
    np.testing.assert_array_equal(final[row >= 16], steps.next_observation[row, sample.index.env][row >= 16][..., -2:])
    assert (row >= 16).any()


def test_a_reset_without_a_flag_begins_a_stack():
    """A resumed run resets environments outside JAX; what follows is not stacked on what was before."""
    made = frames(K)(16 * B, n_step=1, gamma=0.9)
    first, second = Game(seed=0, repeats=True, ends=0.0).steps(4), Game(seed=1, repeats=True, ends=0.0).steps(4)
    state = made.add(made.add(made.init(example(), B), first), second)
    sample = made.sample(jax.random.key(0), state, 128)
    expected = np.concatenate([first.observation, second.observation])[sample.index.row, sample.index.env]
    np.testing.assert_array_equal(sample.transition.observation, expected)


def test_a_million_screens_are_seven_gigabytes():
    screens = example((84, 84, 4))
    assert size_bytes(replay.uniform, screens, 8, 1_000_000) > 56e9
    assert 7e9 < size_bytes(frames(), screens, 8, 1_000_000) < 7.6e9


@pytest.mark.parametrize("shape", [(3, 2, 6), (4,), (3, 8)])
def test_what_is_no_stack_is_refused(shape):
    with pytest.raises(ValueError, match=r"replay: frames got observations \[.*num_stacked=4"):
        frames()(8, n_step=1, gamma=0.9).init(example(shape), 1)
    with pytest.raises(ValueError, match="num_stacked: got 0"):
        frames(0)


def test_dqn_learns_the_same_from_stored_pictures():
    """Bit for bit, in a game whose episodes are only truncated."""

    def train(make):
        env, params = jaxrl.make("ale/pong", screen_size=12, max_steps_in_episode=9)
        agent = jaxrl.dqn(
            jaxrl.spec(env, params), replay=make, replay_capacity=64, learning_starts=16, batch_size=8, n_step=3
        )
        loop = {"num_steps": 96, "num_envs": 2, "rollout_length": 4}
        run = jax.jit(lambda key: jaxrl.train(key, agent, env, params, **loop)[0].agent.params)
        return run(jax.random.key(0))

    jax.tree.map(np.testing.assert_array_equal, train(replay.uniform), train(frames()))


def test_64_bits_change_nothing():
    made, game = frames(K)(8 * B, n_step=3, gamma=0.9), Game(seed=0, repeats=False)
    steps = game.steps(20)
    narrow = made.sample(jax.random.key(0), made.add(made.init(example(), B), steps), 32)
    with jax.enable_x64(True):
        state = made.add(made.init(example(), B), jax.tree.map(jnp.asarray, steps))
        wide = made.sample(jax.random.key(0), state, 32)
    jax.tree.map(np.testing.assert_array_equal, wide, narrow)
    assert {x.dtype.itemsize for x in jax.tree.leaves(state)} <= {1, 4}
