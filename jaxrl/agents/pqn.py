"""PQN: Q-learning with a network, lambda-returns and layer norm; no replay, no target network. Gallici et al. 2024."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim, types
from jaxrl.agents import action_values
from jaxrl.agents.action_values import ActionValues
from jaxrl.agents.dqn import expected_value
from jaxrl.agents.off_policy import DROPOUT, gradient_norm
from jaxrl.agents.parts.minibatches import check_minibatches, shuffled_minibatches
from jaxrl.agents.torsos import default_torso
from jaxrl.agents.validation import check_arguments
from jaxrl.networks import inputs
from jaxrl.ops import across, exploration, returns, td, value
from jaxrl.types import Agent, Array, Discrete, Metrics, PyTree, Spec, Transition


class PQNState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: of the network.
      optimizer_state: optax's.
      steps: int32, environment steps seen, all environments together.
      per_env: (), nothing is kept of environments.
    """

    params: PyTree
    optimizer_state: PyTree
    steps: Array
    per_env: tuple[()] = ()


class Batch(NamedTuple):
    """Samples of a rollout, leaves ``[N, ...]``: what was seen, done, and what it turned out to be worth."""

    observation: Any
    action: Array
    target: Array


@dataclasses.dataclass(frozen=True)
class PQN:
    """The agent in parts. Floats may be tracers; the rest is static.

    Attributes:
      spec: the environment's.
      parts: the network, in the family of action values.
      optimizer: applied to the gradient of the loss, the global-norm clip inside.
      epsilon: a function of the count of steps.
      gamma, td_lambda: of the targets.
      num_epochs, num_minibatches: passes over a rollout, gradient steps of a pass.
    """

    spec: Spec
    parts: ActionValues
    optimizer: optax.GradientTransformation
    epsilon: Callable[[Array], Array]
    gamma: Any
    td_lambda: Any
    num_epochs: int
    num_minibatches: int


def init(config: PQN, key: Array, num_envs: int = 1) -> PQNState:
    """A fresh state; see ``types.InitFn``."""
    del num_envs
    params = config.parts.network.init(key, config.spec.zeros(1))
    return PQNState(params, config.optimizer.init(params), jnp.zeros((), jnp.int32))


def act(config: PQN, key: Array, state: PQNState, observation: Any, *, explore: bool = True) -> tuple[Array, tuple[()]]:
    """Epsilon-greedy, or the best known action; see ``types.ActFn``."""
    if explore:
        return action_values.explore(config.parts, config.epsilon, key, state.params, observation, state.steps), ()
    return action_values.exploit(config.parts, state.params, observation), ()


def targets(config: PQN, params: PyTree, trajectory: Transition) -> Array:
    """``[T, B]`` lambda-returns over the values of the best next actions, cut where episodes end."""
    shape = trajectory.reward.shape
    q_t = action_values.values(config.parts, params, trajectory.next_observation)
    v_t = td.masked_max(q_t.reshape(*shape, -1), types.action_mask(trajectory.next_observation))
    return returns.lambda_returns(
        trajectory.reward,
        returns.bootstrap_discount(trajectory.discount, config.gamma),
        v_t,
        returns.continues(trajectory.terminated, trajectory.truncated),
        config.td_lambda,
    )


def loss(config: PQN, params: PyTree, batch: Batch, key: Array | None = None) -> tuple[Array, Metrics]:
    """``E (Q(s, a) - target)^2 / 2`` and metrics; ``key`` is the rng "dropout" of the torso."""
    q = action_values.outputs(config.parts, params, batch.observation, (), None, key)
    chosen = td.take_action(q, batch.action)
    total = value.squared_error_term(chosen, batch.target).mean()
    return total, {"loss": total, "value": chosen.mean()}


def update(config: PQN, key: Array, state: PQNState, trajectory: Transition) -> tuple[PQNState, Metrics]:
    """Learns from one rollout; see ``types.UpdateFn``."""
    check_minibatches(config.num_minibatches, trajectory.reward.shape)
    # Computed once: the parameters of the rollout are the target network.
    batch = Batch(trajectory.observation, trajectory.action, targets(config, state.params, trajectory))
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def step(carry: tuple[PyTree, PyTree], drawn: tuple[Batch, Array]) -> tuple[tuple[PyTree, PyTree], Metrics]:
        params, optimizer_state = carry
        grads, metrics = jax.grad(lambda params: loss(config, params, *drawn), has_aux=True)(params)
        norm = gradient_norm(grads)
        updates, optimizer_state = config.optimizer.update(grads, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), {**metrics, "gradient_norm": norm}

    def epoch(carry: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], Metrics]:
        dropout_keys = jax.random.split(jax.random.fold_in(key, DROPOUT), config.num_minibatches)
        return jax.lax.scan(step, carry, (shuffled_minibatches(key, batch, config.num_minibatches), dropout_keys))

    carry, metrics = jax.lax.scan(
        epoch, (state.params, state.optimizer_state), jax.random.split(key, config.num_epochs)
    )
    return PQNState(*carry, state.steps + trajectory.reward.size * across.size()), jax.tree.map(jnp.mean, metrics)


def pqn(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    dueling: bool = False,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.radam,
    learning_rate: float = 5e-4,
    max_grad_norm: float | None = 10.0,
    gamma: float = 0.99,
    td_lambda: float = 0.65,
    num_epochs: int = 2,
    num_minibatches: int = 4,
    anneal_learning_rate: bool = False,
    num_updates: int | None = None,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.05,
    epsilon_steps: int = 100_000,
) -> Agent:
    """Parallelised Q-network: Q(lambda) on each rollout, with layer norm instead of a replay and a target network.

    ``L = E (Q(s, a) - G)^2 / 2``, ``G_{t-1} = r_t + gamma ((1 - lambda) max_a Q(s_t, a) + lambda G_t)``, held constant
    for all epochs over the rollout. Gallici et al. 2024, "Simplifying deep temporal difference learning",
    arXiv:2407.04811. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation, with
        layer norm, which a torso of your own should have too.
      dueling: a value stream and an advantage stream (Wang et al. 2016).
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.
      gamma: discount of the future, a step.
      td_lambda: from 0 (one-step targets, biased) to 1 (returns, noisy).
      num_epochs: passes over each rollout.
      num_minibatches: gradient steps a pass; divides rollout_length x num_envs.
      anneal_learning_rate: linearly to 0 over num_updates.
      num_updates: the horizon of annealing, in calls of update.
      epsilon_start: share of random actions at the start.
      epsilon_end: share of random actions from epsilon_steps on.
      epsilon_steps: environment steps over which epsilon goes linearly from start to end.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_arguments(locals())
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: pqn chooses among discrete actions, the environment has {spec.action}")
    lr: Any = learning_rate
    if anneal_learning_rate:
        lr = optim.annealed(learning_rate, num_updates, num_epochs * num_minibatches)
    torso = default_torso("pqn", spec.observation) if torso is None else torso
    head = networks.ActionValueHead(spec.action.num_actions, dueling=dueling)
    network = networks.QNetwork(torso, head, inputs.event_rank(spec.observation))
    config = PQN(
        spec=spec,
        parts=ActionValues(network, expected_value(), double=False, noisy=False),
        optimizer=optim.clipped(optimizer, lr, max_grad_norm),
        epsilon=lambda steps: exploration.linear_schedule(steps, epsilon_start, epsilon_end, epsilon_steps),
        gamma=gamma,
        td_lambda=td_lambda,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
    )
    return Agent(init=partial(init, config), act=partial(act, config), update=partial(update, config))
