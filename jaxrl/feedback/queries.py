"""Which queries are worth a teacher's time.

Legend of shapes: E members, N candidates.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from jaxrl.feedback.bradley_terry import entropy, log_probability
from jaxrl.types import Array

Choose = Literal["uniform", "disagreement", "entropy"]

POOL = 10
"""The number of candidates for each query that is chosen by its use."""


def use(choose: Choose, gap: Array) -> Array:
    """The expected use ``[N]`` of the answers to candidate queries, by what the members predict.

    Args:
      choose: "disagreement" for the standard deviation of the members' probabilities (Christiano et al. 2017, section
        2.2.4), "entropy" for the entropy of their mean (Lee et al. 2021, PEBBLE), "uniform" for 0.
      gap: ``[E, N]`` learned return of the first segment minus that of the second.

    >>> use("disagreement", jnp.array([[3.0, 0.0], [-3.0, 0.0]])).argmax().item()
    0
    """
    probability = jnp.exp(log_probability(gap))
    if choose == "disagreement":
        return probability.std(axis=0)
    return entropy(probability.mean(axis=0)) if choose == "entropy" else jnp.zeros(gap.shape[1:], gap.dtype)
