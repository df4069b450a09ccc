"""More than one process: ``jax.distributed`` with a time-out, and the few operations that hosts must do together.

All processes run the same program on the same mesh, so decisions about what runs next must agree. ``any_process``
reduces what only one process knows, such as a signal or a clock, and ``fetch`` gathers arrays. Only the first process
writes files.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import PyTree

__all__ = ["ConnectionFailed", "any_process", "are_many", "connect", "fetch", "greatest", "is_first", "leave", "place"]

HEARTBEAT_SECONDS = 30
"""Seconds without a heartbeat after which a process counts as dead and the others stop; JAX's default is 100."""


class ConnectionFailed(RuntimeError):
    """The processes of a run did not find each other."""


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Joins the processes of a run, before anything is computed.

    Args:
      coordinator: HOST:PORT of process 0; None reads it, like the other two, from SLURM, Open MPI or Kubernetes.
      num_processes: the number of processes.
      process_id: the number of this process, from 0.
      heartbeat_seconds: seconds without a heartbeat after which a process counts as dead.

    Raises:
      ConnectionFailed: the processes are not known, or not all of them connected in time.
    """
    # A coordinator for this machine alone listens on the local interface only.
    local = coordinator is not None and coordinator.rpartition(":")[0] in ("127.0.0.1", "localhost")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat_seconds,
            # At the end the others wait for the process that evaluates and writes, but not for one that died.
            shutdown_timeout_seconds=10 * heartbeat_seconds,
            coordinator_bind_address=coordinator if local else None,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        problem = f"the processes of this run did not find each other ({reason})"
        if isinstance(error, ValueError):
            problem = (
                f"the processes of this run are not known ({reason}); start it under SLURM, Open MPI or Kubernetes, or "
                "give --coordinator HOST:PORT, --num-processes and --process-id"
            )
        raise ConnectionFailed(problem) from error


def are_many() -> bool:
    """Whether this run has more than one process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether a flag is set in any process; every process must ask at the same point of its program."""
    if not are_many():
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def greatest(number: float) -> float:
    """The greatest of a number that every process has; every process must ask at the same point of its program."""
    if not are_many():
        return number
    from jax.experimental import multihost_utils

    return float(np.max(multihost_utils.process_allgather(np.asarray(number))))


def fetch(tree: PyTree) -> PyTree:
    """Every array in full as NumPy, in every process; typed keys become their data.

    Arrays that are split over processes are gathered one after the other, so each is briefly in full on every device.
    """

    def whole(x: Any) -> Any:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(whole, tree)


def place(x: Any, sharding: Any) -> jax.Array:
    """Puts an array that every process has in full on the devices of a sharding; each process fills in its own part."""
    if not are_many():
        return jax.device_put(x, sharding)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(place(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    array = np.asarray(x)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def leave(code: int) -> None:
    """Ends this process at once after an error if there are others, for which a normal exit would wait."""
    if "jax" in sys.modules and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def __dir__() -> list[str]:
    return sorted(__all__)
