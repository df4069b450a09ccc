"""Bit flipping: n bits, a goal of n bits, one flip a step. Andrychowicz et al. 2017, section 3.1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from jaxrl.arguments import check_count
from jaxrl.envs.goals.base import GoalEnvironment
from jaxrl.types import Array, Observation


class BitFlippingState(NamedTuple):
    """Steps taken in this episode, the bits ``[n]`` and the goal ``[n]``."""

    time: Array
    bits: Array
    goal: Array


class BitFlipping(GoalEnvironment):
    """Action i flips bit i; the reward is -1 unless all bits equal the goal, then 0.

    Start and goal are uniform and independent, an episode has at most n steps (``max_steps_in_episode``), so with d
    bits wrong the best return is ``1 - d``. Random play meets the goal in about ``n 2^-n`` of the episodes, so that
    without hindsight nothing is paid from about 13 bits on.

    The paper leaves open what follows success. Here it terminates the episode: every action flips a bit, so nobody
    could stay at the goal. Where start and goal are equal (probability ``2^-n``) it has to leave and come back, and
    with a single bit there is no time for it.

    Bits are int8, since a replay holds six times n of them for each transition; networks see floats.

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
        """As many as there are bits."""
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
