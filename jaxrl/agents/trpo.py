"""TRPO: natural-gradient steps within a trust region. Schulman et al. 2015, arXiv:1502.05477."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import losses, optim
from jaxrl.agents.parts import actor_critic, normalizer
from jaxrl.agents.parts.actor_critic import functions as functions
from jaxrl.agents.parts.gradients import Learned, gradient_norm, gradient_step
from jaxrl.agents.parts.minibatches import epochs
from jaxrl.agents.parts.recurrent import check_division
from jaxrl.arguments import Count, InnerUnit, NonNegative, Positive, Real, TracedCount, Unit
from jaxrl.ops import returns
from jaxrl.ops.value import explained_variance
from jaxrl.signature import Loss, Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition

_CRITIC = ("critic_torso", "value_head")


def split(params: PyTree) -> tuple[PyTree, PyTree]:
    """``(actor, critic)``: the parameters of each, which are disjoint."""
    own = params["params"]
    return {name: own[name] for name in own if name not in _CRITIC}, {name: own[name] for name in _CRITIC}


def join(actor: PyTree, critic: PyTree) -> PyTree:
    """The inverse of ``split``."""
    return {"params": {**actor, **critic}}


class TRPOState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the network.
      optimizer_state: state of the critic's optimizer; the actor's step has no state.
      statistics: running statistics that normalise observations and rewards.
      updates: int32, number of calls of ``update`` so far.
      per_env: ``[B]`` the running discounted return of each environment; () without reward normalisation.
    """

    params: PyTree
    optimizer_state: PyTree
    statistics: normalizer.Statistics
    updates: Array
    per_env: Any


@recipe
def trpo(
    spec: Spec,
    *,
    torso: Torso | None = None,
    loss: Loss = losses.trpo,
    optimizer: Optimizer = optim.ADAM,
    learning_rate: NonNegative = 1e-3,
    gamma: Unit = 0.99,
    gae_lambda: Unit = 0.95,
    max_kl: Positive = 0.01,
    num_cg_steps: Count = 10,
    damping: NonNegative = 0.1,
    num_backtracks: Count = 10,
    backtrack_decay: InnerUnit = 0.8,
    huber_delta: Positive | None = None,
    entropy_coef: Real = 0.0,
    max_grad_norm: Positive | None = None,
    num_epochs: Count = 10,
    num_minibatches: Count = 16,
    normalize_advantage: bool = True,
    normalize_observation: bool = False,
    clip_observation: Positive = 10.0,
    normalize_reward: bool = False,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: Real = 0.0,
) -> Agent:
    """Trust-region policy optimisation: one natural-gradient step per rollout, limited by the KL divergence.

    ``max E r A`` subject to ``E KL(pi_old || pi) <= delta``, ``r = pi(a|s) / pi_old(a|s)``: conjugate gradient on
    Fisher-vector products, then a line search on objective and constraint. The critic regresses on ``A + V``.
    Schulman et al. 2015, "Trust region policy optimization", arXiv:1502.05477. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      loss: replaces the surrogate as the loss of the actor's step; see ``jaxrl.losses``.
      optimizer: makes the critic's optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the critic.
      gamma: discount factor per step.
      gae_lambda: from 0 (one-step advantages: bias) to 1 (Monte-Carlo returns: variance).
      max_kl: delta, largest mean KL divergence of a step, in nats.
      num_cg_steps: largest number of conjugate-gradient steps.
      damping: constant added to the diagonal of the Fisher matrix.
      num_backtracks: step lengths that the line search tries, including the full one; if all fail, there is no step.
      backtrack_decay: factor from one step length to the next.
      huber_delta: error beyond which the value loss is linear (Huber loss); None for the squared error.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: largest global norm of the critic's gradient, which is clipped to it; None for no clipping.
      num_epochs: number of passes of the critic over each rollout.
      num_minibatches: the critic's minibatches per pass, one gradient step each; divides rollout_length x num_envs.
      normalize_advantage: standardise advantages to mean 0 and standard deviation 1 in each rollout.
      normalize_observation: standardise features by their running mean and standard deviation.
      clip_observation: (normalize_observation) largest absolute value of a standardised feature.
      normalize_reward: scale rewards by the running standard deviation of the discounted return.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      num_updates: calls of update until an annealed value reaches 0.
      squash: (continuous actions) pass them through a tanh; else they are clipped to their bounds.
      state_dependent_std: (continuous actions) the network outputs the log standard deviation; else it is a parameter.
      initial_log_std: (continuous actions) initial log standard deviation, in units of the bounds.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    network = actor_critic.make_network(
        spec, torso, squash=squash, state_dependent_std=state_dependent_std, initial_log_std=initial_log_std
    )
    steps_per_update = num_epochs * num_minibatches
    rate = optim.annealed(learning_rate, num_updates, steps_per_update) if anneal_learning_rate else learning_rate
    adam = optim.clipped(optimizer, rate, max_grad_norm)
    region = optim.trust_region(
        max_kl, num_cg_steps=num_cg_steps, damping=damping, num_backtracks=num_backtracks, decay=backtrack_decay
    )
    settings = losses.Settings(huber_delta=huber_delta, entropy_coef=entropy_coef)

    def init(key: Array, num_envs: int = 1) -> TRPOState:
        params = network.init(key, spec.zeros(1))
        statistics = normalizer.init(spec, normalize_observation, normalize_reward)
        trace = normalizer.init_trace(num_envs, normalize_reward)
        return TRPOState(params, adam.init(split(params)[1]), statistics, jnp.zeros((), jnp.int32), trace)

    def act(key: Array, state: TRPOState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        seen = normalizer.standardize(spec, state.statistics, observation, clip_observation)
        return actor_critic.act(network, spec, squash, key, state.params, seen, explore)

    def step_actor(actor: PyTree, critic: PyTree, batch: losses.Batch) -> tuple[PyTree, Metrics]:
        """The natural-gradient step: eq. 14 within the trust region, by conjugate gradient and line search."""

        def outputs(actor: PyTree) -> tuple[Any, losses.Batch]:
            return actor_critic.forward(network, join(actor, critic), batch)

        def objective(actor: PyTree) -> tuple[Array, Metrics]:
            made, samples = outputs(actor)
            if normalize_advantage:
                samples = actor_critic.normalize_advantage(samples)
            return losses.checked(loss, made, samples, settings)

        old, samples = outputs(actor)

        def divergence(actor: PyTree) -> Array:
            return samples.mean(old.policy.kl_divergence(outputs(actor)[0].policy))

        (value, metrics), grads = jax.value_and_grad(objective, has_aux=True)(actor)
        updates, (_, found) = region.update(
            grads,
            region.init(actor),
            actor,
            value_fn=lambda actor: objective(actor)[0],
            divergence_fn=divergence,
        )
        return optax.apply_updates(actor, updates), {
            "loss": value,
            **metrics,
            "gradient_norm": gradient_norm(grads),
            "kl": found.divergence,
            "improvement": found.improvement,
            "step_scale": found.scale,
        }

    def update(key: Array, state: TRPOState, trajectory: Transition) -> tuple[TRPOState, Metrics]:
        check_division(num_minibatches, trajectory)
        reward, statistics, trace = normalizer.scale_rewards(state.statistics, state.per_env, trajectory, gamma)
        seen = normalizer.standardize_trajectory(spec, statistics, trajectory, clip_observation)
        seen = seen._replace(reward=reward)

        v_tm1, v_t = actor_critic.values(network, state.params, seen)
        discount_t = returns.bootstrap_discount(seen.discount, gamma)
        continue_t = returns.continues(seen.terminated, seen.truncated)
        advantage = returns.gae(seen.reward, discount_t, v_tm1, v_t, continue_t, gae_lambda)
        target = advantage + v_tm1
        batch = actor_critic.make_batch(seen, advantage, target, v_tm1)

        # Actor and critic share no parameters: a trust-region step for the actor, regression for the critic.
        actor, critic = split(state.params)
        stepped, metrics = step_actor(actor, critic, batch)

        def regression(critic: PyTree, minibatch: losses.Batch, key: Array) -> tuple[Array, Metrics]:
            outputs, samples = actor_critic.forward(network, join(actor, critic), minibatch, key)
            return losses.value(outputs, samples, settings)

        fitted, of_critic = epochs(
            key,
            gradient_step(adam, regression),
            Learned(critic, state.optimizer_state),
            batch,
            num_epochs,
            num_minibatches,
        )
        metrics["value_loss"] = of_critic["value_loss"]
        metrics["explained_variance"] = explained_variance(v_tm1, target)
        metrics["gradient_steps"] = (state.updates + 1) * steps_per_update  # of the critic
        metrics["learning_rate"] = optim.rate_at(rate, state.updates * steps_per_update)
        # Refreshed last, so that the losses use the statistics that acted.
        statistics = normalizer.refresh(statistics, trajectory)
        params = join(stepped, fitted.params)
        return TRPOState(params, fitted.optimizer_state, statistics, state.updates + 1, trace), metrics

    return Agent(init, act, update)
