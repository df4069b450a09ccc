"""AlphaZero: a network that a search improves on, trained towards what the search finds and how games end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import losses, networks, optim, types
from jaxrl.agents import planning
from jaxrl.agents.parts import torsos
from jaxrl.agents.parts.gradients import dropout_key, gradient_norm
from jaxrl.agents.planning import SearchFn
from jaxrl.agents.validation import check_arguments
from jaxrl.arguments import check_callable
from jaxrl.losses import LossFn, Planned, Settings
from jaxrl.networks import inputs
from jaxrl.ops import across, outcomes, returns, value
from jaxrl.replay import outcomes as positions
from jaxrl.replay.base import num_rows
from jaxrl.replay.outcomes import Position
from jaxrl.rollout import stored
from jaxrl.search import models
from jaxrl.types import Agent, Array, Discrete, Metrics, Model, Observation, PyTree, Spec, Transition


class AlphaZeroState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: of the network.
      optimizer_state: optax's.
      gradient_steps: int32, done so far.
      per_env: positions with their outcomes, and those that wait for them, leaves ``[rows, B, ...]``.
      model: the parameters of the model, ``()`` for the true simulator.
    """

    params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array
    per_env: PyTree
    model: PyTree


MODEL = 1
"""Folded into the key of ``init`` for the model's parameters."""

Learner = tuple[PyTree, PyTree, Array]
"""``(params, optimizer_state, gradient_steps)``: what gradient steps change."""


def default_torso(spec: Spec) -> nn.Module:
    """``Residual`` for boards ``[H, W, C]``, else an ``MLP`` with two rectified layers of 256."""
    if len(types.features(spec.observation).shape) == 3:
        return networks.Residual()
    return torsos.default_torso(spec, hidden=(256, 256), activation="relu")


@dataclasses.dataclass(frozen=True)
class AlphaZero:
    """The agent in parts. Floats may be tracers; the rest is static.

    Attributes:
      spec: the environment's.
      network: a ``networks.PolicyValue``.
      model: see ``types.Model``.
      search: see ``planning.SearchFn``.
      symmetries: see ``envs.games.Symmetries``; None for none.
      optimizer: applied to the gradient of the loss, the global-norm clip inside.
      loss: see ``losses.LossFn``.
      settings: its coefficients.
      gamma: discount of a step.
      num_simulations: of each search.
      replay_capacity, n_step: see ``replay.outcomes``.
      batch_size, num_gradient_steps, learning_starts: of learning.
    """

    spec: Spec
    network: networks.PolicyValue
    model: Model
    search: SearchFn
    symmetries: Any
    optimizer: optax.GradientTransformation
    loss: LossFn
    settings: Settings
    gamma: Any
    num_simulations: int
    replay_capacity: int
    n_step: int | None
    batch_size: int
    num_gradient_steps: int
    learning_starts: int


def init(config: AlphaZero, key: Array, num_envs: int = 1) -> AlphaZeroState:
    """A fresh state, its replay empty; see ``types.InitFn``."""
    params = config.network.init(key, config.spec.zeros(1))
    rows = num_rows(config.replay_capacity, num_envs, config.n_step or 1)
    if 2 * config.learning_starts > rows * num_envs:  # positions of games that go on are held, and don't count
        raise ValueError(
            f"learning_starts: got {config.learning_starts}, must be at most half of the positions that are kept, "
            f"{rows} of each of {num_envs} environments; take a larger replay_capacity"
        )
    ring = positions.init(config.spec.observation, config.network.num_actions, rows, num_envs)
    model = config.model.init(jax.random.fold_in(key, MODEL))
    return AlphaZeroState(params, config.optimizer.init(params), jnp.zeros((), jnp.int32), ring, model)


def evaluate(config: AlphaZero, params: PyTree, observation: Any) -> tuple[Array, Array]:
    """Logits ``[N, A]`` and values ``[N]`` in units of returns."""
    outputs: Any = config.network.apply(params, observation)
    return outputs.policy.logits, outputs.value if config.network.bounded else value.expand(outputs.value)


def act(config: AlphaZero, key: Array, state: AlphaZeroState, observation: Any, *, explore: bool = True) -> Any:
    """Searches from each state and acts on what it finds; see ``types.ActFn``.

    Extras are the policies ``[B, A]`` that the searches arrived at.

    Raises:
      ValueError: observations without the simulator's state.
    """
    network, params = partial(evaluate, config), models.Params(state.model, state.params)
    found = config.search(
        # Without noise the key would decide ties alone, and outcomes that a random simulator tries.
        key if explore else jax.random.key(0),
        params,
        models.root(network, params, planning.true_state(observation), observation),
        models.recurrent_fn(config.model, network, config.gamma),
        config.num_simulations,
        models.invalid_actions(observation),
        explore=explore,
        bounded=config.network.bounded,
        steps=planning.steps_taken(config.model, observation.env_state, types.features(observation).shape[:1]),
    )
    planning.check_found(found, len(types.features(observation)), config.network.num_actions)
    return found.action, found.action_weights


def remember(config: AlphaZero, state: AlphaZeroState, trajectory: Transition) -> tuple[PyTree, Metrics]:
    """The replay with a rollout in it, and every return that it has closed."""
    shape = trajectory.reward.shape
    _, v_t = evaluate(config, state.params, trajectory.next_observation)
    v_t = v_t.reshape(shape)
    total, weight = outcomes.open_returns(
        trajectory.reward,
        returns.bootstrap_discount(trajectory.discount, config.gamma),
        v_t,
        returns.continues(trajectory.terminated, trajectory.truncated),
    )
    lost = positions.overwritten(state.per_env, shape[0])
    ring = positions.add(
        state.per_env, trajectory.observation, trajectory.extras, total, weight, v_t[-1], config.n_step
    )
    return ring, {
        "search_confidence": trajectory.extras.max(axis=-1).mean(),
        "value": jnp.abs(v_t).mean(),
        "positions_lost": across.total(lost),
    }


def as_batch(config: AlphaZero, key: Array, drawn: Position) -> Planned:
    """What the loss takes, seen through a random symmetry where the game has any."""
    observation, policy = drawn.observation, drawn.policy
    if config.symmetries is not None:
        features, mask, policy = config.symmetries(
            key, types.features(observation), types.action_mask(observation), policy
        )
        if isinstance(observation, Observation):
            observation = observation._replace(features=features, action_mask=mask)
        else:
            observation = features
    target = drawn.outcome if config.network.bounded else value.compress(drawn.outcome)
    return Planned(observation, policy, target)


def learn(config: AlphaZero, key: Array, learner: Learner, batch: Planned) -> tuple[Learner, Metrics]:
    """One gradient step on a batch."""
    params, optimizer_state, count = learner

    def objective(params: PyTree) -> tuple[Array, Metrics]:
        rngs = {"dropout": dropout_key(key)}
        outputs = config.network.apply(params, batch.observation, rngs=rngs)
        total, metrics = losses.checked(config.loss, outputs, batch, config.settings)  # type: ignore[arg-type]
        return total, {"loss": total, **metrics}

    grads, metrics = jax.grad(objective, has_aux=True)(params)
    updates, optimizer_state = config.optimizer.update(grads, optimizer_state, params)
    learner = optax.apply_updates(params, updates), optimizer_state, count + 1
    return learner, {**metrics, "gradient_norm": gradient_norm(grads)}


def update(
    config: AlphaZero, key: Array, state: AlphaZeroState, trajectory: Transition
) -> tuple[AlphaZeroState, Metrics]:
    """Remembers the rollout, then takes gradient steps on positions whose outcome is known; see ``types.UpdateFn``.

    Before there are ``learning_starts`` of them the learner stays as it was, and its metrics are 0.
    """
    ring, seen = remember(config, state, trajectory)
    counted = positions.counts(ring)
    batch_size = across.share("batch_size", config.batch_size)
    # Every part has to have something to draw from, and all of them begin together.
    ready = (across.total(counted[-1]) >= config.learning_starts) & (across.least(counted[-1]) > 0)

    def gradient_step(learner: Learner, key: Array) -> tuple[Learner, Metrics]:
        sample_key, turn_key, learn_key = jax.random.split(key, 3)
        drawn = positions.sample(sample_key, ring, counted, batch_size)
        batch = as_batch(config, turn_key, drawn)

        def skip(learner: Learner) -> tuple[Learner, Metrics]:
            metrics = jax.eval_shape(partial(learn, config), learn_key, learner, batch)[1]
            return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

        # The replay stays outside: a cond with it inside would copy it.
        return jax.lax.cond(ready, lambda learner: learn(config, learn_key, learner, batch), skip, learner)

    learner = (state.params, state.optimizer_state, state.gradient_steps)
    learner, metrics = jax.lax.scan(gradient_step, learner, jax.random.split(key, config.num_gradient_steps))
    metrics = {**jax.tree.map(lambda x: x.mean(axis=0), metrics), **seen, "positions": across.total(counted[-1])}
    return AlphaZeroState(*learner, ring, state.model), metrics


def alphazero(
    spec: Spec,
    *,
    model: Model,
    torso: nn.Module | None = None,
    search: str | SearchFn = planning.gumbel,
    num_simulations: int = 32,
    symmetries: Any = None,
    bounded: bool | None = None,
    gamma: float = 1.0,
    n_step: int | None = None,
    loss: LossFn = losses.alphazero,
    value_coef: float = 1.0,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adamw,
    learning_rate: float = 1e-3,
    anneal_learning_rate: bool = False,
    num_updates: int | None = None,
    max_grad_norm: float | None = 1.0,
    replay_capacity: int = 100_000,
    batch_size: int = 256,
    num_gradient_steps: int = 4,
    learning_starts: int = 1_000,
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
    check_arguments({**locals(), "n_step": 1 if n_step is None else n_step})
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: alphazero chooses among discrete actions, the environment has {spec.action}")
    num_actions = spec.action.num_actions
    models.check_model("model", model)
    if symmetries is not None:
        check_callable("symmetries", symmetries, "a function (key, features, mask, policy) -> the same three, or None")
    is_bounded = model.num_players == 2 if bounded is None else bool(bounded)
    lr: Any = learning_rate
    if anneal_learning_rate:
        lr = optim.annealed(learning_rate, num_updates, num_gradient_steps)

    spec = spec._replace(observation=stored(spec.observation))
    torso = default_torso(spec) if torso is None else torso
    config = AlphaZero(
        spec=spec,
        network=networks.PolicyValue(torso, num_actions, inputs.event_rank(spec.observation), is_bounded),
        model=model,
        search=planning.search_fn(search),
        symmetries=symmetries,
        optimizer=optim.clipped(optimizer, lr, max_grad_norm),
        loss=loss,
        settings=Settings(value_coef=value_coef),
        gamma=gamma,
        num_simulations=num_simulations,
        replay_capacity=replay_capacity,
        n_step=n_step,
        batch_size=batch_size,
        num_gradient_steps=num_gradient_steps,
        learning_starts=learning_starts,
    )
    return Agent(init=partial(init, config), act=partial(act, config), update=partial(update, config))
