"""``jaxrl train``: a population of seeds, from its flags to its table of returns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jaxrl import processes
from jaxrl.cli import flags as train_flags
from jaxrl.cli.errors import UsageError
from jaxrl.cli.memory import describe_state, dry_run, refuse_a_crowd, refuse_what_cannot_fit
from jaxrl.cli.run_flags import print_help
from jaxrl.runs.building import Built, build, make_mesh, make_program
from jaxrl.runs.config import ConfigError, RunConfig
from jaxrl.runs.console import make_console
from jaxrl.runs.finish import finish
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import transfer
from jaxrl.runs.loggers import import_wandb
from jaxrl.runs.notices import chance
from jaxrl.runs.parts import parts_of
from jaxrl.runs.session import Session, updates_per_chunk
from jaxrl.training.interrupt import interrupts_wait
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable

ABOUT = """Trains a population of seeds in one program; writes a run folder.
  jaxrl train ppo CartPole-v1 --seeds 8
  jaxrl train ppo CartPole-v1 --seeds 4 --sweep learning_rate=1e-4,3e-4,1e-3

These are the flags of every recipe. jaxrl train RECIPE --help adds its hyper-parameters, \
jaxrl train RECIPE ENV --help their defaults there; jaxrl list prints the recipes and environments."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    if arguments and arguments[0] in ("-h", "--help"):
        print_help(ABOUT, "jaxrl train")
    config, flags = train_flags.parse(arguments)
    console = make_console(quiet=not processes.is_first())
    if flags.eval_episodes < 0:
        raise UsageError(f"--eval-episodes: got {flags.eval_episodes}, must be at least 0")
    if flags.wandb:
        import_wandb()
    mesh = make_mesh(config)
    refuse_a_crowd(config)
    built = build(config)
    folder = RunFolder(flags.out or default_folder(config))
    if not flags.dry_run and processes.is_first():
        folder.refuse_existing()
    program = make_program(config, built, mesh)
    refuse_what_cannot_fit(config, program.state_bytes())
    if "replay" in parts_of(config.recipe) and not flags.dry_run:
        console.print(f"state: {describe_state(config, program)}", highlight=False)
    if chance(config):
        console.print(chance(config), soft_wrap=True)
    state = first_state(config, program)
    if config.workers:
        console.print(
            f"{config.workers} workers: the order of their gradients differs from run to run, so this run cannot be "
            "repeated or resumed bit for bit; without --workers it can",
            highlight=False,
        )
    seconds = compile_program(config, built, program, console)
    if flags.dry_run:
        dry_run(config, built, program, state, seconds, console)
        return 0
    if processes.is_first():
        folder.create(config)
    session = Session(folder, config, built, program, console, wandb=flags.wandb)
    finish(folder, config, built, session.train(state), flags.eval_episodes, console)
    return 0


def default_folder(config: RunConfig) -> Path:
    """``runs/RECIPE-ENV-TIME``, numbered where two runs start in the same second."""
    environment = config.environment.replace("/", "-")
    path = Path("runs") / f"{config.recipe}-{environment}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1000)))
    return next(candidate for candidate in candidates if not candidate.exists())


def first_state(config: RunConfig, program: Runnable) -> TrainState:
    """The state that a run starts from: a fresh one, with the parameters of another run where it is told so."""
    state = program.start()
    return state if config.init_from is None else transfer(config.init_from, state)


def compile_program(config: RunConfig, built: Built, program: Runnable, console: Console) -> float:
    """Compiles the program of a chunk; returns the seconds it took.

    Raises:
      ConfigError: shapes that don't fit (minibatches that don't divide a rollout), found while tracing.
      DoesNotFit: it would need more memory than there is.
    """
    chunk = updates_per_chunk(config, built.num_updates)  # the program of the unbroken run, whatever is left of it
    # A Ctrl-C while XLA compiles would be raised in JAX's own garbage-collection callback, and be lost there.
    with console.status("compiling"), interrupts_wait() as interrupted:
        try:
            seconds = program.compile(chunk)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
    if interrupted():
        raise KeyboardInterrupt
    refuse_what_cannot_fit(config, program.memory_bytes(chunk), "training")
    console.print(f"compiled in {seconds:.1f} s", highlight=False)
    return seconds
