"""Environments outside JAX, in C++ or Python: ``HostEnv`` and the suites that it reaches by prefix."""

from jaxrl.envs.host.env import HostEnv, HostParams, HostState, Interface
from jaxrl.envs.host.spaces import interface
from jaxrl.envs.host.vectors import EnvironmentFailed, Serial, Stepped, Vector

__all__ = [
    "EnvironmentFailed",
    "HostEnv",
    "HostParams",
    "HostState",
    "Interface",
    "Serial",
    "Stepped",
    "Vector",
    "interface",
]
