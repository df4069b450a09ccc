"""A3C: the asynchronous advantage actor-critic. Mnih et al. 2016, arXiv:1602.01783.

Asynchrony comes in two forms. This recipe simulates it by a delay of every gradient, which is reproducible.
``training.asynchronous`` trains any on-policy agent in threads.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from jaxrl import optim
from jaxrl.agents.a2c import A2CState, a2c
from jaxrl.agents.parts.actor_critic import functions as functions
from jaxrl.arguments import CountOrZero, NonNegative, Positive, TracedCount, TracedCountOrZero
from jaxrl.signature import Optimizer, recipe
from jaxrl.types import Agent, Array, Metrics, Spec, Transition


@recipe(extends=a2c)
def a3c(
    spec: Spec,
    *,
    delay: TracedCountOrZero = 3,
    max_delay: CountOrZero | None = None,
    optimizer: Optimizer = optim.RMSPROP,
    learning_rate: NonNegative = 7e-4,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    max_grad_norm: Positive | None = 0.5,
    **options: Any,
) -> Agent:
    """Asynchronous advantage actor-critic: A2C with gradients that arrive late; ``--workers N`` trains in threads.

    ``theta_{t+1} = theta_t - rmsprop(g(theta_{t-k}))``: k + 1 workers take turns, so each gradient is computed with the
    parameters of k updates before. Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning",
    arXiv:1602.01783. It is reproducible, and can be vmapped over seeds and delays. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      delay: k, the number of updates by which a gradient is late; 0 is A2C. May be a tracer, with ``max_delay``.
      max_delay: size of the buffer of gradients, at least the delay; None for the delay.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      num_updates: gradients that have arrived when the annealed learning rate reaches 0.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """

    def late(rate: Any) -> optax.GradientTransformation:
        # The mean over devices comes first, so that all devices wait for the same gradients.
        return optim.averaged(optim.delayed(delay, optim.clipped(optimizer, rate, max_grad_norm), max_delay=max_delay))

    agent = a2c(
        spec,
        optimizer=late,
        learning_rate=learning_rate,
        anneal_learning_rate=anneal_learning_rate,
        num_updates=num_updates,
        max_grad_norm=None,
        **options,
    )
    rate = optim.annealed(learning_rate, num_updates) if anneal_learning_rate else learning_rate
    lag = delay if max_delay is None else jnp.minimum(delay, max_delay)

    def update(key: Array, state: A2CState, trajectory: Transition) -> tuple[A2CState, Metrics]:
        new, metrics = agent.update(key, state, trajectory)
        # The optimizer counts the gradients that have arrived, so its schedule is delayed too.
        before, after = (jnp.maximum(updates - lag, 0) for updates in (state.updates, new.updates))
        return new, {**metrics, "gradient_steps": after, "learning_rate": optim.rate_at(rate, before)}

    return agent._replace(update=update)
