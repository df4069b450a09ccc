"""The decorator of recipes and of other functions of a spec, which checks arguments by their annotations.

Reward models, models and planners use it as agents do; see ``feedback.rnd``.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, overload

import flax.linen as nn
import optax

from jaxrl.arguments import check_argument, nearest
from jaxrl.types import Box, Discrete, Spec, Texts

F = TypeVar("F", bound=Callable[..., Any])

# Annotations of arguments that are objects, with the words that messages use for them.
Torso = Annotated[nn.Module, "a Flax module such as MLP()"]
Heads = Annotated[
    Mapping[str, Annotated[nn.Module, "a Flax module such as MLP()"]], "a dict from names to Flax modules"
]
Optimizer = Annotated[
    Callable[[Any], optax.GradientTransformation], "a function from a learning rate to an optax optimizer"
]
Loss = Annotated[Callable[..., Any], "a loss (outputs, batch, settings) -> (scalar, metrics), see jaxrl.losses"]


@overload
def recipe(function: F, /) -> F: ...


@overload
def recipe(
    *,
    extends: Callable[..., Any] | None = None,
    without: tuple[str, ...] = (),
    fills: Mapping[str, str] = ...,
    remembers: Any = ...,
    writes: bool = ...,
    groups: bool = ...,
) -> Callable[[F], F]: ...


def recipe(
    function: Any = None,
    /,
    *,
    extends: Callable[..., Any] | None = None,
    without: tuple[str, ...] = (),
    fills: Mapping[str, str] = types.MappingProxyType({}),
    remembers: Callable[[Spec, Mapping[str, Any]], Any] | None = None,
    writes: bool = False,
    groups: bool = False,
) -> Any:
    """Decorates a recipe ``(spec, *, options)``: its arguments are checked before it is called.

    A recipe makes an agent, a reward model, a model or a planner.

    Each argument is checked against its annotation (see ``jaxrl.arguments``): ``gamma: Unit``, ``num_epochs: Count``,
    ``huber_delta: Positive | None``, ``torso: Torso | None``, ``double: bool``. An unknown option raises a TypeError
    that suggests the nearest name. Defaults are not checked.

    With ``extends``, the recipe is ``(spec, *, its own options, **options)`` and takes the options of another function
    too. ``inspect.signature``, ``typing.get_type_hints`` and the docstring then show both, the recipe's own first, so
    that flags and help texts are made as for any other function. ``get_type_hints`` returns plain types, with
    ``include_extras=True`` also the allowed ranges.

    Args:
      function: the recipe, where the decorator is used without arguments.
      extends: a function with keyword arguments, documented under ``Args``.
      without: arguments of ``extends`` that the recipe sets itself.
      fills: arguments that a run fills in, and by what: ``{"model": "simulator"}`` for the true simulator of the
        environment, ``{"symmetries": "symmetries"}``, ``{"num_players": "num_players"}``. Kept as ``recipe.fills``,
        with those of ``extends`` and with ``num_updates`` for every recipe that takes it.
      remembers: ``(spec, options) -> memory`` of an agent that has a memory without a recurrent torso, such as its last
        plan; a run then wraps the environment in ``envs.remember``. Kept as ``recipe.remembers``, or that of
        ``extends``.
      writes: whether its actions are texts: it takes a spec whose actions are ``Texts``, and no other does.
      groups: whether it compares answers to one prompt; a run then gives each prompt ``rollout_length`` times
        (``envs.repeat``). Kept as ``recipe.groups``, or that of ``extends``.
    """
    writes = writes or getattr(extends, "writes", False)

    def decorate(own: Callable[..., Any]) -> Callable[..., Any]:
        hints = {**_hints(extends), **_hints(own)}
        parameters = dict(inspect.signature(own).parameters)
        inherited = {
            name: parameter
            for name, parameter in (inspect.signature(extends).parameters.items() if extends is not None else ())
            if name not in parameters and name not in without and parameter.kind is parameter.KEYWORD_ONLY
        }
        if extends is not None:
            parameters = {
                name: parameter for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD
            }
        parameters |= inherited
        positional = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())

        @functools.wraps(own)
        def checked(*args: Any, **options: Any) -> Any:
            for name in options:
                if name not in parameters and not takes_any:
                    near = nearest(name, parameters)
                    raise TypeError(f"{own.__name__}: unknown option {name!r}{near} (it takes {', '.join(parameters)})")
            # Python's call checks the number of positional arguments.
            for name, value in (*zip(positional, args, strict=False), *options.items()):
                if hints.get(name) is Spec:
                    _check_spec(own.__name__, name, value, writes)
                elif name in hints and name in parameters:
                    check_argument(name, value, hints[name])
            return own(*args, **options)

        plain = typing.get_type_hints(own) | {
            name: hint
            for name, hint in (typing.get_type_hints(extends) if extends else {}).items()
            if name in inherited
        }
        checked.__annotations__ = {name: hints[name] for name in (*parameters, "return") if name in hints}
        checked.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [option.replace(annotation=plain.get(name, option.annotation)) for name, option in parameters.items()],
            return_annotation=plain.get("return", inspect.Signature.empty),
        )
        known = {"num_updates": "num_updates", **getattr(extends, "fills", {}), **fills}
        checked.fills = {  # type: ignore[attr-defined]
            name: made for name, made in known.items() if name in parameters
        }
        checked.remembers = remembers or getattr(extends, "remembers", None)  # type: ignore[attr-defined]
        checked.writes = writes  # type: ignore[attr-defined]
        checked.groups = groups or getattr(extends, "groups", False)  # type: ignore[attr-defined]
        checked.__doc__ = _joined(own.__doc__, extends.__doc__ if extends is not None else None, inherited)
        return checked

    return decorate if function is None else decorate(function)


def extends(base: Callable[..., Any], without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """``recipe(extends=base, without=without)``."""
    return recipe(extends=base, without=without)


def _check_spec(recipe: str, name: str, value: Any, writes: bool) -> None:
    if not isinstance(value, Spec) or not isinstance(value.action, (Discrete, Box, Texts)):
        raise TypeError(f"{name}: got {value!r}, must be a Spec, from jaxrl.spec(env, params)")
    if writes and not isinstance(value.action, Texts):
        raise TypeError(
            f"{name}: got actions {value.action}, {recipe} writes texts; take a text task such as Reverse-6, or a "
            "recipe such as ppo"
        )
    if isinstance(value.action, Texts) and not writes:
        raise TypeError(
            f"{name}: got actions {value.action}, {recipe} takes Discrete or Box; recipes that write texts are grpo, "
            "rloo and rlhf"
        )


def _hints(function: Callable[..., Any] | None) -> dict[str, Any]:
    return {} if function is None else typing.get_type_hints(function, include_extras=True)


def _joined(own: str | None, base: str | None, inherited: Mapping[str, Any]) -> str:
    """The docstring with the lines of the inherited arguments appended to its ``Args``, without indentation."""
    documented = _entries(inspect.cleandoc(base or ""))
    lines = [line for name in inherited for line in documented.get(name, ())]
    text = inspect.cleandoc(own or "").split("\n")
    if not lines:
        return "\n".join(text)
    if "Args:" not in text:
        text += ["", "Args:"]
    end = _end_of_arguments(text)
    return "\n".join([*text[:end], *lines, *text[end:]])


def _end_of_arguments(lines: list[str]) -> int:
    """The index after the last line of ``Args``."""
    end = start = lines.index("Args:") + 1
    for index in range(start, len(lines)):
        if lines[index][:1].strip():
            break
        if lines[index].strip():
            end = index + 1
    return end


def _entries(docstring: str) -> dict[str, list[str]]:
    """The lines of each argument under ``Args`` of a docstring without indentation."""
    lines = docstring.split("\n")
    if "Args:" not in lines:
        return {}
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines[lines.index("Args:") + 1 : _end_of_arguments(lines)]:
        entry = re.match(r"  (\w+)( \(.*?\))?: ", line)
        name = entry[1] if entry else name
        found.setdefault(name, []).append(line)
    return found
