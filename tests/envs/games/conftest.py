"""A two-player game small enough to do by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from jaxrl.types import Discrete, Observation


class Nim:
    """Five stones; one or two are taken in turn, and who takes the last one wins. Features: the stones left.

    The extra action 2 takes one stone and moves again.
    """

    name, num_players, num_actions, default_params = "Nim", 2, 3, ()

    def __init__(self, cut_at=-1):
        self.cut_at = cut_at

    def action_space(self, params=None):
        return Discrete(3)

    def reset(self, key, params=None):
        stones = jnp.float32(5.0)
        return self._seen(stones), stones

    def _seen(self, stones):
        return Observation(stones[None], action_mask=jnp.array([True, True, True]))

    def step(self, key, state, action, params=None):
        left = jnp.maximum(state - jnp.array([1.0, 2.0, 1.0])[action], 0.0)
        terminated, truncated = left == 0, left == self.cut_at
        discount = jnp.where(terminated, 0.0, jnp.where(action == 2, 1.0, -1.0))
        final = self._seen(left)
        again = jnp.where(terminated | truncated, 5.0, left)
        info = {"discount": discount, "final_observation": final}
        return self._seen(again), again, jnp.where(terminated, 1.0, 0.0), terminated, truncated, info


class Scripted(NamedTuple):
    """State of an agent that takes what is written for the number of stones, ``[6]`` int32."""

    moves: jax.Array


@pytest.fixture
def nim():
    return Nim


@pytest.fixture
def scripted():
    return Scripted
