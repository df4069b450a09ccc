"""Segments: cut from the memory as a loop over its rows would, and no further than their episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.feedback.segments import draw, masked_sum
from jaxrl.replay import ring
from jaxrl.types import Transition

KEY = jax.random.key(2)
ROWS, ENVS, LENGTH = 12, 2, 4


def memory(num_steps):
    """Step t of environment b is the number ``100 b + t``; every fifth step ends an episode."""
    scalar, flag = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_)
    state = ring.init(Transition(scalar, scalar, scalar, scalar, flag, flag, ()), ROWS, ENVS)
    for start in range(0, num_steps, 3):
        time = jnp.arange(start, min(start + 3, num_steps))[:, None]
        number = (100.0 * jnp.arange(ENVS)[None] + time).astype(jnp.float32)
        terminated, truncated = number % 10 == 4, number % 10 == 9
        state = ring.add(state, Transition(number, -number, number, number, terminated, truncated, ()))
    return state


@pytest.mark.parametrize("num_steps", [2, 7, 12, 29])
def test_segments_are_consecutive_steps_up_to_the_end_of_their_episode(num_steps):
    found = jax.jit(lambda key, memory: draw(key, memory, 400, LENGTH))(KEY, memory(num_steps))
    numbers, mask = np.asarray(found.transitions.observation), np.asarray(found.mask)
    oldest, starts = max(0, num_steps - ROWS), set()
    for segment, has in zip(numbers, mask, strict=True):
        first = segment[0]
        starts.add(first)
        end = 5 - first % 5  # steps left in the episode
        expected = int(min(end, LENGTH, num_steps - first % 100))
        assert has.tolist() == [i < expected for i in range(LENGTH)]
        np.testing.assert_array_equal(segment[has], first + np.arange(expected))
    last = max(oldest, num_steps - LENGTH)  # the newest transition cuts none of them
    assert starts == {100.0 * b + t for b in range(ENVS) for t in range(oldest, last + 1)}


def test_a_sum_does_not_see_what_a_segment_does_not_have():
    per_step = jnp.array([[1.0, 2.0, jnp.nan], [1.0, jnp.inf, 5.0]])
    assert masked_sum(per_step, jnp.array([[1, 1, 0], [1, 0, 0]], bool)).tolist() == [3.0, 1.0]
