"""The configuration of a run: everything that is needed to repeat it, as one JSON file."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
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
"""Fields that older files lack, with the values that those runs used."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A part by name, with all its settings; see ``parts``."""

    name: str
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Float hyper-parameters and the combinations of values that are trained; all seeds are trained with each.

    Attributes:
      names: the names of the hyper-parameters.
      values: one tuple per combination, in the order of the names.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def grid(cls, axes: Mapping[str, Sequence[float]]) -> Sweep:
        """All combinations of the values of several hyper-parameters; the last one changes fastest."""
        return cls(tuple(axes), tuple(itertools.product(*(map(float, values) for values in axes.values()))))

    @property
    def title(self) -> str:
        """The names, as the title of a column."""
        return ", ".join(self.names)

    def label(self, index: int) -> str:
        """The name of a combination: ``gamma=0.9 learning_rate=0.001``."""
        return " ".join(f"{name}={value:g}" for name, value in zip(self.names, self.values[index], strict=True))

    def short(self, index: int) -> str:
        """The values of a combination without the names: ``0.9, 0.001``."""
        return ", ".join(f"{value:g}" for value in self.values[index])


class Member(NamedTuple):
    """One of the S members of a run.

    Attributes:
      number: its index along the leading axis ``[S]``; seeds change fastest.
      seed: the index of its seed.
      setting: the index of its combination of swept values; None without a sweep.
    """

    number: int
    seed: int
    setting: int | None

    def label(self, sweep: Sweep | None) -> str:
        """The name of this member in messages and tables."""
        if sweep is None or self.setting is None:
            return f"seed {self.seed}"
        return f"seed {self.seed} of {sweep.label(self.setting)}"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A phase of a run before its last one, with another agent or other settings.

    Attributes:
      recipe, parts, hyperparameters: those of the agent, see ``RunConfig``.
      num_updates: the number of updates.
      rollout_length: T; 0 for updates with an empty trajectory, which take no environment steps.
      hand_over: the parts of the state that the next stage's agent gets: path in its state -> path in this one's, such
        as ``{"params": "params"}`` or ``{"params.params.torso": "params.params.policy"}``. The rest is initialised
        anew.
    """

    recipe: str
    parts: dict[str, Chosen]
    hyperparameters: dict[str, Any]
    num_updates: int
    rollout_length: int
    hand_over: dict[str, str]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The configuration of a run. It contains the values of all defaults.

    Attributes:
      recipe: the name of the recipe: one of ``jaxrl.agents``, ``my_module:my_recipe``, or ``:my_recipe`` for an object
        that can't be imported and has to be given again.
      environment: the name of the environment, in one of the same three forms.
      seed: the random seed of the run; its key is split into one per seed.
      seeds: the number of agents that are trained side by side.
      num_steps: environment steps per seed, over all its environments; those of the last stage if there are several.
      num_envs: B, environments per seed.
      rollout_length: T.
      parts: the objects that the recipe takes, such as the torso, by the names of its arguments. The recipe's defaults
        apply to the others.
      hyperparameters: all hyper-parameters of the recipe.
      sweep: None without one.
      init_from: the run whose parameters this one started from, or None.
      window: the number of last observations that agents see at once; None for the environment's own observation.
      devices: the number of devices that the run is split over, over all processes.
      seed_devices: the number of groups of devices that members are split over; environments are split within a group.
      workers: threads that share one state; 0 for one program without threads.
      environment_settings: the arguments of ``jaxrl.make`` besides the name.
      stages: the stages before the recipe's own training, in order; empty for most runs.
      eval_every: environment steps per seed between two evaluations; None evaluates only at the end.
      eval_episodes: episodes per seed in an evaluation; 0 for none.
      chunks: ``(update, length)``: from this update on, the number of updates between two pauses. See ``session``.
      kind: of the run, a name of ``kinds.KINDS``, written down where the environment is known; None in older files.
      format_version: the version of this file format.
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
        """S, the number of seeds times the number of swept combinations."""
        return self.seeds * (1 if self.sweep is None else len(self.sweep.values))

    def members(self) -> list[Member]:
        """All members in the order of the leading axis ``[S]``: all seeds for each value of the sweep."""
        settings = (None,) if self.sweep is None else range(len(self.sweep.values))
        pairs = [(setting, seed) for setting in settings for seed in range(self.seeds)]
        return [Member(number, seed, setting) for number, (setting, seed) in enumerate(pairs)]

    def phases(self) -> list[RunConfig]:
        """The stages in order, then the recipe's own training, each as a run without stages."""
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
        """The number of updates of the whole run, over all stages."""
        return sum(stage.num_updates for stage in self.stages) + self.num_steps // (self.num_envs * self.rollout_length)

    def stage_at(self, update: int) -> int:
        """The index in ``phases`` of the stage that a checkpoint belongs to: the one that the update ends."""
        ends = itertools.accumulate(stage.num_updates for stage in self.stages)
        return sum(update > end for end in ends)

    def steps_at(self, update: int) -> int:
        """Environment steps per seed after a number of updates of the run."""
        steps = 0
        for stage in self.stages:
            taken = min(update, stage.num_updates)
            steps, update = steps + taken * self.num_envs * stage.rollout_length, update - taken
        return steps + update * self.num_envs * self.rollout_length

    def imports(self) -> list[str]:
        """All names ``module:name`` in the configuration."""
        agents: list[RunConfig | Stage] = [self, *self.stages]
        names = [self.environment, *(agent.recipe for agent in agents)]
        names += [chosen.name for agent in agents for chosen in agent.parts.values()]
        return [name for name in dict.fromkeys(names) if ":" in name and not name.startswith(":")]

    def identity(self) -> dict[str, Any]:
        """The fields that a checkpoint has to agree with: all but its length, start, devices and judge's server."""
        fields = json.loads(self.to_json())
        for part in fields["parts"].values():
            part["settings"] = {name: each for name, each in part["settings"].items() if not name.startswith("judge_")}
        free = ("num_steps", "init_from", "devices", "seed_devices", "eval_every", "eval_episodes", "chunks", "kind")
        # Fields that older runs lack are left out if they have the old default.
        return {name: fields[name] for name in fields if name not in free and fields[name] != SINCE.get(name, SINCE)}

    def to_json(self) -> str:
        """The text of the file."""
        fields = dataclasses.asdict(self)
        if self.sweep is not None and len(self.sweep.names) == 1:
            fields["sweep"] = {"name": self.sweep.names[0], "values": [value for (value,) in self.sweep.values]}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "configuration") -> RunConfig:
        """Reads the text that ``to_json`` wrote.

        Args:
          text: JSON.
          source: the name of the file in messages.

        Raises:
          ConfigError: it is not JSON, has another format version, or a field is unknown, missing or of another type.
            Nothing is imported, so what belongs to a ``module:name`` is checked when it is built.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{source}: not valid JSON ({error})") from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"{source}: got format_version {version}, must be {FORMAT_VERSION} for this version of jaxrl"
            )
        sweep = data.get("sweep")
        if isinstance(sweep, dict) and isinstance(sweep.get("values"), list) and "name" in sweep:
            data = {**data, "sweep": {"names": [sweep["name"]], "values": [[value] for value in sweep["values"]]}}
        config: RunConfig = _read(cls, {**SINCE, **data}, source)
        if config.sweep is not None and {len(row) for row in config.sweep.values} != {len(config.sweep.names)}:
            raise ConfigError(
                f"{source}: field 'sweep' must have a value for each name in each combination, got {sweep}"
            )
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
    """The stages in a file that is not a complete configuration.

    Raises:
      ConfigError: see ``RunConfig.from_json``.
    """
    if not isinstance(data, list):
        raise ConfigError(f"{source}: field 'stages' must be a list, got {type(data).__name__}")
    return tuple(_read(Stage, stage, f"{source}, stages, {index}") for index, stage in enumerate(data))


def _hashable(value: Any) -> Any:
    """Converts JSON's lists to tuples, because a Flax module with a list in a field can't be hashed."""
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
    """Refuses a value whose JSON type does not fit a field of ``RunConfig``; its content is not checked.

    Raises:
      ConfigError: the message names the field and the type.
    """
    kind = next(str(field.type) for field in dataclasses.fields(RunConfig) if field.name == name)
    if not isinstance(value, _PLAIN.get(kind) or _NESTED[kind]) or isinstance(value, bool):
        raise ConfigError(f"{source}: field '{name}' must be {kind}, got {value!r}")


_NESTED: dict[str, Any] = {
    "dict[str, Chosen]": dict,
    "Sweep | None": (dict, type(None)),
    "tuple[Stage, ...]": list,
}
"""The JSON types of dataclasses."""

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
    """An instance of one of the dataclasses above, from its dict in JSON."""
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
            fits, entries = _ENTRIES.get(kind, (lambda value: True, ""))
            if not fits(value):
                raise ConfigError(f"{source}: field '{name}' must have {entries}, got {value!r}")
            values[name] = _hashable(value)
    return cls(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_chunk(entry: Any) -> bool:
    """An update and a length, as pauses need them: a length of 0 would never end."""
    integers = isinstance(entry, list) and len(entry) == 2 and all(type(number) is int for number in entry)
    return integers and entry[0] >= 0 and entry[1] >= 1


_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dict[str, str]": (lambda value: all(isinstance(text, str) for text in value.values()), "texts as values"),
    "tuple[str, ...]": (lambda value: all(isinstance(text, str) for text in value), "texts as entries"),
    "tuple[tuple[float, ...], ...]": (
        lambda value: all(isinstance(row, list) and all(map(_is_number, row)) for row in value),
        "lists of numbers as entries",
    ),
    "tuple[tuple[int, int], ...]": (
        lambda value: all(map(_is_chunk, value)),
        "two integers in each entry, an update from 0 and a length of at least 1",
    ),
}
"""The kinds of entries of JSON lists and objects, with their names in messages."""
