"""The options of a recipe from its signature: float hyper-parameters, and alternative values."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl import planners, replay, text
from jaxrl.networks import MLP
from jaxrl.types import Agent, Box, Discrete, Model, RewardModel, Simulated


class Context(NamedTuple):
    """The conditions under which an option matters.

    Attributes:
      options: values of other options, and if needed of the option itself; options that a recipe lacks are ignored.
      action: the kind of action space, which replaces the environment's if that is another.
      unless: values of other options with which it does not matter.
      equal: two options; it does not matter if their values are the same.
    """

    options: Mapping[str, Any] = {}
    action: Box | None = None
    unless: Mapping[str, Any] = {}
    equal: tuple[str, str] | None = None


_CONTINUOUS = Context(action=Box((2,), -1.0, 1.0))

CONTEXTS: dict[str, Context] = {
    "anneal_learning_rate": Context({"num_updates": 10}),
    "anneal_clip": Context({"num_updates": 10}),
    "num_updates": Context({"num_updates": 10, "anneal_learning_rate": True}),
    "clip_value_epsilon": Context({"huber_delta": None}),
    "huber_delta": Context({"clip_value_epsilon": None}),
    "clip_observation": Context({"normalize_observation": True, "clip_observation": 0.1}),
    "value_coef": Context({"baseline": True}),
    "share_torso": Context({"baseline": True}),
    "squash": _CONTINUOUS,
    "state_dependent_std": _CONTINUOUS,
    "initial_log_std": _CONTINUOUS,
    "replay": Context({"prioritized": False}),
    "temperature": Context({"target_entropy": None}),
    "target_entropy": Context({"temperature": None}),
    "initial_temperature": Context({"temperature": None}),
    "target_noise_clip": Context(unless={"target_noise": 0.0}),
    "free_nats": Context(unless={"kl_weight": 0.0}),
    "num_layers": Context({"model": "transformer"}),
    "context": Context({"model": "transformer"}),
    "kl_rate": Context({"target_kl": 3.0}),
    "dyna_updates": Context(unless={"dyna": 0}),
    "targets": Context(unless={"horizon": 0}),
    "gae_lambda": Context(unless={"gamma": 0.0}),
    "td_lambda": Context(unless={"gamma": 0.0}),
    "num_elites": Context(equal=("num_elites", "num_members")),
    "noisy_sigma": Context({"noisy": True}),
    **{name: Context({"noisy": False}) for name in ("epsilon_start", "epsilon_end")},
    "epsilon_steps": Context({"noisy": False}, equal=("epsilon_start", "epsilon_end")),
}
"""Options that only matter together with others, and their conditions."""


def without_effect(
    values: Mapping[str, Any], names: Iterable[str], action: Discrete | Box
) -> Iterator[tuple[str, str]]:
    """The options that have no effect with these values, by ``CONTEXTS``.

    Args:
      values: the options of an agent.
      names: those of them to look at.
      action: the action space.

    Yields:
      ``(name, reason)``, the reason as in "noisy is False".
    """
    for name in names:
        context = CONTEXTS.get(name, Context())
        needed = {other: value for other, value in context.options.items() if other in values and other != name}
        reasons = [other for other, value in needed.items() if not _suffices(values[other], value)]
        reasons += [other for other, idle in context.unless.items() if values.get(other) == idle]
        if context.action is not None and isinstance(action, Discrete):
            yield name, "actions are discrete"
        elif reasons:
            yield name, f"{reasons[0]} is {values[reasons[0]]!r}"
        elif context.equal is not None and {*context.equal} <= {*values}:
            first, second = context.equal
            if values[first] == values[second]:
                yield name, f"{first} and {second} are both {values[first]!r}"


def _suffices(value: Any, needed: Any) -> bool:
    """Whether an option has the value that another one needs; a number stands for any number."""
    return value is not None if is_number(needed) else bool(value == needed)


def _twice(loss: Callable[..., Any]) -> Callable[..., Any]:
    def doubled(*args: Any) -> Any:
        value, metrics = loss(*args)
        return 2.0 * value, metrics

    return doubled


def _paying(model: Model) -> Model:
    """The model with a reward of 1 at each step."""
    return model._replace(step=lambda *args: model.step(*args)._replace(reward=jnp.float32(1.0)))


_STILL = Model(
    init=lambda key: (),
    step=lambda params, key, state, action: Simulated(
        state, state, jnp.float32(0.0), jnp.float32(1.0), jnp.zeros((), bool)
    ),
)
"""A model in which nothing happens, whose state is the observation."""


ALTERNATIVES: dict[str, Callable[[Any], Any]] = {
    "torso": lambda default: MLP(hidden=(5,)),
    "heads": lambda default: {"extra": nn.Dense(2)},
    "loss": _twice,
    "optimizer": lambda default: optax.sgd,
    "replay": lambda default: partial(replay.prioritized, alpha=0.5),
    "reward_model": lambda default: RewardModel(
        init=lambda key, num_envs=1: (),
        reward=lambda key, state, trajectory: 2.0 * trajectory.reward,
        update=lambda key, state, trajectory: (state, {}),
    ),
    "model": lambda default: _STILL if default is None else _paying(default),
    "search": lambda default: lambda *args, **options: default(*args, **{**options, "bounded": True, "explore": False}),
    "reward": lambda default: lambda observation, action, next_observation: jnp.float32(1.0),
    "termination": lambda default: None if default == "learned" else "learned",
    "hidden": lambda default: (5,),
    "activation": lambda default: "relu" if default != "relu" else "tanh",
    "planner": lambda default: planners.mppi if default == "cem" else planners.cem,
    "terminal_value": lambda default: lambda observation: jnp.ones(jax.tree.leaves(observation)[0].shape[:1]),
    "base": lambda default: "sac" if default != "sac" else "td3",
    "targets": lambda default: "last" if default != "last" else "td_k",
    "target_fn": lambda default: lambda key, sample, bootstrap: (sample, sample.transition.reward),
    "network": lambda default: default.clone(mlp_width=3) if default is not None else None,
    "start": lambda default: lambda key, model: jax.tree.map(jnp.zeros_like, text.init_params(key, model)),
    "kl_in": lambda default: "reward" if default == "loss" else "loss",
    "denominator": lambda default: "tokens" if default != "tokens" else "texts",
    "symmetries": lambda default: lambda key, features, mask, policy: (features, mask, policy[..., ::-1]),
}
"""Functions from the default to another value, for options that are not numbers."""


def parameters(make_agent: Callable[..., Agent]) -> dict[str, inspect.Parameter]:
    """The options of a recipe: the parameters with a default, with evaluated annotations where possible."""
    try:
        signature = inspect.signature(make_agent, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers only
        signature = inspect.signature(make_agent)
    return {name: option for name, option in signature.parameters.items() if option.default is not option.empty}


def _kinds(option: inspect.Parameter) -> tuple[Any, ...]:
    return typing.get_args(option.annotation) or (option.annotation,)


def is_number(value: Any) -> bool:
    """Whether a value is a real number and not a bool."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def is_float(option: inspect.Parameter) -> bool:
    """Whether an option is a float hyper-parameter, by its default or its annotation, which may also allow None."""
    return isinstance(option.default, float) or float in _kinds(option)


def float_options(make_agent: Callable[..., Agent]) -> dict[str, float]:
    """The float hyper-parameters of a recipe with their defaults, except those whose default is None."""
    return {
        name: float(option.default)
        for name, option in parameters(make_agent).items()
        if is_number(option.default) and is_float(option)
    }


def other_float(value: float) -> float:
    """Another valid float: half of it, which stays in intervals that contain 0, or a small number for 0."""
    return 0.5 * value if value else 0.1


def alternative(name: str, option: inspect.Parameter, value: Any) -> Any:
    """Another value of an option.

    It comes from ``ALTERNATIVES`` by name, or else from the current value: bools are inverted, ints doubled (divisors
    of a batch stay divisors), floats halved; None becomes a value of the annotated type.

    Raises:
      LookupError: no other value can be derived.
    """
    if name in ALTERNATIVES:
        return ALTERNATIVES[name](value)
    if isinstance(value, bool):
        return not value
    if is_number(value):
        return 2 * value if isinstance(value, int) and float not in _kinds(option) else other_float(float(value))
    by_kind: dict[Any, Any] = {bool: True, float: 0.3, int: 7}
    for kind, other in by_kind.items():
        if value is None and kind in _kinds(option):
            return other
    raise LookupError(f"no other value of option {name!r} can be derived from {value!r}")
