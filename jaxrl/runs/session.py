"""A run under way: chunks of training, with logging and checkpoints in between."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxrl import processes
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.finish import draw_curve
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loggers import Logger, TensorBoard, WeightsAndBiases
from jaxrl.runs.metrics import MetricsWriter, summarize
from jaxrl.runs.notices import after_divergence
from jaxrl.runs.progress import RunProgress
from jaxrl.runs.snapshots import is_due, lean
from jaxrl.training.checkpoint import Checkpoints
from jaxrl.training.host import Chunk, first_bad, fit, updates_done
from jaxrl.training.interrupt import Interrupted
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable

CHUNKS = 64
"""A run is cut into so many, where that makes none too short."""

MIN_STEPS = 20_000
"""Environment steps of a chunk, all members together, at least: some 0.2 s on a laptop, so that logging is for free."""

POINTS = 16
"""Chunks of a run that is shorter than as many of those: a learning curve wants points, whatever it costs."""

CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints."""


class RunStopped(Exception):
    """A run that ended before its budget.

    Attributes:
      exit_code: of a command that ends with it.
      of_all_processes: all processes of a run end with it at once, so that they can wait for each other.
    """

    exit_code = 1
    of_all_processes = False


class Diverged(RunStopped):
    """Numbers that are not finite."""

    of_all_processes = True


class InterruptedRun(RunStopped):
    """A run that SIGINT or SIGTERM ended, after it was saved."""

    exit_code = 130
    of_all_processes = True


class PeerLost(RunStopped):
    """Another process of the run has stopped."""


@contextlib.contextmanager
def _of_peers(folder: RunFolder) -> Iterator[None]:
    """Says what it means that a computation on several processes failed.

    Raises:
      PeerLost: in place of the error of whatever was waiting for another process.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not processes.are_many():
            raise
        raise PeerLost(
            f"another process of this run has stopped or can't be reached ({' '.join(str(error).split())[:200]}); "
            f"start all of them again: jaxrl resume {folder.path} goes on from the last checkpoint"
        ) from error


def updates_per_chunk(config: RunConfig, num_updates: int) -> int:
    """Updates between two pauses. It follows from the configuration, so a resumed run pauses where it would have."""
    steps_per_update = config.num_envs * config.rollout_length * config.num_members
    long_enough = min(-(-MIN_STEPS // steps_per_update), -(-num_updates // POINTS))
    return max(-(-num_updates // CHUNKS), long_enough)


@jax.jit
def _finite_members(tree: object) -> jax.Array:
    """``[S]``, whether all floats of a member are finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # Axis by axis: to reshape a leaf that is split over devices would gather it.
    return jnp.stack([jnp.isfinite(leaf).all(range(1, leaf.ndim)) for leaf in leaves]).all(0)


class Session:
    """Trains a run from where ``state`` is to its end, and keeps its folder up to date.

    The folder exists, and its metrics are cut back to ``state``. Of several processes each has a session, and the first
    one's writes and talks.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        built: Built,
        program: Runnable,
        console: Console,
        *,
        wandb: bool = False,
    ) -> None:
        self.folder, self.config, self.built, self.program = folder, config, built, program
        self.console, self.wandb = console, wandb
        self.checkpoints: Checkpoints = folder.checkpoints(config)
        self.snapshots = folder.snapshots(config) if built.kind.keeps_snapshots else None
        self.chunk = updates_per_chunk(config, built.num_updates)
        self.steps_per_update = config.num_envs * config.rollout_length
        self._metrics = MetricsWriter(folder.metrics_file, config)
        self._loggers: Sequence[Logger] = ()
        self._last_save = time.monotonic()
        self._saved: list[int] = []
        self._failure: str | None = None

    def train(self, state: TrainState) -> TrainState:
        """Trains to the end.

        Raises:
          Diverged: a metric or a parameter was not finite; the last checkpoint is from before.
          InterruptedRun: Ctrl-C, and all is saved.
        """
        done = updates_done(state)
        if processes.is_first():
            self.folder.failure_file.unlink(missing_ok=True)
        # What all processes see alike: the first one may be deleting later ones.
        self._saved = [update for update in self.checkpoints.updates() if update <= done]
        with contextlib.ExitStack() as stack:
            self._loggers = self._make_loggers(done * self.steps_per_update) if processes.is_first() else ()
            for logger in self._loggers:
                stack.callback(logger.close)
            if not self._saved:
                # So that a run that breaks before the first minute is over has something to go back to.
                self._save(done, state)
                self._take_snapshot(-1, done, state)
            name = self.built.kind.label_of_return
            progress = stack.enter_context(RunProgress(self.config, self.console, self.built.num_updates, done, name))
            stack.enter_context(_of_peers(self.folder))
            try:
                state, _ = fit(
                    self.program,
                    num_updates=self.built.num_updates,
                    updates_per_chunk=self.chunk,
                    state=state,
                    on_chunk=lambda chunk: self._on_chunk(chunk, progress),
                    on_interrupt=lambda: progress.say("stopping after this chunk; Ctrl-C again to stop without saving"),
                )
            except Interrupted as interrupted:
                done = updates_done(interrupted.state)
                if not self._save(done, interrupted.state):
                    self._stop()
                if processes.is_first():
                    try:
                        draw_curve(self.folder)
                    except Exception as error:  # the run is saved, and how it goes on is what has to be said
                        progress.say(f"no curve: {error}")
                raise InterruptedRun(
                    f"interrupted and saved at update {done} of {self.built.num_updates}; "
                    f"go on with: jaxrl resume {self.folder.path}"
                ) from None
            if self._failure is not None or not self._save(self.built.num_updates, state):
                self._stop()
        return state

    def _make_loggers(self, env_steps: int) -> Sequence[Logger]:
        of_folder = TensorBoard(self.folder, self.config, env_steps)
        return [of_folder, WeightsAndBiases(self.folder, self.config, env_steps)] if self.wandb else [of_folder]

    def _on_chunk(self, chunk: Chunk, progress: RunProgress) -> bool:
        summary = summarize(chunk.metrics)
        if processes.is_first():
            self._metrics.append(chunk.updates, summary)
        for logger in self._loggers:
            logger.log(chunk.env_steps, summary)
        progress.update(chunk.updates, chunk.seconds, summary)
        bad = first_bad(chunk.metrics)
        if bad is not None:
            member, index, name = bad
            update = chunk.updates - chunk.metrics["episodes"].shape[1] + index + 1
            value = chunk.metrics[name][member, index]
            self._failure = f"{name} is {value} in update {update} of {self._label(member)}"
            return True
        self._take_snapshot(chunk.updates - chunk.metrics["episodes"].shape[1], chunk.updates, chunk.state)
        due = processes.anywhere(time.monotonic() - self._last_save > CHECKPOINT_SECONDS)
        if due and chunk.updates < self.built.num_updates:
            return not self._save(chunk.updates, chunk.state)
        return False

    def _save(self, update: int, state: TrainState) -> bool:
        """Saves unless the agent's state has numbers that are not finite; those may come one update before a NaN."""
        if self._failure is not None:
            return False
        finite = processes.fetch(_finite_members(state.agent))
        if not finite.all():
            label = self._label(int(np.argmin(finite)))
            self._failure = f"the state of {label} is not finite after update {update}"
            return False
        if update not in self._saved:
            self.checkpoints.save(update, state)
            self._saved.append(update)
        self._last_save = time.monotonic()
        return True

    def _take_snapshot(self, before: int, now: int, state: TrainState) -> None:
        if self.snapshots is None or not is_due(before, now, self.built.num_updates):
            return
        # As the first process sees its folder: all save together, or none.
        if processes.anywhere(processes.is_first() and now not in self.snapshots.updates()):
            self.snapshots.save(now, lean(state.agent))

    def _label(self, member: int) -> str:
        return self.config.members()[member].label(self.config.sweep)

    def _stop(self) -> None:
        steps = self.checkpoints.updates()
        kept = f"the last good checkpoint is update {max(steps)}" if steps else "there was no checkpoint yet"
        failure = f"{self._failure}; {kept}"
        if processes.is_first():
            self.folder.failure_file.write_text(failure)
        raise Diverged(f"stopped: {failure} ({self.folder.path}); {after_divergence(self.config, self.folder.path)}")
