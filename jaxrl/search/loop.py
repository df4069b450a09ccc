"""The search: selection, expansion and backup for B trees side by side."""

from __future__ import annotations

from typing import Any

import jax

from jaxrl.arguments import check_callable
from jaxrl.search import choice
from jaxrl.search.backup import back_up, empty_order, mean_backup
from jaxrl.search.base import Backup, RecurrentFn, Selection
from jaxrl.search.choice import Rules, Searching
from jaxrl.search.descent import descend, empty_paths
from jaxrl.search.expansion import expand
from jaxrl.search.reuse import with_new_root
from jaxrl.search.tree import Tree, new_tree
from jaxrl.search.validation import check_rule, check_search
from jaxrl.types import Array, PyTree


def search(
    key: Array,
    params: PyTree,
    root: Any,
    recurrent_fn: RecurrentFn,
    num_simulations: int,
    invalid_actions: Array | None = None,
    *,
    selection: Selection,
    root_selection: Selection | None = None,
    backup: Backup = mean_backup,
    max_depth: int | None = None,
    capacity: int | None = None,
    tree: Tree | None = None,
) -> Tree:
    """Searches a batch of trees with a custom selection rule.

    A simulation follows ``selection`` from the root to an action without a child, calls the model for that child, and
    backs the return ``G = r + discount G'`` up to all nodes above. Illegal actions, given for the root or predicted by
    the model, are never followed.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``.
      recurrent_fn: the model, see ``RecurrentFn``.
      num_simulations: calls of the model per tree.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      selection: the selection rule, a function of ``NodeStats`` that returns the score of each action.
      root_selection: the selection rule at the root, by default ``selection``.
      backup: how the value of a node is updated, see ``Backup``.
      max_depth: the longest path from the root, in steps. A node at this depth is evaluated again at every visit.
      capacity: N, the nodes of each tree, by default enough for all simulations. In a full tree leaves are evaluated
        and their parents average them, but no node is added.
      tree: the tree that ``subtree`` kept from an earlier search, which fixes the capacity. ``root`` is evaluated anew.

    Returns:
      The trees.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    masks = check_search(key, params, root, recurrent_fn, num_simulations, invalid_actions, max_depth, capacity, tree)
    check_rule("selection", selection, root)
    if root_selection is not None:
        check_rule("root_selection", root_selection, root)
    check_callable("backup", backup, "a function (value, visits, target) -> value, such as jaxrl.search.mean_backup")
    noise_key, key = jax.random.split(key)
    root = choice.masked_root(root, invalid_actions)
    noise = jax.random.uniform(noise_key, root.prior_logits.shape, root.value.dtype)
    rules = Rules(selection, root_selection, noise, masked=masks)
    probs = choice.prior_probs(rules, root.prior_logits)
    if tree is None:
        state = choice.first(rules, new_tree(root, probs, capacity or num_simulations + 1, invalid_actions))
    else:
        state = choice.everywhere(rules, with_new_root(tree, root, probs, invalid_actions))
    # New nodes have the same index in every tree, unless the trees differ in size or a leaf is not new.
    aligned = tree is None and max_depth is None and state.tree.capacity > num_simulations
    deepest = min(max_depth or state.tree.capacity, state.tree.capacity)
    keys = jax.random.split(key, num_simulations)

    def simulate(simulation: Array, carry: tuple[Searching, Array, Array]) -> tuple[Searching, Array, Array]:
        state, paths, order = carry
        path = descend(state, paths, deepest)
        slot = simulation + 1 if aligned else None
        state, leaf = expand(keys[simulation], params, rules, state, recurrent_fn, path.leaf, slot)
        state, order = back_up(rules, state, path, order, leaf, backup)
        return state, path.nodes, order

    paths = empty_paths(root.value.shape[0], state.tree.capacity, deepest)
    return jax.lax.fori_loop(0, num_simulations, simulate, (state, paths, empty_order(paths)))[0].tree
