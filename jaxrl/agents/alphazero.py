"""AlphaZero: a network that a search improves on, trained towards what the search finds and how games end."""

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
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, TracedCount, Unit
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
      params: of the network.
      optimizer_state: of optax.
      gradient_steps: int32, done so far.
      per_env: positions with their outcomes, and those that wait for them, leaves ``[rows, B, ...]``.
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
    """AlphaZero: every move by a search in the true simulator, which the network learns from.

    ``L = -pi^T log p + value_coef (z - v)^2 / 2`` over positions of finished games, pi the policy that a search arrived
    at, z the outcome in the eyes of the player to move. Silver et al. 2018, "A general reinforcement learning algorithm
    that masters chess, shogi, and Go through self-play"; Danihelka et al. 2022, "Policy improvement by planning with
    Gumbel". Games of two players, by self-play, and environments of one. Every float may be a tracer.

    Args:
      spec: of the environment ``envs.expose_state(env)``; its actions are discrete.
      model: ``envs.simulator(env, params)``, or another ``types.Model`` of the environment's states.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or, for boards, Residual.
      search: "gumbel", good with few simulations, "puct", AlphaZero's own, or a function, see ``planning.SearchFn``:
        ``functools.partial(planning.puct, dirichlet_alpha=1.0)``.
      num_simulations: model steps of each search.
      symmetries: ``(key, features, mask, policy) -> the same three``, such as ``env.symmetries`` of a pgx game.
      bounded: returns lie in [-1, 1], and the value ends in a tanh; None says so of games of two players.
      gamma: discount of the future, a step; 1 for games.
      n_step: returns are followed by a value after so many steps, or up to a rollout more; None waits for the end.
      loss: see ``losses.LossFn``; its batch is a ``losses.Planned``.
      value_coef: weight of the value loss.
      optimizer: makes an optax optimizer from a learning rate or a schedule; AdamW decays all weights by 1e-4.
      learning_rate: step size of the optimizer.
      anneal_learning_rate: linearly to 0 over num_updates.
      num_updates: the horizon of annealing, in calls of update.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.
      replay_capacity: positions kept, of all environments together. Games of more moves than replay_capacity / num_envs
        lose their openings before these have an outcome: the metric positions_lost counts them.
      batch_size: positions of a gradient step.
      num_gradient_steps: gradient steps a call of update, so for each rollout_length x num_envs steps.
      learning_starts: positions with an outcome before the first gradient step; at most half of replay_capacity.

    Returns:
      An ``Agent``, whose ``act`` wants observations with an ``env_state``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
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
        if 2 * learning_starts > rows * num_envs:  # positions of games that go on are held, and don't count
            raise ValueError(
                f"learning_starts: got {learning_starts}, must be at most half of the positions that are kept, "
                f"{rows} of each of {num_envs} environments; take a larger replay_capacity"
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
        """Keeps each position with pi, and with z where it is known by now."""
        shape = trajectory.reward.shape
        v_t = evaluate(state.params, trajectory.next_observation)[1].reshape(shape)
        # z: the return up to the end of the episode, its sign changing with the mover, or up to a value after n_step
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
        # Every part has to have something to draw from, and all of them begin together.
        ready = (across.total(known) >= learning_starts) & (across.least(known) > 0)

        def sample_and_step(learned: Learned, key: Array) -> tuple[Learned, Metrics]:
            sample_key, turn_key, step_key = jax.random.split(key, 3)
            drawn = positions.sample(sample_key, ring, counted, num_samples)
            batch = as_batch(turn_key, drawn, symmetries, bounded)

            def skip(learned: Learned) -> tuple[Learned, Metrics]:
                metrics = jax.eval_shape(step, learned, batch, step_key)[1]
                return learned, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

            # The replay stays outside: inside it would be copied.
            return when(ready, lambda learned: step(learned, batch, step_key), skip, learned)

        learned = Learned(state.params, state.optimizer_state)
        learned, metrics = jax.lax.scan(sample_and_step, learned, jax.random.split(key, num_gradient_steps))
        metrics = {**jax.tree.map(lambda x: x.mean(axis=0), metrics), **seen, "positions": across.total(known)}
        gradient_steps = state.gradient_steps + jnp.where(ready, num_gradient_steps, 0)
        metrics |= {"gradient_steps": gradient_steps, "learning_rate": optim.rate_at(rate, gradient_steps)}
        return AlphaZeroState(*learned, gradient_steps, ring, state.model), metrics

    return Agent(init, act, update)


def default_torso(spec: Spec) -> nn.Module:
    """``Residual`` for boards ``[H, W, C]``, else an ``MLP`` with two rectified layers of 256."""
    if len(types.features(spec.observation).shape) == 3:
        return networks.Residual()
    return torsos.default_torso(spec, hidden=(256, 256), activation="relu")


def make_network(spec: Spec, torso: nn.Module | None, bounded: bool) -> networks.PolicyValue:
    """The network ``f(s) = (p, v)``, v in [-1, 1] where ``bounded``, else compressed.

    Raises:
      TypeError: the actions are continuous.
    """
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: alphazero chooses among discrete actions, the environment has {spec.action}")
    torso = default_torso(spec) if torso is None else torso
    return networks.PolicyValue(torso, spec.action.num_actions, inputs.event_rank(spec.observation), bounded)


def as_batch(key: Array, drawn: Position, symmetries: Any, bounded: bool) -> Planned:
    """What the loss takes, seen through a random symmetry where the game has any."""
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

    ``bounded`` is as of ``alphazero``: None says what ``model`` does.

    Raises:
      TypeError: neither is given, so that the range of the value is unknown.
    """
    if model is None and bounded is None:
        raise TypeError("model: got None, must be the model that the agent was made with; or say bounded=True or False")
    spec = spec._replace(observation=stored(spec.observation))
    is_bounded = (model is not None and model.num_players == 2) if bounded is None else bounded
    network = make_network(spec, torso, is_bounded)

    def policy(state: Any, observation: Any) -> Any:
        outputs: Any = network.apply(state.params, observation)
        return outputs.policy

    def value(state: Any, observation: Any) -> Array:
        return planning.evaluate(network, state.params, observation)[1]

    return Functions(policy, value)
