"""``jaxrl evaluate``: plays whole episodes with a trained run and shows them as a table and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxrl.cli.errors import UsageError
from jaxrl.cli.opponents import opponent
from jaxrl.cli.parsing import as_flag, parse, swept_value
from jaxrl.runs.config import RunConfig
from jaxrl.runs.console import make_console
from jaxrl.runs.errors import written
from jaxrl.runs.evaluation import one_value
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.kinds import kind_of_run
from jaxrl.runs.loading import check_seed, first_member, restore, restore_players
from jaxrl.runs.matches import UCT_SIMULATIONS, play_members, side_of
from jaxrl.runs.notices import after_divergence
from jaxrl.runs.outside import environments_open
from jaxrl.runs.scores import print_scores
from jaxrl.runs.snapshots import saved_updates

GAME_FLAGS = ("opponent", "simulations", "opponent_simulations", "opponent_update", "opening_moves")
"""Flags that apply only to two-player games."""


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Play whole episodes with every seed of a run and print their returns; a sweep gets one row per value.

    In a two-player game, play matches against --opponent and print the results. Each side begins half of the games.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    episodes: int = 128
    """Episodes per seed."""
    explore: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample actions from the policy instead of taking the most likely one."""
    seed: int = 0
    """The seed of the evaluation."""
    update: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the last)")] = None
    """Evaluate the checkpoint of this update."""
    gif: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: no picture)")] = None
    """Also draw episodes of one seed into this file; in a sweep, --value selects the seed's value."""
    gif_episodes: int = 1
    """Number of episodes to draw."""
    gif_seed: int = 0
    """Seed to draw."""
    value: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NUMBER|NAME=NUMBER ...", help_behavior_hint="(default: all values)")
    ] = ()
    """Evaluate only this value of a sweep, with one row per seed; for several sweeps, one NAME=NUMBER for each."""
    opponent: Annotated[
        str | None, tyro.conf.arg(metavar="random|uct|RUN", help_behavior_hint="(default: random in a two-player game)")
    ] = None
    """Opponent in a game: random moves, plain tree search (UCT), another run, or an earlier update of this run."""
    simulations: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as it was trained)")] = None
    """Simulations per move of this run, if its recipe searches."""
    opponent_simulations: Annotated[
        int | None,
        tyro.conf.arg(help_behavior_hint=f"(default: {UCT_SIMULATIONS} for uct; for a run as it was trained)"),
    ] = None
    """Simulations per move of the opponent, if it searches."""
    opponent_update: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the last)")] = None
    """Play against the opponent's checkpoint or snapshot of this update."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that the run names, even if you never trained with them on this machine."""
    opening_moves: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 2 against a run, else 0)")] = None
    """Random moves at the start of every game; without them, two deterministic players repeat the same game."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = parse(EvaluateFlags, arguments, prog="jaxrl evaluate")
    for name in ("episodes", "gif_episodes"):
        if getattr(flags, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(flags, name)}, must be at least 1")
    if flags.gif is not None and flags.gif.suffix.lower() != ".gif":
        raise UsageError(f"--gif: got {flags.gif}, must end in .gif")
    console = make_console()
    config = RunFolder(flags.run).read_config(trust=flags.trust)
    check_seed(config, flags.run, flags.gif_seed)
    kind = kind_of_run(RunFolder(flags.run))
    if kind.has_sides:
        return _evaluate_game(flags, config, console)
    for name in GAME_FLAGS:
        if getattr(flags, name) is not None:
            raise UsageError(
                f"{as_flag(name)}: got it for {config.environment}, must be for a two-player game; leave it out"
            )
    if flags.gif is not None and kind.draw is None:
        raise UsageError(f"--gif: there is no picture of {config.environment}")
    value = swept_value(flags.value)
    if value is not None or (flags.gif is not None and config.sweep is not None):
        first_member(config, flags.run, value)
    whole = config
    config, built, state = restore(flags.run, flags.update, trust=flags.trust)
    agents = state.agent
    if value is not None:
        config, built, agents = one_value(config, built, agents, first_member(config, flags.run, value))
    with console.status("evaluating"), environments_open([built], lambda: f"{flags.run} is as it was"):
        outcome = kind.evaluator(built, flags.episodes, flags.explore)(agents, flags.seed)
    kind.show(config, outcome, console, flags.explore)
    _say_unfinished(flags, whole, console)
    if flags.gif is not None:
        assert kind.draw is not None
        with console.status("drawing"), written(flags.gif, "choose another --gif"):
            drawn = kind.draw(built, agents, flags.gif_seed, flags.gif, flags.gif_episodes, flags.seed, flags.explore)
        returns = ", ".join(f"{total:.1f}" for total in drawn)
        console.print(f"drawn: {flags.gif} (returns {returns})", soft_wrap=True, highlight=False)
    return 0


def _evaluate_game(flags: EvaluateFlags, whole: RunConfig, console: Console) -> int:
    for name, instead in (("gif", "jaxrl play shows a game"), ("value", "the table has the players of all values")):
        if getattr(flags, name):
            raise UsageError(f"{as_flag(name)}: not available in a two-player game; {instead}")
    if flags.explore:
        raise UsageError("--explore: not available in a two-player game, where players take their best moves")
    if flags.episodes % 2:
        raise UsageError(f"--episodes: got {flags.episodes}, must be even, because each side begins half of the games")
    for name, least in (("simulations", 1), ("opponent_simulations", 1), ("opening_moves", 0)):
        given = getattr(flags, name)
        if given is not None and given < least:
            raise UsageError(f"{as_flag(name)}: got {given}, must be at least {least}")
    config, built, states = restore_players(flags.run, flags.update, simulations=flags.simulations, trust=flags.trust)
    name = flags.opponent or "random"
    other = opponent(
        name, config, built, simulations=flags.opponent_simulations, update=flags.opponent_update, trust=flags.trust
    )
    opening_moves = flags.opening_moves
    if opening_moves is None:
        opening_moves = 0 if name in ("random", "uct") else 2
    with console.status("evaluating"):
        score = play_members(
            built,
            side_of(str(flags.run), built, states),
            other,
            num_games=flags.episodes,
            opening_moves=opening_moves,
            seed=flags.seed,
        )
    print_scores(config, score, other.name, console, opening_moves=opening_moves)
    _say_unfinished(flags, whole, console)
    return 0


def _say_unfinished(flags: EvaluateFlags, config: RunConfig, console: Console) -> None:
    """Prints which update was evaluated if the run is not finished, and the reason."""
    folder = RunFolder(flags.run)
    last = saved_updates(folder, config)[-1]
    if last >= config.num_updates:
        return
    update = last if flags.update is None else flags.update
    if folder.failure_file.is_file():
        failure = folder.failure_file.read_text()
        state = f"the run diverged: {failure}; {after_divergence(config, flags.run, failure)}"
    else:
        state = f"the run is unfinished; continue it with: jaxrl resume {flags.run}"
    stage, count = config.stage_at(update), len(config.stages) + 1
    where = f", in stage {stage + 1} of {count} ({config.phases()[stage].recipe})" if count > 1 else ""
    console.print(f"this is update {update} of {config.num_updates}{where}; {state}", soft_wrap=True, highlight=False)
