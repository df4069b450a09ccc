"""The base of goal-conditioned environments: a goal drawn at the start, and a reward that is computable for any goal.

The observation is ``Observation(features, goal=, achieved_goal=)``, and the reward is -1 until the goal is reached,
then 0. ``reward_fn`` and ``terminated_fn`` compute the environment's rewards and terminations; pass them to
``jaxrl.replay.hindsight(env.reward_fn, env.terminated_fn)``.
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from jaxrl.types import Array, Observation, PyTree


class GoalEnvironment(environment.Environment[Any, Any], abc.ABC):
    """The base of goal-conditioned environments; the state is a NamedTuple with a field ``time``.

    A subclass defines when a goal is ``reached``, whether that ends the task, how a step moves the state, and the
    observation. ``info["success"]`` is true at every step at which the goal is reached.

    Attributes:
      ends_at_goal: whether reaching the goal terminates the episode.
    """

    ends_at_goal: bool

    @abc.abstractmethod
    def reached(self, achieved_goal: Array, goal: Array) -> Array:
        """Whether a goal is reached: ``[..., G], [..., G] -> [...]`` bool."""

    @abc.abstractmethod
    def move(self, state: Any, action: Array, params: Any) -> Any:
        """The state after an action, except for ``time``."""

    @abc.abstractmethod
    def observe_state(self, state: Any) -> Observation:
        """The observation of a state."""

    def success_fn(self, achieved_goal: Array, goal: Array) -> Array:
        """Whether arriving at ``achieved_goal`` is a success; an episode succeeds if its last step does.

        Args:
          achieved_goal: ``[..., G]``, of the next observation.
          goal: ``[..., G]``.

        Returns:
          ``[...]`` bool.
        """
        return self.reached(achieved_goal, goal)

    def reward_fn(self, achieved_goal: Array, goal: Array) -> Array:
        """The reward of arriving at ``achieved_goal`` with the goal ``goal``: 0 if it is reached, else -1.

        Args:
          achieved_goal: ``[..., G]``, of the next observation.
          goal: ``[..., G]``.

        Returns:
          ``[...]`` float32.
        """
        return self.reached(achieved_goal, goal).astype(jnp.float32) - 1.0

    def terminated_fn(self, achieved_goal: Array, goal: Array) -> Array:
        """Whether arriving at ``achieved_goal`` with the goal ``goal`` ends the task.

        Args:
          achieved_goal: ``[..., G]``, of the next observation.
          goal: ``[..., G]``.

        Returns:
          ``[...]`` bool.
        """
        return self.reached(achieved_goal, goal) & self.ends_at_goal

    def observation_space(self, params: PyTree = None) -> spaces.Dict:
        """The parts of the observation, each an unbounded box."""
        observation = jax.eval_shape(lambda: self.reset(jax.random.key(0), params)[0])
        parts = {name: part for name, part in observation._asdict().items() if part is not None}
        return spaces.Dict({name: self.part_space(name, part) for name, part in parts.items()})

    def part_space(self, name: str, part: Any) -> spaces.Box:
        """The space of one part of the observation."""
        return spaces.Box(0, 1, part.shape, part.dtype)

    def step_env(
        self, key: Array, state: Any, action: Array, params: Any
    ) -> tuple[Observation, Any, Array, Array, dict[str, Array]]:
        """Takes a step and pays the reward; gymnax's ``step`` adds the time limit and the reset."""
        state = self.move(state, action, params)._replace(time=state.time + 1)
        observation = self.observe_state(state)
        arrived = observation.achieved_goal, observation.goal
        terminated = self.terminated_fn(*arrived)
        info = {"success": self.reached(*arrived), "discount": 1.0 - terminated.astype(jnp.float32)}
        return observation, state, self.reward_fn(*arrived), terminated, info
