"""A2C: the synchronous advantage actor-critic. Mnih et al. 2016, arXiv:1602.01783."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl import losses, optim
from jaxrl.agents.parts import actor_critic, normalizer
from jaxrl.agents.parts.actor_critic import functions as functions
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.arguments import NonNegative, Positive, Real, TracedCount, Unit
from jaxrl.ops import returns
from jaxrl.ops.value import explained_variance
from jaxrl.signature import Heads, Loss, Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class A2CState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the network.
      optimizer_state: state of the optax optimizer.
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
def a2c(
    spec: Spec,
    *,
    torso: Torso | None = None,
    share_torso: bool = False,
    heads: Heads | None = None,
    loss: Loss = losses.actor_critic,
    optimizer: Optimizer = optim.RMSPROP,
    learning_rate: NonNegative = 7e-4,
    gamma: Unit = 0.99,
    gae_lambda: Unit = 1.0,
    huber_delta: Positive | None = None,
    value_coef: NonNegative = 0.5,
    entropy_coef: Real = 0.01,
    max_grad_norm: Positive | None = 0.5,
    normalize_advantage: bool = False,
    normalize_observation: bool = False,
    clip_observation: Positive = 10.0,
    normalize_reward: bool = False,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: Real = 0.0,
) -> Agent:
    """Advantage actor-critic: one policy-gradient step on each short rollout; the critic bootstraps its end.

    ``L = -E log pi(a|s) A + c_v (V - R)^2 / 2 - c_e H(pi)``, ``A = R - V``, R the n-step return.
    Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", without the asynchrony.
    Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      share_torso: policy and value share one torso; else each has its own.
      heads: extra modules on the actor's features, for auxiliary losses.
      loss: replaces the actor-critic loss; see ``jaxrl.losses``.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      gamma: discount factor per step.
      gae_lambda: 1 gives the paper's n-step returns; smaller values give generalised advantage estimates.
      huber_delta: error beyond which the value loss is linear (Huber loss); None for the squared error.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
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
        spec,
        torso,
        share_torso,
        heads,
        squash=squash,
        state_dependent_std=state_dependent_std,
        initial_log_std=initial_log_std,
    )
    rate = optim.annealed(learning_rate, num_updates) if anneal_learning_rate else learning_rate
    rmsprop = optim.clipped(optimizer, rate, max_grad_norm)
    settings = losses.Settings(huber_delta=huber_delta, value_coef=value_coef, entropy_coef=entropy_coef)

    def init(key: Array, num_envs: int = 1) -> A2CState:
        params = network.init(key, spec.zeros(1))
        statistics = normalizer.init(spec, normalize_observation, normalize_reward)
        trace = normalizer.init_trace(num_envs, normalize_reward)
        return A2CState(params, rmsprop.init(params), statistics, jnp.zeros((), jnp.int32), trace)

    def act(key: Array, state: A2CState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        seen = normalizer.standardize(spec, state.statistics, observation, clip_observation)
        return actor_critic.act(network, spec, squash, key, state.params, seen, explore)

    def update(key: Array, state: A2CState, trajectory: Transition) -> tuple[A2CState, Metrics]:
        reward, statistics, trace = normalizer.scale_rewards(state.statistics, state.per_env, trajectory, gamma)
        seen = normalizer.standardize_trajectory(spec, statistics, trajectory, clip_observation)
        seen = seen._replace(reward=reward)

        # ``R - V``, R the bootstrapped n-step return (algorithm S3); with lambda < 1 a mean of n-step returns.
        v_tm1, v_t = actor_critic.values(network, state.params, seen)
        discount_t = returns.bootstrap_discount(seen.discount, gamma)
        continue_t = returns.continues(seen.terminated, seen.truncated)
        advantage = returns.gae(seen.reward, discount_t, v_tm1, v_t, continue_t, gae_lambda)
        target = advantage + v_tm1
        batch = actor_critic.make_batch(seen, advantage, target, v_tm1)

        def objective(params: PyTree, batch: losses.Batch, key: Array) -> tuple[Array, Metrics]:
            outputs, samples = actor_critic.forward(network, params, batch, key)
            if normalize_advantage:
                samples = actor_critic.normalize_advantage(samples)
            return losses.checked(loss, outputs, samples, settings)

        step = gradient_step(rmsprop, objective)
        learned, metrics = step(Learned(state.params, state.optimizer_state), batch, key)
        metrics["explained_variance"] = explained_variance(v_tm1, target)
        metrics |= {"gradient_steps": state.updates + 1, "learning_rate": optim.rate_at(rate, state.updates)}
        # Refreshed last, so that the loss uses the statistics that acted.
        statistics = normalizer.refresh(statistics, trajectory)
        return A2CState(*learned, statistics, state.updates + 1, trace), metrics

    return Agent(init, act, update)
