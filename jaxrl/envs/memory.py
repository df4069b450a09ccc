"""Wrappers for partially observed tasks: stacks of the last k observations, and recurrent memory.

``window(env, k)`` stacks observations for any torso, in particular for a transformer. ``remember(env, memory)`` feeds
the agent's memory back to it, for recurrent torsos.
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
    """The state of ``window``: the state of the wrapped environment and the last steps ``[k, D + 1]``."""

    env_state: PyTree
    steps: Array


def _row(observation: Any) -> Array:
    """The features as one row ``[D + 1]``, whose last channel is 0: present."""
    seen = features(observation)
    # Pixels are scaled to [0, 1], as in torsos.
    flat = jnp.ravel(seen).astype(jnp.float32) / (255.0 if seen.dtype == jnp.uint8 else 1.0)
    return jnp.append(flat, jnp.float32(0.0))


def _with_features(observation: Any, steps: Array) -> Any:
    """The observation with new features; the mask and goal are unchanged."""
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

    The last channel marks padding: it is 1 (and the rest of the row 0) where a step is absent, before the start of the
    episode, and 0 where a step is present. The spec marks it as a binary feature (``Spec.flags``), which recipes that
    standardise observations leave unchanged: a row that was absent in all samples would be standardised from 1 to 0.
    The final observation of an episode contains the window of that episode; the next one starts a new window. Any torso
    can read it: ``Transformer`` makes a token of each row, ``MLP`` flattens the window.

    Features of any shape become rows: images are flattened (uint8 pixels scaled to [0, 1]), and a scalar becomes a row
    of one. Mask and goal are those of the newest step.

    Args:
      env: an environment with array features.
      k: the number of steps, at least 1.

    Raises:
      TypeError, ValueError: ``k`` is not an integer or less than 1.
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
            raise ValueError("env: got one that already feeds a memory back, must not; apply remember once")
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
        """Checks and returns the memory of an action."""
        if not isinstance(action, Remembered):
            raise TypeError(
                f"action: got {type(action).__name__}, must be jaxrl.types.Remembered(value, memory); an agent without "
                "memory acts in the environment without remember"
            )
        given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype), action.memory)
        if given != self.memory:
            raise ValueError(f"action.memory: got {given}, must be {self.memory}, the memory given to remember")
        return action.memory


def _with_memory(observation: Any, memory: PyTree) -> Observation:
    if isinstance(observation, Observation):
        return observation._replace(memory=memory)
    return Observation(features=observation, memory=memory)


def remember(env: Any, memory: PyTree) -> Wrapper:
    """Feeds the agent's memory back: actions are ``Remembered(value, memory)``, the next observation has the memory.

    ``Observation.memory`` is the memory of the last action, and zeros at the start of an episode; the final observation
    of an episode has the memory of its last action. The agent's memory is thus part of the observation for truncation,
    evaluation and checkpoints. This wrapper has to be the outermost: the ones inside see plain actions. Example:
    ``remember(env, networks.memory_of(torso))``.

    Args:
      env: an environment.
      memory: the memory for one environment, a pytree of arrays or of ``jax.ShapeDtypeStruct``; only shapes and dtypes
        are read.

    Raises:
      TypeError: ``memory`` has no leaves, or a leaf without shape and dtype.
    """
    leaves = jax.tree.leaves(memory)
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise TypeError(f"memory: got {memory!r}, must be a pytree of arrays or jax.ShapeDtypeStruct")
    return _Remember(env, memory)
