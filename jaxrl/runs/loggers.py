"""TensorBoard events, and Weights & Biases on request: means over seeds, a series for each value of a sweep."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorboardX
from tensorboardX.summary import hparams

from jaxrl.runs.config import ConfigError, RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import Summary


class Logger(Protocol):
    """Something that is told the metrics of each chunk."""

    def log(self, env_steps: int, summary: Summary) -> None:
        """Takes the metrics of a chunk, ``[S]`` each."""
        ...

    def close(self) -> None:
        """Writes out everything that is still buffered."""
        ...


def curves(config: RunConfig, summary: Summary) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields the name ("" without a sweep) and the scalars of each value of the sweep.

    A metric is averaged over the seeds that have one. Returns also have the lowest and the highest mean of a seed.
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


def hyperparameters(config: RunConfig) -> dict[str, bool | float | str]:
    """The settings of a run, by the names of their flags: the table of TensorBoard's HParams tab.

    A setting that is None has no entry; of a swept one, each series has its own value.
    """
    names = ("recipe", "environment", "seed", "seeds", "num_steps", "num_envs", "rollout_length")
    settings = {name: getattr(config, name) for name in names}
    for part, chosen in config.parts.items():
        settings[part] = chosen.name
        settings |= {f"{part}.{name}": value for name, value in chosen.settings.items()}
    settings |= config.hyperparameters
    plain = (bool, int, float, str)
    return {
        name: value if isinstance(value, plain) else str(value) for name, value in settings.items() if value is not None
    }


class Clock:
    """Wall time and speed of the training between two chunks."""

    def __init__(self, config: RunConfig, env_steps: int) -> None:
        """Starts at ``env_steps`` of each seed."""
        self.members, self.env_steps = config.num_members, env_steps
        self.start = self.last = time.monotonic()

    def read(self, env_steps: int) -> dict[str, float]:
        """Seconds since the start, and steps of all members per second since the last reading."""
        now = time.monotonic()
        speed = self.members * (env_steps - self.env_steps) / max(now - self.last, 1e-9)
        self.env_steps, self.last = env_steps, now
        return {"wall_time": now - self.start, "steps_per_second": speed}


class TensorBoard:
    """Event files in the run's folder, with a series for each value of the sweep, and its hyper-parameters."""

    METRICS = ("episode_return", "evaluation_return", "evaluation_score")
    """Columns of the HParams table."""

    def __init__(self, folder: RunFolder, config: RunConfig, env_steps: int) -> None:
        """Hides events after ``env_steps``: the run went further once, and was then resumed from there."""
        self.config, self.clock = config, Clock(config, env_steps)
        self.writers, self.ends = {}, {}
        values = [None] if config.sweep is None else list(config.sweep.values)
        for (name, _), value in zip(curves(config, {}), values, strict=True):
            writer = tensorboardX.SummaryWriter(
                str(folder.tensorboard / name), purge_step=env_steps + 1 if env_steps else None
            )
            swept = {} if config.sweep is None else {config.sweep.name: value}
            # The writer's own add_hparams would make a folder of another run for them.
            experiment, begin, self.ends[name] = hparams(hyperparameters(config) | swept, dict.fromkeys(self.METRICS))
            writer.file_writer.add_summary(experiment)
            writer.file_writer.add_summary(begin)
            self.writers[name] = writer

    def log(self, env_steps: int, summary: Summary) -> None:
        """Takes the metrics of a chunk, ``[S]`` each."""
        time_and_speed = self.clock.read(env_steps)
        for name, scalars in curves(self.config, summary):
            for metric, value in (time_and_speed | scalars).items():
                self.writers[name].add_scalar(metric, value, env_steps)

    def close(self) -> None:
        """Writes out everything that is still buffered."""
        for name, writer in self.writers.items():
            writer.file_writer.add_summary(self.ends[name])
            writer.close()


class WeightsAndBiases:
    """A run in the project "jaxrl". A resumed run continues the same one."""

    def __init__(self, folder: RunFolder, config: RunConfig, env_steps: int) -> None:
        """Starts at ``env_steps``, which a resumed run has behind it."""
        wandb = import_wandb()
        path = folder.path.resolve()
        self.config, self.clock = config, Clock(config, env_steps)
        self.run = wandb.init(
            project="jaxrl",
            name=path.name,
            id=hashlib.sha256(str(path).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(path),
            config=dataclasses.asdict(config),
        )

    def log(self, env_steps: int, summary: Summary) -> None:
        """Takes the metrics of a chunk, ``[S]`` each."""
        time_and_speed = self.clock.read(env_steps)
        for name, scalars in curves(self.config, summary):
            prefix = f"{name}/" if name else ""
            named = {f"{prefix}{metric}": value for metric, value in scalars.items()}
            self.run.log(time_and_speed | named, step=env_steps)

    def close(self) -> None:
        """Writes out everything that is still buffered."""
        self.run.finish()


def import_wandb() -> Any:
    """Returns the module, which is an optional dependency.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("--wandb needs Weights & Biases: pip install 'jaxrl[wandb]'") from error
    return wandb
