"""More than one process: ``jax.distributed``, started with a time-out, and the few things that hosts must do together.

All processes run the same program on the same mesh; whatever decides what is run next must come out the same on all.
So what one of them alone can know, a signal or a clock, is asked of all (``anywhere``), and what is read of arrays is
gathered (``fetch``). Files are written by the first process only.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import PyTree

__all__ = ["ConnectionFailed", "anywhere", "are_many", "connect", "fetch", "is_first", "leave", "place"]

HEARTBEAT_SECONDS = 30
"""After which a process that says nothing counts as dead, and the others stop; JAX's default is 100."""


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
      coordinator: HOST:PORT of process 0; None, like the other two, for what SLURM, Open MPI or Kubernetes say.
      num_processes: how many there are.
      process_id: which this is, from 0.
      heartbeat_seconds: when a silent process counts as dead.

    Raises:
      ConnectionFailed: nothing says who the processes are, or they did not all come.
    """
    # Where the coordinator is of this machine alone, nobody else has to see it.
    local = coordinator is not None and coordinator.rpartition(":")[0] in ("127.0.0.1", "localhost")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat_seconds,
            # The others wait at the end for the one that evaluates and writes, and never for one that died.
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
    """Whether this is the process that writes files and talks."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
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
    """The whole of every array as NumPy, in every process; of typed keys their data.

    Arrays of which this process has only a part are gathered, one after the other: each is for a moment whole on every
    device.
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
    """An array that every process has whole, on the devices of a sharding; each process fills in its own part."""
    if not are_many():
        return jax.device_put(x, sharding)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(place(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    array = np.asarray(x)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def leave(code: int) -> None:
    """Ends this process at once after an error, where there are others: the usual way out waits for them."""
    if "jax" in sys.modules and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def __dir__() -> list[str]:
    return sorted(__all__)
