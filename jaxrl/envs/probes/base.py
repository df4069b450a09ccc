"""The base of probe environments: a few steps at most, a cue drawn at the start, a known solution."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from jaxrl.types import Array


class ProbeState(NamedTuple):
    """The number of steps in this episode, and the cue drawn at its start (0 or 1)."""

    time: Array
    cue: Array


class Solution(NamedTuple):
    """The answer of a probe.

    Attributes:
      observations: ``[N, ...]``, all observations at which an action is taken.
      values: ``[N]``, their values under the best policy.
      actions: the best action of each, ``[N]`` int or ``[N, 1]`` float; None if the action does not matter.
    """

    observations: Any
    values: Array
    actions: Array | None


class Probe(environment.Environment[Any, Any], abc.ABC):
    """The base of the probes: ``length`` steps until termination, with a cue drawn at the start.

    Attributes:
      best_return: the mean undiscounted return per episode of the best policy.
      length: the number of steps until the task terminates.
      num_cues: the number of cues, drawn uniformly.
    """

    best_return: float = 1.0
    length: int = 1
    num_cues: int = 1

    @abc.abstractmethod
    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Any:
        """The observation of a state."""

    @abc.abstractmethod
    def get_reward(self, state: ProbeState, action: Array) -> Array:
        """The reward of an action."""

    @abc.abstractmethod
    def solution(self, gamma: float) -> Solution:
        """The known answer at discount ``gamma``."""

    def get_info(self, state: ProbeState, action: Array) -> dict[str, Array]:
        """The additions of this probe to ``info``."""
        return {}

    @property
    def default_params(self) -> environment.EnvParams:
        """A time limit that is never reached."""
        # An episode that terminates must not be truncated as well.
        return environment.EnvParams(max_steps_in_episode=1000)

    def action_space(self, params: Any = None) -> spaces.Space:
        """Two actions, unless a probe overrides it."""
        return spaces.Discrete(2)

    @property
    def num_actions(self) -> int:
        """The number of discrete actions, or of entries of a continuous one."""
        space = self.action_space()
        return space.n if isinstance(space, spaces.Discrete) else space.shape[0]

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Numbers from -1 to 1, unless a probe overrides it."""
        observation, _ = jax.eval_shape(self.reset, jax.random.key(0))
        return spaces.Box(-1, 1, observation.shape, observation.dtype)

    def is_terminated(self, state: ProbeState, params: Any = None) -> Array:
        """Whether ``length`` steps have been taken."""
        return state.time >= self.length

    def reset_env(self, key: Array, params: Any) -> tuple[Any, ProbeState]:
        """Draws the cue."""
        state = ProbeState(time=jnp.int32(0), cue=jax.random.randint(key, (), 0, self.num_cues, jnp.int32))
        return self.get_obs(state), state

    def step_env(
        self, key: Array, state: ProbeState, action: Array, params: Any
    ) -> tuple[Any, ProbeState, Array, Array, dict[str, Array]]:
        """Takes a step and pays the reward; gymnax's ``step`` adds the reset."""
        reward = jnp.asarray(self.get_reward(state, action), jnp.float32)
        info = self.get_info(state, action)
        state = state._replace(time=state.time + 1)
        terminated = self.is_terminated(state, params)
        info = {**info, "discount": 1.0 - terminated.astype(jnp.float32)}
        return self.get_obs(state), state, reward, terminated, info


class ValueOnlyProbe(Probe):
    """A probe whose actions have no effect, so they can be discrete or continuous."""

    def __init__(self, continuous: bool = False) -> None:
        super().__init__()
        self.continuous = continuous

    def action_space(self, params: Any = None) -> spaces.Space:
        """Two actions, or one number in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (1,)) if self.continuous else spaces.Discrete(2)


def sign(state: ProbeState) -> Array:
    """-1.0 or 1.0 for the cues 0 and 1."""
    return 2.0 * state.cue.astype(jnp.float32) - 1.0
