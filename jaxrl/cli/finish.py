"""What follows training: the evaluation, the learning curve, and where it all lies."""

from __future__ import annotations

from rich.console import Console

from jaxrl.cli.evaluation import evaluate_members, print_table
from jaxrl.cli.opponents import play_members, random_side, side_of
from jaxrl.cli.scores import print_scores
from jaxrl.envs import num_players
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.snapshots import lean
from jaxrl.training.loop import TrainState


def finish(
    folder: RunFolder, config: RunConfig, built: Built, state: TrainState, episodes: int, console: Console
) -> None:
    """Evaluates ``episodes`` of each seed (none where 0), draws curve.png, and says where the run lies.

    In a game for two the episodes are games against a random player.
    """
    from jaxrl.cli.curves import draw  # Matplotlib and SciPy take a second, which training need not wait for

    if episodes and num_players(built.env) == 2:
        _play(folder, config, built, state, episodes, console)
    elif episodes:
        with console.status("evaluating"):
            played = evaluate_members(built, state.agent, num_episodes=episodes)
        folder.write_evaluation(played.returns, explore=False, num_steps=config.num_steps)
        print_table(config, played, console, explore=False)
    try:
        draw([folder], folder.curve_file)
        curve = str(folder.curve_file)
    except ValueError:  # a run too short for every seed to end an episode
        curve = "none, since not every seed has ended an episode"
    console.print(f"run: {folder.path}    curve: {curve}", soft_wrap=True, highlight=False)


def _play(
    folder: RunFolder, config: RunConfig, built: Built, state: TrainState, episodes: int, console: Console
) -> None:
    """Matches against a random player, in which each side begins half of the games."""
    other, games = random_side(built), episodes + episodes % 2
    with console.status("evaluating"):
        score = play_members(built, side_of(str(folder.path), built, lean(state.agent)), other, num_games=games)
    folder.write_scores(score._asdict(), opponent=other.name, num_steps=config.num_steps)
    print_scores(config, score, other.name, console, opening_moves=0)
    console.print(f"others to meet: jaxrl evaluate {folder.path} --opponent uct", soft_wrap=True, highlight=False)
