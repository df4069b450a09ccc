"""Extreme finite numbers in every float dtype, for the tables of public functions in tests/*/test_public.py.

A ``Row`` says by letters what a function takes, and what holds of the result. ``check`` lets hypothesis draw numbers at
the ends of a dtype, calls the function with them in that dtype and again in float64, and asserts

  - that no result is NaN, and every float result has the dtype that the row says;
  - that a result is finite wherever float64 says that the dtype can hold it, elsewhere finite or of the right sign;
  - what the row says beside: bounds, masses that sum to 1, legal actions.

Legend of shapes: T time, N a batch, A actions or atoms.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

DTYPES = ("float16", "bfloat16", "float32", "float64")
T, N, A = 3, 4, 5
FEW = settings(
    max_examples=4,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The same few examples in every session; smaller ones are not looked for, which takes minutes."""


class Row(NamedTuple):
    """How a public function is called at the edges of a dtype, and what holds of its result.

    Attributes:
      takes: a letter of ``KINDS`` for each argument.
      call: the function, the rest of its arguments bound.
      holds: asserts of ``(result, *arguments)``.
      share: of the largest number, what reals are drawn up to: 1 where nothing is added up.
      power: of the largest number, for squares.
      dtype: of float results: "same" as the arguments, "wide" for float32 at least, or a dtype.
      oracle: whether the function in float64 says what is finite; not where it draws numbers or depends on the dtype.
    """

    takes: str
    call: Callable[..., Any]
    holds: Callable[..., None] | None = None
    share: float = 1.0
    power: float = 1.0
    dtype: str = "same"
    oracle: bool = True


def rounded(x, dtype):
    """Numbers that a dtype holds, as float64."""
    return np.asarray(jnp.asarray(x, dtype), np.float64)


def reals(dtype, shape, largest):
    tiny, eps = (float(getattr(jnp.finfo(dtype), name)) for name in ("tiny", "eps"))
    special = [0.0, 1.0, -1.0, 0.3, -2.5, tiny, -tiny, eps, largest, -largest, 0.5 * largest, -0.75 * largest]
    special = [x for x in special if abs(x) <= largest]
    element = st.one_of(st.sampled_from(special), st.floats(-1.0, 1.0).map(lambda x: x * largest))
    drawn = arrays(np.float64, shape, elements=element, fill=st.nothing())
    return drawn.map(lambda x: rounded(np.where(np.abs(x) < tiny, 0.0, x), dtype))  # XLA flushes what is subnormal


def chosen(values, shape=()):
    pool = st.sampled_from(values)
    return pool if shape == () else arrays(np.asarray(values).dtype, shape, elements=pool, fill=st.nothing())


def probabilities(dtype):
    def softmax(x):
        weights = np.exp(x - x.max(-1, keepdims=True))
        return rounded(weights / weights.sum(-1, keepdims=True), dtype)

    return arrays(np.float64, (N, A), elements=st.floats(-30.0, 30.0), fill=st.nothing()).map(softmax)


def supports(dtype, size):
    """Increasing atoms of any spacing, up to a quarter of the largest number."""
    end, tiny = 0.25 * float(jnp.finfo(dtype).max), float(jnp.finfo(dtype).tiny)
    inner = np.linspace(0.25, 1.0, size - 2)
    return st.sampled_from(
        [
            rounded(np.linspace(-end, end, size), dtype),
            rounded(np.linspace(-1.0, 2.0, size), dtype),
            rounded(np.concatenate([[-end, 0.0], inner * end]), dtype),
            rounded(np.concatenate([[0.0, 64 * tiny], inner]), dtype),
        ]
    )


DISCOUNTS = (0.0, 1.0, -1.0, 0.5, -0.5)
KINDS: dict[str, Callable[..., Any]] = {
    "r": lambda dtype, largest: reals(dtype, (T, N), largest),
    "v": lambda dtype, largest: reals(dtype, (N,), largest),
    "q": lambda dtype, largest: reals(dtype, (N, A), largest),
    "d": lambda dtype, largest: chosen(DISCOUNTS, (T, N)),
    "e": lambda dtype, largest: chosen(DISCOUNTS, (N,)),
    "c": lambda dtype, largest: chosen((True, False), (T, N)),
    "m": lambda dtype, largest: chosen((True, False), (N, A)),
    "a": lambda dtype, largest: chosen(tuple(range(A)), (N,)),
    "n": lambda dtype, largest: chosen((0, 0, 1, 3, 50), (N, A)),
    "p": lambda dtype, largest: probabilities(dtype),
    "g": lambda dtype, largest: supports(dtype, A),
    "u": lambda dtype, largest: chosen((0.0, 1e-30, 0.1, 1.0)),
    "z": lambda dtype, largest: chosen((1e-30, 1e-8, 1.0, 1e4)),
    "k": lambda dtype, largest: chosen((0, 1, 2)),
}
"""Strategies by letter: Reals ``[T, N]``, Values ``[N]``, Q-values ``[N, A]``, Discounts ``[T, N]`` and ``[N]`` (e),
flags of Continuation ``[T, N]``, Masks ``[N, A]``, Actions ``[N]``, Numbers of visits ``[N, A]``, Probabilities
``[N, A]``, Grids ``[A]``, numbers in the Unit interval, numbers above Zero, and Keys."""


def cast(kind, x, dtype):
    if kind == "k":
        return jax.random.key(x)
    if kind in "uz":
        return x
    x = np.asarray(x)
    return jnp.asarray(x, {"f": dtype, "i": jnp.int32, "b": bool}[x.dtype.kind])


def check(row, dtype, data):
    """Draws arguments for a row and asserts what is said at the top."""
    with jax.enable_x64(True):
        top = float(jnp.finfo(dtype).max)
        drawn = [data.draw(KINDS[kind](dtype, row.share * top**row.power)) for kind in row.takes]
        given = [cast(kind, x, dtype) for kind, x in zip(row.takes, drawn, strict=True)]
        result = row.call(*given)
        wanted = {"same": dtype, "wide": jnp.promote_types(dtype, jnp.float32)}.get(row.dtype, row.dtype)
        found = [np.asarray(leaf, np.float64) for leaf in floats(result)]
        assert {str(leaf.dtype) for leaf in floats(result)} <= {str(jnp.dtype(wanted))}
        assert not any(np.isnan(leaf).any() for leaf in found), result
        if row.oracle and dtype != "float64":
            exact = floats(row.call(*(cast(kind, x, "float64") for kind, x in zip(row.takes, drawn, strict=True))))
            largest = float(jnp.finfo(wanted).max)
            for leaf, expected in zip(found, map(np.asarray, exact), strict=True):
                assert np.isfinite(leaf[np.abs(expected) <= 0.5 * largest]).all(), (leaf, expected)
                over = np.isinf(leaf)
                assert (np.sign(leaf[over]) == np.sign(expected[over])).all(), (leaf, expected)
        if row.holds is not None:
            row.holds(result, *given)


def floats(tree):
    """The float leaves of a result."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def functions(module):
    """The public functions that a module defines, by name."""
    members = inspect.getmembers(module, inspect.isfunction)
    return {name for name, function in members if name[0] != "_" and function.__module__ == module.__name__}


def public(package, *others):
    """The public functions of a package: ``name`` in its ``__all__``, and ``module.name`` in modules that are in there.

    Args:
      package: itself.
      others: names of more of its modules.
    """
    names = {name for name in package.__all__ if inspect.isfunction(getattr(package, name))}
    modules = [name for name in package.__all__ if inspect.ismodule(getattr(package, name))]
    for module in {*modules, *others}:
        names |= {f"{module}.{name}" for name in functions(import_module(f"{package.__name__}.{module}"))}
    return names


def covered(rows):
    """The functions that rows test: a key may name several."""
    return {name for key in rows for name in key.split()}


def sums_to_1(result, *_):
    result = np.asarray(result, np.float64)
    assert (result >= 0).all()
    np.testing.assert_allclose(result.sum(-1), 1.0, atol=0.03)


def within(low, high):
    def holds(result, *_):
        for leaf in floats(result):
            assert ((np.asarray(leaf, np.float64) >= low) & (np.asarray(leaf, np.float64) <= high)).all(), leaf

    return holds


def finite(result, *_):
    for leaf in floats(result):
        assert np.isfinite(np.asarray(leaf, np.float64)).all(), leaf


def legal(action, mask):
    """Actions ``[N]`` are legal where anything is."""
    action, mask = np.asarray(action), np.asarray(mask)
    assert action.dtype == np.int32 and ((action >= 0) & (action < mask.shape[-1])).all()
    assert (mask[np.arange(len(mask)), action] | ~mask.any(-1)).all()
