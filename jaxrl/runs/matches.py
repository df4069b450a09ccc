"""Matches of a run's players: against a random one, plain tree search, or the players of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxrl import envs
from jaxrl.agents.players import random_player, uct_player
from jaxrl.runs.evaluation import evaluation_keys, max_steps
from jaxrl.training.match import Score, match
from jaxrl.types import Agent, PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

UCT_SIMULATIONS = 100
"""The default number of simulations of ``uct``."""


class Side(NamedTuple):
    """One side of a match: S players with one maker.

    Attributes:
      name: the name in tables.
      make_agent: a function from the hyper-parameters that differ between its players to the agent.
      hyper: these hyper-parameters by name, ``[S]`` each.
      states: ``[S, ...]``, the states of the players.
    """

    name: str
    make_agent: Callable[..., Agent]
    hyper: dict[str, Any]
    states: PyTree

    def member(self, number: int) -> tuple[dict[str, Any], PyTree]:
        """The arguments of ``play`` for one player; the index wraps around if there are fewer."""
        number %= max([len(leaf) for leaf in jax.tree.leaves((self.hyper, self.states))], default=1)
        return jax.tree.map(lambda leaf: leaf[number], (self.hyper, self.states))


def side_of(name: str, built: Built, states: PyTree) -> Side:
    """The players of a run."""
    return Side(name, built.make_agent, built.hyper, states)


def random_side(built: Built) -> Side:
    """A player that takes random legal moves."""
    agent = random_player(built.spec)
    return Side("random", lambda: agent, {}, ())


def uct_side(built: Built, simulations: int) -> Side:
    """Plain tree search with random games."""
    agent = uct_player(built.spec, envs.simulator(built.env, built.params), simulations)
    return Side(f"uct with {simulations} simulations", lambda: agent, {}, ())


def make_match(built: Built, one: Side, other: Side, *, num_games: int, opening_moves: int) -> Callable[..., Score]:
    """A match as a compiled function ``(key, one.member(i), other.member(j)) -> Score``, the first one's.

    It compiles once for all players of the two sides, and for other players that differ in their states only.
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
    """Plays matches of all members of a run, each against the player of the other side with the same index.

    Returns:
      Arrays ``[S, 2]``, on the host.
    """
    play = make_match(built, one, other, num_games=num_games, opening_moves=opening_moves)
    return play_all(play, built, one, other, seed)


def play_all(play: Callable[..., Score], built: Built, one: Side, other: Side, seed: int) -> Score:
    """``play_members`` with the result of ``make_match``."""
    keys = evaluation_keys(built, seed)
    scores = [jax.device_get(play(key, one.member(i), other.member(i))) for i, key in enumerate(keys)]
    return jax.tree.map(lambda *rows: np.stack(rows), *scores)
