"""Batches of environments outside JAX, in plain NumPy, for ``HostEnv``.

A vector steps all its environments and returns the true next observations; it resets only on request. So final
observations are never lost, and trajectories contain no dummy steps. An adapter to a library is a class with the
methods of ``Vector``.

Legend of shapes: N environments of a vector.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Stepped(NamedTuple):
    """The result of a step of all environments, before any reset.

    Attributes:
      observation: ``[N, ...]`` leaves, the true next observations.
      reward: ``[N]``.
      terminated: ``[N]`` bool.
      truncated: ``[N]`` bool.
      success: ``[N]`` bool, whether the goal is reached; None if the environments do not report it.
      discount: ``[N]``, weight of the future after a step that does not terminate; None for 1.
    """

    observation: Any
    reward: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    success: NDArray[Any] | None = None
    discount: NDArray[Any] | None = None


class Vector(Protocol):
    """N environments that are stepped together; made from their seeds."""

    def reset(self, which: NDArray[np.bool_]) -> Any:
        """Resets the environments where ``which`` ``[N]`` is true.

        Returns:
          Observations ``[N, ...]``; only the rows of environments that were reset are valid.
        """
        ...

    def step(self, action: NDArray[Any]) -> Stepped:
        """Steps every environment; ``action`` ``[N, ...]``."""
        ...

    def render(self, index: int) -> NDArray[np.uint8]:
        """A picture ``[H, W, 3]`` of one environment."""
        ...

    def close(self) -> None:
        """Closes the environments."""
        ...


MakeVector = Callable[[Sequence[int]], Vector]
"""``(seeds [N]) -> vector``; equal seeds give equal environments."""


class EnvironmentFailed(RuntimeError):
    """An environment outside JAX raised an error, returned NaN, or did not answer in time.

    Attributes:
      index: index of the environment in its batch; None if unknown.
      seed: seed of the environment.
    """

    def __init__(self, message: str, index: int | None = None, seed: int | None = None) -> None:
        super().__init__(message)
        self.index, self.seed = index, seed


class Serial:
    """Environments with Gymnasium's interface, stepped one after the other."""

    def __init__(self, make: Callable[[], Any], seeds: Sequence[int], *, restarts: int = 0) -> None:
        """Makes the environments.

        Args:
          make: function that makes one environment with Gymnasium's ``reset`` and ``step``.
          seeds: seeds of the first resets.
          restarts: total number of environments that are recreated after an error; their episodes are truncated.
        """
        self._make, self._seeds = make, list(seeds)
        self._envs = [make() for _ in seeds]
        self._fresh = [True] * len(self._envs)
        self._last: list[Any] = [None] * len(self._envs)
        self.restarts, self.restarted = restarts, 0

    def reset(self, which: NDArray[np.bool_]) -> Any:
        """Resets some environments; the first reset of each is seeded."""
        for index in np.flatnonzero(which).tolist():
            self._last[index] = self._call(index, self._reset, index)
        return _stack(self._last)

    def _reset(self, index: int) -> Any:
        options = {"seed": self._seeds[index]} if self._fresh[index] else {}
        self._fresh[index] = False
        return _copied(self._envs[index].reset(**options)[0])

    def _call(self, index: int, function: Callable[..., Any], *args: Any) -> Any:
        """Calls into an environment; errors name the environment."""
        try:
            return function(*args)
        except Exception as error:
            seed = self._seeds[index]
            told = "".join(traceback.format_exception(error)).rstrip()
            message = f"environment {index} (seed {seed}) raised {type(error).__name__}: {error}\n{told}"
            raise EnvironmentFailed(message, index, seed) from error

    def step(self, action: NDArray[Any]) -> Stepped:
        """Steps every environment and copies what it returns, because some reuse their buffers."""
        rows = [self._step(index, action[index]) for index in range(len(self._envs))]
        observations, rewards, terminated, truncated, infos = zip(*rows, strict=True)
        names = ("is_success", "success")  # of Gymnasium-Robotics' arms and mazes
        success = [info[name] for info in infos for name in names if name in info]
        return Stepped(
            _stack(observations),
            np.asarray(rewards, np.float64),
            np.asarray(terminated, bool),
            np.asarray(truncated, bool),
            np.asarray(success, bool) if len(success) == len(infos) else None,
        )

    def _step(self, index: int, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        try:
            observation, *rest = self._call(index, lambda: self._envs[index].step(action))
        except EnvironmentFailed:
            if self.restarted >= self.restarts:
                raise
            self.restarted += 1
            self._envs[index] = self._make()
            self._seeds[index] += 1  # the same seed could lead to the same error
            self._fresh[index] = True
            # The episode is truncated at its last known observation, and a new episode starts.
            return self._last[index], 0.0, False, True, {}
        self._last[index] = _copied(observation)
        return self._last[index], *rest

    def render(self, index: int) -> NDArray[np.uint8]:
        """A picture from the environment's ``render``."""
        return np.asarray(self._call(index, self._envs[index].render))

    def close(self) -> None:
        """Closes every environment."""
        for env in self._envs:
            env.close()


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {name: np.array(part) for name, part in observation.items()}
    return np.array(observation)


def _stack(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}
    return np.stack(observations)
