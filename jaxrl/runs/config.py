"""What a run was asked to do: everything that is needed to do it again, as one JSON file."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxrl.arguments import nearest
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.parts import object_arguments, settings_of
from jaxrl.runs.recipes import hyperparameters

FORMAT_VERSION = 2

SINCE: dict[str, Any] = {
    "devices": 1,
    "seed_devices": 1,
    "window": None,
    "workers": 0,
    "environment_settings": {},
    "stages": [],
    "eval_every": None,
    "eval_episodes": 128,
    "chunks": [],
    "kind": None,
}
"""Fields that older files lack, and what those runs did."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A part by name, with all its settings; see ``parts``."""

    name: str
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Float hyper-parameters and the values that they take together; all seeds are trained with each.

    Attributes:
      names: of the hyper-parameters.
      values: one tuple for each setting that is tried, in the order of the names.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def grid(cls, axes: Mapping[str, Sequence[float]]) -> Sweep:
        """All combinations of the values of several hyper-parameters; the last one's change the fastest."""
        return cls(tuple(axes), tuple(itertools.product(*(map(float, values) for values in axes.values()))))

    @property
    def title(self) -> str:
        """The names, as a column of a table is called."""
        return ", ".join(self.names)

    def label(self, index: int) -> str:
        """What a setting is called: ``gamma=0.9 learning_rate=0.001``."""
        return " ".join(f"{name}={value:g}" for name, value in zip(self.names, self.values[index], strict=True))

    def short(self, index: int) -> str:
        """The same without the names: ``0.9, 0.001``."""
        return ", ".join(f"{value:g}" for value in self.values[index])


class Member(NamedTuple):
    """One of the S members of a run.

    Attributes:
      number: of the leading axis ``[S]``; seeds change the fastest.
      seed: which of the run's seeds.
      setting: which of the sweep's values, an index; None without a sweep.
    """

    number: int
    seed: int
    setting: int | None

    def label(self, sweep: Sweep | None) -> str:
        """What messages and tables call this member."""
        if sweep is None or self.setting is None:
            return f"seed {self.seed}"
        return f"seed {self.seed} of {sweep.label(self.setting)}"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A phase of a run before its last one: another agent, or the same with other settings.

    Attributes:
      recipe, parts, hyperparameters: of the agent, see ``RunConfig``.
      num_updates: how many.
      rollout_length: T; 0 for updates with an empty trajectory, for which nothing is stepped.
      hand_over: what the next stage's agent gets: path in its state -> path in the state of this one, such as
        ``{"params": "params"}`` or ``{"params.params.torso": "params.params.policy"}``. The rest of it is fresh.
    """

    recipe: str
    parts: dict[str, Chosen]
    hyperparameters: dict[str, Any]
    num_updates: int
    rollout_length: int
    hand_over: dict[str, str]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The configuration of a run. Nothing in it is a default: what was used is written out.

    Attributes:
      recipe: the agent: a name of ``jaxrl.agents``, ``my_module:my_recipe``, or ``:my_recipe`` for an object that can't
        be imported and has to be given again.
      environment: its name, in the same three ways.
      seed: of the key that is split into one for each seed.
      seeds: how many agents are trained side by side.
      num_steps: environment steps of each seed, all its environments together; of the last stage, where there are more.
      num_envs: B, environments of each seed.
      rollout_length: T.
      parts: the objects that the recipe takes, by the names of its arguments: the torso. What is absent is left to
        the recipe.
      hyperparameters: all that the recipe has.
      sweep: None without one.
      init_from: the run whose parameters this one started from, or None.
      window: steps of the episode that agents are shown at once; None for the environment's own observation.
      devices: how many the run is split over, those of all processes together.
      seed_devices: over how many groups of them members are split; environments are split within a group.
      workers: threads that share one state; 0 for none, all in one program.
      environment_settings: what ``jaxrl.make`` is given beside the name.
      stages: what is done before the recipe's own training, in order; empty for most runs.
      eval_every: environment steps of each seed between two evaluations; None evaluates at the end alone.
      eval_episodes: of each seed in an evaluation; 0 for none.
      chunks: ``(update, length)``: from this update on, so many updates between two pauses. See ``session``.
      kind: of the run, a name of ``kinds.KINDS``, written down where the environment is known; None in older files.
      format_version: of this file.
    """

    recipe: str
    environment: str
    seed: int
    seeds: int
    num_steps: int
    num_envs: int
    rollout_length: int
    parts: dict[str, Chosen]
    hyperparameters: dict[str, Any]
    sweep: Sweep | None = None
    init_from: str | None = None
    window: int | None = None
    devices: int = 1
    seed_devices: int = 1
    workers: int = 0
    environment_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    eval_every: int | None = None
    eval_episodes: int = 128
    chunks: tuple[tuple[int, int], ...] = ()
    kind: str | None = None
    format_version: int = FORMAT_VERSION

    @property
    def num_members(self) -> int:
        """S: the seeds, times the values of the sweep."""
        return self.seeds * (1 if self.sweep is None else len(self.sweep.values))

    def members(self) -> list[Member]:
        """All members in the order of the leading axis ``[S]``: for each value of the sweep all the seeds."""
        settings = (None,) if self.sweep is None else range(len(self.sweep.values))
        pairs = [(setting, seed) for setting in settings for seed in range(self.seeds)]
        return [Member(number, seed, setting) for number, (setting, seed) in enumerate(pairs)]

    def phases(self) -> list[RunConfig]:
        """The stages in order, the recipe's own last, each as a run without stages."""
        return [
            *(
                dataclasses.replace(
                    self,
                    recipe=stage.recipe,
                    parts=stage.parts,
                    hyperparameters=stage.hyperparameters,
                    rollout_length=stage.rollout_length,
                    num_steps=stage.num_updates * self.num_envs * stage.rollout_length,
                    stages=(),
                )
                for stage in self.stages
            ),
            dataclasses.replace(self, stages=()),
        ]

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, all stages together."""
        return sum(stage.num_updates for stage in self.stages) + self.num_steps // (self.num_envs * self.rollout_length)

    def stage_at(self, update: int) -> int:
        """The number of the stage that a checkpoint belongs to, in ``phases``: the one that the update ends."""
        ends = itertools.accumulate(stage.num_updates for stage in self.stages)
        return sum(update > end for end in ends)

    def steps_at(self, update: int) -> int:
        """Environment steps of each seed after so many updates of the run."""
        steps = 0
        for stage in self.stages:
            taken = min(update, stage.num_updates)
            steps, update = steps + taken * self.num_envs * stage.rollout_length, update - taken
        return steps + update * self.num_envs * self.rollout_length

    def imports(self) -> list[str]:
        """All names ``module:name`` in it."""
        agents: list[RunConfig | Stage] = [self, *self.stages]
        names = [self.environment, *(agent.recipe for agent in agents)]
        names += [chosen.name for agent in agents for chosen in agent.parts.values()]
        return [name for name in dict.fromkeys(names) if ":" in name and not name.startswith(":")]

    def identity(self) -> dict[str, Any]:
        """What a checkpoint has to agree with: all but the run's length, where it started from, and on what it runs."""
        fields = json.loads(self.to_json())
        free = ("num_steps", "init_from", "devices", "seed_devices", "eval_every", "eval_episodes", "chunks", "kind")
        # What older runs did goes without saying, as it did for them.
        return {name: fields[name] for name in fields if name not in free and fields[name] != SINCE.get(name, SINCE)}

    def to_json(self) -> str:
        """The file's text."""
        fields = dataclasses.asdict(self)
        if self.sweep is not None and len(self.sweep.names) == 1:
            fields["sweep"] = {"name": self.sweep.names[0], "values": [value for (value,) in self.sweep.values]}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "configuration") -> RunConfig:
        """Reads what ``to_json`` wrote.

        Args:
          text: JSON.
          source: what to call the file in messages.

        Raises:
          ConfigError: not JSON, another version of the format, or a field unknown, missing or of another type. Nothing
            is imported, so what belongs to a ``module:name`` is checked when it is built.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{source}: not valid JSON ({error})") from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise ConfigError(f"{source}: format_version is {version}, this jaxrl reads version {FORMAT_VERSION}")
        sweep = data.get("sweep")
        if isinstance(sweep, dict) and isinstance(sweep.get("values"), list) and "name" in sweep:
            data = {**data, "sweep": {"names": [sweep["name"]], "values": [[value] for value in sweep["values"]]}}
        config: RunConfig = _read(cls, {**SINCE, **data}, source)
        agents: list[RunConfig | Stage] = [config, *config.stages]
        for agent in agents:
            if ":" not in agent.recipe:
                _check_names(f"{source}: hyper-parameter", agent.hyperparameters, hyperparameters(agent.recipe))
                _check_known(f"{source}: part", agent.parts, object_arguments(agent.recipe))
            for part, chosen in agent.parts.items():
                if ":" not in chosen.name:
                    _check_names(f"{source}: setting of {part}", chosen.settings, settings_of(part, chosen.name))
        return config


def read_stages(data: Any, source: str) -> tuple[Stage, ...]:
    """The stages of a file that is no whole configuration.

    Raises:
      ConfigError: see ``RunConfig.from_json``.
    """
    if not isinstance(data, list):
        raise ConfigError(f"{source}: field 'stages' must be a list, got {type(data).__name__}")
    return tuple(_read(Stage, stage, f"{source}, stages, {index}") for index, stage in enumerate(data))


def _hashable(value: Any) -> Any:
    """JSON's lists as tuples: a Flax module with a list in a field can't be hashed."""
    if isinstance(value, dict):
        return {name: _hashable(item) for name, item in value.items()}
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _check_known(what: str, given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{what} '{name}' is unknown to this version of jaxrl{nearest(name, known)}")


def _check_names(what: str, given: Any, known: Any) -> None:
    _check_known(what, given, known)
    missing = [name for name in known if name not in given]
    if missing:
        raise ConfigError(f"{what} missing: {', '.join(missing)}")


def check_field(name: str, value: Any, source: str) -> None:
    """Refuses a value that a field of ``RunConfig`` can't have by its type in JSON; what is inside is not looked at.

    Raises:
      ConfigError: naming it, and the type.
    """
    kind = next(str(field.type) for field in dataclasses.fields(RunConfig) if field.name == name)
    if not isinstance(value, _PLAIN.get(kind) or _NESTED[kind]) or isinstance(value, bool):
        raise ConfigError(f"{source}: field '{name}' must be {kind}, got {value!r}")


_NESTED: dict[str, Any] = {
    "dict[str, Chosen]": dict,
    "Sweep | None": (dict, type(None)),
    "tuple[Stage, ...]": list,
}
"""What JSON has in the place of dataclasses."""

_PLAIN: dict[str, Any] = {
    "str": str,
    "int": int,
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "dict[str, Any]": dict,
    "dict[str, str]": dict,
    "tuple[str, ...]": list,
    "tuple[tuple[float, ...], ...]": list,
    "tuple[tuple[int, int], ...]": list,
}


def _read(cls: type, data: Any, source: str) -> Any:
    """An instance of one of the dataclasses above from the dict that JSON made of it."""
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected an object, got {type(data).__name__}")
    fields = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    _check_names(f"{source}: field", data, fields)
    values: dict[str, Any] = {}
    for name, kind in fields.items():
        value = data[name]
        where = f"{source}, {name}"
        if kind == "Sweep | None":
            values[name] = None if value is None else _read(Sweep, value, where)
        elif kind == "dict[str, Chosen]" and isinstance(value, dict):
            values[name] = {key: _read(Chosen, part, f"{where}, {key}") for key, part in value.items()}
        elif kind == "tuple[Stage, ...]" and isinstance(value, list):
            values[name] = tuple(_read(Stage, stage, f"{where}, {index}") for index, stage in enumerate(value))
        elif not isinstance(value, _PLAIN.get(kind, ())) or isinstance(value, bool):
            raise ConfigError(f"{source}: field '{name}' must be {kind}, got {value!r}")
        else:
            values[name] = _hashable(value)
    return cls(**values)
