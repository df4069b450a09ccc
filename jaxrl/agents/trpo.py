"""TRPO: the natural-gradient step within a trust region. Schulman et al. 2015, arXiv:1502.05477."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl import losses, optim
from jaxrl.agents import estimators, on_policy, recurrent
from jaxrl.agents.minibatches import shuffled_minibatches
from jaxrl.agents.on_policy import DROPOUT, OnPolicy, OnPolicyState
from jaxrl.agents.validation import check_arguments
from jaxrl.ops import policy_gradient as pg
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec

_CRITIC = ("critic_torso", "value_head")


def split(params: PyTree) -> tuple[PyTree, PyTree]:
    """``(actor, critic)``: the parameters of each, which share none."""
    own = params["params"]
    return {name: own[name] for name in own if name not in _CRITIC}, {name: own[name] for name in _CRITIC}


def join(actor: PyTree, critic: PyTree) -> PyTree:
    """The inverse of ``split``."""
    return {"params": {**actor, **critic}}


def step_actor(
    config: OnPolicy,
    region: optax.GradientTransformationExtraArgs,
    params: PyTree,
    batch: losses.Batch,
    settings: losses.Settings,
) -> tuple[PyTree, Metrics]:
    """The actor after one step on all samples, within the trust region, and what the step came to.

    Args:
      config: the agent's.
      region: ``optim.trust_region``, its bound the mean KL from the policy that acted.
      params: of actor and critic.
      batch: all samples of a rollout.
      settings: of the loss.
    """
    actor, critic = split(params)
    observation, batch = recurrent.split(batch)
    if config.normalize_advantage:
        batch = batch._replace(advantage=pg.normalize_advantage(batch.advantage, batch.weight))

    def loss_fn(actor: PyTree) -> tuple[Array, Metrics]:
        outputs: Any = config.network.apply(join(actor, critic), observation)
        return losses.checked(config.loss, outputs, batch, settings)

    def policy(actor: PyTree) -> Any:
        return config.network.apply(join(actor, critic), observation, method="act")

    old = policy(actor)
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(actor)
    updates, (_, found) = region.update(
        grads,
        region.init(actor),
        actor,
        value_fn=lambda actor: loss_fn(actor)[0],
        divergence_fn=lambda actor: batch.mean(old.kl_divergence(policy(actor))),
    )
    return optax.apply_updates(actor, updates), {
        "loss": loss,
        **metrics,
        "gradient_norm": optax.tree.norm(ravel_pytree(grads)[0]),
        "kl": found.divergence,
        "improvement": found.improvement,
        "step_scale": found.scale,
    }


def fit_critic(
    config: OnPolicy,
    key: Array,
    params: PyTree,
    optimizer_state: PyTree,
    batch: losses.Batch,
    settings: losses.Settings,
) -> tuple[PyTree, PyTree, Metrics]:
    """The critic after epochs of minibatches of regression on the targets: ``(critic, optimizer_state, metrics)``."""
    actor, critic = split(params)

    def loss_fn(critic: PyTree, minibatch: losses.Batch, key: Array) -> tuple[Array, Metrics]:
        observation, minibatch = recurrent.split(minibatch)
        outputs: Any = config.network.apply(join(actor, critic), observation, rngs={"dropout": key})
        return losses.value(outputs, minibatch, settings)

    def step(carry: tuple[PyTree, PyTree], given: tuple[losses.Batch, Array]) -> tuple[tuple[PyTree, PyTree], Metrics]:
        critic, optimizer_state = carry
        grads, metrics = jax.grad(loss_fn, has_aux=True)(critic, *given)
        return on_policy.apply_gradients(config, critic, optimizer_state, grads), metrics

    def epoch(carry: tuple[PyTree, PyTree], epoch_key: Array) -> tuple[tuple[PyTree, PyTree], Metrics]:
        keys = jax.random.split(jax.random.fold_in(epoch_key, DROPOUT), config.num_minibatches)
        minibatches = shuffled_minibatches(epoch_key, batch, config.num_minibatches)
        return jax.lax.scan(step, carry, (minibatches, keys))

    carry, metrics = jax.lax.scan(epoch, (critic, optimizer_state), jax.random.split(key, config.num_epochs))
    return (*carry, jax.tree.map(jnp.mean, metrics))


def step_rule(
    region: optax.GradientTransformationExtraArgs,
    config: OnPolicy,
    key: Array,
    state: OnPolicyState,
    batch: losses.Batch,
) -> tuple[PyTree, PyTree, Metrics]:
    """Actor and critic each in their own way, see ``on_policy.StepRule``."""
    settings = config.settings(state.updates)
    actor, metrics = step_actor(config, region, state.params, batch, settings)
    critic, optimizer_state, of_critic = fit_critic(config, key, state.params, state.optimizer_state, batch, settings)
    return join(actor, critic), optimizer_state, {**metrics, **of_critic}


def trpo(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    loss: losses.LossFn = losses.trpo,
    optimizer: Callable[[Any], optax.GradientTransformation] = optim.ADAM,
    learning_rate: float = 1e-3,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
    max_kl: float = 0.01,
    num_cg_steps: int = 10,
    damping: float = 0.1,
    num_backtracks: int = 10,
    backtrack_decay: float = 0.8,
    huber_delta: float | None = None,
    entropy_coef: float = 0.0,
    max_grad_norm: float | None = None,
    num_epochs: int = 10,
    num_minibatches: int = 16,
    normalize_advantage: bool = True,
    normalize_observation: bool = False,
    normalize_reward: bool = False,
    anneal_learning_rate: bool = False,
    num_updates: int | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: float = 0.0,
) -> Agent:
    """Trust-region policy optimisation: one natural-gradient step a rollout, as long as the KL divergence allows.

    ``max E r A`` subject to ``E KL(pi_old || pi) <= delta``, ``r = pi(a|s) / pi_old(a|s)``: conjugate gradient on
    Fisher-vector products, then a line search on both. The critic regresses on ``A + V`` apart from it.
    Schulman et al. 2015, "Trust region policy optimization", arXiv:1502.05477. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation.
      loss: what the actor's step lowers, in place of the surrogate; see ``jaxrl.losses``.
      optimizer: makes the critic's optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the critic.
      gamma: discount of the future, a step.
      gae_lambda: from 0 (one-step advantages, biased) to 1 (returns, noisy).
      max_kl: how far a step may move the policy (mean KL divergence, nats).
      num_cg_steps: conjugate-gradient steps at most.
      damping: added to the diagonal of the Fisher matrix.
      num_backtracks: lengths that the line search tries, the full one included; where none is good, no step.
      backtrack_decay: each length over the one before.
      huber_delta: where the value loss turns linear; None for the plain square.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: the critic's gradient's global norm is clipped to it; None for no clip.
      num_epochs: the critic's passes over each rollout.
      num_minibatches: the critic's gradient steps a pass; divides rollout_length x num_envs.
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
    lr: Any = learning_rate
    if anneal_learning_rate:
        lr = optim.annealed(learning_rate, num_updates, num_epochs * num_minibatches)
    settings = losses.Settings(huber_delta=huber_delta, entropy_coef=entropy_coef)
    gaussian: dict[str, Any] = {
        "squash": squash,
        "state_dependent_std": state_dependent_std,
        "initial_log_std": initial_log_std,
    }
    regression = optim.clipped(optimizer, lr, max_grad_norm)
    region = optim.trust_region(
        max_kl, num_cg_steps=num_cg_steps, damping=damping, num_backtracks=num_backtracks, decay=backtrack_decay
    )
    return on_policy.bind(
        OnPolicy(
            spec=spec,
            network=on_policy.make_network(spec, torso, False, None, **gaussian),
            # Of the critic's parameters alone, the actor's step needs no state.
            optimizer=optax.GradientTransformation(lambda params: regression.init(split(params)[1]), regression.update),
            loss=loss,
            estimator=partial(estimators.gae, gamma=gamma, lambda_=gae_lambda),
            settings=lambda updates: settings,
            gamma=gamma,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            normalize_advantage=normalize_advantage,
            normalize_observation=normalize_observation,
            normalize_reward=normalize_reward,
            squash=squash,
            step_rule=partial(step_rule, region),
        )
    )
