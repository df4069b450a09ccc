"""Probes of the value function, in which actions have no effect."""

# ruff: noqa: D102 (all methods override those of Probe, which documents them)

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment

from jaxrl.envs.probes.base import ProbeState, Solution, ValueOnlyProbe, sign
from jaxrl.types import Array


class ValueProbe(ValueOnlyProbe):
    """One step, observation 0, reward 1: V = 1, the reward and nothing after it.

    Faults: the value loss, its optimizer, or bootstrapping past the end, which gives 1 / (1 - gamma).
    """

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return jnp.zeros(1, jnp.float32)

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.float32(1.0)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.zeros((1, 1), jnp.float32), jnp.ones(1, jnp.float32), None)


class ObservationProbe(ValueOnlyProbe):
    """One step, observation -1 or 1 at random, reward equal to it: V(o) = o.

    Faults: observations that are mixed up between environments or minibatches, or a constant value (0).
    """

    best_return = 0.0
    num_cues = 2

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return sign(state)[None]

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return sign(state)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.float32([[-1], [1]]), jnp.float32([-1, 1]), None)


class DiscountProbe(ValueOnlyProbe):
    """Two steps, observations 0 then 1, reward 0 then 1: V(1) = 1, V(0) = 0 + gamma V(1) = gamma.

    Faults: the discount, or the time axis (a return one step early gives V(0) = 1, one step late gamma^2).
    """

    length = 2

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return jnp.minimum(state.time, 1).astype(jnp.float32)[None]

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return state.time.astype(jnp.float32)

    def solution(self, gamma: float) -> Solution:
        return Solution(jnp.float32([[0], [1]]), jnp.array([gamma, 1.0], jnp.float32), None)


class TruncationProbe(ValueOnlyProbe):
    """A pays 0 and leads to B, B pays 1 and leads to B; the only end is a truncation at step 5.

    The task never terminates, so V(B) = 1 / (1 - gamma) and V(A) = gamma V(B): 10 and 9 at gamma 0.9. Faults: treating
    truncation as termination (about 3.1 and 2.8 with one-step targets, from V(B) = 1 + 3/4 gamma V(B), since the last
    of the four visits to B has no future); bootstrapping from the reset observation (about 8.2 and 7.4, from V(B) = 1 +
    gamma (3/4 V(B) + 1/4 V(A))).
    """

    best_return = 4.0

    @property
    def default_params(self) -> environment.EnvParams:
        return environment.EnvParams(max_steps_in_episode=5)

    def is_terminated(self, state: ProbeState, params: Any = None) -> Array:
        return jnp.bool_(False)

    def get_obs(self, state: ProbeState, params: Any = None, key: Any = None) -> Array:
        return jax.nn.one_hot(jnp.minimum(state.time, 1), 2, dtype=jnp.float32)

    def get_reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.minimum(state.time, 1).astype(jnp.float32)

    def solution(self, gamma: float) -> Solution:
        value = 1.0 / (1.0 - gamma)
        return Solution(jnp.eye(2, dtype=jnp.float32), jnp.array([gamma * value, value], jnp.float32), None)
