"""``--opponent``: a random player, plain tree search, another run, or the run itself at an earlier update."""

from __future__ import annotations

from pathlib import Path

from jaxrl.arguments import nearest
from jaxrl.cli.errors import UsageError
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.loading import restore_players
from jaxrl.runs.matches import UCT_SIMULATIONS, Side, random_side, side_of, uct_side


def opponent(
    given: str,
    config: RunConfig,
    built: Built,
    *,
    simulations: int | None = None,
    update: int | None = None,
    trust: bool = False,
) -> Side:
    """What ``--opponent`` names.

    Args:
      given: "random", "uct", or the folder of a run in the same environment, with the same window.
      config, built: of the run that meets it.
      simulations: of its moves, where it searches.
      update: of which moment, where it is a run.

    Raises:
      UsageError: neither, or flags that it doesn't take.
      RunError: a folder that is no run, see ``restore_players``.
    """
    if update is not None and given in ("random", "uct"):
        raise UsageError(f"--opponent-update: got {update}, but {given} is no run")
    if given == "random":
        if simulations is not None:
            raise UsageError(f"--opponent-simulations: got {simulations}, but random doesn't search")
        return random_side(built)
    if given == "uct":
        return uct_side(built, simulations or UCT_SIMULATIONS)
    if not Path(given).exists():
        hint = nearest(given, ("random", "uct"))
        raise UsageError(
            f"--opponent: got '{given}', must be random, uct, or the folder of a run; there is no such folder{hint}"
        )
    other, other_built, states = restore_players(given, update, simulations=simulations, trust=trust)
    if other.environment != config.environment:
        raise UsageError(f"--opponent: {given} plays {other.environment}, this run {config.environment}")
    if other.window != config.window:
        shown = [f"{run.window or 1} step{'s' if (run.window or 1) > 1 else ''}" for run in (other, config)]
        raise UsageError(f"--opponent: {given} is shown {shown[0]} at once, this run {shown[1]} (--window)")
    moment = "" if update is None else f" of update {update}"
    return side_of(f"{given}{moment}", other_built, states)
