"""Imagined rollouts: a model of images, rollouts of a distilled policy in it, and the network that encodes them.

Legend of shapes: N observations, A actions, D steps of an imagined rollout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import networks, types
from jaxrl.agents.parts import actor_critic
from jaxrl.agents.parts.action_values import check_discrete
from jaxrl.networks.conv import is_image
from jaxrl.networks.imagination import ImaginationTorso, Imagined, NextImage, stack
from jaxrl.networks.inputs import as_float
from jaxrl.types import Array, Model, Observation, PyTree, Simulated, Spec, Transition


class Parts(NamedTuple):
    """The parameters of the three networks, or the states of their optimizers."""

    policy: PyTree
    model: PyTree
    distilled: PyTree


def learned_model(spec: Spec, channels: int, hidden: int) -> tuple[Model, nn.Module]:
    """A ``Model`` whose state is an image, and its network."""
    network = NextImage(check_discrete(spec).num_actions, (channels, channels), hidden)

    def init(key: Array) -> PyTree:
        return network.init(key, types.features(spec.zeros(1)), jnp.zeros(1, jnp.int32))

    def step(params: PyTree, key: Array, state: Array, action: Array) -> Simulated:
        del key
        predicted: Any = network.apply(params, state[None], action[None])
        logits, reward = predicted
        image = nn.sigmoid(logits[0])
        return Simulated(image, image, reward[0], jnp.float32(1.0), jnp.bool_(False))

    return Model(init, step), network


def copy_model(spec: Spec) -> Model:
    """The paper's control: a ``Model`` in which nothing ever happens. The image stays, the reward is 0."""
    del spec

    def step(params: PyTree, key: Array, state: Array, action: Array) -> Simulated:
        del params, key, action
        return Simulated(state, state, jnp.float32(0.0), jnp.float32(1.0), jnp.bool_(False))

    return Model(lambda key: (), step)


def imagine(
    key: Array | None, model: Model, model_params: PyTree, policy: Any, image: Array, num_actions: int, depth: int
) -> Imagined:
    """For each observation and each first action a rollout in a model, continued by a policy.

    Args:
      key: consumed; None takes the policy's most probable action.
      model: its state is an image ``[H, W, C]`` float32.
      model_params: of the model.
      policy: from images ``[N, H, W, C]`` to logits ``[N, A]``.
      image: ``[N, H, W, C]``.
      num_actions: A.
      depth: D.
    """
    num = image.shape[0]
    keys = jax.random.split(jax.random.key(0) if key is None else key, (depth, 2))

    def step(carry: tuple[Array, Array], keys: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        state, action = carry
        step_keys = jax.random.split(keys[0], num * num_actions)
        after = jax.vmap(model.step, (None, 0, 0, 0))(model_params, step_keys, state, action)
        logits = policy(after.observation)
        following = logits.argmax(-1) if key is None else jax.random.categorical(keys[1], logits)
        return (after.state, following.astype(jnp.int32)), (after.observation, after.reward)

    # Environment by environment, in each action by action: both have this order, and so has what comes out.
    start = jnp.repeat(as_float(image), num_actions, axis=0)
    first = jnp.tile(jnp.arange(num_actions, dtype=jnp.int32), num)
    _, (images, rewards) = jax.lax.scan(step, (start, first), keys)
    by_rollout = lambda x: jnp.moveaxis(x, 0, 1).reshape(num, num_actions, depth, *x.shape[2:])  # noqa: E731
    return Imagined(by_rollout(images), by_rollout(rewards))


class Mind(NamedTuple):
    """The networks of the agent, and what it does with them before PPO begins.

    Attributes:
      spec: of observations with their rollouts.
      torso: of policy and value.
      model: what is imagined in.
      network: of a learned model, else None.
      distilled: the network of the distilled policy.
      imagine: ``(key, params, observation) -> Imagined``; see ``imagine``.
    """

    spec: Spec
    torso: ImaginationTorso
    model: Model
    network: nn.Module | None
    distilled: Any
    imagine: Callable[[Array | None, Parts, Any], Imagined]

    def follow(self, params: PyTree, image: Array) -> Array:
        """The logits ``[N, A]`` of the distilled policy."""
        policy: Any = self.distilled.apply(params, image, method="act")
        return policy.logits


def make_mind(
    spec: Spec,
    torso: nn.Module | None,
    model: Model | None,
    depth: int,
    model_channels: int,
    model_hidden: int,
    encoder_channels: int,
    encoder_size: int,
    hidden: int,
) -> Mind:
    """The networks; arguments as of ``i2a``."""
    num_actions, shape = check_discrete(spec).num_actions, types.features(spec.observation).shape
    if not is_image(shape):
        raise ValueError(f"spec: got observations of shape {list(shape)}, must be images [H, W, C], 3 x 3 or larger")
    own = networks.Conv() if torso is None else torso
    joined = ImaginationTorso(own, num_actions, depth, (encoder_channels,), encoder_size, hidden)
    given, network = (model, None) if model is not None else learned_model(spec, model_channels, model_hidden)
    distilled = actor_critic.make_network(spec, networks.Conv(hidden=(32,)), critic=False)

    def imagined(key: Array | None, params: Parts, observation: Any) -> Imagined:
        policy = lambda image: mind.follow(params.distilled, image)  # noqa: E731
        return imagine(key, given, params.model, policy, types.features(observation), num_actions, depth)

    mind = Mind(_stacked_spec(spec, num_actions * depth), joined, given, network, distilled, imagined)
    return mind


def with_rollouts(observation: Any, imagined: Imagined) -> Any:
    """Observations ``[N, ...]`` with rollouts behind their images."""
    stacked = stack(types.features(observation), imagined)
    return observation._replace(features=stacked) if isinstance(observation, Observation) else stacked


def next_rollouts(key: Array, imagine: Callable[[Array, Any], Imagined], trajectory: Transition) -> Imagined:
    """The rollouts ``[T, B, A, D, ...]`` of next observations, imagining only those that did not act.

    Within an episode the next observation acts in the next step, and ``extras.imagined`` has its rollouts. At the end
    of the trajectory and at time limits they are imagined anew, B at a time. Where an episode terminates the next value
    counts nothing, and the result has the rollouts of the next episode.

    Args:
      key: consumed.
      imagine: from a key and observations ``[N, ...]`` to their rollouts.
      trajectory: ``[T, B]``.
    """
    length, num_envs = trajectory.reward.shape
    flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)  # noqa: E731
    last = jnp.arange(length)[:, None] == length - 1
    missing = ((trajectory.truncated | last) & ~trajectory.terminated).ravel()
    order = jnp.argsort(~missing)
    ahead = flat(trajectory.next_observation)

    def fill(i: Array, rollouts: Imagined) -> Imagined:
        rows = jax.lax.dynamic_slice_in_dim(order, i * num_envs, num_envs)
        new = imagine(jax.random.fold_in(key, i), jax.tree.map(lambda x: x[rows], ahead))
        return jax.tree.map(lambda old, new: old.at[rows].set(new), rollouts, new)

    shifted = jax.tree.map(lambda x: jnp.concatenate([x[1:], x[-1:]]), trajectory.extras.imagined)
    chunks = (missing.sum() + num_envs - 1) // num_envs
    filled = jax.lax.fori_loop(0, chunks, fill, flat(shifted))
    return jax.tree.map(lambda x: x.reshape(length, num_envs, *x.shape[1:]), filled)


def _stacked_spec(spec: Spec, rollouts: int) -> Spec:
    """The spec of images with their rollouts behind."""
    height, width, channels = types.features(spec.observation).shape
    stacked = jax.ShapeDtypeStruct((height, width, channels + rollouts * (channels + 1)), jnp.float32)
    if isinstance(spec.observation, Observation):
        return spec._replace(observation=spec.observation._replace(features=stacked), flags=None)
    return spec._replace(observation=stacked, flags=None)
