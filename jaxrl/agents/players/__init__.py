"""Players that learn nothing, one file each: what a learned one is measured against."""

from jaxrl.agents.players.random_player import random_player
from jaxrl.agents.players.uct_player import uct_player

__all__ = ["random_player", "uct_player"]
