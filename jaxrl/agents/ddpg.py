"""DDPG: a deterministic policy climbs a learned critic. Lillicrap et al. 2016, arXiv:1509.02971."""

from __future__ import annotations

import math
from typing import Any

from jaxrl import networks
from jaxrl.agents.actor_critics import Networks, Roles, Rule, actor_critics
from jaxrl.agents.signature import extends
from jaxrl.arguments import NON_NEGATIVE, check_float
from jaxrl.ops import exploration
from jaxrl.types import Agent, Array, Box, Spec


def deterministic(spec: Spec, name: str, exploration_noise: Any) -> Rule:
    """``y = r + gamma Q'(s', mu'(s'))`` for one critic, ``max Q(s, mu(s))`` for the actor.

    Args:
      spec: of the environment.
      name: of the recipe, for its errors.
      exploration_noise: deviation of the noise on actions, in units of the bounds.

    Raises:
      TypeError, ValueError: discrete actions, or noise that is no deviation.
    """
    action = spec.action
    if not isinstance(action, Box):
        raise TypeError(f"spec: {name} gives continuous actions, the environment takes {action}; see sac, dqn and ppo")
    check_float("exploration_noise", exploration_noise, NON_NEGATIVE)
    size = math.prod(action.shape)

    def next_value(key: Array, nets: Networks, params: Roles, target_params: Roles, observation: Any) -> Array:
        return nets.first_values(target_params, observation, nets.policy(target_params, observation))

    def policy_value(key: Array, nets: Networks, params: Roles, observation: Any) -> tuple[Array, None]:
        return nets.first_values(params, observation, nets.policy(params, observation)), None

    return Rule(
        actor=lambda torso, event_rank: networks.DeterministicPolicy(torso, size, event_rank),
        next_value=next_value,
        policy_value=policy_value,
        explore=lambda key, policy: exploration.gaussian(key, policy, exploration_noise),
        exploit=lambda policy: policy,
        num_critics=1,
        target_actor=True,
    )


@extends(actor_critics, without=("make_rule", "name"))
def ddpg(spec: Spec, *, exploration_noise: float = 0.1, **options: Any) -> Agent:
    """Deep deterministic policy gradient: Q-learning whose best action is an actor's, which climbs the critic.

    ``L = E w (r + gamma Q'(s', mu'(s')) - Q(s, a))^2 / 2`` for the critic, ``-E Q(s, mu(s))`` for the actor. Lillicrap
    et al. 2016, "Continuous control with deep reinforcement learning". Departs from the paper in its noise, which is
    Gaussian and does not remember, in having no weight decay and no batch normalisation, and in the action, which
    goes in front of the critic's torso. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are continuous.
      exploration_noise: deviation of the noise on actions, in units of the bounds, where the range is [-1, 1].

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """

    def rule(spec: Spec) -> Rule:
        return deterministic(spec, "ddpg", exploration_noise)

    return actor_critics(spec, make_rule=rule, name="ddpg", **options)
