"""Kinds of runs: a task in JAX, a two-player game, or a task outside JAX.

A kind says how what is trained starts, trains, evaluates, draws and saves. ``KINDS`` is the one place where kinds are
told apart; another kind is another row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxrl import envs, networks
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.evaluation import evaluation_keys, make_evaluator, max_steps, print_table
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.matches import make_match, play_all, random_side, side_of
from jaxrl.runs.metrics import Summary
from jaxrl.runs.scores import print_scores
from jaxrl.runs.strength import write_scores
from jaxrl.runs.trainers import TRAINERS, Trainer
from jaxrl.training.evaluate import Episodes
from jaxrl.training.loop import TrainState
from jaxrl.training.match import Score
from jaxrl.training.program import Runnable
from jaxrl.types import PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

Evaluator = Callable[[PyTree, int], Any]
"""``(states, seed) -> outcome``, the states ``[S, ...]`` of the agents."""

DrawFn = Callable[["Built", PyTree, int, Path, int, int, bool], list[float]]
"""``(built, states, member, path, num_episodes, seed, explore)``; writes a GIF, and gives the returns drawn."""


class Shown(NamedTuple):
    """What a learning curve shows of a kind of runs.

    Attributes:
      metric: the column of metrics.csv that is drawn by default.
      label: what that is called.
      beside: the column that is drawn beside it, where there is one.
      file: where the column is, if not in metrics.csv; None for nowhere else.
      missing: what is said where it is nowhere yet, with ``{run}`` in it.
    """

    metric: str
    label: str
    beside: str | None = None
    file: Callable[[RunFolder], Path] | None = None
    missing: str = ""


class Kind(NamedTuple):
    """What a run trains in.

    Attributes:
      name: in config.json.
      includes: ``(env) -> bool``, whether an environment is of this kind.
      label_of_return: what ``episode_return`` means.
      trainers: names of the ways in which its runs can be trained, see ``trainers``.
      keeps_snapshots: whether players are kept at moments of the training, to be met again.
      has_sides: whether two players meet: then ``jaxrl play``, ``jaxrl elo`` and opponents apply.
      check: ``(config, torso)``; raises ConfigError for what can't be trained in this kind.
      simulator: ``(config, env, params) -> (env, values)`` for recipes that plan in the true simulator: the environment
        as they have to see it, and what they are given by name. Raises ConfigError where there is none.
      resumed: ``(program, state) -> (state, note)``, where a run goes on from a restored state, and what is said of it.
      evaluator: ``(built, num_episodes, explore) -> (states, seed) -> outcome``, of the members ``[S, ...]``; what it
        gives compiles once.
      column_names: what metrics.csv keeps of an outcome.
      columns: ``(outcome) -> {name: [S]}``.
      save: ``(folder, outcome, num_steps)``, writes evaluation.json.
      show: ``(config, outcome, console, explore)``, prints it.
      follow_up: ``(folder, config, built, num_episodes, console)``, what is done after the evaluation at the end.
      shown: on learning curves.
      draw: makes a picture of episodes, or None where that can't be.
      failure: ``(env)``, what went wrong in an environment outside of JAX, or None.
    """

    name: str
    includes: Callable[[Any], bool]
    label_of_return: str
    trainers: tuple[str, ...]
    keeps_snapshots: bool
    has_sides: bool
    check: Callable[[RunConfig, Any], None]
    simulator: Callable[[RunConfig, Any, PyTree], tuple[Any, dict[str, Any]]]
    resumed: Callable[[Runnable, TrainState], tuple[TrainState, str]]
    evaluator: Callable[[Built, int, bool], Evaluator]
    column_names: tuple[str, ...]
    columns: Callable[[Any], Summary]
    save: Callable[[RunFolder, Any, int], None]
    show: Callable[[RunConfig, Any, Console, bool], None]
    follow_up: Callable[[RunFolder, RunConfig, Built, int, Console], None]
    shown: Shown
    draw: DrawFn | None
    failure: Callable[[Any], Exception | None] = lambda env: None

    def no_columns(self, num_members: int) -> Summary:
        """The columns where nothing was evaluated: NaN."""
        return {name: np.full(num_members, np.nan) for name in self.column_names}

    def check_trainer(self, config: RunConfig, trainer: Trainer) -> None:
        """Refuses a way to train that this kind of runs can't be trained in.

        Raises:
          ConfigError: naming the argument that asks for it.
        """
        if trainer.name not in self.trainers:
            raise ConfigError(
                f"{trainer.name}: got {getattr(config, trainer.name)}, which can't train a run of kind '{self.name}' "
                f"({config.environment}); leave out {trainer.name}"
            )


def _exposed(config: RunConfig, env: Any, params: PyTree) -> tuple[Any, dict[str, Any]]:
    """The environment itself is the simulator, and its observations carry its state."""
    values = {"simulator": envs.simulator(env, params), "symmetries": getattr(env, "symmetries", None)}
    return envs.expose_state(env), values


def _as_it_was(program: Runnable, state: TrainState) -> tuple[TrainState, str]:
    """The state of an environment in JAX is in the checkpoint."""
    return state, ""


def _layers(env: Any) -> Iterator[Any]:
    """An environment, and what it wraps."""
    while env is not None:
        yield env
        env = getattr(env, "env", None)


def _check_outside(config: RunConfig, torso: Any) -> None:
    if config.devices != 1 or config.seed_devices != 1:
        raise ConfigError(
            f"devices: got {config.devices}, must be 1 in {config.environment}, which is outside JAX and is stepped in "
            "one batch; --seeds trains several agents in it"
        )


def _failure_outside(env: Any) -> Exception | None:
    return next(filter(None, (getattr(layer, "failure", None) for layer in _layers(env))), None)


def _no_simulator(config: RunConfig, env: Any, params: PyTree) -> tuple[Any, dict[str, Any]]:
    raise ConfigError(
        f"recipe: {config.recipe} plans in the simulator, and {config.environment} is outside JAX, where none can be "
        "copied; take a recipe without a search, or an environment in JAX"
    )


def _reset_anew(program: Runnable, state: TrainState) -> tuple[TrainState, str]:
    """Fresh environments: those that the state stands for are gone."""
    fresh = program.start()
    names = ("env_state", "observation", "episode_return", "episode_length")
    state = state._replace(**{name: getattr(fresh, name) for name in names})
    return state, "the agent goes on where it was; its environments, which are outside JAX, are reset anew"


def _evaluate_task(built: Built, num_episodes: int, explore: bool) -> Evaluator:
    return make_evaluator(built, num_episodes=num_episodes, explore=explore)


def _columns_of_task(episodes: Episodes) -> Summary:
    means = [np.asarray(column, np.float64).mean(-1) for column in (episodes.returns, episodes.lengths)]
    return dict(zip(("evaluation_return", "evaluation_length"), means, strict=True))


def _save_task(folder: RunFolder, episodes: Episodes, num_steps: int) -> None:
    folder.write_evaluation(episodes.returns, explore=False, num_steps=num_steps)


def _show_task(config: RunConfig, episodes: Episodes, console: Console, explore: bool) -> None:
    print_table(config, episodes, console, explore=explore)


def _draw_task(
    built: Built, states: PyTree, member: int, path: Path, num_episodes: int, seed: int, explore: bool
) -> list[float]:
    from jaxrl.runs.pictures import draw_members_episodes  # Matplotlib takes a second to import

    key = evaluation_keys(built, seed)[member]
    return draw_members_episodes(
        path, built, states, member, key, num_episodes=num_episodes, max_steps=max_steps(built), explore=explore
    )


OPPONENT = "random"
"""The player that runs of games are evaluated against."""


def _evaluate_game(built: Built, num_episodes: int, explore: bool) -> Evaluator:
    """Matches against a random player; each side begins half of the games, so their number is made even."""
    games, other = num_episodes + num_episodes % 2, random_side(built)
    play = make_match(built, side_of("run", built, ()), other, num_games=games, opening_moves=0)
    return lambda states, seed: play_all(play, built, side_of("run", built, states), other, seed)


def _columns_of_game(score: Score) -> Summary:
    return {"evaluation_score": np.asarray(score.points, np.float64)}


def _save_game(folder: RunFolder, score: Score, num_steps: int) -> None:
    folder.write_scores(score._asdict(), opponent=OPPONENT, num_steps=num_steps)


def _show_game(config: RunConfig, score: Score, console: Console, explore: bool) -> None:
    print_scores(config, score, OPPONENT, console, opening_moves=0)


def _rate_snapshots(folder: RunFolder, config: RunConfig, built: Built, num_games: int, console: Console) -> None:
    console.print(f"other opponents: jaxrl evaluate {folder.path} --opponent uct", soft_wrap=True, highlight=False)
    with console.status("playing with the snapshots"):
        write_scores(folder, config, built, num_games)


def _check_game(config: RunConfig, torso: Any) -> None:
    if networks.is_recurrent(torso):
        raise ConfigError(
            f"torso: {config.parts['torso'].name} has a memory; in {config.environment}, a two-player game, both "
            "sides would share it. Take another torso and --window, which shows it the last steps"
        )


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="game",
            includes=lambda env: envs.num_players(env) == 2,
            label_of_return="last mover's result",
            trainers=tuple(TRAINERS),
            keeps_snapshots=True,
            has_sides=True,
            check=_check_game,
            simulator=_exposed,
            resumed=_as_it_was,
            evaluator=_evaluate_game,
            column_names=("evaluation_score",),
            columns=_columns_of_game,
            save=_save_game,
            show=_show_game,
            follow_up=_rate_snapshots,
            shown=Shown(
                "evaluation_score",
                f"score against {OPPONENT}: 1 for a win, 0.5 for a draw",
                file=lambda folder: folder.scores_file,
                missing="{run} has no scores against an opponent yet, which its training ends with; jaxrl elo {run} "
                "rates the players of an unfinished run",
            ),
            draw=None,
        ),
        Kind(
            name="outside",
            includes=lambda env: any(getattr(layer, "is_host", False) for layer in _layers(env)),
            label_of_return="return",
            trainers=("devices",),
            keeps_snapshots=False,
            has_sides=False,
            check=_check_outside,
            simulator=_no_simulator,
            resumed=_reset_anew,
            evaluator=_evaluate_task,
            column_names=("evaluation_return", "evaluation_length"),
            columns=_columns_of_task,
            save=_save_task,
            show=_show_task,
            follow_up=lambda folder, config, built, num_episodes, console: None,
            shown=Shown("episode_return", "episode return", beside="evaluation_return"),
            draw=None,
            failure=_failure_outside,
        ),
        Kind(
            name="task",
            includes=lambda env: True,
            label_of_return="return",
            trainers=tuple(TRAINERS),
            keeps_snapshots=False,
            has_sides=False,
            check=lambda config, torso: None,
            simulator=_exposed,
            resumed=_as_it_was,
            evaluator=_evaluate_task,
            column_names=("evaluation_return", "evaluation_length"),
            columns=_columns_of_task,
            save=_save_task,
            show=_show_task,
            follow_up=lambda folder, config, built, num_episodes, console: None,
            shown=Shown("episode_return", "episode return", beside="evaluation_return"),
            draw=_draw_task,
        ),
    )
}
"""By name, the first that includes an environment is its kind."""


def kind_of(env: Any) -> Kind:
    """The kind of runs in an environment."""
    return next(kind for kind in KINDS.values() if kind.includes(env))


def kind_of_run(folder: RunFolder) -> Kind:
    """The kind of a run on disk; nothing is built of its configuration.

    Raises:
      RunError, ConfigError: no run, or one of a kind that this version does not know.
    """
    name = folder.peek_config().kind
    if name is None:  # of an older version, where games left snapshots from the start, and nothing else did
        name = "game" if folder.snapshot_folder.exists() else "task"
    if name not in KINDS:
        raise ConfigError(f"{folder.config_file}: kind '{name}' is unknown to this version ({', '.join(KINDS)})")
    return KINDS[name]
