"""SAC: soft actor-critic, maximising reward plus entropy at a learned temperature. Haarnoja et al. 2018b."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import networks, types
from jaxrl.agents.parts import critics, replaying, targets
from jaxrl.agents.parts.critics import Bootstrap, Networks, Params
from jaxrl.agents.parts.critics import default_torso as default_torso
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import dropout_key, gradient_norm
from jaxrl.agents.parts.targets import Learner
from jaxrl.arguments import Count, NonNegative, Positive, Real
from jaxrl.ops import td
from jaxrl.ops.policy_gradient import categorical_entropy
from jaxrl.replay import Sample
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Discrete, Metrics, PyTree, Spec, Transition

TARGET_SHARE = 0.5
"""Default target for discrete actions, as a fraction of the entropy of the uniform policy."""


class SACState(NamedTuple):
    """The state of ``sac``.

    Attributes:
      params: ``{"actor": ..., "critics": ..., "temperature": log alpha}``; the last one only where it is learned.
      target_params: ``{"critics": ...}``, parameters of the target critics.
      optimizer_state: one optimizer's state for each of the groups in params.
      gradient_steps: int32, number of gradient steps so far.
      steps: int32, environment steps seen, all environments together.
      reward_model: the state of the reward model; () without one.
      per_env: the replay, leaves ``[rows, B, ...]``.
    """

    params: Params
    target_params: Params
    optimizer_state: Params
    gradient_steps: Array
    steps: Array
    reward_model: PyTree
    per_env: PyTree

    @property
    def learner(self) -> Learner:
        """The fields that gradient steps change."""
        return Learner(self.params, self.target_params, self.optimizer_state, self.gradient_steps)


@recipe(extends=critics.shared)
def sac(
    spec: Spec,
    *,
    temperature: NonNegative | None = None,
    initial_temperature: Positive = 1.0,
    target_entropy: Real | None = None,
    num_critics: Count = 2,
    **options: Any,
) -> Agent:
    """Soft actor-critic: maximises return plus entropy, with a temperature that keeps the entropy at a target.

    ``y = r + gamma (min_i Q_i'(s', a') - alpha log pi(a'|s'))``, ``a' ~ pi``; ``L = sum_i E w (y - Q_i(s, a))^2 / 2``
    for the critics, ``E[alpha log pi(a|s) - min_i Q_i(s, a)]`` for the actor, ``log alpha E[H(pi) - H_target]`` for the
    temperature. Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", arXiv:1812.05905; discrete
    actions as in Christodoulou 2019, arXiv:1910.07207, with exact expectations over actions. The temperature's loss is
    linear in its logarithm, as in the authors' code. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are continuous or discrete, masks are supported.
      temperature: alpha, fixed; None to learn it.
      initial_temperature: (temperature=None) initial value of alpha.
      target_entropy: (temperature=None) for continuous actions in nats, of actions in [-1, 1]^D, None for -D; for
        discrete actions as a fraction of the log of the number of legal actions, None for 0.5.
      num_critics: number of critics; targets and the actor use the smallest value.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    if temperature is not None and target_entropy is not None:
        raise ValueError(
            f"target_entropy: got {target_entropy} together with temperature={temperature}; a fixed temperature has no "
            "target entropy; give one of the two"
        )
    shared = critics.shared(spec, **options)
    nets = make_networks(spec, shared.torso, num_critics)
    discrete = isinstance(spec.action, Discrete)

    def alpha(params: Params) -> Any:
        return jnp.exp(params["temperature"]) if temperature is None else temperature

    def init(key: Array, num_envs: int = 1) -> SACState:
        params = critics.init_params(key, spec, nets)
        if temperature is None:
            params["temperature"] = jnp.log(jnp.asarray(initial_temperature, jnp.float32))
        learner = critics.init_learner(params, ("critics",), shared.optimizers)
        return SACState(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: SACState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        policy = nets.policy(state.params["actor"], observation)
        if not explore:
            best = policy.mode().astype(jnp.int32) if discrete else jnp.tanh(policy.loc)
            return replaying.to_environment(spec, best)
        policy_key, uniform_key = jax.random.split(key)
        sampled = policy.sample(seed=policy_key)
        sampled = sampled if discrete else jnp.tanh(sampled)
        uniform = replaying.uniform_action(uniform_key, spec, observation)
        return replaying.to_environment(spec, jnp.where(state.steps < shared.learning_starts, uniform, sampled))

    def soft_value(
        key: Array, actor: PyTree, q_params: PyTree, alpha: Any, observation: Any, rngs: Any = None
    ) -> tuple[Array, Array]:
        """``V(s)`` and the policy's entropy, ``[N]`` each; estimated from one sample where actions are continuous."""
        policy = nets.policy(actor, observation, rngs)
        if discrete:  # V(s) = sum_a pi(a|s) (min_i Q_i(s, a) - alpha log pi(a|s))
            q = nets.q(q_params, observation, rngs=rngs).min(axis=0)
            return td.soft_value(q, policy.logits, alpha), categorical_entropy(policy.logits)
        # V(s) = min_i Q_i(s, a) - alpha log pi(a|s), a ~ pi, differentiable through the sample
        raw, log_prob = policy.sample_and_log_prob(seed=key)
        q = nets.q(q_params, observation, jnp.tanh(raw), rngs=rngs).min(axis=0)
        return q - alpha * log_prob, -log_prob

    def step(key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
        critic_key, actor_key = jax.random.split(key)
        transition, params = sample.transition, learner.params

        # y = r + gamma V(s'), V by the target critics and the current policy
        def policy(key: Array, observation: Any) -> tuple[Array, Array]:
            chosen = nets.policy(params["actor"], observation)
            if discrete:
                return chosen.sample(seed=key), alpha(params) * categorical_entropy(chosen.logits)
            raw, log_prob = chosen.sample_and_log_prob(seed=key)
            return jnp.tanh(raw), -alpha(params) * log_prob

        def value(key: Array, observation: Any, q_params: PyTree = learner.target_params["critics"]) -> Array:
            return soft_value(key, params["actor"], q_params, alpha(params), observation)[0]

        def values(key: Array, observation: Any) -> Array:
            each = jax.tree.map(lambda x: x[:, None], learner.target_params["critics"])
            return jax.vmap(value, (None, None, 0))(key, observation, each)

        bootstrap = Bootstrap(policy, value, values)
        learner, errors, metrics = critics.critic_step(critic_key, nets, shared, learner, sample, bootstrap)
        params = learner.params

        def actor_loss(actor: PyTree) -> tuple[Array, Array]:  # E[alpha log pi(a|s) - min_i Q_i(s, a)]
            rngs = {"dropout": dropout_key(actor_key)}
            values, entropy = soft_value(
                actor_key, actor, params["critics"], alpha(params), transition.observation, rngs
            )
            return -values.mean(), entropy

        grads, entropy = jax.grad(actor_loss, has_aux=True)(params["actor"])
        learner = critics.descend(shared.optimizers, learner, "actor", grads)
        metrics = {**metrics, "actor_gradient_norm": gradient_norm(grads), "entropy": entropy.mean()}
        if temperature is None:  # J(log alpha) = log alpha E[H(pi) - H_target]
            slope = (entropy - entropy_target(spec, target_entropy, transition.observation)).mean()
            learner = critics.descend(shared.optimizers, learner, "temperature", slope)
            metrics["temperature"] = jnp.exp(learner.params["temperature"])
        # theta' <- tau theta + (1 - tau) theta', for the critics only
        online = {"critics": learner.params["critics"]}
        target_params = targets.follow(online, learner.target_params, shared.tau)
        return learner._replace(target_params=target_params), errors, metrics

    def update(key: Array, state: SACState, trajectory: Transition) -> tuple[SACState, Metrics]:
        learned = replaying.store_and_learn(key, step, spec, shared, state, trajectory)
        learner, steps, rewards, replay, metrics = learned
        progress = critics.progress(shared, learner)
        return SACState(*learner, steps, rewards, replay), {**metrics, **progress}

    return Agent(init, act, update)


def make_networks(spec: Spec, torso: nn.Module, num_critics: int = 2) -> Networks:
    """A categorical or tanh-Gaussian policy, and its critics."""
    action = spec.action

    def make_actor(torso: nn.Module, event_rank: int) -> nn.Module:
        if isinstance(action, Discrete):
            return networks.CategoricalPolicy(torso, action.num_actions, event_rank)
        return networks.SquashedGaussianPolicy(torso, math.prod(action.shape), event_rank)

    return critics.make_networks(spec, torso, make_actor, num_critics)


def functions(spec: Spec, *, torso: nn.Module | None = None) -> Functions:
    """The policy of ``sac``, its value, and the values of discrete actions; see ``jaxrl.functions``.

    A continuous policy is the distribution before the tanh. Values exclude the entropy and take the
    smaller critic: at the policy's mean action for continuous actions, else ``sum_a pi(a|s) min_i Q_i(s, a)``.
    """
    nets = make_networks(spec, default_torso(spec) if torso is None else torso)

    def policy(state: Any, observation: Any) -> Any:
        return nets.policy(state.params["actor"], observation)

    def action_values(state: Any, observation: Any) -> Array:
        return nets.q(state.params["critics"], observation).min(axis=0)

    def value(state: Any, observation: Any) -> Array:
        if isinstance(spec.action, Discrete):
            return td.expected_value(action_values(state, observation), policy(state, observation).probs)
        mean = jnp.tanh(policy(state, observation).loc)
        return nets.q(state.params["critics"], observation, mean).min(axis=0)

    return Functions(policy, value, action_values if isinstance(spec.action, Discrete) else None)


def entropy_target(spec: Spec, given: Any, observation: Any) -> Any:
    """The target entropy of the temperature, in nats.

    For continuous actions the given number, or ``-D``. For discrete actions the given fraction of the log of the number
    of legal actions, ``[N]`` where there is a mask.
    """
    if not isinstance(spec.action, Discrete):
        return -float(math.prod(spec.action.shape)) if given is None else given
    share = TARGET_SHARE if given is None else given
    mask = types.action_mask(observation)
    if mask is None:
        return share * math.log(spec.action.num_actions)
    return share * jnp.log(td.legal_or_all(mask).sum(axis=-1).astype(jnp.float32))
