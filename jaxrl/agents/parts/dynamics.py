"""Learned dynamics in an agent: their data, when they are fitted, particles to plan with, and imagined rollouts.

Legend of shapes: T steps of a rollout, B environments, N rows of data, K members, P particles of a member, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import models, types
from jaxrl.agents.parts import replaying
from jaxrl.agents.parts.when import when
from jaxrl.models.ensemble import Ensemble, EnsembleParams, EnsembleState, only
from jaxrl.models.fit import Fitted
from jaxrl.ops import numerics
from jaxrl.replay import ring
from jaxrl.replay.base import num_rows
from jaxrl.replay.ring import Ring
from jaxrl.rollout import reset, rollout, stored
from jaxrl.types import Agent, Array, Box, Discrete, Metrics, Model, PyTree, Simulated, Spec, Transition

MODEL = 0x3D17
"""Folded into the keys of a model beside an agent, so that the agent's keys are those that it has alone."""


class Swarm(NamedTuple):
    """A state of ``swarm``.

    Attributes:
      observation: ``[K, P, D]`` of particles, each moved by its own member.
      is_open: ``[K, P]`` bool, False where the task ended for a particle.
    """

    observation: Array
    is_open: Array


def empty_data(spec: Spec, capacity: int, num_envs: int, extras: Any = ()) -> Ring:
    """A ring for ``capacity`` transitions of all environments together, with actions as the environment takes them.

    Args:
      spec: of the environment.
      capacity: transitions.
      num_envs: B.
      extras: of one transition, shapes and dtypes.
    """
    number: Any = jax.ShapeDtypeStruct((), np.float32)
    flag: Any = jax.ShapeDtypeStruct((), np.bool_)
    action: Any = (
        jax.ShapeDtypeStruct((), np.int32)
        if isinstance(spec.action, Discrete)
        else jax.ShapeDtypeStruct(spec.action.shape, np.float32)
    )
    seen = stored(spec.observation)
    example = Transition(seen, action, number, number, flag, flag, seen, extras)
    return ring.init(example, num_rows(capacity, num_envs, 1), num_envs)


def without_memory(trajectory: Transition) -> Transition:
    """The trajectory without the agent's memory, which only its first step has."""
    return trajectory._replace(observation=stored(trajectory.observation))


def rows_of(data: Ring) -> tuple[Transition, Array]:
    """All rows as one axis, ``[N, ...]``, and how many of them hold a transition: the first ones."""
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data.transitions)
    return rows, data.filled * data.num_envs


def refit(
    due: Array, key: Array, dynamics: Ensemble, params: EnsembleParams, data: Ring, **options: Any
) -> tuple[EnsembleParams, Metrics]:
    """The ensemble fitted to all data where due, else as it was, and then at no cost.

    Args:
      due: bool scalar.
      key: consumed.
      dynamics, params: the ensemble.
      data: see ``empty_data``.
      **options: of ``models.fit``.

    Returns:
      ``(params, metrics)``: metrics are NaN where nothing was fitted.
    """

    def fitted(state: tuple[EnsembleParams, Metrics]) -> tuple[EnsembleParams, Metrics]:
        rows, size = rows_of(data)
        new, found = dynamics.fit(key, state[0], rows, size=size, **options)
        return new, found.metrics()

    params, metrics = fitted_when(due, fitted, params)
    return params, {f"model_{name}": value for name, value in metrics.items()}


def fitted_when(
    due: Array, fitted: Callable[[tuple[PyTree, Metrics]], tuple[PyTree, Metrics]], params: PyTree
) -> tuple[PyTree, Metrics]:
    """``fitted((params, metrics))`` where due, else the parameters as they were and metrics of NaN."""
    return when(due, fitted, lambda state: state, (params, Fitted.no_metrics()))


def swarm(dynamics: Ensemble, particles_per_member: int) -> tuple[Model, Callable[[Any, int], Any]]:
    """Trajectory sampling (TS-infinity): one state is P particles for each elite member, which they keep.

    The reward is the mean over particles; behind its end a particle gets none. Chua et al. 2018, arXiv:1805.12114,
    section 4.2.

    Args:
      dynamics: the ensemble.
      particles_per_member: P.

    Returns:
      ``(model, start)``: the model takes the parameters ``members(params)``; ``start`` makes states of observations
      ``[B, D]``, of ``num_elites`` members.
    """
    inner = dynamics.model("ts_infinity")

    def step(params: PyTree, key: Array, state: Swarm, action: Array) -> Simulated:
        keys = jax.random.split(key, state.is_open.shape)
        # ``only`` leaves each member alone in its ensemble, as number 0.
        before = EnsembleState(state.observation, jnp.zeros(state.is_open.shape, jnp.int32))
        over_particles = jax.vmap(inner.step, (None, 0, 0, None))
        after = jax.vmap(over_particles, (0, 0, 0, None))(params, keys, before, action)
        reward = jnp.where(state.is_open, after.reward, 0.0).mean()
        is_open = state.is_open & (after.discount != 0.0)
        discount = jnp.where(is_open.any(), 1.0, 0.0).astype(jnp.float32)
        observation = after.state.observation
        return Simulated(Swarm(observation, is_open), observation, reward, discount, jnp.bool_(False))

    def start(observation: Any, num_members: int) -> Swarm:
        x = jnp.asarray(types.features(observation), jnp.float32)
        shape = (x.shape[0], num_members, particles_per_member)
        return Swarm(jnp.broadcast_to(x[:, None, None], (*shape, x.shape[-1])), jnp.ones(shape, bool))

    return Model(dynamics.init, step), start


def members(params: EnsembleParams) -> EnsembleParams:
    """Each elite as an ensemble of one, leaves ``[K, ...]``."""
    return jax.vmap(only, (None, 0))(params, params.elites)


def imagined(
    key: Array,
    dynamics: Ensemble,
    params: EnsembleParams,
    data: Ring,
    agent: Agent,
    state: PyTree,
    *,
    space: Discrete | Box,
    length: int,
    num_branches: int,
    propagation: str = "ts_infinity",
) -> Transition:
    """Short rollouts of an agent in learned dynamics, from real states. Janner et al. 2019, arXiv:1906.08253.

    A branch begins at the observation of a stored transition, chosen uniformly. A branch that terminates is followed by
    another one. A branch is truncated after ``length`` steps, so that its value is bootstrapped.

    Args:
      key: consumed.
      dynamics, params: the ensemble.
      data: real transitions, see ``empty_data``.
      agent, state: the agent that acts, and its state.
      space: the action space of the ensemble.
      length: number of steps of a branch.
      num_branches: N.
      propagation: "ts_infinity", each branch keeps one of the elites, or "ts_1", each step draws one.

    Returns:
      A trajectory ``[length, N]``.
    """

    def begin(key: Array, params: PyTree) -> tuple[Array, EnsembleState]:
        slot_key, member_key = jax.random.split(key)
        slot = ring.draw(slot_key, data, 1)
        stored = ring.take(types.features(data.transitions.observation), slot.row[0], slot.env[0])
        seen = jnp.asarray(stored, jnp.float32)
        return seen, dynamics.start(member_key, params, seen)

    env = models.as_env(dynamics.model(propagation), params, begin, space, max_steps=length)
    reset_key, key = jax.random.split(key)
    observation, env_state = reset(reset_key, env, env.default_params, num_branches)
    return rollout(key, agent, state, env, env.default_params, env_state, observation, length)[2]


def ensemble_of(spec: Spec, **options: Any) -> Ensemble:
    """``models.ensemble`` for what a rollout stores of a spec's observations."""
    return models.ensemble(spec._replace(observation=stored(spec.observation)), **options)


def unit_ensemble(spec: Spec, *, reward: Any = None, termination: Any = None, **options: Any) -> Ensemble:
    """``models.ensemble`` of actions as a replay stores them: continuous ones in units of the bounds, ``[D]``.

    Args:
      spec: of the environment, whose observation is a vector without other parts.
      reward, termination: as ``models.ensemble`` takes them, of actions as the environment takes them.
      **options: of ``models.ensemble``.

    Raises:
      ValueError: the observation has other parts, or is no vector.
    """
    if isinstance(spec.observation, types.Observation):
        parts = [name for name, part in spec.observation._asdict().items() if part is not None]
        raise ValueError(
            f"spec: got observations with {', '.join(parts)}, must be vectors alone; a model predicts nothing else"
        )

    def of_environment(function: Any) -> Any:
        if not callable(function):
            return function
        return lambda before, action, after: function(before, replaying.to_environment(spec, action)[0], after)

    unit: Any = Box((math.prod(spec.action.shape),), -1.0, 1.0) if isinstance(spec.action, Box) else spec.action
    known = {"reward": of_environment(reward), "termination": of_environment(termination)}
    return models.ensemble(spec._replace(action=unit), **known, **options)


def is_due(steps: Array, new_steps: int, starts: int, every: int) -> Array:
    """Whether something is due that happens once ``starts`` steps are there, and ``every`` steps from then on.

    Args:
      steps: int32, steps before.
      new_steps: steps since.
      starts: steps before the first time.
      every: steps from one time to the next.

    >>> [bool(is_due(jnp.int32(steps), 10, starts=20, every=30)) for steps in range(0, 70, 10)]
    [False, True, False, False, True, False, False]
    """
    done = jnp.where(steps > 0, (steps - starts) // every, -1)
    return (numerics.count_up(steps, new_steps) - starts) // every > jnp.maximum(done, -1)
