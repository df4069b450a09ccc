"""C51: the distribution of the return on fixed atoms. Bellemare, Dabney and Munos 2017, arXiv:1707.06887."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents.action_values import Criterion, action_values
from jaxrl.agents.signature import extends
from jaxrl.arguments import ANY, check_count, check_float
from jaxrl.ops import distributional
from jaxrl.types import Agent, Array, Spec


def categorical(v_min: Any, v_max: Any, num_atoms: int) -> Criterion:
    """``-sum_i q_i log p_i``, q the next distribution moved by reward and discount and projected on the atoms.

    The priority is ``KL(q || p)``, as in Rainbow (Hessel et al. 2018): zero where there is nothing left to learn.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_float("v_min", v_min, ANY)
    check_float("v_max", v_max, ANY)
    check_count("num_atoms", num_atoms, least=2)
    if not isinstance(v_min - v_max, jax.core.Tracer) and v_min >= v_max:
        raise ValueError(f"v_max: got {v_max}, must lie above v_min, {v_min}")
    support = v_min + (v_max - v_min) * jnp.linspace(0.0, 1.0, num_atoms, dtype=jnp.float32)

    def mean(logits: Array) -> Array:
        return distributional.categorical_mean(jax.nn.softmax(logits), support)

    def terms(chosen: Array, next_chosen: Array, reward: Array, discount: Array) -> tuple[Array, Array]:
        atoms = distributional.target_atoms(reward, discount, support)
        target = distributional.project(atoms, jax.nn.softmax(next_chosen), support)
        loss = distributional.categorical_cross_entropy_term(chosen, target)
        return loss, loss - jax.scipy.special.entr(target).sum(axis=-1)

    return Criterion(num_outputs=num_atoms, mean=mean, terms=terms)


@extends(action_values, without=("criterion", "name"))
def c51(spec: Spec, *, v_min: float = -10.0, v_max: float = 10.0, num_atoms: int = 51, **options: Any) -> Agent:
    """Categorical DQN: the distribution of each action's return on fixed atoms, by cross-entropy.

    ``L = E w (-sum_i (Phi(r + gamma Z'(s', a*)))_i log p_i(s, a))``, ``a* = argmax sum_i p'_i z_i``. Bellemare et al.
    2017, "A distributional perspective on reinforcement learning". Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      v_min: the lowest atom, in units of the discounted return; returns below count as this.
      v_max: the highest atom.
      num_atoms: atoms, evenly spaced.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    return action_values(spec, criterion=categorical(v_min, v_max, num_atoms), name="c51", **options)
