"""Point reach: a point mass is pushed to a goal and held there, with the sparse reward of the Fetch tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from jaxrl.envs.goals.base import GoalEnvironment
from jaxrl.types import Array, Observation


class PointReachState(NamedTuple):
    """The number of steps in this episode, then position, velocity and goal, each ``[2]``."""

    time: Array
    position: Array
    velocity: Array
    goal: Array


@struct.dataclass
class PointReachParams(environment.EnvParams):
    """The time limit, the velocity gained by a full push, and the fraction of velocity lost per step."""

    max_steps_in_episode: int = 50
    push: float = 0.03
    friction: float = 0.2


class PointReach(GoalEnvironment):
    """A point mass in the square [-1, 1]^2, pushed by two numbers in [-1, 1]; reward 0 within ``radius``, else -1.

    ``v <- (1 - friction) v + push a``, ``x <- x + v``, and walls stop the point. Start and goal are uniform. Reaching
    the goal does not end the task, as in the Fetch tasks of Plappert et al. 2018: episodes are only truncated by the
    time limit, and the best policy stays at the goal. Features are position and velocity.

    Args:
      radius: the distance at which the goal is reached. It is not in ``params`` because ``reward_fn`` depends on it.
    """

    ends_at_goal = False

    def __init__(self, radius: float = 0.05) -> None:
        super().__init__()
        if not radius > 0.0:
            raise ValueError(f"radius: got {radius!r}, must be above 0")
        self.radius = radius

    @property
    def default_params(self) -> PointReachParams:
        """50 steps, 18 of which take the point from wall to wall."""
        return PointReachParams()

    @property
    def num_actions(self) -> int:
        """Two, the numbers of an action."""
        return 2

    def action_space(self, params: Any = None) -> spaces.Box:
        """The push along each axis."""
        return spaces.Box(-1.0, 1.0, (2,))

    def part_space(self, name: str, part: Any) -> spaces.Box:
        """The bounds of each part; velocities are at most ``push / friction`` and at most the width of the square."""
        return spaces.Box(-2.0 if name == "features" else -1.0, 2.0 if name == "features" else 1.0, part.shape)

    def reached(self, achieved_goal: Array, goal: Array) -> Array:
        """Whether the distance is at most ``radius``."""
        return jnp.linalg.norm(achieved_goal - goal, axis=-1) <= self.radius

    def reset_env(self, key: Array, params: Any) -> tuple[Observation, PointReachState]:
        """Draws start and goal; the point is at rest."""
        position, goal = jax.random.uniform(key, (2, 2), jnp.float32, -1.0, 1.0)
        state = PointReachState(jnp.int32(0), position, jnp.zeros(2, jnp.float32), goal)
        return self.observe_state(state), state

    def move(self, state: PointReachState, action: Array, params: PointReachParams) -> PointReachState:
        """Pushes and moves the point, and stops it at the walls."""
        push = params.push * jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0)
        velocity = (1.0 - params.friction) * state.velocity + push
        position = jnp.clip(state.position + velocity, -1.0, 1.0)
        velocity = jnp.where(jnp.abs(state.position + velocity) > 1.0, 0.0, velocity)
        return state._replace(position=position.astype(jnp.float32), velocity=velocity.astype(jnp.float32))

    def observe_state(self, state: PointReachState) -> Observation:
        """Position and velocity are the features, the position is the achieved goal."""
        features = jnp.concatenate([state.position, state.velocity])
        return Observation(features=features, goal=state.goal, achieved_goal=state.position)
