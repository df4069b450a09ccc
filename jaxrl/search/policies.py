"""Policies: a search from a batch of states returns actions to take and policies to learn from.

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
    """The search of AlphaZero and MuZero.

    At each node it follows ``argmax_a q(a) + pi(a) sqrt(n) / (1 + n(a)) c(n)``; pi at the root is mixed with Dirichlet
    noise. The action is sampled in proportion to ``n(a)^(1 / temperature)``. Silver et al., "A general reinforcement
    learning algorithm that masters chess, shogi, and Go through self-play", 2018; Schrittwieser et al., 2020,
    https://arxiv.org/abs/1911.08265.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``.
      recurrent_fn: the model, see ``RecurrentFn``.
      num_simulations: calls of the model per state.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      max_depth: the longest path from the root, in steps.
      capacity: the nodes of each tree, by default ``num_simulations + 1``.
      tree: the tree that ``subtree`` kept from an earlier search.
      qtransform: scales q-values to [0, 1].
      dirichlet_fraction: the fraction of noise in the root's prior; 0 for none.
      dirichlet_alpha: the concentration of the noise; a low one favours few actions.
      pb_c_init: the initial weight of the prior.
      pb_c_base: the number of visits over which that weight grows.
      temperature: 1 samples in proportion to visits, 0 takes the most visited action.

    Returns:
      The actions, the fractions of visits, and the trees.

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
    """UCT, which has no prior and estimates values by rollouts, see ``rollouts``.

    It first follows every action once, then ``argmax_a q(a) + exploration sqrt(log n / n(a))``. Kocsis and Szepesvari,
    "Bandit based Monte-Carlo planning", 2006.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``; its logits are ignored.
      recurrent_fn: the model, a simulator wrapped by ``with_rollouts``; the logits of its output are ignored.
      num_simulations: calls of the model per state.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      max_depth: the longest path from the root, in steps.
      capacity: the nodes of each tree, by default ``num_simulations + 1``.
      tree: the tree that ``subtree`` kept from an earlier search.
      exploration: the exploration constant; sqrt(2) suits returns within a range of 1.
      temperature: 0 takes the most visited action, 1 samples in proportion to visits.

    Returns:
      The actions, the fractions of visits, and the trees.

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
    """The search of Gumbel MuZero, good with few simulations.

    At the root it runs sequential halving among the actions with the highest ``g(a) + logits(a)``, where g is Gumbel
    noise. Below the root it visits actions in proportion to the improved policy ``softmax(logits + q)``. Danihelka et
    al., "Policy improvement by planning with Gumbel", 2022, https://openreview.net/forum?id=bERaNdoegnO.

    Args:
      key: consumed.
      params: the parameters of the model.
      root: a ``RootFnOutput``.
      recurrent_fn: the model, see ``RecurrentFn``.
      num_simulations: calls of the model per state.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      max_depth: the longest path from the root, in steps.
      capacity: the nodes of each tree, by default ``num_simulations + 1``.
      tree: the tree that ``subtree`` kept from an earlier search; halving counts the visits of this search only.
      qtransform: completes the q-values and scales them to be added to logits.
      max_num_considered_actions: the number of actions that halving begins with; fewer if fewer are legal.
      gumbel_scale: the scale of the Gumbel noise; 0 for none.

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
    """Takes the action with the highest ``g + logits + q`` among those that sequential halving kept."""
    root = root_stats(tree)
    visits = root.children_visits - before
    score = selection.considered_score(root, visits, noise, qtransform, jnp.max(visits, axis=-1))
    if invalid_actions is not None:
        score = jnp.where(invalid_actions != 0, -jnp.inf, score)
    logits = mask_logits(root.prior_logits + qtransform(root), invalid_actions)
    return PolicyOutput(jnp.argmax(score, axis=-1).astype(jnp.int32), jax.nn.softmax(logits, axis=-1), tree)


def in_proportion(key: Array, weights: Array, temperature: Any) -> Array:
    """Samples actions ``[B]`` in proportion to ``weights^(1 / temperature)``.

    At temperature 0 it takes the argmax, ties broken at random.

    Args:
      key: consumed.
      weights: ``[B, A]``, at least 0, such as visits. An action of weight 0 is never taken, unless all weights are 0.
      temperature: at least 0.

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
    # The largest logit is shifted to 0 so that a low temperature can't make it overflow.
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / jnp.maximum(tiny, temperature)
    return jax.random.categorical(key, logits).astype(jnp.int32)


def _by_visits(key: Array, tree: Tree, temperature: Any) -> PolicyOutput:
    weights = tree.summary().visit_probs
    return PolicyOutput(in_proportion(key, weights, temperature), weights, tree)


def _with_noise(key: Array, root: Any, fraction: Any, alpha: Any) -> RootFnOutput:
    """Mixes Dirichlet noise into the prior of the root."""
    probs = jax.nn.softmax(jnp.asarray(root.prior_logits, numerics.wide(root.value)), axis=-1)
    if isinstance(fraction, jax.core.Tracer) or float(fraction) > 0:
        concentration = jnp.full(probs.shape[-1:], alpha, probs.dtype)
        noise = jax.random.dirichlet(key, concentration, probs.shape[:1], probs.dtype)
        probs = (1 - fraction) * probs + fraction * noise
    return RootFnOutput(jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny)), root.value, root.embedding)


def root_stats(tree: Tree) -> NodeStats:
    """The ``NodeStats`` of the roots, without the noise that breaks ties."""
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
