"""Rewards from a trainer's signals on single decisions: COACH and TAMER.

Legend of shapes: T steps, B environments, C capacity, N samples of a minibatch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import losses, networks, optim, types
from jaxrl.arguments import Count, CountOrZero, Positive, Unit
from jaxrl.feedback.networks import make_network, standardize
from jaxrl.feedback.segments import example, kept
from jaxrl.feedback.trainers import Trainer, TrainerState
from jaxrl.ops import across, normalize, returns
from jaxrl.signature import Torso, recipe
from jaxrl.types import Array, Metrics, PyTree, RewardModel, Spec, Transition


def as_advantage(outputs: networks.Outputs, batch: losses.Batch, settings: losses.Settings) -> tuple[Array, Metrics]:
    """A policy-gradient loss whose advantage is the reward of the step itself: ``-E r log pi(a|s)``, for ``loss=``.

    The update of COACH, where the reward is a trainer's signal. Nothing is learned by the value head.

    Args:
      outputs, batch, settings: see ``jaxrl.losses``; the entropy's coefficient is read.
    """
    log_prob = outputs.policy.log_prob(batch.raw_action)
    entropy = batch.mean(outputs.policy.entropy())
    loss = -batch.mean(log_prob * batch.transition.reward) - settings.entropy_coef * entropy
    return loss, {"entropy": entropy}


class CoachState(NamedTuple):
    """The state of ``coach``: that of the trainer."""

    trainer: TrainerState


def coach(trainer: Trainer, *, delay: int = 0, trace: Any = 0.0) -> RewardModel:
    """A trainer's signals in place of the reward, for an agent that takes them as advantages.

    ``c_t = sum_k trace^k f_{t + delay + k}``, f the signals and 0 in silence, up to the end of the episode, so that the
    sum over t of ``c_t grad log pi(a_t|s_t)`` is that of the signals times their eligibility traces. MacGlashan et al.
    2017, "Interactive learning from policy-dependent human feedback", arXiv:1701.06049. The signals about the last
    ``delay`` steps of a rollout come when its update is over and are lost.

    Args:
      trainer: from ``feedback.trainer``.
      delay: steps by which the agent takes signals to be late.
      trace: decay of the eligibility trace per step, in [0, 1]; may be a tracer.

    >>> import jaxrl
    >>> from jaxrl import feedback
    >>> env, params = jaxrl.make("CartPole-v1")
    >>> right_when_leaning_right = lambda steps: (2 * steps.action - 1) * steps.observation[..., 2]
    >>> trainer = feedback.trainer(right_when_leaning_right, rate=0.2, mistake=0.1)
    >>> agent = jaxrl.a2c(jaxrl.spec(env, params), loss=feedback.as_advantage)
    >>> agent = jaxrl.with_reward(agent, feedback.coach(trainer))
    """

    def init(key: Array, num_envs: int = 1) -> CoachState:
        return CoachState(trainer.init(key, num_envs))

    def reward(key: Array, state: CoachState, trajectory: Transition) -> Array:
        del key
        signals, _ = trainer.signals(state.trainer, trajectory)
        value = _credited(signals.value, delay)
        continue_t = returns.continues(trajectory.terminated, trajectory.truncated)
        decay = jnp.full_like(value, trace)
        return returns.discounted_returns(value, decay, jnp.zeros_like(value), continue_t)

    def update(key: Array, state: CoachState, trajectory: Transition) -> tuple[CoachState, Metrics]:
        del key
        _, new = trainer.signals(state.trainer, trajectory)
        return CoachState(new), {"signals": new.used}

    return RewardModel(init, reward, update)


class TamerState(NamedTuple):
    """The state of ``tamer``.

    Attributes:
      params, optimizer_state: the network of predicted signals.
      statistics: mean and variance of the features.
      trainer: state of the trainer.
      heard: int32, rows of the memory in use.
      observation, action: ``[C, ...]`` decisions that were judged.
      signal: ``[C]`` what was said about them.
    """

    params: PyTree
    optimizer_state: PyTree
    statistics: normalize.RunningStatistics
    trainer: TrainerState
    heard: Array
    observation: Any
    action: Array
    signal: Array


@recipe
def tamer(
    spec: Spec,
    trainer: Trainer,
    *,
    delay: CountOrZero = 0,
    torso: Torso | None = None,
    learning_rate: Positive = 1e-3,
    num_gradient_steps: Count = 10,
    batch_size: Count = 64,
    scale: Unit = 1.0,
) -> RewardModel:
    """A regression of a trainer's signals on observation and action, in place of the reward.

    ``h(s, a)`` minimises ``(h(s_t, a_t) - f_{t + delay})^2`` over the decisions that were judged. Knox and Stone 2009,
    "Interactively shaping agents via human reinforcement: the TAMER framework". The paper acts greedily on h; here an
    agent takes it as the advantage of the step (``loss=feedback.as_advantage``), or any other agent as its reward with
    a discount of 0. A constant delay replaces the paper's distribution over recent steps. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      trainer: from ``feedback.trainer``.
      delay: steps by which the agent takes signals to be late; those about the last steps of a rollout are lost.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation's shape.
      learning_rate: step size of Adam.
      num_gradient_steps: gradient steps of an update.
      batch_size: judged decisions of a gradient step.
      scale: factor of the reward.

    Returns:
      A ``RewardModel``; its metrics are the number of ``signals`` and the ``loss``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    network = make_network(spec, torso)
    adam = optim.clipped(optax.adam, learning_rate)
    remembered, capacity = example(spec), trainer.num_signals

    def init(key: Array, num_envs: int = 1) -> TamerState:
        network_key, trainer_key = jax.random.split(key)
        rows = lambda n, x: jnp.zeros((n, *x.shape), x.dtype)  # noqa: E731
        params = network.init(network_key, spec.zeros(1), rows(1, remembered.action))
        return TamerState(
            params,
            adam.init(params),
            normalize.init_statistics(types.features(spec.observation).shape),
            trainer.init(trainer_key, num_envs),
            jnp.zeros((), jnp.int32),
            jax.tree.map(lambda x: rows(capacity, x), remembered.observation),
            rows(capacity, remembered.action),
            jnp.zeros((capacity,), jnp.float32),
        )

    def predicted(params: PyTree, state: TamerState, observation: Any, action: Array) -> Array:
        return network.apply(params, standardize(spec, state.statistics, observation), action)  # type: ignore[return-value]

    def reward(key: Array, state: TamerState, trajectory: Transition) -> Array:
        del key
        steps = kept(trajectory)
        guess = scale * predicted(state.params, state, steps.observation, steps.action)
        return jnp.where(state.heard > 0, guess, 0.0)

    def written(state: TamerState, trajectory: Transition) -> TamerState:
        """The state with the decisions that this trajectory's signals are about."""
        signals, new = trainer.signals(state.trainer, trajectory)
        value, steps = _credited(signals.value, delay), kept(trajectory)
        flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])  # noqa: E731
        given = (steps.observation, steps.action, value)
        of_step, action, value = across.gather(jax.tree.map(flat, given))
        place = state.heard + jnp.cumsum(value != 0.0, dtype=jnp.int32) - 1
        place = jnp.where(value != 0.0, place, capacity)
        write = lambda old, new: old.at[place].set(new.astype(old.dtype), mode="drop")  # noqa: E731
        return state._replace(
            trainer=new,
            heard=state.heard + (value != 0.0).sum(dtype=jnp.int32),
            observation=jax.tree.map(write, state.observation, of_step),
            action=write(state.action, action),
            signal=write(state.signal, value),
        )

    def update(key: Array, state: TamerState, trajectory: Transition) -> tuple[TamerState, Metrics]:
        if trajectory.reward.size:  # an update without steps has no features
            seen = networks.as_float(types.features(trajectory.observation))
            state = written(state._replace(statistics=normalize.update_statistics(state.statistics, seen)), trajectory)
        known = (state.heard > 0).astype(jnp.float32)

        def objective(params: PyTree, rows: Array) -> Array:
            observation, action, signal = jax.tree.map(
                lambda leaf: leaf[rows], (state.observation, state.action, state.signal)
            )
            return known * jnp.square(predicted(params, state, observation, action) - signal).mean()

        def step(learned: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], Array]:
            params, optimizer_state = learned
            rows = jax.random.randint(key, (batch_size,), 0, jnp.maximum(state.heard, 1))
            loss, grads = jax.value_and_grad(objective)(params, rows)
            updates, optimizer_state = adam.update(grads, optimizer_state, params)
            return (optax.apply_updates(params, updates), optimizer_state), loss

        keys = jax.random.split(key, num_gradient_steps)
        (params, optimizer_state), loss = jax.lax.scan(step, (state.params, state.optimizer_state), keys)
        state = state._replace(params=params, optimizer_state=optimizer_state)
        return state, {"signals": state.trainer.used, "loss": loss.mean()}

    return RewardModel(init, reward, update)


def _credited(value: Array, delay: int) -> Array:
    """Signals ``[T, B]`` at the steps that they are about; 0 where they are still to come."""
    return jnp.concatenate([value[delay:], jnp.zeros_like(value[:delay])])
