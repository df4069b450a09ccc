"""Several devices: a mesh, and the sharding of a training state.

A mesh has two axes, ``SEEDS`` and ``ENVS``. A population's members are split over the first, the environments of each
member over the second; everything else is replicated. The loop is the usual one: ``ops.across`` reduces means and sums
over environments, and ``optim.averaged`` averages gradients. See
docs/parallel.md. Legend of shapes: S members, E environments of a member, on all devices together.
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
    """Devices that should hold the same numbers do not."""


def make_mesh(num_devices: int | None = None, *, seeds: int = 1) -> Mesh:
    """A mesh of ``seeds`` x ``num_devices / seeds`` devices, of all processes together.

    Args:
      num_devices: how many, the first of ``jax.devices()``; None takes all.
      seeds: over how many groups of them members are split. A group's devices are neighbours, since they exchange
        gradients, and groups exchange nothing.

    Raises:
      ValueError: more devices than there are, fewer than processes need, or a count that ``seeds`` does not divide.
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
    # Explicitly sharded types are of no use inside of shard_map.
    return Mesh(np.array(there[:count]).reshape(seeds, -1), (SEEDS, ENVS))


def check_split(mesh: Mesh, num_envs: int, num_members: int = 1) -> None:
    """Refuses counts that a mesh does not divide.

    Raises:
      ValueError: a count is not a multiple of the devices; the message names both.
    """
    for name, count, axis in (("num_envs", num_envs, ENVS), ("seeds", num_members, SEEDS)):
        if count % mesh.shape[axis]:
            what = "environments" if axis == ENVS else "members"
            raise ValueError(
                f"{name}: got {count}, must be a multiple of {mesh.shape[axis]}, the devices that {what} are split over"
            )


def _environment_axis(whole: Any, part: Any, num_envs: int, num_parts: int) -> P:
    """The environment axis of a leaf: the one whose length is the number of environments, for all and for a share."""
    if whole.ndim == part.ndim:
        for axis, sizes in enumerate(zip(whole.shape, part.shape, strict=True)):
            if sizes == (num_envs, num_envs // num_parts):
                return P(*(None,) * axis, ENVS)
    return P()


def state_specs(start: Callable[[int], TrainState], num_envs: int, mesh: Mesh) -> TrainState:
    """Which axis of each leaf of a member's state is split: a ``PartitionSpec`` a leaf.

    Environments, and the leaves with an environment axis under a field ``per_env`` of the agent's state, are split;
    everything else is replicated.

    Args:
      start: from a number of environments to a state, traced for its shapes.
      num_envs: E.
      mesh: from ``make_mesh``.

    Raises:
      ValueError: a leaf depends on the number of environments and has no axis of them, or is one of the agent's that
        does not lie under ``per_env``.
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
    """The specs of a population's leaves ``[S, ...]`` from those of a member's."""
    return jax.tree.map(lambda spec: P(SEEDS, *spec), specs)


def split(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """``function`` on every device's share.

    Without the check of varying types, under which ``jax.grad`` of what is the same everywhere is summed over devices
    by itself, and a mean after it would leave it D times too large. What it would have found, ``disagreeing`` does.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _specs(key: Array, agent: Agent, env: Any, params: Any, num_envs: int, mesh: Mesh) -> TrainState:
    check_split(mesh, num_envs)
    return state_specs(lambda count: loop.start(key, agent, env, params, count), num_envs, mesh)


def start(
    key: Array, agent: Agent, env: Any, params: Any, num_envs: int, *, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """The first state of a run, the same numbers as ``training.start``, each part made where it lives.

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
    environments, and each device draws ``batch_size / D`` samples from its own part. ``jit`` it as the plain one.

    Args:
      key, agent, env, params, num_steps, rollout_length, on_update: see ``training.train``. ``on_update`` is given one
        device's part of the state, and must stop on all alike: decide by metrics.
      mesh: from ``make_mesh``.
      num_envs: E, on all devices together. Ignored with ``state``, which has its own.
      state: where to go on from, from this function or ``start``.

    Returns:
      ``(state, metrics)``, the metrics stacked ``[num_updates]``.

    Raises:
      ValueError: counts that do not divide, an agent whose state can't be split.
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
    """uint32, of the bits of an array: two that differ have the same by a chance of about 2^-32.

    Words are mixed with their places before they are added up, for a plain weighted sum does not see two signs that
    have changed: a sign is 2^31, and twice that is 0.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    bits = 8 * leaf.dtype.itemsize
    # A word of 64 bits is two of 32.
    words = jax.lax.bitcast_convert_type(leaf, jnp.uint32 if bits >= 32 else jnp.dtype(f"uint{bits}"))
    words = words.reshape(-1).astype(jnp.uint32)
    return jnp.sum(_mix(words ^ _mix(jnp.arange(words.size, dtype=jnp.uint32) + 1)), dtype=jnp.uint32)


def _mix(x: Array) -> Array:
    """MurmurHash3's finaliser of uint32: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def disagreeing(mesh: Mesh, specs: PyTree) -> Callable[[PyTree], Array]:
    """A jitted function from a state to one bool a leaf: True where devices that should hold the same do not.

    Parameters come apart where an agent draws a gradient from its own environments and does not average it.

    Args:
      mesh, specs: of the state.
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
      state: of a run.
      differ: bools, from ``disagreeing``.

    Raises:
      ParallelError: naming the first leaf, and what to do.
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
