"""The run folder and its files.

```
config.json       all settings, see ``RunConfig``
versions.json     versions of jax, jaxrl and others, the device, the command line and the git commit
metrics.csv       one row for each member and chunk of updates
labels.sqlite     of runs with an outside teacher: questions and answers, see ``questions``
judge.sqlite      of runs with a judge: what its server said, see ``feedback.judge_cache``
tensorboard/      the same as events, averaged over seeds
checkpoints/      whole training states, the last few
snapshots/        of two-player runs: the players at several times of training, see ``snapshots``
scores.csv        of two-player runs: the scores of these players against a random one
diverged.txt      why training stopped, if a number was not finite
evaluation.json   the returns of the evaluation at the end; of a two-player run, the wins, draws and losses
curve.png         the learning curve
```
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl import processes
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError, RunError, written
from jaxrl.runs.objects import require_trust
from jaxrl.training.checkpoint import CheckpointError, Checkpoints


class RunFolder:
    """The paths of one run. Nothing is read or written until a method is called."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.versions_file = self.path / "versions.json"
        self.metrics_file = self.path / "metrics.csv"
        self.labels_file = self.path / "labels.sqlite"
        self.judge_file = self.path / "judge.sqlite"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint_folder = self.path / "checkpoints"
        self.snapshot_folder = self.path / "snapshots"
        self.failure_file = self.path / "diverged.txt"
        self.scores_file = self.path / "scores.csv"
        self.evaluation_file = self.path / "evaluation.json"
        self.curve_file = self.path / "curve.png"
        self.lock_file = self.path / "lock"

    def refuse_existing(self) -> None:
        """Refuses a path that is not empty or can't be written.

        Raises:
          RunError: the path is a file or a folder that is not empty, or it can't be written.
        """
        if self.config_file.exists():
            raise RunError(
                f"{self.path} is a run already; choose another --out, or go on with it: jaxrl resume {self.path}"
            )
        held = self.path.is_dir() and not [found for found in self.path.iterdir() if found != self.lock_file]
        if self.path.exists() and not held:
            what = "is not empty" if self.path.is_dir() else "is a file"
            raise RunError(f"{self.path} {what}; choose another --out")
        there = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise RunError(f"{self.path} can't be made, since {there} can't be written to; choose another --out")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and locks it against other processes; an empty folder is removed again.

        It tests whether checkpoints can be stored there before anything is compiled.

        Raises:
          RunError: another process trains in it, it can't be made, or it can't store checkpoints.
        """
        if not processes.is_first():
            yield
            return
        new = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if self.config_file.exists():
                raise RunError(
                    f"{self.path} can't be written to ({error.strerror}); a run is resumed in its own folder, so copy "
                    "it to where you can write"
                ) from error
            raise RunError(f"{self.path} can't be made ({error.strerror}); choose another --out") from error
        try:
            if not _lock(descriptor):
                raise RunError(f"another process trains in {self.path} now; choose another --out, or wait for its end")
            try:
                Checkpoints(self.checkpoint_folder).try_out()
                yield
            except CheckpointError as error:
                if self.config_file.exists():
                    raise
                raise RunError(f"{error}; choose another --out") from error
            finally:
                self.lock_file.unlink(missing_ok=True)
                for path in new:
                    with contextlib.suppress(OSError):  # the folder is not empty
                        path.rmdir()
        finally:
            os.close(descriptor)

    def create(self, config: RunConfig) -> None:
        """Makes the folder, with its configuration and the versions.

        Raises:
          RunError: the path exists, or can't be made.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} can't be made ({error.strerror}); choose another --out") from error
        self.write_config(config)
        self.versions_file.write_text(json.dumps(versions(), indent=2) + "\n")

    def write_config(self, config: RunConfig) -> None:
        """Writes the configuration completely, or leaves the old one."""
        draft = self.config_file.with_suffix(".tmp")
        draft.write_text(config.to_json())
        draft.replace(self.config_file)

    def read_config(self, *, trust: bool = False) -> RunConfig:
        """Reads the configuration for building the run.

        Args:
          trust: allow it to name modules that this user never trained with, see ``objects``.

        Raises:
          RunError: the folder is not a run.
          Untrusted: it names modules that this user has not trained with on this machine.
          ConfigError: its configuration can't be read.
        """
        config = self.peek_config()
        require_trust(config.imports(), self.path, trust)
        return config

    def peek_config(self) -> RunConfig:
        """Reads the configuration for display only; nothing may be built from it. Raises like ``read_config``."""
        if not self.config_file.is_file():
            reason = "there is no such folder"
            if self.path.exists():
                reason = "it has no config.json" if self.path.is_dir() else "it is a file"
            raise RunError(f"{self.path} is not a run: {reason}")
        try:
            text = self.config_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.config_file} can't be read ({error})") from error
        return RunConfig.from_json(text, str(self.config_file))

    def checkpoints(self, config: RunConfig) -> Checkpoints:
        """The checkpoints of this run, which only a run of the same identity can restore."""
        return Checkpoints(self.checkpoint_folder, identity=config.identity())

    def snapshots(self, config: RunConfig) -> Checkpoints:
        """The snapshots of this run, see ``runs.snapshots``."""
        return Checkpoints(self.snapshot_folder, keep=sys.maxsize, identity=config.identity())

    def write_evaluation(self, returns: Any, success: Any = None, *, explore: bool, num_steps: int) -> None:
        """Writes the returns ``[S, episodes]`` of an evaluation, and which episodes ended at their goal."""
        data = {"explore": explore, "num_steps": num_steps, "returns": [list(map(float, row)) for row in returns]}
        data |= {} if success is None else {"success": np.asarray(success).tolist()}
        self._write_evaluation(data)

    def write_scores(self, counts: Mapping[str, Any], *, opponent: str, num_steps: int) -> None:
        """Writes the results of an evaluation in a two-player game, ``[S, 2]`` per outcome: games begun, and others."""
        data = {"opponent": opponent, "num_steps": num_steps}
        data |= {name: np.asarray(count).tolist() for name, count in counts.items()}
        self._write_evaluation(data)

    def _write_evaluation(self, data: Mapping[str, Any]) -> None:
        draft = self.evaluation_file.with_suffix(".tmp")
        with written(self.evaluation_file, f"make room, then jaxrl evaluate {self.path}"):
            draft.write_text(json.dumps(data) + "\n")
            draft.replace(self.evaluation_file)


def _lock(descriptor: int) -> bool:
    """Locks an open file until the process ends; False if another process has the lock."""
    try:
        import fcntl
    except ImportError:  # on Windows there is no lock, only the check of the folder's configuration
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def versions() -> dict[str, str | None]:
    """The versions that a run depends on besides its configuration, and how it was started."""
    packages = ("jaxrl", "jax", "jaxlib", "flax", "optax", "distrax", "gymnax", "numpy")
    found = {name: _version(name) for name in packages}
    device = jax.devices()[0]
    return {
        **found,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
        "command": shlex.join(sys.argv),
        "folder": os.getcwd(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the folder that the run was started in, with "-dirty" where files differ from it; None without."""
    try:
        commit, changed = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
