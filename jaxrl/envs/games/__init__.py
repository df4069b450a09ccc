"""pgx's games in gymnax's protocol, their symmetries, and two-player games as one-player environments.

pgx is imported when a game is made, not before.
"""

from jaxrl.envs.games.symmetries import Symmetries, board_symmetries
from jaxrl.envs.games.versus import Versus, VersusParams, versus

__all__ = ["Symmetries", "Versus", "VersusParams", "board_symmetries", "versus"]


def __dir__() -> list[str]:
    return sorted(__all__)
