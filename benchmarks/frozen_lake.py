"""FrozenLake solved exactly: its transition probabilities, the values of any policy, and those of the best one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from gymnax.environments.misc.frozen_lake import GOAL, HOLE, EnvState, FrozenLake
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Model(NamedTuple):
    """A finite decision process.

    Attributes:
      probability: ``[S, A, S]`` of the next state.
      reward: ``[S, A]`` the expected reward.
      future: ``[S, A, S]`` 0 where the task ends with the step, else 1.
      start: the first state.
    """

    probability: Values
    reward: Values
    future: Values
    start: int


def model_of(env: FrozenLake) -> Model:
    """The model of an environment: each move is made once without slipping, and the results are mixed by slipping."""
    rows, columns = env.desc.shape
    tiles = np.asarray(env.desc).reshape(-1)
    certain = FrozenLake(
        desc=["".join("SFHG"[tile] for tile in row) for row in np.asarray(env.desc)], is_slippery=False
    )
    params, num_actions = env.default_params, env.num_actions

    @jax.jit
    @jax.vmap
    def move(position: Any, action: Any) -> Any:
        _, state, reward, terminated, _ = certain.step_env(
            jax.random.key(0), EnvState(position=position, time=0), action, params
        )
        return state.position, reward, terminated

    states, actions = np.arange(rows * columns), np.arange(num_actions)
    grid = np.meshgrid(states, actions, indexing="ij")
    following, reward, terminated = (
        np.asarray(x).reshape(grid[0].shape) for x in move(grid[0].ravel(), grid[1].ravel())
    )
    shape = (len(states), num_actions, len(states))
    probability, expected, future = np.zeros(shape), np.zeros(shape[:2]), np.ones(shape)
    aside = (1.0 - env.success_rate) / 2.0 if env.is_slippery else 0.0
    for turn, share in ((0, 1.0 - 2.0 * aside), (-1, aside), (1, aside)):
        for state in states:
            for action in actions:
                taken = (action + turn) % num_actions
                probability[state, action, following[state, taken]] += share
                expected[state, action] += share * reward[state, taken]
                future[state, action, following[state, taken]] = 1.0 - terminated[state, taken]
    # Nobody acts there.
    expected[(tiles == HOLE) | (tiles == GOAL)] = 0.0
    future[(tiles == HOLE) | (tiles == GOAL)] = 0.0
    return Model(probability, expected, future, int(np.argmax(tiles == 0)))


def action_values(model: Model, values: Values, gamma: float) -> Values:
    """``[S, A]`` ``r + gamma sum_s' p(s') V(s')``."""
    return model.reward + gamma * ((model.probability * model.future) @ values)


def value_iteration(model: Model, gamma: float) -> Values:
    """``[S]`` values of the best policy, to rounding."""
    values = np.zeros(len(model.reward))
    while True:
        better = action_values(model, values, gamma).max(axis=1)
        if np.abs(better - values).max() < 1e-13:
            return better
        values = better


def policy_values(model: Model, policy: Any, gamma: float) -> Values:
    """``[S]`` values of a policy ``[S]``, from its linear equations."""
    states = np.arange(len(model.reward))
    moves = (model.probability * model.future)[states, policy]
    return np.linalg.solve(np.eye(len(states)) - gamma * moves, model.reward[states, policy])


def share_of_best(model: Model, policy: Any, gamma: float = 0.99) -> float:
    """The value of a policy at the start, divided by that of the best one."""
    return float(policy_values(model, policy, gamma)[model.start] / value_iteration(model, gamma)[model.start])
