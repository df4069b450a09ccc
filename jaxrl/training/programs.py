"""Compares the programs of an agent as text and constants, to test whether each option of a recipe has an effect."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from jaxrl.training.options import CONTEXTS, Context, alternative, is_float, is_number, parameters
from jaxrl.training.subject import ConformanceError, Subject, require
from jaxrl.types import Agent, Box, Spec

Program = tuple[str, tuple[bytes, ...]]


def _reduced(function: Callable[..., Any], args: Any) -> tuple[Any, list[Any], list[bool]]:
    """The jaxpr of a function without dead code, its constants, and which inputs it reads."""
    closed = jax.make_jaxpr(function)(*args)
    jaxpr, consts, inputs = partial_eval.dce_jaxpr_consts(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return jaxpr, [const for const, keep in zip(closed.consts, consts, strict=True) if keep], inputs


def program(function: Callable[..., Any], args: Any) -> Program:
    """The program of a function without dead code: its text and its constants.

    Args:
      function: function to trace, without a cache.
      args: pytrees of arrays or of ``jax.ShapeDtypeStruct``.
    """
    jaxpr, consts, _ = _reduced(lambda *args: function(*args), args)
    # The text of callbacks and custom derivatives contains memory addresses.
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))
    return text, tuple(_bytes(const) for const in [*consts, *_inner_constants(jaxpr)])


def reads(function: Callable[..., Any], floats: Mapping[str, float], *args: Any) -> set[str]:
    """The names of the floats that reach the outputs of ``function(floats, *args)`` as tracers, in one trace.

    Raises:
      jax.errors.JAXTypeError: a float can't be a tracer.
    """
    *_, inputs = _reduced(function, (dict(floats), *args))
    # The leaves of a dict are ordered by name.
    return {name for name, is_read in zip(sorted(floats), inputs, strict=False) if is_read}


def _inner_constants(jaxpr: Any) -> list[Any]:
    """The constants of nested programs, which the text does not show."""
    found: list[Any] = []
    for equation in jaxpr.eqns:
        found += [atom.val for atom in equation.invars if hasattr(atom, "val")]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "consts"):
                found += inner.consts
            if hasattr(inner, "eqns"):
                found += _inner_constants(getattr(inner, "jaxpr", inner))
    return found


def _bytes(const: Any) -> bytes:
    is_key = hasattr(const, "dtype") and jnp.issubdtype(const.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(const) if is_key else const).tobytes()


PARTS = ("update", "act", "init", "act with explore=False")


def _call(part: str, agent: Agent, num_envs: int, key: Any, state: Any, observation: Any, trajectory: Any) -> Any:
    if part == "update":
        return agent.update(key, state, trajectory)[0]
    if part == "init":
        return agent.init(key, num_envs)
    return agent.act(key, state, observation, explore=part == "act")


def programs(subject: Subject, agent: Agent, spec: Spec) -> dict[str, Callable[[], Program]]:
    """The programs of an agent's functions without metrics; each is traced on first use."""
    shapes = subject.shapes if agent is subject.agent else subject.abstract(agent, spec)
    args = (subject.key, *shapes)
    return {part: partial(program, partial(_call, part, agent, subject.num_envs), args) for part in PARTS}


class _Readers:
    """The parts that read float hyper-parameters as tracers; one trace of a part serves all hyper-parameters."""

    def __init__(self, subject: Subject, spec: Spec, given: dict[str, Any], floats: dict[str, float]) -> None:
        self.floats = floats
        self._make = lambda floats: subject.make(spec, **{**given, **floats})
        self._num_envs = subject.num_envs
        self._args = (subject.key, *subject.abstract(subject.make(spec, **{**given, **floats}), spec))
        self._read: dict[str, set[str]] = {}

    def first(self, name: str) -> str | None:
        """The first part that reads a float.

        Raises:
          jax.errors.JAXTypeError: a float can't be a tracer.
        """
        return next((part for part in PARTS if name in self._reads(part)), None)

    def _reads(self, part: str) -> set[str]:
        if part not in self._read:

            def run(floats: dict[str, Any], *args: Any) -> Any:
                return _call(part, self._make(floats), self._num_envs, *args)

            self._read[part] = reads(run, self.floats, *self._args)
        return self._read[part]


def _first_difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    return next((part for part in before if before[part]() != after[part]()), None)


def options_matter(subject: Subject) -> dict[str, str]:
    """Every option changes the program or the constants of init, act or update; floats do so as tracers.

    Metrics are ignored.

    Returns:
      For each option the first of update, act and init that it changes.

    Raises:
      ConformanceError: nothing reads an option, no other value of it can be derived, or a float with default None can't
        be a tracer (``vmaps_over_floats`` tests the other floats).
    """
    known = parameters(subject.make_agent)
    unknown = sorted({*subject.options, *subject.contexts} - set(known))
    require(not unknown, "options_matter", f"the recipe has no option {', '.join(unknown)}")
    contexts = {**CONTEXTS, **{name: Context(options) for name, options in subject.contexts.items()}}
    bases: dict[str, Any] = {}
    changed = {}
    for name, option in known.items():
        context = contexts.get(name, Context())
        given = {other: value for other, value in context.options.items() if other in known}
        spec = subject.spec
        if context.action is not None and not isinstance(spec.action, Box):
            spec = spec._replace(action=context.action)
        base = f"{given} {spec.action}"
        if base not in bases:
            made = programs(subject, subject.make(spec, **given), spec)
            cached = {part: cache(trace) for part, trace in made.items()}
            floats = {other: given.get(other, value) for other, value in subject.floats.items()}
            floats = {other: value for other, value in floats.items() if is_number(value)}
            bases[base] = cached, _Readers(subject, spec, given, floats)
        programs_before, readers = bases[base]
        if name in readers.floats and name not in subject.options:
            try:
                part, traced = readers.first(name), True
            except jax.errors.JAXTypeError:
                part, traced = None, False
        else:
            part, traced = _first_reader(subject, spec, given, name, option)
        read = part is not None
        part = part or _first_difference(programs_before, _altered(subject, spec, given, name, option))
        require(part, "options_matter", f"option {name!r} changes nothing: another value gives the same programs")
        message = f"option {name!r} is read as a plain float only, as a tracer it changes nothing"
        require(read or not traced, "options_matter", message)
        changed[name] = str(part)
    return changed


def _first_reader(
    subject: Subject, spec: Spec, given: dict[str, Any], name: str, option: inspect.Parameter
) -> tuple[str | None, bool]:
    """The first part that reads another value of an option as a tracer, and whether that value is a float."""
    if not is_float(option):
        return None, False
    other = _other(subject, given, name, option)
    if not is_number(other):
        return None, False
    try:
        with _refused(name, other, given):
            return _Readers(subject, spec, given, {name: float(other)}).first(name), True
    except jax.errors.JAXTypeError as error:
        raise ConformanceError(f"options_matter: option {name!r} can't be a tracer: {error}") from error


def _other(subject: Subject, given: dict[str, Any], name: str, option: inspect.Parameter) -> Any:
    """Another value of an option."""
    if name in subject.options:
        return subject.options[name]
    try:
        return alternative(name, option, given.get(name, option.default))
    except LookupError as error:
        raise ConformanceError(f"options_matter: {error}, give options={{{name!r}: ...}}") from error


def _altered(
    subject: Subject, spec: Spec, given: dict[str, Any], name: str, option: inspect.Parameter
) -> dict[str, Callable[[], Program]]:
    """The programs with another value of an option."""
    other = _other(subject, given, name, option)
    with _refused(name, other, given):
        return programs(subject, subject.make(spec, **{**given, name: other}), spec)


@contextmanager
def _refused(name: str, other: Any, given: dict[str, Any]) -> Iterator[None]:
    """Adds the refused value to a recipe's error."""
    try:
        yield
    except jax.errors.JAXTypeError:  # also a TypeError, but with another cause
        raise
    except (TypeError, ValueError) as error:
        raise ConformanceError(
            f"options_matter: {name}={other!r} with {given} is refused, give another value in options= or what it "
            f"needs in contexts=: {error}"
        ) from error
