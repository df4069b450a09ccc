"""Several devices: a mesh, and the sharding of a training state.

A mesh has two axes, ``SEEDS`` and ``ENVS``. The agents of a population are split over the first, the environments of
each agent over the second; everything else is replicated. The loop is the usual one: ``ops.across`` reduces means and
sums over environments, and ``optim.averaged`` averages gradients. See docs/parallel.md. Legend of shapes: S agents, E
environments of an agent, on all devices together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl.arguments import check_count
from jaxrl.ops import across
from jaxrl.training import loop
from jaxrl.training.loop import OnUpdate, TrainState, count_updates
from jaxrl.types import Agent, Array, Metrics, PyTree

SEEDS, ENVS = "seeds", across.AXIS


class ParallelError(Exception):
    """Replicated numbers differ between devices."""


def make_mesh(num_devices: int | None = None, *, seeds: int = 1) -> Mesh:
    """A mesh of ``seeds`` x ``num_devices / seeds`` devices, over all processes.

    Args:
      num_devices: number of devices, the first of ``jax.devices()``; None for all.
      seeds: number of groups of devices over which the agents of a population are split. Devices of a group are
        neighbours, because they exchange gradients; groups exchange nothing.

    Raises:
      ValueError: there are not so many devices, the processes have more, or ``seeds`` does not divide the number.
    """
    there = jax.devices()
    count = len(there) if num_devices is None else num_devices
    for name, value in (("devices", count), ("seed_devices", seeds)):
        check_count(name, value)
    if count > len(there):
        trial = f"; for a trial on the CPU, JAX_NUM_CPU_DEVICES={count} makes as many of one"
        raise ValueError(
            f"devices: got {count}, there {'is' if len(there) == 1 else 'are'} {len(there)} ({there[0].platform})"
            f"{trial if there[0].platform == 'cpu' else ''}"
        )
    if jax.process_count() > 1 and count < len(there):
        raise ValueError(
            f"devices: got {count}, must be all {len(there)} of the {jax.process_count()} processes; start fewer"
        )
    if count % seeds:
        raise ValueError(f"seed_devices: got {seeds}, must divide the {count} devices")
    # Explicitly sharded types are not needed inside shard_map.
    return Mesh(np.array(there[:count]).reshape(seeds, -1), (SEEDS, ENVS))


def check_split(mesh: Mesh, num_envs: int, num_members: int = 1) -> None:
    """Checks that a mesh divides the numbers of agents and environments.

    Raises:
      ValueError: a number is not a multiple of the devices; the message names both.
    """
    for name, count, axis in (("num_envs", num_envs, ENVS), ("seeds", num_members, SEEDS)):
        if count % mesh.shape[axis]:
            what = "environments" if axis == ENVS else "members"
            raise ValueError(
                f"{name}: got {count}, must be a multiple of {mesh.shape[axis]}, the devices that {what} are split over"
            )


def _environment_axis(whole: Any, part: Any, num_envs: int, num_parts: int) -> P:
    """The environment axis of a leaf: the axis whose length is the number of environments, in total and per device."""
    if whole.ndim == part.ndim:
        for axis, sizes in enumerate(zip(whole.shape, part.shape, strict=True)):
            if sizes == (num_envs, num_envs // num_parts):
                return P(*(None,) * axis, ENVS)
    return P()


def state_specs(start: Callable[[int], TrainState], num_envs: int, mesh: Mesh) -> TrainState:
    """A ``PartitionSpec`` for each leaf of an agent's training state.

    Environments, and the leaves with an environment axis under a field ``per_env`` of the agent's state, are split;
    everything else is replicated.

    Args:
      start: function from a number of environments to a state, traced for its shapes.
      num_envs: E.
      mesh: from ``make_mesh``.

    Raises:
      ValueError: a leaf depends on the number of environments but has no environment axis, or is a leaf of the agent's
        state outside of ``per_env``.
    """
    num_parts = mesh.shape[ENVS]
    whole, part = (jax.eval_shape(partial(start, count)) for count in (num_envs, num_envs // num_parts))

    def spec(path: Any, whole: Any, part: Any) -> P:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        shared = num_parts == 1 or (name.startswith("agent.") and "per_env" not in name.split("."))
        found = P() if shared else _environment_axis(whole, part, num_envs, num_parts)
        if whole.shape != part.shape and ENVS not in found:
            raise ValueError(
                f"{name} is {list(whole.shape)} with {num_envs} environments and {list(part.shape)} with "
                f"{num_envs // num_parts}: what depends on environments must lie under per_env, with an axis as "
                "long as there are environments, to be split"
            )
        return found

    return jax.tree_util.tree_map_with_path(spec, whole, part)


def shardings(mesh: Mesh, specs: PyTree) -> PyTree:
    """A ``NamedSharding`` for each ``PartitionSpec``."""
    return jax.tree.map(partial(NamedSharding, mesh), specs)


def of_members(specs: PyTree) -> PyTree:
    """The specs of a population's leaves ``[S, ...]`` from those of one agent."""
    return jax.tree.map(lambda spec: P(SEEDS, *spec), specs)


def split(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """Maps ``function`` over the parts of the devices.

    The check of varying types is off: with it ``jax.grad`` of replicated values sums over devices by itself, and a mean
    after it would be D times too large. ``disagreeing`` finds the same errors.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _specs(key: Array, agent: Agent, env: Any, params: Any, num_envs: int, mesh: Mesh) -> TrainState:
    check_split(mesh, num_envs)
    return state_specs(lambda count: loop.start(key, agent, env, params, count), num_envs, mesh)


def start(
    key: Array, agent: Agent, env: Any, params: Any, num_envs: int, *, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """The initial state of a run, with the same numbers as ``training.start``; each device computes its part.

    Returns:
      ``(state, specs)``.
    """
    specs = _specs(key, agent, env, params, num_envs, mesh)
    make = jax.jit(lambda key: loop.start(key, agent, env, params, num_envs), out_shardings=shardings(mesh, specs))
    return make(key), specs


def train(
    key: Array,
    agent: Agent,
    env: Any,
    params: Any,
    *,
    mesh: Mesh,
    num_steps: int,
    num_envs: int = 4,
    rollout_length: int = 128,
    state: TrainState | None = None,
    on_update: OnUpdate | None = None,
) -> tuple[TrainState, Metrics]:
    """``training.train`` with the environments split over the devices of a mesh.

    Gradients, advantage and normaliser statistics and metrics are those of all environments; a replay is split with its
    environments, and each device draws ``batch_size / D`` samples from its own part. It can be jitted like the plain
    function.

    Args:
      key, agent, env, params, num_steps, rollout_length, on_update: see ``training.train``. ``on_update`` gets one
        device's part of the state, and must stop on all devices at once: decide by metrics.
      mesh: from ``make_mesh``.
      num_envs: E, on all devices together. Ignored with ``state``, which has its own.
      state: state to continue from, of this function or of ``start``.

    Returns:
      ``(state, metrics)``, with metrics stacked ``[num_updates]``.

    Raises:
      ValueError: the mesh does not divide the environments, or the agent's state can't be split.
    """
    if state is None:
        count_updates(num_steps, num_envs, rollout_length)
        state, specs = start(key, agent, env, params, num_envs, mesh=mesh)
    else:
        specs = _specs(key, agent, env, params, state.episode_return.shape[0], mesh)
    num_updates = count_updates(num_steps, state.episode_return.shape[0], rollout_length)

    def advance(key: Array, state: TrainState) -> tuple[TrainState, Metrics]:
        return loop.advance(
            key,
            agent,
            env,
            params,
            state,
            num_updates=num_updates,
            rollout_length=rollout_length,
            on_update=on_update,
        )

    run = split(advance, mesh, (P(), specs), (specs, P()))
    return run(key, state)


def _checksum(leaf: Any) -> Array:
    """A uint32 hash of the bits of an array; two different arrays collide with probability of about 2^-32.

    Words are mixed with their positions before they are summed, because a weighted sum would miss two changed signs: a
    sign is 2^31, and twice that is 0.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    bits = 8 * leaf.dtype.itemsize
    # A 64-bit word counts as two 32-bit words.
    words = jax.lax.bitcast_convert_type(leaf, jnp.uint32 if bits >= 32 else jnp.dtype(f"uint{bits}"))
    words = words.reshape(-1).astype(jnp.uint32)
    return jnp.sum(_mix(words ^ _mix(jnp.arange(words.size, dtype=jnp.uint32) + 1)), dtype=jnp.uint32)


def _mix(x: Array) -> Array:
    """MurmurHash3's finaliser of uint32: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def disagreeing(mesh: Mesh, specs: PyTree) -> Callable[[PyTree], Array]:
    """A jitted function from a state to one bool per leaf, True where replicated values differ between devices.

    Parameters diverge where an agent computes a gradient from a device's environments and does not average it.

    Args:
      mesh, specs: the mesh and the specs of the state.
    """
    shared = [ENVS not in spec for spec in jax.tree.leaves(specs)]

    def differ(state: PyTree) -> Array:
        leaves = zip(jax.tree.leaves(state), shared, strict=True)
        sums = jnp.stack([_checksum(leaf) if is_shared else jnp.uint32(0) for leaf, is_shared in leaves])
        return jax.lax.pmax((jax.lax.pmax(sums, ENVS) != jax.lax.pmin(sums, ENVS)).astype(jnp.int32), SEEDS)

    return jax.jit(split(differ, mesh, (specs,), P()))


def require_agreement(state: PyTree, differ: Any) -> None:
    """Raises if replicated leaves differ between devices.

    Args:
      state: state of a run.
      differ: bools from ``disagreeing``.

    Raises:
      ParallelError: leaves differ; the message names the first one and what to do.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    found = [name for name, bad in zip(names, np.asarray(differ), strict=True) if bad]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ParallelError(
            f"the devices hold different numbers in {found[0]}{more}, which should be the same on all: the agent "
            "learns from a device's own environments without averaging. Wrap its optimizer in optim.averaged, and take "
            "means over environments by ops.across"
        )
