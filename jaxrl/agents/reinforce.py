"""REINFORCE, with and without a learned baseline. Williams 1992; Sutton and Barto 2018, section 13.3 and 13.4."""

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


def reinforce(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    share_torso: bool = False,
    heads: Mapping[str, nn.Module] | None = None,
    loss: losses.LossFn = losses.actor_critic,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
    learning_rate: float = 3e-3,
    gamma: float = 0.99,
    baseline: bool = True,
    value_coef: float = 0.5,
    entropy_coef: float = 0.0,
    max_grad_norm: float | None = None,
    normalize_advantage: bool = True,
    normalize_observation: bool = False,
    normalize_reward: bool = False,
    anneal_learning_rate: bool = False,
    num_updates: int | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: float = 0.0,
) -> Agent:
    """The Monte-Carlo policy gradient: whole returns weigh the log-probabilities of the actions taken.

    ``L = -E log pi(a|s) (G - b(s))``, G the discounted return to go, b a learned value or 0.
    Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
    Every float may be a tracer.

    With a baseline, the value also stands for what lies beyond a time limit or the end of the rollout. Without one,
    nothing does: only steps whose episode ends within the rollout count, which favours short episodes at its end, so
    choose ``rollout_length`` longer than an episode; and a time limit ends the return.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation.
      share_torso: one torso for policy and baseline; else each has its own.
      heads: extra modules on the actor's features, for auxiliary losses.
      loss: replaces the policy-gradient loss; see ``jaxrl.losses``.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      gamma: discount of the future, a step.
      baseline: subtract a learned value from the return.
      value_coef: weight of the loss of the baseline, if there is one.
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
    settings = losses.Settings(value_coef=value_coef if baseline else 0.0, entropy_coef=entropy_coef)
    gaussian: dict[str, Any] = {
        "squash": squash,
        "state_dependent_std": state_dependent_std,
        "initial_log_std": initial_log_std,
    }
    with_value = partial(estimators.gae, gamma=gamma, lambda_=1.0)
    return on_policy.bind(
        on_policy.OnPolicy(
            spec=spec,
            network=on_policy.make_network(spec, torso, share_torso, heads, critic=baseline, **gaussian),
            optimizer=optim.clipped(optimizer, lr, max_grad_norm),
            loss=loss,
            estimator=with_value if baseline else partial(estimators.monte_carlo, gamma=gamma),
            settings=lambda updates: settings,
            gamma=gamma,
            normalize_advantage=normalize_advantage,
            normalize_observation=normalize_observation,
            normalize_reward=normalize_reward,
            squash=squash,
        )
    )
