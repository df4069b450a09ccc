"""What a run was asked to do: everything that is needed to do it again, as one JSON file."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

from jaxrl.arguments import nearest
from jaxrl.runs.parts import parts_of, settings_of
from jaxrl.runs.recipes import hyperparameters

FORMAT_VERSION = 2

SINCE: dict[str, Any] = {"devices": 1, "seed_devices": 1, "window": None, "workers": 0}
"""Fields that older files lack, and what those runs did."""


class ConfigError(ValueError):
    """A run that can't be: an unknown name, a value out of range, a file that isn't a configuration."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A part by name, with all its settings; see ``parts``."""

    name: str
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One float hyper-parameter and the values it takes, each with all the seeds."""

    name: str
    values: tuple[float, ...]


class Member(NamedTuple):
    """One of the S members of a run.

    Attributes:
      number: of the leading axis ``[S]``, counting seeds fastest.
      seed: which of the run's seeds.
      value: of the swept hyper-parameter, None without a sweep.
    """

    number: int
    seed: int
    value: float | None

    def label(self, sweep: Sweep | None) -> str:
        """How messages and tables call this member."""
        return f"seed {self.seed}" if sweep is None else f"seed {self.seed} of {sweep.name}={self.value:g}"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The configuration of a run. Nothing in it is a default: what was used is written out.

    Attributes:
      recipe: name of the agent.
      environment: name of the environment.
      seed: of the key that is split into one for each seed.
      seeds: how many agents are trained side by side.
      num_steps: environment steps of each seed, all its environments together.
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
    format_version: int = FORMAT_VERSION

    @property
    def num_members(self) -> int:
        """S: the seeds, times the values of the sweep."""
        return self.seeds * (1 if self.sweep is None else len(self.sweep.values))

    def members(self) -> list[Member]:
        """All members in the order of the leading axis ``[S]``: for each value of the sweep all the seeds."""
        values = (None,) if self.sweep is None else self.sweep.values
        pairs = [(value, seed) for value in values for seed in range(self.seeds)]
        return [Member(number, seed, value) for number, (value, seed) in enumerate(pairs)]

    def identity(self) -> dict[str, Any]:
        """What a checkpoint has to agree with: all but the run's length, where it started from, and on what it runs."""
        fields = json.loads(self.to_json())
        free = ("num_steps", "init_from", "devices", "seed_devices")
        # What older runs did goes without saying, as it did for them.
        return {name: fields[name] for name in fields if name not in free and fields[name] != SINCE.get(name, SINCE)}

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "configuration") -> RunConfig:
        """Reads what ``to_json`` wrote.

        Args:
          text: JSON.
          source: what to call the file in messages.

        Raises:
          ConfigError: not JSON, another version of the format, or a field unknown, missing or of another type.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{source}: not valid JSON ({error})") from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise ConfigError(f"{source}: format_version is {version}, this jaxrl reads version {FORMAT_VERSION}")
        config = _read(cls, {**SINCE, **data}, source)
        _check_names(f"{source}: hyper-parameter", config.hyperparameters, hyperparameters(config.recipe))
        _check_known(f"{source}: part", config.parts, parts_of(config.recipe))
        for part, chosen in config.parts.items():
            _check_names(f"{source}: setting of {part}", chosen.settings, settings_of(part, chosen.name))
        return config


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


_PLAIN = {
    "str": str,
    "int": int,
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "dict[str, Any]": dict,
    "dict[str, Chosen]": dict,
    "tuple[float, ...]": list,
}
_NESTED: dict[str, type] = {"Sweep | None": Sweep}


def _read(cls: type, data: Any, source: str) -> Any:
    """An instance of one of the dataclasses above from the dict that JSON made of it."""
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected an object, got {type(data).__name__}")
    fields = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    _check_names(f"{source}: field", data, fields)
    values = {}
    for name, kind in fields.items():
        value = data[name]
        if kind in _NESTED:
            optional = kind.endswith("None") and value is None
            values[name] = None if optional else _read(_NESTED[kind], value, f"{source}, {name}")
        elif kind == "dict[str, Chosen]" and isinstance(value, dict):
            values[name] = {key: _read(Chosen, part, f"{source}, {name}, {key}") for key, part in value.items()}
        elif not isinstance(value, _PLAIN[kind]) or isinstance(value, bool):  # type: ignore[arg-type]
            raise ConfigError(f"{source}: field '{name}' must be {kind}, got {value!r}")
        else:
            values[name] = _hashable(value)
    return cls(**values)
