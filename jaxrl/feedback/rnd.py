"""RND: random network distillation, an exploration bonus for novel observations. Burda et al. 2018.

Legend of shapes: T steps, B environments, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim, types
from jaxrl.arguments import Count, NonNegative, Positive, Unit
from jaxrl.networks import inputs
from jaxrl.ops import normalize
from jaxrl.signature import Torso, recipe
from jaxrl.types import Array, Metrics, PyTree, RewardModel, Spec, Transition


class RNDState(NamedTuple):
    """The state of the reward model.

    Attributes:
      params: parameters of the predictor.
      target_params: parameters of the random network, which never change.
      optimizer_state: state of the optax optimizer.
      observation_statistics: mean and variance of the features.
      bonus_statistics: mean and variance of the running discounted sum of bonuses, whose standard deviation scales
        them.
      per_env: ``[B]`` this running sum in each environment.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    observation_statistics: normalize.RunningStatistics
    bonus_statistics: normalize.RunningStatistics
    per_env: Array


class _Embedding(nn.Module):
    """A torso and a linear layer: features ``[..., D]`` of observations."""

    torso: nn.Module
    size: int
    event_rank: int

    def setup(self) -> None:
        self.own_torso = self.torso.clone(name=None)
        self.embedding = nn.Dense(self.size)

    def __call__(self, observation: Any) -> Array:
        given = inputs.observation_input(observation, self.event_rank)
        return self.embedding(inputs.torso_features(self.own_torso, given))


@recipe
def rnd(
    spec: Spec,
    *,
    bonus_coef: NonNegative = 1.0,
    reward_coef: NonNegative = 1.0,
    torso: Torso | None = None,
    embedding_size: Count = 64,
    learning_rate: Positive = 1e-4,
    gamma: Unit = 0.99,
) -> RewardModel:
    """Random network distillation: a bonus equal to the error of a network that predicts a random network.

    ``r + c |f(s') - g(s')|^2 / sigma``: g is a fixed random network, and f learns to predict it on visited
    observations, so that its error is large on novel ones. Observations are standardised and clipped to 5 standard
    deviations; sigma is the running standard deviation of the discounted sum of bonuses, which continues over ends of
    episodes. Burda et al. 2018, "Exploration by random network distillation", arXiv:1810.12894. It deviates from the
    paper: the bonus is added to the reward, so that its return ends with the episode, instead of having a separate,
    non-episodic value. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      bonus_coef: c, weight of the bonus.
      reward_coef: weight of the environment's reward; 0 for curiosity alone.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      embedding_size: number of outputs of the random network and of its predictor.
      learning_rate: step size of the predictor.
      gamma: discount factor of the sum of bonuses that scales them.

    Returns:
      A ``RewardModel``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.

    >>> import jaxrl
    >>> from jaxrl.feedback import rnd
    >>> env, params = jaxrl.make("MountainCar-v0")
    >>> spec = jaxrl.spec(env, params)
    >>> curious = jaxrl.with_reward(jaxrl.ppo(spec), rnd(spec, bonus_coef=0.5))
    """
    torso = networks.default_torso(spec.observation) if torso is None else torso
    if networks.is_recurrent(torso):
        raise TypeError(f"torso: got {torso!r}, must be a Flax module without a memory such as MLP()")
    network = _Embedding(torso, embedding_size, inputs.event_rank(spec.observation))
    adam = optim.clipped(optax.adam, learning_rate)
    shape = types.features(spec.observation).shape

    def init(key: Array, num_envs: int = 1) -> RNDState:
        key, target_key = jax.random.split(key)
        params = network.init(key, spec.zeros(1))
        return RNDState(
            params,
            network.init(target_key, spec.zeros(1)),
            adam.init(params),
            normalize.init_statistics(shape),
            normalize.init_statistics(()),
            jnp.zeros((num_envs,), jnp.float32),
        )

    def standardize(statistics: normalize.RunningStatistics, observation: Any) -> Any:
        x = inputs.as_float(types.features(observation))
        x = normalize.standardize(statistics, x, clip=5.0, flags=spec.flags)
        return observation._replace(features=x) if isinstance(observation, types.Observation) else x

    def errors(params: PyTree, state: RNDState, observation: Any) -> Array:
        """``[T, B]`` mean squared errors of the predictor."""
        seen = standardize(state.observation_statistics, observation)
        target: Any = jax.lax.stop_gradient(network.apply(state.target_params, seen))
        guess: Any = network.apply(params, seen)
        return jnp.square(guess - target).mean(axis=-1)

    def bonus(state: RNDState, trajectory: Transition) -> Array:
        return errors(state.params, state, trajectory.next_observation)

    def reward(key: Array, state: RNDState, trajectory: Transition) -> Array:
        del key
        scale = normalize.standard_deviation(state.bonus_statistics)
        return reward_coef * trajectory.reward + bonus_coef * bonus(state, trajectory) / scale

    def update(key: Array, state: RNDState, trajectory: Transition) -> tuple[RNDState, Metrics]:
        del key
        bonuses = bonus(state, trajectory)
        # As in the paper, the sum continues over ends of episodes.
        goes_on, discount = jnp.ones(bonuses.shape, bool), jnp.full_like(bonuses, gamma)
        sums, trace = normalize.discounted_return_trace(state.per_env, bonuses, discount, goes_on)
        loss, grads = jax.value_and_grad(lambda params: errors(params, state, trajectory.next_observation).mean())(
            state.params
        )
        updates, optimizer_state = adam.update(grads, state.optimizer_state, state.params)
        seen = inputs.as_float(types.features(trajectory.next_observation))
        new = RNDState(
            optax.apply_updates(state.params, updates),
            state.target_params,
            optimizer_state,
            normalize.update_statistics(state.observation_statistics, seen),
            normalize.update_statistics(state.bonus_statistics, sums),
            trace,
        )
        return new, {"loss": loss}

    return RewardModel(init, reward, update)
