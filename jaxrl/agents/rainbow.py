"""Rainbow: C51 with five improvements of DQN. Hessel et al. 2018, arXiv:1710.02298."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.c51 import c51
from jaxrl.agents.c51 import functions as c51_functions
from jaxrl.agents.parts.action_values import default_torso as default_torso
from jaxrl.agents.parts.functions import Functions
from jaxrl.arguments import Count
from jaxrl.signature import Torso, recipe
from jaxrl.types import Agent, Spec


def functions(
    spec: Spec,
    *,
    torso: Torso | None = None,
    dueling: bool = True,
    noisy: bool = True,
    v_min: float = -10.0,
    v_max: float = 10.0,
    num_atoms: int = 51,
) -> Functions:
    """The greedy policy and the action values of a state; give it the arguments that the agent was made with."""
    atoms: dict[str, Any] = {"v_min": v_min, "v_max": v_max, "num_atoms": num_atoms}
    return c51_functions(spec, torso=torso, dueling=dueling, noisy=noisy, **atoms)


@recipe(extends=c51)
def rainbow(
    spec: Spec,
    *,
    double: bool = True,
    dueling: bool = True,
    noisy: bool = True,
    prioritized: bool = True,
    n_step: Count = 3,
    **options: Any,
) -> Agent:
    """Rainbow: ``c51`` with double, dueling, noisy, prioritized and n_step=3 by default; each can be switched off.

    Hessel et al. 2018, "Rainbow: combining improvements in deep reinforcement learning". Priorities are ``KL(q || p)``,
    with a constant ``beta = 0.4``; the paper increases it to 1, for which give
    ``replay=partial(replay.prioritized, beta_steps=...)``. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      double: the online network chooses the next action, the target network values it (van Hasselt et al. 2016).
      dueling: a value stream and an advantage stream (Wang et al. 2016).
      noisy: noisy layers in the head explore, instead of epsilon (Fortunato et al. 2018).
      prioritized: sample by priority (Schaul et al. 2016); ignored where ``replay=`` is given.
      n_step: rewards summed before the bootstrap (Watkins 1989).

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    prioritized = prioritized and options.get("replay") is None
    switches = {"double": double, "dueling": dueling, "noisy": noisy, "prioritized": prioritized}
    return c51(spec, n_step=n_step, **switches, **options)
