"""Argument parsing of all commands: tyro's parser with custom number formats and messages."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxrl.arguments import nearest
from jaxrl.cli.errors import UsageError
from jaxrl.cli.rejection import one_line_errors

T = TypeVar("T")


def whole_number(text: str) -> int:
    """Reads an integer, also written as 1e6, 1_000_000, 100k, 1.5M or 1G.

    Raises:
      ValueError: the text is not an integer, or has more than 64 bits.
    """
    unit = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}.get(text[-1:].lower())
    try:
        exact = Decimal(text[:-1]) * unit if unit else Decimal(text)
    except (ValueError, ArithmeticError):
        exact = Decimal("nan")
    if exact.is_finite() and not -(2**63) < exact < 2**63:
        raise ValueError(f"got '{text}', must be an integer below 2**63")
    if not exact.is_finite() or exact != int(exact):
        raise ValueError(f"got '{text}', must be an integer")
    return int(exact)


def number(text: str) -> float:
    """Reads a number.

    Raises:
      ValueError: the text is not a number.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"got '{text}', must be a number") from None


def swept_value(words: Sequence[str]) -> tuple[float, ...] | dict[str, float] | None:
    """Reads ``--value`` of a sweep: numbers in its order, or ``NAME=NUMBER`` pairs; None if nothing is given.

    Raises:
      UsageError: anything else.
    """
    parts = [part for word in words for part in word.split(",") if part]
    pairs = [part.partition("=") for part in parts]
    try:
        if all(equals for _, equals, _ in pairs):
            return {name.strip().replace("-", "_"): number(text) for name, _, text in pairs} or None
        return tuple(map(number, parts))
    except ValueError as error:
        raise UsageError(f"--value: {error}, as in 1e-3 0.99, or NAME=NUMBER") from None


class _Kind(NamedTuple):
    name: str
    read: Callable[[str], Any]


_KINDS: dict[type, _Kind] = {int: _Kind("INT", whole_number), float: _Kind("FLOAT", number)}

NUMBERS = ConstructorRegistry()
"""Rules by which flags read numbers: ``INT``, ``FLOAT``, either of them ``|None``, or several, by spaces or commas."""


@NUMBERS.primitive_rule
def _one(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    kind = _KINDS.get(info.type)
    if kind is None:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.name,
        instance_from_str=lambda words: kind.read(words[0]),
        is_instance=lambda value: isinstance(value, int | float),
        str_from_instance=lambda value: [str(value)],
    )


@NUMBERS.primitive_rule
def _one_or_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    kinds = [_KINDS[kind] for kind in typing.get_args(info.type) if kind in _KINDS]
    is_optional = info.type_origin in (typing.Union, types.UnionType) and type(None) in typing.get_args(info.type)
    if not is_optional or len(kinds) != 1 or len(typing.get_args(info.type)) != 2:
        return None

    def read(words: list[str]) -> Any:
        try:
            return None if words[0].lower() == "none" else kinds[0].read(words[0])
        except ValueError as error:
            raise ValueError(f"{error} or None") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{kinds[0].name}|None",
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, int | float),
        str_from_instance=lambda value: [str(value)],
    )


@NUMBERS.primitive_rule
def _several(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    kind = _KINDS.get(next(iter(typing.get_args(info.type)), type(None)))
    several = info.type_origin is collections.abc.Sequence or typing.get_args(info.type)[1:] == (...,)
    if kind is None or not several:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{kind.name} ...",
        instance_from_str=lambda words: tuple(kind.read(part) for word in words for part in word.split(",") if part),
        is_instance=lambda value: isinstance(value, tuple | list),
        str_from_instance=lambda value: [str(item) for item in value],
    )


def parse(
    kind: type[T],
    arguments: Sequence[str],
    *,
    prog: str,
    flags: Iterable[str] | None = None,
    elsewhere: Callable[[], Mapping[str, str]] = dict,
    **described: Any,
) -> T:
    """Reads arguments into a dataclass.

    Args:
      kind: the dataclass.
      arguments: the arguments after the command.
      prog: the name of the command.
      flags: the names of all flags; None takes the fields of ``kind``.
      elsewhere: flags that belong to something else, with a description of it for the message.
      **described: ``description`` and ``default`` of ``tyro.cli``.

    Raises:
      UsageError: a flag is unknown, a word belongs to no flag, or a value is missing or has the wrong type.
      SystemExit: raised for ``--help``.
    """
    about = _wrapped(described.pop("description", _paragraphs(kind.__doc__ or "")))
    with one_line_errors(prog):
        parsed, unknown = tyro.cli(
            kind,
            prog=prog,
            args=list(arguments),
            registry=NUMBERS,
            return_unknown_args=True,
            description=about,
            **described,
        )
    if unknown:
        known = flags if flags is not None else [as_flag(field.name) for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        raise UsageError(f"{_stranger(unknown[0], arguments, list(known), elsewhere)} ({prog} --help shows all)")
    return parsed


def _paragraphs(docstring: str) -> str:
    """A docstring with line breaks between paragraphs only."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(docstring).split("\n\n"))


class _Set(str):
    """A text whose lines tyro keeps: tyro would join them, so it is told that there is only one."""

    __slots__ = ()

    def split(self, *arguments: Any) -> list[str]:
        """The text."""
        return [self]


def _wrapped(text: str) -> str:
    """The text, wrapped at the terminal's width."""
    width = shutil.get_terminal_size().columns
    fill = textwrap.TextWrapper(width, break_on_hyphens=False).fill
    return _Set("\n".join(fill(line) if line[:1].strip() else line for line in text.split("\n")))


def as_flag(name: str) -> str:
    """``num_envs`` -> ``--num-envs``."""
    return "--" + name.replace("_", "-")


def _stranger(word: str, arguments: Sequence[str], known: list[str], elsewhere: Callable[[], Mapping[str, str]]) -> str:
    if not word.startswith("--"):
        return _extra(word, arguments, known)
    flag = word.partition("=")[0].replace("_", "-")
    # "--hidden" means "--torso.hidden", though "--help" is as close in spelling, and other recipes have "--hidden".
    last = [name for name in known if name.rpartition(".")[2] == flag.lstrip("-")]
    others = elsewhere()
    if flag in others and not last:
        return f"{flag} is {others[flag]}"
    hint = f", did you mean {' or '.join(map(repr, last))}?" if last else nearest(flag, known)
    return f"unknown flag '{flag}'{hint}"


def _extra(word: str, arguments: Sequence[str], known: list[str]) -> str:
    """The message about a word that belongs to no flag."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name = before if argument == word else argument.partition("=")[0]
        flag = name.replace("_", "-").replace("--no-", "--")
        if argument in (word, f"{name}={word}") and flag in known:
            return f"{flag}: got '{word}', takes no value; write {flag} or --no-{flag[2:]}"
        if argument == word and before:
            joined = "; join several values by commas" if "=" in before else ""
            return f"unexpected '{word}' after '{before}'{joined}"
    return f"unexpected '{word}'"
