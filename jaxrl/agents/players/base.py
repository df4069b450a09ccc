"""Parts of players: agents that act and do not learn."""

from __future__ import annotations

from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.types import ActFn, Agent, Array, Discrete, InitFn, Metrics, PyTree, Spec, Transition


def num_actions(name: str, spec: Spec) -> int:
    """The number of discrete actions.

    Raises:
      TypeError: the actions are continuous, or the environment feeds a memory back. ``name`` is the player's name.
    """
    check_no_memory(spec, None)
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: got actions {spec.action}, {name} takes discrete ones")
    return spec.action.num_actions


def _nothing(key: Array, num_envs: int = 1) -> PyTree:
    del key, num_envs
    return ()


def player(act: ActFn, init: InitFn = _nothing) -> Agent:
    """An agent that does not learn; without ``init`` its state is ``()``."""

    def update(key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        del key, trajectory
        return state, {}

    return Agent(init, act, update)
