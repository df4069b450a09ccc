"""The recipes, one file each, beside the skeletons that they bind."""

from jaxrl.agents.a2c import a2c
from jaxrl.agents.dqn import dqn
from jaxrl.agents.ppo import ppo
from jaxrl.agents.reinforce import reinforce

__all__ = ["a2c", "dqn", "ppo", "reinforce"]
