"""Learning with a torso that has a memory: samples stay together as sequences, one for each environment.

Without a memory these functions leave everything as it is.
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
    """Refuses an environment that does not feed back what the torso remembers, and one that feeds back for nothing.

    Raises:
      ValueError: naming what there is and how to wrap the environment.
    """
    kind, fed_back = type(torso).__name__, types.memory(spec.observation)
    if not networks.is_recurrent(torso):
        if fed_back is not None:
            raise ValueError(
                f"torso: {kind} remembers nothing, and the environment feeds a memory back; take networks.GRU(), or "
                "the environment without envs.remember"
            )
        return
    wanted = networks.memory_of(torso, share_torso=share_torso, critic=critic)
    said = "".join(
        f", {option}"
        for option, given in (("share_torso=True", share_torso and critic), ("critic=False", not critic))
        if given
    )
    how = f"env = envs.remember(env, networks.memory_of(torso{said})), and take the spec of that"
    if fed_back is None:
        raise ValueError(f"torso: {kind} remembers, and the environment does not feed its memory back: {how}")
    if fed_back != wanted:
        raise ValueError(f"spec: the environment feeds back {fed_back}, {kind} remembers {wanted}: {how}")


def check_no_memory(spec: Spec, torso: Any) -> None:
    """Refuses a torso with a memory, and an environment that feeds a memory back.

    Raises:
      TypeError: naming it, and what there is instead.
    """
    instead = "reinforce, a2c, ppo and trpo do; or show this recipe the last steps, envs.window(env, k)"
    if networks.is_recurrent(torso):
        raise TypeError(
            f"torso: {type(torso).__name__} remembers, and this recipe does not learn from memories; {instead}"
        )
    if types.memory(spec.observation) is not None:
        raise TypeError(f"spec: the environment feeds a memory back, which this recipe does not have; {instead}")


def check_division(num_minibatches: int, trajectory: Transition) -> None:
    """Refuses a number of minibatches that leaves samples over, or environments where they stay whole.

    Raises:
      ValueError: it does not divide them.
    """
    if types.memory(trajectory.observation) is None:
        check_minibatches(num_minibatches, trajectory.reward.shape)
        return
    num_envs = trajectory.reward.shape[1]
    if num_envs % num_minibatches:
        where = f" on each of {across.size()} devices" if across.size() > 1 else ""
        raise ValueError(
            f"num_minibatches: got {num_minibatches}, which does not divide num_envs = {num_envs}{where}; a recurrent "
            "torso learns from whole sequences, one for each environment"
        )


def _by_environment(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def sequences_of(trajectory: Transition) -> Sequences:
    """The observations of a trajectory with a memory, one sequence for each environment, ``[B, T, ...]``."""
    done = ~returns.continues(trajectory.terminated, trajectory.truncated)
    # Where the first step starts an episode, the memory that came with it is zero already.
    reset = jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])
    memory = jax.tree.map(lambda x: x[0], types.memory(trajectory.observation))
    return Sequences(_by_environment(trajectory.observation._replace(memory=None)), memory, reset.T)


def evaluate(network: RecurrentActorCritic, params: PyTree, trajectory: Transition) -> tuple[Array, Array]:
    """Values ``[T, B]`` of the observations of a trajectory and of the true next ones.

    What followed a step is seen with the memory after that step, so that the last observation of a cut episode is
    valued as the policy would have seen it, and that of the last step as it will see it.
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
    """What the network takes of a batch, and what the loss does: of sequences ``[N, T, ...]`` all samples ``[N T]``."""
    seen = batch.transition.observation
    if not isinstance(seen, Sequences):
        return seen, batch
    batch = batch._replace(transition=batch.transition._replace(observation=seen.observation))
    return seen, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
