"""The options of a recipe, read from its signature: which are floats, and does each of them do anything?"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.interpreters import partial_eval

from jaxrl import replay
from jaxrl.networks import MLP
from jaxrl.training.subject import ConformanceError, Subject, require
from jaxrl.types import Agent, Box, RewardModel, Spec


class Context(NamedTuple):
    """What has to hold for an option to matter.

    Attributes:
      options: values of other options, and where needed of the option itself; those that a recipe lacks are ignored.
      action: the kind of action space, put in place of the environment's if that is another.
    """

    options: Mapping[str, Any] = {}
    action: Box | None = None


_CONTINUOUS = Context(action=Box((2,), -1.0, 1.0))

CONTEXTS: dict[str, Context] = {
    "anneal_learning_rate": Context({"num_updates": 10}),
    "anneal_clip": Context({"num_updates": 10}),
    "num_updates": Context({"num_updates": 10, "anneal_learning_rate": True}),
    "clip_value_epsilon": Context({"huber_delta": None}),
    "huber_delta": Context({"clip_value_epsilon": None}),
    "value_coef": Context({"baseline": True}),
    "share_torso": Context({"baseline": True}),
    "squash": _CONTINUOUS,
    "state_dependent_std": _CONTINUOUS,
    "initial_log_std": _CONTINUOUS,
    "replay": Context({"prioritized": False}),
    "noisy_sigma": Context({"noisy": True}),
    **{name: Context({"noisy": False}) for name in ("epsilon_start", "epsilon_end", "epsilon_steps")},
}
"""Options that do nothing by themselves, and what makes them matter."""


def _twice(loss: Callable[..., Any]) -> Callable[..., Any]:
    def doubled(*args: Any) -> Any:
        value, metrics = loss(*args)
        return 2.0 * value, metrics

    return doubled


ALTERNATIVES: dict[str, Callable[[Any], Any]] = {
    "torso": lambda default: MLP(hidden=(5,)),
    "heads": lambda default: {"extra": nn.Dense(2)},
    "loss": _twice,
    "optimizer": lambda default: optax.sgd,
    "replay": lambda default: partial(replay.prioritized, alpha=0.5),
    "reward_model": lambda default: RewardModel(
        init=lambda key, num_envs=1: (),
        reward=lambda key, state, trajectory: 2.0 * trajectory.reward,
        update=lambda key, state, trajectory: (state, {}),
    ),
    "model": lambda default: lambda *args: default(*args)._replace(reward=jnp.float32(1.0)),
    "search": lambda default: lambda *args, **options: default(*args, **{**options, "bounded": True, "explore": False}),
    "symmetries": lambda default: lambda key, features, mask, policy: (features, mask, policy[..., ::-1]),
}
"""Other values of options that are no numbers, from the default."""


def parameters(make_agent: Callable[..., Agent]) -> dict[str, inspect.Parameter]:
    """The options of a recipe: the parameters with a default, their annotations evaluated where that is possible."""
    try:
        signature = inspect.signature(make_agent, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers only
        signature = inspect.signature(make_agent)
    return {name: option for name, option in signature.parameters.items() if option.default is not option.empty}


def _kinds(option: inspect.Parameter) -> tuple[Any, ...]:
    return typing.get_args(option.annotation) or (option.annotation,)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, bools apart."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def float_options(make_agent: Callable[..., Agent]) -> dict[str, float]:
    """The float hyper-parameters of a recipe with their defaults; those whose default is None are left out."""
    return {
        name: float(option.default)
        for name, option in parameters(make_agent).items()
        if is_number(option.default) and (isinstance(option.default, float) or float in _kinds(option))
    }


def other_float(value: float) -> float:
    """Another float that is as valid: half of it, which leaves no interval around 0, or a small one for 0."""
    return 0.5 * value if value else 0.1


def alternative(name: str, option: inspect.Parameter, value: Any) -> Any:
    """Another value of an option.

    By name from ``ALTERNATIVES``, else by its present value: bools are inverted, ints doubled (which keeps what
    divides a batch), floats halved; for None a value of the annotated kind.

    Raises:
      ConformanceError: none can be derived.
    """
    if name in ALTERNATIVES:
        return ALTERNATIVES[name](value)
    if isinstance(value, bool):
        return not value
    if is_number(value):
        return 2 * value if isinstance(value, int) and float not in _kinds(option) else other_float(float(value))
    by_kind: dict[Any, Any] = {bool: True, float: 0.3, int: 7}
    for kind, other in by_kind.items():
        if value is None and kind in _kinds(option):
            return other
    raise ConformanceError(
        f"options_matter: no other value of option {name!r} can be derived from {value!r}, "
        f"give options={{{name!r}: ...}}"
    )


Program = tuple[str, tuple[bytes, ...]]


def program(function: Callable[..., Any], args: Any, used: Callable[[Any], Any] = lambda out: out) -> Program:
    """The program of a function without what does not reach its used outputs: its text, and its constants.

    Args:
      function: traced anew, whatever was traced before.
      args: of arrays or of ``jax.ShapeDtypeStruct``.
      used: picks the outputs that count.
    """
    closed, shape = jax.make_jaxpr(lambda *args: used(function(*args)), return_shape=True)(*args)
    num_outputs = len(jax.tree.leaves(shape))
    jaxpr, consts, _ = partial_eval.dce_jaxpr_consts(closed.jaxpr, [True] * num_outputs)
    used_consts = [const for const, keep in zip(closed.consts, consts, strict=True) if keep]
    # Callbacks and custom derivatives are printed with their addresses.
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))
    return text, tuple(_bytes(const) for const in [*used_consts, *_inner_constants(jaxpr)])


def _inner_constants(jaxpr: Any) -> list[Any]:
    """The constants of the programs inside of a program, which its text does not show."""
    found: list[Any] = []
    for equation in jaxpr.eqns:
        found += [atom.val for atom in equation.invars if hasattr(atom, "val")]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "consts"):
                found += inner.consts
            if hasattr(inner, "eqns"):
                found += _inner_constants(getattr(inner, "jaxpr", inner))
    return found


def _bytes(const: Any) -> bytes:
    is_key = hasattr(const, "dtype") and jnp.issubdtype(const.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(const) if is_key else const).tobytes()


def programs(subject: Subject, agent: Agent, spec: Spec) -> dict[str, Callable[[], Any]]:
    """The programs of an agent's functions, metrics apart; each is traced when it is called for."""
    state, observation, trajectory = subject.abstract(agent, spec)
    key, count = subject.key, subject.num_envs
    return {
        "update": lambda: program(agent.update, (key, state, trajectory), used=lambda out: out[0]),
        "act": lambda: program(lambda key, *args: agent.act(key, *args), (key, state, observation)),
        "init": lambda: program(lambda key: agent.init(key, count), (key,)),
        "act with explore=False": lambda: program(
            lambda key, *args: agent.act(key, *args, explore=False), (key, state, observation)
        ),
    }


def _first_difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    return next((part for part in before if before[part]() != after[part]()), None)


def options_matter(subject: Subject) -> dict[str, str]:
    """Every option changes the program of init, act or update, or their constants; metrics do not count.

    Returns:
      The first of update, act and init that each option changes.

    Raises:
      ConformanceError: an option that nothing reads, or one that no other value can be derived for.
    """
    known = parameters(subject.make_agent)
    unknown = sorted({*subject.options, *subject.contexts} - set(known))
    require(not unknown, "options_matter", f"the recipe has no option {', '.join(unknown)}")
    contexts = {**CONTEXTS, **{name: Context(options) for name, options in subject.contexts.items()}}
    bases: dict[str, dict[str, Any]] = {}
    changed = {}
    for name, option in known.items():
        context = contexts.get(name, Context())
        given = {other: value for other, value in context.options.items() if other in known}
        spec = subject.spec
        if context.action is not None and not isinstance(spec.action, Box):
            spec = spec._replace(action=context.action)
        other = (
            subject.options[name]
            if name in subject.options
            else alternative(name, option, given.get(name, option.default))
        )
        base = f"{given} {spec.action}"
        if base not in bases:
            made = programs(subject, subject.make_agent(spec, **given), spec)
            bases[base] = {part: cache(trace) for part, trace in made.items()}
        try:
            agent = subject.make_agent(spec, **{**given, name: other})
        except (TypeError, ValueError) as error:
            raise ConformanceError(
                f"options_matter: {name}={other!r} with {given} is refused, give another value in options= or what it "
                f"needs in contexts=: {error}"
            ) from error
        part = _first_difference(bases[base], programs(subject, agent, spec))
        require(part, "options_matter", f"option {name!r} changes nothing: {other!r} gives the same programs")
        changed[name] = str(part)
    return changed
