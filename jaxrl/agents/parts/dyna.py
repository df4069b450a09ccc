"""Short rollouts in a model that branch off from transitions of a replay, and samples of both.

Legend of shapes: B environments, R rollouts of each, k steps, N samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import replay, types
from jaxrl.agents.parts import dynamics
from jaxrl.models.ensemble import Ensemble, EnsembleParams
from jaxrl.replay import Replay, Sample
from jaxrl.replay.ring import Ring
from jaxrl.types import Agent, Array, Box, Discrete, Transition


def short_rollouts(
    key: Array,
    ensemble: Ensemble,
    params: EnsembleParams,
    data: Ring,
    policy: Callable[[Array, Array], Array],
    action: Discrete | Box,
    *,
    num_rollouts: int,
    length: int,
) -> Transition:
    """Rollouts of a policy in the model, from observations of the replay on: algorithm 2 of Janner et al. 2019.

    Each step is a sample of a random elite, see ``dynamics.imagined``.

    Args:
      key: consumed.
      ensemble, params: the model of actions as the replay stores them.
      data: the replay, which is not empty.
      policy: ``(key, observation [M, D]) -> action [M, ...]``, as the replay stores it.
      action: the action space of the model.
      num_rollouts: R, for each environment of the replay.
      length: k.

    Returns:
      Leaves ``[k R, B, ...]``, the steps of a rollout R rows apart; truncated where a rollout was cut.
    """

    def act(key: Array, state: Any, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        del state, explore
        return policy(key, types.features(observation)), ()

    agent: Any = Agent(init=None, act=act, update=None)  # type: ignore[arg-type]
    sizes = {"length": length, "num_branches": num_rollouts * data.num_envs}
    rolled = dynamics.imagined(key, ensemble, params, data, agent, (), space=action, propagation="ts_1", **sizes)
    return jax.tree.map(lambda x: x.reshape(length * num_rollouts, data.num_envs, *x.shape[2:]), rolled)


def mixed(real: Ring, imagined: Ring, real_share: Any, gamma: Any) -> Replay:
    """A replay of two rings that are filled elsewhere. A sample is from the first with probability ``real_share``."""
    of_ring = replay.uniform(1, n_step=1, gamma=gamma)

    def sample(key: Array, state: Any, batch_size: int, *, reward_fn: Any = None) -> Sample:
        del state, reward_fn
        choice_key, *keys = jax.random.split(key, 3)
        is_real = jax.random.uniform(choice_key, (batch_size,)) < real_share
        both = (of_ring.sample(key, data, batch_size) for key, data in zip(keys, (real, imagined), strict=True))
        choose = lambda x, y: jnp.where(is_real.reshape(-1, *(1,) * (x.ndim - 1)), x, y)  # noqa: E731
        return jax.tree.map(choose, *both)

    return Replay(
        init=lambda example, num_envs: (),
        add=lambda state, trajectory: state,
        sample=sample,
        update_priorities=lambda state, index, priorities: state,
    )
