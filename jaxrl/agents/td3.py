"""TD3: DDPG with two critics, target policy smoothing, and delayed updates of the actor. Fujimoto et al. 2018."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.agents.parts import critics, replaying, targets
from jaxrl.agents.parts.critics import Bootstrap, Params
from jaxrl.agents.parts.critics import default_torso as default_torso
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import dropout_key, gradient_norm
from jaxrl.agents.parts.targets import Learner
from jaxrl.agents.parts.when import when
from jaxrl.arguments import Count, NonNegative
from jaxrl.ops import exploration
from jaxrl.replay import Sample
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class TD3State(NamedTuple):
    """The state of ``td3``.

    Attributes:
      params: ``{"actor": ..., "critics": ...}``.
      target_params: parameters of the target networks.
      optimizer_state: one optimizer's state for each of the groups in params.
      gradient_steps: int32, number of gradient steps of the critics so far.
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
def td3(
    spec: Spec,
    *,
    exploration_noise: NonNegative = 0.1,
    target_noise: NonNegative = 0.2,
    target_noise_clip: NonNegative = 0.5,
    policy_delay: Count = 2,
    num_critics: Count = 2,
    **options: Any,
) -> Agent:
    """Twin delayed DDPG: targets use the smaller of two critics at a noisy action, and actor updates are delayed.

    ``y = r + gamma min_i Q_i'(s', clip(mu'(s') + clip(N(0, sigma^2), -c, c)))``, ``sum_i E w (y - Q_i(s, a))^2 / 2``
    for the critics, ``-E Q_1(s, mu(s))`` for the actor. Fujimoto et al. 2018, "Addressing function approximation error
    in actor-critic methods", arXiv:1802.09477. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are continuous.
      exploration_noise: standard deviation of the noise on actions, in units of the bounds, where the range is [-1, 1].
      target_noise: standard deviation sigma of the noise on the actions of targets, in the same units.
      target_noise_clip: c, target_noise is clipped to [-c, c].
      policy_delay: critic steps per step of the actor and per update of the target networks.
      num_critics: number of critics; targets use the smallest value.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    shared = critics.shared(spec, **options)
    nets = critics.deterministic_networks(spec, shared.torso, num_critics, name="td3")

    def init(key: Array, num_envs: int = 1) -> TD3State:
        params = critics.init_params(key, spec, nets)
        learner = critics.init_learner(params, ("actor", "critics"), shared.optimizers)
        return TD3State(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: TD3State, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        action = nets.policy(state.params["actor"], observation)
        if explore:
            action = critics.with_noise(key, spec, shared, state.steps, observation, action, exploration_noise)
        return replaying.to_environment(spec, action)

    def step(key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
        critic_key, actor_key = jax.random.split(key)
        transition, target_params = sample.transition, learner.target_params

        # eq. 14: y = r + gamma min_i Q_i'(s', clip(mu'(s') + clip(N(0, sigma^2), -c, c)))
        def policy(key: Array, observation: Any) -> tuple[Array, Array]:
            action = nets.policy(target_params["actor"], observation)
            action = exploration.gaussian(key, action, target_noise, target_noise_clip)
            return action, jnp.zeros(action.shape[:1], jnp.float32)

        def values(key: Array, observation: Any) -> Array:
            return nets.q(target_params["critics"], observation, policy(key, observation)[0])

        bootstrap = Bootstrap(policy, lambda *args: values(*args).min(axis=0), values)
        learner, errors, metrics = critics.critic_step(critic_key, nets, shared, learner, sample, bootstrap)

        def actor_step(carry: tuple[Learner, Metrics]) -> tuple[Learner, Metrics]:
            learner, _ = carry

            def loss(actor: PyTree) -> Array:  # -E Q_1(s, mu(s))
                rngs = {"dropout": dropout_key(actor_key)}
                action = nets.policy(actor, transition.observation, rngs)
                return -nets.first_q(learner.params["critics"], transition.observation, action, rngs).mean()

            grads = jax.grad(loss)(learner.params["actor"])
            learner = critics.descend(shared.optimizers, learner, "actor", grads)
            # theta' <- tau theta + (1 - tau) theta'
            target_params = targets.follow(learner.params, learner.target_params, shared.tau)
            return learner._replace(target_params=target_params), {"actor_gradient_norm": gradient_norm(grads)}

        # The actor and all targets are updated at every policy_delay-th step; at other steps the metric is 0.
        carry = learner, {"actor_gradient_norm": jnp.zeros((), jnp.float32)}
        if policy_delay == 1:
            learner, late = actor_step(carry)
        else:
            learner, late = when(learner.gradient_steps % policy_delay == 0, actor_step, lambda carry: carry, carry)
        return learner, errors, {**metrics, **late}

    def update(key: Array, state: TD3State, trajectory: Transition) -> tuple[TD3State, Metrics]:
        learned = replaying.store_and_learn(key, step, spec, shared, state, trajectory)
        learner, steps, rewards, replay, metrics = learned
        progress = critics.progress(shared, learner)
        return TD3State(*learner, steps, rewards, replay), {**metrics, **progress}

    return Agent(init, act, update)


def functions(spec: Spec, *, torso: nn.Module | None = None) -> Functions:
    """The actions ``mu(s)`` as the environment takes them, and ``Q_1(s, mu(s))``; see ``jaxrl.functions``."""
    torso = default_torso(spec) if torso is None else torso
    nets = critics.deterministic_networks(spec, torso, num_critics=2, name="td3")
    return critics.deterministic_functions(spec, nets)
