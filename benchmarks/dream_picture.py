"""A picture of TakeCover beside a dream of it, both played by one controller that was evolved in dreams.

    python -m benchmarks.dream_picture runs/take_cover --out docs/dream.gif     # after benchmarks.world_models

Left the real game, right what V decodes from the latents that M dreams. When an episode ends, the next one begins.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.world_models import Bench, acting
from jaxrl import models
from jaxrl.agents.parts import dreaming
from jaxrl.rollout import reset, rollout

CELL, GAP, TOP = 9, 10, 16
"""Pixels of a pixel of the game, between the pictures, and of the line of text."""

ANCHORS = np.array([[20, 20, 40], [255, 120, 30], [90, 220, 120]], np.float64)
"""Colors of nothing, of fire (0.5) and of the player (1)."""

SHADES = 17
WHITE = SHADES


def real_frames(bench: Bench, learned: Any, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``[num, 16, 16]`` of the real game, and where episodes end."""

    @jax.jit
    def play(key: Any) -> Any:
        observation, env_state = reset(key, bench.env, bench.params, 1)
        steps = (bench.env, bench.params, env_state, observation, num)
        _, _, found = rollout(key, bench.agent, acting(learned), *steps, explore=False)
        return found.observation.features[:, 0, ..., 0], (found.terminated | found.truncated)[:, 0]

    frames, ends = play(jax.random.key(3))
    return np.asarray(frames), np.asarray(ends)


def dream_frames(bench: Bench, learned: Any, num: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The same in a dream."""
    start = lambda key, params: dreaming.start_of(bench.sequence, learned.first, key)  # noqa: E731
    make = partial(models.dream, bench.sequence)
    env = models.as_env(make, learned.sequence, start, bench.spec.action, temperature=temperature, max_steps=500)

    @jax.jit
    def play(key: Any) -> Any:
        def step(carry: Any, key: Any) -> Any:
            observation, state = carry
            chosen = bench.controller.act(learned.controller, observation)
            after, state, _, terminated, truncated, _ = env.step(key, state, chosen)
            return (after, state), (observation[: bench.sequence.latent_size], terminated | truncated)

        first_key, key = jax.random.split(key)
        _, (z, ends) = jax.lax.scan(step, env.reset(first_key), jax.random.split(key, num))
        return bench.vision.decode(learned.vision, z)[..., 0], ends

    frames, ends = play(jax.random.key(3))
    return np.asarray(frames), np.asarray(ends)


def survived(ends: np.ndarray) -> np.ndarray:
    """Steps since the episode began."""
    begins = np.concatenate([[True], ends[:-1]])
    index = np.arange(len(ends))
    return index - np.maximum.accumulate(np.where(begins, index, 0))


def write(parts: list[tuple[str, np.ndarray, np.ndarray]], out: Path, milliseconds: int) -> None:
    """The parts side by side as a GIF."""
    from PIL import Image, ImageDraw

    shades = np.stack([np.interp(np.linspace(0, 2, SHADES), range(3), ANCHORS[:, c]) for c in range(3)], axis=-1)
    palette = [*np.rint(shades).astype(int).ravel().tolist(), 255, 255, 255]
    width = 16 * CELL
    images = []
    for i in range(len(parts[0][1])):
        image = Image.new("P", (len(parts) * width + (len(parts) - 1) * GAP, width + TOP), WHITE)
        image.putpalette(palette)
        for place, (name, frames, ends) in enumerate(parts):
            left = place * (width + GAP)
            levels = np.rint(np.clip(frames[i], 0.0, 1.0) * (SHADES - 1)).astype(np.uint8)
            image.paste(Image.fromarray(np.kron(levels, np.ones((CELL, CELL), np.uint8)), "L"), (left, TOP))
            ImageDraw.Draw(image).text((left + 2, 2), f"{name}: {survived(ends)[i]}", fill=0)
        images.append(image)
    images[0].save(out, save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of benchmarks.world_models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.15)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--milliseconds", type=int, default=100, help="of a frame")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    bench = Bench(0, {}, {})
    learned = bench.load(given.folder / f"seed{given.seed}_{given.temperature}.npz")
    parts = [
        ("real game", *real_frames(bench, learned, given.steps)),
        ("dream", *dream_frames(bench, learned, given.steps, given.temperature)),
    ]
    write(parts, given.out, given.milliseconds)
    print(f"{given.out}: {given.steps} frames, {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
