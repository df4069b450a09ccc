"""Parts of world models: sequences of latents from a replay, a linear controller, and its return in dreams.

Legend of shapes: T steps, B environments, S sequences, L latent numbers, H features of the sequence model, K starts of
dreams, N candidates, D dreams, P parameters of a controller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import models, types
from jaxrl.agents.parts import replaying
from jaxrl.models import DreamState, Latent, LatentSequences, SequenceModel
from jaxrl.ops import across
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Box, Discrete, Model, PyTree, Spec, Transition


class Controller(NamedTuple):
    """A linear policy ``W [z, h] + b`` as functions of one vector of parameters ``[P]``.

    Attributes:
      size: P.
      act: ``(params [P], seen [L + H]) -> action``: the argmax, or the tanh of the outputs rescaled to the bounds.
    """

    size: int
    act: Callable[[Array, Array], Array]


def linear_controller(space: Discrete | Box, num_inputs: int) -> Controller:
    """A linear controller of ``[z, h]``.

    Args:
      space: of the actions.
      num_inputs: L + H.
    """
    num_outputs = space.num_actions if isinstance(space, Discrete) else math.prod(space.shape)

    def act(params: Array, seen: Array) -> Array:
        weights, bias = params[:-num_outputs].reshape(num_inputs, num_outputs), params[-num_outputs:]
        outputs = seen @ weights + bias
        if isinstance(space, Discrete):
            return outputs.argmax(-1).astype(jnp.int32)
        return space.from_unit(jnp.tanh(outputs).reshape(space.shape))

    return Controller((num_inputs + 1) * num_outputs, act)


class Replayed(NamedTuple):
    """A replay as a sequence model learns from it.

    Attributes:
      sequences: ``[S, T]``.
      size: int32, how many of the first sequences hold valid steps.
      first: ``[K, L]`` posteriors of first observations of episodes, where dreams start.
    """

    sequences: LatentSequences
    size: Array
    first: Latent


def encoded(ring: Ring, encode: Callable[[Array], Latent], length: int, num_starts: int) -> Replayed:
    """Encodes a replay and cuts it into sequences, in the order of time.

    Args:
      ring: its observations are features; ``[rows, B, ...]``.
      encode: ``features [B, ...] -> Latent [B]``.
      length: T, of a sequence; rows of the ring that are left over are dropped.
      num_starts: K; where fewer episodes have begun, some are there twice.
    """
    num_sequences = ring.rows // length
    rows = (ring.head - ring.filled + jnp.arange(ring.rows)) % ring.rows  # the oldest first
    latents, next_latents = (
        jax.lax.map(encode, x) for x in (ring.transitions.observation, ring.transitions.next_observation)
    )
    ended = ring.transitions.terminated | ring.transitions.truncated
    # The oldest step begins an episode where nothing was overwritten.
    reset = jnp.concatenate([jnp.full((1, ring.num_envs), ring.filled < ring.rows), ended[rows[:-1]]])
    valid = jnp.broadcast_to((jnp.arange(ring.rows) < ring.filled)[:, None], reset.shape)

    def cut(leaf: Array) -> Array:
        """``[rows, B, ...] -> [S, T, ...]``, early sequences of all environments first."""
        pieces = leaf[: num_sequences * length].reshape(num_sequences, length, *leaf.shape[1:])
        return pieces.swapaxes(1, 2).reshape(-1, length, *leaf.shape[2:])

    in_order = lambda tree: jax.tree.map(lambda leaf: cut(leaf[rows]), tree)  # noqa: E731
    sequences = LatentSequences(
        latent=in_order(latents),
        action=in_order(ring.transitions.action),
        reward=in_order(ring.transitions.reward),
        terminated=in_order(ring.transitions.terminated),
        next_latent=in_order(next_latents),
        reset=cut(reset),
        valid=cut(valid),
    )
    begins, usable = (reset & valid).reshape(-1), valid.reshape(-1)
    begins = jnp.where(begins.any(), begins, usable)
    where = jnp.nonzero(begins, size=num_starts, fill_value=0)[0]
    where = where[jnp.arange(num_starts) % jnp.clip(begins.sum(), 1, num_starts)]
    first = jax.tree.map(lambda leaf: leaf[rows].reshape(-1, leaf.shape[-1])[where], latents)
    # Those of the first device, for all of them dream alike.
    first = across.total(jax.tree.map(lambda leaf: jnp.where(across.index() == 0, leaf, 0.0), first))
    size = -(-jnp.minimum(ring.filled, num_sequences * length) // length) * ring.num_envs
    return Replayed(sequences, size, first)


def start_of(sequence: SequenceModel, first: Latent, key: Array) -> tuple[Array, DreamState]:
    """A real first frame, its z drawn anew from its posterior: ``(observation [L + H], state)``."""
    row_key, key = jax.random.split(key)
    row = jax.random.randint(row_key, (), 0, first.mean.shape[0])
    state = models.first(sequence, Latent(first.mean[row], first.log_std[row]).sample(key))
    return models.observe(state), state


def dream_returns(
    key: Array,
    model: Model,
    params: PyTree,
    start: Callable[[Array], tuple[Array, DreamState]],
    act: Callable[[Array, Array], Array],
    candidates: Array,
    num_dreams: int,
    length: int,
) -> Array:
    """Mean returns ``[N]`` of controllers in dreams; all of them dream with the same random numbers.

    Args:
      key: consumed.
      model: of the dream.
      params: of the model.
      start: ``key -> (observation, state)``.
      act: ``(params [P], observation) -> action``.
      candidates: ``[N, P]``.
      num_dreams: D, for each candidate.
      length: a dream is cut after so many steps.
    """
    num = candidates.shape[0]
    start_key, key = jax.random.split(key)
    first = jax.vmap(start)(jax.random.split(start_key, num_dreams))
    observation, state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), first)
    act_all = jax.vmap(jax.vmap(act, (None, 0)))
    # Keys are of dreams, not of candidates, so that noise is drawn once for all candidates.
    step_all = jax.vmap(jax.vmap(model.step, (None, 0, 0, 0)), (None, None, 0, 0))

    def alive(carry: Any) -> Array:
        return (carry[0] < length) & carry[4].any()

    def step(carry: Any) -> Any:
        time, observation, state, total, going = carry
        keys = jax.random.split(jax.random.fold_in(key, time), num_dreams)
        simulated = step_all(params, keys, state, act_all(candidates, observation))
        total = total + jnp.where(going, simulated.reward, 0.0)
        going = going & (simulated.discount != 0.0)
        return time + 1, simulated.observation, simulated.state, total, going

    shape = (num, num_dreams)
    carry = (jnp.zeros((), jnp.int32), observation, state, jnp.zeros(shape, jnp.float32), jnp.ones(shape, bool))
    return jax.lax.while_loop(alive, step, carry)[3].mean(-1)


def example(spec: Spec) -> Transition:
    """One transition as the replay keeps it: features, and actions as the environment takes them.

    Raises:
      ValueError: observations with other parts that matter, which a controller of [z, h] does not see.
    """
    seen = spec.observation
    if isinstance(seen, types.Observation) and not (seen.action_mask is None and seen.goal is None):
        raise ValueError("spec: got observations with an action mask or a goal, must be features alone")
    plain = replaying.example(spec._replace(observation=types.features(seen)))
    if isinstance(spec.action, Discrete):
        return plain
    action: Any = jax.ShapeDtypeStruct(spec.action.shape, jnp.float32)
    return plain._replace(action=action)


def features_only(trajectory: Transition) -> Transition:
    """The trajectory as the replay keeps it: features, and no extras."""
    return trajectory._replace(
        observation=types.features(trajectory.observation),
        next_observation=types.features(trajectory.next_observation),
        extras=(),
    )


def check_memory(fed_back: Any, sequence: SequenceModel) -> None:
    """Refuses an environment that does not feed back the memory of M.

    Raises:
      ValueError: naming what it feeds back.
    """
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), sequence.memory)
    if fed_back != wanted:
        raise ValueError(
            f"spec: got an environment that feeds back {fed_back}, must feed back the memory of the sequence model: "
            "env = envs.remember(env, world_models.memory_of(spec, options)), and take the spec of that"
        )


def random_actions(key: Array, spec: Spec, num: int) -> Array:
    """Uniform actions ``[num, ...]`` as the environment takes them."""
    seen = jnp.zeros((num, 1), jnp.float32)
    return replaying.to_environment(spec, replaying.uniform_action(key, spec, seen))[0]
