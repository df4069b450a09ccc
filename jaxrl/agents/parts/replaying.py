"""Learning from a replay: stored transitions, random actions until learning starts, gradient steps on samples.

Legend of shapes: T steps, B environments, N samples of a batch, D action dimensions, n steps of an n-step return.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import networks, types
from jaxrl import replay as replays
from jaxrl.agents.parts.when import when
from jaxrl.ops import across, exploration, numerics
from jaxrl.replay import MakeReplay, Replay, Sample
from jaxrl.rollout import without_states
from jaxrl.types import Array, Discrete, Metrics, PyTree, RewardModel, Spec, Transition

Learner = TypeVar("Learner")

StepFn = Callable[[Array, Learner, Sample], tuple[Learner, Array, Metrics]]
"""``(key, learner, sample) -> (learner, priorities [N], metrics)``: one gradient step on a batch."""

RewardFn = Callable[[Array, Transition], Array]
"""``(key, transitions [n, N, ...]) -> rewards [n, N]``."""

REWARD_MODEL = 0x4E3D
"""Folded into the keys of a reward model, so that all other keys are the same with and without one."""


def make_buffer(replay: MakeReplay | None, prioritized: bool, replay_capacity: int, n_step: int, gamma: Any) -> Replay:
    """The replay that a recipe's arguments ask for.

    Args:
      replay: function that makes the replay; None for the uniform or the prioritised one.
      prioritized: sample by priority.
      replay_capacity: number of transitions, all environments together.
      n_step: steps of an n-step return.
      gamma: discount factor per step; may be a tracer.

    Raises:
      ValueError: ``replay`` and ``prioritized`` ask for different replays.
    """
    if replay is not None and prioritized:
        raise ValueError("prioritized: got True together with replay=, which decides it already; give one of the two")
    make = replay if replay is not None else replays.prioritized if prioritized else replays.uniform
    return make(replay_capacity, n_step=n_step, gamma=gamma)


def example(spec: Spec) -> Transition:
    """One transition as it is stored, without a batch axis, as shapes and dtypes."""
    scalar: Any = jax.ShapeDtypeStruct((), np.float32)
    flag: Any = jax.ShapeDtypeStruct((), np.bool_)
    discrete = isinstance(spec.action, Discrete)
    action: Any = jax.ShapeDtypeStruct((), np.int32) if discrete else jax.ShapeDtypeStruct((_size(spec),), np.float32)
    seen = spec.observation
    if isinstance(seen, types.Observation):
        seen = seen._replace(env_state=None)
    return Transition(seen, action, scalar, scalar, flag, flag, seen, ())


def stored(spec: Spec, trajectory: Transition) -> Transition:
    """The trajectory as the replay stores it: continuous actions in units of the bounds, no extras, no states."""
    action = trajectory.action if isinstance(spec.action, Discrete) else trajectory.extras
    return without_states(trajectory)._replace(action=action, extras=())


def num_steps(trajectory: Transition) -> int:
    """Environment steps of a trajectory, all devices together."""
    return trajectory.reward.size * across.size()


def uniform_action(key: Array, spec: Spec, observation: Any) -> Array:
    """Uniformly random legal actions: ``[B]``, or ``[B, D]`` in units of the bounds."""
    batch = types.features(observation).shape[0]
    if isinstance(spec.action, Discrete):
        return exploration.uniform_discrete(key, (batch,), spec.action.num_actions, types.action_mask(observation))
    return exploration.uniform_box(key, (batch, _size(spec)))


def to_environment(spec: Spec, chosen: Array) -> tuple[Array, Any]:
    """The return value of ``act`` for actions ``[B]``, or ``[B, D]`` in units of the bounds.

    Returns:
      ``(action, extras)``: the environment's action; extras are continuous actions in units of the bounds, which
      ``stored`` reads, else ``()``.
    """
    if isinstance(spec.action, Discrete):
        return chosen, ()
    return networks.environment_action(spec.action, chosen), chosen


def init(key: Array, spec: Spec, shared: Any, num_envs: int) -> tuple[Array, PyTree, PyTree]:
    """Initialises the rest of a recipe's state, beside its learner: ``(steps, reward_model, replay)``.

    Args:
      key: may be used again for other things.
      spec: of the environment.
      shared: has the fields buffer and reward_model.
      num_envs: B.
    """
    rewards = init_rewards(shared.reward_model, key, num_envs)
    return jnp.zeros((), jnp.int32), rewards, shared.buffer.init(example(spec), num_envs)


def init_rewards(reward_model: RewardModel | None, key: Array, num_envs: int) -> PyTree:
    """The initial state of the reward model, ``()`` without one. ``key`` may be used for other purposes too."""
    return () if reward_model is None else reward_model.init(jax.random.fold_in(key, REWARD_MODEL), num_envs)


def learn_rewards(
    reward_model: RewardModel | None, key: Array, spec: Spec, state: PyTree, trajectory: Transition
) -> tuple[PyTree, RewardFn | None, Metrics]:
    """Updates the reward model with a trajectory.

    It sees transitions without extras and with the environment's actions, here and when they are sampled.

    Args:
      reward_model: may be None.
      key: may be used for other purposes too.
      spec: the environment's spec.
      state: state of the reward model.
      trajectory: ``[T, B, ...]``.

    Returns:
      ``(state, reward_fn, metrics)``: the new state, and its reward function for ``gradient_steps``.
    """
    if reward_model is None:
        return state, None, {}
    model = reward_model
    new: PyTree = state
    metrics: Metrics = {}
    if trajectory.reward.size:
        new, metrics = model.update(jax.random.fold_in(key, REWARD_MODEL), state, trajectory._replace(extras=()))

    def reward_fn(key: Array, transitions: Transition) -> Array:
        action, _ = to_environment(spec, transitions.action)
        return model.reward(key, new, transitions._replace(action=action))

    return new, reward_fn, {f"reward_model_{name}": value for name, value in metrics.items()}


def gradient_steps(
    key: Array,
    step: StepFn[Learner],
    learner: Learner,
    buffer: Replay,
    replay: PyTree,
    batch_size: int,
    num_gradient_steps: int,
    ready: Array,
    reward_fn: RewardFn | None = None,
) -> tuple[Learner, PyTree, Metrics]:
    """Gradient steps, each on a batch from the replay and with an update of its priorities.

    Args:
      key: consumed.
      step: function that takes one gradient step.
      learner: the state that a step changes, any pytree.
      buffer: the functions of the replay.
      replay: state of the replay.
      batch_size: N, samples per step, all devices together.
      num_gradient_steps: number of gradient steps.
      ready: bool scalar, whether learning has started; before, the learner stays the same and metrics are 0.
      reward_fn: computes new rewards of sampled transitions; None for the stored rewards.

    Returns:
      ``(learner, replay, metrics)``, metrics averaged over the steps.
    """
    batch_size = across.share("batch_size", batch_size)

    def sample_and_step(carry: tuple[Learner, PyTree], key: Array) -> tuple[tuple[Learner, PyTree], Metrics]:
        learner, replay = carry
        sample_key, step_key = jax.random.split(key)
        if reward_fn is None:
            sample = buffer.sample(sample_key, replay, batch_size)
        else:
            rewards = partial(reward_fn, jax.random.fold_in(sample_key, REWARD_MODEL))
            sample = buffer.sample(sample_key, replay, batch_size, reward_fn=rewards)

        def skip(learner: Learner) -> tuple[Learner, Array, Metrics]:
            _, priorities, metrics = jax.eval_shape(step, step_key, learner, sample)
            zeros: Metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
            # Transitions that were never sampled have priority 1.
            return learner, jnp.ones(priorities.shape, priorities.dtype), zeros

        # The replay stays outside of the conditional, which would copy it.
        learner, priorities, metrics = when(ready, lambda learner: step(step_key, learner, sample), skip, learner)
        return (learner, buffer.update_priorities(replay, sample.index, priorities)), metrics

    if num_gradient_steps == 1:
        (learner, replay), metrics = sample_and_step((learner, replay), key)
        return learner, replay, metrics
    keys = jax.random.split(key, num_gradient_steps)
    (learner, replay), metrics = jax.lax.scan(sample_and_step, (learner, replay), keys)
    return learner, replay, jax.tree.map(lambda x: x.mean(axis=0), metrics)


def store_and_learn(
    key: Array, step: StepFn[Learner], spec: Spec, shared: Any, state: Any, trajectory: Transition
) -> tuple[Learner, Array, PyTree, PyTree, Metrics]:
    """Stores a trajectory, updates the reward model, and takes gradient steps once learning has started.

    Args:
      key: consumed.
      step: one gradient step, ``(key, learner, sample) -> (learner, priorities, metrics)``.
      spec: the environment's spec.
      shared: options with the fields buffer, batch_size, num_gradient_steps, learning_starts and reward_model.
      state: state with the fields learner, steps, reward_model and per_env, which is the replay.
      trajectory: ``[T, B, ...]``.

    Returns:
      ``(learner, steps, reward_model, replay, metrics)``.
    """
    replay = shared.buffer.add(state.per_env, stored(spec, trajectory))
    steps = numerics.count_up(state.steps, num_steps(trajectory))
    rewards, reward_fn, reward_metrics = learn_rewards(shared.reward_model, key, spec, state.reward_model, trajectory)
    learner, replay, metrics = gradient_steps(
        key,
        step,
        state.learner,
        shared.buffer,
        replay,
        shared.batch_size,
        shared.num_gradient_steps,
        ready=steps >= max(shared.learning_starts, 1),  # of an empty replay nothing is learned
        reward_fn=reward_fn,
    )
    return learner, steps, rewards, replay, {**metrics, **reward_metrics}


def _size(spec: Spec) -> int:
    return 0 if isinstance(spec.action, Discrete) else int(np.prod(spec.action.shape))
