"""A3C: the asynchronous advantage actor-critic. Mnih et al. 2016, arXiv:1602.01783.

Asynchrony has two forms: as a delay of every gradient, here, which repeats exactly; and in threads
(``training.asynchronous``), which take any on-policy agent.
"""

from __future__ import annotations

from typing import Any

import optax

from jaxrl import optim
from jaxrl.agents.a2c import a2c
from jaxrl.agents.parts.actor_critic import functions as functions
from jaxrl.arguments import CountOrZero, Positive, TracedCountOrZero
from jaxrl.signature import Optimizer, recipe
from jaxrl.types import Agent, Spec


@recipe(extends=a2c)
def a3c(
    spec: Spec,
    *,
    delay: TracedCountOrZero = 3,
    max_delay: CountOrZero | None = None,
    optimizer: Optimizer = optim.RMSPROP,
    max_grad_norm: Positive | None = 0.5,
    **options: Any,
) -> Agent:
    """Asynchronous advantage actor-critic: A2C with gradients that arrive late; ``--workers N`` trains in threads.

    ``theta_{t+1} = theta_t - rmsprop(g(theta_{t-k}))``: each of k + 1 workers that take turns sees the parameters of k
    updates before. Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", arXiv:1602.01783.
    Reproducible, and vmappable over seeds and delays. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      delay: k, by how many updates a gradient is late; 0 is A2C. May be a tracer, with ``max_delay``.
      max_delay: gradients that are kept, at least the delay; None keeps as many as the delay.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """

    def late(rate: Any) -> optax.GradientTransformation:
        # The mean over devices comes first, so that all devices wait for the same gradients.
        return optim.averaged(optim.delayed(delay, optim.clipped(optimizer, rate, max_grad_norm), max_delay=max_delay))

    return a2c(spec, optimizer=late, max_grad_norm=None, **options)
