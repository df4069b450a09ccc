"""``--opponent``: a random player, plain tree search, another run, or an earlier update of the same run."""

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
    """The player that ``--opponent`` names.

    Args:
      given: "random", "uct", or the folder of a run in the same environment, with the same window.
      config, built: those of the evaluated run.
      simulations: the number of simulations per move, if the opponent searches.
      update: the update of the opponent, if it is a run.

    Raises:
      UsageError: the opponent is unknown, or a flag does not apply to it.
      RunError: the folder is not a run, see ``restore_players``.
    """
    if update is not None and given in ("random", "uct"):
        raise UsageError(f"--opponent-update: got {update} for {given}, must be left out unless the opponent is a run")
    if given == "random":
        if simulations is not None:
            raise UsageError(
                f"--opponent-simulations: got {simulations}, must be left out for random, which does not search"
            )
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
        raise UsageError(
            f"--opponent: got {given} in {other.environment}, must be in {config.environment} like this run"
        )
    if other.window != config.window:
        shown = [f"{run.window or 1} step{'s' if (run.window or 1) > 1 else ''}" for run in (other, config)]
        raise UsageError(f"--opponent: got {given} with {shown[0]} (--window), must be {shown[1]} like this run")
    of_update = "" if update is None else f" of update {update}"
    return side_of(f"{given}{of_update}", other_built, states)
