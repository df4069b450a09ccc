"""TensorBoard events, and Weights & Biases where it is asked for: means over seeds, one curve a value of a sweep."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorboardX

from jaxrl.runs.config import ConfigError, RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import Summary


class Logger(Protocol):
    """Something that is told the metrics of each chunk."""

    def log(self, env_steps: int, summary: Summary) -> None:
        """Takes ``[S]`` a metric."""
        ...

    def close(self) -> None:
        """Writes out what is still held."""
        ...


def curves(config: RunConfig, summary: Summary) -> Iterator[tuple[str, dict[str, float]]]:
    """For each value of the sweep its name ("" without a sweep), and its scalars.

    A metric is averaged over the seeds that have one; returns have their least and greatest seed beside the mean.
    """
    names = [""] if config.sweep is None else [f"{config.sweep.name}={value:g}" for value in config.sweep.values]
    for index, name in enumerate(names):
        scalars = {}
        for metric, values in summary.items():
            seeds = values.reshape(len(names), config.seeds)[index]
            known = seeds[~np.isnan(seeds)]
            if known.size:
                scalars[metric] = float(known.mean())
                if metric == "episode_return" and config.seeds > 1:
                    scalars.update({f"{metric}_min": float(known.min()), f"{metric}_max": float(known.max())})
        yield name, scalars


class TensorBoard:
    """Event files under the run's folder, one series a value of the sweep."""

    def __init__(self, folder: RunFolder, config: RunConfig, env_steps: int) -> None:
        """Events after ``env_steps``, of a run that went further before it was resumed, are hidden."""
        self.config = config
        self.writers = {
            name: tensorboardX.SummaryWriter(
                str(folder.tensorboard / name), purge_step=env_steps + 1 if env_steps else None
            )
            for name, _ in curves(config, {})
        }

    def log(self, env_steps: int, summary: Summary) -> None:
        """Takes ``[S]`` a metric."""
        for name, scalars in curves(self.config, summary):
            for metric, value in scalars.items():
                self.writers[name].add_scalar(metric, value, env_steps)

    def close(self) -> None:
        """Writes out what is still held."""
        for writer in self.writers.values():
            writer.close()


class WeightsAndBiases:
    """A run in the project "jaxrl"; a resumed run goes on in the same one."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        wandb = import_wandb()
        path = folder.path.resolve()
        self.config = config
        self.run = wandb.init(
            project="jaxrl",
            name=path.name,
            id=hashlib.sha256(str(path).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(path),
            config=dataclasses.asdict(config),
        )

    def log(self, env_steps: int, summary: Summary) -> None:
        """Takes ``[S]`` a metric."""
        for name, scalars in curves(self.config, summary):
            prefix = f"{name}/" if name else ""
            self.run.log({f"{prefix}{metric}": value for metric, value in scalars.items()}, step=env_steps)

    def close(self) -> None:
        """Writes out what is still held."""
        self.run.finish()


def import_wandb() -> Any:
    """The module, which is an extra.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("--wandb needs Weights & Biases: pip install 'jaxrl[wandb]'") from error
    return wandb
