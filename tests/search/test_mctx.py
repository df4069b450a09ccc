"""The whole tree equals mctx's, node by node, on random models without ties."""

import functools

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from jaxrl import search

POLICIES = {"puct": (search.puct, mctx.muzero_policy), "gumbel": (search.gumbel, mctx.gumbel_muzero_policy)}
SIZES = [(1, 2, 20), (5, 9, 40), (3, 40, 60), (70, 3, 90)]


@functools.lru_cache(maxsize=8)
def compiled(policy, make_game, num_actions, num_simulations, *options):
    """Our policy and mctx's on one model, all of mctx's own types: ``(key, root, invalid, discount)``.

    Options are those of both, or ours and theirs.
    """
    ours, theirs = POLICIES[policy]

    def step(discount):
        return functools.partial(make_game(num_actions, discount).step, make=mctx.RecurrentFnOutput)

    def run_ours(key, root, invalid, discount):
        return ours(key, (), root, step(discount), num_simulations, invalid, **dict(options[0]))

    def run_theirs(key, root, invalid, discount):
        return theirs((), key, root, step(discount), num_simulations, invalid, **dict(options[-1]))

    return jax.jit(run_ours), jax.jit(run_theirs)


def both(policy, game, batch, num_simulations, invalid=None, *options, **shared):
    """What ours and mctx's policy find with one key, root and model."""
    given = [tuple(each.items()) for each in options or [shared]]
    ours, theirs = compiled(policy, type(game), game.num_actions, num_simulations, *given)
    root = game.root(jax.random.key(batch), batch, mctx.RootFnOutput)
    arguments = jax.random.key(7), root, invalid, jnp.float32(game.discount)
    with jax.numpy_rank_promotion("allow"):
        expected = theirs(*arguments)
    return ours(*arguments), expected


def without_holes(tree):
    """mctx's tree numbered without the nodes that it leaves out where a depth limit made no new one."""
    used = np.asarray(tree.node_visits) > 0
    order = np.argsort(~used, axis=1, kind="stable")
    number = np.where(used, np.cumsum(used, axis=1) - 1, -1)
    rows = np.arange(len(used))[:, None]

    def rename(x):
        return np.where(x >= 0, number[rows, np.maximum(x, 0).reshape(len(used), -1)].reshape(x.shape), -1)

    moved = {
        name: np.asarray(x)[rows, order]
        for name, x in tree.items()
        if name not in ("embeddings", "root_invalid_actions", "extra_data")
    }
    moved |= {name: rename(moved[name]) for name in ("parents", "children_index")}
    embeddings = {"state": np.asarray(tree.embeddings["state"])[rows, order]}
    return tree.replace(**moved, embeddings=embeddings)


def check_equal(found, expected):
    mine, theirs = found.search_tree, without_holes(expected.search_tree)
    exact = ("node_visits", "children_index", "children_visits", "parents", "action_from_parent")
    close = ("node_values", "raw_values", "children_values", "children_rewards", "children_discounts")
    for name in exact:
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
    for name in close:
        np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(found.action, expected.action)
    np.testing.assert_allclose(found.action_weights, expected.action_weights, atol=1e-5)
    np.testing.assert_array_equal(mine.embeddings["state"], theirs.embeddings["state"])
    for a, b in zip(mine.summary(), theirs.summary().values(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("discount", [0.97, -1.0])
@pytest.mark.parametrize("policy", POLICIES)
def test_equals_mctx(policy, discount, size, random_game):
    batch, num_actions, num_simulations = size
    check_equal(*both(policy, random_game(num_actions, discount), batch, num_simulations))


@pytest.mark.parametrize("policy", POLICIES)
def test_equals_mctx_with_a_mask_at_the_root(policy, random_game):
    game = random_game(9, -1.0)
    invalid = game.invalid(jnp.arange(6, dtype=jnp.uint32)).astype(jnp.float32)
    found, expected = both(policy, game, 6, 40, invalid)
    check_equal(found, expected)
    assert not (np.asarray(found.search_tree.children_visits[:, 0]) * np.asarray(invalid)).any()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("max_depth", [1, 2, 4])
def test_equals_mctx_with_a_depth_limit(policy, max_depth, random_game):
    check_equal(*both(policy, random_game(4, 0.9), 5, 40, max_depth=max_depth))


def test_equals_mctx_with_other_constants(random_game):
    game = random_game(9, 0.9)
    check_equal(*both("puct", game, 4, 30, pb_c_init=2.0, pb_c_base=10.0, dirichlet_fraction=0.5, temperature=0.0))
    check_equal(*both("gumbel", game, 4, 30, max_num_considered_actions=5, gumbel_scale=0.5))


@pytest.mark.parametrize("mine, theirs", [
    (functools.partial(search.qtransforms.by_min_max, min_value=-2.0, max_value=2.0),
     functools.partial(mctx.qtransform_by_min_max, min_value=-2.0, max_value=2.0)),
    (functools.partial(search.qtransforms.completed_by_mix_value, value_scale=0.01, use_mixed_value=False),
     functools.partial(mctx.qtransform_completed_by_mix_value, value_scale=0.01, use_mixed_value=False)),
    (functools.partial(search.qtransforms.completed_by_mix_value, rescale_values=False, maxvisit_init=1.0),
     functools.partial(mctx.qtransform_completed_by_mix_value, rescale_values=False, maxvisit_init=1.0)),
], ids=["min_max", "raw_value", "unscaled"])  # fmt: skip
def test_equals_mctx_with_other_qtransforms(mine, theirs, random_game):
    policy = "puct" if mine.func is search.qtransforms.by_min_max else "gumbel"
    check_equal(*both(policy, random_game(6, 0.9), 4, 30, None, {"qtransform": mine}, {"qtransform": theirs}))
