"""The flags of ``jaxrl train``: those of every run, and those that tyro builds from the recipe and its parts."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import jax
import tyro

from jaxrl import envs, processes
from jaxrl.agents.presets import LOOP
from jaxrl.cli import config_file, parsing
from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import as_flag
from jaxrl.cli.run_flags import TrainFlags, names, part_fields
from jaxrl.runs.building import environment_settings, fit_replay, make_environment
from jaxrl.runs.config import Chosen, RunConfig, Sweep
from jaxrl.runs.parts import PARTS, default_part, parts_of, setting_flag, settings_of
from jaxrl.runs.presets import defaults_of
from jaxrl.runs.recipes import RECIPES, SHORTHANDS, Parameter, find_recipe, hyperparameters, shorthands_of, summary
from jaxrl.runs.trainers import with_trainer_settings
from jaxrl.types import Discrete, Spec

_ANY = Spec(jax.ShapeDtypeStruct((1,), "float32"), Discrete(2))
"""The environment that ``jaxrl train RECIPE --help`` assumes when none is given."""


OTHERS = (
    "The settings of an environment are the flags --env.*; jaxrl train RECIPE ENV --help lists them. --no-cache "
    "compiles anew instead of reading programs from the user's cache folder."
)
"""The end of the help text, about things that the list of flags can't show."""


def parse(arguments: Sequence[str]) -> tuple[RunConfig, TrainFlags]:
    """Reads ``RECIPE ENV [flags]``; the preset gives the defaults.

    Raises:
      UsageError: the recipe or the environment is missing, an environment or flag is unknown, a sweep can't be read, or
        two flags contradict each other.
      UnknownName: a name is unknown; the message suggests the nearest one.
      SystemExit: raised by tyro for ``--help``.
    """
    arguments, file = config_file.read(arguments)
    recipe, environment = _recipe_and_environment(arguments)
    rest = list(arguments[1:])
    defaults = defaults_of(recipe, environment or "")
    presets = {part: defaults.pop(part) for part in PARTS if part in defaults}
    file = file.for_recipe(recipe)
    defaults |= file.loop | file.hyperparameters
    presets |= file.parts
    env_settings = EnvironmentSettings(environment, file.environment_settings, rest)
    parts = _chosen_parts(recipe, environment, env_settings.given, rest, presets)
    hyper = {
        name: parameter._replace(default=defaults.get(name, parameter.default))
        for name, parameter in hyperparameters(recipe).items()
    }
    kind = _flags_of(recipe, hyper, parts, env_settings.parameters)
    start: Any = kind(environment=tyro.MISSING, **{name: defaults[name] for name in LOOP}, **file.flags)
    where = environment or "an environment without a preset; give ENV to see its defaults"
    flags = parsing.parse(
        kind,
        rest,
        prog=f"jaxrl train {recipe}",
        flags=[*_names(recipe, parts), *(as_flag(f"env.{name}") for name in env_settings.known)],
        elsewhere=lambda: _elsewhere(recipe, parts),
        description=f"{recipe}: {summary(recipe)} Defaults are those for {where}.\n\n{OTHERS}",
        default=start,
    )
    config = _config(recipe, parts, flags, rest)
    sweep = file.sweep if config.sweep is None else config.sweep
    config = dataclasses.replace(config, sweep=sweep, stages=file.stages, environment_settings=env_settings.given)
    return config if "--replay-capacity" in _given(rest) else fit_replay(config), flags


class EnvironmentSettings:
    """The flags ``--env.NAME`` of an environment, read first because observations depend on them.

    Attributes:
      known: all settings with their defaults.
      given: the settings that a file or flags set.
      parameters: the parameters that become flags.
    """

    def __init__(self, environment: str | None, of_file: Mapping[str, Any], arguments: Sequence[str]) -> None:
        self.known: dict[str, Any] = {}
        self.given = dict(of_file)
        self.parameters: list[Parameter] = []
        if environment is None or not (any(word.startswith("--env.") for word in arguments) or _asks_help(arguments)):
            return
        with _named_environment():
            self.known = environment_settings(environment)
        plain = {name: value for name, value in self.known.items() if isinstance(value, bool | int | float | str)}
        scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for name, value in plain.items():
            words = {as_flag(f"env.{name}"), f"--env.{name}"}
            if isinstance(value, bool):
                scan.add_argument(*words, dest=name, action="store_true", default=None)
                no = {as_flag(f"env.no_{name}"), f"--env.no_{name}"}
                scan.add_argument(*no, dest=name, action="store_false", default=None)
            else:
                scan.add_argument(*words, dest=name, nargs="?")
        for name, text in vars(scan.parse_known_args(list(arguments))[0]).items():
            if text is not None:
                self.given[name] = self._read(name, text, plain[name])
        self.parameters = [
            Parameter(name, type(value), self.given.get(name, value), "A setting of the environment.")
            for name, value in plain.items()
        ]

    @staticmethod
    def _read(name: str, text: Any, default: Any) -> Any:
        """Converts a flag's value to the type of its default."""
        reader = {int: parsing.whole_number, float: parsing.number}.get(type(default))
        try:
            return text if reader is None else reader(text)
        except ValueError as error:
            raise UsageError(f"{as_flag(f'env.{name}')}: {error}") from None


def _asks_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(arguments))


@contextlib.contextmanager
def _named_environment() -> Iterator[None]:
    """Turns errors about the environment's name or settings into usage errors."""
    try:
        yield
    except envs.UnknownEnvironment as error:
        problem, _, _ = str(error).partition("; jaxrl.envs")
        raise UsageError(f"{problem} (jaxrl list environments prints all)") from error
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def _recipe_and_environment(arguments: Sequence[str]) -> tuple[str, str | None]:
    """The first two words; the environment is None if only help is asked for."""
    recipes = f"(recipes: {', '.join(RECIPES)})"
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"the recipe comes first: jaxrl train RECIPE ENV [flags] {recipes}")
    recipe, *rest = arguments
    environment = rest[0] if rest and not rest[0].startswith("-") else None
    if environment in RECIPES and recipe not in RECIPES:
        raise UsageError(f"the recipe comes first: jaxrl train {environment} {recipe}")
    find_recipe(recipe)
    if environment is None and not _asks_help(rest):
        raise UsageError(f"the environment comes after the recipe: jaxrl train {recipe} ENV [flags]")
    return recipe, environment


def _chosen_parts(
    recipe: str,
    environment: str | None,
    settings_of_env: Mapping[str, Any],
    arguments: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Chosen]:
    """The parts whose settings become flags: given by flags, by the preset, or the recipe's default."""
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for part in parts_of(recipe):
        scan.add_argument(as_flag(part), dest=part, nargs="?")
    scan.add_argument("--window", nargs="?")
    named = vars(scan.parse_known_args(arguments)[0])
    window = named.pop("window")
    spec = _spec(environment, settings_of_env, window)
    defaults = {part: default_part(recipe, part, spec) for part in parts_of(recipe)}
    for part, preset_part in presets.items():
        settings = dict(preset_part)
        defaults[part] = settings.pop("name"), settings
    for name in shorthands_of(recipe):
        _read_shorthand(name, named, defaults, arguments)
    chosen = {}
    for part, default in defaults.items():
        if named[part] is not None and (default is None or named[part] != default[0]):
            default = named[part], {}
        if default is not None:
            name, settings = default
            known = {key: setting.default for key, setting in settings_of(part, name).items()}
            if window is not None and "window" in known:
                known["window"] = True  # the rows of an observation are then steps
            chosen[part] = Chosen(name, known | settings)
    return chosen


def _spec(environment: str | None, settings: Mapping[str, Any], window: str | None) -> Spec:
    """The spec of the environment, with its window if tyro will accept it too."""
    if environment is None:
        return _ANY
    with _named_environment():
        env, params = make_environment(environment, settings)
        if window is not None and window.isdecimal() and int(window) > 0:
            env = envs.window(env, int(window))
        return envs.spec(env, params)


def _read_shorthand(
    name: str, named: dict[str, str | None], defaults: Mapping[str, Any], arguments: Sequence[str]
) -> None:
    """Enters the part that a switch stands for into ``named``, if the switch is given and changes the default.

    Raises:
      UsageError: the part's own flag contradicts the switch.
    """
    part, off, on = SHORTHANDS[name]
    meant = {as_flag(name): on, as_flag(f"no_{name}"): off}
    for word in [argument.replace("_", "-") for argument in arguments]:
        if word not in meant:
            continue
        agrees = named[part] in (None, on) if meant[word] == on else named[part] != on
        if not agrees:
            raise UsageError(f"{word} contradicts {as_flag(part)} {named[part]}; leave one of them out")
        if meant[word] == on or defaults[part][0] == on:
            named[part] = named[part] or meant[word]


def _flags_of(
    recipe: str, hyper: Mapping[str, Parameter], parts: Mapping[str, Chosen], of_env: Sequence[Parameter]
) -> type[TrainFlags]:
    """``TrainFlags`` with one flag per part and one group of flags per signature."""
    annotated: Any = Annotated  # a type checker would read its brackets as a type
    fields = part_fields(parts_of(recipe), parts, shorthands_of(recipe))
    groups = {_field(recipe): _group("Hyperparameters", hyper.values(), str)}
    if of_env:
        groups["env"] = _group("Environment", of_env, "env.{}".format)
    for part in parts_of(recipe):
        chosen = parts.get(part)
        if chosen and chosen.settings:
            known = settings_of(part, chosen.name)
            settings = [known[name]._replace(default=value) for name, value in chosen.settings.items()]
            groups[_group_name(part, chosen)] = _group(part.title(), settings, partial(setting_flag, part))
    for name, group in groups.items():
        fields.append((name, annotated[group, tyro.conf.OmitArgPrefixes], dataclasses.field(default_factory=group)))
    return dataclasses.make_dataclass("Flags", fields, bases=(TrainFlags,), frozen=True)


def _group_name(part: str, chosen: Chosen) -> str:
    """The title of a group, which tyro derives from its field's name."""
    return _field(f"{part}_{chosen.name}")


def _field(name: str) -> str:
    """A valid field name, for ``module:name`` too."""
    return re.sub(r"\W", "_", name)


def _group(name: str, parameters: Any, called: Callable[[str], str]) -> type:
    """A dataclass with one field per parameter, whose flag is ``called(name)``; the help comes from the docstring."""
    annotated: Any = Annotated
    fields = []
    for parameter in parameters:
        flag = called(parameter.name).replace("_", "-")
        annotation = annotated[parameter.type, tyro.conf.arg(name=flag, help=parameter.help)]
        fields.append((parameter.name, annotation, dataclasses.field(default=parameter.default)))
    return dataclasses.make_dataclass(name, fields, frozen=True)


def _names(recipe: str, parts: Mapping[str, Chosen]) -> list[str]:
    """The names of all flags."""
    own = [as_flag(name) for name in (*parts_of(recipe), *shorthands_of(recipe), *hyperparameters(recipe))]
    settings = [as_flag(setting_flag(part, name)) for part, chosen in parts.items() for name in chosen.settings]
    return [*names(), *own, *settings]


def _elsewhere(recipe: str, parts: Mapping[str, Chosen]) -> dict[str, str]:
    """Flags that exist for another choice of a part or another recipe, with a description of their origin."""
    owners: dict[str, list[str]] = {}
    for other in RECIPES:
        for name in (*hyperparameters(other), *parts_of(other), *shorthands_of(other)):
            owners.setdefault(as_flag(name), []).append(other)
    found = {flag: f"a flag of {', '.join(recipes)}, not of {recipe}" for flag, recipes in owners.items()}
    for part in parts_of(recipe):
        taken = f" (this run's is {parts[part].name})" if part in parts else ""
        for choice in PARTS[part].choices:
            for name in settings_of(part, choice):
                found.setdefault(as_flag(setting_flag(part, name)), f"a setting of --{part} {choice}{taken}")
    return {flag: text for flag, text in found.items() if flag not in _names(recipe, parts)}


def _config(recipe: str, parts: Mapping[str, Chosen], flags: Any, arguments: Sequence[str]) -> RunConfig:
    given = _given(arguments)
    sweep = parse_sweeps(flags.sweep)
    for name in () if sweep is None else sweep.names:
        if as_flag(name) in given:
            raise UsageError(f"{as_flag(name)}: --sweep sets it already; leave one of them out")
    config = RunConfig(
        recipe=recipe,
        environment=flags.environment,
        seed=flags.seed,
        seeds=flags.seeds,
        num_steps=flags.num_steps,
        num_envs=flags.num_envs,
        rollout_length=flags.rollout_length,
        parts={
            part: Chosen(chosen.name, _settings(getattr(flags, _group_name(part, chosen), None)))
            for part, chosen in parts.items()
        },
        hyperparameters=_settings(getattr(flags, _field(recipe))),
        sweep=sweep,
        devices=flags.devices if flags.devices is not None else default_devices(),
        seed_devices=flags.seed_devices,
        window=flags.window,
        workers=flags.workers,
        eval_every=flags.eval_every,
        eval_episodes=flags.eval_episodes,
        init_from=None if flags.init_from is None else str(flags.init_from.resolve()),
    )
    config = with_trainer_settings(config, [name for name in config.hyperparameters if as_flag(name) in given], as_flag)
    return config


def _given(arguments: Sequence[str]) -> list[str]:
    """The flags among the arguments, as they are documented."""
    return [argument.partition("=")[0].replace("_", "-") for argument in arguments]


def default_devices() -> int:
    """One device, or all devices of all processes if there are several."""
    return jax.device_count() if processes.are_many() else 1


def _settings(group: Any) -> dict[str, Any]:
    """The settings of a group; empty if it has none. Lists become tuples, so that Flax modules can be hashed."""
    if group is None:
        return {}
    fields = {field.name: getattr(group, field.name) for field in dataclasses.fields(group)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def parse_sweeps(texts: Sequence[str]) -> Sweep | None:
    """Reads ``name=value,value,...``, which may be given several times; None if it is not given.

    Raises:
      UsageError: the text has another form, or a name is given twice.
    """
    axes: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        try:
            if not equals:
                raise ValueError
            numbers = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise UsageError(f"--sweep: got '{text}', must be NAME=VALUE,VALUE,... as in gamma=0.9,0.99") from None
        if name in axes:
            raise UsageError(f"--sweep: {name} is given twice; join its values by commas")
        axes[name] = numbers
    return Sweep.grid(axes) if axes else None
