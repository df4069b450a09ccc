"""Whom the players of a run meet: a random one, plain tree search, another run, or themselves at an earlier update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import envs
from jaxrl.agents.players import random_player, uct_player
from jaxrl.cli.errors import UsageError
from jaxrl.cli.evaluation import evaluation_keys, max_steps
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.recipes import nearest
from jaxrl.runs.snapshots import restore_players
from jaxrl.training.match import Score, match
from jaxrl.types import Agent, PyTree

UCT_SIMULATIONS = 100
"""Of uct, unless it is said otherwise."""


class Side(NamedTuple):
    """One side of a match: S players of one making.

    Attributes:
      name: what tables call it.
      make_agent: from the hyper-parameters that differ between its players to the agent.
      hyper: those, by name, ``[S]`` each.
      states: ``[S, ...]``.
    """

    name: str
    make_agent: Callable[..., Agent]
    hyper: dict[str, Any]
    states: PyTree

    def member(self, number: int) -> tuple[dict[str, Any], PyTree]:
        """What ``play`` is given of one player, counted round where there are fewer."""
        number %= max([len(leaf) for leaf in jax.tree.leaves((self.hyper, self.states))], default=1)
        return jax.tree.map(lambda leaf: leaf[number], (self.hyper, self.states))


def side_of(name: str, built: Built, states: PyTree) -> Side:
    """The players of a run."""
    return Side(name, built.make_agent, built.hyper, states)


def random_side(built: Built) -> Side:
    """One that takes any legal move."""
    agent = random_player(built.spec)
    return Side("random", lambda: agent, {}, ())


def uct_side(built: Built, simulations: int) -> Side:
    """Plain tree search with random games."""
    agent = uct_player(built.spec, envs.simulator(built.env, built.params), simulations)
    return Side(f"uct, {simulations} simulations", lambda: agent, {}, ())


def opponent(
    given: str, config: RunConfig, built: Built, *, simulations: int | None = None, update: int | None = None
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
    other, other_built, states = restore_players(given, update, simulations=simulations)
    if other.environment != config.environment:
        raise UsageError(f"--opponent: {given} plays {other.environment}, this run {config.environment}")
    if other.window != config.window:
        shown = [f"{run.window or 1} step{'s' if (run.window or 1) > 1 else ''}" for run in (other, config)]
        raise UsageError(f"--opponent: {given} is shown {shown[0]} at once, this run {shown[1]} (--window)")
    moment = "" if update is None else f" of update {update}"
    return side_of(f"{given}{moment}", other_built, states)


def make_match(built: Built, one: Side, other: Side, *, num_games: int, opening_moves: int) -> Callable[..., Score]:
    """A match as a compiled function ``(key, one.member(i), other.member(j)) -> Score``, the first one's.

    It compiles once for all players of the two sides, and for others that differ from them in their states alone.
    """

    @jax.jit
    def play(key: Any, ours: tuple[dict[str, Any], PyTree], theirs: tuple[dict[str, Any], PyTree]) -> Score:
        players = [(side.make_agent(**hyper), state) for side, (hyper, state) in ((one, ours), (other, theirs))]
        return match(
            key,
            built.env,
            built.params,
            *players,
            num_games=num_games,
            opening_moves=opening_moves,
            max_steps=max_steps(built),
        )

    return play


def play_members(
    built: Built, one: Side, other: Side, *, num_games: int, opening_moves: int = 0, seed: int = 0
) -> Score:
    """Matches of all members of a run, each against its own of the other side.

    Returns:
      Arrays ``[S, 2]``, on the host.
    """
    play = make_match(built, one, other, num_games=num_games, opening_moves=opening_moves)
    keys = evaluation_keys(built, seed)
    scores = [jax.device_get(play(key, one.member(i), other.member(i))) for i, key in enumerate(keys)]
    return jax.tree.map(lambda *rows: np.stack(rows), *scores)
