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
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.evaluation import make_evaluator, print_table
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.matches import make_match, play_all, random_side, side_of
from jaxrl.runs.metrics import Summary
from jaxrl.runs.scores import print_scores
from jaxrl.training.evaluate import Episodes
from jaxrl.training.match import Score
from jaxrl.types import PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

Evaluator = Callable[[PyTree, int], Any]
"""``(states, seed) -> outcome``, the states ``[S, ...]`` of the agents."""


class Kind(NamedTuple):
    """What a run trains in.

    Attributes:
      name: in config.json.
      includes: ``(env) -> bool``, whether an environment is of this kind.
      label_of_return: what ``episode_return`` means.
      keeps_snapshots: whether players are kept at moments of the training, to be met again.
      check: ``(config, torso)``; raises ConfigError for what can't be trained in this kind.
      evaluator: ``(built, num_episodes) -> (states, seed) -> outcome``, the members ``[S, ...]`` without exploration;
        what it gives compiles once.
      column_names: what metrics.csv keeps of an outcome.
      columns: ``(outcome) -> {name: [S]}``.
      save: ``(folder, outcome, num_steps)``, writes evaluation.json.
      show: ``(config, folder, outcome, console)``, prints it.
    """

    name: str
    includes: Callable[[Any], bool]
    label_of_return: str
    keeps_snapshots: bool
    check: Callable[[RunConfig, Any], None]
    evaluator: Callable[[Built, int], Evaluator]
    column_names: tuple[str, ...]
    columns: Callable[[Any], Summary]
    save: Callable[[RunFolder, Any, int], None]
    show: Callable[[RunConfig, RunFolder, Any, Console], None]

    def no_columns(self, num_members: int) -> Summary:
        """The columns where nothing was evaluated: NaN."""
        return {name: np.full(num_members, np.nan) for name in self.column_names}


def _evaluate_task(built: Built, num_episodes: int) -> Evaluator:
    return make_evaluator(built, num_episodes=num_episodes)


def _columns_of_task(episodes: Episodes) -> Summary:
    means = [np.asarray(column, np.float64).mean(-1) for column in (episodes.returns, episodes.lengths)]
    return dict(zip(("evaluation_return", "evaluation_length"), means, strict=True))


def _save_task(folder: RunFolder, episodes: Episodes, num_steps: int) -> None:
    folder.write_evaluation(episodes.returns, explore=False, num_steps=num_steps)


def _show_task(config: RunConfig, folder: RunFolder, episodes: Episodes, console: Console) -> None:
    print_table(config, episodes, console, explore=False)


OPPONENT = "random"
"""The player that runs of games are evaluated against."""


def _evaluate_game(built: Built, num_episodes: int) -> Evaluator:
    """Matches against a random player; each side begins half of the games, so their number is made even."""
    games, other = num_episodes + num_episodes % 2, random_side(built)
    play = make_match(built, side_of("run", built, ()), other, num_games=games, opening_moves=0)
    return lambda states, seed: play_all(play, built, side_of("run", built, states), other, seed)


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
            evaluator=_evaluate_game,
            column_names=("evaluation_score",),
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
            evaluator=_evaluate_task,
            column_names=("evaluation_return", "evaluation_length"),
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
