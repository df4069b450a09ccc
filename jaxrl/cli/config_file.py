"""``--config FILE``: defaults from another run's config.json, or from a YAML file with the same fields."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jaxrl.agents.presets import LOOP
from jaxrl.arguments import check_argument, nearest
from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import whole_number
from jaxrl.runs.config import RunConfig, Stage, Sweep, check_field, read_stages
from jaxrl.runs.objects import require_trust
from jaxrl.runs.parts import parts_of, settings_of
from jaxrl.runs.recipes import hyperparameters

_FLAGS = ("seed", "seeds", "window", "eval_every", "eval_episodes", "devices", "seed_devices", "workers")
_INTEGERS = (int, int | None)
_IGNORED = ("chunks", "kind", "format_version")


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """The settings in the file; empty without a file."""

    path: Path | None = None
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def for_recipe(self, recipe: str) -> ConfigFile:
        """The file with whole numbers such as 1e5 as integers, where the recipe and its parts take integers.

        Raises:
          UsageError: it is for another recipe, has hyper-parameters or parts that the recipe does not have, or a value
            is not allowed; the message names it.
        """
        own = self.data.get("recipe", recipe)
        if own != recipe:
            raise UsageError(f"--config: {self.path} is for {own}, not for {recipe}; leave the recipe out")
        known = hyperparameters(recipe)
        values: dict[str, Any] = {}
        parts: dict[str, Any] = {}
        for name, value in self.hyperparameters.items():
            if name not in known:
                hint = nearest(str(name), known)
                raise UsageError(f"--config: {self.path}: got '{name}', must be a hyper-parameter of {recipe}{hint}")
            values[name] = self._read_value(name, value, known[name].type)
        known_parts = parts_of(recipe)
        for part, one in (self.data.get("parts") or {}).items():
            if part not in known_parts:
                hint = nearest(str(part), known_parts)
                raise UsageError(f"--config: {self.path}: got '{part}', must be a part of {recipe}{hint}")
            parts[part] = self._read_part(part, one)
        read = {"hyperparameters": values, "parts": parts}
        return dataclasses.replace(self, data={**self.data, **{name: read[name] for name in read if name in self.data}})

    def _read_part(self, part: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """A part with its settings; refuses one without a name, and fields and settings that it does not have."""
        where = f"--config: {self.path}: {part}"
        for field in given:
            if field not in ("name", "settings"):
                hint = nearest(str(field), ("name", "settings"))
                raise UsageError(f"{where}: got field '{field}', must be 'name' or 'settings'{hint}")
        name, settings = given.get("name"), given.get("settings") or {}
        if not isinstance(name, str):
            raise UsageError(f"{where}: got name {name!r}, must be the name of a {part}, such as 'name: mlp'")
        if not isinstance(settings, dict):
            raise UsageError(f"{where}: got settings {settings!r}, must be a mapping of settings")
        known, read = settings_of(part, name), dict[str, Any]()
        for setting, value in _tuples(settings).items():
            if setting not in known:
                hint = nearest(str(setting), known)
                raise UsageError(f"{where}: got '{setting}', must be a setting of {name}{hint}")
            read[setting] = self._read_value(f"{part}.{setting}", value, known[setting].type)
        return {"name": name, "settings": read}

    def _read_value(self, name: str, value: Any, kind: Any) -> Any:
        """The value as an argument of a type."""
        if "float" not in str(kind):
            read = _read_whole if kind in _INTEGERS else _whole
            value = tuple(map(read, value)) if isinstance(value, tuple) else read(value)
        try:
            check_argument(name, value, kind)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--config: {self.path}: {error}") from error
        return value

    @property
    def loop(self) -> dict[str, Any]:
        """The settings of the loop."""
        return {name: self.data[name] for name in LOOP if name in self.data}

    @property
    def flags(self) -> dict[str, Any]:
        """The defaults of other flags."""
        found = {name: self.data[name] for name in _FLAGS if self.data.get(name) is not None}
        init_from = self.data.get("init_from")
        return found if init_from is None else {**found, "init_from": Path(init_from)}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The hyper-parameters of the recipe."""
        return _tuples(self.data.get("hyperparameters") or {})

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """The parts in the form of presets: the name beside the settings."""
        parts = self.data.get("parts") or {}
        return {part: {"name": one["name"], **_tuples(one.get("settings") or {})} for part, one in parts.items()}

    @property
    def environment_settings(self) -> dict[str, Any]:
        """The settings of the environment."""
        return dict(self.data.get("environment_settings") or {})

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages before the recipe's own training."""
        return read_stages(self.data.get("stages") or [], str(self.path))

    @property
    def sweep(self) -> Sweep | None:
        """The sweep, in the form of config.json or as a mapping from names to values."""
        given = self.data.get("sweep")
        if not given:
            return None
        if "values" not in given:
            axes = given
        elif "name" in given:
            axes = {given["name"]: given["values"]}
        else:
            return self._combinations(given)
        for name, values in axes.items():
            if not isinstance(values, list) or not all(map(_is_number, values)):
                raise UsageError(f"--config: {self.path}: sweep: {name} got {values!r}, must be a list of numbers")
        return Sweep.grid(axes)

    def _combinations(self, given: Mapping[str, Any]) -> Sweep:
        """A sweep whose combinations are all written down, as config.json has it."""
        names: Any = given.get("names")
        values = given["values"]
        fits = isinstance(names, list) and isinstance(values, list)
        fits = fits and all(isinstance(row, list) and len(row) == len(names) for row in values)
        fits = fits and all(_is_number(value) for row in values for value in row)
        if not fits:
            raise UsageError(
                f"--config: {self.path}: sweep: got names {names!r} and values {values!r}, must be a list of names, "
                "and a list with one number for each name in every combination"
            )
        return Sweep(tuple(given["names"]), tuple(tuple(map(float, setting)) for setting in values))


def _whole(value: Any) -> Any:
    """A whole float as an integer, any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _read_whole(value: Any) -> Any:
    """The integer that a value means, also written as 100k; a value that means none as it is."""
    try:
        return whole_number(value) if isinstance(value, str) else _whole(value)
    except ValueError:
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are those of Python: in YAML 1.1, which the parser follows, 1e-3 is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read(arguments: Sequence[str]) -> tuple[list[str], ConfigFile]:
    """Adds the file's recipe and environment to arguments that name none; returns the arguments and the file.

    Raises:
      UsageError: the file can't be read, or has unknown fields.
      Untrusted: the file names modules that this user has not trained with.
    """
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scan.add_argument("--config", nargs="?")
    scan.add_argument("--trust", action="store_true")
    given = scan.parse_known_args(list(arguments))[0]
    if given.config is None:
        return list(arguments), ConfigFile()
    path = Path(given.config)
    try:
        data = yaml.load(path.read_text(), _Loader)  # which reads JSON as well
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config: {path} can't be read ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(data, dict):
        raise UsageError(f"--config: {path}: got a {type(data).__name__}, must be a mapping of fields")
    kinds = {field.name: str(field.type) for field in dataclasses.fields(RunConfig)}
    for name in data:
        if name not in kinds:
            raise UsageError(f"--config: {path}: unknown field '{name}'{nearest(str(name), kinds)}")
        if kinds[name] in ("int", "int | None"):
            data[name] = _read_whole(data[name])  # 1e6 or 100k steps
        check_field(name, data[name], f"--config: {path}")
    for part in [*(data.get("parts") or {}).values(), *(data.get("stages") or [])]:
        if not isinstance(part, dict):
            raise UsageError(f"--config: {path}: got {part!r} in the place of a part or a stage with its fields")
    file = ConfigFile(path, {name: value for name, value in data.items() if name not in _IGNORED})
    require_trust(_imports(file), path, given.trust)
    words = list(arguments)
    lead = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    missing = [data[name] for name in ("recipe", "environment")[lead:] if name in data]
    return [*words[:lead], *missing, *words[lead:]], file


def _imports(file: ConfigFile) -> list[str]:
    """All names ``module:name`` in the file."""
    agents = [file.data, *(file.data.get("stages") or [])]
    names = [file.data.get("environment"), *(agent.get("recipe") for agent in agents)]
    names += [part.get("name") for agent in agents for part in (agent.get("parts") or {}).values()]
    return [name for name in names if isinstance(name, str) and ":" in name]


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
