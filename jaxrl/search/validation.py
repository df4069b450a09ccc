"""Checks of a search's arguments, made before tracing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_callable, check_count, check_key
from jaxrl.ops import numerics
from jaxrl.search.base import NodeStats
from jaxrl.search.tree import Tree
from jaxrl.types import Array, PyTree


def check_root(root: Any, invalid_actions: Array | None) -> tuple[int, int]:
    """Checks a root and returns B and A.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    for field in ("prior_logits", "value", "embedding"):
        if not hasattr(root, field):
            raise TypeError(
                f"root: got {type(root).__name__} without {field}, must be a RootFnOutput or have its fields"
            )
    shape = jnp.shape(root.prior_logits)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"root.prior_logits: got shape {shape}, must be [B, A]")
    if jnp.shape(root.value) != shape[:1]:
        raise ValueError(
            f"root.value: got shape {jnp.shape(root.value)}, must be {shape[:1]}, the batch of root.prior_logits"
        )
    if not jnp.issubdtype(jnp.result_type(root.value), jnp.floating):
        raise TypeError(f"root.value: got {jnp.result_type(root.value)}, must be floating-point")
    for path, leaf in jax.tree_util.tree_leaves_with_path(root.embedding):
        if jnp.shape(leaf)[:1] != shape[:1]:
            where = f"root.embedding{jax.tree_util.keystr(path)}"
            raise ValueError(f"{where}: got shape {jnp.shape(leaf)}, must begin with the batch size {shape[0]}")
    if invalid_actions is not None and jnp.shape(invalid_actions) != shape:
        raise ValueError(
            f"invalid_actions: got shape {jnp.shape(invalid_actions)}, must be {shape}, the shape of root.prior_logits"
        )
    return shape


def check_search(
    key: Array,
    params: PyTree,
    root: Any,
    recurrent_fn: Any,
    num_simulations: Any,
    invalid_actions: Array | None,
    max_depth: Any,
    capacity: Any,
    tree: Any,
) -> bool:
    """Checks the arguments of a search and returns whether actions can be illegal.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    check_key(key)
    check_count("num_simulations", num_simulations)
    if max_depth is not None:
        check_count("max_depth", max_depth)
    if capacity is not None:
        check_count("capacity", capacity, least=2)
    check_callable("recurrent_fn", recurrent_fn, "a model (params, key, action, embedding) -> (output, embedding)")
    batch, num_actions = check_root(root, invalid_actions)
    masks = check_model(key, params, root, recurrent_fn, batch, num_actions)
    if tree is None:
        return masks or invalid_actions is not None
    check_tree(tree)
    if (tree.node_visits.shape[0], tree.num_actions) != (batch, num_actions):
        given = f"{tree.node_visits.shape[0]} trees of {tree.num_actions} actions"
        raise ValueError(f"tree: got {given}, must be {batch} of {num_actions}, the shape of root.prior_logits")
    if capacity is not None and capacity != tree.capacity:
        raise ValueError(f"capacity: got {capacity}, must be {tree.capacity}, the capacity of tree; leave it out")
    return True  # an earlier root may have been masked


def check_tree(tree: Any) -> None:
    """Refuses a value that is not a ``Tree``.

    Raises:
      TypeError: it is not a ``Tree``.
    """
    if not isinstance(tree, Tree):
        raise TypeError(f"tree: got {type(tree).__name__}, must be a Tree: result.search_tree or subtree(...) of it")


def check_model(key: Array, params: PyTree, root: Any, recurrent_fn: Any, batch: int, num_actions: int) -> bool:
    """Checks the shapes of the model's output without running it; returns whether it has ``invalid_actions``."""
    action = jax.ShapeDtypeStruct((batch,), jnp.int32)
    found = jax.eval_shape(recurrent_fn, params, key, action, root.embedding)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"recurrent_fn: got {type(found).__name__}, must return a pair (output, embedding)")
    step, embedding = found
    wanted = dict.fromkeys(("reward", "discount", "value"), (batch,)) | {"prior_logits": (batch, num_actions)}
    for name, shape in wanted.items():
        given = getattr(step, name, None)
        if given is None or given.shape != shape:
            what = "nothing" if given is None else f"shape {given.shape}"
            raise ValueError(f"recurrent_fn: got {what} for {name} of its output, must be {shape}")
    mask = getattr(step, "invalid_actions", None)
    if mask is not None and mask.shape != (batch, num_actions):
        raise ValueError(f"recurrent_fn: got shape {mask.shape} for invalid_actions, must be {(batch, num_actions)}")
    expected, given = jax.eval_shape(lambda x: x, root.embedding), embedding
    wanted_structure, structure = str(jax.tree.structure(expected)), str(jax.tree.structure(given))
    if wanted_structure != structure:
        raise ValueError(f"recurrent_fn: got an embedding of {structure}, must be {wanted_structure} as at the root")
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(given), strict=True
    ):
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            where = f"embedding{jax.tree_util.keystr(path)}"
            found, at_root = (f"{x.dtype}{list(x.shape)}" for x in (after, before))
            raise ValueError(f"recurrent_fn: got {where} {found}, must be {at_root} as at the root")
    return mask is not None


def check_rule(name: str, rule: Any, root: Any) -> None:
    """Checks a selection rule by tracing it.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    check_callable(name, rule, "a rule: a function of NodeStats, such as jaxrl.search.selection.puct_score")
    (batch, num_actions), dtype = jnp.shape(root.prior_logits), numerics.wide(root.value)
    of_node: list[Any] = [jax.ShapeDtypeStruct((batch,), kind) for kind in (jnp.int32, dtype, dtype)]
    of_child: list[Any] = [jax.ShapeDtypeStruct((batch, num_actions), kind) for kind in (jnp.int32, *[dtype] * 4)]
    try:
        score = jax.eval_shape(rule, NodeStats(*of_node, *of_child))
    except TypeError as error:
        raise TypeError(f"{name}: got {rule!r}, must be a function of NodeStats; calling it failed: {error}") from error
    if getattr(score, "shape", None) != (batch, num_actions):
        raise ValueError(f"{name}: got scores {score}, must have shape [..., A], here {(batch, num_actions)}")
