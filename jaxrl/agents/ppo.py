"""PPO: proximal policy optimisation with the clipped surrogate. Schulman et al. 2017, arXiv:1707.06347."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl import losses, optim
from jaxrl.agents.parts import actor_critic, normalizer
from jaxrl.agents.parts.actor_critic import functions as functions
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.minibatches import epochs
from jaxrl.agents.parts.recurrent import check_division
from jaxrl.arguments import Count, NonNegative, Positive, Real, TracedCount, Unit
from jaxrl.ops import returns
from jaxrl.ops.value import explained_variance
from jaxrl.signature import Heads, Loss, Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class PPOState(NamedTuple):
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
def ppo(
    spec: Spec,
    *,
    torso: Torso | None = None,
    share_torso: bool = False,
    heads: Heads | None = None,
    loss: Loss = losses.ppo,
    optimizer: Optimizer = optim.ADAM,
    learning_rate: NonNegative = 2.5e-4,
    gamma: Unit = 0.99,
    gae_lambda: Unit = 0.95,
    clip_epsilon: NonNegative = 0.2,
    clip_value_epsilon: NonNegative | None = None,
    huber_delta: Positive | None = None,
    value_coef: NonNegative = 0.5,
    entropy_coef: Real = 0.01,
    max_grad_norm: Positive | None = 0.5,
    num_epochs: Count = 4,
    num_minibatches: Count = 4,
    normalize_advantage: bool = True,
    normalize_observation: bool = False,
    clip_observation: Positive = 10.0,
    normalize_reward: bool = False,
    target_kl: Positive | None = None,
    anneal_learning_rate: bool = False,
    anneal_clip: bool = False,
    num_updates: TracedCount | None = None,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: Real = 0.0,
) -> Agent:
    """Proximal policy optimisation: several epochs of clipped policy-gradient steps on each rollout.

    ``L = -E min(r A, clip(r, 1 - eps, 1 + eps) A) + c_v (V - V_target)^2 / 2 - c_e H(pi)``,
    ``r = pi(a|s) / pi_old(a|s)``. Schulman et al. 2017, "Proximal policy optimization algorithms".
    Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      share_torso: policy and value share one torso; else each has its own.
      heads: extra modules on the actor's features, for auxiliary losses.
      loss: replaces the clipped loss; see ``jaxrl.losses``.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      gamma: discount factor per step.
      gae_lambda: from 0 (one-step advantages: bias) to 1 (Monte-Carlo returns: variance).
      clip_epsilon: the probability ratio is clipped to [1 - clip_epsilon, 1 + clip_epsilon].
      clip_value_epsilon: largest change of values from the old ones; None for no clipping of values.
      huber_delta: error beyond which the value loss is linear (Huber loss); None for the squared error.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      num_epochs: number of passes over each rollout.
      num_minibatches: minibatches per pass, one gradient step each; divides rollout_length x num_envs.
      normalize_advantage: standardise advantages to mean 0 and standard deviation 1 in each minibatch.
      normalize_observation: standardise features by their running mean and standard deviation.
      clip_observation: (normalize_observation) largest absolute value of a standardised feature.
      normalize_reward: scale rewards by the running standard deviation of the discounted return.
      target_kl: KL divergence from the old policy, in nats, after which no further epoch runs; None for all epochs.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      anneal_clip: lower clip_epsilon linearly to 0 over num_updates.
      num_updates: calls of update until an annealed value reaches 0.
      squash: (continuous actions) pass them through a tanh; else they are clipped to their bounds.
      state_dependent_std: (continuous actions) the network outputs the log standard deviation; else it is a parameter.
      initial_log_std: (continuous actions) initial log standard deviation, in units of the bounds.

    Returns:
      An ``Agent``.

    Raises:
      ValueError: an argument is outside its range; the message names it.
    """
    if clip_value_epsilon is not None and huber_delta is not None:
        raise ValueError(
            f"huber_delta: got {huber_delta} together with clip_value_epsilon={clip_value_epsilon}; the clipped value "
            "loss is a squared error, set one of the two to None"
        )
    network = actor_critic.make_network(
        spec,
        torso,
        share_torso,
        heads,
        squash=squash,
        state_dependent_std=state_dependent_std,
        initial_log_std=initial_log_std,
    )
    steps_per_update = num_epochs * num_minibatches
    rate = optim.annealed(learning_rate, num_updates, steps_per_update) if anneal_learning_rate else learning_rate
    adam = optim.clipped(optimizer, rate, max_grad_norm)
    epsilon = optim.annealed(clip_epsilon, num_updates) if anneal_clip else lambda updates: clip_epsilon

    def init(key: Array, num_envs: int = 1) -> PPOState:
        params = network.init(key, spec.zeros(1))
        statistics = normalizer.init(spec, normalize_observation, normalize_reward)
        trace = normalizer.init_trace(num_envs, normalize_reward)
        return PPOState(params, adam.init(params), statistics, jnp.zeros((), jnp.int32), trace)

    def act(key: Array, state: PPOState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        seen = normalizer.standardize(spec, state.statistics, observation, clip_observation)
        return actor_critic.act(network, spec, squash, key, state.params, seen, explore)

    def update(key: Array, state: PPOState, trajectory: Transition) -> tuple[PPOState, Metrics]:
        check_division(num_minibatches, trajectory)
        reward, statistics, trace = normalizer.scale_rewards(state.statistics, state.per_env, trajectory, gamma)
        seen = normalizer.standardize_trajectory(spec, statistics, trajectory, clip_observation)
        seen = seen._replace(reward=reward)

        # Advantages (eq. 11 and 12) and value targets, both computed with the parameters that acted.
        v_tm1, v_t = actor_critic.values(network, state.params, seen)
        discount_t = returns.bootstrap_discount(seen.discount, gamma)
        continue_t = returns.continues(seen.terminated, seen.truncated)
        advantage = returns.gae(seen.reward, discount_t, v_tm1, v_t, continue_t, gae_lambda)
        target = advantage + v_tm1
        batch = actor_critic.make_batch(seen, advantage, target, v_tm1)

        # The clipped surrogate with its value and entropy terms, eq. 7 and 9: ``losses.ppo``.
        clip = epsilon(state.updates)
        settings = losses.Settings(clip, clip_value_epsilon, huber_delta, value_coef, entropy_coef)

        def objective(params: PyTree, minibatch: losses.Batch, key: Array) -> tuple[Array, Metrics]:
            outputs, samples = actor_critic.forward(network, params, minibatch, key)
            if normalize_advantage:
                samples = actor_critic.normalize_advantage(samples)
            return losses.checked(loss, outputs, samples, settings)

        # Epochs of minibatches on the same rollout, algorithm 1.
        def moved_too_far(learned: Learned) -> Array:
            limit: Any = target_kl
            return actor_critic.policy_shift(network, learned.params, batch) > limit

        learned, metrics = epochs(
            key,
            gradient_step(adam, objective),
            Learned(state.params, state.optimizer_state),
            batch,
            num_epochs,
            num_minibatches,
            stop=None if target_kl is None else moved_too_far,
        )
        metrics["explained_variance"] = explained_variance(v_tm1, target)
        if target_kl is None:  # with target_kl only the optimizer knows how many steps were taken
            metrics["gradient_steps"] = (state.updates + 1) * steps_per_update
            metrics["learning_rate"] = optim.rate_at(rate, state.updates * steps_per_update)
        # Refreshed last, so that the losses use the statistics that acted.
        statistics = normalizer.refresh(statistics, trajectory)
        return PPOState(*learned, statistics, state.updates + 1, trace), metrics

    return Agent(init, act, update)
