"""What follows training: the evaluation, the learning curve, and where it all lies."""

from __future__ import annotations

from rich.console import Console

from jaxrl.cli.evaluation import evaluate_members, print_table
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.training.loop import TrainState


def finish(
    folder: RunFolder, config: RunConfig, built: Built, state: TrainState, episodes: int, console: Console
) -> None:
    """Evaluates ``episodes`` of each seed (none where 0), draws curve.png, and says where the run lies."""
    from jaxrl.cli.curves import draw  # Matplotlib and SciPy take a second, which training need not wait for

    if episodes:
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
