"""The phases of a run: one for most runs, or several stages with successive agents."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxrl.runs.building import Built, Given, build
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable
from jaxrl.types import PyTree

STAGE = 0x57A6E
"""Folded into a member's key for each stage after the first."""


class Phase(NamedTuple):
    """The training of one agent in a run.

    Attributes:
      config: the configuration of this phase, as a run without stages.
      built: the objects that it names.
      first_update, first_step: updates and environment steps (per seed) in earlier phases.
      hand_over: the parts of this agent's state that the next one gets, see ``Stage``.
    """

    config: RunConfig
    built: Built
    first_update: int
    first_step: int
    hand_over: Mapping[str, str]

    @property
    def last_update(self) -> int:
        """The number of updates of the run at the end of this phase."""
        return self.first_update + self.built.num_updates

    @property
    def steps_per_update(self) -> int:
        """Environment steps per seed in one update."""
        return self.config.num_envs * self.config.rollout_length


def make_phases(config: RunConfig, given: Given | None = None) -> list[Phase]:
    """The phases of a run in order.

    Given objects belong to the last phase; its environment is that of all phases.

    Raises:
      ConfigError: see ``build``; the message has the index of the stage.
    """
    *before, last = config.phases()
    others = None if given is None else Given(environment=given.environment, env_params=given.env_params)
    phases: list[Phase] = []
    update = step = 0
    for number, (phase, stage) in enumerate(zip(before, config.stages, strict=True)):
        try:
            built = build(phase, others, stage.num_updates)
        except ConfigError as error:
            raise ConfigError(f"stage {number}: {error}") from error
        phases.append(Phase(phase, built, update, step, stage.hand_over))
        update, step = phases[-1].last_update, step + stage.num_updates * phases[-1].steps_per_update
    phases.append(Phase(last, build(last, given), update, step, {}))
    return [phase._replace(built=_with_own_keys(phase.built, number)) for number, phase in enumerate(phases)]


def _with_own_keys(built: Built, number: int) -> Built:
    """Gives a phase keys that differ from those of earlier ones; the first has the run's keys."""
    keys = built.keys if number == 0 else jax.vmap(lambda key: jax.random.fold_in(key, STAGE + number))(built.keys)
    return built._replace(keys=keys)


def check_hand_overs(phases: Sequence[Phase], programs: Sequence[Runnable]) -> None:
    """Checks that stages can hand over what they declare, before anything is trained.

    Raises:
      ConfigError: a path does not exist in one of the agents' states, or shapes or dtypes differ.
    """
    states = [program.abstract_state().agent for program in programs]
    for phase, state, fresh in zip(phases, states, states[1:], strict=False):
        for target, source in phase.hand_over.items():
            leaves = [jax.tree_util.tree_leaves_with_path(_at(*each)) for each in ((state, source), (fresh, target))]
            there, here = ({jax.tree_util.keystr(path): leaf for path, leaf in part} for part in leaves)
            for path in [*there, *here]:
                kinds = [
                    f"{part[path].dtype}{list(part[path].shape)}" if path in part else "absent"
                    for part in (there, here)
                ]
                if kinds[0] != kinds[1]:
                    problem = f"{source}{path} is {kinds[0]}, {target}{path} of the next stage is {kinds[1]}"
                    raise ConfigError(f"hand_over: {source} does not fit into {target}: {problem}")


def handed_over(phase: Phase, state: TrainState, fresh: TrainState) -> TrainState:
    """Returns the first state of the next phase, with the parts that this one hands over; see ``check_hand_overs``."""
    agent = fresh.agent
    for target, source in phase.hand_over.items():
        # A copy, because two leaves of one state may not share a buffer.
        agent = _put(agent, target.split("."), jax.tree.map(lambda x: x.copy(), _at(state.agent, source)))
    return fresh._replace(agent=agent)


def _at(tree: PyTree, path: str) -> Any:
    try:
        return functools.reduce(_child, path.split("."), tree)
    except (KeyError, AttributeError):
        names = list(tree) if isinstance(tree, Mapping) else getattr(tree, "_fields", ())
        raise ConfigError(f"hand_over: {type(tree).__name__} has no '{path}' (it has: {', '.join(names)})") from None


def _child(tree: Any, name: str) -> Any:
    return operator.getitem(tree, name) if isinstance(tree, Mapping) else getattr(tree, name)


def _put(tree: Any, path: Sequence[str], value: Any) -> Any:
    """The tree with another value at a path."""
    if not path:
        return value
    new = _put(_child(tree, path[0]), path[1:], value)
    return {**tree, path[0]: new} if isinstance(tree, Mapping) else tree._replace(**{path[0]: new})
