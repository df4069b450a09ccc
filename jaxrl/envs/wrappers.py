"""Wrappers are environments around environments, with the same protocol (``jaxrl.envs.protocol``).

A wrapper overrides ``reset`` and ``step`` and calls those of the wrapped environment, so wrappers nest in any order.
Calling ``step_env`` instead would silently skip every wrapper further in. Only ``mask_actions`` needs ``step_env``, so
it does not accept a wrapped environment and comes first: ``time_limit(mask_actions(env, legal), 100)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from jaxrl.arguments import check_count
from jaxrl.envs.specs import action_spec
from jaxrl.types import Array, Discrete, Observation, PyTree

__all__ = ["TimeLimitState", "Wrapper", "flatten_observation", "layers", "mask_actions", "select", "time_limit"]

StepResult = tuple[Any, PyTree, Array, Array, Array, dict[Any, Any]]
LegalFn = Callable[[PyTree, PyTree], Array]


class Wrapper:
    """The base of wrappers: it forwards everything to ``env``, and subclasses override ``reset`` and ``step``.

    All forwarded members are listed in the class; there is no ``__getattr__``.
    """

    def __init__(self, env: Any) -> None:
        self.env = env

    @property
    def name(self) -> str:
        """The name of the wrapped environment."""
        return self.env.name

    @property
    def default_params(self) -> PyTree:
        """The parameters of the wrapped environment."""
        return self.env.default_params

    @property
    def num_actions(self) -> int:
        """The number of actions of the wrapped environment."""
        return self.env.num_actions

    def action_space(self, params: PyTree = None) -> Any:
        """The action space of the wrapped environment."""
        return self.env.action_space(self._given(params))

    def observation_space(self, params: PyTree = None) -> Any:
        """The declared observation space of the wrapped environment."""
        return self.env.observation_space(self._given(params))

    def flags(self, params: PyTree = None) -> Any:
        """The binary features of the wrapped environment, see ``Spec.flags``."""
        return self.env.flags(self._given(params)) if hasattr(self.env, "flags") else None

    def inner_state(self, state: PyTree) -> PyTree:
        """The state of the wrapped environment, one layer in; ``layers`` walks them all."""
        return state

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, PyTree]:
        """Starts an episode."""
        return self.env.reset(key, self._given(params))

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        """Takes one step."""
        return self.env.step(key, state, action, self._given(params))

    def _given(self, params: PyTree) -> PyTree:
        return self.default_params if params is None else params


def layers(env: Any, state: PyTree) -> Iterator[tuple[Any, PyTree]]:
    """Yields an environment and its state, then the wrapped environment and its state, down to the innermost."""
    yield env, state
    while hasattr(env, "inner_state"):
        env, state = env.env, env.inner_state(state)
        yield env, state


def select(done: Array, reset: PyTree, stepped: PyTree) -> PyTree:
    """``reset`` where ``done`` (a scalar) is true, else ``stepped``, leaf by leaf; PRNG keys are leaves too."""
    return jax.tree.map(lambda x, y: jax.lax.select(done, jnp.asarray(x), jnp.asarray(y)), reset, stepped)


class TimeLimitState(NamedTuple):
    """The state of ``time_limit``: the state of the wrapped environment and the steps of this episode so far."""

    env_state: PyTree
    num_steps: Array


class _TimeLimit(Wrapper):
    def __init__(self, env: Any, max_steps: int) -> None:
        super().__init__(env)
        self.max_steps = max_steps

    def inner_state(self, state: TimeLimitState) -> PyTree:
        return state.env_state

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, TimeLimitState]:
        observation, env_state = self.env.reset(key, self._given(params))
        return observation, TimeLimitState(env_state, jnp.int32(0))

    def step(self, key: Array, state: TimeLimitState, action: Array, params: PyTree = None) -> StepResult:
        params = self._given(params)
        step_key, reset_key = jax.random.split(key)
        stepped = self.env.step(step_key, state.env_state, action, params)
        observation, env_state, reward, terminated, truncated, info = stepped
        num_steps = state.num_steps + 1
        # If the wrapped environment ended the episode, it has already reset.
        ended = jnp.logical_or(terminated, truncated)
        cut = num_steps >= self.max_steps
        truncated = jnp.logical_or(truncated, cut)
        reset = self.env.reset(reset_key, params)
        observation, env_state = select(cut & ~ended, reset, (observation, env_state))
        if "truncated" in info:
            info = {**info, "truncated": truncated}
        num_steps = jnp.where(ended | cut, 0, num_steps)
        return observation, TimeLimitState(env_state, num_steps), reward, terminated, truncated, info


def time_limit(env: Any, max_steps: int) -> Wrapper:
    """Truncates each episode after ``max_steps`` steps, resetting in the same step.

    Use it for environments without a time limit. Environments of gymnax have one, which
    ``make(name, max_steps_in_episode=...)`` sets without a second reset; the shorter of the two applies.

    Args:
      env: an environment.
      max_steps: the number of steps per episode, at least 1. If the task ends at that step, both flags are set.

    Raises:
      TypeError, ValueError: ``max_steps`` is not an integer or less than 1.
    """
    check_count("max_steps", max_steps)
    return _TimeLimit(env, int(max_steps))


class _FlattenObservation(Wrapper):
    def observation_space(self, params: PyTree = None) -> spaces.Box:
        inner = self.env.observation_space(self._given(params))
        if isinstance(inner, spaces.Discrete):
            return spaces.Box(0, inner.n - 1, (1,), inner.dtype)
        low, high = (jnp.broadcast_to(jnp.asarray(bound), inner.shape).reshape(-1) for bound in (inner.low, inner.high))
        return spaces.Box(low, high, low.shape, inner.dtype)

    def flags(self, params: PyTree = None) -> Any:
        inner = super().flags(params)
        return None if inner is None else inner.reshape(-1)

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, PyTree]:
        observation, state = self.env.reset(key, self._given(params))
        return _flatten(observation), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        observation, state, *outcome, info = self.env.step(key, state, action, self._given(params))
        info = {**info, "final_observation": _flatten(info["final_observation"])}
        return _flatten(observation), state, *outcome, info


def _flatten(observation: Any) -> Any:
    if isinstance(observation, Observation):
        return observation._replace(features=jnp.reshape(observation.features, (-1,)))
    return jnp.reshape(observation, (-1,))


def flatten_observation(env: Any) -> Wrapper:
    """Flattens observations (the features of an ``Observation``) to vectors ``[D]``; a scalar becomes ``[1]``.

    Args:
      env: an environment with array features of any shape.
    """
    return _FlattenObservation(env)


class _MaskActions(Wrapper):
    def __init__(self, env: Any, legal_fn: LegalFn) -> None:
        super().__init__(env)
        self.legal_fn = legal_fn

    @property
    def num_actions(self) -> int:
        return self.env.action_space(self.default_params).n

    def observation_space(self, params: PyTree = None) -> spaces.Dict:
        mask = spaces.Box(0, 1, (self.num_actions,), jnp.bool_)
        inner = self.env.observation_space(self._given(params))
        parts = inner.spaces if isinstance(inner, spaces.Dict) else {"features": inner}
        return spaces.Dict({**parts, "action_mask": mask})

    def _observation(self, observation: Any, state: PyTree, params: PyTree) -> Observation:
        mask = jnp.asarray(self.legal_fn(state, params))
        num_actions = self.num_actions
        if mask.shape != (num_actions,) or mask.dtype != jnp.bool_:
            raise ValueError(
                f"legal_fn: got {mask.dtype}{list(mask.shape)}, must return bool[{num_actions}], one entry per action"
            )
        if isinstance(observation, Observation):
            return observation._replace(action_mask=mask)
        return Observation(features=observation, action_mask=mask)

    def reset(self, key: Array, params: PyTree = None) -> tuple[Observation, PyTree]:
        params = self._given(params)
        observation, state = self.env.reset(key, params)
        return self._observation(observation, state, params), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        # A copy of gymnax's own step, which drops the last state of an episode; the mask of the final observation, from
        # which a truncated episode bootstraps, is a function of that state.
        params = self._given(params)
        step_key, reset_key = jax.random.split(key)
        observation, state, reward, terminated, info = self.env.step_env(step_key, state, action, params)
        truncated = self.env.is_truncated(state, params)
        final = self._observation(observation, state, params)
        done = jnp.logical_or(terminated, truncated)
        observation, state = select(done, self.reset(reset_key, params), (final, state))
        info = {**info, "terminated": terminated, "truncated": truncated, "final_observation": final}
        return observation, state, reward, terminated, truncated, info


def mask_actions(env: Any, legal_fn: LegalFn) -> Wrapper:
    """Adds a mask of legal actions: observations become ``Observation(features, action_mask)``.

    ``info["final_observation"]`` has the mask too. This has to be the innermost wrapper. An environment with a custom
    ``step`` has to build the ``Observation`` itself.

    Args:
      env: a gymnax environment with discrete actions that inherits ``step`` from ``gymnax.Environment``.
      legal_fn: ``(state, params) -> [A]`` bool, True where an action is legal; at least one must be legal.

    Raises:
      TypeError: ``env`` is a wrapper or has a custom ``step``, or its actions are not discrete.
    """
    base = environment.Environment
    # Only step_env returns the last state of an episode, and gymnax's own step adds nothing but the reset.
    if not isinstance(env, base) or inspect.getattr_static(env, "step") is not inspect.getattr_static(base, "step"):
        raise TypeError(
            f"env: got {type(env).__name__}, must inherit its step from gymnax's Environment. Apply mask_actions "
            "before other wrappers, or return jaxrl.types.Observation from a custom environment"
        )
    if not isinstance(action_spec(env.action_space(env.default_params)), Discrete):
        raise TypeError(f"env: got {type(env).__name__} for mask_actions, must have discrete actions")
    return _MaskActions(env, legal_fn)


def __dir__() -> list[str]:
    return sorted(__all__)
