"""Probes whose observations are indices of states, for tabular agents."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from jaxrl.envs.probes.base import Probe, Solution
from jaxrl.envs.wrappers import StepResult, Wrapper
from jaxrl.types import Array, Observation, PyTree, action_mask, features


class Indexed(Wrapper):
    """A probe that returns the index of its features in its solution, an int32, instead of the features.

    Equal features have one index, the lowest, and a mask is kept beside it: states that differ in the mask only share
    an index. An observation at which no action is taken (the last one of some probes) has index 0.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.known = features(probe.solution(0.9).observations)

    def _indexed(self, observation: Any) -> Any:
        equal = (self.known == features(observation)[None]).reshape(self.known.shape[0], -1)
        index = jnp.argmax(jnp.all(equal, axis=1)).astype(jnp.int32)
        mask = action_mask(observation)
        return index if mask is None else Observation(features=index, action_mask=mask)

    def observation_space(self, params: PyTree = None) -> spaces.Space:
        """As many observations as the solution has."""
        states, declared = spaces.Discrete(self.known.shape[0]), self.env.observation_space(self._given(params))
        if not isinstance(declared, spaces.Dict):
            return states
        return spaces.Dict({**declared.spaces, "features": states})

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, PyTree]:
        observation, state = self.env.reset(key, self._given(params))
        return self._indexed(observation), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        observation, state, reward, terminated, truncated, info = self.env.step(key, state, action, self._given(params))
        info = {**info, "final_observation": self._indexed(info["final_observation"])}
        return self._indexed(observation), state, reward, terminated, truncated, info

    def solution(self, gamma: float) -> Solution:
        """The solution of the probe, by index."""
        solved = self.env.solution(gamma)
        return solved._replace(observations=jax.vmap(self._indexed)(solved.observations))
