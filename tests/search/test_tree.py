"""What is read off a tree, by hand; refusals that name the argument; the memory that a search is said to take."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import search
from jaxrl.search import argmax, halving


class Chain:
    """Three actions; a state is how often 2 was done. Only 2 pays, and the other two end the game."""

    @staticmethod
    def step(params, key, action, count):
        good = action == 2
        output = search.RecurrentFnOutput(
            reward=jnp.where(good, 1.0, 0.0),
            discount=jnp.where(good, 0.5, 0.0),
            prior_logits=jnp.tile(jnp.array([[0.0, 0.1, 0.2]]), (len(action), 1)),
            value=jnp.zeros(len(action)),
        )
        return output, count + good

    root = search.RootFnOutput(jnp.tile(jnp.array([[0.0, 0.1, 0.2]]), (2, 1)), jnp.zeros(2), jnp.zeros(2, jnp.int32))


@pytest.fixture(scope="module")
def tree():
    find = functools.partial(search.puct, dirichlet_fraction=0.0)
    return jax.jit(lambda key: find(key, (), Chain.root, Chain.step, 12).search_tree)(jax.random.key(0))


def test_summary_is_the_roots_statistics(tree):
    summary = tree.summary()
    assert (summary.visit_counts.sum(-1) == 12).all()
    np.testing.assert_allclose(summary.visit_probs, summary.visit_counts / 12)
    for action in range(3):
        child = int(tree.children_index[0, 0, action])
        paid, weight = (1.0, 0.5) if action == 2 else (0.0, 0.0)
        np.testing.assert_allclose(summary.qvalues[0, action], paid + weight * tree.node_values[0, child], rtol=1e-6)
    np.testing.assert_allclose(summary.value, (summary.visit_counts * summary.qvalues).sum(-1) / 13, rtol=1e-5)
    np.testing.assert_array_equal(tree.qvalues(0), summary.qvalues)


def test_the_principal_variation_is_the_most_visited_line(tree):
    line = tree.principal_variation(20)
    length = int((line[0] != search.NO_ACTION).sum())
    assert 2 <= length <= 12 and (line[0, length:] == search.NO_ACTION).all()
    node = 0
    for action in line[0, :length].tolist():
        assert tree.children_visits[0, node, action] == tree.children_visits[0, node].max() > 0
        node = int(tree.children_index[0, node, action])
    assert (tree.children_visits[0, node] == 0).all()
    assert (line[0, :2] == 2).all()


def test_the_principal_variation_ends_with_the_game():
    """The favourite ends it, and what a search visits behind an end is nothing."""
    root = Chain.root._replace(prior_logits=jnp.tile(jnp.array([[9.0, 0.0, 0.0]]), (2, 1)))
    stuck = lambda params, key, action, count: Chain.step(params, key, jnp.zeros_like(action), count)  # noqa: E731
    tree = search.puct(jax.random.key(0), (), root, stuck, 30, dirichlet_fraction=0.0).search_tree
    assert int(tree.depths().max()) > 1
    assert tree.principal_variation(3)[0].tolist() == [0, search.NO_ACTION, search.NO_ACTION]


def test_depths(tree):
    depths = tree.depths()
    assert (depths[:, 0] == 0).all() and (depths[:, 1:] > 0).all()
    for node in range(1, 13):
        assert depths[0, node] == depths[0, tree.parents[0, node]] + 1


def test_the_memory_is_that_of_the_tree(tree):
    bytes_of_tree = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    assert search.size_bytes(Chain.root, 13) == bytes_of_tree + 2 * 13 * 4 * 4
    struct = jax.eval_shape(lambda: Chain.root)
    assert search.size_bytes(struct, 13) == search.size_bytes(Chain.root, 13)


@pytest.mark.parametrize("length", [1, 9, 16, 17, 31, 32, 33, 82, 362])
def test_row_argmax_is_argmax(length):
    x = jnp.round(jax.random.normal(jax.random.key(length), (50, 3, length)) * 2)  # with ties
    x = x.at[0].set(-jnp.inf)
    np.testing.assert_array_equal(argmax.row_argmax(x), jnp.argmax(x, axis=-1))


@pytest.mark.parametrize("num_considered, num_simulations", [(1, 5), (4, 8), (16, 64), (7, 40), (16, 3)])
def test_halving_spends_all_simulations_on_ever_fewer_actions(num_considered, num_simulations):
    """The sequence names visits; following it, each is the count of some action that is still in."""
    counts = [0] * num_considered
    for visits in halving.considered_visits(num_considered, num_simulations):
        counts[counts.index(visits)] += 1
    assert sum(counts) == num_simulations
    phases = math.ceil(math.log2(num_considered)) if num_considered > 1 else 1
    if num_simulations >= num_considered * phases:
        assert min(counts) == num_simulations // (phases * num_considered) and max(counts) == counts[0]


def test_equal_actions_are_not_always_followed_in_the_same_order():
    root = search.RootFnOutput(jnp.zeros((64, 3)), jnp.zeros(64), jnp.zeros(64, jnp.int32))
    for policy in (search.puct, search.uct):
        extra = {"dirichlet_fraction": 0.0} if policy is search.puct else {}
        tree = policy(jax.random.key(0), (), root, Chain.step, 1, **extra).search_tree
        assert (tree.children_visits[:, 0].sum(0) > 5).all()


def test_a_drawing_shows_every_node_that_was_asked_for(tree, tmp_path):
    figure = search.draw(tree, tmp_path / "tree.svg", index=1, max_depth=2, action_names=["left", "right", "on"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    shown = int((tree.depths()[1] <= 2).sum())
    assert sum("\n" in text for text in texts) == shown
    assert texts.count("left") + texts.count("right") + texts.count("on") == shown - 1
    assert (tmp_path / "tree.svg").read_text().count("<path") > shown


def test_a_drawing_ends_where_the_discount_is_0_and_writes_what_it_can(tmp_path):
    tree = search.puct(jax.random.key(0), (), Chain.root, Chain.step, 30).search_tree
    texts = [text.get_text() for text in search.draw(tree, max_depth=40).axes[0].texts]
    children, ended = np.asarray(tree.children_index[0]), np.asarray(tree.node_discounts[0]) == 0.0

    def below(node):
        return 1 + (0 if node and ended[node] else sum(below(child) for child in children[node] if child >= 0))

    nodes = [text for text in texts if "\n" in text]
    assert len(nodes) == below(0) and sum("end" in text for text in nodes) > 0
    assert not any("e-0" in label.get_text() for label in search.draw(tree).axes[1].get_yticklabels())
    with pytest.raises(ValueError, match=r"path: got .*tree.gif', must end in .svg or .png"):
        search.draw(tree, tmp_path / "tree.gif")


GOOD = {"params": (), "root": Chain.root, "recurrent_fn": Chain.step, "num_simulations": 3}
BAD = {
    "num_simulations": [0, 2.0, True],
    "max_depth": [0, 1.5],
    "capacity": [1],
    "invalid_actions": [jnp.zeros((2, 4))],
    "recurrent_fn": [None, lambda p, k, a, e: (Chain.root, e)],
    "root": [Chain.root.prior_logits, Chain.root._replace(value=jnp.zeros(3))],
    "dirichlet_fraction": [1.5],
    "pb_c_base": [0.0],
    "temperature": [-1.0],
    "tree": [3],
}


@pytest.mark.parametrize(
    "name, value",
    [pytest.param(name, value, id=f"{name}-{i}") for name, values in BAD.items() for i, value in enumerate(values)],
)
def test_bad_input_is_refused_by_name(name, value):
    find = functools.partial(search.puct, jax.random.key(0), **GOOD | {name: value})
    with pytest.raises((TypeError, ValueError), match=name):
        find()


def test_other_refusals_name_their_argument(tree):
    for key in ((), 0, jax.random.split(jax.random.key(0))):
        with pytest.raises(TypeError, match="key: got .*, must be one key .*; the key comes first"):
            search.puct(key, **GOOD)
    with pytest.raises(ValueError, match="action"):
        search.subtree(tree, jnp.zeros(3, int))
    with pytest.raises(ValueError, match="index"):
        search.draw(tree, index=2)
    with pytest.raises(ValueError, match="length"):
        tree.principal_variation(0)
    with pytest.raises(ValueError, match="max_num_considered_actions"):
        search.gumbel(jax.random.key(0), **GOOD, max_num_considered_actions=0)
    with pytest.raises(ValueError, match="capacity"):
        search.puct(jax.random.key(0), **GOOD, tree=tree, capacity=5)
    halves = lambda params, key, action, count: (Chain.step(params, key, action, count)[0], count + 0.5)  # noqa: E731
    with pytest.raises(ValueError, match=r"recurrent_fn: got embedding float32\[2\], must be int32\[2\]"):
        search.puct(jax.random.key(0), **GOOD | {"recurrent_fn": halves})
    with pytest.raises(TypeError, match="tree: got PolicyOutput, must be a Tree"):
        search.draw(search.puct(jax.random.key(0), **GOOD))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("puct", "got 'puct', must be a rule"),
        (lambda key, tree, node_index, depth: 0, "must be a function of NodeStats.*missing 3"),  # as mctx has them
        (lambda node: node.value, r"got scores .*\(2, 3\)"),
    ],
    ids=["name", "mctx", "scores"],
)
@pytest.mark.parametrize("name", ["selection", "root_selection"])
def test_refuses_what_is_not_a_selection_rule(name, rule, message):
    rules = {"selection": search.selection.uct_score, name: rule}
    with pytest.raises((TypeError, ValueError), match=f"^{name}: .*{message}"):
        search.search(jax.random.key(0), **GOOD, **rules)
