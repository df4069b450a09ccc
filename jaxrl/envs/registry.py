"""``make``: environments by name, chosen by prefix; and the table where an adapter is one entry."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnax
from gymnax import registration

from jaxrl.envs import goals, recall
from jaxrl.envs.games import pgx_games
from jaxrl.envs.protocol import Environment
from jaxrl.types import PyTree

DOWNLOADS = frozenset({"MNISTBandit-bsuite"})
"""Names that fetch a data set over the network when they are made."""


OURS: dict[str, Callable[..., Any]] = {**goals.ENVIRONMENTS, **recall.ENVIRONMENTS}
"""Environments of our own: name -> constructor."""

SIZED = {**goals.SIZED, **recall.SIZED}
"""Those that a size may follow -> the argument that it is: "BitFlipping-40"."""


class UnknownEnvironment(ValueError):
    """No environment has this name."""


class UnknownArgument(TypeError):
    """Neither a parameter of the environment nor an argument of its constructor."""


class Adapter(NamedTuple):
    """How a suite of environments is reached.

    Attributes:
      make: ``(name without prefix, **kwargs) -> (env, params)``; may rely on ``listed(name)`` being in ``names()``.
      names: all names, without the prefix.
      listed: the entry of ``names()`` that a name belongs to; differs from it where a name says a size too.
      refused: names of the suite that can't be offered, and why.
    """

    make: Callable[..., tuple[Environment, PyTree]]
    names: Callable[[], list[str]]
    listed: Callable[[str], str] = lambda name: name
    refused: Mapping[str, str] = MappingProxyType({})

    def knows(self, name: str) -> bool:
        """Whether ``make`` takes a name."""
        return self.listed(name) in self.names()


def make(name: str, **env_kwargs: Any) -> tuple[Environment, PyTree]:
    """Makes an environment by name.

    For example ``env, params = make("CartPole-v1", max_steps_in_episode=200)``. An argument of the environment's
    constructor goes there (and wins where both have the name, since parameters can follow from it), any other has to
    be a field of ``params`` and replaces it. An environment that is in no registry needs no ``make``: whatever follows
    ``jaxrl.envs.protocol`` is passed to agents and loops as it is.

    "MNISTBandit-bsuite" downloads MNIST (11 MB, to /tmp/mnist) when it is first made.

    Args:
      name: a name of ``available()``; gymnax's and ours may be written with or without the prefix, "gymnax/" or
        "jaxrl/". "BitFlipping-40" is ``make("BitFlipping", num_bits=40)``. "pgx/connect_four" and the like need pgx,
        ``pip install "jaxrl[games]"``.
      **env_kwargs: arguments of the constructor and fields of ``params``.

    Raises:
      UnknownEnvironment: an unknown name or prefix; the message has the nearest right ones.
      NotInstalled: the suite that the prefix means is not there.
      UnknownArgument: an argument that is neither; the message lists what is allowed.
    """
    prefix, slash, rest = name.partition("/")
    if not slash:
        prefix, rest = next((bare for bare in BARE if ADAPTERS[bare].knows(name)), BARE[0]), name
    if prefix not in ADAPTERS:
        known = ", ".join(f"'{known}/'" for known in ADAPTERS)
        raise UnknownEnvironment(f"unknown prefix '{prefix}/' of environment '{name}'; known prefixes: {known}")
    adapter = ADAPTERS[prefix]
    if rest in adapter.refused:
        raise UnknownEnvironment(f"'{name}' is not offered: {adapter.refused[rest]}")
    if not adapter.knows(rest):
        nearest = _nearest(rest if prefix in BARE else name, available())
        stem = rest.rpartition("-")[0]
        size = f" The size is a number, as in '{stem}-8'" if stem in SIZED else ""
        raise UnknownEnvironment(f"unknown environment '{name}'{nearest}{size}; jaxrl.envs.available() lists all")
    return adapter.make(rest, **env_kwargs)


def available() -> list[str]:
    """All names that ``make`` takes, gymnax's and ours without prefix, and without sizes ("BitFlipping-40").

    "MNISTBandit-bsuite" downloads its data when made.
    """
    return [
        name if prefix in BARE else f"{prefix}/{name}"
        for prefix, adapter in ADAPTERS.items()
        for name in adapter.names()
    ]


def _nearest(word: str, options: Iterable[str]) -> str:
    """The options closest to ``word``, whatever the case, as the middle of a sentence: ", did you mean ...?"."""
    by_lower = {option.lower(): option for option in options}
    word = word.lower()
    close = difflib.get_close_matches(word, by_lower, n=3)
    # By edit distance "cartpole" is a long way from "cartpole-v1".
    close += [option for option in by_lower if word and option.startswith(word) and option not in close]
    return f", did you mean {' or '.join(repr(by_lower[option]) for option in close[:3])}?" if close else ""


def _fields(params: PyTree) -> tuple[str, ...]:
    if dataclasses.is_dataclass(params):
        return tuple(field.name for field in dataclasses.fields(params))
    return tuple(getattr(params, "_fields", ()))


def replace_params(params: PyTree, changes: dict[str, Any]) -> PyTree:
    """Replaces fields of a dataclass or NamedTuple of environment parameters."""
    if not changes:
        return params
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        return dataclasses.replace(params, **changes)
    return params._replace(**changes)


def check_arguments(name: str, given: Iterable[str], constructor: Collection[str], params: PyTree) -> None:
    """Refuses arguments that nothing takes.

    Args:
      name: of the environment, for the message.
      given: names of the arguments.
      constructor: names that the constructor takes.
      params: the environment's parameters, whose fields are allowed too.

    Raises:
      UnknownArgument: naming the first unknown argument and all that is allowed.
    """
    fields = _fields(params)
    for argument in given:
        if argument not in constructor and argument not in fields:
            raise UnknownArgument(
                f"'{name}' has no argument '{argument}'{_nearest(argument, [*constructor, *fields])}; "
                f"allowed: fields of its params ({', '.join(fields) or 'none'}) "
                f"and constructor arguments ({', '.join(constructor) or 'none'})"
            )


def _build(
    name: str, factory: Callable[..., Any], construct: Callable[..., tuple[Any, PyTree]], env_kwargs: dict[str, Any]
) -> tuple[Environment, PyTree]:
    """Gives ``construct`` the arguments that ``factory`` takes, and ``params`` the others."""
    parameters = inspect.signature(factory).parameters.values()
    constructor = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    for_constructor = {key: value for key, value in env_kwargs.items() if key in constructor}
    for_params = {key: value for key, value in env_kwargs.items() if key not in constructor}
    env, params = construct(**for_constructor)
    check_arguments(name, for_params, constructor, params)
    return env, replace_params(params, for_params)


def _make_gymnax(name: str, **env_kwargs: Any) -> tuple[Environment, PyTree]:
    def construct(**kwargs: Any) -> tuple[Environment, PyTree]:
        try:
            return gymnax.make(name, **kwargs)
        except OSError as error:
            if name not in DOWNLOADS:
                raise
            raise OSError(f"'{name}' downloads its data set when it is made, and that failed: {error}") from error

    # The public gymnax.make does not say what a factory takes, and without that a wrong argument cannot be named.
    return _build(name, registration._registry[name], construct, env_kwargs)


def split_name(name: str) -> tuple[str, dict[str, Any]]:
    """A name into that of ``OURS`` and what it says of the constructor's arguments.

    >>> split_name("BitFlipping-40"), split_name("PointReach")
    (('BitFlipping', {'num_bits': 40}), ('PointReach', {}))
    """
    stem, _, size = name.rpartition("-")
    if stem in SIZED and size.isdecimal():
        return stem, {SIZED[stem]: int(size)}
    return name, {}


def _make_ours(name: str, **env_kwargs: Any) -> tuple[Environment, PyTree]:
    stem, said = split_name(name)
    for argument, value in said.items():
        if env_kwargs.get(argument, value) != value:
            raise ValueError(
                f"{name}: the name says {argument}={value} and the argument {env_kwargs[argument]!r}; give one"
            )
    factory = OURS[stem]

    def construct(**kwargs: Any) -> tuple[Environment, PyTree]:
        try:
            env = factory(**kwargs)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        return env, env.default_params

    return _build(name, factory, construct, {**env_kwargs, **said})


def _make_pgx(name: str, **env_kwargs: Any) -> tuple[Environment, PyTree]:
    return _build(f"pgx/{name}", lambda: None, lambda: pgx_games.make(name), env_kwargs)


ADAPTERS: dict[str, Adapter] = {
    "gymnax": Adapter(make=_make_gymnax, names=lambda: list(gymnax.registered_envs)),
    "jaxrl": Adapter(make=_make_ours, names=lambda: list(OURS), listed=lambda name: split_name(name)[0]),
    "pgx": Adapter(make=_make_pgx, names=lambda: list(pgx_games.STEPS), refused=pgx_games.REFUSED),
}
"""Prefix -> adapter; a new suite is one more entry."""

BARE = ("gymnax", "jaxrl")
"""Prefixes that may be left out, the first that knows a name first."""
