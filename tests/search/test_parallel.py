"""Under vmap over seeds, and sharded over devices, a search finds what it finds alone."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import search
from jaxrl.ops import across

POLICIES = {"puct": search.puct, "gumbel": search.gumbel}


# All pairs of a policy, an option and a batch smaller or larger than what chooses at once.
@pytest.mark.parametrize(
    ("policy", "options", "batch"),
    [
        ("puct", {}, 4),
        ("puct", {"max_depth": 3}, 20),
        ("puct", {"capacity": 15}, 4),
        ("gumbel", {}, 20),
        ("gumbel", {"max_depth": 3}, 4),
        ("gumbel", {"capacity": 15}, 20),
    ],
    ids=str,
)
def test_vmapped_equals_one_by_one(policy, options, batch, random_game):
    game, keys = random_game(5, -1.0, masked=True), jax.random.split(jax.random.key(1), 3)

    def run(key):
        found = POLICIES[policy](key, (), game.root(key, batch), game.step, 25, **options)
        return found.action, found.search_tree.children_visits, found.search_tree.node_values

    together = jax.jit(jax.vmap(run))(keys)
    alone = [jax.jit(run)(key) for key in keys]
    for i in range(3):
        for a, b in zip(together, alone[i], strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-5)


def test_a_vmapped_search_has_no_loop_that_selects():
    """The condition of a loop is one number under vmap too."""

    def count(x):
        return jax.lax.while_loop(lambda c: across.any_vmapped(c < x), lambda c: c + (c < x), 0 * x)

    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(jax.vmap(count)(x), x)
    jaxpr = jax.make_jaxpr(jax.vmap(count))(x)
    (loop,) = [equation for equation in jaxpr.eqns if equation.primitive.name == "while"]
    assert loop.params["cond_jaxpr"].out_avals[0].shape == ()
    body = {equation.primitive.name for equation in loop.params["body_jaxpr"].eqns}
    assert "select_n" not in body


@pytest.mark.parametrize(
    ("policy", "options"), [("puct", {"dirichlet_fraction": 0.0}), ("gumbel", {"gumbel_scale": 0.0})]
)
def test_sharded_over_the_batch_equals_one_device(policy, options, random_game):
    game = random_game(5, -1.0)
    mesh = Mesh(np.array(jax.devices()[:4]), ("batch",))
    root = game.root(jax.random.key(1), 8)

    def run(root):
        tree = POLICIES[policy](jax.random.key(0), (), root, game.step, 30, **options).search_tree
        return tree.children_visits, tree.node_values

    expected = jax.jit(run)(root)
    sharding = NamedSharding(mesh, P("batch"))
    by_mesh = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=P("batch"), out_specs=P("batch"), check_vma=False))
    split = jax.device_put(root, sharding)
    for found in (by_mesh(split), jax.jit(run)(split)):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    assert by_mesh(split)[0].sharding.is_equivalent_to(sharding, 4)
