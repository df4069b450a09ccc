"""PQN: Q-learning with a network, lambda-returns and layer norm; no replay, no target network. Gallici et al. 2024."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim, types
from jaxrl.agents.parts import action_values, replaying, torsos
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.minibatches import check_minibatches, epochs
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.arguments import Count, NonNegative, Positive, TracedCount, Unit
from jaxrl.ops import exploration, numerics, returns, td, value
from jaxrl.signature import Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class PQNState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the network.
      optimizer_state: state of the optax optimizer.
      steps: int32, environment steps seen, all environments together.
      per_env: (), no state per environment.
    """

    params: PyTree
    optimizer_state: PyTree
    steps: Array
    per_env: tuple[()] = ()


class Batch(NamedTuple):
    """Samples of a rollout, leaves ``[N, ...]``: observations, actions, and their lambda-returns."""

    observation: Any
    action: Array
    target: Array


def default_torso(spec: Spec) -> nn.Module:
    """``Conv`` for images, else an ``MLP`` with two ReLU layers of 64, both with the layer norm that PQN needs."""
    return torsos.default_torso(spec, hidden=(64, 64), activation="relu", layer_norm=True)


def make_network(spec: Spec, torso: nn.Module | None, dueling: bool) -> networks.QNetwork:
    """A torso, the default one where ``torso`` is None, and a head of action values."""
    return action_values.make_network(spec, default_torso(spec) if torso is None else torso, dueling=dueling)


def functions(spec: Spec, *, torso: Torso | None = None, dueling: bool = False) -> Functions:
    """The greedy policy and the action values of a state; give it the arguments that the agent was made with."""
    return action_values.functions(partial(action_values.outputs, make_network(spec, torso, dueling)))


@recipe
def pqn(
    spec: Spec,
    *,
    torso: Torso | None = None,
    dueling: bool = False,
    optimizer: Optimizer = optax.radam,
    learning_rate: NonNegative = 5e-4,
    max_grad_norm: Positive | None = 10.0,
    gamma: Unit = 0.99,
    td_lambda: Unit = 0.65,
    num_epochs: Count = 2,
    num_minibatches: Count = 4,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    epsilon_start: Unit = 1.0,
    epsilon_end: Unit = 0.05,
    epsilon_steps: Count = 100_000,
) -> Agent:
    """Parallelised Q-network: Q(lambda) on each rollout, with layer norm instead of a replay and a target network.

    ``L = E (Q(s, a) - G)^2 / 2``, ``G_{t-1} = r_t + gamma ((1 - lambda) max_a Q(s_t, a) + lambda G_t)``, held constant
    for all epochs over the rollout. Gallici et al. 2024, "Simplifying deep temporal difference learning",
    arXiv:2407.04811. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape,
        with layer norm, which a custom torso should have too.
      dueling: a value stream and an advantage stream (Wang et al. 2016).
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      gamma: discount factor per step.
      td_lambda: from 0 (one-step targets: bias) to 1 (Monte-Carlo returns: variance).
      num_epochs: number of passes over each rollout.
      num_minibatches: minibatches per pass, one gradient step each; divides rollout_length x num_envs.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      num_updates: calls of update until an annealed value reaches 0.
      epsilon_start: fraction of random actions at the start.
      epsilon_end: fraction of random actions from epsilon_steps on.
      epsilon_steps: environment steps over which epsilon changes linearly from epsilon_start to epsilon_end.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    action_values.check_discrete(spec)
    check_no_memory(spec, torso)
    rate: Any = learning_rate
    if anneal_learning_rate:
        rate = optim.annealed(learning_rate, num_updates, num_epochs * num_minibatches)
    radam = optim.clipped(optimizer, rate, max_grad_norm)
    network = make_network(spec, torso, dueling)
    q_values = partial(action_values.outputs, network)
    epsilon = partial(exploration.linear_schedule, start=epsilon_start, end=epsilon_end, num_steps=epsilon_steps)

    def init(key: Array, num_envs: int = 1) -> PQNState:
        params = network.init(key, spec.zeros(1))
        return PQNState(params, radam.init(params), jnp.zeros((), jnp.int32))

    def act(key: Array, state: PQNState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        q, mask = q_values(state.params, observation), types.action_mask(observation)
        if not explore:
            return td.masked_argmax(q, mask), ()
        return exploration.epsilon_greedy(key, q, epsilon(state.steps), mask), ()

    def update(key: Array, state: PQNState, trajectory: Transition) -> tuple[PQNState, Metrics]:
        check_minibatches(num_minibatches, trajectory.reward.shape)
        # G by the parameters before the update, in place of a target network's: v_t = max_a Q(s_t, a).
        q_t = q_values(state.params, trajectory.next_observation)
        q_t = q_t.reshape(*trajectory.reward.shape, -1)
        target = returns.lambda_returns(
            trajectory.reward,
            returns.bootstrap_discount(trajectory.discount, gamma),
            td.masked_max(q_t, types.action_mask(trajectory.next_observation)),
            returns.continues(trajectory.terminated, trajectory.truncated),
            td_lambda,
        )
        batch = Batch(trajectory.observation, trajectory.action, target)
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def loss(params: PyTree, batch: Batch, key: Array) -> tuple[Array, Metrics]:
            chosen = td.take_action(q_values(params, batch.observation, dropout=key), batch.action)
            return value.squared_error_term(chosen, batch.target).mean(), {"value": chosen.mean()}

        learned = Learned(state.params, state.optimizer_state)
        learned, metrics = epochs(key, gradient_step(radam, loss), learned, batch, num_epochs, num_minibatches)
        num_steps = replaying.num_steps(trajectory)
        done = state.steps // num_steps * num_epochs * num_minibatches
        metrics["gradient_steps"] = done + num_epochs * num_minibatches
        metrics["learning_rate"] = optim.rate_at(rate, done)
        metrics["epsilon"] = epsilon(state.steps)
        return PQNState(*learned, numerics.count_up(state.steps, num_steps)), metrics

    return Agent(init, act, update)
