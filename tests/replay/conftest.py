"""Trajectories whose every number says where it comes from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.types import Transition


class Extras(NamedTuple):
    """Something from the moment of acting."""

    log_prob: object


def example(size=2):
    def leaf(*shape, dtype=np.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    return Transition(
        observation=leaf(size),
        action=leaf(dtype=np.int32),
        reward=leaf(),
        discount=leaf(),
        terminated=leaf(dtype=np.bool_),
        truncated=leaf(dtype=np.bool_),
        next_observation=leaf(size),
        extras=Extras(leaf()),
    )


def trajectory(start, length, num_envs, ends=None, rewards=None, discounts=None):
    """Steps ``start .. start + length`` of each environment.

    ``ends`` ``[T, B]``: 0 goes on, 1 terminated, 2 truncated, 3 both. Next observations are half a step further than
    observations, so that they cannot be mistaken for the row after.
    """
    time, env = np.meshgrid(np.arange(start, start + length), np.arange(num_envs), indexing="ij")
    ends = np.zeros((length, num_envs), int) if ends is None else np.asarray(ends)
    terminated, truncated = ends % 2 == 1, ends >= 2
    rewards = time % 5 - 2.0 + env if rewards is None else rewards
    discounts = np.ones_like(ends) if discounts is None else discounts
    return Transition(
        observation=np.stack([time, env], -1).astype(np.float32),
        action=(7 * time + env).astype(np.int32),
        reward=np.asarray(rewards, np.float32),
        discount=np.where(terminated, 0.0, discounts).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        next_observation=np.stack([time + 0.5, env], -1).astype(np.float32),
        extras=Extras((time + 0.25).astype(np.float32)),
    )


@pytest.fixture(scope="session", name="example")
def example_fixture():
    return example


@pytest.fixture(scope="session", name="trajectory")
def trajectory_fixture():
    """As arrays of JAX."""
    return lambda *args, **kwargs: jax.tree.map(jnp.asarray, trajectory(*args, **kwargs))
