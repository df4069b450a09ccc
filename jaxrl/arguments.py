"""Checks of arguments on the host, before tracing. Messages say which argument, what was given and what is allowed.

An annotation can say what is allowed: ``gamma: Unit`` is ``Annotated[float, Range("[0, 1]")]``. ``check_argument``
checks a value against its annotation, and ``allowed`` writes the annotation as words, for messages and help texts.
"""

from __future__ import annotations

import collections.abc
import difflib
import inspect
import itertools
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Range:
    """An interval that a float must lie in; brackets as in ``[0, 1)``."""

    def __init__(self, text: str) -> None:
        self.text = text
        low, high = (float(bound) for bound in text[1:-1].split(","))
        self.low, self.high = low, high
        self.open_low, self.open_high = text[0] == "(", text[-1] == ")"

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __repr__(self) -> str:
        return self.text


class AtLeast(NamedTuple):
    """The integers from ``least`` on.

    Attributes:
      least: the smallest one allowed.
      traced: whether arrays and tracers are allowed too; the value of a tracer is unknown.
    """

    least: int
    traced: bool = False


ANY, NON_NEGATIVE, POSITIVE = Range("(-inf, inf)"), Range("[0, inf)"), Range("(0, inf)")
UNIT, INNER_UNIT = Range("[0, 1]"), Range("(0, 1)")

# Annotations, optional ones with `| None`. Floats may always be tracers.
Real = Annotated[float, ANY]
NonNegative = Annotated[float, NON_NEGATIVE]
Positive = Annotated[float, POSITIVE]
Unit = Annotated[float, UNIT]
InnerUnit = Annotated[float, INNER_UNIT]
Count = Annotated[int, AtLeast(1)]
CountOrZero = Annotated[int, AtLeast(0)]
TracedCount = Annotated[int, AtLeast(1, traced=True)]
TracedCountOrZero = Annotated[int, AtLeast(0, traced=True)]


def check_float(name: str, value: Any, allowed: Range, optional: bool = False) -> None:
    """Checks that a number is finite and in its range. Tracers are accepted, because their values are unknown.

    Raises:
      TypeError: it is not a number.
      ValueError: it is out of range, or not finite.
    """
    if (value is None and optional) or isinstance(value, jax.core.Tracer):
        return
    is_array = isinstance(value, (jax.Array, np.ndarray)) and value.ndim == 0 and _is_real(value.dtype)
    if not is_array and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise TypeError(f"{name}: got {value!r}, must be a number{' or None' if optional else ''}")
    number = float(value)
    if math.isnan(number) or math.isinf(number) or number not in allowed:
        raise ValueError(f"{name}: got {number}, must lie in {allowed.text}")


def _is_real(dtype: Any) -> bool:
    """Whether it is a floating dtype for JAX, which includes bfloat16."""
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Checks that a value is an integer, at least ``least``.

    Raises:
      TypeError: it is not an integer.
      ValueError: it is too small.
    """
    if not _is_whole(value):
        raise TypeError(f"{name}: got {value!r}, must be an integer")
    if value < least:
        raise ValueError(f"{name}: got {value}, must be at least {least}")


def check_callable(name: str, value: Any, takes: str) -> None:
    """Checks that a value can be called.

    Raises:
      TypeError: it cannot be called.
    """
    if not isinstance(value, Callable):  # type: ignore[arg-type]
        raise TypeError(f"{name}: got {value!r}, must be {takes}")


def require(error: Callable[[str], Exception], holds: Any, promise: str, message: str) -> None:
    """Raises ``error("promise: message")`` unless ``holds``."""
    if not holds:
        raise error(f"{promise}: {message}")


def check_key(key: Any) -> None:
    """Checks that a value is one PRNG key: a typed key, or a raw one of two or four uint32.

    Raises:
      TypeError: it is something else, or several keys.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_key = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not is_key and not (dtype == np.uint32 and shape in ((2,), (4,))):
        # Where the key was forgotten the next argument is in its place, and its type is enough for the message.
        short = repr(key) if key is None or np.isscalar(key) else type(key).__name__
        given = f"{dtype}{list(shape)}" if shape is not None else short
        raise TypeError(f"key: got {given}, must be one key such as jax.random.key(0); the key comes first")


def check_steps(shape: tuple[int, ...]) -> None:
    """Checks that a trajectory ``[T, B]`` has steps, for agents that learn from the trajectory itself.

    Args:
      shape: ``(T, B)``.

    Raises:
      ValueError: it is empty, as in a stage of rollout length 0.
    """
    length, num_envs = shape
    if not length * num_envs:
        raise ValueError(
            f"trajectory: got {length} steps of {num_envs} environments, must be at least 1 of 1, because this agent "
            "learns from the trajectory itself; give a rollout_length of at least 1"
        )


def _initials(name: str) -> str:
    return "".join(word[0] for word in re.split(r"[-_.]+", name) if word)


def nearest(word: str, options: Iterable[str]) -> str:
    """The options closest to ``word`` for an error message: ``", did you mean 'ppo'?"``, or nothing.

    Case and leading dashes are ignored. Prefixes count as close ("cartpole" to "CartPole-v1"), and so do initials ("lr"
    to "learning_rate").
    """
    word, by_lower = word.lower().strip("-"), {option.lower().strip("-"): option for option in options}
    close = difflib.get_close_matches(word, by_lower, n=3)
    close = difflib.get_close_matches(word, close, n=3, cutoff=0.85) or close
    # The edit distance from "cartpole" to "cartpole-v1" is large.
    close += [option for option in by_lower if len(word) > 2 and option.startswith(word) and option not in close]
    close = close or [option for option in by_lower if _initials(option) == word]
    return f", did you mean {' or '.join(repr(by_lower[option]) for option in close[:3])}?" if close else ""


def _members(hint: Any) -> tuple[list[Any], bool]:
    """The alternatives of an annotation except None, and whether None is one of them."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = list(typing.get_args(hint)) if is_union else [hint]
    return [member for member in members if member is not type(None)], type(None) in members


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The parts of ``Annotated[X, ...]``: X and the rest."""
    if typing.get_origin(hint) is Annotated:
        return hint.__origin__, hint.__metadata__
    return hint, ()


def allowed(hint: Any) -> str:
    """Words for what an annotation allows, such as "a number in [0, 1], or None"; empty for Any.

    For ``Annotated[X, text]`` they are the text.
    """
    members, optional = _members(hint)
    words = [_words(member) for member in members]
    if not all(words):
        return ""
    return " or ".join(words) + (", or None" if optional else "")


def bounds(hint: Any) -> str:
    """The range of a number as a sentence, "In [0, 1]." or "At least 1."; empty for an annotation without one."""
    for entry in itertools.chain.from_iterable(_unwrapped(member)[1] for member in _members(hint)[0]):
        if isinstance(entry, Range) and entry is not ANY:
            return f"In {entry.text}."
        if isinstance(entry, AtLeast):
            return f"At least {entry.least}."
    return ""


def _words(hint: Any) -> str:
    kind, metadata = _unwrapped(hint)
    for entry in metadata:
        if isinstance(entry, str):
            return entry
        if isinstance(entry, Range):
            return f"a number in {entry.text}" if entry is not ANY else "a number"
        if isinstance(entry, AtLeast):
            return f"an integer of at least {entry.least}"
    origin = typing.get_origin(kind) or kind
    if origin is Literal:
        return " or ".join(repr(value) for value in typing.get_args(kind))
    if _is_function(kind):
        return "a function"
    named = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
    named |= {tuple: "a tuple", collections.abc.Sequence: "a sequence", collections.abc.Mapping: "a dict"}
    return named.get(origin, f"a {origin.__name__}" if _is_checkable(origin) else "")


def _is_function(hint: Any) -> bool:
    """Whether it is ``Callable[...]`` or a protocol with ``__call__``."""
    is_protocol = inspect.isclass(hint) and getattr(hint, "_is_protocol", False)
    return typing.get_origin(hint) is collections.abc.Callable or (is_protocol and "__call__" in vars(hint))


def _is_checkable(hint: Any) -> bool:
    return inspect.isclass(hint) and hint is not Any and not getattr(hint, "_is_protocol", False)


def check_argument(name: str, value: Any, hint: Any) -> None:
    """Raises for a value that its annotation does not allow; unknown annotations (``Any``) allow everything.

    Args:
      name: name of the argument, for the message.
      value: the given value.
      hint: a resolved annotation: a class, ``Literal``, ``Callable``, a protocol, a tuple, ``Sequence`` or ``Mapping``
        of these, ``Annotated`` with a ``Range``, an ``AtLeast`` or a text that says what is allowed, and unions of all
        these. A plain ``int`` may be a tracer, ``Count`` may not.

    Raises:
      TypeError: the value has the wrong type.
      ValueError: the number is out of its range, or the choice is unknown.
    """
    members, optional = _members(hint)
    if value is None and optional:
        return
    problems: list[TypeError | ValueError] = []
    for member in members:
        try:
            return _check_member(name, value, member, hint)
        except (TypeError, ValueError) as error:
            problems.append(error)
    # The error of the alternative with the right type is more helpful.
    raise next((problem for problem in problems if isinstance(problem, ValueError)), problems[0])


def _check_member(name: str, value: Any, member: Any, hint: Any) -> None:
    """``check_argument`` for one alternative of ``hint``."""
    kind, metadata = _unwrapped(member)
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    wrong = TypeError(f"{name}: got {value!r}, must be {allowed(hint)}")
    if kind is float:
        interval = next((entry for entry in metadata if isinstance(entry, Range)), ANY)
        check_float(name, value, interval, optional=_members(hint)[1])
    elif kind is int:
        bound = next((entry for entry in metadata if isinstance(entry, AtLeast)), None)
        is_array = isinstance(value, (jax.Array, np.ndarray)) and value.ndim == 0
        if is_array and jnp.issubdtype(value.dtype, jnp.integer) and (bound is None or bound.traced):
            if bound is not None and not isinstance(value, jax.core.Tracer):
                check_count(name, int(value), bound.least)
            return
        if not _is_whole(value):
            raise wrong
        elif bound is not None:
            check_count(name, value, bound.least)
    elif kind is bool:
        if not isinstance(value, (bool, np.bool_)):
            raise wrong
    elif origin is Literal:
        if value not in arguments:
            raise ValueError(str(wrong))
    elif _is_function(kind):
        if not callable(value):
            raise wrong
    elif origin in (tuple, collections.abc.Sequence):
        if not isinstance(value, (tuple, list)):
            raise wrong
        for index, item in enumerate(value if arguments else ()):
            check_argument(f"{name}[{index}]", item, arguments[0])
    elif origin is collections.abc.Mapping:
        if not isinstance(value, collections.abc.Mapping):
            raise wrong
        for key, item in value.items() if arguments else ():
            check_argument(f"{name}[{key!r}]", item, arguments[1])
    elif _is_checkable(origin) and not isinstance(value, origin):
        raise wrong
