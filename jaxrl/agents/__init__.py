"""The recipes, one file each. Code that they share is in ``agents.parts``, their presets in ``agents.presets``.

Functions from agents to agents are in ``agents.combinators``, players that do not learn in ``agents.players``.
"""

from jaxrl.agents.a2c import a2c
from jaxrl.agents.a3c import a3c
from jaxrl.agents.alphazero import alphazero
from jaxrl.agents.c51 import c51
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

__all__ = [
    "a2c",
    "a3c",
    "alphazero",
    "c51",
    "ddpg",
    "dqn",
    "expected_sarsa",
    "grpo",
    "i2a",
    "iqn",
    "mbmf",
    "mbpo",
    "mbve",
    "mpc",
    "muzero",
    "pets",
    "ppo",
    "pqn",
    "q_learning",
    "qr_dqn",
    "rainbow",
    "reinforce",
    "rlhf",
    "rloo",
    "sac",
    "sarsa",
    "steve",
    "td3",
    "trpo",
    "world_models",
]
