"""Parts of DDPG, TD3 and SAC: options, networks, and gradient steps of one group of parameters at a time.

Parameters are grouped by name: ``actor``, ``critics`` (all of them, with a leading axis E), ``temperature``. Each group
has its own optimizer.

Legend of shapes: N samples of a batch, E critics, A discrete actions, D dimensions of a continuous action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim
from jaxrl.agents.parts import replaying, torsos
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import dropout_key, gradient_norm
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.agents.parts.targets import Learner
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, Unit
from jaxrl.networks import inputs
from jaxrl.ops import exploration, td
from jaxrl.ops.value import squared_error_term
from jaxrl.replay import MakeReplay, Replay, Sample
from jaxrl.signature import Optimizer, Torso
from jaxrl.types import Array, Box, Metrics, PyTree, RewardModel, Spec

Optimizers = Mapping[str, optax.GradientTransformation]
Params = dict[str, PyTree]


class Bootstrap(NamedTuple):
    """The recipe's target policy and target critics as functions of any observations ``[N, ...]``.

    With the same key, all three functions draw the same actions.

    Attributes:
      policy: ``(key, observation) -> (action [N, ...], bonus [N])``: the action as the replay stores it, and the
        bonus that is added to the reward for choosing it, ``-alpha log pi(a|s)`` in sac, 0 in ddpg and td3.
      value: ``(key, observation) -> [N]``, ``V(s)``, bonus included.
      values: ``(key, observation) -> [E, N]``, the same by each critic.
    """

    policy: Callable[[Array, Any], tuple[Array, Array]]
    value: Callable[[Array, Any], Array]
    values: Callable[[Array, Any], Array]


TargetFn = Annotated[
    Callable[[Array, Sample, Bootstrap], tuple[Sample, Array]],
    "a function (key, sample, bootstrap) -> (sample [M], targets [M])",
]
"""Computes what the critics are fitted to. The M samples begin with the N given ones; others may follow."""


def one_step(key: Array, sample: Sample, bootstrap: Bootstrap) -> tuple[Sample, Array]:
    """``y = r + gamma V(s')`` for each sample."""
    next_value = bootstrap.value(key, sample.transition.next_observation)
    return sample, td.one_step_target(sample.transition.reward, sample.discount, next_value)


class Shared(NamedTuple):
    """The options of the recipe, checked, with the parts built from them. Floats may be tracers; the rest is static.

    Attributes:
      torso: architecture of the actor's torso and of each critic's.
      optimizers: one for each group of parameters, by name.
      buffer: the functions of the replay.
      batch_size: N, samples of a gradient step.
      num_gradient_steps: gradient steps per call of ``update``.
      learning_starts: environment steps before the first gradient step.
      tau: step size of the target networks towards the online networks.
      learning_rate: learning rate of the critics.
      reward_model: computes the rewards of sampled transitions; None for the environment's rewards.
      target_fn: computes the targets of the critics.
    """

    torso: nn.Module
    optimizers: Optimizers
    buffer: Replay
    batch_size: int
    num_gradient_steps: int
    learning_starts: int
    tau: Any
    learning_rate: Any
    reward_model: RewardModel | None
    target_fn: TargetFn


def shared(
    spec: Spec,
    *,
    torso: Torso | None = None,
    prioritized: bool = False,
    replay: MakeReplay | None = None,
    replay_capacity: Count = 100_000,
    n_step: Count = 1,
    batch_size: Count = 256,
    num_gradient_steps: Count = 1,
    learning_starts: CountOrZero = 1_000,
    optimizer: Optimizer = optax.adam,
    learning_rate: NonNegative = 1e-3,
    actor_learning_rate: NonNegative | None = None,
    max_grad_norm: Positive | None = None,
    gamma: Unit = 0.99,
    tau: Unit = 0.005,
    reward_model: RewardModel | None = None,
    target_fn: TargetFn = one_step,
) -> Shared:
    """The options that DDPG, TD3 and SAC share, checked and built into a ``Shared``.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``, for the actor and each critic; None chooses MLP,
        Conv or NatureCNN by shape.
      prioritized: sample by priority, the critics' mean absolute error; an abbreviation of replay=replay.prioritized
        (Schaul et al. 2016).
      replay: function that makes the replay, see ``jaxrl.replay``; None for the uniform or the prioritised one.
      replay_capacity: number of transitions kept, all environments together.
      n_step: rewards summed before the bootstrap (Watkins 1989).
      batch_size: number of samples per gradient step.
      num_gradient_steps: gradient steps per call of update, so per rollout_length x num_envs environment steps.
      learning_starts: environment steps with random actions before the first gradient step.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizers.
      actor_learning_rate: step size of the actor's optimizer; None for learning_rate.
      max_grad_norm: largest global norm of each group's gradient, which is clipped to it; None for no clipping.
      gamma: discount factor per step.
      tau: step size of the target networks towards the online networks.
      reward_model: computes the rewards of transitions when they are sampled, so that old transitions get
        the rewards of the newest model; see
        ``jaxrl.types.RewardModel``.
      target_fn: ``(key, sample, bootstrap) -> (sample, targets)``, what the critics are fitted to; see
        ``critics.Bootstrap``.

    Raises:
      TypeError: the torso or the environment has a memory.
      ValueError: ``replay`` and ``prioritized`` ask for different replays.
    """
    check_no_memory(spec, torso)
    make = partial(optim.clipped, optimizer, max_grad_norm=max_grad_norm)
    actor_rate = learning_rate if actor_learning_rate is None else actor_learning_rate
    return Shared(
        torso=default_torso(spec) if torso is None else torso,
        optimizers={"actor": make(actor_rate), "critics": make(learning_rate), "temperature": make(learning_rate)},
        buffer=replaying.make_buffer(replay, prioritized, replay_capacity, n_step, gamma),
        batch_size=batch_size,
        num_gradient_steps=num_gradient_steps,
        learning_starts=learning_starts,
        tau=tau,
        learning_rate=learning_rate,
        reward_model=reward_model,
        target_fn=target_fn,
    )


def progress(shared: Shared, learner: Learner) -> Metrics:
    """Metrics: gradient steps so far, and the learning rate of the critics."""
    return {
        "gradient_steps": learner.gradient_steps,
        "learning_rate": optim.rate_at(shared.learning_rate, learner.gradient_steps),
    }


class Networks(NamedTuple):
    """An actor and its critics.

    Attributes:
      actor: the Flax module of the policy.
      ensemble: the Flax module of all critics.
    """

    actor: nn.Module
    ensemble: networks.Ensemble

    def policy(self, params: PyTree, observation: Any, rngs: Any = None) -> Any:
        """Actions ``[N, D]`` in units of the bounds, or a distribution, by the actor's parameters."""
        return self.actor.apply(params, observation, rngs=rngs)

    def q(self, params: PyTree, observation: Any, *action: Array, rngs: Any = None) -> Array:
        """Values ``[E, N]`` of actions ``[N, D]``; of all discrete actions, ``[E, N, A]``. E is that of the params."""
        num_critics = jax.tree.leaves(params)[0].shape[0]
        values: Any = self.ensemble.clone(size=num_critics).apply(params, observation, *action, rngs=rngs)
        return values

    def first_q(self, params: PyTree, observation: Any, action: Array, rngs: Any = None) -> Array:
        """``[N]`` values of actions ``[N, D]`` by the first critic."""
        return self.q(jax.tree.map(lambda x: x[:1], params), observation, action, rngs=rngs)[0]


def default_torso(spec: Spec) -> nn.Module:
    """``Conv`` for images, else an MLP with two layers of 256."""
    return torsos.default_torso(spec, hidden=(256, 256), activation="relu")


def make_networks(
    spec: Spec, torso: nn.Module, make_actor: Callable[[nn.Module, int], nn.Module], num_critics: int
) -> Networks:
    """The networks of a recipe.

    Args:
      spec: the environment's spec.
      torso: of the actor and of each critic, none of them shared.
      make_actor: ``(torso, event_rank) -> Flax module``.
      num_critics: E.
    """
    rank = inputs.event_rank(spec.observation)
    return Networks(make_actor(torso, rank), networks.critic_ensemble(spec.action, torso, rank, num_critics))


def deterministic_networks(spec: Spec, torso: nn.Module, num_critics: int, name: str) -> Networks:
    """A deterministic policy and its critics.

    Raises:
      TypeError: the actions are discrete; the message begins with ``name``, the recipe.
    """
    if not isinstance(spec.action, Box):
        raise TypeError(f"spec: got actions {spec.action}, {name} takes continuous ones; see sac, dqn and ppo")
    size = math.prod(spec.action.shape)
    return make_networks(spec, torso, lambda torso, rank: networks.DeterministicPolicy(torso, size, rank), num_critics)


def deterministic_functions(spec: Spec, nets: Networks) -> Functions:
    """The actions ``mu(s)`` as the environment takes them, and ``Q_1(s, mu(s))``; see ``jaxrl.functions``."""

    def policy(state: Any, observation: Any) -> Array:
        return replaying.to_environment(spec, nets.policy(state.params["actor"], observation))[0]

    def value(state: Any, observation: Any) -> Array:
        action = nets.policy(state.params["actor"], observation)
        return nets.first_q(state.params["critics"], observation, action)

    return Functions(policy, value)


def with_noise(
    key: Array, spec: Spec, shared: Shared, steps: Array, observation: Any, action: Array, noise: Any
) -> Array:
    """``mu(s) + N(0, sigma^2)``, clipped to the bounds; uniform actions until learning starts.

    Args:
      key: consumed.
      spec: of the environment.
      shared: says when learning starts.
      steps: environment steps seen.
      observation: ``[B, ...]``.
      action: ``[B, D]`` mu(s), in units of the bounds.
      noise: sigma, in the same units.
    """
    noise_key, uniform_key = jax.random.split(key)
    noisy = exploration.gaussian(noise_key, action, noise)
    uniform = replaying.uniform_action(uniform_key, spec, observation)
    return jnp.where(steps < shared.learning_starts, uniform, noisy)


def init_params(key: Array, spec: Spec, nets: Networks) -> Params:
    """The initial parameters of the actor and the critics."""
    actor_key, critic_key = jax.random.split(key)
    observation, shape = spec.zeros(1), replaying.example(spec).action.shape
    action = (jnp.zeros((1, *shape), jnp.float32),) if shape else ()
    return {
        "actor": nets.actor.init(actor_key, observation),
        "critics": nets.ensemble.init(critic_key, observation, *action),
    }


def init_learner(params: Params, targets: tuple[str, ...], optimizers: Optimizers) -> Learner:
    """The initial learner: target copies of the groups named in ``targets``, and an optimizer state for each group."""
    return Learner(
        params=params,
        target_params=jax.tree.map(jnp.copy, {name: params[name] for name in targets}),
        optimizer_state={name: optimizers[name].init(params[name]) for name in params},
        gradient_steps=jnp.zeros((), jnp.int32),
    )


def descend(optimizers: Optimizers, learner: Learner, name: str, grads: PyTree) -> Learner:
    """One optimizer step on the group of parameters called ``name``."""
    params, state = learner.params[name], learner.optimizer_state[name]
    grads = jax.tree.map(lambda p, g: g.astype(p.dtype), params, grads)
    updates, state = optimizers[name].update(grads, state, params)
    return learner._replace(
        params={**learner.params, name: optax.apply_updates(params, updates)},
        optimizer_state={**learner.optimizer_state, name: state},
    )


def critic_step(
    key: Array, nets: Networks, shared: Shared, learner: Learner, sample: Sample, bootstrap: Bootstrap
) -> tuple[Learner, Array, Metrics]:
    """One gradient step of all critics on ``sum_e E w (y - Q_e(s, a))^2 / 2``, by default ``y = r + gamma V(s')``.

    Args:
      key: key of the targets and of the dropout.
      nets, shared: of the recipe.
      learner: learner before the step.
      sample: N samples from the replay, with the weights w.
      bootstrap: V, for the targets, which are the same for every critic.

    Returns:
      ``(learner, |y - Q(s, a)| [N], metrics)``, the errors averaged over the critics.
    """
    num_samples = sample.weight.shape[0]
    sample, target = shared.target_fn(key, sample, bootstrap)
    observation, action = sample.transition.observation, sample.transition.action
    rngs = {"dropout": dropout_key(key)}

    def loss_fn(params: PyTree) -> tuple[Array, tuple[Array, Array]]:
        if jnp.issubdtype(action.dtype, jnp.integer):
            values = jax.vmap(td.take_action, in_axes=(0, None))(nets.q(params, observation, rngs=rngs), action)
        else:
            values = nets.q(params, observation, action, rngs=rngs)
        terms = squared_error_term(values, jnp.broadcast_to(target, values.shape)).sum(axis=0)
        return (sample.weight * terms).mean(), (abs(values - target[None]).mean(axis=0), values.mean())

    (loss, (errors, mean)), grads = jax.value_and_grad(loss_fn, has_aux=True)(learner.params["critics"])
    learner = descend(shared.optimizers, learner, "critics", grads)
    metrics = {"loss": loss, "value": mean, "gradient_norm": gradient_norm(grads)}
    return learner._replace(gradient_steps=learner.gradient_steps + 1), errors[:num_samples], metrics
