"""Every public function of types at the edges of every float dtype: one row each."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl import types

from .edges import DTYPES, FEW, A, N, Row, check, covered, functions


def top_of(x):
    return float(jnp.finfo(x.dtype).max)


def box(q, grid):
    """A box between the ends of a grid, those of the dtype among them, and of one without a lower bound."""
    low, high = np.float64(4.0 * grid[0]), np.float64(4.0 * grid[-1])
    return types.Box((A,), low, high).from_unit(q), types.Box((A,), -np.inf, high).from_unit(q)


def between_bounds(result, q, grid):
    bounded, half = (np.asarray(x, float) for x in result)
    low, high = 4.0 * float(grid[0]), 4.0 * float(grid[-1])
    assert (bounded >= low).all() and (bounded <= high).all() and (half <= high).all()
    np.testing.assert_array_equal(bounded[np.asarray(q) >= 1], high)
    np.testing.assert_array_equal(bounded[np.asarray(q) <= -1], low)


def passed_on(result, q, mask):
    for x in result[:2]:
        np.testing.assert_array_equal(x, q)
    np.testing.assert_array_equal(result[2], mask)


ROWS = {
    "Box.from_unit": Row("qg", box, between_bounds),
    "Spec.zeros": Row(
        "q",
        lambda q: types.Spec(jax.ShapeDtypeStruct(q.shape, q.dtype), types.Discrete(2)).zeros(3),
        lambda result, q: np.testing.assert_array_equal(result, np.zeros((3, N, A))),
    ),
    "features memory action_mask": Row(
        "qm",
        lambda q, mask: (
            types.features(q),
            types.memory(types.Observation(q, memory=q)),
            types.action_mask(types.Observation(q, action_mask=mask)),
        ),
        passed_on,
    ),
}


def test_every_public_function_has_a_row():
    public = functions(types)
    for name, kind in inspect.getmembers(types, inspect.isclass):
        if kind.__module__ == types.__name__ and not getattr(kind, "_is_protocol", False):
            public |= {
                f"{name}.{method}" for method, _ in inspect.getmembers(kind, inspect.isfunction) if method[0] != "_"
            }
    assert covered(ROWS) == public


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
@FEW
@given(data=st.data())
def test_at_the_edges_of_its_dtype(name, dtype, data):
    check(ROWS[name], dtype, data)
