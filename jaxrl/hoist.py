"""A scan that moves computations that depend only on the scanned inputs before the loop, for all steps at once.

``hoist.scan(body, init, xs)`` equals ``jax.lax.scan(body, init, xs)``. Computations of the body that use ``x`` but not
the carry, such as random numbers from keys or the reset that each step of an environment prepares, are done in one
vectorised call before the loop. The time of a step of a small environment is mostly the dispatch of tiny kernels, and
this removes about half of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex

__all__ = ["scan"]

LARGE = 128
"""A result stays in the loop if it has more elements than this for each element of ``x``, such as each key."""

_PER_CALL = frozenset({"pure_callback", "io_callback"})
"""Primitives that stay in the loop because they may not support ``vmap``."""


class _Equation(NamedTuple):
    """An equation of the flattened program, with numbered values and with literals."""

    equation: Any
    name: str
    inputs: list[Any]
    outputs: list[int]


class _Program(NamedTuple):
    """A jaxpr with the bodies of nested ``jit`` calls inlined, and the numbers of its constants, inputs, outputs."""

    equations: list[_Equation]
    constants: dict[int, Any]
    inputs: list[int]
    outputs: list[Any]
    sizes: dict[int, int]


def _alone(jaxpr: Any, equation: Any) -> Any:
    """A jaxpr of one equation whose inputs are all arguments, for ``jax.core.eval_jaxpr``."""
    arguments = [jex.Var(atom.aval) for atom in equation.invars]
    renamed = equation.replace(invars=arguments)
    return jaxpr.replace(
        constvars=[],
        invars=arguments,
        outvars=equation.outvars,
        eqns=[renamed],
        effects=equation.effects,
    )


def _flatten(closed: Any) -> _Program:
    program = _Program([], {}, [], [], {})

    def number(variable: Any) -> int:
        index = len(program.sizes)
        program.sizes[index] = variable.aval.size
        return index

    def inline(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        names: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            names[variable] = number(variable)
            program.constants[names[variable]] = value
        read = lambda atom: atom if isinstance(atom, jex.Literal) else names[atom]  # noqa: E731
        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            if equation.primitive.name in ("pjit", "jit"):
                inner = equation.params["jaxpr"]
                outputs = inline(inner.jaxpr, inner.consts, inputs)
            else:
                outputs = [number(variable) for variable in equation.outvars]
                program.equations.append(_Equation(_alone(jaxpr, equation), equation.primitive.name, inputs, outputs))
            names.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    program.inputs.extend(number(variable) for variable in closed.jaxpr.invars)
    program.outputs.extend(inline(closed.jaxpr, closed.consts, program.inputs))
    return program


def _run(equations: Sequence[_Equation], values: dict[int, Any]) -> None:
    """Evaluates equations and stores the results in ``values``."""
    for equation, _, inputs, outputs in equations:
        arguments = [atom.val if isinstance(atom, jex.Literal) else values[atom] for atom in inputs]
        values.update(zip(outputs, jax.core.eval_jaxpr(equation, (), *arguments), strict=True))


def _split(program: _Program, inputs: set[int]) -> tuple[list[_Equation], list[_Equation], list[int]]:
    """The equations before the loop, those inside it, and the numbers of the early values that the loop reads.

    An equation moves if all its inputs are known before the loop and it has no side effect. Equations with large
    results stay, because a stack of these for all steps would take too much memory.
    """
    limit = LARGE * sum(program.sizes[index] for index in inputs)
    constant, known = set(program.constants), set(inputs)
    early: list[_Equation] = []
    late: list[_Equation] = []
    for entry in program.equations:
        sources = {atom for atom in entry.inputs if not isinstance(atom, jex.Literal)}
        pure = not entry.equation.effects and entry.name not in _PER_CALL
        if pure and sources <= constant:
            constant.update(entry.outputs)  # needed on both sides; the compiler moves it out of the loop
            early.append(entry)
            late.append(entry)
        elif pure and sources <= known | constant and all(program.sizes[index] <= limit for index in entry.outputs):
            known.update(entry.outputs)
            early.append(entry)
        else:
            late.append(entry)
    return early, late, _handed(program, late, known)


def _handed(program: _Program, late: Sequence[_Equation], known: set[int]) -> list[int]:
    """The early values that the loop reads or returns, each once."""
    used = [atom for entry in late for atom in entry.inputs] + program.outputs
    return list(dict.fromkeys(atom for atom in used if not isinstance(atom, jex.Literal) and atom in known))


def _draws_alike_under_vmap(xs: Any) -> bool:
    typed = [x for x in jax.tree.leaves(xs) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    kinds = {str(jax.random.key_impl(x)) for x in typed} or {str(jax.eval_shape(jax.random.key, 0).dtype)}
    return all("fry" in kind for kind in kinds)


def scan(body: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any) -> tuple[Any, Any]:
    """``jax.lax.scan(body, init, xs)`` with computations that depend only on ``xs`` moved before the loop.

    Args:
      body: ``(carry, x) -> (carry, y)``; equations with side effects stay in the loop.
      init: the initial carry.
      xs: leaves ``[T, ...]``, at least one. With keys of other kinds than threefry nothing is moved, because their
        random numbers change under ``vmap``.

    Returns:
      ``(carry, ys)``, the same as ``jax.lax.scan``.
    """
    if not _draws_alike_under_vmap(xs):
        return jax.lax.scan(body, init, xs)
    flat_init, carry_tree = jax.tree.flatten(init)
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    closed, (_, y_shape) = jax.make_jaxpr(body, return_shape=True)(init, first)
    program = _flatten(closed)
    num_carry = len(flat_init)
    early, late, handed = _split(program, set(program.inputs[num_carry:]))

    def before(x: Any) -> list[Any]:
        values = dict(program.constants)
        values.update(zip(program.inputs[num_carry:], jax.tree.leaves(x), strict=True))
        _run(early, values)
        return [values[index] for index in handed]

    def inside(carry: list[Any], given: list[Any]) -> tuple[list[Any], list[Any]]:
        values = dict(program.constants)
        values.update(zip(program.inputs[:num_carry], carry, strict=True))
        values.update(zip(handed, given, strict=True))
        _run(late, values)
        outputs = [atom.val if isinstance(atom, jex.Literal) else values[atom] for atom in program.outputs]
        return outputs[:num_carry], outputs[num_carry:]

    length = jax.tree.leaves(xs)[0].shape[0]
    carry, ys = jax.lax.scan(inside, flat_init, jax.vmap(before)(xs), length=length)
    return jax.tree.unflatten(carry_tree, carry), jax.tree.unflatten(jax.tree.structure(y_shape), ys)


def __dir__() -> list[str]:
    return sorted(__all__)
