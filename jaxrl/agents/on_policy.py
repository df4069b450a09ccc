"""The on-policy skeleton: from a rollout to advantages to gradient steps. Recipes bind its parts.

The parts (``estimate``, ``gradients``, ``apply_gradients``) are importable; a loop of your own is made of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl import losses, networks, types
from jaxrl.agents import recurrent
from jaxrl.agents.minibatches import shuffled_minibatches
from jaxrl.networks import inputs
from jaxrl.ops import across, normalize, returns
from jaxrl.ops.policy_gradient import approximate_kl, normalize_advantage
from jaxrl.ops.value import explained_variance
from jaxrl.types import Agent, Array, Metrics, PyTree, Remembered, Spec, Transition


class OnPolicyState(NamedTuple):
    """The state of an on-policy agent.

    Attributes:
      params: of the network.
      optimizer_state: optax's.
      observation_statistics: what ``act`` standardises observations with; () where it does not.
      reward_statistics: of the running discounted return, whose deviation scales rewards; () where unused.
      updates: int32, calls of ``update`` so far.
      per_env: ``[B]`` the running discounted return of each environment; () where unused.
    """

    params: PyTree
    optimizer_state: PyTree
    observation_statistics: Any
    reward_statistics: Any
    updates: Array
    per_env: Any


class Extras(NamedTuple):
    """What ``update`` needs from the moment of acting.

    Attributes:
      log_prob: ``[B]`` of the raw action.
      raw_action: ``[B, D]`` before clip or tanh; None where the action is its own raw self (discrete).
    """

    log_prob: Array
    raw_action: Array | None


class Estimate(NamedTuple):
    """What the estimator makes of a trajectory.

    Attributes:
      advantage: ``[T, B]``.
      target: ``[T, B]`` what values are regressed on.
      value: ``[T, B]`` the values used.
      weight: ``[T, B]`` 0 for steps that can't be learned from, else 1; None where all can.
    """

    advantage: Array
    target: Array
    value: Array
    weight: Array | None = None


EstimatorFn = Callable[[Transition, Array, Array], Estimate]

StepRule = Callable[["OnPolicy", Array, OnPolicyState, losses.Batch], tuple[PyTree, PyTree, Metrics]]
"""From all samples of a rollout to ``(params, optimizer_state, metrics)``."""


@dataclasses.dataclass(frozen=True)
class OnPolicy:
    """What the recipes differ in. Floats may be tracers; the rest is static.

    Attributes:
      spec: the environment's.
      network: an ``ActorCritic``, or one that remembers.
      optimizer: applied to the gradient of the loss, the global-norm clip inside.
      loss: see ``jaxrl.losses``.
      estimator: ``(transition, v_tm1, v_t) -> Estimate``, all ``[T, B]``.
      settings: a function of the count of updates, to anneal.
      gamma: of the reward scaling; the estimator has its own.
      step_rule: how parameters move on a rollout; None for epochs of the optimizer's steps on minibatches.
    """

    spec: Spec
    network: networks.ActorCritic
    optimizer: optax.GradientTransformation
    loss: losses.LossFn
    estimator: EstimatorFn
    settings: Callable[[Array], losses.Settings]
    gamma: Any
    num_epochs: int = 1
    num_minibatches: int = 1
    normalize_advantage: bool = False
    normalize_observation: bool = False
    normalize_reward: bool = False
    target_kl: Any = None
    squash: bool = False
    step_rule: StepRule | None = None


def init(config: OnPolicy, key: Array, num_envs: int = 1) -> OnPolicyState:
    """A fresh state; see ``types.InitFn``."""
    params = config.network.init(key, config.spec.zeros(1))
    shape = types.features(config.spec.observation).shape
    return OnPolicyState(
        params=params,
        optimizer_state=config.optimizer.init(params),
        observation_statistics=normalize.init_statistics(shape) if config.normalize_observation else (),
        reward_statistics=normalize.init_statistics(()) if config.normalize_reward else (),
        updates=jnp.zeros((), jnp.int32),
        per_env=jnp.zeros((num_envs,)) if config.normalize_reward else (),
    )


def standardize(config: OnPolicy, state: OnPolicyState, observation: Any) -> Any:
    """The observation as the network takes it: standardised features, flags aside, where the recipe asks for it."""
    if not config.normalize_observation:
        return observation
    x = inputs.as_float(types.features(observation))
    x = normalize.standardize(state.observation_statistics, x, flags=config.spec.flags)
    return observation._replace(features=x) if isinstance(observation, types.Observation) else x


def act(
    config: OnPolicy, key: Array, state: OnPolicyState, observation: Any, *, explore: bool = True
) -> tuple[Any, Extras]:
    """Samples the policy, or takes its mode where ``explore`` is False; see ``types.ActFn``."""
    seen = standardize(config, state, observation)
    policy: Any
    memory: Any = None
    if isinstance(config.network, networks.RecurrentActorCritic):
        policy, memory = config.network.apply(state.params, seen, method="remember")
    else:
        policy = config.network.apply(state.params, seen, method="act")
    raw = policy.sample(seed=key) if explore else policy.mode()
    action = networks.environment_action(config.spec.action, raw, config.squash)
    extras = Extras(policy.log_prob(raw), None if isinstance(config.spec.action, types.Discrete) else raw)
    return (action if memory is None else Remembered(action, memory)), extras


def as_seen(config: OnPolicy, state: OnPolicyState, trajectory: Transition) -> Transition:
    """The trajectory with observations as the network took them; what ``estimate`` and ``make_batch`` expect."""
    return trajectory._replace(
        observation=standardize(config, state, trajectory.observation),
        next_observation=standardize(config, state, trajectory.next_observation),
    )


def scale_rewards(config: OnPolicy, state: OnPolicyState, trajectory: Transition) -> tuple[Array, Any, Any]:
    """Rewards over the deviation of the running discounted return, as OpenAI baselines' VecNormalize does.

    The statistics take the trajectory in before they scale it (unlike the observation's, ``act`` never reads them, so
    no ratio depends on them), which keeps the first update from seeing rewards of any size.

    Returns:
      ``(rewards [T, B], reward_statistics, per_env)``.
    """
    if not config.normalize_reward:
        return trajectory.reward, state.reward_statistics, state.per_env
    continue_t = returns.continues(trajectory.terminated, trajectory.truncated)
    discount_t = jnp.full_like(trajectory.reward, config.gamma)
    traces, last = normalize.discounted_return_trace(state.per_env, trajectory.reward, discount_t, continue_t)
    statistics = normalize.update_statistics(state.reward_statistics, traces)
    # Only scaled, never shifted: a shift would change which policy is best.
    scaled = trajectory.reward / (normalize.standard_deviation(statistics) + 1e-8)
    return jnp.clip(scaled, -10.0, 10.0), statistics, last


def estimate(config: OnPolicy, params: PyTree, trajectory: Transition) -> Estimate:
    """Values of a trajectory in two large batches, and from them advantages and targets, ``[T, B]`` each."""
    shape = trajectory.reward.shape
    if not config.network.critic:
        return config.estimator(trajectory, jnp.zeros(shape), jnp.zeros(shape))
    if isinstance(config.network, networks.RecurrentActorCritic):
        return config.estimator(trajectory, *recurrent.evaluate(config.network, params, trajectory))
    value: Callable[[Any], Any] = partial(config.network.apply, params, method="evaluate")
    v_tm1 = value(trajectory.observation).reshape(shape)
    v_t = value(trajectory.next_observation).reshape(shape)
    return config.estimator(trajectory, v_tm1, v_t)


def make_batch(trajectory: Transition, estimated: Estimate) -> losses.Batch:
    """All samples of a trajectory as one batch, ``[T, B, ...]`` laid out as ``[N, ...]``.

    Where the agent remembers, as one batch of sequences ``[B, T, ...]``; ``gradients`` takes either.
    """
    extras = trajectory.extras
    raw = trajectory.action if extras.raw_action is None else extras.raw_action
    batch = losses.Batch(trajectory, raw, extras.log_prob, *estimated)
    if types.memory(trajectory.observation) is not None:
        return recurrent.as_sequences(batch)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


DROPOUT = 0xD80
"""Folded into the key of an epoch, for torsos that draw random numbers."""


def gradients(
    config: OnPolicy, params: PyTree, batch: losses.Batch, settings: losses.Settings, key: Array | None = None
) -> tuple[PyTree, Metrics]:
    """The gradient of the loss on one minibatch, and the metrics of the loss.

    ``key`` is the rng "dropout" of the network. Nothing else gives it one, so a torso that drops out here, by
    ``nn.Dropout(rate, deterministic=not self.has_rng("dropout"))``, acts and values without.
    """
    rngs = {} if key is None else {"dropout": key}
    seen, batch = recurrent.split(batch)
    if config.normalize_advantage:
        batch = batch._replace(advantage=normalize_advantage(batch.advantage, batch.weight))

    def loss_fn(params: PyTree) -> tuple[Array, Metrics]:
        outputs: Any = config.network.apply(params, seen, rngs=rngs)
        return losses.checked(config.loss, outputs, batch, settings)

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    # Of one flat vector, as the clip takes it: the compiler then computes it once.
    norm = optax.tree.norm(ravel_pytree(grads)[0])
    return grads, {"loss": loss, **metrics, "gradient_norm": norm}


def apply_gradients(config: OnPolicy, params: PyTree, optimizer_state: PyTree, grads: PyTree) -> tuple[PyTree, PyTree]:
    """One step of the optimizer: ``(params, optimizer_state)``."""
    updates, optimizer_state = config.optimizer.update(grads, optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state


def policy_shift(config: OnPolicy, params: PyTree, batch: losses.Batch) -> Array:
    """``KL(pi_old || pi)`` estimated on the whole batch: how far the policy has moved, in nats."""
    seen, batch = recurrent.split(batch)
    policy: Any = config.network.apply(params, seen, method="act")
    return across.mean(batch.mean(approximate_kl(policy.log_prob(batch.raw_action) - batch.log_prob)))


def _optimize(
    config: OnPolicy, key: Array, state: OnPolicyState, batch: losses.Batch
) -> tuple[PyTree, PyTree, Metrics]:
    """Epochs over shuffled minibatches; with ``target_kl``, none follows the one that moved the policy beyond it."""
    settings = config.settings(state.updates)

    def step(carry: Any, given: tuple[losses.Batch, Array]) -> tuple[Any, Metrics]:
        params, optimizer_state, stopped = carry
        grads, metrics = gradients(config, params, given[0], settings, given[1])
        stepped = apply_gradients(config, params, optimizer_state, grads)
        if config.target_kl is not None:
            stepped = jax.tree.map(lambda new, old: jnp.where(stopped, old, new), stepped, (params, optimizer_state))
        return (*stepped, stopped), metrics

    def epoch(carry: Any, epoch_key: Array) -> tuple[Any, tuple[Metrics, Array]]:
        ran = ~carry[2]
        minibatches = shuffled_minibatches(epoch_key, batch, config.num_minibatches)
        keys = jax.random.split(jax.random.fold_in(epoch_key, DROPOUT), config.num_minibatches)
        (params, optimizer_state, stopped), metrics = jax.lax.scan(step, carry, (minibatches, keys))
        if config.target_kl is not None:
            stopped = stopped | (policy_shift(config, params, batch) > config.target_kl)
        return (params, optimizer_state, stopped), (metrics, ran)

    carry = (state.params, state.optimizer_state, jnp.zeros((), bool))
    carry, (metrics, ran) = jax.lax.scan(epoch, carry, jax.random.split(key, config.num_epochs))
    if config.target_kl is None:
        return carry[0], carry[1], jax.tree.map(jnp.mean, metrics)
    over_epochs = lambda x: jnp.where(ran, x.mean(axis=1), 0.0).sum() / ran.sum()  # noqa: E731
    return carry[0], carry[1], {**jax.tree.map(over_epochs, metrics), "epochs": ran.sum()}


def update(config: OnPolicy, key: Array, state: OnPolicyState, trajectory: Transition) -> tuple[OnPolicyState, Metrics]:
    """Learns from one rollout; see ``types.UpdateFn``."""
    recurrent.check_division(config.num_minibatches, trajectory)
    reward, reward_statistics, per_env = scale_rewards(config, state, trajectory)
    seen = as_seen(config, state, trajectory)._replace(reward=reward)
    estimated = estimate(config, state.params, seen)
    step_rule = _optimize if config.step_rule is None else config.step_rule
    params, optimizer_state, metrics = step_rule(config, key, state, make_batch(seen, estimated))
    observation_statistics = state.observation_statistics
    if config.normalize_observation:  # last, so that the losses saw the statistics that acted
        observation_statistics = normalize.update_statistics(
            observation_statistics, inputs.as_float(types.features(trajectory.observation))
        )
    if config.network.critic:
        metrics["explained_variance"] = explained_variance(estimated.value, estimated.target)
    new_state = OnPolicyState(
        params, optimizer_state, observation_statistics, reward_statistics, state.updates + 1, per_env
    )
    return new_state, metrics


def bind(config: OnPolicy) -> Agent:
    """The agent whose three functions are those of this module under ``config``."""
    return Agent(init=partial(init, config), act=partial(act, config), update=partial(update, config))


def make_network(
    spec: Spec,
    torso: nn.Module | None,
    share_torso: bool,
    heads: Mapping[str, nn.Module] | None,
    critic: bool = True,
    **gaussian_options: Any,
) -> networks.ActorCritic:
    """The actor-critic of a recipe: its torso (or the default one for the observation) and heads from the spec."""
    torso = networks.default_torso(spec.observation) if torso is None else torso
    recurrent.check_memory(spec, torso, share_torso, critic)
    kind = networks.RecurrentActorCritic if networks.is_recurrent(torso) else networks.ActorCritic
    return kind(
        torso=torso,
        policy=networks.policy_head(spec.action, **gaussian_options),
        share_torso=share_torso,
        critic=critic,
        event_rank=inputs.event_rank(spec.observation),
        heads={} if heads is None else dict(heads),
    )


def config_of(agent: Agent) -> OnPolicy:
    """The ``OnPolicy`` that an agent of this family is bound to, for loops made of this module's parts.

    Raises:
      TypeError: an agent of another family.
    """
    config = getattr(agent.update, "args", (None,))[0]
    if not isinstance(config, OnPolicy):
        raise TypeError(f"agent: got {agent!r}, must be one of the on-policy recipes")
    return config
