"""AlphaZero: tree search with a network, which learns the policies of the search and the outcomes of games."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import losses, networks, optim, types
from jaxrl.agents.parts import planning, torsos
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import Learned, dropout_key, gradient_step
from jaxrl.agents.parts.planning import SearchFn
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.agents.parts.when import when
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, TracedCount, Unit, check_steps
from jaxrl.losses import LossFn, Planned, Settings
from jaxrl.networks import inputs
from jaxrl.ops import across, outcomes, returns, value
from jaxrl.replay import outcomes as positions
from jaxrl.replay.base import num_rows
from jaxrl.replay.outcomes import Position
from jaxrl.rollout import stored
from jaxrl.search import models
from jaxrl.signature import Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Discrete, Metrics, Model, Observation, PyTree, Spec, Transition


class AlphaZeroState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the network.
      optimizer_state: state of the optax optimizer.
      gradient_steps: int32, number of gradient steps so far.
      per_env: the replay of positions, with their outcome or waiting for it, leaves ``[rows, B, ...]``.
      model: the parameters of the model, ``()`` for the true simulator.
    """

    params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array
    per_env: PyTree
    model: PyTree


Symmetries = Annotated[Callable[..., Any], "a function (key, features, mask, policy) -> the same three"]

MODEL = 1
"""Folded into the key of ``init`` for the model's parameters."""


@recipe(fills={"model": "simulator", "symmetries": "symmetries"})
def alphazero(
    spec: Spec,
    *,
    model: Annotated[Model, "a types.Model such as envs.simulator(env, params)"],
    torso: Torso | None = None,
    search: str | SearchFn = planning.gumbel,
    num_simulations: Count = 32,
    symmetries: Symmetries | None = None,
    bounded: bool | None = None,
    gamma: Unit = 1.0,
    n_step: Count | None = None,
    loss: LossFn = losses.alphazero,
    value_coef: NonNegative = 1.0,
    optimizer: Optimizer = optax.adamw,
    learning_rate: NonNegative = 1e-3,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    max_grad_norm: Positive | None = 1.0,
    replay_capacity: Count = 100_000,
    batch_size: Count = 256,
    num_gradient_steps: Count = 4,
    learning_starts: CountOrZero = 1_000,
) -> Agent:
    """AlphaZero: a search in the true simulator chooses every move, and the network learns from the searches.

    ``L = -pi^T log p + value_coef (z - v)^2 / 2`` over positions of finished games; pi is the policy of the search, z
    the outcome for the player to move. Silver et al. 2018, "A general reinforcement learning algorithm
    that masters chess, shogi, and Go through self-play"; Danihelka et al. 2022, "Policy improvement by planning with
    Gumbel". It plays two-player games by self-play, and one-player environments. Every float may be a tracer.

    Args:
      spec: the spec of ``envs.expose_state(env)``; its actions are discrete.
      model: ``envs.simulator(env, params)``, or another ``types.Model`` of the environment's states.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or, for boards, Residual.
      search: "gumbel" (better with few simulations), "puct" (AlphaZero's), or a ``planning.SearchFn`` such as
        ``functools.partial(planning.puct, dirichlet_alpha=1.0)``.
      num_simulations: model steps of each search.
      symmetries: ``(key, features, mask, policy) -> the same three``, such as ``env.symmetries`` of a pgx game.
      bounded: returns lie in [-1, 1], and the value head ends in a tanh; None: True for two-player games only.
      gamma: discount factor per step; 1 for games.
      n_step: steps before returns bootstrap from a value (up to a rollout more); None waits for the episode's end.
      loss: see ``losses.LossFn``; its batch is a ``losses.Planned``.
      value_coef: weight of the value loss.
      optimizer: makes an optax optimizer from a learning rate or a schedule; AdamW decays all weights by 1e-4.
      learning_rate: step size of the optimizer.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      num_updates: calls of update until an annealed value reaches 0.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      replay_capacity: number of positions kept, all environments together. A game of more than replay_capacity /
        num_envs moves loses its opening positions before their outcome is known; the metric positions_lost counts them.
      batch_size: number of positions per gradient step.
      num_gradient_steps: gradient steps per call of update, so per rollout_length x num_envs environment steps.
      learning_starts: positions with an outcome before the first gradient step; at most half of replay_capacity.

    Returns:
      An ``Agent``, whose ``act`` needs observations with an ``env_state``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    check_no_memory(spec, torso)
    if anneal_learning_rate and num_updates is None:
        raise ValueError("num_updates: anneal_learning_rate needs the number of updates to anneal over, got None")
    rate = optim.annealed(learning_rate, num_updates, num_gradient_steps) if anneal_learning_rate else learning_rate
    adam = optim.clipped(optimizer, rate, max_grad_norm)
    spec = spec._replace(observation=stored(spec.observation))
    bounded = model.num_players == 2 if bounded is None else bounded
    network = make_network(spec, torso, bounded)
    search_fn = planning.search_fn(search)

    def evaluate(params: PyTree, observation: Any) -> tuple[Array, Array]:
        return planning.evaluate(network, params, observation)

    def init(key: Array, num_envs: int = 1) -> AlphaZeroState:
        params = network.init(key, spec.zeros(1))
        rows = num_rows(replay_capacity, num_envs, n_step or 1)
        if 2 * learning_starts > rows * num_envs:  # positions of unfinished games take up space and don't count
            raise ValueError(
                f"learning_starts: got {learning_starts}, must be at most half of the positions kept, "
                f"{rows} for each of {num_envs} environments; increase replay_capacity or decrease it"
            )
        ring = positions.init(spec.observation, network.num_actions, rows, num_envs)
        model_params = model.init(jax.random.fold_in(key, MODEL))
        return AlphaZeroState(params, adam.init(params), jnp.zeros((), jnp.int32), ring, model_params)

    def act(key: Array, state: AlphaZeroState, observation: Any, *, explore: bool = True) -> tuple[Array, Array]:
        found = planning.plan(
            search_fn,
            key,
            models.Params(state.model, state.params),
            model,
            evaluate,
            planning.true_state(observation),
            observation,
            models.invalid_actions(observation),
            num_simulations,
            gamma=gamma,
            explore=explore,
            bounded=bounded,
        )
        return found.action, found.action_weights

    def remember(state: AlphaZeroState, trajectory: Transition) -> tuple[PyTree, Metrics]:
        """Stores each position with pi, and with z where it is known already."""
        check_steps(trajectory.reward.shape)
        shape = trajectory.reward.shape
        v_t = evaluate(state.params, trajectory.next_observation)[1].reshape(shape)
        # z: the return up to the end of the episode, with the sign of the player to move, or up to a value after n_step
        discount_t = returns.bootstrap_discount(trajectory.discount, gamma)
        continue_t = returns.continues(trajectory.terminated, trajectory.truncated)
        total, weight = outcomes.open_returns(trajectory.reward, discount_t, v_t, continue_t)
        lost = positions.overwritten(state.per_env, shape[0])
        pi = trajectory.extras
        ring = positions.add(state.per_env, trajectory.observation, pi, total, weight, v_t[-1], n_step)
        confidence = pi.max(axis=-1).mean()
        metrics = {"search_confidence": confidence, "value": jnp.abs(v_t).mean(), "positions_lost": across.total(lost)}
        return ring, metrics

    def loss_fn(params: PyTree, batch: Planned, key: Array) -> tuple[Array, Metrics]:
        # eq. 1: (z - v)^2 - pi^T log p, and c |theta|^2 by the optimizer
        outputs = network.apply(params, batch.observation, rngs={"dropout": dropout_key(key)})
        return losses.checked(loss, outputs, batch, Settings(value_coef=value_coef))  # type: ignore[arg-type]

    step = gradient_step(adam, loss_fn)

    def update(key: Array, state: AlphaZeroState, trajectory: Transition) -> tuple[AlphaZeroState, Metrics]:
        ring, seen = remember(state, trajectory)
        counted = positions.counts(ring)
        known, num_samples = counted[-1], across.share("batch_size", batch_size)
        # Learning starts on all devices at once, when every device has enough positions.
        ready = (across.total(known) >= learning_starts) & (across.least(known) > 0)

        def sample_and_step(learned: Learned, key: Array) -> tuple[Learned, Metrics]:
            sample_key, turn_key, step_key = jax.random.split(key, 3)
            drawn = positions.sample(sample_key, ring, counted, num_samples)
            batch = as_batch(turn_key, drawn, symmetries, bounded)

            def skip(learned: Learned) -> tuple[Learned, Metrics]:
                metrics = jax.eval_shape(step, learned, batch, step_key)[1]
                return learned, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

            # The replay stays outside of the conditional, which would copy it.
            return when(ready, lambda learned: step(learned, batch, step_key), skip, learned)

        learned = Learned(state.params, state.optimizer_state)
        learned, metrics = jax.lax.scan(sample_and_step, learned, jax.random.split(key, num_gradient_steps))
        metrics = {**jax.tree.map(lambda x: x.mean(axis=0), metrics), **seen, "positions": across.total(known)}
        gradient_steps = state.gradient_steps + jnp.where(ready, num_gradient_steps, 0)
        metrics |= {"gradient_steps": gradient_steps, "learning_rate": optim.rate_at(rate, gradient_steps)}
        return AlphaZeroState(*learned, gradient_steps, ring, state.model), metrics

    return Agent(init, act, update)


def default_torso(spec: Spec) -> nn.Module:
    """``Residual`` for boards ``[H, W, C]``, else an ``MLP`` with two ReLU layers of 256."""
    if len(types.features(spec.observation).shape) == 3:
        return networks.Residual()
    return torsos.default_torso(spec, hidden=(256, 256), activation="relu")


def make_network(spec: Spec, torso: nn.Module | None, bounded: bool) -> networks.PolicyValue:
    """The network ``f(s) = (p, v)``, v in [-1, 1] where ``bounded``, else compressed.

    Raises:
      TypeError: the actions are continuous.
    """
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: got actions {spec.action}, alphazero takes discrete ones; see sac and mpc")
    torso = default_torso(spec) if torso is None else torso
    return networks.PolicyValue(torso, spec.action.num_actions, inputs.event_rank(spec.observation), bounded)


def as_batch(key: Array, drawn: Position, symmetries: Any, bounded: bool) -> Planned:
    """The batch for the loss, under a random symmetry where the game has symmetries."""
    observation, policy = drawn.observation, drawn.policy
    if symmetries is not None:
        features, mask, policy = symmetries(key, types.features(observation), types.action_mask(observation), policy)
        if isinstance(observation, Observation):
            observation = observation._replace(features=features, action_mask=mask)
        else:
            observation = features
    return Planned(observation, policy, drawn.outcome if bounded else value.compress(drawn.outcome))


def functions(
    spec: Spec, *, model: Model | None = None, torso: nn.Module | None = None, bounded: bool | None = None
) -> Functions:
    """The policy and the value of the network alone, without a search; see ``jaxrl.functions``.

    ``bounded`` means the same in ``alphazero``; None takes it from ``model``.

    Raises:
      TypeError: neither is given, and the range of the value is unknown.
    """
    if model is None and bounded is None:
        raise TypeError("model: got None, must be the model that the agent was made with; or give bounded")
    spec = spec._replace(observation=stored(spec.observation))
    is_bounded = (model is not None and model.num_players == 2) if bounded is None else bounded
    network = make_network(spec, torso, is_bounded)

    def policy(state: Any, observation: Any) -> Any:
        outputs: Any = network.apply(state.params, observation)
        return outputs.policy

    def value(state: Any, observation: Any) -> Array:
        return planning.evaluate(network, state.params, observation)[1]

    return Functions(policy, value)
