"""Sum trees against plain arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl.replay import Slot, sum_tree

# One level, a full block, a block begun, three levels: the end of the ring inside a block and at its end.
GEOMETRIES = [(1, 2), (8, 1), (9, 2), (70, 2)]
LENGTHS = [1, 3, 9, 20]
BATCH = 5

set_rows, set_slots, find = jax.jit(sum_tree.set_rows), jax.jit(sum_tree.set_slots), jax.jit(sum_tree.find)


def leaves(tree, rows):
    """The values ``[rows, B]``, and that nothing lies behind the last row."""
    flat = np.asarray(tree.levels[0]).transpose(0, 2, 1).reshape(-1, tree.levels[0].shape[1])
    assert not flat[rows:].any()
    return flat[:rows]


def assert_sums(tree):
    """Every node is the sum of its children."""
    for below, level in zip(tree.levels, tree.levels[1:], strict=False):
        sums = np.asarray(below).sum(-1)  # [nodes, B]
        nodes = np.asarray(level).transpose(0, 2, 1).reshape(-1, level.shape[1])
        np.testing.assert_array_equal(nodes[: len(sums)], sums)
        assert not nodes[len(sums) :].any()


small = st.integers(0, 3)
calls = st.one_of(
    st.tuples(st.just("rows"), st.integers(0, 69), st.sampled_from(LENGTHS), small),
    st.tuples(st.just("slots"), st.lists(st.tuples(st.integers(0, 69), small, small), min_size=BATCH, max_size=BATCH)),
)


@settings(deadline=None, max_examples=80)
@given(geometry=st.sampled_from(GEOMETRIES), history=st.lists(calls, max_size=6))
def test_values_sums_and_what_is_found(geometry, history):
    rows, num_envs = geometry
    tree, model = sum_tree.init(rows, num_envs), np.zeros(geometry)
    for kind, *arguments in history:
        if kind == "rows":
            first, length, value = arguments
            written = (first + np.arange(min(length, rows), dtype=np.int32)) % rows
            tree, model[written] = set_rows(tree, written, float(value)), value
        else:
            row, env, values = np.array(arguments[0], np.int32).T
            row, env = row % rows, env % num_envs
            tree = set_slots(tree, Slot(row, env), values.astype(np.float32))
            for slot in set(zip(row, env, strict=True)):
                model[slot] = max(v for *s, v in zip(row, env, values, strict=True) if tuple(s) == slot)
    np.testing.assert_array_equal(leaves(tree, rows), model)
    assert_sums(tree)
    assert sum_tree.total(tree) == model.sum()
    # A mass of k + 1/2 for every unit of value: each slot is found as often as its value says.
    slot, value = find(tree, jnp.arange(3 * 140) + 0.5)
    found, count = np.zeros(geometry), int(model.sum())
    np.add.at(found, (slot.row[:count], slot.env[:count]), 1)
    np.testing.assert_array_equal(found, model)
    np.testing.assert_array_equal(value[:count], model[slot.row[:count], slot.env[:count]])


@pytest.mark.parametrize(("rows", "lengths"), [(9, [2, 8, 9]), (20, [6, 11]), (601, [1, 3, 66, 600])])
def test_rows_are_summed_wherever_they_begin(rows, lengths):
    first = np.arange(rows, dtype=np.int32)
    for length in lengths:
        written = (first[:, None] + np.arange(length, dtype=np.int32)) % rows
        trees = jax.jit(jax.vmap(sum_tree.set_rows, (None, 0, None)))(sum_tree.init(rows, 2), written, 1.0)
        blocks = (written[..., None] // 8 == np.arange(trees.levels[0].shape[1])).sum(1)
        np.testing.assert_array_equal(trees.levels[0][:, :, 1].sum(-1), blocks)
        for below, level in zip(trees.levels, trees.levels[1:], strict=False):
            nodes = np.asarray(level).transpose(0, 1, 3, 2).reshape(rows, -1, 2)
            np.testing.assert_array_equal(nodes[:, : below.shape[1]], np.asarray(below).sum(-1))


@pytest.mark.parametrize("seed", range(3))
def test_rounding_never_finds_what_has_no_value(seed):
    """Masses at the very edges, values over many orders of magnitude: three slots of four are empty."""
    random = np.random.default_rng(seed)
    rows, num_envs = 70, 2
    row, env = (x.ravel() for x in np.indices((rows, num_envs), dtype=np.int32))
    values = np.exp(5 * random.normal(size=row.shape)) * (random.random(row.shape) < 0.25)
    tree = set_slots(sum_tree.init(rows, num_envs), Slot(row, env), values.astype(np.float32))
    mass = sum_tree.total(tree) * np.float32(random.random(2000))
    edges = np.cumsum(values.reshape(rows, num_envs).T).astype(np.float32)
    mass = jnp.concatenate([mass, edges, np.nextafter(edges, np.inf), jnp.full(9, sum_tree.total(tree))])
    slot, value = find(tree, mass)
    assert (value > 0).all()
    np.testing.assert_array_equal(value, leaves(tree, rows)[slot.row, slot.env])


def test_an_empty_tree_finds_a_slot():
    slot, value = find(sum_tree.init(70, 2), jnp.zeros(BATCH))
    assert ((slot.row >= 0) & (slot.row < 70) & (slot.env >= 0) & (slot.env < 2)).all()
    np.testing.assert_array_equal(value, 0.0)
