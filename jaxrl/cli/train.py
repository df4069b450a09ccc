"""``jaxrl train``: trains a population of seeds, from the flags to the table of returns."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl import processes
from jaxrl.cli import flags as train_flags
from jaxrl.cli.run_flags import print_help
from jaxrl.runs.console import make_console
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.starting import default_folder, start

ABOUT = """Train a population of seeds in one program and write a run folder.
  jaxrl train ppo CartPole-v1 --seeds 8
  jaxrl train ppo CartPole-v1 --seeds 4 --sweep learning_rate=1e-4,3e-4,1e-3

These are the flags of every recipe. jaxrl train RECIPE --help adds its hyper-parameters, \
jaxrl train RECIPE ENV --help their defaults there and the settings of the environment, --env.*; jaxrl list prints \
the recipes and environments. --no-cache compiles anew instead of reading programs from the user's cache folder."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    if arguments and arguments[0] in ("-h", "--help"):
        print_help(ABOUT, "jaxrl train")
    config, flags = train_flags.parse(arguments)
    start(
        RunFolder(flags.out or default_folder(config)),
        config,
        console=make_console(quiet=not processes.is_first()),
        wandb=flags.wandb,
        dry=flags.dry_run,
        trust=flags.trust,
    )
    return 0
