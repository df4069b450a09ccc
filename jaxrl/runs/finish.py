"""The end of a run: the evaluation, the learning curve, and the list of its files."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from rich.console import Console

from jaxrl import processes
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.snapshots import without_replay
from jaxrl.training.interrupt import in_a_thread
from jaxrl.training.loop import TrainState
from jaxrl.types import PyTree


def on_one_device(agents: PyTree) -> PyTree:
    """The agents' states ``without_replay``, moved to one device."""
    return jax.tree.map(jnp.asarray, processes.fetch(without_replay(agents)))


def finish(
    folder: RunFolder, config: RunConfig, built: Built, state: TrainState, episodes: int, console: Console
) -> None:
    """Evaluates ``episodes`` per seed (none if 0), draws curve.png, and prints where the run is.

    Everything is saved before, so an interrupt ends it at once, also during the evaluation.

    With several processes each evaluates, so that none has to wait for another, and the first one writes.
    """
    agents = without_replay(state.agent) if config.devices == 1 else on_one_device(state.agent)
    if episodes:
        with console.status("evaluating"):
            outcome = in_a_thread(lambda: built.kind.evaluator(built, episodes, False)(agents, 0))
        if processes.is_first():
            built.kind.save(folder, outcome, config.steps_at(config.num_updates))
        built.kind.show(config, outcome, console, False)
    if not processes.is_first():
        return
    if episodes:
        in_a_thread(lambda: built.kind.follow_up(folder, config, built, episodes, console))
    try:
        draw_curve(folder)
        curve = str(folder.curve_file)
    except ValueError as error:
        curve = f"none ({error})"
    console.print(f"run: {folder.path}    curve: {curve}", soft_wrap=True, highlight=False)


def draw_curve(folder: RunFolder) -> None:
    """Draws curve.png.

    Raises:
      ValueError: there is nothing to draw yet, for example because the run was too short for an episode to end.
    """
    from jaxrl.runs.curves import draw  # Matplotlib and SciPy take a second to import

    draw([folder], folder.curve_file)
