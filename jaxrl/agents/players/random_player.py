"""A player that takes random legal actions.

Legend of shapes: B environments, A actions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents.players import base
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, PyTree, Spec, action_mask


@recipe
def random_player(spec: Spec) -> Agent:
    """Takes uniformly random legal actions, with and without ``explore``.

    Args:
      spec: the environment's spec; its actions are discrete.

    Raises:
      TypeError: the actions are not discrete.
    """
    num_actions = base.num_actions("random_player", spec)

    def act(key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        del state, explore
        return jax.random.categorical(key, _legal_logits(observation, num_actions)).astype(jnp.int32), ()

    return base.player(act)


def _legal_logits(observation: Any, num_actions: int) -> Array:
    mask = action_mask(observation)
    if mask is None:
        batch = jax.tree.leaves(observation)[0].shape[0]
        return jnp.zeros((batch, num_actions))
    return jnp.where(mask, 0.0, -jnp.inf)
