"""Training of a run in chunks of updates, with logging, evaluation and checkpoints in between.

A chunk is the updates between two pauses. Its length follows from the configuration. If a chunk takes longer than
``CHUNK_SECONDS``, later ones are shorter, and config.json stores this, so that a resumed run pauses where the
uninterrupted one would have. Pauses only affect the rows of metrics.csv.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxrl import processes
from jaxrl.feedback.judge import JudgeError
from jaxrl.runs import outside_answers
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import Diverged, InterruptedRun, JudgeStopped, NotWritten, PeerLost
from jaxrl.runs.finish import draw_curve, on_one_device
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.judging import JudgeAnswers
from jaxrl.runs.kinds import Evaluator
from jaxrl.runs.loggers import Logger, TensorBoard, WeightsAndBiases
from jaxrl.runs.metrics import MetricsWriter, Summary, summarize
from jaxrl.runs.notices import after_divergence
from jaxrl.runs.outside_answers import OutsideAnswers
from jaxrl.runs.phases import Phase, handed_over
from jaxrl.runs.progress import RunProgress
from jaxrl.runs.questions import Questions
from jaxrl.runs.snapshots import is_due, without_replay
from jaxrl.training.checkpoint import CheckpointError, Checkpoints
from jaxrl.training.host import CALL_UPDATES, Chunk, first_bad, fit, updates_done
from jaxrl.training.interrupt import GivenUp, Interrupted, in_a_thread, interrupts_wait
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable

CHUNKS = 64
"""The number of chunks of a run, unless they would be too short."""

MIN_STEPS = 20_000
"""The least environment steps of a chunk, over all members: some 0.2 s on a laptop, so that logging costs little."""

POINTS = 16
"""The least number of chunks, so that a short run has a learning curve."""

CHUNK_SECONDS = 2.0
"""The most seconds of a chunk, approximately: an interrupt waits for its end."""

PATIENCE_SECONDS = 4.0
"""The most seconds that an interrupt waits for an update in progress, such as the fit of a world model."""

CHECKPOINT_SECONDS = 60.0
"""Seconds between two checkpoints."""

CURVE_SECONDS = 2.0
"""The most seconds for the curve of an interrupted run; ``jaxrl plot`` can draw it later."""

EVALUATION_SEED = 1
"""The seed of evaluations during training: the same episodes each time, and others than at the end."""


def updates_per_chunk(config: RunConfig, num_updates: int) -> int:
    """The number of updates between two pauses, unless they take too long."""
    steps_per_update = max(1, config.num_envs * config.rollout_length * config.num_members)
    long_enough = min(-(-MIN_STEPS // steps_per_update), -(-num_updates // POINTS))
    return max(-(-num_updates // CHUNKS), long_enough)


def updates_per_call(config: RunConfig, num_updates: int) -> int:
    """The most updates in one call of the device program; it depends on the configuration only."""
    return min(updates_per_chunk(config, num_updates), CALL_UPDATES)


def learning_starts(config: RunConfig) -> int:
    """The update at which a recipe with a warm-up starts to learn and becomes slower; 0 without one."""
    steps = config.num_envs * config.rollout_length
    return -(-config.hyperparameters.get("learning_starts", 0) // steps) if steps else 0


@contextlib.contextmanager
def _of_peers(folder: RunFolder) -> Iterator[None]:
    """Explains the failure of a computation on several processes.

    Raises:
      PeerLost: replaces the error of the process that waited for another one.
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


@jax.jit
def _finite_members(state: TrainState) -> jax.Array:
    """``[S]``, whether all floats of a member's agent are finite; True for an agent without any."""
    leaves = [leaf for leaf in jax.tree.leaves(state.agent) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # Axis by axis, because reshaping a leaf that is split over devices would gather it.
    finite = [jnp.isfinite(leaf).all(range(1, leaf.ndim)) for leaf in leaves]
    return jnp.stack([jnp.ones(state.updates.shape, bool), *finite]).all(0)


def _first_failure(chunk: Chunk) -> tuple[int, int, str] | None:
    """``first_bad``, with two exceptions.

    NaN is no failure while the agents' states are finite: a recipe reports it for a phase that is not due, such as a
    fit of its model. Returns of episodes that are not finite are the failure of an environment and come first.
    """
    returns = np.asarray(chunk.metrics["episode_return"])
    unpaid = np.argwhere((~np.isfinite(returns) & (chunk.metrics["episodes"] > 0)).T)
    if unpaid.size:
        return int(unpaid[0, 1]), int(unpaid[0, 0]), "episode_return"
    bad = first_bad(chunk.metrics)
    finite = np.asarray(processes.fetch(_finite_members(chunk.state)))
    if bad is None:
        return None
    if not finite.all():  # of these members, the first number that went wrong and was right before
        broken = {
            name: ~finite[:, None] & ~np.isnan(values).all(-1, keepdims=True) for name, values in chunk.metrics.items()
        }
        return first_bad({name: np.where(broken[name], values, 0) for name, values in chunk.metrics.items()}) or bad
    return first_bad({name: np.where(np.isnan(values), 0, values) for name, values in chunk.metrics.items()})


class Session:
    """Trains a run from ``state`` to its end and updates its folder.

    The folder exists, and its metrics end at ``state``. Each of several processes has a session; only the first one's
    writes and prints.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        phases: Sequence[Phase],
        programs: Sequence[Runnable],
        console: Console,
        *,
        wandb: bool = False,
        judge: JudgeAnswers | None = None,
    ) -> None:
        self.folder, self.config, self.phases, self.programs = folder, config, phases, programs
        self.console, self.wandb, self.judge = console, wandb, judge
        self.checkpoints: Checkpoints = folder.checkpoints(config)
        last = phases[-1]
        self.kind, self.num_updates = last.built.kind, last.last_update
        self.num_steps = last.first_step + last.built.num_updates * last.steps_per_update
        self.snapshots = folder.snapshots(config) if self.kind.keeps_snapshots else None
        self._phase = last
        self._outside: OutsideAnswers | None = None
        self._metrics = MetricsWriter(folder.metrics_file, config)
        self._loggers: Sequence[Logger] = ()
        self._last_save = self._sitting = time.monotonic()
        self._seconds = self._metrics.last_wall_time()
        self._saved: list[int] = []
        self._failure: str | None = None
        self._evaluator: tuple[Phase, Evaluator] | None = None
        self._interrupted: Callable[[], bool] = lambda: False
        self._say: Callable[[str], None] = lambda message: console.print(message, soft_wrap=True, highlight=False)

    def train(self, number: int, state: TrainState) -> TrainState:
        """Trains to the end, from a state of the phase with this index.

        Raises:
          Diverged: a metric or a parameter is not finite; the last checkpoint is from before.
          InterruptedRun: SIGINT or SIGTERM arrived, and everything is saved.
          NotWritten: a file can't be written, for example because the disk is full.
        """
        self._phase = self.phases[number]
        done = self._phase.first_update + updates_done(state)
        if processes.is_first():
            self.folder.failure_file.unlink(missing_ok=True)
        # What all processes see alike: the first one may be deleting later ones.
        self._saved = [update for update in self.checkpoints.updates() if update <= done]
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._written())
            # Around everything: a save in progress is completed when a signal arrives.
            self._interrupted = stack.enter_context(interrupts_wait())
            self._loggers = self._make_loggers(self._log_step(done)) if processes.is_first() else ()
            for logger in self._loggers:
                stack.callback(logger.close)
            if not self._saved:
                # A run that fails before its first minute needs a checkpoint too.
                self._save(done, state)
                if processes.is_first():
                    # The files may have been written elsewhere or differently.
                    self.checkpoints.verify(done)
                self._take_snapshot(-1, done, state)
            progress = stack.enter_context(
                RunProgress(self.config, self.console, self.num_steps, self._env_steps(done), self.kind.label_of_return)
            )
            self._say = progress.say
            if outside_answers.teacher_of(self.config) is not None:
                self._outside = self._make_outside()
                state = self._exchanged(self._phase, state)
            stack.enter_context(_of_peers(self.folder))
            self._catch_up(done, state)
            while True:
                state = self._train_phase(number, state, progress)
                if number + 1 == len(self.phases) or self._failure is not None:
                    break
                if not self._save(self._phase.last_update, state):
                    break
                state = handed_over(self._phase, state, self.programs[number + 1].start())
                number += 1
                self._phase = self.phases[number]
            if self._failure is not None or not self._save(self.num_updates, state, final=True):
                self._stop()
            if processes.any_process(self._interrupted()):
                raise InterruptedRun(
                    f"interrupted; all {self.num_updates} updates are done and saved, and what is left is the "
                    f"evaluation: jaxrl evaluate {self.folder.path}"
                )
        return state

    def _train_phase(self, number: int, state: TrainState, progress: RunProgress) -> TrainState:
        phase = self.phases[number]
        say = "stopping after this chunk; Ctrl-C again to stop without saving"
        try:
            state, _ = fit(
                self.programs[number],
                num_updates=phase.built.num_updates,
                updates_per_chunk=lambda done: self._length(phase, done),
                seconds_per_chunk=CHUNK_SECONDS,
                updates_per_call=updates_per_call(phase.config, phase.built.num_updates),
                slower_from=[learning_starts(phase.config)],
                state=state,
                on_chunk=lambda chunk: self._on_chunk(chunk, progress),
                on_interrupt=lambda: progress.say(say),
                # Several processes end together, after the update.
                patience=None if processes.are_many() else PATIENCE_SECONDS,
                keep_metrics=False,
            )
        except GivenUp:
            raise InterruptedRun(
                f"interrupted in an update that takes more than {PATIENCE_SECONDS:.0f} s, which is given up; the last "
                f"checkpoint is update {self._saved[-1]} of {self.num_updates}; "
                f"go on with: jaxrl resume {self.folder.path}"
            ) from None
        except Interrupted as interrupted:
            done = phase.first_update + updates_done(interrupted.state)
            if not self._save(done, interrupted.state, final=True):
                self._stop()
            if processes.is_first():
                try:
                    in_a_thread(lambda: draw_curve(self.folder), seconds=CURVE_SECONDS)
                except GivenUp:
                    progress.say(f"no curve, since it takes too long; jaxrl plot {self.folder.path} draws it")
                except Exception as error:  # the run is saved, and the message below says how to go on
                    progress.say(f"no curve: {type(error).__name__}: {error}")
            raise InterruptedRun(
                f"interrupted and saved at update {done} of {self.num_updates}; "
                f"go on with: jaxrl resume {self.folder.path}"
            ) from None
        return state

    def _length(self, phase: Phase, done: int) -> int:
        """The number of updates in the chunk that starts after ``done`` updates of a phase."""
        at = phase.first_update + done
        told = [length for update, length in self.config.chunks if phase.first_update <= update <= at]
        length = told[-1] if told else updates_per_chunk(phase.config, phase.built.num_updates)
        every, session = self._updates_per_evaluation(phase), outside_answers.next_session(phase.config, done)
        if session is not None:
            length = min(length, session - done)
        return length if every is None else min(length, every - done % every)

    def _exchanged(self, phase: Phase, state: TrainState) -> TrainState:
        """The state with the answers that came from outside so far, if the teacher of the phase is there."""
        if self._outside is None or outside_answers.teacher_of(phase.config) is None:
            return state
        done = updates_done(state)
        is_session = done > 0 and outside_answers.next_session(phase.config, done - 1) == done
        wait = is_session and done < phase.built.num_updates
        return self._outside.exchange(state, phase.first_update + done, wait=wait)

    def _make_outside(self) -> OutsideAnswers:
        """The exchange with those who answer from outside: persons, or the run's judge, which is tried out."""
        judge = self.judge
        if judge is None:
            return OutsideAnswers(self.folder, self._say, self._interrupted)

        def unless_interrupted(call: Callable[[], None]) -> None:
            with contextlib.suppress(GivenUp):
                in_a_thread(call, until=self._interrupted)

        def answer(questions: Questions) -> None:
            unless_interrupted(lambda: judge.answer(questions, self._say))

        unless_interrupted(lambda: judge.try_out(self._say))
        return OutsideAnswers(
            self.folder, self._say, self._interrupted, answer, "the run's judge, once it can be asked"
        )

    def _updates_per_evaluation(self, phase: Phase) -> int | None:
        if self.config.eval_every is None or not phase.steps_per_update:
            return None
        return max(1, self.config.eval_every // phase.steps_per_update)

    def _env_steps(self, update: int) -> int:
        """Environment steps per seed after a number of updates of the run."""
        return self._phase.first_step + (update - self._phase.first_update) * self._phase.steps_per_update

    def _log_step(self, update: int) -> int:
        """The step of TensorBoard and wandb: environment steps; updates in a run with a stage that takes none."""
        return self._env_steps(update) if all(phase.steps_per_update for phase in self.phases) else update

    def _make_loggers(self, step: int) -> Sequence[Logger]:
        of_folder = TensorBoard(self.folder, self.config, step)
        return [of_folder, WeightsAndBiases(self.folder, self.config)] if self.wandb else [of_folder]

    def _on_chunk(self, chunk: Chunk, progress: RunProgress) -> bool | TrainState:
        phase, count = self._phase, chunk.metrics["episodes"].shape[1]
        now = phase.first_update + chunk.updates
        self._note_length(phase, chunk.updates - count, count)
        summary = summarize(chunk.metrics)
        summary |= self._speed(phase, count)
        counts = self.kind.counts(phase.built.env)
        summary |= {name: np.full(self.config.num_members, float(number)) for name, number in counts.items()}
        progress.update(self._env_steps(now), chunk.seconds, summary)
        bad = _first_failure(chunk)
        if bad is None:
            summary |= self._evaluation(phase, chunk.updates, chunk.state)
        env_steps = self._env_steps(now)
        if processes.is_first():
            self._metrics.append(now, env_steps, summary)
        for logger in self._loggers:
            logger.log(self._log_step(now), summary)
        if bad is not None:
            member, index, name = bad
            value = chunk.metrics[name][member, index]
            self._failure = f"{name} is {value} in update {now - count + index + 1} of {self._label(member)}"
            return True
        self._take_snapshot(now - count, now, chunk.state)
        try:
            state = self._exchanged(phase, chunk.state)
        except JudgeError:
            self._save(now, chunk.state, final=True)
            raise
        due = processes.any_process(time.monotonic() - self._last_save > CHECKPOINT_SECONDS)
        if due and now < phase.last_update and not self._save(now, state):
            return True
        return state

    def _note_length(self, phase: Phase, before: int, count: int) -> None:
        """Stores that chunks are shorter from here on, after one that took too long."""
        if count >= min(self._length(phase, before), phase.built.num_updates - before):
            return
        at = phase.first_update + before
        kept = tuple(entry for entry in self.config.chunks if entry[0] < at)
        self.config = dataclasses.replace(self.config, chunks=(*kept, (at, count)))
        if processes.is_first():
            self.folder.write_config(self.config)

    def _speed(self, phase: Phase, count: int) -> Summary:
        """Seconds since the start of the run, earlier sessions included, and steps per second of all members."""
        members, now = self.config.num_members, time.monotonic()
        passed, self._sitting = max(now - self._sitting, 1e-9), now
        self._seconds += passed
        speed = count * phase.steps_per_update * members / passed
        return {"wall_time": np.full(members, self._seconds), "steps_per_second": np.full(members, speed)}

    def _catch_up(self, done: int, state: TrainState) -> None:
        """Evaluates a resumed state where an interrupt gave its evaluation up, and fills its row of metrics.csv."""
        phase, columns = self._phase, self.kind.column_names
        if self._updates_per_evaluation(phase) is None:
            return
        # What the first process sees, so that all evaluate together or not at all.
        if processes.any_process(processes.is_first() and self._metrics.lacks(done, columns)):
            summary = self._evaluation(phase, done - phase.first_update, state)
            if processes.is_first():
                self._metrics.fill(done, summary)
            for logger in self._loggers:
                logger.log(self._log_step(done), summary)

    def _evaluation(self, phase: Phase, updates: int, state: TrainState) -> Summary:
        """The columns of an evaluation without exploration; NaN between evaluations and after an interrupt.

        Args:
          phase: the phase.
          updates: updates of the phase so far.
          state: the state after them.
        """
        every = self._updates_per_evaluation(phase)
        if every is None:
            return {}
        if updates % every and updates != phase.built.num_updates:
            return self.kind.no_columns(self.config.num_members)
        agents = without_replay(state.agent) if self.config.devices == 1 else on_one_device(state.agent)
        if self._evaluator is None or self._evaluator[0] is not phase:
            self._evaluator = phase, self.kind.evaluator(phase.built, self.config.eval_episodes, False)
        evaluate = self._evaluator[1]
        try:
            outcome = in_a_thread(lambda: evaluate(agents, EVALUATION_SEED), until=self._interrupted)
        except GivenUp:
            return self.kind.no_columns(self.config.num_members)
        return self.kind.columns(outcome)

    def _save(self, update: int, state: TrainState, *, final: bool = False) -> bool:
        """Saves unless the agent's state has numbers that are not finite, which can precede a NaN metric by one update.

        If a checkpoint during the run can't be written, it is tried again a minute later, and the run continues.
        """
        if self._failure is not None:
            return False
        finite = processes.fetch(_finite_members(state))
        if not finite.all():
            label = self._label(int(np.argmin(finite)))
            self._failure = f"the state of {label} is not finite after update {update}"
            return False
        self._last_save = time.monotonic()
        if update in self._saved:
            return True
        try:
            self.checkpoints.save(update, state)
        except CheckpointError as error:
            if final or not self._saved:
                raise
            self._say(f"{error}; the last good checkpoint is update {self._saved[-1]}, and the run goes on")
            return True
        self._saved.append(update)
        return True

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Reports a file that can't be written or a judge that refuses, what was saved, and how to continue."""
        try:
            yield
        except JudgeError as error:
            good = self.checkpoints.readable()
            raise JudgeStopped(
                f"{error}; saved at update {good[-1] if good else 0} of {self.num_updates}; go on with: "
                f"jaxrl resume {self.folder.path}"
            ) from error
        except (OSError, CheckpointError) as error:
            if isinstance(error, CheckpointError):
                problem = str(error)
            else:
                problem = f"{error.filename or 'a file of the run'} can't be written ({error.strerror or error})"
            good = self.checkpoints.readable()
            kept = f"the last good checkpoint is update {good[-1]}" if good else "there is no checkpoint yet"
            raise NotWritten(
                f"{problem}; {kept} of {self.num_updates}; make room, then go on with: jaxrl resume {self.folder.path}"
            ) from error

    def _take_snapshot(self, before: int, now: int, state: TrainState) -> None:
        if self.snapshots is None or not is_due(before, now, self.num_updates) or self._phase is not self.phases[-1]:
            return
        # The decision of the first process, so that all save together or not at all.
        if processes.any_process(processes.is_first() and now not in self.snapshots.updates()):
            self.snapshots.save(now, without_replay(state.agent))

    def _label(self, member: int) -> str:
        return self.config.members()[member].label(self.config.sweep)

    def _stop(self) -> None:
        steps = self.checkpoints.updates()
        kept = f"the last good checkpoint is update {max(steps)}" if steps else "there was no checkpoint yet"
        failure = f"{self._failure}; {kept}"
        if processes.is_first():
            self.folder.failure_file.write_text(failure)
        advice = after_divergence(self.config, self.folder.path, failure)
        raise Diverged(f"stopped: {failure} ({self.folder.path}); {advice}")
