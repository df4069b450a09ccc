"""QR-DQN: the distribution of the return as quantiles. Dabney et al. 2018, arXiv:1710.10044."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.action_values import Criterion, action_values
from jaxrl.agents.signature import extends
from jaxrl.arguments import NON_NEGATIVE, check_count, check_float
from jaxrl.ops import distributional
from jaxrl.types import Agent, Array, Spec


def quantile_terms(
    chosen: Array, next_chosen: Array, reward: Array, discount: Array, tau: Array, kappa: Any
) -> tuple[Array, Array]:
    """The quantile Huber loss at fractions ``tau``; the priority is the absolute error of the mean."""
    target = distributional.target_atoms(reward, discount, next_chosen)
    loss = distributional.quantile_huber_term(chosen, target, tau, kappa)
    return loss, abs(target.mean(axis=-1) - chosen.mean(axis=-1))


def fixed_quantiles(num_quantiles: int, kappa: Any = 1.0) -> Criterion:
    """Quantiles at the midpoints ``(i + 1/2) / M``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_count("num_quantiles", num_quantiles)
    check_float("kappa", kappa, NON_NEGATIVE)
    tau = distributional.quantile_midpoints(num_quantiles)

    def terms(chosen: Array, next_chosen: Array, reward: Array, discount: Array) -> tuple[Array, Array]:
        return quantile_terms(chosen, next_chosen, reward, discount, tau, kappa)

    return Criterion(num_outputs=num_quantiles, mean=lambda quantiles: quantiles.mean(axis=-1), terms=terms)


@extends(action_values, without=("criterion", "name"))
def qr_dqn(spec: Spec, *, num_quantiles: int = 50, kappa: float = 1.0, **options: Any) -> Agent:
    """Quantile-regression DQN: the distribution of each action's return as quantiles, by the quantile Huber loss.

    ``L = E w sum_i mean_j |tau_i - 1[u_ij < 0]| huber(u_ij) / kappa``, ``u_ij = r + gamma Z'_j(s', a*) - Z_i(s, a)``,
    ``a* = argmax mean_j Z'_j``. Dabney et al. 2018, "Distributional reinforcement learning with quantile regression".
    Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      num_quantiles: M quantiles an action.
      kappa: where the loss turns linear, in units of the return; 0 for plain quantile regression.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    return action_values(spec, criterion=fixed_quantiles(num_quantiles, kappa), name="qr_dqn", **options)
