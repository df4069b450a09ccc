"""Trainers: one program on the devices of a mesh, or threads that share one state.

Only the table ``TRAINERS`` distinguishes them; a new trainer is a new row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from jax.sharding import Mesh

from jaxrl import processes
from jaxrl.arguments import check_count
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.training import parallel
from jaxrl.training.asynchronous import Asynchronous, check_shareable
from jaxrl.training.program import Program, Runnable
from jaxrl.types import PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built


class Trainer(NamedTuple):
    """A way to train the agents of a run.

    Attributes:
      name: the argument that selects it.
      includes: ``(config)``, whether a configuration selects it.
      check: ``(config)``; raises ConfigError for configurations that it can't train.
      check_state: ``(state)``; raises TypeError or ValueError for agents that it can't train.
      sets: hyper-parameters that it sets, in recipes that have them.
      because: the reason, for messages that refuse other values.
      make_mesh: ``(config)``, the mesh of devices; None for one device.
      make: ``(config, built, mesh)``, the program that ``training.host.fit`` runs.
      notices: ``(config)``, sentences to print before it starts.
    """

    name: str
    includes: Callable[[RunConfig], bool]
    check: Callable[[RunConfig], None]
    check_state: Callable[[PyTree], None]
    sets: Mapping[str, Any]
    because: str
    make_mesh: Callable[[RunConfig], Mesh | None]
    make: Callable[[RunConfig, Built, Mesh | None], Runnable]
    notices: Callable[[RunConfig], Iterator[str]]


def _check_threads(config: RunConfig) -> None:
    check_count("workers", config.workers)
    for name in ("devices", "seeds"):
        if getattr(config, name) != 1:
            raise ConfigError(f"{name}: got {getattr(config, name)}, must be 1 with workers, which share one state")
    if config.sweep is not None:
        raise ConfigError(
            "sweep: got one together with workers, which share one state; train one value after the other"
        )
    for stage in config.phases():
        if stage.rollout_length < 1:
            raise ConfigError(f"rollout_length: got {stage.rollout_length}, must be at least 1 with workers")


def _make_threads(config: RunConfig, built: Built, mesh: Mesh | None) -> Runnable:
    return Asynchronous(
        built.agent(0),
        built.env,
        built.params,
        built.keys[0],
        num_workers=config.workers,
        num_envs=config.num_envs,
        rollout_length=config.rollout_length,
    )


def _notices_of_threads(config: RunConfig) -> Iterator[str]:
    yield (
        f"{config.workers} workers: the order of their gradients differs from run to run, so this run cannot be "
        "repeated or resumed bit for bit; without --workers it can"
    )


def _make_mesh(config: RunConfig) -> Mesh | None:
    if config.devices == config.seed_devices == 1 and not processes.are_many():
        return None
    try:
        mesh = parallel.make_mesh(config.devices, seeds=config.seed_devices)
        parallel.check_split(mesh, config.num_envs, config.num_members)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return mesh


def _make_program(config: RunConfig, built: Built, mesh: Mesh | None) -> Runnable:
    return Program(
        built.make_agent,
        built.env,
        built.params,
        built.keys,
        hyper=built.hyper,
        num_envs=config.num_envs,
        rollout_length=config.rollout_length,
        mesh=mesh,
    )


TRAINERS = {
    trainer.name: trainer
    for trainer in (
        Trainer(
            name="workers",
            includes=lambda config: config.workers != 0,
            check=_check_threads,
            check_state=check_shareable,
            sets={"delay": 0},
            because="workers have delayed gradients already",
            make_mesh=lambda config: None,
            make=_make_threads,
            notices=_notices_of_threads,
        ),
        Trainer(
            name="devices",
            includes=lambda config: True,
            check=lambda config: None,
            check_state=lambda state: None,
            sets={},
            because="",
            make_mesh=_make_mesh,
            make=_make_program,
            notices=lambda config: iter(()),
        ),
    )
}
"""The trainers by name; the first that includes a configuration trains it, if the kind of the run allows it."""


def trainer_of(config: RunConfig) -> Trainer:
    """The trainer that a configuration selects."""
    return next(trainer for trainer in TRAINERS.values() if trainer.includes(config))


def with_trainer_settings(config: RunConfig, given: Collection[str], write: Callable[[str], str] = str) -> RunConfig:
    """The configuration with the hyper-parameters that its trainer sets.

    Args:
      config: the configuration of a new run.
      given: the names of the hyper-parameters that the user set.
      write: function from an argument's name to its form in the user's input.

    Raises:
      ConfigError: the user set a hyper-parameter that the trainer sets.
    """
    trainer = trainer_of(config)
    sets = {name: value for name, value in trainer.sets.items() if name in config.hyperparameters}
    for name in sets:
        if name in given:
            leave_out = f"leave out {write(name)} or {write(trainer.name)}"
            raise ConfigError(f"{write(name)}: {trainer.because}; {leave_out}")
    return dataclasses.replace(config, hyperparameters={**config.hyperparameters, **sets})
