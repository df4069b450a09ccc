"""Texts of states, actions and segments, for judges that read.

Legend of shapes: L steps of a segment, D features of a state. The environment's reward is in none of the texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import types
from jaxrl.arguments import check_count
from jaxrl.types import Discrete, Spec

STEP = "State: {state}, Action: {action}"
"""The default text of one step."""

MOST_FEATURES = 64
"""The largest number of features that are listed by name."""


class Names(NamedTuple):
    """The words for an environment.

    Attributes:
      features: the name of each feature of a state, in order.
      actions: the name of each discrete action, or of each axis of a continuous one.
      task: a sentence about what is good.
    """

    features: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    task: str = ""


NAMES: dict[str, Names] = {
    "CartPole-v1": Names(
        ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
        ("push left", "push right"),
        "Keep the pole on the cart upright for as long as possible; an attempt is over when the pole falls.",
    ),
    "Pendulum-v1": Names(
        ("cosine of the angle", "sine of the angle", "angular velocity"),
        ("torque",),
        "Swing the pendulum up and hold it upright, where the cosine of the angle is 1, with little speed and torque.",
    ),
    "MountainCar-v0": Names(
        ("position", "velocity"),
        ("push left", "do not push", "push right"),
        "Drive the car up the hill on the right, to position 0.5, as soon as possible.",
    ),
    "MountainCarContinuous-v0": Names(
        ("position", "velocity"),
        ("force",),
        "Drive the car up the hill on the right, to position 0.45, with little force.",
    ),
    "Acrobot-v1": Names(
        (
            "cosine of the first angle",
            "sine of the first angle",
            "cosine of the second angle",
            "sine of the second angle",
            "first angular velocity",
            "second angular velocity",
        ),
        ("torque -1", "no torque", "torque +1"),
        "Swing the tip of the two links above the bar as soon as possible.",
    ),
}
"""The names of features and actions of well-known environments, by their names."""


class Texts(NamedTuple):
    """Writes what happened, from NumPy arrays.

    Attributes:
      state: ``observation -> text``.
      action: ``action -> text``.
      segment: ``(observation [L, ...], action [L, ...], mask [L]) -> text``, whose mask is True up to the end of the
        episode.
    """

    state: Callable[[Any], str]
    action: Callable[[Any], str]
    segment: Callable[[Any, Any, np.ndarray], str]


def names_of(env: Any) -> Names:
    """The words for an environment: its attributes ``feature_names``, ``action_names`` and ``task``, or ``NAMES``.

    Args:
      env: a gymnax environment.
    """
    known = NAMES.get(getattr(env, "name", ""), Names())
    own = (_attribute(env, name) for name in ("feature_names", "action_names", "task"))
    features, actions, task = (or_known if given is None else given for given, or_known in zip(own, known, strict=True))
    return Names(tuple(map(str, features)), tuple(map(str, actions)), str(task))


def _attribute(env: Any, name: str) -> Any:
    """The attribute of the outermost of wrapped environments that has it; None without any."""
    while not hasattr(env, name) and hasattr(env, "env"):
        env = env.env
    return getattr(env, name, None)


def named(spec: Spec, names: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of all features and of all actions, or axes of actions; numbered ones where none are given.

    Raises:
      ValueError: observations are no vectors that can be listed, or the number of names is another.
    """
    shape = types.features(spec.observation).shape
    size = math.prod(shape)
    if len(shape) > 1 or size > MOST_FEATURES:
        raise ValueError(
            f"spec: got observations of shape {list(shape)}, must be vectors of at most {MOST_FEATURES} features; give "
            "Texts of functions instead"
        )
    axes = spec.action.num_actions if isinstance(spec.action, Discrete) else math.prod(spec.action.shape)
    return _named("features", names.features, size, "feature"), _named("actions", names.actions, axes, "action")


def template(spec: Spec, names: Names = Names(), *, step: str = STEP, every: int = 1, digits: int = 2) -> Texts:  # noqa: B008
    """Texts by a template.

    >>> import jaxrl
    >>> env, params = jaxrl.make("CartPole-v1")
    >>> write = template(jaxrl.spec(env, params), names_of(env))
    >>> write.state(np.array([0.0, 0.5, -0.1, 1.25])), write.action(0)
    ('cart position 0.00, cart velocity 0.50, pole angle -0.10, pole angular velocity 1.25', 'push left')

    Args:
      spec: the environment's spec.
      names: of features and actions; "feature 0" and "action 0" and so on where there are none.
      step: the text of a step: ``{state}`` and ``{action}``, ``{number}`` from 1 on, and each feature by its name, as
        in ``"angle {pole angle:.3f}"``.
      every: steps from one that is written to the next; the last one always is.
      digits: decimals of numbers.

    Raises:
      TypeError, ValueError: an argument can't be used; the message names it.
    """
    check_count("every", every)
    check_count("digits", digits, least=0)
    features, actions = named(spec, names)
    is_discrete = isinstance(spec.action, Discrete)
    listed = lambda known, values: ", ".join(  # noqa: E731
        f"{name} {value:.{digits}f}" for name, value in zip(known, values, strict=True)
    )

    def values(observation: Any) -> np.ndarray:
        return np.asarray(types.features(observation), np.float64).reshape(-1)

    def state(observation: Any) -> str:
        text = listed(features, values(observation))
        goal = observation.goal if isinstance(observation, types.Observation) else None
        return text if goal is None else f"{text}, goal {' '.join(f'{x:.{digits}f}' for x in np.ravel(goal))}"

    def action(chosen: Any) -> str:
        return actions[int(chosen)] if is_discrete else listed(actions, np.ravel(np.asarray(chosen, np.float64)))

    def of_step(number: int, observation: Any, chosen: Any) -> str:
        fields: Mapping[str, Any] = dict(zip(features, values(observation), strict=True)) | {
            "state": state(observation),
            "action": action(chosen),
            "number": number,
        }
        return step.format_map(fields)

    known = {*features, "state", "action", "number"}
    asked = {name for _, name, _, _ in Formatter().parse(step) if name is not None}
    if asked - known:
        raise ValueError(f"step: has {{{sorted(asked - known)[0]}}}, must be one of {', '.join(sorted(known))}")

    def segment(observation: Any, chosen: Any, mask: np.ndarray) -> str:
        length = int(mask.sum())
        shown = sorted({*range(0, length, every), length - 1}) if length else []
        at = lambda t: jax.tree.map(lambda leaf: leaf[t], (observation, chosen))  # noqa: E731
        lines = [f"Step {t + 1}. {of_step(t + 1, *at(t))}" for t in shown]
        if length < len(mask):
            lines.append(f"The attempt ended after step {length}.")
        return "\n".join(lines)

    return Texts(state, action, segment)


def _named(argument: str, given: Sequence[str], count: int, kind: str) -> tuple[str, ...]:
    """The given names, or numbered ones."""
    if given and len(given) != count:
        raise ValueError(f"names.{argument}: got {len(given)} ({', '.join(given)}), must be {count}")
    return tuple(given) or tuple(f"{kind} {index}" for index in range(count))


def pairs_of(texts: Texts, observation: Any, action: Any, mask: np.ndarray) -> list[tuple[str, str]]:
    """The texts of the segments of queries.

    Args:
      texts: who writes them.
      observation, action: ``[Q, 2, L, ...]``, of NumPy arrays.
      mask: ``[Q, 2, L]``.
    """
    one = lambda *at: texts.segment(*jax.tree.map(lambda leaf: leaf[at], (observation, action, mask)))  # noqa: E731
    return [(one(q, 0), one(q, 1)) for q in range(len(mask))]
