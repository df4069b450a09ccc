"""Rows of the replay: a million uint8 images, their memory and the speed of adding and sampling."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.row import Figures, Row, compiled, require_memory, timed
from jaxrl import replay
from jaxrl.types import Transition

NUM_ENVS, BATCH, STACKED, SIDE = 64, 512, 4, 84
MAKERS: dict[str, tuple[Any, int, float]] = {
    # The maker, channels of an observation, pictures in memory for a transition.
    "frames": (replay.frames(STACKED), STACKED, 1.1),
    "uniform": (replay.uniform, 1, 2.0),
}


def images(name: str, small: bool) -> Figures:
    """Bytes of the state, transitions added and sampled a second.

    ``frames`` stores stacks of four pictures by single pictures, ``uniform`` both observations of a transition as they
    are, of one picture here.
    """
    make, channels, pictures = MAKERS[name]
    num_envs, length, capacity, side = (2, 8, 64, 8) if small else (NUM_ENVS, 32, 1_000_000, SIDE)
    require_memory(pictures * capacity * side * side)
    memory = make(capacity, n_step=1, gamma=0.99)
    seen = jax.random.bits(jax.random.key(0), (length, num_envs, side, side, channels), jnp.uint8)
    number, flag = jnp.ones((length, num_envs)), jnp.zeros((length, num_envs), bool)
    steps = Transition(seen, number.astype(jnp.int32), number, number, flag, flag, seen)
    example = jax.tree.map(lambda x: x[0, 0], steps)
    state = jax.jit(lambda: memory.init(example, num_envs))()
    add, _ = compiled(memory.add, state, steps, donate=(0,))
    held = [state]

    def added() -> Any:
        held[0] = add(held[0], steps)
        return held[0]

    seconds = timed(added, most=9)
    keys = jax.random.split(jax.random.key(1), 16)
    size = 8 if small else BATCH

    def samples(state: Any, keys: jax.Array) -> Any:
        """Sixteen batches in one program, so that the time of a call does not count; each is read whole."""
        draw = lambda key: jax.tree.map(lambda x: x.sum(), memory.sample(key, state, size).transition)  # noqa: E731
        return jax.lax.map(draw, keys)

    sample, _ = compiled(samples, held[0], keys)
    sampling = timed(lambda: sample(held[0], keys), most=9) / len(keys)
    return {
        "GB": sum(x.nbytes for x in jax.tree.leaves(held[0])) / 1e9,
        "added/s": num_envs * length / seconds,
        "sampled/s": size / sampling,
        "batch ms": 1e3 * sampling,
    }


ROWS = tuple(Row(f"replay/{name}", partial(images, name), limit=60, needs=20) for name in MAKERS)
