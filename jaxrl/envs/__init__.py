"""Environments: gymnax's protocol, made by name, described, wrapped, checked; and probes with known answers.

``make`` and ``available`` by name, ``spec`` for agents, ``check`` for an environment of your own, ``wrappers``,
``window`` and ``remember`` for memory, ``probes``, ``goals``, ``recall``; ``expose_state`` and ``simulator`` for
planners, ``versus`` for games of two. The protocol is written down in ``jaxrl.envs.protocol``.
"""

from jaxrl.envs import games, goals, probes, recall, wrappers
from jaxrl.envs.checks import KNOWN_EXCEPTIONS, Report, check
from jaxrl.envs.episodes import ProtocolError
from jaxrl.envs.games.pgx_games import NotInstalled
from jaxrl.envs.games.versus import versus
from jaxrl.envs.memory import remember, window
from jaxrl.envs.planning import expose_state, num_players, simulator, steps_taken
from jaxrl.envs.protocol import Environment
from jaxrl.envs.registry import UnknownArgument, UnknownEnvironment, available, make
from jaxrl.envs.specs import SpecError, spec

__all__ = [
    "KNOWN_EXCEPTIONS",
    "Environment",
    "NotInstalled",
    "ProtocolError",
    "Report",
    "SpecError",
    "UnknownArgument",
    "UnknownEnvironment",
    "available",
    "check",
    "expose_state",
    "games",
    "goals",
    "make",
    "num_players",
    "probes",
    "recall",
    "remember",
    "simulator",
    "spec",
    "steps_taken",
    "versus",
    "window",
    "wrappers",
]
