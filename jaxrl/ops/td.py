"""One-step targets from action values, and state values of a policy over them.

Legend of shapes: action values are ``[..., A]`` for A actions, everything else ``[...]``, with batch axes in front.
Names carry the time, as in ``returns``: ``q_tm1`` belongs to the observation acted on, ``q_t`` to the true next one,
``r_t`` and ``discount_t`` (gamma included) to the step between them.

Methods differ in the value of the next state:

  SARSA               ``take_action(q_t, a_t)``
  expected SARSA      ``expected_value(q_t, probs_t)``
  Q-learning          ``masked_max(q_t, mask_t)``
  double Q-learning   ``double_q_value(q_t, q_selector_t, mask_t)``
  discrete SAC        ``soft_value(q_t, logits_t, temperature)``

``one_step_target`` puts it after one step, or after the n steps of a replay; the targets named after the methods do
this. ``returns.lambda_returns`` uses it in a trajectory: ``v_t = masked_max(q_t)`` gives Peng's Q(lambda), and
``lambda_ = lambda * (a_t == masked_argmax(q_t))``, per index, gives Watkins's Q(lambda).

In a mask True is legal. Illegal actions are never chosen and never bootstrapped from. In a row without any legal
action, which a finished game may have, all actions are treated as legal: the value is finite, and a discount of 0
removes it.

The gradient is stopped on targets. State values are differentiable.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops.policy_gradient import categorical_entropy

Array = jax.Array


def take_action(values: Array, action: Array) -> Array:
    """The values of the actions taken: ``values[..., action, ...]``.

    It selects by comparison because a gather, and the scatter in its gradient, are slow on CPU under ``vmap``. The
    other actions' values, infinities included, affect neither the result nor the gradient.

    Args:
      values: ``[..., A, *rest]``; rest is empty for action values and ``[K]`` for distributions over K atoms.
      action: ``[...]`` integers. An action outside of ``[0, A)`` gives 0.

    Returns:
      ``[..., *rest]``.

    Raises:
      ValueError: the leading axes of ``values`` are not those of ``action``.

    >>> take_action(jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), jnp.array([2, 0])).tolist()
    [3.0, 4.0]
    """
    values, action = jnp.asarray(values), jnp.asarray(action)
    axis = action.ndim
    if values.ndim <= axis or values.shape[:axis] != action.shape:
        raise ValueError(
            f"values: got shape {values.shape}, must be [*{list(action.shape)}, A, ...] for actions of {action.shape}"
        )
    taken = jax.nn.one_hot(action, values.shape[axis], dtype=bool)
    taken = taken.reshape(taken.shape + (1,) * (values.ndim - taken.ndim))
    return jnp.sum(jnp.where(taken, values, jnp.zeros_like(values)), axis=axis)


def legal_or_all(mask: Array) -> Array:
    """The mask, with rows without any legal action replaced by rows in which all are legal.

    Args:
      mask: ``[..., A]`` bool.

    Returns:
      ``[..., A]`` bool, at least one True in each row.
    """
    return jnp.logical_or(mask, jnp.logical_not(jnp.any(mask, axis=-1, keepdims=True)))


def masked_max(values: Array, mask: Array | None = None) -> Array:
    """The largest value of a legal action.

    Args:
      values: ``[..., A]``.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[...]``.

    >>> masked_max(jnp.array([1.0, 9.0, 2.0]), jnp.array([True, False, True])).item()
    2.0
    """
    return jnp.max(_push_out_illegal(values, mask), axis=-1)


def masked_argmax(values: Array, mask: Array | None = None) -> Array:
    """The legal action with the largest value; the first of equal ones.

    Args:
      values: ``[..., A]``.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[...]`` int32.

    >>> masked_argmax(jnp.array([2.0, 9.0, 2.0]), jnp.array([True, False, True])).item()
    0
    """
    return jnp.argmax(_push_out_illegal(values, mask), axis=-1).astype(jnp.int32)


def expected_value(q: Array, probs: Array) -> Array:
    """``sum_a pi(a|s) q(s, a)``.

    Args:
      q: ``[..., A]``, finite also where illegal.
      probs: ``[..., A]``, the policy, 0 where illegal.

    Returns:
      ``[...]``.
    """
    return jnp.sum(probs * q, axis=-1)


def double_q_value(q: Array, q_selector: Array, mask: Array | None = None) -> Array:
    """``q(s, argmax_a q_selector(s, a))``: one estimate selects the action, the other evaluates it.

    The maximum of noisy estimates is biased upwards; an independent estimate of the maximising action's value is not.
    van Hasselt 2010, "Double Q-learning"; van Hasselt et al. 2016, arXiv:1509.06461, where the online network selects
    and the target network evaluates.

    Args:
      q: ``[..., A]``, the values that evaluate, of the target network.
      q_selector: ``[..., A]``, the values that select, of the online network.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[...]``.
    """
    return take_action(q, masked_argmax(q_selector, mask))


def soft_value(q: Array, logits: Array, temperature: Any) -> Array:
    """The entropy-regularised value: ``sum_a pi(a|s) (q(s, a) - alpha log pi(a|s))``.

    With ``q`` held constant, its negative is the policy's loss. Haarnoja et al. 2018, arXiv:1812.05905,
    eq. 3; Christodoulou 2019, arXiv:1910.07207, eqs. 10 and 12, where the expectation over discrete actions is exact.

    Args:
      q: ``[..., A]``, finite also where illegal.
      logits: ``[..., A]``, of the policy, very negative or ``-inf`` where illegal.
      temperature: scalar or ``[...]``, alpha.

    Returns:
      ``[...]``.

    >>> round(soft_value(jnp.array([1.0, 3.0]), jnp.zeros(2), 0.5).item(), 4)  # 2 + 0.5 log 2
    2.3466
    """
    # A row of -inf only is uniform here, as it is in the entropy.
    probs = jax.nn.softmax(jnp.maximum(logits, 0.5 * float(jnp.finfo(logits.dtype).min)))
    return expected_value(q, probs) + temperature * categorical_entropy(logits)


def one_step_target(r_t: Array, discount_t: Array, v_t: Array) -> Array:
    """``r_t + discount_t v_t``, held constant: the form of every target here.

    For an n-step replay, ``r_t`` is the discounted sum of n rewards and ``discount_t`` the weight of the value after
    them.

    Args:
      r_t: ``[...]`` rewards.
      discount_t: ``[...]`` discounts, gamma included: see ``returns.bootstrap_discount``.
      v_t: ``[...]`` values of the true next observations.

    Returns:
      ``[...]``.
    """
    return jax.lax.stop_gradient(r_t + discount_t * v_t)


def td_error(v_tm1: Array, r_t: Array, discount_t: Array, v_t: Array) -> Array:
    """``r_t + discount_t v_t - v_tm1``, the target held constant.

    Sutton 1988, "Learning to predict by the methods of temporal differences". For action values, ``v_tm1`` is
    ``take_action(q_tm1, a_tm1)``.

    Args:
      v_tm1: ``[...]``, values of the observations, or of the actions taken there.
      r_t: ``[...]`` rewards.
      discount_t: ``[...]`` discounts, gamma included.
      v_t: ``[...]`` values of the true next observations.

    Returns:
      ``[...]``, positive where the outcome was better than expected. TD(0) adds it, times a step size, to ``v_tm1``.
    """
    return one_step_target(r_t, discount_t, v_t) - v_tm1


def sarsa_target(r_t: Array, discount_t: Array, q_t: Array, a_t: Array) -> Array:
    """``r_t + discount_t q_t[a_t]``. Rummery and Niranjan 1994; Sutton and Barto 2018, eq. 6.7.

    Args:
      r_t: ``[...]`` rewards.
      discount_t: ``[...]`` discounts, gamma included.
      q_t: ``[..., A]`` action values of the true next observations.
      a_t: ``[...]``, the actions taken there.

    Returns:
      ``[...]``.
    """
    return one_step_target(r_t, discount_t, take_action(q_t, a_t))


def expected_sarsa_target(r_t: Array, discount_t: Array, q_t: Array, probs_t: Array) -> Array:
    """``r_t + discount_t sum_a pi(a) q_t[a]``. van Seijen et al. 2009; Sutton and Barto 2018, eq. 6.9.

    Args:
      r_t: ``[...]`` rewards.
      discount_t: ``[...]`` discounts, gamma included.
      q_t: ``[..., A]`` action values of the true next observations.
      probs_t: ``[..., A]``, the policy there, 0 where illegal.

    Returns:
      ``[...]``.
    """
    return one_step_target(r_t, discount_t, expected_value(q_t, probs_t))


def q_learning_target(r_t: Array, discount_t: Array, q_t: Array, mask_t: Array | None = None) -> Array:
    """``r_t + discount_t max_a q_t[a]``. Watkins 1989; Sutton and Barto 2018, eq. 6.8.

    Args:
      r_t: ``[...]`` rewards.
      discount_t: ``[...]`` discounts, gamma included; ``-gamma`` where the other player moves next.
      q_t: ``[..., A]`` action values of the true next observations.
      mask_t: ``[..., A]`` bool, the legal actions there, or None.

    Returns:
      ``[...]``.

    >>> q_learning_target(jnp.ones(1), jnp.full(1, 0.5), jnp.array([[2.0, 8.0]]), jnp.array([[True, False]])).tolist()
    [2.0]
    """
    return one_step_target(r_t, discount_t, masked_max(q_t, mask_t))


def double_q_learning_target(
    r_t: Array, discount_t: Array, q_t: Array, q_selector_t: Array, mask_t: Array | None = None
) -> Array:
    """``r_t + discount_t q_t[argmax_a q_selector_t[a]]``, see ``double_q_value``.

    Args:
      r_t: ``[...]`` rewards.
      discount_t: ``[...]`` discounts, gamma included.
      q_t: ``[..., A]``, of the true next observations, by the target network.
      q_selector_t: ``[..., A]``, of the same observations, by the online network.
      mask_t: ``[..., A]`` bool, the legal actions there, or None.

    Returns:
      ``[...]``.
    """
    return one_step_target(r_t, discount_t, double_q_value(q_t, q_selector_t, mask_t))


def _push_out_illegal(values: Array, mask: Array | None) -> Array:
    return values if mask is None else jnp.where(legal_or_all(mask), values, -jnp.inf)


__all__ = [
    "double_q_learning_target",
    "double_q_value",
    "expected_sarsa_target",
    "expected_value",
    "legal_or_all",
    "masked_argmax",
    "masked_max",
    "one_step_target",
    "q_learning_target",
    "sarsa_target",
    "soft_value",
    "take_action",
    "td_error",
]


def __dir__() -> list[str]:
    return sorted(__all__)
