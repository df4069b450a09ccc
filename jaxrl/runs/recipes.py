"""Recipes by name, and the settings of recipes and parts, read from signatures and docstrings."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import docstring_parser

from jaxrl import agents
from jaxrl.arguments import bounds, nearest
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.objects import import_object, is_object
from jaxrl.types import Agent, Spec

Recipe = Callable[..., Agent]

RECIPES: dict[str, Recipe] = {name: getattr(agents, name) for name in sorted(agents.__all__)}


class Shorthand(NamedTuple):
    """A switch of recipes that abbreviates the choice of a part.

    Attributes:
      part: the argument that it sets.
      off, on: the names of the choices without and with the switch.
    """

    part: str
    off: str
    on: str


SHORTHANDS = {"prioritized": Shorthand("replay", off="uniform", on="prioritized")}
"""Switches by name. They are not hyper-parameters: a run stores the part instead."""

_OF_MODULES = frozenset({"parent", "name"})
"""Fields that Flax gives to every module."""

_SCALARS = (bool, int, float, str, type(None))


class UnknownName(ValueError):
    """No recipe, part or hyper-parameter has this name."""


class Parameter(NamedTuple):
    """A setting.

    Attributes:
      name: the name of the argument.
      type: the resolved annotation.
      default: the default in the signature.
      help: its line in the docstring, and its range.
    """

    name: str
    type: Any
    default: Any
    help: str


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """``table[name]``, or an error with the nearest name and all names.

    Raises:
      UnknownName: the name is not in the table.
    """
    if name not in table:
        raise UnknownName(f"unknown {kind} '{name}'{nearest(name, table)} (there are: {', '.join(table)})")
    return table[name]


def _is_plain(annotation: Any) -> bool:
    """Whether values of the type can be written in a flag and in JSON: scalars and sequences of them."""
    if annotation in _SCALARS:
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return all(type(argument) in _SCALARS for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return all(argument in _SCALARS for argument in arguments)
    return origin in (Sequence, tuple) and all(argument in (*_SCALARS, ...) for argument in arguments)


def _documented(docstring: str | None) -> dict[str, str]:
    """The entries of the sections Args and Attributes, by name."""
    parsed = docstring_parser.parse(docstring or "")
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}


def parameters(target: Callable[..., Any], hidden: Collection[str] = ()) -> dict[str, Parameter]:
    """The settings of a function or a Flax module: its arguments of a plain type with a default.

    An argument annotated with Any, because it may be a tracer, has the type of its default.

    Args:
      target: the function or the class.
      hidden: arguments that are set elsewhere.
    """
    if isinstance(target, type):
        hidden = {*hidden, *_OF_MODULES}
    annotations, documented = typing.get_type_hints(target), _documented(target.__doc__)
    ranges = typing.get_type_hints(target, include_extras=True)
    found = {}
    for name, argument in inspect.signature(target).parameters.items():
        annotation = annotations.get(name)
        kind = type(argument.default) if annotation is Any and argument.default is not None else annotation
        if name not in hidden and argument.default is not argument.empty and _is_plain(kind):
            text = documented.get(name, "")
            text = text and f"{text} {bounds(ranges.get(name))}".rstrip()
            found[name] = Parameter(name, kind, argument.default, text)
    return found


def find_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by its name: one of ``RECIPES``, or ``my_module:my_recipe``.

    Raises:
      UnknownName: the recipe does not exist.
      ConfigError: a ``module:name`` can't be imported or is not a recipe.
    """
    if not isinstance(recipe, str):
        return recipe
    if not is_object(recipe):
        return cast(Recipe, lookup("recipe", recipe, RECIPES))
    found = import_object(recipe, "recipe")
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"recipe: '{recipe}' is a {kind}, must be a function (spec, **options) -> Agent")
    return cast(Recipe, found)


def hyperparameters(recipe: str | Recipe) -> dict[str, Parameter]:
    """The hyper-parameters of a recipe: its settings except those that a run fills in; raises like ``find_recipe``."""
    found = find_recipe(recipe)
    return parameters(found, {*filled_in(found), *shorthands_of(found)})


def shorthands_of(recipe: str | Recipe) -> dict[str, Shorthand]:
    """The switches of a recipe that abbreviate a choice of its parts, by name; raises like ``find_recipe``."""
    known = inspect.signature(find_recipe(recipe)).parameters
    return {name: shorthand for name, shorthand in SHORTHANDS.items() if name in known and shorthand.part in known}


def filled_in(recipe: Recipe) -> dict[str, str]:
    """The arguments that a run fills in, by name: the number of updates, the simulator.

    A recipe gets the true simulator only if it asks for it, by ``jaxrl.signature.recipe(fills={"model":
    "simulator"})``.
    """
    declared = getattr(recipe, "fills", None)
    if declared is not None:
        return dict(declared)
    return {"num_updates": "num_updates"} if "num_updates" in inspect.signature(recipe).parameters else {}


def remembered(recipe: Recipe, spec: Spec, options: Mapping[str, Any]) -> Any:
    """The memory that the environment has to feed back to a recipe's agent; None if there is none.

    Args:
      recipe: a recipe, which declares its memory by ``jaxrl.signature.recipe(remembers=...)``.
      spec: the spec of the environment.
      options: the given options; the others have their defaults.
    """
    memory = getattr(recipe, "remembers", None)
    if memory is None:
        return None
    defaults = {name: each.default for name, each in inspect.signature(recipe).parameters.items()}
    return memory(spec, {**defaults, **options})


def summary(recipe: str | Recipe) -> str:
    """The first line of a recipe's docstring, as plain text."""
    return (docstring_parser.parse(find_recipe(recipe).__doc__ or "").short_description or "").replace("``", "")
