"""The environment protocol: that of gymnax 1.0.

Any object with these four members is an environment; nothing has to be inherited or registered. The rules:

- ``reset(key, params) -> (observation, state)`` and ``step(key, state, action, params) -> (observation, state,
  reward, terminated, truncated, info)``: six values. Both are pure, run under ``jit``, ``vmap`` and ``lax.scan``, and
  handle one environment: batches are the caller's ``vmap``.
- Resets happen in the same step. When an episode ends, ``step`` returns the observation and the state of a fresh reset;
  there is no dummy transition.
- ``info["final_observation"]`` is the true next observation of every step: equal to the returned observation inside
  an episode, the last one of the old episode at its end. Values are bootstrapped from it.
- ``terminated`` says that the task ended, ``truncated`` that the episode was cut though the task goes on; both may be
  true at once, and then there is no future to bootstrap from.
- An observation is an array, or ``jaxrl.types.Observation`` where it has named parts. A mask of legal actions is
  offered as ``Observation(features, action_mask)``, ``action_mask`` ``[A]`` bool with at least one action legal.
- ``info["discount"]``, where it is given, is the weight of the future before gamma: 0 exactly where terminated, -1
  where the other player moves next, else 1. In a game for two players an observation is that of the player to
  move, and a reward goes to the player that moved; players have no numbers.

``jaxrl.envs.check(env)`` tests all of this on any environment.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxrl.types import Array, PyTree


@runtime_checkable
class Environment(Protocol):
    """One environment; ``params`` is a pytree of the numbers of the task, which may be traced and vmapped."""

    @property
    def default_params(self) -> PyTree:
        """The parameters that are used where none are given."""
        ...

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, PyTree]:
        """Starts an episode: ``(observation, state)``."""
        ...

    def step(
        self, key: Array, state: PyTree, action: Array, params: PyTree = None
    ) -> tuple[Any, PyTree, Array, Array, Array, dict[Any, Any]]:
        """Takes one step: ``(observation, state, reward, terminated, truncated, info)``, reset where it ended."""
        ...

    def action_space(self, params: PyTree = None) -> Any:
        """A gymnax ``Discrete`` or ``Box``, or ``jaxrl.types.Discrete`` or ``Box``."""
        ...
