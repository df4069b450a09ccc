"""Losses: functions from the network's outputs on a batch to a scalar, and their weighted sums.

A loss is a function ``loss(outputs, batch, settings) -> (scalar, metrics)``. On-policy recipes take as
``loss=`` any of these, a weighted sum of them (``weighted``), or a custom function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.ops import across, distributional
from jaxrl.ops import policy_gradient as pg
from jaxrl.ops import value as value_ops
from jaxrl.types import Metrics, Transition


class Batch(NamedTuple):
    """Samples ``[N]`` with quantities computed before the first gradient step.

    Attributes:
      transition: all fields of the trajectory, leaves ``[N, ...]``; observations normalised for the network.
      raw_action: ``[N]`` or ``[N, D]`` the action before the tanh or the clip, a sample of the policy's distribution.
      log_prob: ``[N]`` log-probability of the raw action under the policy that acted.
      advantage: ``[N]``.
      target: ``[N]`` the regression target of the value.
      value: ``[N]`` the value before this update.
      weight: ``[N]`` the weight of each sample in a mean; None for equal weights.
    """

    transition: Transition
    raw_action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array
    value: jax.Array
    weight: jax.Array | None = None

    def mean(self, terms: jax.Array) -> jax.Array:
        """The weighted mean of ``[N]`` terms.

        Where environments are split over devices, its mean over devices is the weighted mean over all samples: a device
        with a larger total weight counts more.
        """
        if self.weight is None:
            return terms.mean()
        count = jnp.maximum(across.total(self.weight.sum()), 1.0)
        return across.size() * (terms * self.weight).sum() / count


class Planned(NamedTuple):
    """Positions ``[N]`` with the policy of their search and their outcome: the batch of the planning recipes.

    Attributes:
      observation: leaves ``[N, ...]``.
      policy: ``[N, A]`` the policy of the search, 0 for illegal actions.
      target: ``[N]`` the outcome, in the units of the network's value.
      weight: ``[N]`` the weight of each sample in a mean; None for equal weights.
    """

    observation: Any
    policy: jax.Array
    target: jax.Array
    weight: jax.Array | None = None

    def mean(self, terms: jax.Array) -> jax.Array:
        """The weighted mean of ``[N]`` terms."""
        return Batch.mean(self, terms)  # type: ignore[arg-type]


class Settings(NamedTuple):
    """The recipe's coefficients, after annealing. Each may be a tracer.

    Attributes:
      clip_epsilon: PPO's epsilon, the range of the probability ratio.
      clip_value_epsilon: largest change of the value from the old one; None for no clipping.
      huber_delta: error beyond which the value loss is linear (Huber loss); None for the squared error.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
    """

    clip_epsilon: Any = 0.2
    clip_value_epsilon: Any = None
    huber_delta: Any = None
    value_coef: Any = 0.5
    entropy_coef: Any = 0.0


class LossFn(Protocol):
    """Any function of this signature is a loss."""

    def __call__(self, outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
        """The loss and its diagnostics.

        Args:
          outputs: ``networks.Outputs`` of the network on ``batch.transition.observation``.
          batch: the minibatch.
          settings: the recipe's coefficients.
        """
        ...


def checked(loss: LossFn, outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``loss(outputs, batch, settings)`` with a check of its result, because the loss may be custom.

    Raises:
      TypeError: the loss did not return a pair ``(scalar, metrics)``.
      ValueError: the loss or a metric is not a scalar.
    """
    given: Any = loss(outputs, batch, settings)
    name = getattr(loss, "__name__", type(loss).__name__)
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)):
        raise TypeError(f"loss: {name} returned {given!r}, must return (scalar, metrics), metrics a dict such as {{}}")
    value, metrics = given
    for what, number in (("a loss", value), *((f"metrics[{key!r}]", metric) for key, metric in metrics.items())):
        if jnp.shape(number) != ():
            raise ValueError(
                f"loss: {name} returned {what} of shape {jnp.shape(number)}, must be a scalar such as batch.mean(terms)"
            )
    return value, dict(metrics)


def policy_gradient(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``-mean(log pi(a|s) A)``. Williams 1992; Sutton et al. 2000."""
    del settings
    loss = batch.mean(pg.policy_gradient_term(outputs.policy.log_prob(batch.raw_action), batch.advantage))
    return loss, {"policy_loss": loss}


def surrogate(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``-mean r A``, ``r = pi(a|s) / pi_old(a|s)``. Schulman et al. 2015, arXiv:1502.05477, eq. 14."""
    del settings
    log_ratio = outputs.policy.log_prob(batch.raw_action) - batch.log_prob
    loss = batch.mean(pg.surrogate_term(log_ratio, batch.advantage))
    return loss, {"policy_loss": loss}


def ppo_clip(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``-mean min(r A, clip(r, 1 - eps, 1 + eps) A)``, ``r = pi(a|s) / pi_old(a|s)``. Schulman et al. 2017, eq. 7."""
    log_ratio = outputs.policy.log_prob(batch.raw_action) - batch.log_prob
    loss = batch.mean(pg.ppo_clip_term(log_ratio, batch.advantage, settings.clip_epsilon))
    return loss, {
        "policy_loss": loss,
        "approximate_kl": batch.mean(pg.approximate_kl(log_ratio)),
        "clip_fraction": batch.mean(pg.clip_fraction(log_ratio, settings.clip_epsilon)),
    }


def kl_penalty(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``mean KL(pi_old || pi)`` estimated on the actions taken. Schulman et al. 2017, eq. 8, without beta."""
    del settings
    log_ratio = outputs.policy.log_prob(batch.raw_action) - batch.log_prob
    loss = batch.mean(pg.approximate_kl(log_ratio))
    return loss, {"kl_penalty": loss}


def value(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``mean 0.5 (V - target)^2``, or the Huber loss, or PPO's clipped loss, by the settings."""
    if settings.clip_value_epsilon is not None:
        terms = value_ops.clipped_value_term(outputs.value, batch.value, batch.target, settings.clip_value_epsilon)
    elif settings.huber_delta is not None:
        terms = value_ops.huber_term(outputs.value, batch.target, settings.huber_delta)
    else:
        terms = value_ops.squared_error_term(outputs.value, batch.target)
    loss = batch.mean(terms)
    return loss, {"value_loss": loss}


def entropy(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``-mean H(pi(.|s))``: minimising it favours random policies. Williams and Peng 1991."""
    del settings
    mean_entropy = batch.mean(outputs.policy.entropy())
    return -mean_entropy, {"entropy": mean_entropy}


def weighted(*terms: tuple[Any, LossFn]) -> LossFn:
    """The weighted sum of losses, itself a loss: ``weighted((1.0, losses.ppo), (0.1, my_loss))``.

    Args:
      *terms: pairs ``(weight, loss)``; a weight may be a tracer. Metrics keep their names.

    Raises:
      ValueError: there are no terms.
      TypeError: a term is not a pair of a weight and a function.
    """
    if not terms:
        raise ValueError("terms: got none, must be at least one pair (weight, loss)")
    for term in terms:
        if not (isinstance(term, tuple) and len(term) == 2 and callable(term[1])):
            raise TypeError(f"terms: got {term!r}, must be pairs, as in weighted((1.0, losses.ppo), (0.1, mine))")

    def loss_fn(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
        total: Any = 0.0
        metrics: Metrics = {}
        for weight, loss in terms:
            value, term_metrics = checked(loss, outputs, batch, settings)
            total = total + weight * value
            metrics.update(term_metrics)
        return total, metrics

    return loss_fn


def actor_critic(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """Policy gradient + value_coef * value + entropy_coef * entropy: the loss of REINFORCE and A2C."""
    total = weighted((1.0, policy_gradient), (settings.value_coef, value), (settings.entropy_coef, entropy))
    return total(outputs, batch, settings)


def ppo(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """Clipped surrogate + value_coef * value + entropy_coef * entropy. Schulman et al. 2017, eq. 9."""
    total = weighted((1.0, ppo_clip), (settings.value_coef, value), (settings.entropy_coef, entropy))
    return total(outputs, batch, settings)


def trpo(outputs: Any, batch: Batch, settings: Settings) -> tuple[jax.Array, Metrics]:
    """Surrogate + entropy_coef * entropy: the objective of TRPO. The critic has its own loss."""
    return weighted((1.0, surrogate), (settings.entropy_coef, entropy))(outputs, batch, settings)


def search_policy(outputs: Any, batch: Planned, settings: Settings) -> tuple[jax.Array, Metrics]:
    """``-mean sum_a pi(a|s) log p(a|s)``: with the policy pi of the search. Silver et al. 2018, eq. 1."""
    del settings
    terms = distributional.categorical_cross_entropy_term(outputs.policy.logits, batch.policy)
    loss = batch.mean(terms)
    # The metric subtracts the entropy of the target, so that it is a KL divergence with minimum 0.
    known = jnp.sum(batch.policy * jnp.log(jnp.maximum(batch.policy, jnp.finfo(batch.policy.dtype).tiny)), axis=-1)
    return loss, {"policy_loss": loss, "policy_kl": batch.mean(terms + known)}


def alphazero(outputs: Any, batch: Any, settings: Settings) -> tuple[jax.Array, Metrics]:
    """Cross-entropy to the search's policy + value_coef * value. Silver et al. 2018, eq. 1, without weight decay."""
    planned: Any = search_policy
    return weighted((1.0, planned), (settings.value_coef, value))(outputs, batch, settings)


__all__ = [
    "Batch",
    "LossFn",
    "Planned",
    "Settings",
    "actor_critic",
    "alphazero",
    "checked",
    "entropy",
    "kl_penalty",
    "policy_gradient",
    "ppo",
    "ppo_clip",
    "search_policy",
    "surrogate",
    "trpo",
    "value",
    "weighted",
]


def __dir__() -> list[str]:
    return sorted(__all__)
