"""Probes of the policy: one step each, discrete and continuous actions, masks and images."""

# ruff: noqa: D102 (all methods override those of Probe, which documents them)

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from jaxrl.envs.probes.base import Probe, ProbeState, Solution, sign
from jaxrl.types import Array, Observation


class ActionProbe(Probe):
    """One step; action 1 pays 1 and action 0 pays -1: the best action is 1, V = 1.

    Faults: a wrong sign or alignment of the policy gradient, or a greedy action that is not the best one.
    """

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return jnp.zeros(1, jnp.float32)

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(action == 1, 1.0, -1.0)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.zeros((1, 1), jnp.float32), jnp.ones(1, jnp.float32), jnp.int32([1]))


class ObservationActionProbe(Probe):
    """One step, observation -1 or 1; action 0 is right for -1 and action 1 for 1; right pays 1, wrong -1: V = 1.

    Fault: actions that are assigned to other observations. A fixed action pays 0 on average.
    """

    num_cues = 2

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return sign(state)[None]

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(action == state.cue, 1.0, -1.0)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.float32([[-1], [1]]), jnp.ones(2, jnp.float32), jnp.int32([0, 1]))


class ContinuousActionProbe(Probe):
    """One step, an action a in [-1, 3], reward -(a - 2)^2: the best action is 2, V = 0.

    The box is asymmetric: 2 is 0.5 on the scale of [-1, 1]. Fault: actions that are not rescaled end at 1 and pay -1.
    """

    best_return = 0.0

    def action_space(self, params: Any = None) -> spaces.Space:
        return spaces.Box(-1.0, 3.0, (1,))

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return jnp.zeros(1, jnp.float32)

    def target(self, state: ProbeState) -> Array:
        """The best action."""
        return jnp.float32(2.0)

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return -jnp.sum((action - self.target(state)) ** 2)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.zeros((1, 1), jnp.float32), jnp.zeros(1, jnp.float32), jnp.float32([[2]]))


class ContinuousObservationActionProbe(ContinuousActionProbe):
    """One step, observation o = -1 or 1, an action a in [-1, 3], reward -(a - (1 + o))^2: best is 0 or 2, V = 0.

    Fault: actions that are assigned to other observations; the best fixed action, 1, pays -1.
    """

    num_cues = 2

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return sign(state)[None]

    def target(self, state: ProbeState) -> Array:
        return 1.0 + sign(state)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.float32([[-1], [1]]), jnp.zeros(2, jnp.float32), jnp.float32([[0], [2]]))


class MaskedProbe(Probe):
    """One step, three arms that pay 0, 0.5 and 1; in half of the episodes the best arm is illegal.

    The features are constant and only the mask differs. One order of preference, 2 over 1 over 0, is therefore right in
    both cases if the mask is applied: it pays 1 or 0.5, on average 0.75, which is the best value that the features can
    predict. An illegal action pays -100 and sets ``info["illegal"]``, so an agent that ignores the mask settles for arm
    1 and 0.5.
    """

    best_return = 0.75
    num_cues = 2

    def action_space(self, params: Any = None) -> spaces.Space:
        return spaces.Discrete(3)

    def observation_space(self, params: Any = None) -> spaces.Dict:
        return spaces.Dict({"features": spaces.Box(-1, 1, (1,)), "action_mask": spaces.Box(0, 1, (3,), jnp.bool_)})

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Observation:
        return Observation(features=jnp.zeros(1, jnp.float32), action_mask=(jnp.arange(3) < 2) | (state.cue == 0))

    def get_info(self, state: ProbeState, action: Array) -> dict[str, Array]:
        return {"illegal": ~self.get_obs(state).action_mask[action]}

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(self.get_info(state, action)["illegal"], -100.0, 0.5 * action)

    def solution(self, gamma: float) -> Solution:
        mask = jnp.array([[True, True, True], [True, True, False]])
        return Solution(
            Observation(jnp.zeros((2, 1), jnp.float32), mask), jnp.full(2, 0.75, jnp.float32), jnp.int32([2, 1])
        )


class ImageProbe(Probe):
    """One step, a uint8 image ``[4, 4, 2]`` whose left or right half is 255: action 0 is right for left, and pays 1.

    A wrong action pays -1, so V = 1. Faults: an integer image is not converted to floats, is flattened in different
    orders in two places, or is pooled over its width.
    """

    num_cues = 2

    def observation_space(self, params: Any = None) -> spaces.Box:
        return spaces.Box(0, 255, (4, 4, 2), jnp.uint8)

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        lit = (jnp.arange(4) // 2) == state.cue
        return jnp.broadcast_to(jnp.where(lit, 255, 0).astype(jnp.uint8)[None, :, None], (4, 4, 2))

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(action == state.cue, 1.0, -1.0)

    def solution(self, gamma: float) -> Solution:
        cues = jnp.arange(2)
        images = jax.vmap(lambda cue: self.get_obs(ProbeState(jnp.int32(0), cue)))(cues)
        return Solution(images, jnp.ones(2, jnp.float32), cues)
