"""A2C: the synchronous advantage actor-critic. Mnih et al. 2016, arXiv:1602.01783."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import optax

from jaxrl import losses, optim
from jaxrl.agents import estimators, on_policy
from jaxrl.agents.validation import check_arguments
from jaxrl.types import Agent, Spec


def a2c(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    share_torso: bool = False,
    heads: Mapping[str, nn.Module] | None = None,
    loss: losses.LossFn = losses.actor_critic,
    optimizer: Callable[[Any], optax.GradientTransformation] = optim.RMSPROP,
    learning_rate: float = 7e-4,
    gamma: float = 0.99,
    gae_lambda: float = 1.0,
    huber_delta: float | None = None,
    value_coef: float = 0.5,
    entropy_coef: float = 0.01,
    max_grad_norm: float | None = 0.5,
    normalize_advantage: bool = False,
    normalize_observation: bool = False,
    normalize_reward: bool = False,
    anneal_learning_rate: bool = False,
    num_updates: int | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: float = 0.0,
) -> Agent:
    """Advantage actor-critic: one policy-gradient step on each short rollout, the critic bootstrapping its end.

    ``L = -E log pi(a|s) A + c_v (V - R)^2 / 2 - c_e H(pi)``, ``A = R - V``, R the n-step return.
    Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", without the asynchrony.
    Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation.
      share_torso: one torso for policy and value; else each has its own.
      heads: extra modules on the actor's features, for auxiliary losses.
      loss: replaces the actor-critic loss; see ``jaxrl.losses``.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      gamma: discount of the future, a step.
      gae_lambda: 1 gives the paper's n-step returns; below it, generalised advantages.
      huber_delta: where the value loss turns linear; None for the plain square.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.
      normalize_advantage: to mean 0 and deviation 1 in each rollout.
      normalize_observation: standardise features by their running mean and deviation.
      normalize_reward: scale rewards by the running deviation of the discounted return.
      anneal_learning_rate: linearly to 0 over num_updates.
      num_updates: the horizon of annealing, in calls of update.
      squash: (continuous actions) pass them through a tanh; else they are clipped to their bounds.
      state_dependent_std: (continuous actions) the network gives the log deviation; else it is one free vector.
      initial_log_std: (continuous actions) where the log deviation starts, in units of the bounds.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_arguments(locals(), remembers=True)
    lr = optim.annealed(learning_rate, num_updates) if anneal_learning_rate else learning_rate
    settings = losses.Settings(huber_delta=huber_delta, value_coef=value_coef, entropy_coef=entropy_coef)
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
            settings=lambda updates: settings,
            gamma=gamma,
            normalize_advantage=normalize_advantage,
            normalize_observation=normalize_observation,
            normalize_reward=normalize_reward,
            squash=squash,
        )
    )
