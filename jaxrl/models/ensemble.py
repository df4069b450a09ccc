"""An ensemble of probabilistic networks as a model of the dynamics. Chua et al. 2018, arXiv:1805.12114.

Legend of shapes: E members, B states, D features of an observation, O outputs, N rows of data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.arguments import Count, NonNegative
from jaxrl.models.fit import Fitted
from jaxrl.models.fit import fit as fit_one
from jaxrl.models.probabilistic_mlp import ProbabilisticMLP, Raw
from jaxrl.models.scaling import Scale, identity, scale_of
from jaxrl.networks import as_float
from jaxrl.networks.actions import action_input, action_size
from jaxrl.signature import recipe
from jaxrl.types import Array, Model, PyTree, Simulated, Spec, Transition

RewardOf = Callable[[Array, Array, Array], Array]
"""``(observation [D], action, next_observation [D]) -> scalar``, known for the task."""

PROPAGATIONS = ("ts_infinity", "ts_1")


class EnsembleParams(NamedTuple):
    """The parameters of an ensemble.

    Attributes:
      networks: parameters of the members, leaves ``[E, ...]``.
      inputs: mean and scale of features and action.
      outputs: mean and scale of the change of the features, and of the reward.
      elites: ``[K]`` int32, the members with the lowest held-out loss.
    """

    networks: PyTree
    inputs: Scale
    outputs: Scale
    elites: Array


class EnsembleState(NamedTuple):
    """A state of the model.

    Attributes:
      observation: ``[D]`` float32.
      member: int32, the member that predicts; in "ts_1" the member that predicted last.
    """

    observation: Array
    member: Array


class Prediction(NamedTuple):
    """Predictions of the next step by all members, leaves ``[E, B, ...]``.

    Attributes:
      observation: ``[E, B, D]`` the mean of the next observation.
      observation_variance: ``[E, B, D]`` the predicted variance of its noise.
      reward: ``[E, B]`` the mean of the reward.
      reward_variance: ``[E, B]``; 0 where the reward is known.
      termination_logit: ``[E, B]``, positive where the task terminates; infinite where the termination is known.
    """

    observation: Array
    observation_variance: Array
    reward: Array
    reward_variance: Array
    termination_logit: Array


class Ensemble(NamedTuple):
    """An ensemble, as functions.

    Attributes:
      init: ``key -> params``.
      predict: ``(params, observation [B, D], action [B]) -> Prediction`` of all members.
      fit: ``(key, params, data, *, size=None, bootstrap=True, **options of models.fit) -> (params, Fitted)``. ``data``
        is a ``Transition`` with leaves ``[N, ...]``; Fitted has leaves ``[E, ...]``.
      loss: ``(params, data [B]) -> [E, B]``, negative log-likelihoods in the units of the environment.
      start: ``(key, params, observation [B, D]) -> EnsembleState [B]``, with members sampled from the elites.
      model: ``(propagation="ts_infinity", noise=True) -> types.Model``.
    """

    init: Callable[..., EnsembleParams]
    predict: Callable[..., Prediction]
    fit: Callable[..., tuple[EnsembleParams, Fitted]]
    loss: Callable[..., Array]
    start: Callable[..., EnsembleState]
    model: Callable[..., Model]


@recipe
def ensemble(
    spec: Spec,
    *,
    num_members: Count = 5,
    num_elites: Count | None = None,
    hidden: Sequence[Count] = (200, 200),
    activation: Literal["tanh", "relu", "gelu", "silu", "elu"] = "silu",
    reward: RewardOf | None = None,
    termination: RewardOf | Literal["learned"] | None = None,
    bound_coef: NonNegative = 0.01,
    weight_decay: NonNegative = 1e-5,
) -> Ensemble:
    """An ensemble whose members predict the change of the observation, its noise and the reward.

    ``s' ~ N(s + mu_e(s, a), sigma_e(s, a)^2)``, where each member e is fitted to a bootstrap sample of the data. Chua
    et al. 2018, "Deep reinforcement learning in a handful of trials using probabilistic dynamics models",
    arXiv:1805.12114. Inputs and outputs are standardised by the data; a column with equal numbers is only centred.
    Floats may be tracers.

    Args:
      spec: the environment's spec; its features are vectors.
      num_members: E.
      num_elites: number of members with the lowest held-out loss that ``start`` and the model sample from; None for
        all.
      hidden: the width of each layer.
      activation: one of tanh, relu, gelu, silu, elu.
      reward: known reward ``(observation, action, next_observation) -> scalar``; None to learn it.
      termination: known termination of the same arguments, a bool; "learned" to learn it (the task terminates where its
        logit is positive); None for a task that never terminates.
      bound_coef: weight of the distance between the bounds of the log-variance in the training loss.
      weight_decay: weight of the sum of squares of the weights in the training loss.

    Returns:
      An ``Ensemble``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.

    >>> import jaxrl
    >>> from jaxrl import models
    >>> env, params = jaxrl.make("Pendulum-v1")
    >>> dynamics = models.ensemble(jaxrl.spec(env, params), num_members=3)
    >>> params = dynamics.init(jax.random.key(0))
    >>> dynamics.predict(params, jnp.zeros((8, 3)), jnp.zeros((8, 1))).observation.shape
    (3, 8, 3)
    """
    size = _feature_size(spec)
    num_elites = num_members if num_elites is None else num_elites
    if num_elites > num_members:
        raise ValueError(f"num_elites: got {num_elites}, must be at most num_members={num_members}")
    learns_end = termination == "learned"
    num_outputs = size + (reward is None)
    network = ProbabilisticMLP(num_outputs, tuple(hidden), activation)
    num_inputs = size + action_size(spec.action)

    def init(key: Array) -> EnsembleParams:
        x = jnp.zeros((1, num_inputs), jnp.float32)
        networks = jax.vmap(lambda key: network.init(key, x))(jax.random.split(key, num_members))
        scales = identity(num_inputs), identity(num_outputs)
        return EnsembleParams(networks, *scales, jnp.arange(num_elites, dtype=jnp.int32))

    def inputs(observation: Any, action: Array) -> Array:
        """Features and actions ``[B, ...]`` as one vector per row."""
        return jnp.concatenate([_vector(observation), action_input(spec.action, action)], axis=-1)

    def outputs(data: Transition) -> Array:
        """The targets of each row."""
        change = _vector(data.next_observation) - _vector(data.observation)
        rewards = () if reward is not None else (data.reward.astype(jnp.float32)[..., None],)
        return jnp.concatenate([change, *rewards], axis=-1)

    def raw(params: EnsembleParams, observation: Any, action: Array) -> Raw:
        """Outputs of all members, ``[E, B, ...]``."""
        x = params.inputs.standardize(inputs(observation, action))
        return jax.vmap(network.apply, (0, None))(params.networks, x)  # type: ignore[return-value]

    def predict(params: EnsembleParams, observation: Any, action: Array) -> Prediction:
        given = raw(params, observation, action)
        mean = params.outputs.restore(given.mean)
        variance = given.variance * jnp.square(params.outputs.trailing(params.outputs.scale, given.mean))
        before = jnp.broadcast_to(_vector(observation)[None], (*mean.shape[:-1], size))
        after = before + mean[..., :size]
        if reward is None:
            rewards, reward_variance = mean[..., size], variance[..., size]
        else:
            rewards = _known(reward, before, action, after).astype(jnp.float32)
            reward_variance = jnp.zeros_like(rewards)
        if callable(termination):
            ends = _known(termination, before, action, after)
            logit = jnp.where(ends, jnp.inf, -jnp.inf).astype(jnp.float32)
        elif learns_end:
            logit = given.logit
        else:
            logit = jnp.full(rewards.shape, -jnp.inf, jnp.float32)
        return Prediction(after, variance[..., :size], rewards, reward_variance, logit)

    def negative_log_likelihood(given: Raw, y: Array, terminated: Array, log_scale: Array) -> Array:
        """``sum_o (y - mu)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2``, and the cross-entropy of the termination."""
        errors = jnp.square(y - given.mean) / given.variance
        gaussian = 0.5 * (errors + jnp.log(given.variance) + math.log(2.0 * math.pi)).sum(-1) + log_scale
        if not learns_end:
            return gaussian
        return gaussian + jax.nn.softplus(given.logit) - given.logit * terminated

    def loss(params: EnsembleParams, data: Transition) -> Array:
        given = raw(params, data.observation, data.action)
        y, log_scale = params.outputs.standardize(outputs(data)), jnp.log(params.outputs.scale).sum()
        return negative_log_likelihood(given, y[None], data.terminated.astype(jnp.float32)[None], log_scale)

    def penalty(variables: PyTree) -> Array:
        inner = variables["params"]
        kernels = [leaf for leaf in jax.tree.leaves(inner) if leaf.ndim == 2]
        spread = (inner["max_log_variance"] - inner["min_log_variance"]).sum()
        return bound_coef * spread + weight_decay * sum(jnp.square(kernel).sum() for kernel in kernels)

    def fit(
        key: Array,
        params: EnsembleParams,
        data: Transition,
        *,
        size: Any = None,
        bootstrap: bool = True,
        **options: Any,
    ) -> tuple[EnsembleParams, Fitted]:
        x, y = inputs(data.observation, data.action), outputs(data)
        num_rows = x.shape[0]
        valid = jnp.arange(num_rows) < (num_rows if size is None else size)
        in_scale, out_scale = scale_of(x, valid), scale_of(y, valid)
        rows = (in_scale.standardize(x), out_scale.standardize(y), data.terminated.astype(jnp.float32))
        log_scale = jnp.log(out_scale.scale).sum()
        key, weight_key = jax.random.split(key)
        # Poisson(1) weights of rows approximate a bootstrap sample for any number of rows.
        weights = jax.random.poisson(weight_key, 1.0, (num_members, num_rows), dtype=jnp.int32).astype(jnp.float32)

        def of_rows(variables: PyTree, key: Array, batch: tuple[Array, Array, Array]) -> Array:
            del key
            return negative_log_likelihood(network.apply(variables, batch[0]), *batch[1:], log_scale)  # type: ignore

        def of_member(key: Array, variables: PyTree, weight: Array) -> Fitted:
            counts = weight if bootstrap else None
            return fit_one(key, variables, rows, of_rows, size=size, weight=counts, penalty=penalty, **options)

        fitted = jax.vmap(of_member)(jax.random.split(key, num_members), params.networks, weights)
        elites = jnp.argsort(fitted.best)[:num_elites].astype(jnp.int32)
        return EnsembleParams(fitted.params, in_scale, out_scale, elites), fitted

    def start(key: Array, params: EnsembleParams, observation: Any) -> EnsembleState:
        x = _vector(observation)
        return EnsembleState(x, jax.random.choice(key, params.elites, x.shape[:-1]))

    def step(
        params: EnsembleParams,
        key: Array,
        state: EnsembleState,
        action: Array,
        *,
        propagation: str,
        noise: bool,
    ) -> Simulated:
        member = state.member
        if propagation == "ts_1":
            key, member_key = jax.random.split(key)
            member = jax.random.choice(member_key, params.elites)
        # Evaluates all members and selects one: under vmap a matrix product, whereas a gather would copy weights per
        # state. The only member needs no gather, which would cost more than its network.
        found = predict(params, state.observation[None], action[None])
        one = jax.tree.map(lambda leaf: leaf[0 if leaf.shape[0] == 1 else member, 0], found)
        after, rewards = one.observation, one.reward
        if noise:
            drawn = jax.random.normal(key, (size + 1,), after.dtype)  # one draw: in plans its cost is that of a layer
            after = after + jnp.sqrt(one.observation_variance) * drawn[:size]
            rewards = rewards + jnp.sqrt(one.reward_variance) * drawn[size]
        if reward is not None:
            rewards = jnp.asarray(reward(state.observation, action, after), jnp.float32)
        ends = one.termination_logit > 0.0
        if callable(termination):
            ends = jnp.asarray(termination(state.observation, action, after), bool)
        discount = jnp.where(ends, 0.0, 1.0).astype(jnp.float32)
        return Simulated(EnsembleState(after, member), after, rewards, discount, jnp.zeros((), bool))

    def model(propagation: str = "ts_infinity", noise: bool = True) -> Model:
        if propagation not in PROPAGATIONS:
            raise ValueError(f"propagation: got {propagation!r}, allowed are {' and '.join(PROPAGATIONS)}")
        return Model(init, partial(step, propagation=propagation, noise=noise))

    return Ensemble(init, predict, fit, loss, start, model)


def only(params: EnsembleParams, member: Any) -> EnsembleParams:
    """One member as an ensemble of size one: ``vmap`` over members costs less than all members for every state.

    Args:
      params: parameters of the ensemble.
      member: index, int or traced.
    """
    networks = jax.tree.map(lambda leaf: leaf[member][None], params.networks)
    return params._replace(networks=networks, elites=jnp.zeros((1,), jnp.int32))


def _vector(observation: Any) -> Array:
    return as_float(types.features(observation))


def _known(function: RewardOf, before: Array, action: Array, after: Array) -> Array:
    """A known reward or termination, evaluated on the predictions of all members, ``[E, B]``."""
    over_states = jax.vmap(function, (0, 0, 0))
    return jax.vmap(over_states, (0, None, 0))(before, action, after)


def _feature_size(spec: Spec) -> int:
    shape = types.features(spec.observation).shape
    if len(shape) != 1:
        raise ValueError(
            f"spec: got observations of shape {list(shape)}, must be vectors; flatten them with "
            "envs.wrappers.flatten_observation"
        )
    return shape[0]
