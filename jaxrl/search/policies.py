"""Policies: a search from a batch of states, the actions to take and the policies to learn.

Legend of shapes: B states, A actions.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, POSITIVE, UNIT, check_callable, check_count, check_float, check_key
from jaxrl.ops import numerics
from jaxrl.search import halving, qtransforms, selection
from jaxrl.search.base import NodeStats, PolicyOutput, QTransform, RecurrentFn, RootFnOutput
from jaxrl.search.choice import mask_logits, masked_root
from jaxrl.search.loop import search
from jaxrl.search.tree import ROOT, Tree
from jaxrl.search.validation import check_root
from jaxrl.types import Array, PyTree


def puct(
    key: Array,
    params: PyTree,
    root: Any,
    recurrent_fn: RecurrentFn,
    num_simulations: int,
    invalid_actions: Array | None = None,
    *,
    max_depth: int | None = None,
    capacity: int | None = None,
    tree: Tree | None = None,
    qtransform: QTransform = qtransforms.by_parent_and_siblings,
    dirichlet_fraction: Any = 0.25,
    dirichlet_alpha: Any = 0.3,
    pb_c_init: Any = 1.25,
    pb_c_base: Any = 19652.0,
    temperature: Any = 1.0,
) -> PolicyOutput:
    """AlphaZero's and MuZero's search.

    Follows ``argmax_a q(a) + pi(a) sqrt(n) / (1 + n(a)) c(n)``, pi at the root mixed with Dirichlet noise; acts in
    proportion to ``n(a)^(1 / temperature)``. Silver et al., "A general reinforcement learning algorithm that masters
    chess, shogi, and Go through self-play", 2018; Schrittwieser et al., 2020, https://arxiv.org/abs/1911.08265.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``.
      recurrent_fn: the model, see ``RecurrentFn``.
      num_simulations: calls of the model per state.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      max_depth: the longest path from the root, in steps.
      capacity: the nodes of each tree, by default ``num_simulations + 1``.
      tree: what ``subtree`` kept of an earlier search.
      qtransform: brings q-values to [0, 1].
      dirichlet_fraction: how much of the root's prior is noise, 0 for none.
      dirichlet_alpha: the concentration of the noise, low for few actions at a time.
      pb_c_init: how much the prior counts.
      pb_c_base: in visits, how slowly it counts for more.
      temperature: 1 acts in proportion to visits, 0 takes the most visited.

    Returns:
      The actions, their shares of the visits, and the trees.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    check_key(key)
    check_root(root, invalid_actions)
    check_callable("qtransform", qtransform, "a function of NodeStats")
    check_float("dirichlet_fraction", dirichlet_fraction, UNIT)
    check_float("dirichlet_alpha", dirichlet_alpha, POSITIVE)
    check_float("pb_c_init", pb_c_init, NON_NEGATIVE)
    check_float("pb_c_base", pb_c_base, POSITIVE)
    check_float("temperature", temperature, NON_NEGATIVE)
    action_key, noise_key, search_key = jax.random.split(key, 3)
    found = search(
        search_key,
        params,
        _with_noise(noise_key, root, dirichlet_fraction, dirichlet_alpha),
        recurrent_fn,
        num_simulations,
        invalid_actions,
        selection=functools.partial(
            selection.puct_score, pb_c_init=pb_c_init, pb_c_base=pb_c_base, qtransform=qtransform
        ),
        max_depth=max_depth,
        capacity=capacity,
        tree=tree,
    )
    return _by_visits(action_key, found, temperature)


def uct(
    key: Array,
    params: PyTree,
    root: Any,
    recurrent_fn: RecurrentFn,
    num_simulations: int,
    invalid_actions: Array | None = None,
    *,
    max_depth: int | None = None,
    capacity: int | None = None,
    tree: Tree | None = None,
    exploration: Any = 2.0**0.5,
    temperature: Any = 0.0,
) -> PolicyOutput:
    """UCT: no prior, and values by rollouts, see ``rollouts``.

    Follows ``argmax_a q(a) + exploration sqrt(log n / n(a))``, every action once first. Kocsis and Szepesvari, "Bandit
    based Monte-Carlo planning", 2006.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``; its logits are not read.
      recurrent_fn: the model: a simulator, wrapped by ``rollouts``. Logits of its output are not read.
      num_simulations: calls of the model per state.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      max_depth: the longest path from the root, in steps.
      capacity: the nodes of each tree, by default ``num_simulations + 1``.
      tree: what ``subtree`` kept of an earlier search.
      exploration: sqrt(2) for returns within a range of 1.
      temperature: 0 takes the most visited action, 1 acts in proportion to visits.

    Returns:
      The actions, their shares of the visits, and the trees.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    check_key(key)
    check_float("exploration", exploration, NON_NEGATIVE)
    check_float("temperature", temperature, NON_NEGATIVE)
    action_key, search_key = jax.random.split(key)
    found = search(
        search_key,
        params,
        root,
        recurrent_fn,
        num_simulations,
        invalid_actions,
        selection=functools.partial(selection.uct_score, exploration=exploration),
        max_depth=max_depth,
        capacity=capacity,
        tree=tree,
    )
    return _by_visits(action_key, found, temperature)


def gumbel(
    key: Array,
    params: PyTree,
    root: Any,
    recurrent_fn: RecurrentFn,
    num_simulations: int,
    invalid_actions: Array | None = None,
    *,
    max_depth: int | None = None,
    capacity: int | None = None,
    tree: Tree | None = None,
    qtransform: QTransform = qtransforms.completed_by_mix_value,
    max_num_considered_actions: int = 16,
    gumbel_scale: Any = 1.0,
) -> PolicyOutput:
    """Gumbel MuZero's search, good with few simulations.

    At the root, sequential halving among the actions with the highest ``g(a) + logits(a)``, g Gumbel noise; below it,
    visits in proportion to the improved policy ``softmax(logits + q)``. Danihelka et al., "Policy improvement by
    planning with Gumbel", 2022, https://openreview.net/forum?id=bERaNdoegnO.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``.
      recurrent_fn: the model, see ``RecurrentFn``.
      num_simulations: calls of the model per state.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      max_depth: the longest path from the root, in steps.
      capacity: the nodes of each tree, by default ``num_simulations + 1``.
      tree: what ``subtree`` kept of an earlier search; halving counts the visits of this one alone.
      qtransform: completes q-values and scales them beside logits.
      max_num_considered_actions: how many actions halving begins with, fewer where fewer are legal.
      gumbel_scale: 0 for no noise.

    Returns:
      The actions, the improved policy ``softmax(logits + q)``, and the trees.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    check_key(key)
    check_root(root, invalid_actions)
    check_count("num_simulations", num_simulations)
    check_count("max_num_considered_actions", max_num_considered_actions)
    check_callable("qtransform", qtransform, "a function of NodeStats")
    check_float("gumbel_scale", gumbel_scale, NON_NEGATIVE)
    root = masked_root(root, invalid_actions)
    search_key, gumbel_key = jax.random.split(key)
    shape, dtype = root.prior_logits.shape, root.prior_logits.dtype
    noise = gumbel_scale * jax.random.gumbel(gumbel_key, shape, dtype)
    num_legal = shape[-1] if invalid_actions is None else jnp.sum(invalid_actions == 0, axis=-1)
    num_considered = jnp.minimum(max_num_considered_actions, jnp.broadcast_to(num_legal, shape[:1]))
    schedule = jnp.asarray(halving.table(max_num_considered_actions, num_simulations))[num_considered]
    before = 0 if tree is None else tree.children_visits[:, ROOT]

    def at_root(node: NodeStats) -> Array:
        visits = node.children_visits - before
        considered = jnp.take_along_axis(schedule, jnp.sum(visits, axis=-1)[:, None], axis=1)[:, 0]
        return selection.considered_score(node, visits, noise, qtransform, considered)

    found = search(
        search_key,
        params,
        root,
        recurrent_fn,
        num_simulations,
        invalid_actions,
        selection=functools.partial(selection.gumbel_score, qtransform=qtransform),
        root_selection=at_root,
        max_depth=max_depth,
        capacity=capacity,
        tree=tree,
    )
    return _by_gumbel(found, noise, qtransform, before, invalid_actions)


def _by_gumbel(
    tree: Tree, noise: Array, qtransform: QTransform, before: Any, invalid_actions: Array | None
) -> PolicyOutput:
    """Takes the action with the highest ``g + logits + q`` among those that sequential halving left."""
    root = root_stats(tree)
    visits = root.children_visits - before
    score = selection.considered_score(root, visits, noise, qtransform, jnp.max(visits, axis=-1))
    if invalid_actions is not None:
        score = jnp.where(invalid_actions != 0, -jnp.inf, score)
    logits = mask_logits(root.prior_logits + qtransform(root), invalid_actions)
    return PolicyOutput(jnp.argmax(score, axis=-1).astype(jnp.int32), jax.nn.softmax(logits, axis=-1), tree)


def in_proportion(key: Array, weights: Array, temperature: Any) -> Array:
    """Samples actions ``[B]`` in proportion to ``weights^(1 / temperature)``.

    At temperature 0 it is the argmax, ties broken at random.

    Args:
      key: consumed.
      weights: ``[B, A]``, at least 0, such as visits; an action of weight 0 is never taken, unless all weights are 0.
      temperature: a number, at least 0.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    check_key(key)
    check_float("temperature", temperature, NON_NEGATIVE)
    if jnp.ndim(weights) != 2:
        raise ValueError(f"weights: got shape {jnp.shape(weights)}, must be [B, A]")
    weights = jnp.asarray(weights, jnp.promote_types(jnp.result_type(weights), jnp.float32))
    weights = jnp.where(jnp.any(weights > 0, axis=-1, keepdims=True), weights, 1.0)
    tiny = jnp.finfo(weights.dtype).tiny
    logits = jnp.where(weights > 0, jnp.log(jnp.maximum(weights, tiny)), -jnp.inf)
    # The largest logit is moved to 0, or a low temperature would make it overflow.
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / jnp.maximum(tiny, temperature)
    return jax.random.categorical(key, logits).astype(jnp.int32)


def _by_visits(key: Array, tree: Tree, temperature: Any) -> PolicyOutput:
    weights = tree.summary().visit_probs
    return PolicyOutput(in_proportion(key, weights, temperature), weights, tree)


def _with_noise(key: Array, root: Any, fraction: Any, alpha: Any) -> RootFnOutput:
    """Dirichlet noise mixed into the prior."""
    probs = jax.nn.softmax(jnp.asarray(root.prior_logits, numerics.wide(root.value)), axis=-1)
    if isinstance(fraction, jax.core.Tracer) or float(fraction) > 0:
        concentration = jnp.full(probs.shape[-1:], alpha, probs.dtype)
        noise = jax.random.dirichlet(key, concentration, probs.shape[:1], probs.dtype)
        probs = (1 - fraction) * probs + fraction * noise
    return RootFnOutput(jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny)), root.value, root.embedding)


def root_stats(tree: Tree) -> NodeStats:
    """The statistics of the roots, as selection rules see them, without the noise against ties."""
    return NodeStats(
        visits=tree.node_visits[:, ROOT],
        value=tree.node_values[:, ROOT],
        raw_value=tree.raw_values[:, ROOT],
        children_visits=tree.children_visits[:, ROOT],
        children_qvalues=tree.children_qvalues[:, ROOT],
        prior_logits=tree.children_prior_logits[:, ROOT],
        prior_probs=tree.children_prior_probs[:, ROOT],
        noise=jnp.zeros_like(tree.children_prior_probs[:, ROOT]),
    )
