"""What follows training: the evaluation, the learning curve, and where it all lies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from rich.console import Console

from jaxrl import processes
from jaxrl.cli.evaluation import evaluate_members, print_table
from jaxrl.cli.opponents import play_members, random_side, side_of
from jaxrl.cli.scores import print_scores
from jaxrl.envs import num_players
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.snapshots import lean
from jaxrl.training.loop import TrainState
from jaxrl.types import PyTree


def on_one_device(agents: PyTree) -> PyTree:
    """The players, ``lean``, that were trained on several devices."""
    return jax.tree.map(jnp.asarray, processes.fetch(lean(agents)))


def finish(
    folder: RunFolder, config: RunConfig, built: Built, state: TrainState, episodes: int, console: Console
) -> None:
    """Evaluates ``episodes`` of each seed (none where 0), draws curve.png, and says where the run lies.

    In a game for two the episodes are games against a random player. Of several processes each evaluates, so that none
    has to wait for another, and the first one writes.
    """
    agents = lean(state.agent) if config.devices == 1 else on_one_device(state.agent)
    if episodes and num_players(built.env) == 2:
        _play(folder, config, built, agents, episodes, console)
    elif episodes:
        with console.status("evaluating"):
            played = evaluate_members(built, agents, num_episodes=episodes)
        if processes.is_first():
            folder.write_evaluation(played.returns, explore=False, num_steps=config.num_steps)
        print_table(config, played, console, explore=False)
    if not processes.is_first():
        return
    curve = folder.curve_file if draw_curve(folder) else "none, since not every seed has ended an episode"
    console.print(f"run: {folder.path}    curve: {curve}", soft_wrap=True, highlight=False)


def draw_curve(folder: RunFolder) -> bool:
    """Draws curve.png, unless the run is too short for every seed to have ended an episode; says whether it did."""
    from jaxrl.cli.curves import draw  # Matplotlib and SciPy take a second, which training need not wait for

    try:
        draw([folder], folder.curve_file)
    except ValueError:
        return False
    return True


def _play(folder: RunFolder, config: RunConfig, built: Built, agents: PyTree, episodes: int, console: Console) -> None:
    """Matches against a random player, in which each side begins half of the games."""
    other, games = random_side(built), episodes + episodes % 2
    with console.status("evaluating"):
        score = play_members(built, side_of(str(folder.path), built, agents), other, num_games=games)
    if processes.is_first():
        folder.write_scores(score._asdict(), opponent=other.name, num_steps=config.num_steps)
    print_scores(config, score, other.name, console, opening_moves=0)
    console.print(f"others to meet: jaxrl evaluate {folder.path} --opponent uct", soft_wrap=True, highlight=False)
