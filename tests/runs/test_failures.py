"""Which number is named when a run diverges."""

import jax.numpy as jnp
import numpy as np

from jaxrl.runs.session import _first_failure
from jaxrl.training.host import Chunk
from jaxrl.training.loop import TrainState

NAN = np.nan
MODEL = [[NAN, 0.1, NAN], [NAN, 0.1, NAN]]  # reported where a fit was due


def failure(params, **metrics):
    """Of two members with these parameters, after three updates."""
    zeros = jnp.zeros(2, jnp.int32)
    agent = jnp.asarray(params, jnp.float32)
    state = TrainState(agent, zeros, zeros, zeros, zeros, zeros, zeros)
    none = {"episodes": np.zeros((2, 3), np.int32), "episode_return": np.full((2, 3), NAN)}
    arrays = {name: np.asarray(values) for name, values in metrics.items()}
    return _first_failure(Chunk(3, 3, {**none, **arrays}, 0.0, state))


def test_a_phase_that_is_not_due_is_no_failure():
    assert failure([1.0, 2.0], model=MODEL, never=[[NAN] * 3] * 2, loss=[[1.0] * 3] * 2) is None


def test_infinity_is_a_failure_although_parameters_are_finite():
    assert failure([1.0, 2.0], model=MODEL, loss=[[1.0] * 3, [1.0, np.inf, 1.0]]) == (1, 1, "loss")


def test_the_number_that_went_wrong_is_named_and_not_one_that_was_not_due():
    loss = [[1.0, 1.0, 1.0], [1.0, NAN, NAN]]
    assert failure([1.0, NAN], clone=[[NAN] * 3] * 2, loss=loss) == (1, 1, "loss")


def test_returns_that_are_not_finite_come_first():
    returns, episodes = [[NAN, 3.0, NAN], [NAN] * 3], [[0, 1, 0], [0, 0, 1]]
    assert failure([1.0, NAN], loss=MODEL, episode_return=returns, episodes=episodes) == (1, 2, "episode_return")
