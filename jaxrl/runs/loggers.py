"""TensorBoard events, and Weights & Biases on request: means over seeds, with one series per value of a sweep."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import hparams, scalar

from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import Summary


class Logger(Protocol):
    """The interface of loggers, which get the metrics of each chunk of updates."""

    def log(self, step: int, summary: Summary) -> None:
        """Takes the metrics of a chunk, ``[S]`` each."""
        ...

    def close(self) -> None:
        """Writes out everything that is still buffered."""
        ...


def curves(config: RunConfig, summary: Summary) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields the name ("" without a sweep) and the scalars of each value of the sweep.

    A metric is averaged over the seeds that have one. Returns also have the lowest and the highest mean of any seed.
    """
    names = [""] if config.sweep is None else [config.sweep.label(index) for index in range(len(config.sweep.values))]
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

    A setting that is None has no entry; each series has its own value of a swept one.
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


class TensorBoard:
    """Event files in the run's folder, with one series per value of the sweep and its hyper-parameters.

    They are written immediately. The library's own writer uses a thread and hangs when the disk is full.
    """

    METRICS = ("episode_return", "evaluation_return", "evaluation_score")
    """Columns of the HParams table."""

    def __init__(self, folder: RunFolder, config: RunConfig, step: int) -> None:
        """Hides events after ``step``, from which an earlier, longer run was resumed."""
        self.config = config
        self.writers: dict[str, EventsWriter] = {}
        self.ends: dict[str, Any] = {}
        for index, (name, _) in enumerate(curves(config, {})):
            place = folder.tensorboard / name
            place.mkdir(parents=True, exist_ok=True)
            # File names contain seconds: a number distinguishes files made in the same second.
            writer = EventsWriter(str(place / "events"), f".{len(list(place.iterdir()))}")
            if step:
                start = SessionLog(status=SessionLog.START)
                writer.write_event(Event(step=step + 1, wall_time=time.time(), session_log=start))
            sweep = config.sweep
            swept = {} if sweep is None else dict(zip(sweep.names, sweep.values[index], strict=True))
            experiment, begin, self.ends[name] = hparams(hyperparameters(config) | swept, dict.fromkeys(self.METRICS))
            for summary in (experiment, begin):
                writer.write_event(Event(wall_time=time.time(), summary=summary))
            writer.flush()
            self.writers[name] = writer

    def log(self, step: int, summary: Summary) -> None:
        """Takes the metrics of a chunk, ``[S]`` each."""
        for name, scalars in curves(self.config, summary):
            for metric, value in scalars.items():
                event = Event(step=step, wall_time=time.time(), summary=scalar(metric, value))
                self.writers[name].write_event(event)
            self.writers[name].flush()

    def close(self) -> None:
        """Closes the files."""
        for name, writer in self.writers.items():
            with contextlib.suppress(OSError):  # the disk is full, which was reported before
                writer.write_event(Event(wall_time=time.time(), summary=self.ends[name]))
            writer.close()


class WeightsAndBiases:
    """A run in the project "jaxrl". A resumed run continues the same one."""

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

    def log(self, step: int, summary: Summary) -> None:
        """Takes the metrics of a chunk, ``[S]`` each."""
        for name, scalars in curves(self.config, summary):
            prefix = f"{name}/" if name else ""
            named = {f"{prefix}{metric}": value for metric, value in scalars.items()}
            self.run.log(named, step=step)

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
