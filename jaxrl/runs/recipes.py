"""Recipes by name, and what can be set of them and of their parts, read from signatures and docstrings."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import docstring_parser

from jaxrl import agents
from jaxrl.arguments import nearest
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.objects import import_object, is_object
from jaxrl.types import Agent, Spec

Recipe = Callable[..., Agent]

RECIPES: dict[str, Recipe] = {name: getattr(agents, name) for name in sorted(agents.__all__)}


class Shorthand(NamedTuple):
    """A switch of recipes that chooses a part in short.

    Attributes:
      part: the argument that it stands for.
      off, on: what that is, by name, without the switch and with it.
    """

    part: str
    off: str
    on: str


SHORTHANDS = {"prioritized": Shorthand("replay", off="uniform", on="prioritized")}
"""By argument. No hyper-parameters: what is asked in two ways is written down in one, as the part."""

_OF_MODULES = frozenset({"parent", "name"})
"""Fields that Flax gives to every module."""

_SCALARS = (bool, int, float, str, type(None))


class UnknownName(ValueError):
    """No recipe, part or hyper-parameter has this name."""


class Parameter(NamedTuple):
    """Something that can be set.

    Attributes:
      name: of the argument.
      type: the annotation, resolved.
      default: the signature's.
      help: its line in the docstring.
    """

    name: str
    type: Any
    default: Any
    help: str


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """``table[name]``, or an error with the nearest right name and all there are.

    Raises:
      UnknownName: no such name.
    """
    if name not in table:
        raise UnknownName(f"unknown {kind} '{name}'{nearest(name, table)} (there are: {', '.join(table)})")
    return table[name]


def _is_plain(annotation: Any) -> bool:
    """Whether values of the type can be written in a flag and in JSON: scalars, and sequences of them."""
    if annotation in _SCALARS:
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return all(type(argument) in _SCALARS for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return all(argument in _SCALARS for argument in arguments)
    return origin in (Sequence, tuple) and all(argument in (*_SCALARS, ...) for argument in arguments)


def _documented(docstring: str | None) -> dict[str, str]:
    """The lines of the sections Args and Attributes, by name."""
    parsed = docstring_parser.parse(docstring or "")
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}


def parameters(target: Callable[..., Any], hidden: Collection[str] = ()) -> dict[str, Parameter]:
    """What can be set of a function or a Flax module: its arguments of a plain type that have a default.

    An argument that may be a tracer and so is annotated with Any has the type of its default.

    Args:
      target: the function or the class.
      hidden: arguments that are somebody else's to set.
    """
    if isinstance(target, type):
        hidden = {*hidden, *_OF_MODULES}
    annotations, documented = typing.get_type_hints(target), _documented(target.__doc__)
    found = {}
    for name, argument in inspect.signature(target).parameters.items():
        annotation = annotations.get(name)
        kind = type(argument.default) if annotation is Any and argument.default is not None else annotation
        if name not in hidden and argument.default is not argument.empty and _is_plain(kind):
            found[name] = Parameter(name, kind, argument.default, documented.get(name, ""))
    return found


def find_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by its name: one of ``RECIPES``, or ``my_module:my_recipe``.

    Raises:
      UnknownName: no such recipe.
      ConfigError: a ``module:name`` that can't be imported, or is no recipe.
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
    """The hyper-parameters of a recipe: what can be set but for what a run fills in; raises as ``find_recipe``."""
    found = find_recipe(recipe)
    return parameters(found, {*filled_in(found), *shorthands_of(found)})


def shorthands_of(recipe: str | Recipe) -> dict[str, Shorthand]:
    """The switches of a recipe that choose one of its parts in short, by name; raises as ``find_recipe``."""
    known = inspect.signature(find_recipe(recipe)).parameters
    return {name: shorthand for name, shorthand in SHORTHANDS.items() if name in known and shorthand.part in known}


def filled_in(recipe: Recipe) -> dict[str, str]:
    """The arguments that a run fills in, by name, and what with: the number of updates, the simulator.

    A recipe gets the true simulator only if it says so, by ``jaxrl.signature.recipe(fills={"model": "simulator"})``.
    """
    declared = getattr(recipe, "fills", None)
    if declared is not None:
        return dict(declared)
    return {"num_updates": "num_updates"} if "num_updates" in inspect.signature(recipe).parameters else {}


def remembered(recipe: Recipe, spec: Spec, options: Mapping[str, Any]) -> Any:
    """The memory that the environment has to feed back to a recipe's agent, None for none.

    Args:
      recipe: one that says what its agent remembers, by ``jaxrl.signature.recipe(remembers=...)``, or any other.
      spec: of the environment.
      options: those that are given; the others have their defaults.
    """
    memory = getattr(recipe, "remembers", None)
    if memory is None:
        return None
    defaults = {name: each.default for name, each in inspect.signature(recipe).parameters.items()}
    return memory(spec, {**defaults, **options})


def summary(recipe: str | Recipe) -> str:
    """The first line of a recipe's docstring, as plain text."""
    return (docstring_parser.parse(find_recipe(recipe).__doc__ or "").short_description or "").replace("``", "")
