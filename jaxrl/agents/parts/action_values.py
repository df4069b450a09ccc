"""Parts of the recipes that learn action values: options, network, acting, the keys of a loss.

Legend of shapes: B environments, N samples, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim, types
from jaxrl.agents.parts import replaying, torsos
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import dropout_key
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.agents.parts.targets import Learner
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, TracedCount, Unit
from jaxrl.networks import inputs
from jaxrl.ops import exploration, td
from jaxrl.replay import MakeReplay, Replay
from jaxrl.signature import Optimizer, Torso
from jaxrl.types import Array, Discrete, Metrics, PyTree, RewardModel, Spec

QFn = Callable[[PyTree, Any, "Array | None"], Array]
"""``(params, observation, noise key or None) -> [B, A]``, the action values of the behaviour policy."""


class Shared(NamedTuple):
    """The options of the recipe, checked, with the parts built from them. Floats may be tracers; the rest is static.

    Attributes:
      spec: the environment's spec.
      torso: as given, or None.
      double: the online network chooses the action of the target.
      dueling: the head has a value stream and an advantage stream.
      noisy: the head has noisy layers, which explore instead of epsilon.
      noisy_sigma: initial scale of their noise.
      buffer: the functions of the replay.
      batch_size, num_gradient_steps, learning_starts: see ``shared``.
      optimizer: with gradient clipping.
      learning_rate: a number, or a schedule of the optimizer's steps.
      tau, target_interval: update of the target network, see ``targets.follow``.
      epsilon: a function of the count of environment steps.
      reward_model: computes the rewards of sampled transitions; None for the environment's rewards.
    """

    spec: Spec
    torso: nn.Module | None
    double: bool
    dueling: bool
    noisy: bool
    noisy_sigma: Any
    buffer: Replay
    batch_size: int
    num_gradient_steps: int
    learning_starts: int
    optimizer: optax.GradientTransformation
    learning_rate: Any
    tau: Any
    target_interval: int
    epsilon: Callable[[Array], Array]
    reward_model: RewardModel | None


def shared(
    spec: Spec,
    *,
    torso: Torso | None = None,
    double: bool = False,
    dueling: bool = False,
    noisy: bool = False,
    prioritized: bool = False,
    replay: MakeReplay | None = None,
    replay_capacity: Count = 100_000,
    n_step: Count = 1,
    batch_size: Count = 128,
    num_gradient_steps: Count = 1,
    learning_starts: CountOrZero = 1_000,
    optimizer: Optimizer = optax.adam,
    learning_rate: NonNegative = 5e-4,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    max_grad_norm: Positive | None = 10.0,
    gamma: Unit = 0.99,
    tau: Unit = 1.0,
    target_interval: Count = 200,
    epsilon_start: Unit = 1.0,
    epsilon_end: Unit = 0.05,
    epsilon_steps: Count = 10_000,
    noisy_sigma: NonNegative = 0.5,
    reward_model: RewardModel | None = None,
) -> Shared:
    """The options that all recipes of action values take, checked and built into a ``Shared``.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      double: the online network chooses the next action, the target network values it (van Hasselt et al. 2016).
      dueling: a value stream and an advantage stream (Wang et al. 2016).
      noisy: noisy layers in the head explore, instead of epsilon (Fortunato et al. 2018).
      prioritized: sample by priority, an abbreviation of replay=replay.prioritized (Schaul et al. 2016).
      replay: function that makes the replay, see ``jaxrl.replay``; None for the uniform or the prioritised one.
      replay_capacity: number of transitions kept, all environments together.
      n_step: rewards summed before the bootstrap (Watkins 1989).
      batch_size: number of samples per gradient step.
      num_gradient_steps: gradient steps per call of update, so per rollout_length x num_envs environment steps.
      learning_starts: environment steps with random actions before the first gradient step.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      num_updates: calls of update until an annealed value reaches 0.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      gamma: discount factor per step.
      tau: step size of the target network towards the online network, 1 copies it.
      target_interval: gradient steps between updates of the target network.
      epsilon_start: fraction of random actions at the start.
      epsilon_end: fraction of random actions from epsilon_steps on.
      epsilon_steps: environment steps over which epsilon changes linearly from epsilon_start to epsilon_end.
      noisy_sigma: (noisy) initial scale of the noise.
      reward_model: computes the rewards of transitions when they are sampled, so that old transitions get
        the rewards of the newest model; see
        ``jaxrl.types.RewardModel``.

    Raises:
      TypeError: the actions are continuous, or the torso or the environment has a memory.
      ValueError: ``replay`` and ``prioritized`` ask for different replays.
    """
    check_discrete(spec)
    check_no_memory(spec, torso)
    rate: Any = learning_rate
    if anneal_learning_rate:
        rate = optim.annealed(learning_rate, None if num_updates is None else num_updates * num_gradient_steps)
    return Shared(
        spec=spec,
        torso=torso,
        double=double,
        dueling=dueling,
        noisy=noisy,
        noisy_sigma=noisy_sigma,
        buffer=replaying.make_buffer(replay, prioritized, replay_capacity, n_step, gamma),
        batch_size=batch_size,
        num_gradient_steps=num_gradient_steps,
        learning_starts=learning_starts,
        optimizer=optim.clipped(optimizer, rate, max_grad_norm),
        learning_rate=rate,
        tau=tau,
        target_interval=target_interval,
        epsilon=lambda steps: exploration.linear_schedule(steps, epsilon_start, epsilon_end, epsilon_steps),
        reward_model=reward_model,
    )


def check_discrete(spec: Spec) -> Discrete:
    """The action space of an environment, which must be discrete.

    Raises:
      TypeError: the actions are continuous; the message names recipes that take them.
    """
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: got actions {spec.action}, this recipe takes discrete ones; see ddpg, td3 and sac")
    return spec.action


def default_torso(spec: Spec) -> nn.Module:
    """``Conv`` for images, else an ``MLP`` with two ReLU layers of 64."""
    return torsos.default_torso(spec, hidden=(64, 64), activation="relu")


def make_network(
    spec: Spec,
    torso: nn.Module | None,
    num_outputs: int | None = None,
    *,
    num_cosines: int | None = None,
    dueling: bool = False,
    noisy: bool = False,
    sigma: Any = 0.5,
) -> networks.QNetwork:
    """A torso and a head of action values.

    Args:
      spec: the environment's spec.
      torso: None for the default one.
      num_outputs: K outputs per action, ``[N, A, K]``; None for one, ``[N, A]``.
      num_cosines: an implicit quantile head with so many cosines, ``[N, A, M]`` at M fractions; None for a plain head.
      dueling, noisy, sigma: see ``networks.ActionValueHead``.
    """
    num_actions = check_discrete(spec).num_actions
    head: nn.Module = networks.ActionValueHead(num_actions, num_outputs, dueling=dueling, noisy=noisy, sigma=sigma)
    if num_cosines is not None:
        head = networks.ImplicitQuantileHead(head, num_cosines)
    torso = default_torso(spec) if torso is None else torso
    return networks.QNetwork(torso, head, inputs.event_rank(spec.observation))


def outputs(
    network: networks.QNetwork,
    params: PyTree,
    observation: Any,
    *head_inputs: Array,
    noise: Array | None = None,
    dropout: Array | None = None,
) -> Array:
    """The outputs of the head, ``[N, A]`` or ``[N, A, K]``.

    Args:
      network: from ``make_network``.
      params: parameters of the network.
      observation: ``[N, ...]``.
      *head_inputs: further inputs of the head.
      noise: key of the noisy layers; None uses the mean weights.
      dropout: key of a torso with dropout, given only where gradients are computed.
    """
    rngs = {name: key for name, key in (("noise", noise), ("dropout", dropout)) if key is not None}
    given: Any = network.apply(params, observation, *head_inputs, rngs=rngs)
    return given


def functions(q_values: Callable[[PyTree, Any], Array]) -> Functions:
    """The greedy actions ``[B]``, their values ``[B]``, and all action values ``[B, A]``; see ``jaxrl.functions``.

    Args:
      q_values: ``(params, observation) -> [B, A]``.
    """

    def policy(state: Any, observation: Any) -> Array:
        return td.masked_argmax(q_values(state.params, observation), types.action_mask(observation))

    def value(state: Any, observation: Any) -> Array:
        return td.masked_max(q_values(state.params, observation), types.action_mask(observation))

    return Functions(policy, value, lambda state, observation: q_values(state.params, observation))


def act(
    shared: Shared, q_values: QFn, key: Array, params: PyTree, steps: Array, observation: Any, explore: bool
) -> Array:
    """Epsilon-greedy actions ``[B]``, or greedy ones under noisy layers; uniform ones until learning starts.

    Without ``explore`` actions are greedy, and noisy layers use their mean weights.
    """
    mask = types.action_mask(observation)
    if not explore:
        return td.masked_argmax(q_values(params, observation, None), mask)
    policy_key, uniform_key = jax.random.split(key)
    if shared.noisy:
        action = td.masked_argmax(q_values(params, observation, policy_key), mask)
    else:
        q = q_values(params, observation, None)
        action = exploration.epsilon_greedy(policy_key, q, shared.epsilon(steps), mask)
    uniform = replaying.uniform_action(uniform_key, shared.spec, observation)
    return jnp.where(steps < shared.learning_starts, uniform, action)


def progress(shared: Shared, state: Any, learner: Learner) -> Metrics:
    """Metrics of an update: gradient steps so far, and learning rate and epsilon at its start.

    Args:
      shared: the options of the recipe.
      state: state before the update, with ``gradient_steps`` and ``steps``.
      learner: learner after the update.
    """
    metrics: Metrics = {
        "gradient_steps": learner.gradient_steps,
        "learning_rate": optim.rate_at(shared.learning_rate, state.gradient_steps),
    }
    return metrics if shared.noisy else {**metrics, "epsilon": shared.epsilon(state.steps)}


class LossKeys(NamedTuple):
    """The keys of a loss. Those of noisy layers are None without such layers.

    Attributes:
      fractions, target_fractions: for implicit quantiles of the online and of the target network.
      target_noise: for noisy layers of the target network, at next observations.
      selector_noise: for noisy layers of the network that chooses next actions.
      noise: for noisy layers of the online network, at observations.
      dropout: for the torso of the online network.
    """

    fractions: Array
    target_fractions: Array
    target_noise: Array | None
    selector_noise: Array | None
    noise: Array | None
    dropout: Array


def loss_keys(key: Array, noisy: bool) -> LossKeys:
    """The keys of one gradient step."""
    fractions, target_fractions, *noises = jax.random.split(key, 5)
    target_noise, selector_noise, noise = noises if noisy else (None, None, None)
    return LossKeys(fractions, target_fractions, target_noise, selector_noise, noise, dropout_key(key))
