"""Kinds of runs: a task in JAX, a two-player game, or a task outside JAX.

A kind defines how runs start, train, evaluate, draw and save. Only the table ``KINDS`` distinguishes kinds; a new kind
is a new row.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxrl import envs, networks
from jaxrl.replay.cut import end_episodes
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
"""``(states, seed) -> outcome``, for states ``[S, ...]`` of the agents."""

DrawFn = Callable[["Built", PyTree, int, Path, int, int, bool], list[float]]
"""``(built, states, member, path, num_episodes, seed, explore)``; writes a GIF; the returns of its episodes."""


class CurveColumns(NamedTuple):
    """The columns that learning curves of a kind of runs show.

    Attributes:
      metric: the column of metrics.csv that is drawn by default.
      label: label of the axis.
      beside: a second column to draw, if there is one.
      file: the file of the column, if it is not in metrics.csv.
      missing: message if the column does not exist yet; it contains ``{run}``.
    """

    metric: str
    label: str
    beside: str | None = None
    file: Callable[[RunFolder], Path] | None = None
    missing: str = ""


class Kind(NamedTuple):
    """A kind of runs.

    Attributes:
      name: name in config.json.
      includes: ``(env) -> bool``, whether an environment is of this kind.
      label_of_return: label of ``episode_return``.
      trainers: names of the trainers that its runs can use, see ``trainers``.
      keeps_snapshots: whether snapshots of players are kept during training, as later opponents.
      has_sides: whether two players play against each other; then ``jaxrl play``, ``jaxrl elo`` and opponents apply.
      check: ``(config, torso)``; raises ConfigError for what can't be trained in this kind.
      simulator: ``(config, env, params) -> (env, values)`` for recipes that plan in the true simulator: the wrapped
        environment, and arguments by name. Raises ConfigError if there is no simulator.
      resumed: ``(program, state) -> (state, note)``, the state with which a run continues, and a note.
      evaluator: ``(built, num_episodes, explore) -> (states, seed) -> outcome``, for agents ``[S, ...]``; the returned
        function compiles once.
      column_names: columns of metrics.csv for any outcome.
      columns: ``(outcome) -> {name: [S]}``.
      save: ``(folder, outcome, num_steps)``, writes evaluation.json.
      show: ``(config, outcome, console, explore)``, prints it.
      follow_up: ``(folder, config, built, num_episodes, console)``, called after the final evaluation.
      curve: columns of learning curves.
      draw: draws episodes; None where that is impossible.
      failure: ``(env)``, what went wrong in an environment outside of JAX, or None.
      close: ``(env)``, frees what an environment outside of JAX holds.
      counts: ``(env) -> {name: count}``, further columns of metrics.csv, of this sitting and all members together.
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
    curve: CurveColumns
    draw: DrawFn | None
    failure: Callable[[Any], Exception | None] = lambda env: None
    close: Callable[[Any], None] = lambda env: None
    counts: Callable[[Any], dict[str, int]] = lambda env: {}

    def no_columns(self, num_members: int) -> Summary:
        """The columns if nothing was evaluated: NaN."""
        return {name: np.full(num_members, np.nan) for name in self.column_names}

    def check_trainer(self, config: RunConfig, trainer: Trainer) -> None:
        """Checks that runs of this kind can use a trainer.

        Raises:
          ConfigError: they can't; the message names the argument.
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
    """Continues with the states of the environments from the checkpoint."""
    return state, ""


def _check_outside(config: RunConfig, torso: Any) -> None:
    if config.devices != 1 or config.seed_devices != 1:
        raise ConfigError(
            f"devices: got {config.devices}, must be 1 in {config.environment}, which is outside JAX and is stepped in "
            "one batch; --seeds trains several agents in it"
        )


def _failure_outside(env: Any) -> Exception | None:
    return getattr(envs.host_of(env), "failure", None)


def _close_outside(env: Any) -> None:
    envs.host_of(env).close()


def _counts_outside(env: Any) -> dict[str, int]:
    """Restarts of environments, from the first one on."""
    restarted = getattr(envs.host_of(env), "restarted", 0)
    return {"env_restarts": restarted} if restarted else {}


def _no_simulator(config: RunConfig, env: Any, params: PyTree) -> tuple[Any, dict[str, Any]]:
    raise ConfigError(
        f"recipe: {config.recipe} plans in the simulator, and {config.environment} is outside JAX, where none can be "
        "copied; take a recipe without a search, or an environment in JAX"
    )


def _reset_anew(program: Runnable, state: TrainState) -> tuple[TrainState, str]:
    """Resets the environments, because those of the saved state no longer exist, and ends episodes in replays."""
    fresh = program.start()
    cut = jax.jit(jax.vmap(end_episodes), donate_argnums=0)  # a replay may fill half of the memory
    state = state._replace(agent=cut(state.agent))
    names = ("env_state", "observation", "episode_return", "episode_length")
    state = state._replace(**{name: getattr(fresh, name) for name in names})
    return state, "the agent continues from its saved state; its environments are outside JAX and were reset"


def _evaluate_task(built: Built, num_episodes: int, explore: bool) -> Evaluator:
    return make_evaluator(built, num_episodes=num_episodes, explore=explore)


def _columns_of_task(episodes: Episodes) -> Summary:
    columns = {"return": episodes.returns, "length": episodes.lengths, "success": episodes.success}
    return {
        f"evaluation_{name}": np.asarray(column, np.float64).mean(-1)
        for name, column in columns.items()
        if column is not None
    }


def _save_task(folder: RunFolder, episodes: Episodes, num_steps: int) -> None:
    folder.write_evaluation(episodes.returns, episodes.success, explore=False, num_steps=num_steps)


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


def _draw_outside(
    built: Built, states: PyTree, member: int, path: Path, num_episodes: int, seed: int, explore: bool
) -> list[float]:
    from jaxrl.runs.filmed import film_episodes

    key = evaluation_keys(built, seed)[member]
    return film_episodes(
        path, built, states, member, key, num_episodes=num_episodes, max_steps=max_steps(built), explore=explore
    )


OPPONENT = "random"
"""The opponent in evaluations of games."""


def _evaluate_game(built: Built, num_episodes: int, explore: bool) -> Evaluator:
    """Matches against a random player; each side begins half of the games, so an odd number is rounded up."""
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
            curve=CurveColumns(
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
            includes=envs.is_host,
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
            curve=CurveColumns("episode_return", "episode return", beside="evaluation_return"),
            draw=_draw_outside,
            failure=_failure_outside,
            close=_close_outside,
            counts=_counts_outside,
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
            curve=CurveColumns("episode_return", "episode return", beside="evaluation_return"),
            draw=_draw_task,
        ),
    )
}
"""The kinds by name; the first that includes an environment is its kind."""


def kind_of(env: Any) -> Kind:
    """The kind of runs in an environment."""
    return next(kind for kind in KINDS.values() if kind.includes(env))


def kind_of_run(folder: RunFolder) -> Kind:
    """The kind of a run on disk, without building its objects.

    Raises:
      RunError, ConfigError: it is not a run, or its kind is unknown to this version.
    """
    name = folder.peek_config().kind
    if name is None:  # runs of older versions: only games had snapshots
        name = "game" if folder.snapshot_folder.exists() else "task"
    if name not in KINDS:
        raise ConfigError(f"{folder.config_file}: kind '{name}' is unknown to this version ({', '.join(KINDS)})")
    return KINDS[name]
