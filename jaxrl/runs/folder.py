"""The run folder: where everything about a run lies.

```
config.json       what was asked for, see ``RunConfig``
versions.json     of jax, jaxrl and the rest, and the device
metrics.csv       one row for each member and chunk of updates
tensorboard/      the same as events, averaged over seeds
checkpoints/      whole training states, the last few
snapshots/        of games for two: the players at moments of their training, see ``snapshots``
scores.csv        of games for two: the scores of those players against a random one
diverged.txt      why training stopped, if a number was not finite
evaluation.json   the returns of the evaluation at the end; of a game for two, what was won, drawn and lost
curve.png         the learning curve
```
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.runs.config import RunConfig
from jaxrl.training.checkpoint import Checkpoints


class RunError(RuntimeError):
    """A folder that is no run, or that is one already."""


class RunFolder:
    """The paths of one run. Nothing is read or written before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.versions_file = self.path / "versions.json"
        self.metrics_file = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint_folder = self.path / "checkpoints"
        self.snapshot_folder = self.path / "snapshots"
        self.failure_file = self.path / "diverged.txt"
        self.scores_file = self.path / "scores.csv"
        self.evaluation_file = self.path / "evaluation.json"
        self.curve_file = self.path / "curve.png"

    @property
    def is_self_play(self) -> bool:
        """Whether its agents play a game for two against themselves: such runs leave snapshots from the start."""
        return self.snapshot_folder.exists()

    def refuse_existing(self) -> None:
        """Refuses a path where something is already, or where nothing can be made.

        Raises:
          RunError: the path is a file or a folder with something in it, or it lies where nothing can be written.
        """
        if self.config_file.exists():
            raise RunError(
                f"{self.path} is a run already; choose another --out, or go on with it: jaxrl resume {self.path}"
            )
        if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            what = "is not empty" if self.path.is_dir() else "is a file"
            raise RunError(f"{self.path} {what}; choose another --out")
        there = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise RunError(f"{self.path} can't be made, since {there} can't be written to; choose another --out")

    def create(self, config: RunConfig) -> None:
        """Makes the folder, with its configuration and the versions.

        Raises:
          RunError: there is something at this path, or nothing can be made there.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} can't be made ({error.strerror}); choose another --out") from error
        self.write_config(config)
        self.versions_file.write_text(json.dumps(versions(), indent=2) + "\n")

    def write_config(self, config: RunConfig) -> None:
        """Writes the configuration whole, or leaves the old one."""
        draft = self.config_file.with_suffix(".tmp")
        draft.write_text(config.to_json())
        draft.replace(self.config_file)

    def read_config(self) -> RunConfig:
        """Reads the configuration.

        Raises:
          RunError: there is no run here.
          ConfigError: its configuration can't be read.
        """
        if not self.config_file.is_file():
            reason = "there is no such folder"
            if self.path.exists():
                reason = "it has no config.json" if self.path.is_dir() else "it is a file"
            raise RunError(f"{self.path} is not a run: {reason}")
        return RunConfig.from_json(self.config_file.read_text(), str(self.config_file))

    def checkpoints(self, config: RunConfig) -> Checkpoints:
        """The checkpoints of this run, which only a run of the same identity can restore."""
        return Checkpoints(self.checkpoint_folder, identity=config.identity())

    def snapshots(self, config: RunConfig) -> Checkpoints:
        """The snapshots of this run, see ``runs.snapshots``."""
        return Checkpoints(self.snapshot_folder, keep=sys.maxsize, identity=config.identity())

    def write_evaluation(self, returns: Any, *, explore: bool, num_steps: int) -> None:
        """Keeps the returns ``[S, episodes]`` of an evaluation."""
        data = {"explore": explore, "num_steps": num_steps, "returns": [list(map(float, row)) for row in returns]}
        self.evaluation_file.write_text(json.dumps(data) + "\n")

    def write_scores(self, counts: Mapping[str, Any], *, opponent: str, num_steps: int) -> None:
        """Keeps what an evaluation in a game for two came to, by outcome ``[S, 2]``: games begun, and the others."""
        data = {"opponent": opponent, "num_steps": num_steps}
        data |= {name: np.asarray(count).tolist() for name, count in counts.items()}
        self.evaluation_file.write_text(json.dumps(data) + "\n")


def versions() -> dict[str, str]:
    """What a run depends on beside its configuration."""
    packages = ("jaxrl", "jax", "jaxlib", "flax", "optax", "distrax", "gymnax", "numpy")
    found = {name: _version(name) for name in packages}
    device = jax.devices()[0]
    return {
        **found,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
