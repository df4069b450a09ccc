"""Recipes and torsos by name, and what can be set of them, read from their signatures and docstrings."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import docstring_parser
import flax.linen as nn

from jaxrl import agents, networks
from jaxrl.types import Agent

RECIPES: dict[str, Callable[..., Agent]] = {name: getattr(agents, name) for name in sorted(agents.__all__)}
TORSOS: dict[str, type[nn.Module]] = {"mlp": networks.MLP, "conv": networks.Conv}

FILLED_IN = frozenset({"num_updates"})
"""Arguments that follow from the budget, and so are nobody's to set."""

_SCALARS = (bool, int, float, str, type(None))


class UnknownName(ValueError):
    """No recipe, torso or hyper-parameter has this name."""


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


def nearest(word: str, options: Iterable[str]) -> str:
    """The options closest to ``word`` as the middle of a sentence: ``", did you mean 'ppo'?"``, or nothing."""
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3)
    return f", did you mean {' or '.join(repr(by_lower[option]) for option in close)}?" if close else ""


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """``table[name]``, or an error with the nearest right name and all there are.

    Raises:
      UnknownName: no such name.
    """
    if name not in table:
        raise UnknownName(f"unknown {kind} '{name}'{nearest(name, table)} ({kind}s: {', '.join(table)})")
    return table[name]


def _is_plain(annotation: Any) -> bool:
    """Whether values of the type can be written in a flag and in JSON: scalars, and sequences of them."""
    if annotation in _SCALARS:
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return all(argument in _SCALARS for argument in arguments)
    return origin in (Sequence, tuple) and all(argument in (*_SCALARS, ...) for argument in arguments)


def _documented(docstring: str | None) -> dict[str, str]:
    """The lines of the sections Args and Attributes, by name."""
    parsed = docstring_parser.parse(docstring or "")
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}


def hyperparameters(recipe: str) -> dict[str, Parameter]:
    """The hyper-parameters of a recipe: the arguments of a plain type, without those of ``FILLED_IN``.

    Raises:
      UnknownName: no such recipe.
    """
    maker = lookup("recipe", recipe, RECIPES)
    annotations, documented = typing.get_type_hints(maker), _documented(maker.__doc__)
    return {
        name: Parameter(name, annotations[name], argument.default, documented.get(name, ""))
        for name, argument in inspect.signature(maker).parameters.items()
        if name not in FILLED_IN and _is_plain(annotations.get(name))
    }


def torso_parameters(torso: str) -> dict[str, Parameter]:
    """The sizes of a torso: the fields of its Flax module.

    Raises:
      UnknownName: no such torso.
    """
    module = lookup("torso", torso, TORSOS)
    annotations, documented = typing.get_type_hints(module), _documented(module.__doc__)
    return {
        field.name: Parameter(field.name, annotations[field.name], field.default, documented.get(field.name, ""))
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name") and _is_plain(annotations[field.name])
    }


def torso_name(module: nn.Module) -> str:
    """The name of a torso's class in ``TORSOS``."""
    return next(name for name, cls in TORSOS.items() if type(module) is cls)


def summary(recipe: str) -> str:
    """The first line of a recipe's docstring."""
    return docstring_parser.parse(lookup("recipe", recipe, RECIPES).__doc__ or "").short_description or ""
