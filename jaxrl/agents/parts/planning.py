"""Planning with a network: how the planning recipes call ``jaxrl.search``, and the actions they take.

Legend: B states, A actions.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import networks, search
from jaxrl.arguments import NON_NEGATIVE, check_callable, check_count, check_float
from jaxrl.ops import value
from jaxrl.search import PolicyOutput, RootFnOutput, models, qtransforms
from jaxrl.types import Array, Model, PyTree


class SearchFn(Protocol):
    """The search of a recipe: ``gumbel``, ``puct``, one of these with arguments bound, or a custom function."""

    def __call__(
        self,
        key: Array,
        params: PyTree,
        root: RootFnOutput,
        recurrent_fn: Any,
        num_simulations: int,
        invalid_actions: Array | None,
        *,
        explore: bool,
        bounded: bool,
        steps: Array,
    ) -> PolicyOutput:
        """Searches from B states; the positional arguments are those of ``jaxrl.search.puct``.

        Args:
          key: consumed.
          params: parameters of the model and of the network, ``search.models.Params``.
          root: prior, value and embedding of the states.
          recurrent_fn: one step of the model, evaluated by the network.
          num_simulations: model steps of each search.
          invalid_actions: ``[B, A]``, or None.
          explore: whether to add exploration noise.
          bounded: whether values lie in [-1, 1].
          steps: ``[B]`` steps taken in the episode so far.

        Returns:
          The actions to take ``[B]``, and as ``action_weights`` ``[B, A]`` the policies to learn, which sum to one.
        """
        ...


def true_state(observation: Any) -> PyTree:
    """The simulator's state in an observation.

    Raises:
      ValueError: the observation has no ``env_state``.
    """
    env_state = getattr(observation, "env_state", None)
    if env_state is None:
        raise ValueError("observation: got no env_state to plan from; wrap the environment: envs.expose_state(env)")
    return env_state


def evaluate(network: networks.PolicyValue, params: PyTree, observation: Any) -> tuple[Array, Array]:
    """``(p, v) = f(s)`` for a search: logits ``[B, A]``, and values ``[B]`` in units of returns."""
    outputs: Any = network.apply(params, observation)
    return outputs.policy.logits, outputs.value if network.bounded else value.expand(outputs.value)


def steps_taken(model: Model, state: PyTree, batch: tuple[int, ...]) -> Array:
    """``[B]`` the steps taken in the episodes of states; 0 where the model does not count them."""
    count = model.steps_taken
    return jnp.zeros(batch, jnp.int32) if count is None else jax.vmap(count)(state)


def gumbel(
    key: Array,
    params: PyTree,
    root: RootFnOutput,
    recurrent_fn: Any,
    num_simulations: int,
    invalid_actions: Array | None,
    *,
    explore: bool,
    bounded: bool,
    steps: Array,
    max_num_considered_actions: int = 16,
    gumbel_scale: float = 1.0,
    value_scale: float = 0.1,
) -> PolicyOutput:
    """Gumbel MuZero's search, which works with few simulations; without noise where ``explore`` is False.

    Danihelka et al. 2022, "Policy improvement by planning with Gumbel". The action is the last one left by
    sequential halving; the policy to learn is the improved policy ``softmax(logits + q)``.

    Args:
      key: consumed.
      params, root, recurrent_fn, num_simulations, invalid_actions: as in ``jaxrl.search.gumbel``.
      explore, bounded, steps: see ``SearchFn``.
      max_num_considered_actions: number of actions at the start of sequential halving.
      gumbel_scale: the scale of the noise.
      value_scale: weight of values relative to logits; the paper uses 0.1 for Atari, 1 for Go and chess.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    del bounded, steps
    check_float("value_scale", value_scale, NON_NEGATIVE)
    return search.gumbel(
        key,
        params,
        root,
        recurrent_fn,
        num_simulations,
        invalid_actions,
        qtransform=partial(qtransforms.completed_by_mix_value, value_scale=value_scale),
        max_num_considered_actions=max_num_considered_actions,
        gumbel_scale=gumbel_scale if explore else 0.0,
    )


def puct(
    key: Array,
    params: PyTree,
    root: RootFnOutput,
    recurrent_fn: Any,
    num_simulations: int,
    invalid_actions: Array | None,
    *,
    explore: bool,
    bounded: bool,
    steps: Array,
    temperature: float = 1.0,
    temperature_steps: int | None = None,
    dirichlet_fraction: float = 0.25,
    dirichlet_alpha: float = 0.3,
    pb_c_init: float = 1.25,
) -> PolicyOutput:
    """AlphaZero's search; without noise and with the most visited action where ``explore`` is False.

    Silver et al. 2018. The policy to learn is the fraction of visits of each action.

    Args:
      key: consumed.
      params, root, recurrent_fn, num_simulations, invalid_actions: as in ``jaxrl.search.puct``.
      explore, bounded, steps: see ``SearchFn``.
      temperature: actions are sampled with probabilities proportional to visits^(1 / temperature).
      temperature_steps: after so many steps of an episode the most visited action is taken; None for never.
      dirichlet_fraction: fraction of noise in the root's prior.
      dirichlet_alpha: the concentration of the noise, about 10 / moves.
      pb_c_init: exploration constant, the weight of the prior.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    check_float("temperature", temperature, NON_NEGATIVE)
    if temperature_steps is not None:
        check_count("temperature_steps", temperature_steps, least=0)
    search_key, draw_key = jax.random.split(key)
    found = search.puct(
        search_key,
        params,
        root,
        recurrent_fn,
        num_simulations,
        invalid_actions,
        # Bounded values keep their scale; others are rescaled within each node.
        qtransform=_BY_BOUNDS if bounded else qtransforms.by_parent_and_siblings,
        dirichlet_fraction=dirichlet_fraction if explore else 0.0,
        dirichlet_alpha=dirichlet_alpha,
        pb_c_init=pb_c_init,
    )
    most_visited = jnp.argmax(found.action_weights, axis=-1).astype(jnp.int32)
    if not explore:
        return found._replace(action=most_visited)
    drawn = search.in_proportion(draw_key, found.action_weights, temperature)
    early = jnp.ones(steps.shape, bool) if temperature_steps is None else steps < temperature_steps
    return found._replace(action=jnp.where(early, drawn, most_visited))


_BY_BOUNDS = partial(qtransforms.by_min_max, min_value=-1.0, max_value=1.0)

SEARCHES: dict[str, SearchFn] = {"gumbel": gumbel, "puct": puct}
"""The searches by name."""


def search_fn(search: Any) -> SearchFn:
    """The search for a name, or the given function, whose arguments are checked.

    Raises:
      TypeError, ValueError: an unknown name, not a function, or a function with other arguments.
    """
    if isinstance(search, str):
        if search not in SEARCHES:
            raise ValueError(f"search: got {search!r}, must be {' or '.join(SEARCHES)}, or a function")
        return SEARCHES[search]
    check_callable("search", search, "gumbel, puct or a function, see planning.SearchFn")
    try:
        inspect.signature(search).bind(*[None] * 6, explore=True, bounded=True, steps=None)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"search: got {getattr(search, '__name__', search)!r}, must take (key, params, root, recurrent_fn, "
            "num_simulations, invalid_actions, *, explore, bounded, steps) as planning.gumbel and planning.puct do: "
            f"{error}"
        ) from error
    return search


def plan(
    search: SearchFn,
    key: Array,
    params: models.Params,
    model: Model,
    evaluate: models.Evaluate,
    state: PyTree,
    observation: Any,
    invalid_actions: Array | None,
    num_simulations: int,
    *,
    gamma: Any,
    explore: bool,
    bounded: bool,
) -> PolicyOutput:
    """Searches in a model from B of its states; without ``explore`` the result does not depend on the key.

    Args:
      search: see ``SearchFn``.
      key: consumed.
      params: parameters of the model and of the evaluation.
      model: see ``types.Model``.
      evaluate: logits and values of the model's observations.
      state: states of the model, leaves ``[B, ...]``.
      observation: ``[B, ...]`` their observations, for ``evaluate``.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal at the root, or None.
      num_simulations: model steps of each search.
      gamma: discount factor per step.
      explore: whether to add exploration noise.
      bounded: whether values lie in [-1, 1].

    Raises:
      TypeError, ValueError: the search returned something else than a valid ``PolicyOutput``.
    """
    root = models.root(evaluate, params, state, observation)  # (p, v) = f(s), then pi by the search
    batch, num_actions = root.prior_logits.shape
    found = search(
        # Without noise the key only breaks ties and samples a stochastic simulator, so a constant key is used.
        key if explore else jax.random.key(0),
        params,
        root,
        models.recurrent_fn(model, evaluate, gamma),
        num_simulations,
        invalid_actions,
        explore=explore,
        bounded=bounded,
        steps=steps_taken(model, state, (batch,)),
    )
    check_found(found, batch, num_actions)
    return found


def check_found(found: Any, batch: int, num_actions: int) -> None:
    """Checks the result of a search.

    Raises:
      TypeError, ValueError: a field is missing, or has the wrong shape or dtype.
    """
    wanted = {"action": ((batch,), jnp.integer), "action_weights": ((batch, num_actions), jnp.floating)}
    for field, (shape, kind) in wanted.items():
        given = getattr(found, field, None)
        if given is None:
            raise TypeError(f"search: returned a {type(found).__name__} without {field}, must be a search.PolicyOutput")
        if given.shape != shape or not jnp.issubdtype(given.dtype, kind):
            what = "integers of shape" if kind is jnp.integer else "floats that sum to one, of shape"
            raise ValueError(f"search: returned {field} {given.dtype}{list(given.shape)}, must be {what} {list(shape)}")
