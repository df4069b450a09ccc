"""Bit flipping: n bits, a goal of n bits, one flip per step. Andrychowicz et al. 2017, section 3.1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from jaxrl.arguments import check_count
from jaxrl.envs.goals.base import GoalEnvironment
from jaxrl.types import Array, Observation


class BitFlippingState(NamedTuple):
    """The number of steps in this episode, the bits ``[n]`` and the goal ``[n]``."""

    time: Array
    bits: Array
    goal: Array


class BitFlipping(GoalEnvironment):
    """Action i flips bit i; the reward is -1 unless all bits equal the goal, then 0.

    Start and goal are uniform and independent. An episode has at most n steps (``max_steps_in_episode``), so the best
    return with d wrong bits is ``1 - d``. Random actions reach the goal in about ``n 2^-n`` of the episodes, so that
    without hindsight there is practically no reward from about 13 bits on.

    The paper leaves open what follows success. Here it terminates the episode, because every action flips a bit and no
    policy could stay at the goal. If start and goal are equal (probability ``2^-n``) the agent has to leave and come
    back, for which a single bit leaves no time.

    Bits are int8, since a replay stores 6 n of them for each transition; networks get floats.

    Args:
      num_bits: n, at least 1.
    """

    ends_at_goal = True

    def __init__(self, num_bits: int = 8) -> None:
        super().__init__()
        check_count("num_bits", num_bits)
        self.num_bits = num_bits

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"BitFlipping-{self.num_bits}"

    @property
    def default_params(self) -> environment.EnvParams:
        """A time limit of n steps."""
        return environment.EnvParams(max_steps_in_episode=self.num_bits)

    @property
    def num_actions(self) -> int:
        """The number of bits."""
        return self.num_bits

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """The bit to flip."""
        return spaces.Discrete(self.num_bits)

    def reached(self, achieved_goal: Array, goal: Array) -> Array:
        """Whether all bits are equal."""
        return jnp.all(achieved_goal == goal, axis=-1)

    def reset_env(self, key: Array, params: Any) -> tuple[Observation, BitFlippingState]:
        """Draws start and goal."""
        bits, goal = jax.random.bernoulli(key, 0.5, (2, self.num_bits)).astype(jnp.int8)
        state = BitFlippingState(jnp.int32(0), bits, goal)
        return self.observe_state(state), state

    def move(self, state: BitFlippingState, action: Array, params: Any) -> BitFlippingState:
        """Flips one bit."""
        return state._replace(bits=jnp.where(jnp.arange(self.num_bits) == action, 1 - state.bits, state.bits))

    def observe_state(self, state: BitFlippingState) -> Observation:
        """The bits are the features and the achieved goal."""
        return Observation(features=state.bits, goal=state.goal, achieved_goal=state.bits)
