"""Sequential halving: the number of visits that the next action to try must have."""

from __future__ import annotations

import numpy as np


def considered_visits(num_considered: int, num_simulations: int) -> list[int]:
    """For each simulation, the number of visits so far of the action that it follows.

    In each phase all considered actions are visited equally often, then the better half is kept. The phases share the
    simulations equally. Karnin et al., "Almost optimal exploration in multi-armed bandits", 2013,
    http://proceedings.mlr.press/v28/karnin13.pdf.

    Args:
      num_considered: the number of actions in the first phase.
      num_simulations: the number of simulations in all phases.

    >>> considered_visits(4, 8)
    [0, 0, 0, 0, 1, 1, 2, 2]
    """
    if num_considered <= 1:
        return list(range(num_simulations))
    num_phases = (num_considered - 1).bit_length()
    sequence: list[int] = []
    visits = [0] * num_considered
    left = num_considered
    while len(sequence) < num_simulations:
        for _ in range(max(1, num_simulations // (num_phases * left))):
            sequence += visits[:left]
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return sequence[:num_simulations]


def table(max_considered: int, num_simulations: int) -> np.ndarray:
    """``considered_visits`` for 0 to ``max_considered`` actions, ``[max_considered + 1, num_simulations]`` int32."""
    return np.array([considered_visits(count, num_simulations) for count in range(max_considered + 1)], np.int32)
