"""``make`` makes environments by name; the prefix selects an adapter from one table."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import numbers
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnax
import jax
import numpy as np
from gymnax import registration

from jaxrl.arguments import nearest
from jaxrl.envs import foresight, goals, recall, texts
from jaxrl.envs.abstract import ProtocolError, check_environment
from jaxrl.envs.adapted import grids, jumanji, physics
from jaxrl.envs.games import pgx_games
from jaxrl.envs.host import atari, suites
from jaxrl.envs.protocol import Environment
from jaxrl.types import PyTree

DOWNLOADS = frozenset({"MNISTBandit-bsuite"})
"""Names that download a data set when they are made."""


OURS: dict[str, Callable[..., Any]] = {
    **goals.ENVIRONMENTS,
    **recall.ENVIRONMENTS,
    **foresight.ENVIRONMENTS,
    **texts.ENVIRONMENTS,
}
"""Environments of this package: name -> constructor."""

SIZED = {**goals.SIZED, **recall.SIZED, **foresight.SIZED, **texts.SIZED}
"""Names that a size may follow -> the argument it sets, as in "BitFlipping-40"."""


class UnknownEnvironment(ValueError):
    """No environment has this name."""


class UnknownArgument(TypeError):
    """The environment has no setting of this name."""


class Argument(NamedTuple):
    """An argument of an environment's constructor.

    Attributes:
      default: the default value.
      optional: whether None is allowed.
    """

    default: Any
    optional: bool


class Adapter(NamedTuple):
    """The functions by which ``make`` reaches a suite of environments.

    Attributes:
      make: ``(name without prefix, **arguments) -> (env, params)``; may rely on ``listed(name)`` being in ``names()``.
      names: returns all names, without the prefix.
      arguments: returns the arguments that ``make`` takes for a name.
      listed: the entry of ``names()`` for a name; it differs if the name includes a size.
      refused: names of the suite that are not supported, with the reason.
      package: the package that it needs, as it is imported; "" if it comes with jaxrl.
      has_fixed_names: whether ``names()`` works without the package. ``available()`` lists other suites on request.
      extra: the extra of jaxrl that installs the package.
      is_host: whether its environments run outside of JAX.
    """

    make: Callable[..., tuple[Environment, PyTree]]
    names: Callable[[], list[str]]
    arguments: Callable[[str], dict[str, Argument]]
    listed: Callable[[str], str] = lambda name: name
    refused: Mapping[str, str] = MappingProxyType({})
    package: str = ""
    extra: str = ""
    has_fixed_names: bool = False
    is_host: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether the package that it needs is there; it is not imported."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    @property
    def is_listed(self) -> bool:
        """Whether ``available()`` lists its names without being asked for."""
        return not self.package or self.has_fixed_names

    def knows(self, name: str) -> bool:
        """Whether ``make`` takes a name."""
        return self.listed(name) in self.names()


def make(name: str, **settings: Any) -> tuple[Environment, PyTree]:
    """Makes an environment by name.

    Example: ``env, params = make("CartPole-v1", max_steps_in_episode=200)``. ``settings(name)`` lists the settings,
      which
    are arguments of the environment's constructor and fields of its ``params``. A name that is both is passed to the
    constructor, since parameters can depend on it. A custom environment needs no ``make``: agents and loops take any
    object that follows ``jaxrl.envs.protocol``.

    "MNISTBandit-bsuite" downloads MNIST (11 MB, to /tmp/mnist) when it is first made.

    Args:
      name: a name of ``available()``. The prefixes "gymnax/" and "jaxrl/" may be left out. "BitFlipping-40" is
        ``make("BitFlipping", num_bits=40)``. Games such as "pgx/connect_four" need pgx, ``pip install "jaxrl[games]"``.
      **settings: new values by name.

    Raises:
      UnknownEnvironment: the name or prefix is unknown; the message suggests the nearest names.
      NotInstalled: the package of the suite is not installed.
      UnknownArgument: the environment has no such setting; the message lists its settings.
      TypeError, ValueError: a setting has the wrong type, or a time limit is less than 1.
    """
    adapter, rest = _find(name)
    arguments = adapter.arguments(rest)
    given = {
        key: _checked(name, key, value, *arguments[key]) if key in arguments else value
        for key, value in settings.items()
    }
    env, params = adapter.make(rest, **{key: value for key, value in given.items() if key in arguments})
    fields = _fields(params)
    for key in given:
        if key not in arguments and key not in fields:
            listed = ", ".join(dict.fromkeys([*fields, *arguments]))
            hint = nearest(key, [*fields, *arguments])
            raise UnknownArgument(f"{name}: unknown setting '{key}'{hint} (settings: {listed or 'none'})")
    changes = {key: _checked(name, key, value, fields[key]) for key, value in given.items() if key not in arguments}
    return env, _replaced(params, changes)


def settings(name: str) -> dict[str, Any]:
    """The settings that ``make(name, ...)`` takes, with their defaults.

    The environment is made once to find the fields of its parameters. If the name includes a size ("TMaze-20"), that
    size is the default and the only value allowed.

    Args:
      name: a name that ``make`` takes.

    Raises:
      UnknownEnvironment, NotInstalled: as in ``make``.
    """
    adapter, rest = _find(name)
    arguments = {key: argument.default for key, argument in adapter.arguments(rest).items()}
    return {**_fields(adapter.make(rest)[1]), **arguments}


def available(suite: str | None = None) -> list[str]:
    """The names that ``make`` takes: gymnax's and this package's without prefix, and without sizes ("BitFlipping-40").

    "MNISTBandit-bsuite" downloads its data when made.

    Args:
      suite: a prefix, such as "gymnasium" or "brax"; None for the suites that need no package of their own, and pgx.

    Raises:
      UnknownEnvironment: an unknown prefix.
      NotInstalled: the package of the suite is not installed.
    """
    if suite is not None and suite not in ADAPTERS:
        raise UnknownEnvironment(f"unknown suite '{suite}'{nearest(suite, ADAPTERS)}; suites: {', '.join(ADAPTERS)}")
    chosen = {prefix: adapter for prefix, adapter in ADAPTERS.items() if adapter.is_listed}
    chosen = chosen if suite is None else {suite: ADAPTERS[suite]}
    return [
        name if prefix in BARE else f"{prefix}/{name}" for prefix, adapter in chosen.items() for name in adapter.names()
    ]


def _find(name: str) -> tuple[Adapter, str]:
    """The adapter of a name and the name without its prefix."""
    if not isinstance(name, str):
        try:
            check_environment(name)
        except ProtocolError as error:
            raise TypeError(f"name: {error}") from None
        raise TypeError(
            f"name: got {type(name).__name__}, must be a string such as 'CartPole-v1'; pass an environment object "
            "directly to jaxrl.spec and jaxrl.train"
        )
    prefix, slash, rest = name.partition("/")
    if not slash:
        prefix, rest = next((bare for bare in BARE if ADAPTERS[bare].knows(name)), BARE[0]), name
    if prefix not in ADAPTERS:
        if prefix in REFUSED:
            raise UnknownEnvironment(f"environment: got '{name}' of a suite that is not supported: {REFUSED[prefix]}")
        known = ", ".join(f"'{known}/'" for known in ADAPTERS)
        raise UnknownEnvironment(f"environment: got '{name}' with unknown prefix '{prefix}/', must be one of {known}")
    adapter = ADAPTERS[prefix]
    if rest in adapter.refused:
        raise UnknownEnvironment(f"environment: got '{name}', which is not supported: {adapter.refused[rest]}")
    if not adapter.knows(rest):
        names = available(None if adapter.is_listed else prefix)
        hint = nearest(rest if prefix in BARE else name, names)
        stem = rest.rpartition("-")[0]
        size = f" The size is a number, as in '{stem}-8'" if stem in SIZED else ""
        raise UnknownEnvironment(f"unknown environment '{name}'{hint}{size}; {_lists(prefix, adapter)} lists all")
    return adapter, rest


def _lists(prefix: str, adapter: Adapter) -> str:
    return "jaxrl.envs.available()" if adapter.is_listed else f"jaxrl.envs.available({prefix!r})"


def _fields(params: PyTree) -> dict[str, Any]:
    """The fields of a dataclass or NamedTuple of environment parameters."""
    names = getattr(params, "_fields", ())
    if dataclasses.is_dataclass(params):
        names = tuple(field.name for field in dataclasses.fields(params))
    return {name: getattr(params, name) for name in names}


def _replaced(params: PyTree, changes: dict[str, Any]) -> PyTree:
    if not changes:
        return params
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        return dataclasses.replace(params, **changes)
    return params._replace(**changes)


_KINDS = {bool: ("b", "True or False"), int: ("iu", "an integer"), float: ("fiu", "a number")}
"""The type of a default -> the kinds of dtype that may replace it and their name in messages."""


def _checked(name: str, key: str, value: Any, default: Any, optional: bool = False) -> Any:
    """A setting checked against the type of its default; whole floats become integers and integers floats."""
    if default is None or (value is None and optional):
        return value
    kind = next((kind for kind in (bool, int, float, str) if isinstance(default, kind)), None)
    if kind is str and not isinstance(value, str):
        raise TypeError(f"{name}: {key}: got {value!r}, must be a string such as {default!r}")
    if kind in _KINDS:
        kinds, wanted = _KINDS[kind]
        is_array = isinstance(value, (jax.Array, np.ndarray, np.generic))
        if kind is int and isinstance(value, float) and not is_array and value.is_integer():
            value = int(value)
        if not is_array and not isinstance(value, numbers.Real) or np.dtype(_dtype(value)).kind not in kinds:
            raise TypeError(f"{name}: {key}: got {value!r}, must be {wanted} such as {default!r}")
        if key == "max_steps_in_episode" and not is_array and not value >= 1:
            raise ValueError(f"{name}: {key}: got {value!r}, must be at least 1")
        if not is_array and value != value:
            raise ValueError(f"{name}: {key}: got {value!r}, must be a number such as {default!r}")
        return float(value) if kind is float and not is_array else value
    if kind is None and np.ndim(value) != np.ndim(default):
        raise TypeError(f"{name}: {key}: got {value!r}, must be an array or sequence such as {default!r}")
    return value


def _dtype(value: Any) -> Any:
    return value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype


def _arguments(factory: Callable[..., Any]) -> dict[str, Argument]:
    """The arguments of a constructor, by name."""
    parameters = inspect.signature(factory).parameters.values()
    return {
        parameter.name: Argument(parameter.default, "None" in str(parameter.annotation))
        for parameter in parameters
        if parameter.kind is not parameter.VAR_KEYWORD
    }


def _settings_of(make: Callable[..., Any]) -> dict[str, Argument]:
    """The keyword arguments of a function that makes an environment from its name."""
    return {name: argument for name, argument in _arguments(make).items() if name != "name"}


def _make_gymnax(name: str, **arguments: Any) -> tuple[Environment, PyTree]:
    try:
        return gymnax.make(name, **arguments)
    except OSError as error:
        if name not in DOWNLOADS:
            raise
        raise OSError(f"'{name}': the download of its data set failed: {error}") from error


def split_name(name: str) -> tuple[str, dict[str, Any]]:
    """Splits a name into a key of ``OURS`` and the constructor's arguments that the name includes.

    >>> split_name("BitFlipping-40"), split_name("PointReach")
    (('BitFlipping', {'num_bits': 40}), ('PointReach', {}))
    """
    stem, _, size = name.rpartition("-")
    if stem in SIZED and size.isdecimal():
        return stem, {SIZED[stem]: int(size)}
    return name, {}


def _arguments_of_ours(name: str) -> dict[str, Argument]:
    """The arguments of a constructor; a size in the name sets the default."""
    stem, said = split_name(name)
    return {
        key: argument._replace(default=said.get(key, argument.default))
        for key, argument in _arguments(OURS[stem]).items()
    }


def _make_ours(name: str, **arguments: Any) -> tuple[Environment, PyTree]:
    stem, said = split_name(name)
    for key, value in said.items():
        if arguments.get(key, value) != value:
            raise ValueError(
                f"{name}: {key}: got {arguments[key]!r}, must be {value}, the size in the name; give one of the two"
            )
    try:
        env = OURS[stem](**{**arguments, **said})
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
    return env, env.default_params


def _in_jax(
    make: Callable[..., tuple[Environment, PyTree]], names: Callable[[], list[str]], extra: str, package: str = ""
) -> Adapter:
    """A suite in JAX that has an extra of the same name."""
    return Adapter(make, names, lambda name: _settings_of(make), package=package or extra, extra=extra)


ADAPTERS: dict[str, Adapter] = {
    "gymnax": Adapter(
        make=_make_gymnax,
        names=lambda: list(gymnax.registered_envs),
        # The public gymnax.make does not expose the constructor's arguments.
        arguments=lambda name: _arguments(registration._registry[name]),
    ),
    "jaxrl": Adapter(
        make=_make_ours,
        names=lambda: list(OURS),
        arguments=_arguments_of_ours,
        listed=lambda name: split_name(name)[0],
    ),
    "pgx": Adapter(
        make=pgx_games.make,
        names=lambda: list(pgx_games.STEPS),
        arguments=lambda name: {},
        refused=pgx_games.REFUSED,
        package="pgx",
        extra="games",
        has_fixed_names=True,
    ),
    "brax": _in_jax(physics.brax_env, physics.brax_names, "brax"),
    "playground": _in_jax(physics.playground_env, physics.playground_names, "playground", "mujoco_playground"),
    "jumanji": _in_jax(jumanji.jumanji_env, jumanji.jumanji_names, "jumanji"),
    "craftax": _in_jax(grids.craftax_env, grids.craftax_names, "craftax"),
    "navix": _in_jax(grids.navix_env, grids.navix_names, "navix"),
    "xminigrid": _in_jax(grids.xminigrid_env, grids.xminigrid_names, "xminigrid"),
    "gymnasium": Adapter(
        make=suites.gymnasium_env,
        names=suites.gymnasium_names,
        arguments=lambda name: _settings_of(suites.gymnasium_env),
        package="gymnasium",
        extra="gymnasium",
        is_host=True,
    ),
    "envpool": Adapter(
        make=suites.envpool_env,
        names=suites.envpool_names,
        arguments=lambda name: _settings_of(suites.envpool_env),
        package="envpool",
        extra="envpool",
        is_host=True,
    ),
    "ale": Adapter(
        make=atari.ale_env,
        names=atari.ale_names,
        arguments=lambda name: _settings_of(atari.ale_env),
        package="ale_py",
        extra="atari",
        is_host=True,
    ),
}
"""Prefix -> adapter; a new suite adds one entry."""

REFUSED = {"kinetix": "kinetix-env pins jax<=0.9, and jaxrl needs 0.10"}
"""Suites in JAX that can't be installed beside jaxrl, with the reason."""

BARE = ("gymnax", "jaxrl")
"""Prefixes that may be left out, in the order in which they are tried."""
