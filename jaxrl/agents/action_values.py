"""The value family: a head of action values, a target, a regression. Its recipes differ in the ``Criterion``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

from jaxrl import networks, optim, types
from jaxrl import replay as replays
from jaxrl.agents import off_policy
from jaxrl.agents.off_policy import DROPOUT, Learner, Method, OffPolicy, PolicyFn
from jaxrl.agents.torsos import default_torso
from jaxrl.agents.validation import check_arguments
from jaxrl.networks import inputs
from jaxrl.ops import exploration, td
from jaxrl.replay import MakeReplay, Sample
from jaxrl.types import Agent, Array, Discrete, Metrics, PyTree, Spec

Inputs = tuple[Array, ...]


def _nothing(*args: Any) -> Inputs:
    return ()


class Criterion(NamedTuple):
    """What the outputs of a head mean, and how they are regressed.

    Attributes:
      num_outputs: K outputs an action, ``[N, A, K]``; None for one, ``[N, A]``.
      mean: outputs ``[N, A, ...]`` -> values ``[N, A]``.
      terms: ``(chosen [N, ...], next_chosen [N, ...], reward [N], discount [N], *online inputs) -> (loss [N],
        priority [N])``: the outputs of the action taken, and of the best next action by the target network.
      head: wraps the head of action values, or leaves it.
      online_inputs, target_inputs: ``(key, N) ->`` what the head is called with beside features when it is regressed,
        and when it gives targets.
      policy_inputs: the same when it chooses actions.
    """

    num_outputs: int | None
    mean: Callable[[Array], Array]
    terms: Callable[..., tuple[Array, Array]]
    head: Callable[[nn.Module], nn.Module] = lambda head: head
    online_inputs: Callable[[Array, int], Inputs] = _nothing
    target_inputs: Callable[[Array, int], Inputs] = _nothing
    policy_inputs: Callable[[], Inputs] = _nothing


class ActionValues(NamedTuple):
    """The family's parts under one roof; ``values`` and ``loss`` are functions of it.

    Attributes:
      network: a ``QNetwork``.
      criterion: see there.
      double: the online network chooses the next action, the target network values it.
      noisy: the head has noisy layers.
    """

    network: networks.QNetwork
    criterion: Criterion
    double: bool
    noisy: bool


def outputs(
    parts: ActionValues,
    params: PyTree,
    observation: Any,
    head_inputs: Inputs,
    noise_key: Any,
    dropout_key: Array | None = None,
) -> Array:
    """``[N, A, ...]``; noisy layers draw from ``noise_key``, or use their means where it is None.

    ``dropout_key`` is the rng "dropout" of the torso, in gradients alone, as in the on-policy family.
    """
    rngs = {"noise": noise_key} if parts.noisy and noise_key is not None else {}
    rngs |= {} if dropout_key is None else {"dropout": dropout_key}
    given: Any = parts.network.apply(params, observation, *head_inputs, rngs=rngs)
    return given


def best_next(
    parts: ActionValues, params: PyTree, target_params: PyTree, target_outputs: Array, observation: Any, key: Array
) -> Array:
    """The actions ``[N]`` at next observations that targets are made of, legal ones."""
    if parts.double or parts.criterion.policy_inputs():
        chooser = values(parts, params if parts.double else target_params, observation, key)
    else:
        chooser = parts.criterion.mean(target_outputs)
    return td.masked_argmax(chooser, types.action_mask(observation))


def loss(
    parts: ActionValues, params: PyTree, target_params: PyTree, key: Array, sample: Sample
) -> tuple[Array, tuple[Array, Metrics]]:
    """The regression of a batch on the targets of the target network.

    Returns:
      ``(loss, (priorities [N], metrics))``.
    """
    criterion, transition = parts.criterion, sample.transition
    online_key, target_key, *noise_keys = jax.random.split(key, 5)
    num = transition.reward.shape[0]
    head_inputs = criterion.online_inputs(online_key, num)
    target_inputs = criterion.target_inputs(target_key, num)
    next_observation = transition.next_observation
    following = outputs(parts, target_params, next_observation, target_inputs, noise_keys[0])
    held = jax.lax.stop_gradient(params)
    action = best_next(parts, held, target_params, following, next_observation, noise_keys[1])
    online = outputs(
        parts, params, transition.observation, head_inputs, noise_keys[2], jax.random.fold_in(key, DROPOUT)
    )
    chosen = td.take_action(online, transition.action)
    next_chosen = jax.lax.stop_gradient(td.take_action(following, action))
    terms, priorities = criterion.terms(chosen, next_chosen, transition.reward, sample.discount, *head_inputs)
    total = (sample.weight * terms).mean()
    value = td.take_action(criterion.mean(online), transition.action).mean()
    return total, (jax.lax.stop_gradient(priorities), {"loss": total, "value": value})


def values(parts: ActionValues, params: PyTree, observation: Any, noise_key: Any = None) -> Array:
    """``[B, A]`` that actions are chosen by; noisy layers draw from ``noise_key``, or use their means."""
    return parts.criterion.mean(outputs(parts, params, observation, parts.criterion.policy_inputs(), noise_key))


def explore(
    parts: ActionValues, epsilon: Callable[[Array], Array], key: Array, params: PyTree, observation: Any, steps: Array
) -> Array:
    """Epsilon-greedy actions ``[B]``, or the best by noisy values."""
    mask = types.action_mask(observation)
    if parts.noisy:
        return td.masked_argmax(values(parts, params, observation, key), mask)
    return exploration.epsilon_greedy(key, values(parts, params, observation), epsilon(steps), mask)


def exploit(parts: ActionValues, params: PyTree, observation: Any) -> Array:
    """The best actions ``[B]``."""
    return td.masked_argmax(values(parts, params, observation), types.action_mask(observation))


def make_method(
    spec: Spec,
    parts: ActionValues,
    epsilon: Callable[[Array], Array],
    optimizer: optax.GradientTransformation,
    target: Callable[[PyTree, PyTree, Array], PyTree],
) -> Method:
    """The ``off_policy.Method`` of the family."""

    def init(key: Array) -> Learner:
        head_inputs = parts.criterion.online_inputs(key, 1)
        return off_policy.first_learner(parts.network.init(key, spec.zeros(1), *head_inputs), optimizer)

    def learn(key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
        def of_params(params: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            return loss(parts, params, learner.target_params, key, sample)

        grads, (priorities, metrics) = jax.grad(of_params, has_aux=True)(learner.params)
        metrics["gradient_norm"] = off_policy.gradient_norm(grads)
        return off_policy.step(optimizer, learner, grads, target), priorities, metrics

    return Method(init, PolicyFn(partial(explore, parts, epsilon), partial(exploit, parts)), learn)


def parts_of(agent: Agent) -> ActionValues:
    """The parts of an agent of this family: ``values(parts_of(agent), state.params, observation)``.

    Raises:
      TypeError: an agent of another family.
    """
    parts = getattr(off_policy.config_of(agent).method.policy.exploit, "args", (None,))[0]
    if not isinstance(parts, ActionValues):
        raise TypeError(f"agent: got {agent!r}, must be one of the recipes of action values")
    return parts


def action_values(
    spec: Spec,
    *,
    criterion: Criterion,
    name: str,
    torso: nn.Module | None = None,
    double: bool = False,
    dueling: bool = False,
    noisy: bool = False,
    prioritized: bool = False,
    replay: MakeReplay | None = None,
    replay_capacity: int = 100_000,
    n_step: int = 1,
    batch_size: int = 128,
    num_gradient_steps: int = 1,
    learning_starts: int = 1_000,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
    learning_rate: float = 5e-4,
    anneal_learning_rate: bool = False,
    num_updates: int | None = None,
    max_grad_norm: float | None = 10.0,
    gamma: float = 0.99,
    tau: float = 1.0,
    target_interval: int = 200,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.05,
    epsilon_steps: int = 10_000,
    noisy_sigma: float = 0.5,
) -> Agent:
    """An agent that regresses action values on those of a slower copy of itself; what its recipes are made of.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      criterion: what is regressed and how.
      name: of the recipe, for its default torso and its errors.
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

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_arguments(locals())
    if not isinstance(spec.action, Discrete):
        raise TypeError(
            f"spec: {name} chooses among discrete actions, the environment has {spec.action}; see ddpg, td3 and sac"
        )
    rate: Any = learning_rate
    if anneal_learning_rate:
        rate = optim.annealed(learning_rate, num_updates * num_gradient_steps)  # type: ignore[operator]
    torso = default_torso(name, spec.observation) if torso is None else torso
    head = networks.ActionValueHead(
        spec.action.num_actions, criterion.num_outputs, dueling=dueling, noisy=noisy, sigma=noisy_sigma
    )
    network = networks.QNetwork(torso, criterion.head(head), inputs.event_rank(spec.observation))
    parts = ActionValues(network, criterion, double, noisy)
    method = make_method(
        spec,
        parts,
        lambda steps: exploration.linear_schedule(steps, epsilon_start, epsilon_end, epsilon_steps),
        optim.clipped(optimizer, rate, max_grad_norm),
        off_policy.moving_target(tau, target_interval),
    )
    made = make_replay(replay, prioritized)(replay_capacity, n_step=n_step, gamma=gamma)
    return off_policy.bind(OffPolicy(spec, method, made, batch_size, num_gradient_steps, learning_starts))


def make_replay(given: MakeReplay | None, prioritized: bool) -> MakeReplay:
    """The replay that the two arguments ask for.

    Raises:
      ValueError: they ask for different ones.
    """
    if given is not None and prioritized:
        raise ValueError("prioritized: got True together with replay=, which says already what is sampled; give one")
    if given is not None:
        return given
    return replays.prioritized if prioritized else replays.uniform
