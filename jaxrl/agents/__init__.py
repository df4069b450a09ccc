"""The recipes, one file each, beside the skeletons that they bind."""

from jaxrl.agents.a2c import a2c
from jaxrl.agents.c51 import c51
from jaxrl.agents.dqn import dqn
from jaxrl.agents.iqn import iqn
from jaxrl.agents.ppo import ppo
from jaxrl.agents.qr_dqn import qr_dqn
from jaxrl.agents.rainbow import rainbow
from jaxrl.agents.reinforce import reinforce

__all__ = ["a2c", "c51", "dqn", "iqn", "ppo", "qr_dqn", "rainbow", "reinforce"]
