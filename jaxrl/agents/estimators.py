"""From rewards and values to advantages and value targets: what the on-policy recipes estimate with."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.agents.on_policy import Estimate
from jaxrl.ops import returns
from jaxrl.types import Array, Transition


def gae(transition: Transition, v_tm1: Array, v_t: Array, *, gamma: Any, lambda_: Any) -> Estimate:
    """Generalised advantages ``A`` and the TD(lambda) targets ``A + V``. Schulman et al. 2016, arXiv:1506.02438.

    Args:
      transition: a trajectory ``[T, B]``.
      v_tm1: ``[T, B]`` values of the observations acted on.
      v_t: ``[T, B]`` values of the true next observations.
      gamma, lambda_: discount, and the mixture of horizons; tracers are fine.
    """
    discount_t = returns.bootstrap_discount(transition.discount, gamma)
    continue_t = returns.continues(transition.terminated, transition.truncated)
    advantage = returns.gae(transition.reward, discount_t, v_tm1, v_t, continue_t, lambda_)
    return Estimate(advantage, advantage + v_tm1, v_tm1)


def monte_carlo(transition: Transition, v_tm1: Array, v_t: Array, *, gamma: Any) -> Estimate:
    """Returns to go of the episodes that end within the trajectory; no value is asked, nothing is bootstrapped.

    Steps whose episode is still under way at the end of the trajectory have no known return: their weight is 0.
    """
    discount_t = returns.bootstrap_discount(transition.discount, gamma)
    continue_t = returns.continues(transition.terminated, transition.truncated)
    to_go = returns.discounted_returns(transition.reward, discount_t, jnp.zeros_like(v_t), continue_t)
    ends_ahead = jnp.cumsum(~continue_t, axis=0)[-1:] - jnp.cumsum(~continue_t, axis=0) + ~continue_t
    return Estimate(to_go, to_go, v_tm1, weight=(ends_ahead > 0).astype(to_go.dtype))
