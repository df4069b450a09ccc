"""The network of the on-policy recipes: acting, values of a trajectory, and batches for a loss.

Recurrent torsos (``parts.recurrent``) take sequences instead of single samples; these functions support both.
Legend of shapes: T steps, B environments, N samples, D action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import losses, networks, types
from jaxrl.agents.parts import normalizer, recurrent
from jaxrl.agents.parts.functions import Functions
from jaxrl.networks import inputs
from jaxrl.ops import across
from jaxrl.ops import policy_gradient as pg
from jaxrl.types import Array, PyTree, Remembered, Spec, Transition


class Extras(NamedTuple):
    """Quantities computed by ``act`` that ``update`` needs.

    Attributes:
      log_prob: ``[B]`` log-probability of the raw action.
      raw_action: ``[B, D]`` before the clip or the tanh; None where the action is discrete.
    """

    log_prob: Array
    raw_action: Array | None


def make_network(
    spec: Spec,
    torso: nn.Module | None = None,
    share_torso: bool = False,
    heads: Mapping[str, nn.Module] | None = None,
    critic: bool = True,
    **gaussian_options: Any,
) -> networks.ActorCritic:
    """The actor-critic for an environment.

    Args:
      spec: the environment's spec.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP, Conv or NatureCNN by shape.
      share_torso: policy and value share one torso; else each has its own.
      heads: extra modules on the actor's features.
      critic: whether the network has a value head.
      **gaussian_options: squash, state_dependent_std and initial_log_std of a continuous policy.
    """
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


def act(
    network: networks.ActorCritic, spec: Spec, squash: bool, key: Array, params: PyTree, seen: Any, explore: bool
) -> tuple[Any, Extras]:
    """Samples the policy, or takes its mode where ``explore`` is False; see ``types.ActFn``.

    Args:
      network: from ``make_network``.
      spec: the environment's spec.
      squash: whether continuous actions pass through a tanh.
      key: consumed.
      params: parameters of the network.
      seen: observations ``[B, ...]``, standardised.
      explore: Python bool.
    """
    policy: Any
    memory: Any = None
    if isinstance(network, networks.RecurrentActorCritic):
        policy, memory = network.apply(params, seen, method="remember")
    else:
        policy = network.apply(params, seen, method="act")
    raw = policy.sample(seed=key) if explore else policy.mode()
    action = networks.environment_action(spec.action, raw, squash)
    extras = Extras(policy.log_prob(raw), None if isinstance(spec.action, types.Discrete) else raw)
    return (action if memory is None else Remembered(action, memory)), extras


def values(network: networks.ActorCritic, params: PyTree, trajectory: Transition) -> tuple[Array, Array]:
    """``(v_tm1, v_t)``, ``[T, B]`` each: values of the observations acted on, and of the true next ones.

    Zeros where the network has no critic.
    """
    shape = trajectory.reward.shape
    if not network.critic:
        return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32)
    if isinstance(network, networks.RecurrentActorCritic):
        return recurrent.evaluate(network, params, trajectory)
    value: Callable[[Any], Any] = partial(network.apply, params, method="evaluate")
    v_tm1 = value(trajectory.observation).reshape(shape)
    v_t = value(trajectory.next_observation).reshape(shape)
    return v_tm1, v_t


def make_batch(
    trajectory: Transition, advantage: Array, target: Array, value: Array, weight: Array | None = None
) -> losses.Batch:
    """All samples of a trajectory as one batch, ``[T, B, ...]`` laid out as ``[N, ...]``.

    With a recurrent torso, a batch of sequences ``[B, T, ...]``; ``forward`` takes either.

    Args:
      trajectory: leaves ``[T, B, ...]``, observations as the network takes them, ``Extras`` as extras.
      advantage, target, value: ``[T, B]``, see ``losses.Batch``.
      weight: ``[T, B]`` weight of each step; None for equal weights.
    """
    extras = trajectory.extras
    raw = trajectory.action if extras.raw_action is None else extras.raw_action
    batch = losses.Batch(trajectory, raw, extras.log_prob, advantage, target, value, weight)
    if types.memory(trajectory.observation) is not None:
        return recurrent.as_sequences(batch)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def forward(
    network: networks.ActorCritic, params: PyTree, batch: losses.Batch, key: Array | None = None
) -> tuple[networks.Outputs, losses.Batch]:
    """The network's outputs on a minibatch, and the minibatch with single samples ``[N]`` for the loss.

    ``key`` is the network's rng "dropout". No other function passes this rng, so a torso with
    ``nn.Dropout(rate, deterministic=not self.has_rng("dropout"))`` applies dropout only where gradients are computed.
    """
    seen, batch = recurrent.split(batch)
    outputs: Any = network.apply(params, seen, rngs={} if key is None else {"dropout": key})
    return outputs, batch


def normalize_advantage(batch: losses.Batch) -> losses.Batch:
    """The batch with advantages of mean 0 and standard deviation 1."""
    return batch._replace(advantage=pg.normalize_advantage(batch.advantage, batch.weight))


def policy_shift(network: networks.ActorCritic, params: PyTree, batch: losses.Batch) -> Array:
    """``KL(pi_old || pi)`` in nats, estimated on a whole batch."""
    seen, batch = recurrent.split(batch)
    policy: Any = network.apply(params, seen, method="act")
    return across.mean(batch.mean(pg.approximate_kl(policy.log_prob(batch.raw_action) - batch.log_prob)))


def functions(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    share_torso: bool = False,
    heads: Mapping[str, nn.Module] | None = None,
    baseline: bool = True,
    clip_observation: Any = 10.0,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: float = 0.0,
) -> Functions:
    """The policy and the value of an on-policy agent's state; give it the arguments that the agent was made with."""
    network = make_network(
        spec,
        torso,
        share_torso,
        heads,
        baseline,
        squash=squash,
        state_dependent_std=state_dependent_std,
        initial_log_std=initial_log_std,
    )

    def policy(state: Any, observation: Any) -> Any:
        seen = normalizer.standardize(spec, state.statistics, observation, clip_observation)
        return network.apply(state.params, seen, method="act")

    def value(state: Any, observation: Any) -> Any:
        seen = normalizer.standardize(spec, state.statistics, observation, clip_observation)
        return network.apply(state.params, seen, method="evaluate")

    return Functions(policy=policy, value=value if baseline else None)
