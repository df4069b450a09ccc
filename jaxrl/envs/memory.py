"""Wrappers for tasks in which one observation is not enough: the last k observations, or the agent's own memory.

``window(env, k)`` stacks observations, for any torso and above all a transformer. ``remember(env, memory)`` feeds the
agent's memory back to it, for recurrent torsos.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from jaxrl.arguments import check_count
from jaxrl.envs.wrappers import StepResult, Wrapper, select
from jaxrl.types import Array, Observation, PyTree, Remembered, features, memory


class WindowState(NamedTuple):
    """State of ``window``: that of the environment inside, and the last steps ``[k, D + 1]``."""

    env_state: PyTree
    steps: Array


def _row(observation: Any) -> Array:
    """The features as one row ``[D + 1]``, its last channel 0: present."""
    seen = features(observation)
    # Pixels are scaled to 0..1 as torsos do.
    flat = jnp.ravel(seen).astype(jnp.float32) / (255.0 if seen.dtype == jnp.uint8 else 1.0)
    return jnp.append(flat, jnp.float32(0.0))


def _with_features(observation: Any, steps: Array) -> Any:
    """The observation with its other parts, mask and goal, as they are now."""
    return observation._replace(features=steps) if isinstance(observation, Observation) else steps


class _Window(Wrapper):
    def __init__(self, env: Any, k: int) -> None:
        super().__init__(env)
        self.k = k

    def _width(self, params: PyTree) -> int:
        """D + 1."""
        return jax.eval_shape(lambda: _row(self.env.reset(jax.random.key(0), params)[0])).shape[0]

    def flags(self, params: PyTree = None) -> Any:
        params = self._given(params)
        row = np.zeros(self._width(params), bool)
        inner = super().flags(params)
        row[:-1] = False if inner is None else inner.reshape(-1)
        row[-1] = True
        return np.tile(row, (self.k, 1))

    def observation_space(self, params: PyTree = None) -> Any:
        params = self._given(params)
        space = spaces.Box(-jnp.inf, jnp.inf, (self.k, self._width(params)), jnp.float32)
        inner = self.env.observation_space(params)
        return spaces.Dict({**inner.spaces, "features": space}) if isinstance(inner, spaces.Dict) else space

    def inner_state(self, state: WindowState) -> PyTree:
        return state.env_state

    def _first(self, row: Array) -> Array:
        """The window of an episode's first step."""
        absent = jnp.zeros((self.k - 1, row.shape[0]), jnp.float32).at[:, -1].set(1.0)
        return jnp.concatenate([absent, row[None]])

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, WindowState]:
        observation, env_state = self.env.reset(key, self._given(params))
        steps = self._first(_row(observation))
        return _with_features(observation, steps), WindowState(env_state, steps)

    def step(self, key: Array, state: WindowState, action: Array, params: PyTree = None) -> StepResult:
        stepped = self.env.step(key, state.env_state, action, self._given(params))
        observation, env_state, reward, terminated, truncated, info = stepped
        final = info["final_observation"]
        last = jnp.concatenate([state.steps[1:], _row(final)[None]])
        done = jnp.logical_or(terminated, truncated)
        steps = select(done, self._first(_row(observation)), last)
        info = {**info, "final_observation": _with_features(final, last)}
        return (
            _with_features(observation, steps),
            WindowState(env_state, steps),
            reward,
            terminated,
            truncated,
            info,
        )


def window(env: Any, k: int) -> Wrapper:
    """Stacks the last k observations of the episode: features float32 ``[k, D + 1]``, the newest last.

    The last channel is 1 where a step is absent, before the start of the episode, and the rest of such a row is 0; it
    is 0 where a step is present. The spec marks it as a binary feature (``Spec.flags``), which recipes that standardise
    observations leave as it is: if a row was absent in all samples so far, its standardised 1 would be 0.
    The final observation of an episode has the window of that episode, the one after it a fresh window. Any torso can
    read it: ``Transformer`` makes a token of each row, ``MLP`` flattens the window.

    Features of any shape become rows: images are flattened (pixels in uint8 scaled to 0..1), a single number is a row
    of one. Mask and goal are those of the newest step.

    Args:
      env: an environment with array features.
      k: number of steps, at least 1.

    Raises:
      TypeError, ValueError: ``k`` is not an integer of at least 1.
    """
    check_count("window", k)
    return _Window(env, int(k))


class _Remember(Wrapper):
    def __init__(self, env: Any, memory: PyTree) -> None:
        super().__init__(env)
        self.memory = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), memory)

    def observation_space(self, params: PyTree = None) -> Any:
        inner = self.env.observation_space(self._given(params))
        return inner if isinstance(inner, spaces.Dict) else spaces.Dict({"features": inner})

    def _zeros(self) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.memory)

    def reset(self, key: Array, params: PyTree = None) -> tuple[Observation, PyTree]:
        observation, state = self.env.reset(key, self._given(params))
        if memory(observation) is not None:
            raise ValueError("remember: the environment inside feeds a memory back already; wrap it once")
        return _with_memory(observation, self._zeros()), state

    def step(self, key: Array, state: PyTree, action: Any, params: PyTree = None) -> StepResult:
        kept = self._kept(action)
        stepped = self.env.step(key, state, action.value, self._given(params))
        observation, state, reward, terminated, truncated, info = stepped
        done = jnp.logical_or(terminated, truncated)
        info = {**info, "final_observation": _with_memory(info["final_observation"], kept)}
        observation = _with_memory(observation, select(done, self._zeros(), kept))
        return observation, state, reward, terminated, truncated, info

    def _kept(self, action: Any) -> PyTree:
        """The memory of an action, checked."""
        if not isinstance(action, Remembered):
            raise TypeError(
                f"remember: the action has to be jaxrl.types.Remembered(value, memory), got a {type(action).__name__}; "
                "an agent without a memory acts in the environment inside"
            )
        given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype), action.memory)
        if given != self.memory:
            raise ValueError(f"remember: the memory of the action has to be {self.memory}, got {given}")
        return action.memory


def _with_memory(observation: Any, memory: PyTree) -> Observation:
    if isinstance(observation, Observation):
        return observation._replace(memory=memory)
    return Observation(features=observation, memory=memory)


def remember(env: Any, memory: PyTree) -> Wrapper:
    """Feeds the agent's memory back: the action is ``Remembered(value, memory)``, the next observation has the memory.

    ``Observation.memory`` is what came with the last action, and zero where an episode starts; the final observation
    of an episode has the memory that came with its last action. The agent's memory is thus part of the observation for
    truncation, evaluation and checkpoints. This wrapper has to be the outermost: those inside see plain actions.
    For example ``remember(env, networks.memory_of(torso))``.

    Args:
      env: an environment.
      memory: the memory for one environment, a pytree of arrays or of ``jax.ShapeDtypeStruct``; only shapes and dtypes
        matter.

    Raises:
      TypeError: ``memory`` has no leaves, or one without shape and dtype.
    """
    leaves = jax.tree.leaves(memory)
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise TypeError(f"remember: memory has to be a pytree of arrays or of jax.ShapeDtypeStruct, got {memory!r}")
    return _Remember(env, memory)
