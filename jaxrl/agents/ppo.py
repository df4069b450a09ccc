"""PPO: proximal policy optimisation with the clipped surrogate. Schulman et al. 2017, arXiv:1707.06347."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import optax

from jaxrl import losses, optim
from jaxrl.agents import estimators, on_policy
from jaxrl.agents.validation import check_arguments
from jaxrl.types import Agent, Array, Spec


def ppo(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    share_torso: bool = False,
    heads: Mapping[str, nn.Module] | None = None,
    loss: losses.LossFn = losses.ppo,
    optimizer: Callable[[Any], optax.GradientTransformation] = optim.ADAM,
    learning_rate: float = 2.5e-4,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
    clip_epsilon: float = 0.2,
    clip_value_epsilon: float | None = None,
    huber_delta: float | None = None,
    value_coef: float = 0.5,
    entropy_coef: float = 0.01,
    max_grad_norm: float | None = 0.5,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    normalize_advantage: bool = True,
    normalize_observation: bool = False,
    normalize_reward: bool = False,
    target_kl: float | None = None,
    anneal_learning_rate: bool = False,
    anneal_clip: bool = False,
    num_updates: int | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: float = 0.0,
) -> Agent:
    """Proximal policy optimisation: several epochs of clipped policy-gradient steps on each rollout.

    ``L = -E min(r A, clip(r, 1 - eps, 1 + eps) A) + c_v (V - V_target)^2 / 2 - c_e H(pi)``,
    ``r = pi(a|s) / pi_old(a|s)``. Schulman et al. 2017, "Proximal policy optimization algorithms".
    Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation.
      share_torso: one torso for policy and value; else each has its own.
      heads: extra modules on the actor's features, for auxiliary losses.
      loss: replaces the clipped loss; see ``jaxrl.losses``.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      gamma: discount of the future, a step.
      gae_lambda: from 0 (one-step advantages, biased) to 1 (returns, noisy).
      clip_epsilon: how far the probability ratio may move from 1.
      clip_value_epsilon: how far values may move from the old ones; None for no such clip.
      huber_delta: where the value loss turns linear; None for the plain square.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.
      num_epochs: passes over each rollout.
      num_minibatches: gradient steps a pass; divides rollout_length x num_envs.
      normalize_advantage: to mean 0 and deviation 1 in each minibatch.
      normalize_observation: standardise features by their running mean and deviation.
      normalize_reward: scale rewards by the running deviation of the discounted return.
      target_kl: no further epoch once the policy moved that far (KL, nats); None for no such stop.
      anneal_learning_rate: linearly to 0 over num_updates.
      anneal_clip: clip_epsilon linearly to 0 over num_updates.
      num_updates: the horizon of annealing, in calls of update.
      squash: (continuous actions) pass them through a tanh; else they are clipped to their bounds.
      state_dependent_std: (continuous actions) the network gives the log deviation; else it is one free vector.
      initial_log_std: (continuous actions) where the log deviation starts, in units of the bounds.

    Returns:
      An ``Agent``.

    Raises:
      ValueError: an argument outside its range, named.
    """
    check_arguments(locals(), remembers=True)
    lr: Any = learning_rate
    if anneal_learning_rate:
        lr = optim.annealed(learning_rate, num_updates, num_epochs * num_minibatches)
    clip = optim.annealed(clip_epsilon, num_updates) if anneal_clip else lambda updates: clip_epsilon

    def settings(updates: Array) -> losses.Settings:
        return losses.Settings(clip(updates), clip_value_epsilon, huber_delta, value_coef, entropy_coef)

    gaussian: dict[str, Any] = {
        "squash": squash,
        "state_dependent_std": state_dependent_std,
        "initial_log_std": initial_log_std,
    }
    return on_policy.bind(
        on_policy.OnPolicy(
            spec=spec,
            network=on_policy.make_network(spec, torso, share_torso, heads, **gaussian),
            optimizer=optim.clipped(optimizer, lr, max_grad_norm),
            loss=loss,
            estimator=partial(estimators.gae, gamma=gamma, lambda_=gae_lambda),
            settings=settings,
            gamma=gamma,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            normalize_advantage=normalize_advantage,
            normalize_observation=normalize_observation,
            normalize_reward=normalize_reward,
            target_kl=target_kl,
            squash=squash,
        )
    )
