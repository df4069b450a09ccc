"""What the recipes of action values share: their options, their network, acting, the keys of a loss.

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
"""``(params, observation, noise key or None) -> [B, A]``, the values that actions are chosen by."""


class Shared(NamedTuple):
    """What the options of the family come to. Floats may be tracers; the rest is static.

    Attributes:
      spec: of the environment.
      torso: given, or None.
      double: the online network chooses the action of the target.
      dueling: the head has a value stream and an advantage stream.
      noisy: the head has noisy layers, which explore in the place of epsilon.
      noisy_sigma: their initial scale.
      buffer: the functions of the replay.
      batch_size, num_gradient_steps, learning_starts: see ``shared``.
      optimizer: the clip inside.
      learning_rate: of the optimizer, a number or a schedule of its steps.
      tau, target_interval: of the target network, see ``targets.follow``.
      epsilon: a function of the count of environment steps.
      reward_model: rewards sampled transitions; None for the rewards of the environment.
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
    """The options that all recipes of action values have, and what they come to.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation.
      double: the online network chooses the next action, the target network values it (van Hasselt et al. 2016).
      dueling: a value stream and an advantage stream (Wang et al. 2016).
      noisy: noisy layers in the head explore, instead of epsilon (Fortunato et al. 2018).
      prioritized: sample by priority, short for replay=replay.prioritized (Schaul et al. 2016).
      replay: makes the replay, see ``jaxrl.replay``; None for the uniform one, or the prioritised one.
      replay_capacity: transitions kept, of all environments together.
      n_step: rewards summed before the bootstrap (Watkins 1989).
      batch_size: samples of a gradient step.
      num_gradient_steps: gradient steps for each rollout_length x num_envs environment steps.
      learning_starts: environment steps, taken at random, before the first gradient step.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      anneal_learning_rate: linearly to 0 over num_updates.
      num_updates: the horizon of annealing, in calls of update.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.
      gamma: discount of the future, a step.
      tau: how far the target network moves towards the online one when it moves.
      target_interval: gradient steps between such moves.
      epsilon_start: share of random actions at the start.
      epsilon_end: share of random actions from epsilon_steps on.
      epsilon_steps: environment steps over which epsilon goes linearly from start to end.
      noisy_sigma: (noisy) initial scale of the noise.
      reward_model: gives transitions their rewards when they are sampled, so that old ones get its newest; see
        ``jaxrl.types.RewardModel``.

    Raises:
      TypeError: continuous actions; a torso or an environment with a memory.
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
    """The discrete actions of an environment; one with others is refused.

    Raises:
      TypeError: naming its actions, and the recipes that take them.
    """
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: got actions {spec.action}, this recipe takes discrete ones; see ddpg, td3 and sac")
    return spec.action


def default_torso(spec: Spec) -> nn.Module:
    """``Conv`` for images, else an ``MLP`` with two rectified layers of 64."""
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
      spec: of the environment.
      torso: None for the default one.
      num_outputs: K outputs an action, ``[N, A, K]``; None for one, ``[N, A]``.
      num_cosines: makes the head one of implicit quantiles, ``[N, A, M]`` at M fractions; None for a plain head.
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
    """What the head gives, ``[N, A]`` or ``[N, A, K]``.

    Args:
      network: from ``make_network``.
      params: of the network.
      observation: ``[N, ...]``.
      *head_inputs: what the head takes beside features.
      noise: key of noisy layers; None for their means.
      dropout: key of a torso that drops out, given in gradients alone.
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
    """Epsilon-greedy actions ``[B]``, or greedy by noisy values; uniform ones until learning starts.

    Without ``explore`` the greedy ones by the means of noisy layers.
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
    """Metrics of an update: gradient steps so far, and the learning rate and the epsilon that it began with.

    Args:
      shared: the options of the recipe.
      state: before the update, with ``gradient_steps`` and ``steps``.
      learner: after it.
    """
    metrics: Metrics = {
        "gradient_steps": learner.gradient_steps,
        "learning_rate": optim.rate_at(shared.learning_rate, state.gradient_steps),
    }
    return metrics if shared.noisy else {**metrics, "epsilon": shared.epsilon(state.steps)}


class LossKeys(NamedTuple):
    """The random numbers of a loss. Those of noisy layers are None without such layers.

    Attributes:
      fractions, target_fractions: of implicit quantiles, for the online and the target network.
      target_noise: of the target network at next observations.
      selector_noise: of the network that chooses next actions.
      noise: of the online network at observations.
      dropout: of its torso.
    """

    fractions: Array
    target_fractions: Array
    target_noise: Array | None
    selector_noise: Array | None
    noise: Array | None
    dropout: Array


def loss_keys(key: Array, noisy: bool) -> LossKeys:
    """The keys that one gradient step draws from."""
    fractions, target_fractions, *noises = jax.random.split(key, 5)
    target_noise, selector_noise, noise = noises if noisy else (None, None, None)
    return LossKeys(fractions, target_fractions, target_noise, selector_noise, noise, dropout_key(key))
