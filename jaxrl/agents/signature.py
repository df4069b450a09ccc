"""Recipes that add a few arguments to another's: one signature and one docstring for people and tools."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

_SECTION = "    Args:\n"


def extends(base: Callable[..., Any], without: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Decorates ``recipe(spec, *, its own arguments, **options)``, whose options are those of ``base``.

    ``inspect.signature``, ``typing.get_type_hints`` and the docstring then show both, the recipe's own first, so that
    flags and help texts are made as for any other function. An option that neither knows is refused by name.

    Args:
      base: a function with keyword arguments, documented under ``Args``.
      without: arguments of ``base`` that the recipe sets itself.
    """

    def decorate(recipe: Any) -> Any:
        own = inspect.signature(recipe).parameters
        inherited = {
            name: parameter
            for name, parameter in inspect.signature(base).parameters.items()
            if name not in own and name not in without and parameter.kind is parameter.KEYWORD_ONLY
        }
        named = [parameter for parameter in own.values() if parameter.kind is not parameter.VAR_KEYWORD]
        hints = {**typing.get_type_hints(base), **typing.get_type_hints(recipe)}
        evaluated = [
            option.replace(annotation=hints.get(option.name, option.annotation))
            for option in (*named, *inherited.values())
        ]
        signature = inspect.Signature(evaluated)

        def checked(*args: Any, **options: Any) -> Any:
            unknown = [name for name in options if name not in signature.parameters]
            if unknown:
                raise TypeError(
                    f"{recipe.__name__}: unknown option {unknown[0]!r}; it takes {', '.join(signature.parameters)}"
                )
            return recipe(*args, **options)

        checked.__name__, checked.__qualname__, checked.__module__ = recipe.__name__, recipe.__name__, recipe.__module__
        checked.__doc__ = _joined(recipe.__doc__ or "", base.__doc__ or "", inherited)
        checked.__annotations__ = {name: hints[name] for name in (*signature.parameters, "return") if name in hints}
        checked.__signature__ = signature  # type: ignore[attr-defined]
        return checked

    return decorate


def _joined(own: str, base: str, inherited: Any) -> str:
    """The recipe's docstring with the lines of the inherited arguments at the end of its ``Args``."""
    lines = "".join(_entry(base, name) for name in inherited)
    head, section, tail = own.partition(_SECTION)
    arguments, blank, rest = tail.partition("\n\n")
    return f"{head}{section}{arguments}\n{lines.rstrip()}{blank}{rest}"


def _entry(docstring: str, name: str) -> str:
    """The lines of one argument, as they stand in the docstring."""
    _, _, tail = docstring.partition(_SECTION)
    lines = tail.split("\n\n")[0].split("\n")
    start = next(index for index, line in enumerate(lines) if line.startswith(f"      {name}: "))
    end = start + 1
    while end < len(lines) and lines[end].startswith("        "):
        end += 1
    return "\n".join(lines[start:end]) + "\n"
