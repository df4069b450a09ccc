"""Kinds of runs: a task in JAX, or a game for two.

A kind says how what was trained is checked, evaluated, saved and shown. ``KINDS`` is the one place where kinds are told
apart; another kind is another row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxrl import envs, networks
from jaxrl.runs.config import ConfigError, RunConfig
from jaxrl.runs.evaluation import evaluate_members, print_table
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.matches import play_members, random_side, side_of
from jaxrl.runs.metrics import Summary
from jaxrl.runs.scores import print_scores
from jaxrl.training.evaluate import Episodes
from jaxrl.training.match import Score
from jaxrl.types import PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built


class Kind(NamedTuple):
    """What a run trains in.

    Attributes:
      name: in config.json.
      includes: ``(env) -> bool``, whether an environment is of this kind.
      label_of_return: what ``episode_return`` means.
      keeps_snapshots: whether players are kept at moments of the training, to be met again.
      check: ``(config, torso)``; raises ConfigError for what can't be trained in this kind.
      evaluate: ``(built, states, num_episodes, seed) -> outcome``, the members ``[S, ...]`` without exploration.
      columns: ``(outcome) -> {name: [S]}``, what metrics.csv keeps of it.
      save: ``(folder, outcome, num_steps)``, writes evaluation.json.
      show: ``(config, folder, outcome, console)``, prints it.
    """

    name: str
    includes: Callable[[Any], bool]
    label_of_return: str
    keeps_snapshots: bool
    check: Callable[[RunConfig, Any], None]
    evaluate: Callable[[Built, PyTree, int, int], Any]
    columns: Callable[[Any], Summary]
    save: Callable[[RunFolder, Any, int], None]
    show: Callable[[RunConfig, RunFolder, Any, Console], None]


def _evaluate_task(built: Built, states: PyTree, num_episodes: int, seed: int) -> Episodes:
    return evaluate_members(built, states, num_episodes=num_episodes, seed=seed)


def _columns_of_task(episodes: Episodes) -> Summary:
    means = [np.asarray(column, np.float64).mean(-1) for column in (episodes.returns, episodes.lengths)]
    return dict(zip(("evaluation_return", "evaluation_length"), means, strict=True))


def _save_task(folder: RunFolder, episodes: Episodes, num_steps: int) -> None:
    folder.write_evaluation(episodes.returns, explore=False, num_steps=num_steps)


def _show_task(config: RunConfig, folder: RunFolder, episodes: Episodes, console: Console) -> None:
    print_table(config, episodes, console, explore=False)


OPPONENT = "random"
"""The player that runs of games are evaluated against."""


def _evaluate_game(built: Built, states: PyTree, num_episodes: int, seed: int) -> Score:
    """Matches against a random player; each side begins half of the games, so their number is made even."""
    games = num_episodes + num_episodes % 2
    return play_members(built, side_of("run", built, states), random_side(built), num_games=games, seed=seed)


def _columns_of_game(score: Score) -> Summary:
    return {"evaluation_score": np.asarray(score.points, np.float64)}


def _save_game(folder: RunFolder, score: Score, num_steps: int) -> None:
    folder.write_scores(score._asdict(), opponent=OPPONENT, num_steps=num_steps)


def _show_game(config: RunConfig, folder: RunFolder, score: Score, console: Console) -> None:
    print_scores(config, score, OPPONENT, console, opening_moves=0)
    console.print(f"other opponents: jaxrl evaluate {folder.path} --opponent uct", soft_wrap=True, highlight=False)


def _check_game(config: RunConfig, torso: Any) -> None:
    if networks.is_recurrent(torso):
        raise ConfigError(
            f"torso: {config.parts['torso'].name} has a memory; in {config.environment}, a game for two, both "
            "sides would share it. Take another torso and --window, which shows it the last steps"
        )


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="game",
            includes=lambda env: envs.num_players(env) == 2,
            label_of_return="last mover's result",
            keeps_snapshots=True,
            check=_check_game,
            evaluate=_evaluate_game,
            columns=_columns_of_game,
            save=_save_game,
            show=_show_game,
        ),
        Kind(
            name="task",
            includes=lambda env: True,
            label_of_return="return",
            keeps_snapshots=False,
            check=lambda config, torso: None,
            evaluate=_evaluate_task,
            columns=_columns_of_task,
            save=_save_task,
            show=_show_task,
        ),
    )
}
"""By name, the first that includes an environment is its kind."""


def kind_of(env: Any) -> Kind:
    """The kind of runs in an environment."""
    return next(kind for kind in KINDS.values() if kind.includes(env))
