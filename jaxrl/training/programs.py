"""Compares the programs of an agent as text and constants, to test whether each option of a recipe has an effect."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from jaxrl.training.options import CONTEXTS, Context, alternative, is_float, is_number, parameters
from jaxrl.training.subject import ConformanceError, Subject, require
from jaxrl.types import Agent, Box, PyTree, Spec

Program = tuple[str, tuple[bytes, ...]]


def _reduced(closed: Any) -> tuple[Any, list[Any], list[bool]]:
    """The jaxpr without dead code, its constants, and which inputs it reads."""
    jaxpr, consts, inputs = partial_eval.dce_jaxpr_consts(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return jaxpr, [const for const, keep in zip(closed.consts, consts, strict=True) if keep], inputs


def program(function: Callable[..., Any], args: Any) -> tuple[Program, PyTree]:
    """The program of a function without dead code, and the shapes of its results, from one trace.

    Args:
      function: function to trace, without a cache.
      args: pytrees of arrays or of ``jax.ShapeDtypeStruct``.
    """
    closed, shapes = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)
    jaxpr, consts, _ = _reduced(closed)
    # The text of callbacks and custom derivatives contains memory addresses.
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))
    return (text, tuple(_bytes(const) for const in [*consts, *_inner_constants(jaxpr)])), shapes


def reads(function: Callable[..., Any], floats: Mapping[str, float], *args: Any) -> set[str]:
    """The names of the floats that reach the outputs of ``function(floats, *args)`` as tracers, in one trace.

    Raises:
      jax.errors.JAXTypeError: a float can't be a tracer.
    """
    *_, inputs = _reduced(jax.make_jaxpr(function)(dict(floats), *args))
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


PARTS = ("init", "act", "update", "act with explore=False")
"""The functions of an agent, the cheapest to trace first."""


def _call(part: str, agent: Agent, num_envs: int, *args: Any) -> Any:
    if part == "update":
        return agent.update(*args)[0]
    if part == "init":
        return agent.init(args[0], num_envs)
    return agent.act(*args, explore=part == "act")


class Programs:
    """The programs of an agent's functions without metrics; each is traced once, when it is first asked for."""

    def __init__(self, subject: Subject, agent: Agent, spec: Spec) -> None:
        self.num_envs = subject.num_envs
        self._subject, self._agent = subject, agent
        self._observation = subject.observed(spec)
        self._traced: dict[str, tuple[Program, PyTree]] = {}

    def __getitem__(self, part: str) -> Program:
        return self._trace(part)[0]

    def args(self, part: str) -> tuple[Any, ...]:
        """The arguments of a part, the key first, as shapes and dtypes."""
        if part == "init":
            return (self._subject.key,)
        state = self._trace("init")[1]
        if part == "update":
            return self._subject.key, state, self._subject.travelled(self._observation, *self._trace("act")[1])
        return self._subject.key, state, self._observation

    def _trace(self, part: str) -> tuple[Program, PyTree]:
        if part not in self._traced:
            self._traced[part] = program(partial(_call, part, self._agent, self.num_envs), self.args(part))
        return self._traced[part]


@lru_cache(maxsize=1)
def own_programs(subject: Subject) -> Programs:
    """The programs of the agent under test, for all properties."""
    return Programs(subject, subject.agent, subject.spec)


class _Readers:
    """The parts that read float hyper-parameters as tracers; one trace of a part serves all hyper-parameters.

    Args:
      make: ``(**floats) -> Agent``.
      floats: the hyper-parameters by name.
      programs: those of the agent with these floats.
    """

    # Most of them reach the update.
    ORDER = ("update", "act", "init", "act with explore=False")

    def __init__(self, make: Callable[..., Agent], floats: dict[str, float], programs: Programs) -> None:
        self.floats, self._make, self._programs = floats, make, programs
        self._read: dict[str, set[str]] = {}

    def first(self, name: str) -> str | None:
        """The first part that reads a float.

        Raises:
          jax.errors.JAXTypeError: a float can't be a tracer.
        """
        return next((part for part in self.ORDER if name in self._reads(part)), None)

    def _reads(self, part: str) -> set[str]:
        if part not in self._read:

            def run(floats: dict[str, Any], *args: Any) -> Any:
                return _call(part, self._make(**floats), self._programs.num_envs, *args)

            self._read[part] = reads(run, self.floats, *self._programs.args(part))
        return self._read[part]


def options_matter(subject: Subject) -> dict[str, str]:
    """Every option changes the program or the constants of init, act or update; floats do so as tracers.

    Metrics are ignored.

    Returns:
      For each option a part that it changes: of init, act and update the first that is found.

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
            make = partial(subject.make, spec, **given)
            own = not given and spec is subject.spec
            before = own_programs(subject) if own else Programs(subject, make(), spec)
            floats = {other: given.get(other, value) for other, value in subject.floats.items()}
            floats = {other: value for other, value in floats.items() if is_number(value)}
            bases[base] = before, _Readers(make, floats, before)
        before, readers = bases[base]
        if name in readers.floats and name not in subject.options:
            try:
                part, traced = readers.first(name), True
            except jax.errors.JAXTypeError:
                part, traced = None, False
        else:
            part, traced = _first_reader(subject, spec, given, name, option)
        read = part is not None
        part = part or _first_difference(before, subject, spec, given, name, option)
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
            make, floats = partial(subject.make, spec, **given), {name: float(other)}
            return _Readers(make, floats, Programs(subject, make(**floats), spec)).first(name), True
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


def _first_difference(
    before: Programs, subject: Subject, spec: Spec, given: dict[str, Any], name: str, option: inspect.Parameter
) -> str | None:
    """The first part that another value of an option changes."""
    other = _other(subject, given, name, option)
    with _refused(name, other, given):
        after = Programs(subject, subject.make(spec, **{**given, name: other}), spec)
        return next((part for part in PARTS if before[part] != after[part]), None)


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
