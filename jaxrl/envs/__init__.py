"""Environments: gymnax's protocol, made by name, described, wrapped, checked; and probes with known answers.

``make`` and ``available`` by name, ``spec`` for agents, ``check`` for an environment of your own, ``wrappers``,
``probes``, ``goals``. The protocol is written down in ``jaxrl.envs.protocol``.
"""

from jaxrl.envs import goals, probes, wrappers
from jaxrl.envs.checks import KNOWN_EXCEPTIONS, Report, check
from jaxrl.envs.episodes import ProtocolError
from jaxrl.envs.protocol import Environment
from jaxrl.envs.registry import UnknownArgument, UnknownEnvironment, available, make
from jaxrl.envs.specs import SpecError, spec

__all__ = [
    "KNOWN_EXCEPTIONS",
    "Environment",
    "ProtocolError",
    "Report",
    "SpecError",
    "UnknownArgument",
    "UnknownEnvironment",
    "available",
    "check",
    "goals",
    "make",
    "probes",
    "spec",
    "wrappers",
]
