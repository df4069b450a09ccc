"""Parts by name: what takes the place of a recipe's argument that is an object, such as ``torso=``.

A flag and a JSON file can't hold a network. They hold a name of the table ``PARTS`` and the settings that go with it:
``--torso conv --torso.channels 32``. An argument of a recipe that has a row here can be chosen so, in every recipe that
takes an argument of this name; a new argument is a new row, and a new choice is an entry of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl import networks, replay
from jaxrl.agents.parts import planning
from jaxrl.agents.parts.torsos import torso_of
from jaxrl.runs.recipes import RECIPES, SHORTHANDS, Parameter, Shorthand, lookup, parameters
from jaxrl.types import Spec


class Choice(NamedTuple):
    """What a part can be.

    Attributes:
      described: the function or Flax module whose signature and docstring tell the settings: those arguments of a
        plain type that have a default.
      make: ``make(env, params, **settings)`` gives what the recipe takes.
    """

    described: Callable[..., Any]
    make: Callable[..., Any]


class Part(NamedTuple):
    """An argument of recipes that is chosen by name.

    Attributes:
      help: a sentence about it.
      choices: by name.
      default: ``(recipe, spec) ->`` what a recipe whose own default is None takes; without one it is what the
        recipe's switch says (see ``SHORTHANDS``), or left to the recipe.
    """

    help: str
    choices: dict[str, Choice]
    default: Callable[[str, Spec], Any] | None = None


def module(kind: Callable[..., Any]) -> Choice:
    """A Flax module, made of its fields; the whole numbers among them are sizes."""

    def make(env: Any, params: Any, **settings: Any) -> Any:
        for name, value in settings.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int) and not isinstance(number, bool) and number < 1 for number in numbers):
                raise ValueError(f"{name}: got {_written(value)}, sizes must be at least 1")
        return kind(**settings)

    return Choice(kind, make)


def maker(function: Callable[..., Any]) -> Choice:
    """A function that the recipe itself calls: the settings are bound, the arguments without default are left to it."""

    def make(env: Any, params: Any, **settings: Any) -> Any:
        return functools.partial(function, **settings) if settings else function

    return Choice(function, make)


def _hindsight(env: Any, params: Any, **settings: Any) -> Any:
    """Hindsight with the reward and the end of the environment itself."""
    if not hasattr(env, "reward_fn"):
        raise ValueError(
            f"hindsight: {type(env).__name__} has no reward_fn(achieved_goal, goal), as environments with goals have "
            "(BitFlipping-40, PointReach)"
        )
    return replay.hindsight(env.reward_fn, getattr(env, "terminated_fn", None), **settings)


def _written(value: Any) -> str:
    """As it is written behind a flag."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


PARTS: dict[str, Part] = {
    "torso": Part(
        "The network under the heads; by default conv for images, mlp for the rest.",
        {
            "mlp": module(networks.MLP),
            "conv": module(networks.Conv),
            "residual": module(networks.Residual),
            "transformer": module(networks.Transformer),
            "gru": module(networks.GRU),
        },
        lambda recipe, spec: torso_of(RECIPES[recipe], spec),
    ),
    "search": Part(
        "How a recipe that plans searches for its moves.",
        {name: maker(function) for name, function in planning.SEARCHES.items()},
    ),
    "replay": Part(
        "Where a recipe with a replay keeps transitions, and how it samples them. Hindsight wants goals.",
        {
            "uniform": maker(replay.uniform),
            "prioritized": maker(replay.prioritized),
            "hindsight": Choice(replay.hindsight, _hindsight),
        },
    ),
}
"""Argument of a recipe -> what it can be."""


def parts_of(recipe: str) -> list[str]:
    """The arguments of a recipe that are chosen by name.

    Raises:
      UnknownName: no such recipe.
    """
    return [name for name in inspect.signature(lookup("recipe", recipe, RECIPES)).parameters if name in PARTS]


def shorthands_of(recipe: str) -> dict[str, Shorthand]:
    """The switches of a recipe that choose a part in short, by name.

    Raises:
      UnknownName: no such recipe.
    """
    known = inspect.signature(lookup("recipe", recipe, RECIPES)).parameters
    return {name: shorthand for name, shorthand in SHORTHANDS.items() if name in known}


def settings_of(part: str, choice: str) -> dict[str, Parameter]:
    """What can be set of a choice.

    Raises:
      UnknownName: no such choice.
    """
    return parameters(lookup(part, choice, PARTS[part].choices).described)


def make_part(part: str, choice: str, settings: dict[str, Any], env: Any, params: Any) -> Any:
    """What the recipe takes.

    Raises:
      UnknownName: no such choice.
      TypeError, ValueError: a setting that it refuses, under the name of the part.
    """
    made = lookup(part, choice, PARTS[part].choices)
    try:
        return made.make(env, params, **settings)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}.{error}") from error


def default_part(recipe: str, part: str, spec: Spec) -> tuple[str, dict[str, Any]] | None:
    """The name and the settings of what a recipe takes by default in an environment; None where only it knows.

    Raises:
      LookupError: the recipe's default is nothing that has a name.
    """
    known, row = inspect.signature(RECIPES[recipe]).parameters, PARTS[part]
    value = known[part].default
    for name, shorthand in shorthands_of(recipe).items():
        if value is None and shorthand.part == part:
            value = row.choices[shorthand.on if known[name].default else shorthand.off].described
    if value is None and row.default is not None:
        value = row.default(recipe, spec)
    if value is None:
        return None
    bound = value.keywords if isinstance(value, functools.partial) else {}
    kind = value.func if isinstance(value, functools.partial) else value
    for name, choice in row.choices.items():
        if choice.described in (kind, type(value)):
            own = {} if kind is choice.described else vars(value)
            settings = settings_of(part, name)
            return name, {key: {**own, **bound}.get(key, settings[key].default) for key in settings}
    raise LookupError(f"the default {part} of {recipe}, {value!r}, is not in PARTS[{part!r}]")
