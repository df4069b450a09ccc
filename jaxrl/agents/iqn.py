"""IQN: quantiles of the return at fractions that are drawn anew. Dabney et al. 2018, arXiv:1806.06923."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jaxrl import networks
from jaxrl.agents.action_values import Criterion, Inputs, action_values
from jaxrl.agents.qr_dqn import quantile_terms
from jaxrl.agents.signature import extends
from jaxrl.arguments import NON_NEGATIVE, check_count, check_float
from jaxrl.ops import distributional
from jaxrl.types import Agent, Array, Spec


def sampled_quantiles(
    num_fractions: int, num_target_fractions: int, num_policy_fractions: int, num_cosines: int, kappa: Any
) -> Criterion:
    """Quantiles at uniform fractions, each sample's own; actions are chosen by the mean over fixed midpoints.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_count("num_fractions", num_fractions)
    check_count("num_target_fractions", num_target_fractions)
    check_count("num_policy_fractions", num_policy_fractions)
    check_count("num_cosines", num_cosines)
    check_float("kappa", kappa, NON_NEGATIVE)

    def drawn(count: int, key: Array, num: int) -> Inputs:
        return (jax.random.uniform(key, (num, count)),)

    return Criterion(
        num_outputs=None,
        mean=lambda quantiles: quantiles.mean(axis=-1),
        terms=partial(quantile_terms, kappa=kappa),
        head=lambda head: networks.ImplicitQuantileHead(head, num_cosines),
        online_inputs=partial(drawn, num_fractions),
        target_inputs=partial(drawn, num_target_fractions),
        policy_inputs=lambda: (distributional.quantile_midpoints(num_policy_fractions),),
    )


@extends(action_values, without=("criterion", "name"))
def iqn(
    spec: Spec,
    *,
    num_fractions: int = 8,
    num_target_fractions: int = 8,
    num_policy_fractions: int = 32,
    num_cosines: int = 64,
    kappa: float = 1.0,
    **options: Any,
) -> Agent:
    """Implicit quantile network: the return's quantile function itself, regressed at random fractions.

    ``L = E w sum_i mean_j |tau_i - 1[u_ij < 0]| huber(u_ij) / kappa``, ``u_ij = r + gamma Z'_tau'_j(s', a*) -
    Z_tau_i(s, a)``, ``tau, tau' ~ U(0, 1)``. Dabney et al. 2018, "Implicit quantile networks for distributional
    reinforcement learning". It deviates in one thing: the paper chooses actions by the mean over K random fractions,
    here they are the K midpoints, so that the greedy policy draws nothing. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      num_fractions: N fractions drawn for the network in training; the paper ends with 64, and 8 come close.
      num_target_fractions: N' fractions drawn for the target network.
      num_policy_fractions: K fractions that actions are chosen by.
      num_cosines: n, width of the embedding of a fraction.
      kappa: where the loss turns linear, in units of the return; 0 for plain quantile regression.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    criterion = sampled_quantiles(num_fractions, num_target_fractions, num_policy_fractions, num_cosines, kappa)
    return action_values(spec, criterion=criterion, name="iqn", **options)
