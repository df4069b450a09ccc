"""Checks of arguments on the host, before anything is traced: they name it, what was given, and what is allowed."""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Callable, Iterable
from typing import Any

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


ANY, NON_NEGATIVE, POSITIVE = Range("(-inf, inf)"), Range("[0, inf)"), Range("(0, inf)")
UNIT, INNER_UNIT = Range("[0, 1]"), Range("(0, 1)")


def check_float(name: str, value: Any, allowed: Range, optional: bool = False) -> None:
    """Refuses a number outside its range; tracers and arrays under a trace pass, their values being unknown.

    Raises:
      TypeError: not a number.
      ValueError: out of range, or not finite.
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
    """As JAX sees it, which knows bfloat16."""
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuses what is no whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: got {value!r}, must be a whole number")
    if value < least:
        raise ValueError(f"{name}: got {value}, must be at least {least}")


def check_callable(name: str, value: Any, takes: str) -> None:
    """Refuses what can't be called."""
    if not isinstance(value, Callable):  # type: ignore[arg-type]
        raise TypeError(f"{name}: got {value!r}, must be {takes}")


def check_key(key: Any) -> None:
    """Refuses what is no key, or more than one; a raw key of two or four uint32 passes, as everywhere in JAX."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_key = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not is_key and not (dtype == np.uint32 and shape in ((2,), (4,))):
        # A key forgotten leaves the parameters in its place: their type says enough.
        short = repr(key) if key is None or np.isscalar(key) else type(key).__name__
        given = f"{dtype}{list(shape)}" if shape is not None else short
        raise TypeError(f"key: got {given}, must be one key such as jax.random.key(0); the key comes first")


def _initials(name: str) -> str:
    return "".join(word[0] for word in re.split(r"[-_.]+", name) if word)


def nearest(word: str, options: Iterable[str]) -> str:
    """The options closest to ``word`` as the middle of a sentence: ``", did you mean 'ppo'?"``, or nothing.

    Case and leading dashes don't count. Prefixes count as close ("cartpole" is near to "CartPole-v1"), and initials do
    ("lr" is near to "learning_rate").
    """
    word, by_lower = word.lower().strip("-"), {option.lower().strip("-"): option for option in options}
    close = difflib.get_close_matches(word, by_lower, n=3)
    close = difflib.get_close_matches(word, close, n=3, cutoff=0.85) or close
    # By edit distance "cartpole" is a long way from "cartpole-v1".
    close += [option for option in by_lower if len(word) > 2 and option.startswith(word) and option not in close]
    close = close or [option for option in by_lower if _initials(option) == word]
    return f", did you mean {' or '.join(repr(by_lower[option]) for option in close[:3])}?" if close else ""
