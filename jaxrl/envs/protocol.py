"""The environment protocol of gymnax 1.0.

Any object with these four members is an environment; no base class or registration is needed. The rules:

- ``reset(key, params) -> (observation, state)`` and ``step(key, state, action, params) -> (observation, state,
  reward, terminated, truncated, info)``, which returns six values. Both are pure, run under ``jit``, ``vmap`` and
  ``lax.scan``, and handle one environment: the caller applies ``vmap`` for batches.
- Resets happen in the same step. When an episode ends, ``step`` returns the observation and the state of a new reset;
  there is no dummy transition.
- ``info["final_observation"]`` is the true next observation of every step: equal to the returned observation inside
  an episode, the last one of the old episode at its end. Values are bootstrapped from it.
- ``terminated`` means that the task ended, ``truncated`` that the episode was stopped although the task goes on. If
both
  are true, nothing is bootstrapped.
- An observation is an array, or a ``jaxrl.types.Observation`` if it has named parts. A mask of legal actions is
  ``Observation(features, action_mask)``, with ``action_mask`` ``[A]`` bool and at least one legal action.
- ``info["discount"]``, if present, is the weight of the next value before gamma: 0 where terminated, -1 where the
  other player moves next, else 1. It may be 0 inside of an episode where a return ends (a life is lost). In a
  two-player game an observation is that of the player to move, and a reward belongs to the player that moved; players
  have no numbers.

``jaxrl.envs.check(env)`` tests all of this on any environment.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxrl.types import Array, PyTree


@runtime_checkable
class Environment(Protocol):
    """One environment. ``params`` is a pytree of the task's parameters, which may be traced and vmapped."""

    @property
    def default_params(self) -> PyTree:
        """The default parameters."""
        ...

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, PyTree]:
        """Starts an episode and returns ``(observation, state)``."""
        ...

    def step(
        self, key: Array, state: PyTree, action: Array, params: PyTree = None
    ) -> tuple[Any, PyTree, Array, Array, Array, dict[Any, Any]]:
        """Takes one step: ``(observation, state, reward, terminated, truncated, info)``; resets at the end."""
        ...

    def action_space(self, params: PyTree = None) -> Any:
        """A gymnax ``Discrete`` or ``Box``, or ``jaxrl.types.Discrete`` or ``Box``."""
        ...
