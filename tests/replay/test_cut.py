"""Episodes that a reset between two trajectories cuts: as if the last step had been flagged."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import replay
from jaxrl.replay.cut import end_episodes
from jaxrl.types import Observation, Transition

B, T = 2, 3
MAKERS = {
    "uniform": replay.uniform,
    "prioritized": replay.prioritized,
    "hindsight": replay.hindsight(lambda achieved, goal: jnp.zeros(goal.shape[0])),
    "frames": replay.frames(2, functools.partial(replay.prioritized, alpha=0.7)),
}


def trajectory(seed, *, goals, terminated=False, truncated=False):
    """T steps of stacked pictures or of goals; the last one has the flags."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(1, 255, (T + 2, B, 2, 2, 1)).astype(np.uint8)
    stacks = np.concatenate([pictures[:-1], pictures[1:]], -1)
    numbers = rng.normal(size=(T + 1, B, 1)).astype(np.float32)
    seen = [Observation(x, goal=x, achieved_goal=x) if goals else y for x, y in zip(numbers, stacks, strict=True)]
    before, after = (jax.tree.map(lambda *rows: jnp.stack(rows), *part) for part in (seen[:-1], seen[1:]))
    last = jnp.arange(T)[:, None] == T - 1
    flags = [last & jnp.broadcast_to(jnp.asarray(flag), (T, B)) for flag in (terminated, truncated)]
    return Transition(before, jnp.zeros((T, B), jnp.int32), jnp.ones((T, B)), jnp.ones((T, B)), *flags, after, ())


@pytest.mark.parametrize("name", MAKERS)
def test_a_cut_is_a_truncation_of_the_newest_step(name):
    """Of the environments whose episodes had not ended anyway; of two seeds, and in a replay that wraps."""
    goals = name == "hindsight"
    made = MAKERS[name](5 * B, n_step=2, gamma=0.9)
    terminated = jnp.array([True, False])  # of the two environments
    given = functools.partial(trajectory, goals=goals, terminated=terminated)
    example = jax.tree.map(lambda x: x[0, 0], given(0))
    empty = made.init(example, B)
    add = jax.jit(lambda state, steps: made.add(state, steps))
    cut = jax.jit(jax.vmap(end_episodes))
    for first in (empty, add(empty, trajectory(1, goals=goals, truncated=True))):
        flagged = add(first, given(0, truncated=~terminated))
        both = jax.tree.map(lambda x: jnp.stack([x, x]), add(first, given(0)))
        for one, other in zip(*map(jax.tree.leaves, (flagged, cut(both))), strict=True):
            np.testing.assert_array_equal(other, jnp.stack([one, one]))
        again = jax.tree.map(lambda x: x[0], cut(cut(both)))
        jax.tree.map(np.testing.assert_array_equal, again, flagged)
    jax.tree.map(np.testing.assert_array_equal, end_episodes(empty), empty)
