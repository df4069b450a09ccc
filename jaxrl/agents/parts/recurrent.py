"""Learning with a recurrent torso: samples stay together as sequences, one for each environment.

With other torsos these functions change nothing.
Legend of shapes: T steps of a rollout, B environments, N of them in a minibatch.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import losses, networks, types
from jaxrl.agents.parts.minibatches import check_minibatches
from jaxrl.networks import RecurrentActorCritic, Sequences
from jaxrl.ops import across, returns
from jaxrl.types import Array, PyTree, Spec, Transition


def check_memory(spec: Spec, torso: nn.Module, share_torso: bool, critic: bool) -> None:
    """Checks that the environment feeds back the torso's memory, and none for a torso without memory.

    Raises:
      ValueError: it does not; the message says how to wrap the environment.
    """
    kind, fed_back = type(torso).__name__, types.memory(spec.observation)
    if not networks.is_recurrent(torso):
        if fed_back is not None:
            raise ValueError(
                f"torso: got {kind}, which has no memory, in an environment that feeds a memory back; use a recurrent "
                "torso such as networks.GRU(), or the environment without envs.remember"
            )
        return
    wanted = networks.memory_of(torso, share_torso=share_torso, critic=critic)
    said = "".join(
        f", {option}"
        for option, given in (("share_torso=True", share_torso and critic), ("critic=False", not critic))
        if given
    )
    how = f"use the spec of envs.remember(env, networks.memory_of(torso{said}))"
    if fed_back is None:
        raise ValueError(f"torso: got {kind}, which has a memory, in an environment that does not feed it back; {how}")
    if fed_back != wanted:
        raise ValueError(f"spec: the environment feeds back {fed_back}, must be the memory of {kind}, {wanted}; {how}")


def check_no_memory(spec: Spec, torso: Any) -> None:
    """Raises for a torso with a memory, and for an environment that feeds a memory back.

    Raises:
      TypeError: there is a memory; the message names alternatives.
    """
    instead = "use reinforce, a2c, ppo or trpo, or envs.window(env, k), which shows the last k steps"
    if networks.is_recurrent(torso):
        raise TypeError(
            f"torso: got {type(torso).__name__}, which has a memory; this recipe takes torsos without one: {instead}"
        )
    if types.memory(spec.observation) is not None:
        raise TypeError(f"spec: got an environment that feeds a memory back; this recipe has no memory: {instead}")


def check_division(num_minibatches: int, trajectory: Transition) -> None:
    """Raises where the number of minibatches does not divide the samples, or the environments with a recurrent torso.

    Raises:
      ValueError: it does not.
    """
    if types.memory(trajectory.observation) is None:
        check_minibatches(num_minibatches, trajectory.reward.shape)
        return
    num_envs = trajectory.reward.shape[1]
    if num_envs % num_minibatches:
        where = f" on each of {across.size()} devices" if across.size() > 1 else ""
        raise ValueError(
            f"num_minibatches: got {num_minibatches}, must divide num_envs = {num_envs}{where}; a recurrent torso "
            "learns from whole sequences, one for each environment"
        )


def _by_environment(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def sequences_of(trajectory: Transition) -> Sequences:
    """The observations of a trajectory with a memory, one sequence for each environment, ``[B, T, ...]``."""
    done = ~returns.continues(trajectory.terminated, trajectory.truncated)
    # Where the first step starts an episode, its memory is zero already.
    reset = jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])
    memory = jax.tree.map(lambda x: x[0], types.memory(trajectory.observation))
    return Sequences(_by_environment(trajectory.observation._replace(memory=None)), memory, reset.T)


def evaluate(network: RecurrentActorCritic, params: PyTree, trajectory: Transition) -> tuple[Array, Array]:
    """Values ``[T, B]`` of the observations of a trajectory and of the true next ones.

    The next observation of a step is evaluated with the memory after that step. So the last observation of a truncated
    episode is evaluated as the policy would have seen it.
    """
    following = _by_environment(trajectory.next_observation)
    values: Any = network.apply(params, sequences_of(trajectory), following, method="evaluate_ahead")
    length, num_envs = trajectory.reward.shape
    v_tm1, v_t = (v.reshape(num_envs, length).T for v in values)
    return v_tm1, v_t


def as_sequences(batch: losses.Batch) -> losses.Batch:
    """A batch ``[T, B, ...]`` of a trajectory with a memory as ``[B, T, ...]``, its observations as ``Sequences``."""
    sequences = sequences_of(batch.transition)
    transition = batch.transition._replace(observation=())
    batch = _by_environment(batch._replace(transition=transition))
    return batch._replace(transition=batch.transition._replace(observation=sequences))


def split(batch: losses.Batch) -> tuple[Any, losses.Batch]:
    """The inputs of the network and of the loss; from sequences ``[N, T, ...]`` the loss gets samples ``[N T]``."""
    seen = batch.transition.observation
    if not isinstance(seen, Sequences):
        return seen, batch
    batch = batch._replace(transition=batch.transition._replace(observation=seen.observation))
    return seen, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
