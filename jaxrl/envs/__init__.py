"""Environments in gymnax's protocol, made by name, described, wrapped and checked; and probes with known answers.

``make`` makes an environment by name, ``available`` lists the names, and ``settings`` lists the settings of one.
``spec`` describes an environment to agents, and ``check`` tests a custom one. ``wrappers``, ``window`` and
``remember`` wrap environments; ``repeat`` gives each start
several times; ``probes``, ``goals``, ``recall``, ``foresight`` and ``texts`` are environments of this package.
Planners use ``expose_state`` and ``simulator``; ``is_host`` tells environments outside JAX, and ``host_of`` finds their
layer in wrappers; ``success_of`` finds who judges goals; ``versus`` turns a two-player game into an environment.
``jaxrl.envs.protocol`` states the protocol.
"""

from jaxrl.envs import foresight, games, goals, probes, recall, texts, wrappers
from jaxrl.envs.abstract import ProtocolError, host_of, is_host, success_of
from jaxrl.envs.checks import KNOWN_EXCEPTIONS, Report, check
from jaxrl.envs.games.pgx_games import NotInstalled
from jaxrl.envs.games.versus import versus
from jaxrl.envs.memory import remember, window
from jaxrl.envs.planning import expose_state, num_players, simulator, steps_taken
from jaxrl.envs.protocol import Environment
from jaxrl.envs.registry import UnknownArgument, UnknownEnvironment, available, make, settings
from jaxrl.envs.repeats import repeat
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
    "foresight",
    "games",
    "goals",
    "host_of",
    "is_host",
    "make",
    "num_players",
    "probes",
    "recall",
    "remember",
    "repeat",
    "settings",
    "simulator",
    "spec",
    "steps_taken",
    "success_of",
    "texts",
    "versus",
    "window",
    "wrappers",
]


def __dir__() -> list[str]:
    return sorted(__all__)
