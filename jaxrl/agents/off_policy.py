"""The off-policy skeleton: act with noise, remember, sample, regress. Recipes bind what they regress.

A family of recipes (``action_values``, ``actor_critics``) supplies a ``Method``: how parameters are made, how they
choose actions, and one gradient step on a batch. The replay, the warm-up and the count of steps are here, once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxrl import types
from jaxrl.ops import across, exploration
from jaxrl.replay import Replay, Sample
from jaxrl.types import Agent, Array, Discrete, Metrics, PyTree, Spec, Transition


class Learner(NamedTuple):
    """What gradient steps change.

    Attributes:
      params: of the networks.
      target_params: of the target networks, slower.
      optimizer_state: optax's.
      gradient_steps: int32, done so far.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array


class OffPolicyState(NamedTuple):
    """The state of an off-policy agent.

    Attributes:
      params, target_params, optimizer_state, gradient_steps: see ``Learner``.
      steps: int32, environment steps seen, all environments together.
      per_env: the replay, leaves ``[rows, B, ...]``.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array
    steps: Array
    per_env: PyTree

    @property
    def learner(self) -> Learner:
        """The part that gradient steps change."""
        return Learner(self.params, self.target_params, self.optimizer_state, self.gradient_steps)


class PolicyFn(NamedTuple):
    """Two ways to choose actions: discrete ones ``[B]``, or ``[B, D]`` in units of the bounds.

    Attributes:
      explore: ``(key, params, observation, steps) -> action``, with noise.
      exploit: ``(params, observation) -> action``, the best known.
    """

    explore: Callable[[Array, PyTree, Any, Array], Array]
    exploit: Callable[[PyTree, Any], Array]


class Method(NamedTuple):
    """What the families differ in.

    Attributes:
      init: ``key -> learner``, the first one.
      policy: see ``PolicyFn``.
      learn: ``(key, learner, sample) -> (learner, priorities [N], metrics)``: one gradient step.
    """

    init: Callable[[Array], Learner]
    policy: PolicyFn
    learn: Callable[[Array, Learner, Sample], tuple[Learner, Array, Metrics]]


@dataclasses.dataclass(frozen=True)
class OffPolicy:
    """An off-policy agent in parts.

    Attributes:
      spec: the environment's.
      method: see ``Method``.
      replay: where transitions are kept; see ``jaxrl.replay``.
      batch_size: N, samples of a gradient step; of all devices together, where environments are split over several.
      num_gradient_steps: gradient steps a call of ``update``, so for each ``rollout_length x num_envs`` steps.
      learning_starts: environment steps before the first gradient step; until then actions are uniform.
    """

    spec: Spec
    method: Method
    replay: Replay
    batch_size: int
    num_gradient_steps: int
    learning_starts: int


DROPOUT = 0xD209
"""Folded into the key of a gradient step, for the rng "dropout" of a torso."""


def gradient_norm(grads: PyTree) -> Array:
    """The global norm, of one flat vector, as the clip takes it: the compiler then computes it once."""
    return optax.tree.norm(ravel_pytree(grads)[0])


def example(spec: Spec) -> Transition:
    """One transition without a batch axis as it is stored, shapes and dtypes alone."""
    scalar: Any = jax.ShapeDtypeStruct((), np.float32)
    flag: Any = jax.ShapeDtypeStruct((), np.bool_)
    discrete = isinstance(spec.action, Discrete)
    action: Any = jax.ShapeDtypeStruct((), np.int32) if discrete else jax.ShapeDtypeStruct((_size(spec),), np.float32)
    seen = spec.observation
    if isinstance(seen, types.Observation):
        seen = seen._replace(env_state=None)
    return Transition(seen, action, scalar, scalar, flag, flag, seen, ())


def _size(spec: Spec) -> int:
    return 0 if isinstance(spec.action, Discrete) else int(np.prod(spec.action.shape))


def init(config: OffPolicy, key: Array, num_envs: int = 1) -> OffPolicyState:
    """A fresh state, its replay empty; see ``types.InitFn``."""
    replay = config.replay.init(example(config.spec), num_envs)
    return OffPolicyState(*config.method.init(key), jnp.zeros((), jnp.int32), replay)


def uniform_action(key: Array, spec: Spec, observation: Any) -> Array:
    """Uniformly random actions, legal ones only: ``[B]``, or ``[B, D]`` in units of the bounds."""
    batch = types.features(observation).shape[0]
    if isinstance(spec.action, Discrete):
        return exploration.uniform_discrete(key, (batch,), spec.action.num_actions, types.action_mask(observation))
    return exploration.uniform_box(key, (batch, _size(spec)))


def act(
    config: OffPolicy, key: Array, state: OffPolicyState, observation: Any, *, explore: bool = True
) -> tuple[Array, Any]:
    """Explores, uniformly until learning starts, or takes the best known action; see ``types.ActFn``.

    Extras are the action in units of the bounds ``[B, D]`` where actions are continuous, else ``()``.
    """
    policy = config.method.policy
    if explore:
        policy_key, uniform_key = jax.random.split(key)
        chosen = policy.explore(policy_key, state.params, observation, state.steps)
        anyhow = uniform_action(uniform_key, config.spec, observation)
        chosen = jnp.where(state.steps < config.learning_starts, anyhow, chosen)
    else:
        chosen = policy.exploit(state.params, observation)
    if isinstance(config.spec.action, Discrete):
        return chosen, ()
    return config.spec.action.from_unit(chosen.reshape(-1, *config.spec.action.shape)), chosen


def as_stored(config: OffPolicy, trajectory: Transition) -> Transition:
    """The trajectory as the replay keeps it: continuous actions in units of the bounds, no extras."""
    action = trajectory.action if isinstance(config.spec.action, Discrete) else trajectory.extras
    return trajectory._replace(action=action, extras=())


def update(config: OffPolicy, key: Array, state: OffPolicyState, trajectory: Transition) -> tuple[Any, Metrics]:
    """Remembers the trajectory, then takes ``num_gradient_steps`` gradient steps; see ``types.UpdateFn``.

    Before ``learning_starts`` steps the learner stays as it was, and its metrics are 0.
    """
    replay = config.replay.add(state.per_env, as_stored(config, trajectory))
    steps = state.steps + trajectory.reward.size * across.size()
    batch_size = across.share("batch_size", config.batch_size)
    ready = steps >= config.learning_starts

    def gradient_step(carry: tuple[Learner, PyTree], key: Array) -> tuple[tuple[Learner, PyTree], Metrics]:
        learner, replay = carry
        sample_key, learn_key = jax.random.split(key)
        sample = config.replay.sample(sample_key, replay, batch_size)

        def skip(learner: Learner) -> Any:
            shapes = jax.eval_shape(config.method.learn, learn_key, learner, sample)
            metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[2])
            # 1 is what transitions have that nobody looked at yet.
            return learner, jnp.ones(shapes[1].shape, shapes[1].dtype), metrics

        # The replay stays outside: a cond with it inside would copy it.
        learner, priorities, metrics = jax.lax.cond(
            ready, lambda learner: config.method.learn(learn_key, learner, sample), skip, learner
        )
        return (learner, config.replay.update_priorities(replay, sample.index, priorities)), metrics

    carry = (state.learner, replay)
    if config.num_gradient_steps == 1:
        (learner, replay), metrics = gradient_step(carry, key)
    else:
        (learner, replay), metrics = jax.lax.scan(
            gradient_step, carry, jax.random.split(key, config.num_gradient_steps)
        )
        metrics = jax.tree.map(lambda x: x.mean(axis=0), metrics)
    return OffPolicyState(*learner, steps, replay), metrics


def first_learner(params: PyTree, optimizer: optax.GradientTransformation) -> Learner:
    """No step done, the target a copy of the parameters."""
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer.init(params), jnp.zeros((), jnp.int32))


def step(
    optimizer: optax.GradientTransformation,
    learner: Learner,
    grads: PyTree,
    target: Callable[[PyTree, PyTree, Array], PyTree],
) -> Learner:
    """One step of the optimizer, then of the target: ``target(params, target_params, gradient_steps)``."""
    updates, optimizer_state = optimizer.update(grads, learner.optimizer_state, learner.params)
    params = optax.apply_updates(learner.params, updates)
    count = learner.gradient_steps + 1
    return Learner(params, target(params, learner.target_params, count), optimizer_state, count)


def moving_target(tau: Any, interval: int) -> Callable[[PyTree, PyTree, Array], PyTree]:
    """``theta' <- tau theta + (1 - tau) theta'`` at every ``interval``-th gradient step.

    ``tau`` 1 with a long interval copies now and then (Mnih et al. 2015), a small ``tau`` with interval 1 follows
    slowly (Lillicrap et al. 2016).
    """

    def target(params: PyTree, target_params: PyTree, count: Array) -> PyTree:
        moved = optax.incremental_update(params, target_params, tau)
        if interval == 1:
            return moved
        return jax.tree.map(lambda new, old: jnp.where(count % interval == 0, new, old), moved, target_params)

    return target


def bind(config: OffPolicy) -> Agent:
    """The agent whose three functions are those of this module under ``config``."""
    return Agent(init=partial(init, config), act=partial(act, config), update=partial(update, config))


def config_of(agent: Agent) -> OffPolicy:
    """The ``OffPolicy`` that an agent of this family is bound to, for loops made of this module's parts.

    Raises:
      TypeError: an agent of another family.
    """
    config = getattr(agent.update, "args", (None,))[0]
    if not isinstance(config, OffPolicy):
        raise TypeError(f"agent: got {agent!r}, must be one of the off-policy recipes")
    return config
