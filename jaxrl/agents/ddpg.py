"""DDPG: a deterministic policy that maximises a learned critic. Lillicrap et al. 2016, arXiv:1509.02971."""

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
from jaxrl.arguments import NonNegative
from jaxrl.replay import Sample
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class DDPGState(NamedTuple):
    """The state of ``ddpg``.

    Attributes:
      params: ``{"actor": ..., "critics": ...}``.
      target_params: parameters of the target networks.
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
def ddpg(spec: Spec, *, exploration_noise: NonNegative = 0.1, **options: Any) -> Agent:
    """Deep deterministic policy gradient: a critic learned off-policy, and an actor that maximises it.

    ``L = E w (r + gamma Q'(s', mu'(s')) - Q(s, a))^2 / 2`` for the critic, ``-E Q(s, mu(s))`` for the actor. Lillicrap
    et al. 2016, "Continuous control with deep reinforcement learning". It deviates from the paper: the noise is
    Gaussian and independent over time, there is no weight decay and no batch normalisation, and the critic's torso
    takes the action at its input. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are continuous.
      exploration_noise: standard deviation of the noise on actions, in units of the bounds, where the range is [-1, 1].

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    shared = critics.shared(spec, **options)
    nets = critics.deterministic_networks(spec, shared.torso, num_critics=1, name="ddpg")

    def init(key: Array, num_envs: int = 1) -> DDPGState:
        params = critics.init_params(key, spec, nets)
        learner = critics.init_learner(params, ("actor", "critics"), shared.optimizers)
        return DDPGState(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: DDPGState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        action = nets.policy(state.params["actor"], observation)
        if explore:
            action = critics.with_noise(key, spec, shared, state.steps, observation, action, exploration_noise)
        return replaying.to_environment(spec, action)

    def step(key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
        critic_key, actor_key = jax.random.split(key)
        transition, target_params = sample.transition, learner.target_params

        # y = r + gamma Q'(s', mu'(s'))
        def policy(key: Array, observation: Any) -> tuple[Array, Array]:
            action = nets.policy(target_params["actor"], observation)
            return action, jnp.zeros(action.shape[:1], jnp.float32)

        def values(key: Array, observation: Any) -> Array:
            return nets.q(target_params["critics"], observation, policy(key, observation)[0])

        bootstrap = Bootstrap(policy, lambda *args: values(*args)[0], values)
        learner, errors, metrics = critics.critic_step(critic_key, nets, shared, learner, sample, bootstrap)

        def actor_loss(actor: PyTree) -> Array:  # -E Q(s, mu(s)), whose gradient is eq. 6
            rngs = {"dropout": dropout_key(actor_key)}
            action = nets.policy(actor, transition.observation, rngs)
            return -nets.first_q(learner.params["critics"], transition.observation, action, rngs).mean()

        grads = jax.grad(actor_loss)(learner.params["actor"])
        learner = critics.descend(shared.optimizers, learner, "actor", grads)
        # theta' <- tau theta + (1 - tau) theta'
        target_params = targets.follow(learner.params, target_params, shared.tau)
        metrics = {**metrics, "actor_gradient_norm": gradient_norm(grads)}
        return learner._replace(target_params=target_params), errors, metrics

    def update(key: Array, state: DDPGState, trajectory: Transition) -> tuple[DDPGState, Metrics]:
        learned = replaying.store_and_learn(key, step, spec, shared, state, trajectory)
        learner, steps, rewards, replay, metrics = learned
        progress = critics.progress(shared, learner)
        return DDPGState(*learner, steps, rewards, replay), {**metrics, **progress}

    return Agent(init, act, update)


def functions(spec: Spec, *, torso: nn.Module | None = None) -> Functions:
    """The actions ``mu(s)`` as the environment takes them, and ``Q(s, mu(s))``; see ``jaxrl.functions``."""
    torso = default_torso(spec) if torso is None else torso
    nets = critics.deterministic_networks(spec, torso, num_critics=1, name="ddpg")
    return critics.deterministic_functions(spec, nets)
