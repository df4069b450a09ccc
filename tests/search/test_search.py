"""What mctx does not do, against plain Python: masks at every depth, bounds, reuse, rollouts, games solved exactly."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import search
from jaxrl.training.programs import reads

# PUCT without Dirichlet noise, which takes a third of its compilation; tests beside mctx's have it.
POLICIES = {
    "puct": functools.partial(search.puct, dirichlet_fraction=0.0),
    "gumbel": search.gumbel,
    "uct": search.uct,
}


@functools.lru_cache(maxsize=8)
def compiled(policy, step, num_simulations, **options):
    """A search as one program ``(key, root, invalid, tree)``: operation by operation it takes far longer."""

    def run(key, root, invalid=None, tree=None):
        return POLICIES[policy](key, (), root, step, num_simulations, invalid, tree=tree, **options)

    return jax.jit(run)


def consistent(tree):
    """Asserts that every number of a tree follows from those below it, and that nodes lie where parents say."""
    tree = jax.tree.map(np.asarray, tree)
    for b in range(len(tree.node_visits)):
        count = int(tree.num_nodes[b])
        assert (tree.node_visits[b, :count] > 0).all() and (tree.node_visits[b, count:] == 0).all()
        for node in range(1, count):
            parent, action = tree.parents[b, node], tree.action_from_parent[b, node]
            assert parent < node and tree.children_index[b, parent, action] == node
        for node in range(count):
            visits, children = tree.children_visits[b, node], tree.children_index[b, node]
            own = tree.node_visits[b, node] - visits.sum()  # more than 1 where it had to be evaluated again
            assert own >= 1
            total = own * tree.raw_values[b, node] + (visits * tree.children_qvalues[b, node]).sum()
            np.testing.assert_allclose(tree.node_values[b, node], total / tree.node_visits[b, node], atol=1e-4)
            for action in np.flatnonzero(children >= 0):
                child = children[action]
                assert tree.parents[b, child] == node and tree.action_from_parent[b, child] == action
                assert visits[action] == tree.node_visits[b, child]
                q = tree.node_rewards[b, child] + tree.node_discounts[b, child] * tree.node_values[b, child]
                np.testing.assert_allclose(tree.children_qvalues[b, node, action], q, atol=1e-5)


FLOATS = {
    "puct": {
        "dirichlet_fraction": 0.25,
        "dirichlet_alpha": 0.3,
        "pb_c_init": 1.25,
        "pb_c_base": 19652.0,
        "temperature": 1.0,
    },
    "gumbel": {"gumbel_scale": 1.0},
    "uct": {"exploration": 1.4, "temperature": 0.5},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_float_may_be_a_tracer(policy, random_game, key):
    game = random_game(3, 0.9)
    root = game.root(key, 2)

    def run(floats, key):
        found = POLICIES[policy](key, (), root, game.step, 4, **floats)
        return found.action, found.action_weights

    signature = inspect.signature(POLICIES[policy]).parameters
    assert {name for name, option in signature.items() if isinstance(option.default, float)} == {*FLOATS[policy]}
    assert reads(run, FLOATS[policy], key) == {*FLOATS[policy]}


@pytest.mark.parametrize("policy", POLICIES)
def test_illegal_actions_are_never_followed_at_any_depth(policy, random_game, key):
    game = random_game(6, -1.0, masked=True)
    root = game.root(key, 4)
    invalid = game.invalid(root.embedding["state"])
    found = compiled(policy, game.step, 60)(key, root, invalid)
    tree = found.search_tree
    state = tree.embeddings["state"]
    illegal = jax.vmap(game.invalid)(state)
    assert illegal.any() and int(tree.depths().max()) >= 3
    assert not (np.asarray(tree.children_visits) * np.asarray(illegal)).any()
    assert not (np.asarray(found.action_weights) * np.asarray(invalid)).any()
    assert not np.take_along_axis(np.asarray(invalid), np.asarray(found.action)[:, None], 1).any()
    consistent(tree)


@pytest.mark.parametrize("policy", POLICIES)
def test_capacity_bounds_the_nodes_and_not_the_simulations(policy, random_game, key):
    game = random_game(5, 0.9)
    found = compiled(policy, game.step, 50, capacity=12)(key, game.root(key, 3))
    tree = found.search_tree
    assert tree.node_visits.shape == (3, 12)
    assert (tree.num_nodes == 12).all() and (tree.node_visits[:, 0] == 51).all()
    consistent(tree)


def test_room_that_is_not_needed_changes_nothing(random_game, key):
    game = random_game(5, 0.9)
    room = ({}, {"capacity": 50}, {"capacity": 31}, {"max_depth": 31})
    found = [compiled("puct", game.step, 30, **options)(key, game.root(key, 3)) for options in room]
    tight, roomy, unequal, limited = (each.search_tree for each in found)
    np.testing.assert_array_equal(tight.children_visits, roomy.children_visits[:, :31])
    for other in (unequal, limited):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), tight, other)
        np.testing.assert_array_equal(tight.children_visits, other.children_visits)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_kept_subtree_is_what_it_was_and_grows_on(policy, random_game, key):
    game = random_game(4, -1.0)
    before = compiled(policy, game.step, 40, capacity=60)(key, game.root(key, 3)).search_tree
    action = jnp.argmax(before.children_visits[:, 0], axis=-1)
    kept = jax.jit(search.subtree)(before, action)
    child = before.children_index[jnp.arange(3), 0, action]
    for b in range(3):
        assert kept.node_visits[b, 0] == before.node_visits[b, child[b]] == kept.num_nodes[b]
        np.testing.assert_array_equal(kept.children_visits[b, 0], before.children_visits[b, child[b]])
        np.testing.assert_array_equal(kept.children_qvalues[b, 0], before.children_qvalues[b, child[b]])
        assert kept.embeddings["state"][b, 0] == before.embeddings["state"][b, child[b]]
    consistent(kept)
    state = kept.embeddings["state"][:, 0]
    root = search.RootFnOutput(game.logits(state), game.value(state), {"state": state})
    after = compiled(policy, game.step, 15)(key, root, tree=kept).search_tree
    np.testing.assert_array_equal(after.node_visits[:, 0], kept.node_visits[:, 0] + 15)
    np.testing.assert_array_equal(after.num_nodes, kept.num_nodes + 15)
    consistent(after)


def test_puct_in_a_kept_subtree_goes_on_as_if_it_had_never_stopped(random_game, key):
    """A tree of one action at the root: what is below it is what a search from there would have built."""
    game = random_game(4, -1.0)
    root = game.root(key, 3)
    only = jnp.ones((3, 4), bool).at[:, 2].set(False)
    find = functools.partial(compiled, "puct", game.step, dirichlet_fraction=0.0)
    above = find(num_simulations=21, capacity=60)(key, root, only).search_tree
    kept = jax.jit(search.subtree)(above, jnp.full((3,), 2))
    _, below = game.step((), key, jnp.full((3,), 2), root.embedding)
    there = search.RootFnOutput(game.logits(below["state"]), game.value(below["state"]), below)
    at_once = find(num_simulations=40, capacity=60)(key, there).search_tree
    in_parts = find(num_simulations=20)(key, there, tree=kept).search_tree
    for name in ("children_visits", "children_index", "node_visits"):
        np.testing.assert_array_equal(getattr(in_parts, name), getattr(at_once, name))
    np.testing.assert_allclose(in_parts.node_values, at_once.node_values, atol=1e-6)
    consistent(in_parts)


def test_keys_in_an_embedding_are_kept_too(random_game, key):
    game = random_game(4, -1.0)

    def step(params, key, action, embedding):
        output, after = game.step(params, key, action, embedding)
        return output, {**after, "key": embedding["key"]}

    root = game.root(key, 3)
    root = root._replace(embedding={**root.embedding, "key": jax.random.split(key, 3)})
    before = compiled("puct", step, 20)(key, root).search_tree
    kept = jax.jit(search.subtree)(before, jnp.argmax(before.children_visits[:, 0], axis=-1))
    assert (jax.random.key_data(kept.embeddings["key"][:, 0]) == jax.random.key_data(root.embedding["key"])).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_weights_are_weights_where_nothing_is_legal(policy, random_game, key):
    game = random_game(4, -1.0)
    found = compiled(policy, game.step, 8)(key, game.root(key, 2), jnp.array([[True] * 4, [False] * 4]))
    np.testing.assert_allclose(found.action_weights.sum(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_became_illegal_is_not_done_though_a_kept_tree_went_there(policy, random_game, key):
    """A learned model tells no masks, so that a kept tree holds visits of what the rules now forbid."""
    game = random_game(4, -1.0)
    before = compiled(policy, game.step, 60)(key, game.root(key, 8)).search_tree
    action = jnp.argmax(before.children_visits[:, 0], axis=-1)
    kept = jax.jit(search.subtree)(before, action)
    favourite = jnp.argmax(kept.children_visits[:, 0], axis=-1)
    forbidden = jax.nn.one_hot(favourite, 4, dtype=bool)
    state = kept.embeddings["state"][:, 0]
    root = search.RootFnOutput(game.logits(state), game.value(state), {"state": state})
    found = compiled(policy, game.step, 4)(key, root, forbidden, tree=kept)
    assert (found.action != favourite).all()
    np.testing.assert_array_equal(found.action_weights[forbidden], 0.0)
    np.testing.assert_allclose(found.action_weights.sum(-1), 1.0, rtol=1e-5)


# All pairs of a policy, a field and a dtype.
@pytest.mark.parametrize(
    ("policy", "field", "dtype"),
    [
        ("puct", "prior_logits", jnp.bfloat16),
        ("puct", "value", jnp.float16),
        ("gumbel", "prior_logits", jnp.float16),
        ("gumbel", "value", jnp.bfloat16),
        ("uct", "prior_logits", jnp.bfloat16),
        ("uct", "value", jnp.float16),
    ],
)
def test_masks_hold_at_half_precision(policy, field, dtype, random_game, key):
    game = random_game(4, -1.0, masked=True)
    halved = lambda output: output._replace(**{field: getattr(output, field).astype(dtype)})  # noqa: E731

    def step(params, key, action, embedding):
        output, embedding = game.step(params, key, action, embedding)
        return halved(output), embedding

    root = game.root(key, 3)
    invalid = game.invalid(root.embedding["state"])
    found = compiled(policy, step, 40)(key, halved(root), invalid)
    tree = found.search_tree
    used = tree.node_visits[:, 1:] > 0
    illegal = jax.vmap(game.invalid)(tree.embeddings["state"])[:, 1:] & used[..., None]
    assert (tree.children_visits[:, 0] * invalid).sum() == 0 and (tree.children_visits[:, 1:] * illegal).sum() == 0
    assert illegal.any() and not np.take_along_axis(np.asarray(invalid), np.asarray(found.action)[:, None], 1).any()


def test_nothing_is_kept_of_what_was_not_followed_or_not_wanted(random_game, key):
    game = random_game(9, 0.9)
    find = compiled("puct", game.step, 8)
    tree = find(key, game.root(key, 3)).search_tree
    never = jnp.argmin(tree.children_visits[:, 0], axis=-1)
    assert (tree.children_visits[jnp.arange(3), 0, never] == 0).all()
    often = jnp.argmax(tree.children_visits[:, 0], axis=-1)
    keep = jnp.array([True, False, True])
    assert (search.subtree(tree, never).num_nodes == 0).all()
    assert (search.subtree(tree, often, keep).num_nodes > 0).tolist() == keep.tolist()
    fresh = find(key, game.root(key, 3), tree=search.subtree(tree, never)).search_tree
    np.testing.assert_array_equal(fresh.children_visits, tree.children_visits)


def test_reuse_respects_the_capacity_move_after_move(random_game, key):
    game = random_game(3, -1.0)
    root, tree = game.root(key, 2), None
    state = root.embedding["state"]
    for move in range(6):
        root = search.RootFnOutput(game.logits(state), game.value(state), {"state": state})
        find = compiled("puct", game.step, 24) if move else compiled("puct", game.step, 24, capacity=25)
        found = find(jax.random.key(move), root, tree=tree)
        tree = found.search_tree
        assert (tree.num_nodes <= 25).all() and (tree.node_visits[:, 0] >= 25).all()
        consistent(tree)
        _, after = game.step((), key, found.action, {"state": state})
        state, tree = after["state"], search.subtree(tree, found.action)


# Values of a game have known bounds; the rescaling by siblings would blow up differences that are none.
IN_A_GAME = {
    "puct": {
        "qtransform": functools.partial(search.qtransforms.by_min_max, min_value=-1.0, max_value=1.0),
        "dirichlet_fraction": 0.0,
        "temperature": 0.0,
    },
    "gumbel": {
        "qtransform": functools.partial(search.qtransforms.completed_by_mix_value, rescale_values=False),
        "gumbel_scale": 0.0,
    },
    "uct": {},
}


def find_in_game(policy, game, positions, num_simulations):
    root = game.root(positions)
    find = compiled(policy, game.step, num_simulations, **IN_A_GAME[policy])
    return find(jax.random.key(0), root, root.embedding != 0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stones, simulations", [(5, 200), (4, 800)])
def test_tic_tac_toe_is_played_as_full_search_does(policy, stones, simulations, tic_tac_toe, solve, boards):
    """As either player, without any network: no move gives away what the position is worth."""
    positions = boards(stones)[:: 3 if stones == 5 else 9]
    found = find_in_game(policy, tic_tac_toe, positions, simulations).action.tolist()
    wrong = [p for p, action in zip(positions, found, strict=True) if solve(p)[1][action] != solve(p)[0]]
    assert wrong == []


@pytest.mark.parametrize("policy", POLICIES)
def test_values_go_to_minimax(policy, tic_tac_toe, solve, boards):
    """Simulations go where the best replies are, so that means go to the exact values.

    Exploration keeps a share of about ``1 / sqrt(n)`` of the visits away from the best actions, and an error is at most
    2; so the mean is within ``2 / sqrt(n)``. Gumbel's root spreads its visits by design: there it is the value of the
    action that it takes.
    """
    by_value = {value: [board for board in boards(6) if solve(board)[0] == value] for value in (-1, 0, 1)}
    positions = [board for group in by_value.values() for board in group[:: max(1, len(group) // 8)][:8]]
    exact = np.array([solve(position)[0] for position in positions])
    assert np.bincount(exact + 1).min() >= 4
    errors = []
    for simulations in (64, 512):
        found = find_in_game(policy, tic_tac_toe, positions, simulations)
        value = found.search_tree.node_values[:, 0]
        if policy == "gumbel":
            value = jnp.take_along_axis(found.search_tree.summary().qvalues, found.action[:, None], 1)[:, 0]
        errors.append(np.abs(np.asarray(value) - exact).max())
        assert errors[-1] <= 2 / np.sqrt(simulations)
    assert errors[1] < 0.6 * errors[0]


def test_uct_with_rollouts_takes_a_win_and_blocks_a_loss(tic_tac_toe):
    positions = [(1, 1, 0, -1, -1, 0, 0, 0, 0), (-1, -1, 0, 1, 0, 0, 0, 0, 1), (0, 0, 0, -1, 1, 0, 1, 0, -1)]
    wanted = [2, 2, 2]
    root = search.rollout_root(jnp.array(positions), 9)
    model = search.with_rollouts(tic_tac_toe.step, max_steps=9)
    found = compiled("uct", model, 300)(jax.random.key(3), root, root.embedding != 0)
    assert found.action.tolist() == wanted
    np.testing.assert_allclose(found.action_weights.sum(-1), 1.0, rtol=1e-5)


def test_a_rollout_is_the_return_of_a_random_game(tic_tac_toe, solve):
    """Where one square is left behind the step, there is one game, and full search knows its value."""
    boards = jnp.array(
        [(1, -1, 1, 1, -1, -1, -1, 0, 0), (0, -1, 1, -1, 1, -1, 1, -1, 0), (1, 1, 0, -1, -1, 1, 0, -1, 1)]
    )
    model = search.with_rollouts(tic_tac_toe.step, max_steps=9)
    for action in ((7, 0, 6), (8, 8, 2)):
        step, after = model((), jax.random.key(0), jnp.array(action), boards)
        expected = [0 if d == 0 else solve(tuple(b))[0] for d, b in zip(step.discount, after.tolist(), strict=True)]
        assert step.value.tolist() == expected
        np.testing.assert_array_equal(step.prior_logits, 0)


def test_a_rollout_ends_at_its_limit_with_the_value_there(random_game, key):
    game = random_game(3, 0.5, masked=True)
    root = game.root(key, 5)
    step, after = search.with_rollouts(game.step, max_steps=1)((), key, jnp.zeros(5, int), root.embedding)
    possible = []
    for action in range(3):
        last, _ = game.step((), key, jnp.full(5, action), after)
        legal = ~step.invalid_actions[:, action]
        value = jnp.where(step.discount == 0, 0.0, last.reward + last.discount * last.value)
        possible.append(jnp.where(legal, value, jnp.nan))
    assert jnp.isclose(step.value[None], jnp.stack(possible), atol=1e-6).any(0).all()


def test_uct_follows_the_textbook(random_game, key):
    """Every node of a tree, in the order of their making, against the formula in plain Python."""
    game, constant = random_game(4, 0.9), 0.7
    root = game.root(key, 1)
    tree = compiled("uct", game.step, 60, exploration=constant)(key, root).search_tree
    tree = jax.tree.map(lambda x: np.asarray(x[0]), tree)
    visits, values = {0: 1}, {0: float(tree.raw_values[0])}

    def qvalue(child):
        return tree.node_rewards[child] + tree.node_discounts[child] * values[child]

    for node in range(1, 61):
        made = [child for child in range(1, node)]
        walker = 0
        while len(children := [child for child in made if tree.parents[child] == walker]) == 4:
            total = sum(visits[child] for child in children)
            scores = [qvalue(child) + constant * np.sqrt(np.log(total) / visits[child]) for child in children]
            walker = children[int(np.argmax(scores))]
        assert tree.parents[node] == walker  # which of the unvisited comes first is up to the noise
        visits[node], values[node] = 1, float(tree.raw_values[node])
        value, below = values[node], node
        while below != 0:
            value = tree.node_rewards[below] + tree.node_discounts[below] * value
            below = tree.parents[below]
            values[below] = (values[below] * visits[below] + value) / (visits[below] + 1)
            visits[below] += 1
    assert list(visits.values()) == tree.node_visits.tolist()
    np.testing.assert_allclose(list(values.values()), tree.node_values, atol=1e-5)


def test_in_proportion_draws_what_weights_and_temperature_say():
    weights = jnp.array([[0.1, 0.0, 0.6, 0.3]] * 4096)
    drawn = {t: np.asarray(search.in_proportion(jax.random.key(0), weights, t)) for t in (0.0, 1e-3, 0.5, 1.0, 1e6)}
    assert (drawn[0.0] == 2).all() and (drawn[1e-3] == 2).all()
    for temperature in (0.5, 1.0, 1e6):
        powers = np.where(weights[0] > 0, np.asarray(weights[0], float) ** (1.0 / temperature), 0.0)
        shares = np.bincount(drawn[temperature], minlength=4) / 4096
        assert np.abs(shares - powers / powers.sum()).max() < 0.03
        assert shares[1] == 0.0  # without weight it is never taken
    ties = np.asarray(search.in_proportion(jax.random.key(1), jnp.full((4096, 2), 0.5), 0.0))
    assert 0.4 < ties.mean() < 0.6
