"""A model as an environment of the gymnax protocol: any recipe can train in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_callable, check_count
from jaxrl.types import Array, Box, Discrete, Model, PyTree

Start = Callable[[Array, PyTree], tuple[Any, PyTree]]
"""``(key, params of the model) -> (observation, state)``."""


class ModelEnvParams(NamedTuple):
    """The parameters of a ``ModelEnv``.

    Attributes:
      model: parameters of the model, which may be traced and vmapped.
      temperature: temperature of the model's randomness, where it has one.
      max_steps_in_episode: episodes are truncated after so many steps.
    """

    model: PyTree
    temperature: Any = 1.0
    max_steps_in_episode: Any = 1000


class ModelEnvState(NamedTuple):
    """The state of the model, and the steps taken in this episode."""

    model: PyTree
    time: Array


class ModelEnv:
    """See ``as_env``."""

    def __init__(self, model: Any, start: Start, action: Discrete | Box, default_params: ModelEnvParams) -> None:
        self._model = model
        self._start = start
        self._action = action
        self._default_params = default_params

    @property
    def name(self) -> str:
        """The name of the environment."""
        return "Model"

    @property
    def default_params(self) -> ModelEnvParams:
        """The parameters of the model, temperature and time limit."""
        return self._default_params

    def action_space(self, params: Any = None) -> Discrete | Box:
        """The actions of the model."""
        return self._action

    def reset(self, key: Array, params: ModelEnvParams | None = None) -> tuple[Any, ModelEnvState]:
        """Samples an initial state."""
        params = self.default_params if params is None else params
        observation, state = self._start(key, params.model)
        return observation, ModelEnvState(state, jnp.zeros((), jnp.int32))

    def step(
        self, key: Array, state: ModelEnvState, action: Array, params: ModelEnvParams | None = None
    ) -> tuple[Any, ModelEnvState, Array, Array, Array, dict[Any, Any]]:
        """Steps the model, and resets where the episode ended."""
        params = self.default_params if params is None else params
        model = self._model if isinstance(self._model, Model) else self._model(params.temperature)
        step_key, reset_key = jax.random.split(key)
        simulated = model.step(params.model, step_key, state.model, action)
        time = state.time + 1
        terminated = simulated.discount == 0.0
        truncated = (simulated.truncated | (time >= params.max_steps_in_episode)) & ~terminated
        first = self.reset(reset_key, params)
        choose = lambda new, old: jnp.where(terminated | truncated, new, old)  # noqa: E731
        on = (simulated.observation, ModelEnvState(simulated.state, time))
        observation, state = jax.tree.map(choose, first, on)
        info = {"final_observation": simulated.observation, "discount": simulated.discount}
        return observation, state, simulated.reward, terminated, truncated, info


def as_env(
    model: Model | Callable[[Any], Model],
    params: PyTree,
    start: Start,
    action: Discrete | Box,
    *,
    temperature: Any = 1.0,
    max_steps: int = 1000,
) -> ModelEnv:
    """An environment whose steps are those of a model; ``jaxrl.envs.check`` holds for it.

    An episode terminates where the model's discount is 0, and is truncated where the model truncates or after
    ``max_steps``. The parameters of the environment are ``ModelEnvParams(model, temperature, max_steps_in_episode)``.

    Args:
      model: a ``types.Model`` with one player, or a function from a temperature to one: ``partial(models.dream, rnn)``.
      params: parameters of the model.
      start: ``(key, params) -> (observation, state)``, the initial states of episodes, such as real first frames.
      action: ``spec.action`` of the modelled environment.
      temperature: default temperature.
      max_steps: default time limit.

    Raises:
      TypeError, ValueError: an argument has the wrong type; the message names it.

    >>> import jaxrl
    >>> from jaxrl import models
    >>> env, params = jaxrl.make("CartPole-v1")
    >>> simulator = jaxrl.envs.simulator(env, params)
    >>> same = models.as_env(simulator, (), lambda key, _: env.reset(key, params), jaxrl.spec(env, params).action)
    >>> jaxrl.envs.check(same).episodes > 0
    True
    """
    if not isinstance(model, Model):
        check_callable("model", model, "a types.Model, or a function from a temperature to one")
    elif model.num_players != 1:
        raise ValueError(f"model: got one with {model.num_players} players, must have one player")
    check_callable("start", start, "a function (key, params) -> (observation, state)")
    if not isinstance(action, (Discrete, Box)):
        raise TypeError(f"action: got {action!r}, must be a types.Discrete or a types.Box such as spec.action")
    check_count("max_steps", max_steps)
    return ModelEnv(model, start, action, ModelEnvParams(params, temperature, max_steps))
