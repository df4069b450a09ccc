"""TD3: DDPG with two critics, noise on the targets' actions, and a slower actor. Fujimoto et al. 2018."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.actor_critics import Networks, Roles, Rule, actor_critics
from jaxrl.agents.ddpg import deterministic
from jaxrl.agents.signature import extends
from jaxrl.arguments import NON_NEGATIVE, check_count, check_float
from jaxrl.ops import exploration
from jaxrl.types import Agent, Array, Spec


@extends(actor_critics, without=("make_rule", "name"))
def td3(
    spec: Spec,
    *,
    exploration_noise: float = 0.1,
    target_noise: float = 0.2,
    target_noise_clip: float = 0.5,
    policy_delay: int = 2,
    **options: Any,
) -> Agent:
    """Twin delayed DDPG: targets by the smaller of two critics at an action with noise, the actor every other step.

    ``y = r + gamma min_i Q_i'(s', clip(mu'(s') + clip(N(0, sigma^2), -c, c)))``, ``sum_i E w (y - Q_i(s, a))^2 / 2``
    for the critics, ``-E Q_1(s, mu(s))`` for the actor. Fujimoto et al. 2018, "Addressing function approximation error
    in actor-critic methods", arXiv:1802.09477. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are continuous.
      exploration_noise: deviation of the noise on actions, in units of the bounds, where the range is [-1, 1].
      target_noise: deviation sigma of the noise on the actions of targets, in the same units.
      target_noise_clip: that noise is clipped to it, c.
      policy_delay: gradient steps of the critics for one of the actor and one move of the targets.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_float("target_noise", target_noise, NON_NEGATIVE)
    check_float("target_noise_clip", target_noise_clip, NON_NEGATIVE)
    check_count("policy_delay", policy_delay)

    def next_value(key: Array, nets: Networks, params: Roles, target_params: Roles, observation: Any) -> Array:
        best = nets.policy(target_params, observation)
        smoothed = exploration.gaussian(key, best, target_noise, target_noise_clip)
        return nets.values(target_params, observation, smoothed).min(axis=0)

    def rule(spec: Spec) -> Rule:
        plain = deterministic(spec, "td3", exploration_noise)
        return plain._replace(next_value=next_value, num_critics=2, policy_delay=policy_delay)

    return actor_critics(spec, make_rule=rule, name="td3", **options)
