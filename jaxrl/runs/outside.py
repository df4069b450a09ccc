"""Environments outside JAX while they are in use: their failure is one line, and they are closed at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import jax

from jaxrl.runs.building import Built
from jaxrl.runs.errors import EnvironmentStopped


@contextlib.contextmanager
def environments_open(builts: Sequence[Built], how_to_continue: Callable[[], str]) -> Iterator[None]:
    """Inside, environments are stepped; at the end, also after an error, those outside JAX are closed.

    Args:
      builts: they hold the environments.
      how_to_continue: the end of the message, asked after a failure.

    Raises:
      EnvironmentStopped: an environment outside JAX has failed; the message says what went wrong in it.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        failures = [built.kind.failure(built.env) for built in builts]
        failure = next((failure for failure in failures if failure is not None), None)
        if failure is None:
            raise
        raise EnvironmentStopped(f"{str(failure).splitlines()[0]}; {how_to_continue()}") from error
    finally:
        for built in builts:
            built.kind.close(built.env)
