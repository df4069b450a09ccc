"""``jaxrl play``: a human plays against a trained run in the terminal."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from jaxrl import envs
from jaxrl.cli import boards
from jaxrl.cli.boards import Layout
from jaxrl.cli.errors import UsageError
from jaxrl.cli.game import Game
from jaxrl.cli.parsing import parse, swept_value
from jaxrl.runs.building import make_environment
from jaxrl.runs.config import RunConfig
from jaxrl.runs.console import make_console
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.kinds import kind_of_run
from jaxrl.runs.loading import check_seed, first_member, restore_players

FEW = 20
"""The most legal moves that a sentence lists."""

REASONS = {
    "othello": "illegal: it turns over no stone",
    "/go_": "illegal: suicide or ko",
}
"""Why an empty square can be illegal, by game."""


@dataclasses.dataclass(frozen=True)
class PlayFlags:
    """Play a game against a trained run in the terminal.

    It works for games with stones on squares or columns: pgx/tic_tac_toe, connect_four, othello, go_9x9, go_19x19, hex.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    first: tyro.conf.FlagCreatePairsOff[bool] = False
    """You make the first move (the default)."""
    second: tyro.conf.FlagCreatePairsOff[bool] = False
    """The run makes the first move."""
    simulations: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as it was trained)")] = None
    """Simulations per move of the run, if its recipe searches; more make it stronger."""
    update: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the last)")] = None
    """Play against the checkpoint or snapshot of this update."""
    seed: int = 0
    """Seed of the run to play against."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that the run names, even if you never trained with them on this machine."""
    value: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NUMBER|NAME=NUMBER ...", help_behavior_hint="(default: no sweep)")
    ] = ()
    """Value of the sweep to play against; for several sweeps, one NAME=NUMBER for each."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = parse(PlayFlags, arguments, prog="jaxrl play")
    if flags.first and flags.second:
        raise UsageError("--first, --second: got both, must be one of them")
    if flags.simulations is not None and flags.simulations < 1:
        raise UsageError(f"--simulations: got {flags.simulations}, must be at least 1")
    console = make_console()
    folder = RunFolder(flags.run)
    config = folder.read_config(trust=flags.trust)
    check_seed(config, flags.run, flags.seed)
    number = first_member(config, flags.run, swept_value(flags.value)) + flags.seed
    if not kind_of_run(folder).has_sides:
        raise UsageError(f"RUN: got {flags.run}, trained in {config.environment}, must be a run in a two-player game")
    env, params = make_environment(config.environment, config.environment_settings)
    unicode = (console.encoding or "").lower().startswith("utf")
    try:
        layout = boards.layout(config.environment, envs.spec(env, params), unicode=unicode)
    except boards.NoBoard as error:
        raise UsageError(str(error)) from error
    _, built, states = restore_players(flags.run, flags.update, simulations=flags.simulations, trust=flags.trust)
    state = jax.tree.map(lambda leaf: leaf[number], states)
    game = Game(jax.random.key(0), built.env, built.params, built.agent(number), state)
    human = int(flags.second)
    console.print(_welcome(config, layout, human), highlight=False)
    try:
        return play(game, layout, config, human, console)
    except (EOFError, KeyboardInterrupt):
        console.print("\nleft the game", highlight=False)
        return 0


def play(game: Game, layout: Layout, config: RunConfig, human: int, console: Console) -> int:
    """Plays one game.

    Args:
      game: the game at its start.
      layout: the layout of its board.
      config: the config of the run.
      human: 0 if the human begins, else 1.
      console: the console to print to.

    Raises:
      EOFError, KeyboardInterrupt: the human left.
    """
    before = None
    while True:
        stones = boards.stones_of(layout, game.observation, game.moves)
        console.print(boards.draw(layout, stones, before))
        before = stones
        if game.over:
            break
        if game.mover == human:
            action = _ask(game, layout, config, console)
            if action is None:
                console.print("left the game", highlight=False)
                return 0
        else:
            with console.status("thinking"):
                action = game.think()
            console.print(
                f"{config.recipe} ({layout.symbols[1 + game.mover]}) plays {layout.name(action)}", highlight=False
            )
        game.move(action)
    console.print(_result(game, human, config.recipe), style="bold", highlight=False)
    return 0


def _welcome(config: RunConfig, layout: Layout, human: int) -> str:
    mine, theirs = layout.symbols[1 + human], layout.symbols[2 - human]
    begins = "you begin" if human == 0 else f"{config.recipe} begins"
    return (
        f"{config.environment}: you have {mine}, {config.recipe} has {theirs}, {begins}. "
        f"Moves are {layout.example()}; you can also type help, moves or quit.\n"
    )


def _ask(game: Game, layout: Layout, config: RunConfig, console: Console) -> int | None:
    """Asks for the human's move until it is legal, and explains mistakes; None for quit."""
    legal = game.legal()
    while True:
        said = console.input(f"your move ({layout.symbols[1 + game.mover]}): ").strip()
        if not sys.stdin.isatty():  # the input was not echoed
            console.print(said, highlight=False, markup=False)
        word = said.lower()
        if word in ("quit", "exit", "q"):
            return None
        action = layout.action(word)
        if action in legal:
            return action
        console.print(_explanation(word, action, legal, game, layout, config), highlight=False, markup=False)


def _explanation(word: str, action: int | None, legal: list[int], game: Game, layout: Layout, config: RunConfig) -> str:
    """Why the input is not a legal move."""
    names = [layout.name(move) for move in legal]
    listed = ", ".join(names)
    if word == "moves":
        return f"legal: {listed}"
    if word == "help" or not word:
        return f"type {layout.example()}; moves lists the legal moves, quit leaves the game"
    if action is None:
        return f"'{word}' is not a move: type {layout.example()}, or help"
    name, rest = layout.name(action), f"legal: {listed}" if len(names) <= FEW else f"{len(names)} others are legal"
    if layout.by_column:
        return f"column {name} is full; {rest}"
    if name == layout.extra:
        return f"you can't {layout.extra} now; {rest}"
    x, y = action % layout.width, action // layout.width
    if boards.stones_of(layout, game.observation, game.moves)[y, x]:
        return f"{name} is taken; {rest}"
    reason = next((why for kind, why in REASONS.items() if kind in config.environment), "illegal here")
    return f"{name} is {reason}; {rest}"


def _result(game: Game, human: int, opponent: str) -> str:
    if game.winner is None:
        return f"drawn after {game.moves} moves"
    return f"you {'won' if game.winner == human else 'lost'} after {game.moves} moves" + (
        "" if game.winner == human else f": {opponent} won"
    )
