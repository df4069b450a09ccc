"""SAC: soft actor-critic, reward and entropy at a temperature that is learned. Haarnoja et al. 2018b."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxrl import networks, types
from jaxrl.agents.actor_critics import Networks, Roles, Rule, Temperature, actor_critics
from jaxrl.agents.signature import extends
from jaxrl.arguments import ANY, NON_NEGATIVE, POSITIVE, check_float
from jaxrl.ops import td
from jaxrl.ops.policy_gradient import categorical_entropy
from jaxrl.types import Agent, Array, Box, Discrete, Spec

TARGET_SHARE = 0.5
"""Of the entropy of the uniform policy over discrete actions, where no target is given."""

TemperatureOf = Callable[[Roles], Any]


def continuous(action: Box, temperature: TemperatureOf) -> Rule:
    """``V(s) = min_i Q_i(s, a) - alpha log pi(a|s)``, ``a ~ pi``, differentiable through the sample."""
    size = math.prod(action.shape)

    def soft(key: Array, nets: Networks, actor: Roles, critics: Roles, observation: Any) -> tuple[Array, Array]:
        raw, log_prob = nets.policy(actor, observation).sample_and_log_prob(seed=key)
        values = nets.values(critics, observation, jnp.tanh(raw)).min(axis=0)
        return values - temperature(actor) * log_prob, -log_prob

    return Rule(
        actor=lambda torso, event_rank: networks.SquashedGaussianPolicy(torso, size, event_rank),
        next_value=lambda key, nets, params, target, observation: soft(key, nets, params, target, observation)[0],
        policy_value=lambda key, nets, params, observation: soft(key, nets, params, params, observation),
        explore=lambda key, policy: jnp.tanh(policy.sample(seed=key)),
        exploit=lambda policy: jnp.tanh(policy.loc),
        num_critics=2,
        target_actor=False,
    )


def discrete(action: Discrete, temperature: TemperatureOf) -> Rule:
    """``V(s) = sum_a pi(a|s) (min_i Q_i(s, a) - alpha log pi(a|s))``, no sample needed."""

    def soft(key: Array, nets: Networks, actor: Roles, critics: Roles, observation: Any) -> tuple[Array, Array]:
        logits = nets.policy(actor, observation).logits
        values = nets.values(critics, observation).min(axis=0)
        return td.soft_value(values, logits, temperature(actor)), categorical_entropy(logits)

    return Rule(
        actor=lambda torso, event_rank: networks.CategoricalPolicy(torso, action.num_actions, event_rank),
        next_value=lambda key, nets, params, target, observation: soft(key, nets, params, target, observation)[0],
        policy_value=lambda key, nets, params, observation: soft(key, nets, params, params, observation),
        explore=lambda key, policy: policy.sample(seed=key),
        exploit=lambda policy: policy.mode().astype(jnp.int32),
        num_critics=2,
        target_actor=False,
    )


def target_entropy_of(action: Box | Discrete, given: Any) -> Callable[[Any], Any]:
    """The entropy that the temperature is adapted to, from an observation.

    ``-D`` or what is given where actions are continuous; the given share of the log of the number of legal actions
    where they are discrete.
    """
    if isinstance(action, Box):
        return lambda observation: -float(math.prod(action.shape)) if given is None else given
    share = TARGET_SHARE if given is None else given

    def target(observation: Any) -> Any:
        mask = types.action_mask(observation)
        if mask is None:
            return share * math.log(action.num_actions)
        return share * jnp.log(td.legal_or_all(mask).sum(axis=-1).astype(jnp.float32))

    return target


@extends(actor_critics, without=("make_rule", "name"))
def sac(
    spec: Spec,
    *,
    temperature: float | None = None,
    initial_temperature: float = 1.0,
    target_entropy: float | None = None,
    **options: Any,
) -> Agent:
    """Soft actor-critic: the best return plus entropy, with a temperature that holds the entropy where it is asked to.

    ``y = r + gamma (min_i Q_i'(s', a') - alpha log pi(a'|s'))``, ``a' ~ pi``; ``L = sum_i E w (y - Q_i(s, a))^2 / 2``
    for the critics, ``E[alpha log pi(a|s) - min_i Q_i(s, a)]`` for the actor, ``log alpha E[H(pi) - H_target]`` for the
    temperature. Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", arXiv:1812.05905; discrete
    actions as in Christodoulou 2019, arXiv:1910.07207, expectations over actions exact. The temperature's loss is
    linear in its logarithm, as in the authors' code. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; continuous or discrete actions, masks too.
      temperature: alpha, fixed; None to learn it.
      initial_temperature: (temperature=None) where alpha starts.
      target_entropy: (temperature=None) in nats of an action in [-1, 1]^D where actions are continuous, None for -D;
        where discrete as a share of the log of the number of legal actions, None for 0.5.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_float("temperature", temperature, NON_NEGATIVE, optional=True)
    check_float("initial_temperature", initial_temperature, POSITIVE)
    check_float("target_entropy", target_entropy, ANY, optional=True)

    def current(params: Roles) -> Any:
        return jnp.exp(params.temperature) if temperature is None else temperature

    def rule(spec: Spec) -> Rule:
        action = spec.action
        plain = continuous(action, current) if isinstance(action, Box) else discrete(action, current)
        if temperature is not None:
            return plain
        return plain._replace(temperature=Temperature(initial_temperature, target_entropy_of(action, target_entropy)))

    return actor_critics(spec, make_rule=rule, name="sac", **options)
