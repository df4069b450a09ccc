"""jaxrl: reinforcement learning as pure functions in JAX.

An agent is three functions, ``init``, ``act`` and ``update``, over one immutable state; see ``jaxrl.types``. Loops step
environments; ``jit`` and ``vmap`` are yours. Everything here loads on first use, so that ``import jaxrl`` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl import (
        agents,
        envs,
        feedback,
        losses,
        models,
        networks,
        ops,
        optim,
        planners,
        replay,
        rollout,
        runs,
        search,
        text,
        training,
        types,
    )
    from jaxrl.agents.a2c import a2c
    from jaxrl.agents.a3c import a3c
    from jaxrl.agents.alphazero import alphazero
    from jaxrl.agents.c51 import c51
    from jaxrl.agents.combinators.with_reward import with_reward
    from jaxrl.agents.ddpg import ddpg
    from jaxrl.agents.dqn import dqn
    from jaxrl.agents.expected_sarsa import expected_sarsa
    from jaxrl.agents.grpo import grpo
    from jaxrl.agents.i2a import i2a
    from jaxrl.agents.iqn import iqn
    from jaxrl.agents.mbmf import mbmf
    from jaxrl.agents.mbpo import mbpo
    from jaxrl.agents.mbve import mbve
    from jaxrl.agents.mpc import mpc
    from jaxrl.agents.muzero import muzero
    from jaxrl.agents.parts.functions import functions
    from jaxrl.agents.pets import pets
    from jaxrl.agents.ppo import ppo
    from jaxrl.agents.pqn import pqn
    from jaxrl.agents.q_learning import q_learning
    from jaxrl.agents.qr_dqn import qr_dqn
    from jaxrl.agents.rainbow import rainbow
    from jaxrl.agents.reinforce import reinforce
    from jaxrl.agents.rlhf import rlhf
    from jaxrl.agents.rloo import rloo
    from jaxrl.agents.sac import sac
    from jaxrl.agents.sarsa import sarsa
    from jaxrl.agents.steve import steve
    from jaxrl.agents.td3 import td3
    from jaxrl.agents.trpo import trpo
    from jaxrl.agents.world_models import world_models
    from jaxrl.envs import make, spec
    from jaxrl.runs import load, preset
    from jaxrl.training import start, train
    from jaxrl.training.evaluate import evaluate
    from jaxrl.types import Agent, Observation, Spec, Transition

__version__ = "0.2.0"

_HOME = {
    "Agent": "types",
    "Observation": "types",
    "Spec": "types",
    "Transition": "types",
    "a2c": "agents",
    "a3c": "agents",
    "alphazero": "agents",
    "c51": "agents",
    "ddpg": "agents",
    "dqn": "agents",
    "evaluate": "training",
    "expected_sarsa": "agents",
    "functions": "agents.parts.functions",
    "grpo": "agents",
    "i2a": "agents",
    "iqn": "agents",
    "load": "runs",
    "make": "envs",
    "mbmf": "agents",
    "mbpo": "agents",
    "mbve": "agents",
    "mpc": "agents",
    "muzero": "agents",
    "pets": "agents",
    "ppo": "agents",
    "pqn": "agents",
    "preset": "runs",
    "q_learning": "agents",
    "qr_dqn": "agents",
    "rainbow": "agents",
    "reinforce": "agents",
    "rlhf": "agents",
    "rloo": "agents",
    "sac": "agents",
    "sarsa": "agents",
    "steve": "agents",
    "spec": "envs",
    "start": "training",
    "td3": "agents",
    "train": "training",
    "trpo": "agents",
    "with_reward": "agents.combinators",
    "world_models": "agents",
}
_PACKAGES = (
    "agents",
    "envs",
    "feedback",
    "losses",
    "models",
    "networks",
    "ops",
    "optim",
    "planners",
    "replay",
    "rollout",
    "runs",
    "search",
    "text",
    "training",
    "types",
)

__all__ = [
    "Agent",
    "Observation",
    "Spec",
    "Transition",
    "a2c",
    "a3c",
    "agents",
    "alphazero",
    "c51",
    "ddpg",
    "dqn",
    "envs",
    "evaluate",
    "expected_sarsa",
    "feedback",
    "functions",
    "grpo",
    "i2a",
    "iqn",
    "load",
    "losses",
    "make",
    "mbmf",
    "mbpo",
    "mbve",
    "models",
    "mpc",
    "muzero",
    "networks",
    "ops",
    "optim",
    "pets",
    "planners",
    "ppo",
    "pqn",
    "preset",
    "q_learning",
    "qr_dqn",
    "rainbow",
    "reinforce",
    "replay",
    "rollout",
    "runs",
    "rlhf",
    "rloo",
    "sac",
    "sarsa",
    "steve",
    "search",
    "spec",
    "start",
    "td3",
    "text",
    "train",
    "training",
    "trpo",
    "types",
    "with_reward",
    "world_models",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"jaxrl.{_HOME[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"jaxrl.{name}")
    raise AttributeError(f"module 'jaxrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
