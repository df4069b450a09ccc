"""Players that do not learn, one file each: opponents and baselines for learned players."""

from jaxrl.agents.players.random_player import random_player
from jaxrl.agents.players.uct_player import uct_player

__all__ = ["random_player", "uct_player"]
