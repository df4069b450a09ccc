"""Probes whose observations are numbers of states, for agents that keep tables."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from jaxrl.envs.probes.base import Probe, Solution
from jaxrl.envs.wrappers import StepResult, Wrapper
from jaxrl.types import Array, Observation, PyTree, action_mask, features


class Indexed(Wrapper):
    """A probe that shows the index of an observation in its solution, an int32, instead of the observation.

    A mask stays beside it. What no action is ever chosen at (the last observation of some probes) is shown as 0.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.known = probe.solution(0.9).observations

    def _index(self, observation: Any) -> Any:
        equal = [
            jnp.all(jnp.reshape(known == seen[None], (known.shape[0], -1)), axis=1)
            for known, seen in zip(jax.tree.leaves(self.known), jax.tree.leaves(observation), strict=True)
        ]
        index = jnp.argmax(jnp.all(jnp.stack(equal), axis=0)).astype(jnp.int32)
        mask = action_mask(observation)
        return index if mask is None else Observation(features=index, action_mask=mask)

    def observation_space(self, params: PyTree = None) -> spaces.Space:
        """As many as the solution has observations."""
        states = spaces.Discrete(features(self.known).shape[0])
        mask = action_mask(self.known)
        if mask is None:
            return states
        return spaces.Dict({"features": states, "action_mask": spaces.Box(0, 1, mask.shape[1:], jnp.bool_)})

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, PyTree]:
        observation, state = self.env.reset(key, self._given(params))
        return self._index(observation), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        observation, *rest, info = self.env.step(key, state, action, self._given(params))
        return self._index(observation), *rest, {**info, "final_observation": self._index(info["final_observation"])}

    def solution(self, gamma: float) -> Solution:
        """That of the probe, by index."""
        solved = self.env.solution(gamma)
        index = jnp.arange(features(self.known).shape[0], dtype=jnp.int32)
        mask = action_mask(self.known)
        return solved._replace(observations=index if mask is None else Observation(features=index, action_mask=mask))
