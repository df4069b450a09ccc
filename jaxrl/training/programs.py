"""The programs of an agent as text and constants, to be compared: does each option of a recipe do anything?"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from jaxrl.training.options import CONTEXTS, Context, alternative, is_number, parameters
from jaxrl.training.subject import ConformanceError, Subject, require
from jaxrl.types import Agent, Box, Spec

Program = tuple[str, tuple[bytes, ...]]


def _reduced(function: Callable[..., Any], args: Any) -> tuple[Any, list[Any], list[bool]]:
    """The jaxpr of a function without what does not reach its outputs, its constants, and which inputs it reads."""
    closed = jax.make_jaxpr(function)(*args)
    jaxpr, consts, inputs = partial_eval.dce_jaxpr_consts(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return jaxpr, [const for const, keep in zip(closed.consts, consts, strict=True) if keep], inputs


def program(function: Callable[..., Any], args: Any) -> Program:
    """The program of a function without what does not reach its outputs: its text, and its constants.

    Args:
      function: traced anew, whatever was traced before.
      args: of arrays or of ``jax.ShapeDtypeStruct``.
    """
    jaxpr, consts, _ = _reduced(lambda *args: function(*args), args)
    # Callbacks and custom derivatives are printed with their addresses.
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))
    return text, tuple(_bytes(const) for const in [*consts, *_inner_constants(jaxpr)])


def _inner_constants(jaxpr: Any) -> list[Any]:
    """The constants of the programs inside of a program, which its text does not show."""
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
    """The programs of an agent's functions, metrics apart; each is traced when it is called for."""
    shapes = subject.shapes if agent is subject.agent else subject.abstract(agent, spec)
    args = (subject.key, *shapes)
    return {part: partial(program, partial(_call, part, agent, subject.num_envs), args) for part in PARTS}


class _Readers:
    """Which parts read each float hyper-parameter, in one trace of a part for all of them."""

    def __init__(self, subject: Subject, spec: Spec, given: dict[str, Any]) -> None:
        floats = {name: given.get(name, value) for name, value in subject.floats.items()}
        self.floats = {name: value for name, value in floats.items() if is_number(value)}
        self._make = lambda floats: subject.make(spec, **{**given, **floats})
        self._num_envs = subject.num_envs
        self._args = (subject.key, *subject.abstract(subject.make(spec, **given), spec))
        self._read: dict[str, set[str]] = {}

    def first(self, name: str) -> str | None:
        """The first part that reads a float."""
        return next((part for part in PARTS if name in self._reads(part)), None)

    def _reads(self, part: str) -> set[str]:
        if part not in self._read:

            def run(floats: dict[str, Any], *args: Any) -> Any:
                return _call(part, self._make(floats), self._num_envs, *args)

            *_, inputs = _reduced(run, (self.floats, *self._args))
            # The leaves of a dict lie in the order of its names.
            self._read[part] = {name for name, is_read in zip(sorted(self.floats), inputs, strict=False) if is_read}
        return self._read[part]


def _first_difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    return next((part for part in before if before[part]() != after[part]()), None)


def options_matter(subject: Subject) -> dict[str, str]:
    """Every option changes the program of init, act or update, or their constants; floats as tracers, too.

    Metrics do not count.

    Returns:
      The first of update, act and init that each option changes.

    Raises:
      ConformanceError: an option that nothing reads, or one that no other value can be derived for.
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
            bases[base] = cached, _Readers(subject, spec, given)
        programs_before, readers = bases[base]
        traced, part = False, None
        if name in readers.floats and name not in subject.options:
            with suppress(jax.errors.JAXTypeError):  # a float that can't be a tracer: vmaps_over_floats says so
                part, traced = readers.first(name), True
        read = part is not None
        part = part or _first_difference(programs_before, _altered(subject, spec, given, name, option))
        require(part, "options_matter", f"option {name!r} changes nothing: another value gives the same programs")
        message = f"option {name!r} is read as a plain float only, as a tracer it changes nothing"
        require(read or not traced, "options_matter", message)
        changed[name] = str(part)
    return changed


def _altered(
    subject: Subject, spec: Spec, given: dict[str, Any], name: str, option: inspect.Parameter
) -> dict[str, Callable[[], Program]]:
    """The programs with another value of an option."""
    try:
        default = given.get(name, option.default)
        other = subject.options[name] if name in subject.options else alternative(name, option, default)
        return programs(subject, subject.make(spec, **{**given, name: other}), spec)
    except LookupError as error:
        raise ConformanceError(f"options_matter: {error}, give options={{{name!r}: ...}}") from error
    except (TypeError, ValueError) as error:
        raise ConformanceError(
            f"options_matter: {name}={other!r} with {given} is refused, give another value in options= or what it "
            f"needs in contexts=: {error}"
        ) from error
