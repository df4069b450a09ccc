"""STEVE: value expansion that trusts a horizon as far as models and critics agree on it. Buckman et al. 2018."""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxrl.agents.mbve import Base, base_of, mbve
from jaxrl.agents.mbve import functions as functions
from jaxrl.agents.parts import expansion
from jaxrl.agents.parts.critics import default_torso as default_torso
from jaxrl.arguments import Count, CountOrZero
from jaxrl.signature import recipe
from jaxrl.types import Agent, Spec


@recipe(extends=mbve, without=("targets", "num_elites"))
def steve(
    spec: Spec,
    *,
    base: str | Base = "td3",
    horizon: CountOrZero = 3,
    num_critics: Count = 4,
    num_members: Count = 4,
    **options: Any,
) -> Agent:
    """Stochastic ensemble value expansion: targets of all horizons, weighted by the inverse of their variance.

    ``y = r + gamma sum_{h<=H} w_h mean V_h(s')``, ``w_h ~ 1 / var V_h(s')`` over all pairs of a member of the ensemble
    and a critic, where V_h looks h steps ahead; see ``agents.parts.expansion.inverse_variance``. Where the model is
    wrong, its members differ and short horizons get the weight. Buckman et al. 2018, "Sample-efficient reinforcement
    learning with stochastic ensemble value expansion", arXiv:1807.01675. Every float may be a tracer.

    Args:
      spec: the environment's spec; its observations are vectors.
      base: "td3" or "sac", or one of these recipes with options bound; the critics of its targets are ``num_critics``.
      horizon: H, the largest number of steps in the model.
      num_critics: number of critics; the variance is taken over them and the members.
      num_members: number of networks of the ensemble.

    Returns:
      An ``Agent`` whose state is a ``combinators.DynamicsState``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    if base == "ddpg":
        raise ValueError("base: got 'ddpg', which has one critic; must be td3 or sac, whose critics may differ")
    make = partial(base_of(base), num_critics=num_critics)
    targets = expansion.inverse_variance
    return mbve(spec, base=make, horizon=horizon, targets=targets, num_members=num_members, **options)
