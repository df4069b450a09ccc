"""Verdicts on single decisions by rules, which stand in for a trainer's judgement in experiments."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.feedback.trainers import JudgeFn
from jaxrl.types import Array, Transition, features


def balancing(steps: Transition) -> Array:
    """CartPole: praises a push towards the side to which the pole falls. Always doing so balances for 500 steps."""
    seen = features(steps.observation)
    falls_right = seen[..., 2] + 0.5 * seen[..., 3] > 0.0
    return jnp.where(falls_right == (steps.action == 1), 1.0, -1.0)


def sign_of_reward(steps: Transition) -> Array:
    """Praises decisions that the environment pays, and blames those that cost."""
    return jnp.sign(steps.reward)


VERDICTS: dict[str, JudgeFn] = {"CartPole-v1": balancing}
"""The rules of environments, by name."""


def verdict(env: Any) -> JudgeFn:
    """The rule of an environment; the sign of its reward where it has none."""
    return VERDICTS.get(getattr(env, "name", ""), sign_of_reward)
