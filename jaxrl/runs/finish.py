"""What follows training: the evaluation, the learning curve, and where it all lies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from rich.console import Console

from jaxrl import processes
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

    With several processes each evaluates, so that none has to wait for another, and the first one writes.
    """
    agents = lean(state.agent) if config.devices == 1 else on_one_device(state.agent)
    if episodes:
        with console.status("evaluating"):
            outcome = built.kind.evaluate(built, agents, episodes, 0)
        if processes.is_first():
            built.kind.save(folder, outcome, config.num_steps)
        built.kind.show(config, folder, outcome, console)
    if not processes.is_first():
        return
    curve = folder.curve_file if draw_curve(folder) else "none, since not every seed has ended an episode"
    console.print(f"run: {folder.path}    curve: {curve}", soft_wrap=True, highlight=False)


def draw_curve(folder: RunFolder) -> bool:
    """Draws curve.png, unless the run is too short for every seed to have ended an episode; says whether it did."""
    from jaxrl.runs.curves import draw  # Matplotlib and SciPy take a second, which training need not wait for

    try:
        draw([folder], folder.curve_file)
    except ValueError:
        return False
    return True
