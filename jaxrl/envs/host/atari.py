"""Atari games of the Arcade Learning Environment: ``make("ale/space_invaders")``, stepped in C++ threads.

The defaults are those of Mnih et al. 2015 (frames repeated 4 times, the maximum of the last two, 84 x 84 grey pixels, 4
stacked, up to 30 no-ops at the start); ``repeat_action_probability=0.25, noop_max=0`` are the sticky actions of Machado
et al. 2018, "Revisiting the Arcade Learning Environment".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxrl.envs.host.env import HostEnv, HostParams, Interface
from jaxrl.envs.host.suites import imported
from jaxrl.envs.host.vectors import Stepped
from jaxrl.types import Discrete

NO_FRAMES = 2**31 - 1
"""ALE's own time limit in frames, out of reach: ``HostEnv`` truncates."""


class Atari:
    """A batch of one game."""

    def __init__(self, make: Any, lose_life: bool, seeds: Sequence[int]) -> None:
        """Makes the batch.

        Args:
          make: function from a number of environments to ALE's vector environment.
          lose_life: whether returns end where a life is lost.
          seeds: seed of each environment.
        """
        self._vector = make(len(seeds))
        self._seeds: NDArray[np.int32] | None = np.asarray(seeds, np.int32)
        self._lose_life = lose_life
        self._lives = np.zeros(len(seeds), np.int32)
        self._seen: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def reset(self, which: NDArray[np.bool_]) -> Any:
        """Starts new games where ``which`` is true, which takes no step; the first reset is seeded."""
        if self._seeds is not None:  # of all environments
            self._seen, info = self._vector.reset(seed=self._seeds)
            self._seeds = None
        else:
            self._seen, info = self._vector.reset(options={"reset_mask": which})
        self._lives = np.array(info["lives"])
        return np.array(self._seen)

    def step(self, action: NDArray[Any]) -> Stepped:
        """Steps every game."""
        self._seen, reward, terminated, truncated, info = self._vector.step(action)
        lives = np.array(info["lives"])
        kept = np.where(lives < self._lives, 0.0, 1.0) if self._lose_life else None
        self._lives = lives
        seen, reward, terminated, truncated = (np.array(x) for x in (self._seen, reward, terminated, truncated))
        return Stepped(seen, reward, terminated, truncated, discount=kept)

    def render(self, index: int) -> NDArray[np.uint8]:
        """The newest grey frame that the agent sees, enlarged three times."""
        frame = self._seen[index, -1].repeat(3, 0).repeat(3, 1)
        return np.repeat(frame[..., None], 3, axis=-1)

    def close(self) -> None:
        """Stops the threads."""
        self._vector.close()
        self._vector = None  # what lives at the end of the process is reported as a leak


def ale_names() -> list[str]:
    """All games."""
    imported("ale_py", "atari", "ale/")
    return sorted(imported("ale_py.roms", "atari", "ale/").get_all_rom_ids())


def ale_env(
    name: str,
    *,
    frame_skip: int = 4,
    max_pool: bool = True,
    screen_size: int = 84,
    num_stacked: int = 4,
    noop_max: int = 30,
    fire_reset: bool = True,
    repeat_action_probability: float = 0.0,
    full_action_space: bool = False,
    life_loss: bool = False,
    max_steps_in_episode: int = 27_000,
    num_threads: int = 0,
    timeout: float = 60.0,
) -> tuple[HostEnv, HostParams]:
    """A game of the Arcade Learning Environment, with observations ``[screen_size, screen_size, num_stacked]`` uint8.

    Args:
      name: name of the game, such as space_invaders.
      frame_skip: number of frames that an action is repeated for.
      max_pool: whether a picture is the maximum of the last two frames, because sprites flicker.
      screen_size: height and width of the pictures.
      num_stacked: number of pictures in an observation.
      noop_max: the most frames without action at the start of an episode.
      fire_reset: whether to press FIRE at the start of games that wait for it.
      repeat_action_probability: probability that the last action is repeated instead. It is 0 as in ALE's vector
        environments; "gymnasium/ALE/SpaceInvaders-v5" has 0.25 (Machado et al. 2018).
      full_action_space: whether all 18 actions are offered.
      life_loss: whether the return, but not the episode, ends where a life is lost: the discount is 0 there.
      max_steps_in_episode: steps after which an episode is truncated; 27,000 are 108,000 frames, half an hour.
      num_threads: number of threads; 0 for as many as the machine has cores.
      timeout: longest time of one step of a batch, in seconds.
    """
    for argument, value, least in (
        ("frame_skip", frame_skip, 1),
        ("screen_size", screen_size, 1),
        ("num_stacked", num_stacked, 1),
        ("noop_max", noop_max, 0),
        ("num_threads", num_threads, 0),
    ):
        if value < least:
            raise ValueError(f"ale/{name}: {argument}: got {value}, must be at least {least}")
    if not 0.0 <= repeat_action_probability <= 1.0:
        raise ValueError(f"ale/{name}: repeat_action_probability: got {repeat_action_probability}, must be in [0, 1]")
    vector = imported("ale_py.vector_env", "atari", f"ale/{name}").AtariVectorEnv
    make = partial(
        vector,
        name,
        num_threads=num_threads,
        max_num_frames_per_episode=NO_FRAMES,
        repeat_action_probability=repeat_action_probability,
        full_action_space=full_action_space,
        img_height=screen_size,
        img_width=screen_size,
        stack_num=num_stacked,
        frameskip=frame_skip,
        maxpool=max_pool,
        noop_max=noop_max,
        use_fire_reset=fire_reset,
        reward_clipping=False,
    )
    example = make(num_envs=1)
    seen = Interface(
        jax.ShapeDtypeStruct((screen_size, screen_size, num_stacked), np.uint8),
        Discrete(int(example.single_action_space.n)),
        lambda raw: np.moveaxis(raw, 1, -1),
        lambda action: action,
    )
    example.close()
    env = HostEnv(
        f"ale/{name}",
        partial(Atari, make, life_loss),
        seen,
        max_steps_in_episode=max_steps_in_episode,
        timeout=timeout,
    )
    return env, env.default_params
