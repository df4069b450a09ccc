"""REINFORCE, with or without a learned baseline. Williams 1992; Sutton and Barto 2018, sections 13.3 and 13.4."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from jaxrl import losses, optim
from jaxrl.agents.parts import actor_critic, normalizer
from jaxrl.agents.parts.actor_critic import functions as functions
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.arguments import NonNegative, Positive, Real, TracedCount, Unit
from jaxrl.ops import returns
from jaxrl.ops.value import explained_variance
from jaxrl.signature import Heads, Loss, Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class ReinforceState(NamedTuple):
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
def reinforce(
    spec: Spec,
    *,
    torso: Torso | None = None,
    share_torso: bool = False,
    heads: Heads | None = None,
    loss: Loss = losses.actor_critic,
    optimizer: Optimizer = optax.adam,
    learning_rate: NonNegative = 3e-3,
    gamma: Unit = 0.99,
    baseline: bool = True,
    value_coef: NonNegative = 0.5,
    entropy_coef: Real = 0.0,
    max_grad_norm: Positive | None = None,
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
    """The Monte-Carlo policy gradient: log-probabilities of the actions taken, weighted by their returns.

    ``L = -E log pi(a|s) (G - b(s))``, G the discounted return to go, b a learned value or 0.
    Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
    Every float may be a tracer.

    With a baseline, returns bootstrap from the value at a time limit and at the end of the rollout. Without one they do
    not: a time limit ends the return, and only steps whose episode ends within the rollout count, which favours short
    episodes at its end, so choose ``rollout_length`` longer than an episode.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      share_torso: policy and baseline share one torso; else each has its own.
      heads: extra modules on the actor's features, for auxiliary losses.
      loss: replaces the policy-gradient loss; see ``jaxrl.losses``.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      gamma: discount factor per step.
      baseline: subtract a learned value from the return.
      value_coef: weight of the baseline's loss.
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
        baseline,
        squash=squash,
        state_dependent_std=state_dependent_std,
        initial_log_std=initial_log_std,
    )
    rate = optim.annealed(learning_rate, num_updates) if anneal_learning_rate else learning_rate
    adam = optim.clipped(optimizer, rate, max_grad_norm)
    settings = losses.Settings(value_coef=value_coef if baseline else 0.0, entropy_coef=entropy_coef)

    def init(key: Array, num_envs: int = 1) -> ReinforceState:
        params = network.init(key, spec.zeros(1))
        statistics = normalizer.init(spec, normalize_observation, normalize_reward)
        trace = normalizer.init_trace(num_envs, normalize_reward)
        return ReinforceState(params, adam.init(params), statistics, jnp.zeros((), jnp.int32), trace)

    def act(key: Array, state: ReinforceState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        seen = normalizer.standardize(spec, state.statistics, observation, clip_observation)
        return actor_critic.act(network, spec, squash, key, state.params, seen, explore)

    def update(key: Array, state: ReinforceState, trajectory: Transition) -> tuple[ReinforceState, Metrics]:
        reward, statistics, trace = normalizer.scale_rewards(state.statistics, state.per_env, trajectory, gamma)
        seen = normalizer.standardize_trajectory(spec, statistics, trajectory, clip_observation)
        seen = seen._replace(reward=reward)

        # G - b(s), the return to go minus the baseline.
        v_tm1, v_t = actor_critic.values(network, state.params, seen)
        discount_t = returns.bootstrap_discount(seen.discount, gamma)
        continue_t = returns.continues(seen.terminated, seen.truncated)
        weight = None
        if baseline:
            advantage = returns.gae(seen.reward, discount_t, v_tm1, v_t, continue_t, 1.0)
            target = advantage + v_tm1
        else:
            advantage = target = returns.discounted_returns(seen.reward, discount_t, jnp.zeros_like(v_t), continue_t)
            weight = known_return(continue_t).astype(advantage.dtype)
        batch = actor_critic.make_batch(seen, advantage, target, v_tm1, weight)

        # ``-E log pi(a|s) (G - b(s))``: ``losses.actor_critic`` adds the baseline's regression loss.
        def objective(params: PyTree, batch: losses.Batch, key: Array) -> tuple[Array, Metrics]:
            outputs, samples = actor_critic.forward(network, params, batch, key)
            if normalize_advantage:
                samples = actor_critic.normalize_advantage(samples)
            return losses.checked(loss, outputs, samples, settings)

        step = gradient_step(adam, objective)
        learned, metrics = step(Learned(state.params, state.optimizer_state), batch, key)
        if baseline:
            metrics["explained_variance"] = explained_variance(v_tm1, target)
        metrics |= {"gradient_steps": state.updates + 1, "learning_rate": optim.rate_at(rate, state.updates)}
        # Refreshed last, so that the loss uses the statistics that acted.
        statistics = normalizer.refresh(statistics, trajectory)
        return ReinforceState(*learned, statistics, state.updates + 1, trace), metrics

    return Agent(init, act, update)


def known_return(continue_t: Array) -> Array:
    """``[T, B]`` bool: whether the episode of a step ends within the rollout, so that its return is known."""
    ends = jnp.cumsum(~continue_t, axis=0)
    return ends[-1:] - ends + ~continue_t > 0
