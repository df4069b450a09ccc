"""Parts by name: choices for a recipe's arguments that are objects, such as ``torso=``.

A flag and a JSON file can't hold a network. They hold a name in the table ``PARTS`` and its settings:
``--torso conv --torso.channels 32``. An argument with a row in this table can be chosen this way in every recipe that
has it; a new argument is a new row, and a new choice is a new entry of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import flax.linen as nn

from jaxrl import envs, feedback, networks, planners, replay, text
from jaxrl.agents.mbve import BASES
from jaxrl.agents.parts import critics, expansion, planning, plans
from jaxrl.agents.parts.torsos import torso_of
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, Unit
from jaxrl.feedback.verdicts import verdict
from jaxrl.runs.objects import import_object, is_object, name_of
from jaxrl.runs.recipes import (
    RECIPES,
    Parameter,
    Recipe,
    filled_in,
    find_recipe,
    hyperparameters,
    lookup,
    parameters,
    shorthands_of,
)
from jaxrl.signature import recipe
from jaxrl.types import RewardModel, Spec, Texts, features


class Choice(NamedTuple):
    """A choice of a part.

    Attributes:
      described: the function or Flax module whose signature and docstring define the settings, which are the arguments
        of a plain type with a default.
      make: ``make(env, params, **settings)`` returns the object that the recipe takes.
      loss: the loss that goes with it, for recipes that take ``losses.actor_critic``; None for any recipe and its loss.
    """

    described: Callable[..., Any]
    make: Callable[..., Any]
    loss: Callable[..., Any] | None = None


class Part(NamedTuple):
    """An argument of recipes that is chosen by name.

    Attributes:
      help: a sentence about it.
      choices: by name.
      default: ``(recipe, spec) ->`` what a recipe whose own default is None takes; without one it is what the
        recipe's switch says (see ``SHORTHANDS``), or left to the recipe.
      given: arguments of the choices that the recipe passes itself, so that they are no settings.
      of_every_recipe: whether it is no argument of recipes, but goes with any that does not plan in the simulator.
      short: settings whose flags have no prefix: ``--labels`` beside ``--feedback.queries``.
    """

    help: str
    choices: dict[str, Choice]
    default: Callable[[str, Spec], Any] | None = None
    given: frozenset[str] = frozenset()
    of_every_recipe: bool = False
    short: frozenset[str] = frozenset()


def module(kind: Callable[..., Any]) -> Choice:
    """A Flax module made from its fields; the integers among them are sizes."""

    def make(env: Any, params: Any, **settings: Any) -> Any:
        for name, value in settings.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int) and not isinstance(number, bool) and number < 1 for number in numbers):
                raise ValueError(f"{name}: got {_written(value)}, sizes must be at least 1")
        return kind(**settings)

    return Choice(kind, make)


def maker(function: Callable[..., Any]) -> Choice:
    """A function that the recipe calls: the settings are bound, and the arguments without default are left free."""

    def make(env: Any, params: Any, **settings: Any) -> Any:
        return functools.partial(function, **settings) if settings else function

    return Choice(function, make)


def _hindsight(env: Any, params: Any, **settings: Any) -> Any:
    """Hindsight with the reward and termination functions of the environment."""
    if not hasattr(env, "reward_fn"):
        raise ValueError(
            f"hindsight: got {type(env).__name__} without reward_fn(achieved_goal, goal), must be a goal-conditioned "
            "environment such as BitFlipping-40, PointReach or gymnasium/FetchReach-v4; for another one give "
            "replay=jaxrl.replay.hindsight(reward_fn) in Python"
        )
    return replay.hindsight(env.reward_fn, getattr(env, "terminated_fn", None), **settings)


def _frames(num_stacked: int = 4, prioritized: bool = False) -> Any:
    """Each picture of a stack is stored once, for screens of Atari.

    Args:
      num_stacked: the number of pictures in an observation.
      prioritized: sample by priority.
    """
    return replay.frames(num_stacked, replay.prioritized if prioritized else replay.uniform)


def model(function: Callable[..., Any]) -> Choice:
    """A reward model ``(spec, *, settings)``, made for the environment as the agent sees it."""
    return Choice(function, lambda env, params, **settings: function(envs.spec(env, params), **settings))


def _coach(
    num_signals: Count = 1000,
    rate: Unit = 0.05,
    mistake: Unit = 0.1,
    delay: CountOrZero = 0,
    corrected: bool = True,
    trace: Unit = 0.0,
) -> Any:
    """``feedback.coach`` with a simulated trainer, who follows the environment's rule in ``feedback.verdicts``.

    Args:
      num_signals: signals after which the trainer is silent.
      rate: probability that a decision is judged.
      mistake: probability that a signal has the wrong sign.
      delay: steps by which signals are late.
      corrected: the agent knows the delay.
      trace: decay of the eligibility trace, which spreads a signal over the decisions before it.
    """


def _tamer(
    num_signals: Count = 1000,
    rate: Unit = 0.05,
    mistake: Unit = 0.1,
    delay: CountOrZero = 0,
    corrected: bool = True,
    learning_rate: Positive = 1e-3,
    num_gradient_steps: Count = 10,
    batch_size: Count = 64,
) -> Any:
    """``feedback.tamer`` with a simulated trainer, who follows the environment's rule in ``feedback.verdicts``.

    Args:
      num_signals: signals after which the trainer is silent.
      rate: probability that a decision is judged.
      mistake: probability that a signal has the wrong sign.
      delay: steps by which signals are late.
      corrected: the agent knows the delay.
      learning_rate: step size of Adam.
      num_gradient_steps: gradient steps of an update.
      batch_size: judged decisions of a gradient step.
    """


def signals(described: Callable[..., Any], make: Callable[..., RewardModel]) -> Choice:
    """A reward model ``make(spec, trainer, **settings)`` of a simulated trainer's signals, which are advantages."""

    def made(env: Any, params: Any, *, corrected: bool = True, **settings: Any) -> RewardModel:
        told = {name: settings.pop(name) for name in ("num_signals", "rate", "mistake", "delay") if name in settings}
        trainer = feedback.trainer(verdict(env), **told)
        return make(envs.spec(env, params), trainer, delay=trainer.delay if corrected else 0, **settings)

    return Choice(described, made, feedback.as_advantage)


@recipe(extends=feedback.preferences)
def preferences(
    spec: Spec,
    *,
    teacher: feedback.teachers.TeacherName = "oracle",
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_task: str | None = None,
    judge_asks: Literal["pairs", "scores"] = "pairs",
    judge_every: Count = 1,
    judge_temperature: NonNegative = 0.0,
    judge_top_p: Unit = 1.0,
    judge_max_tokens: Count = 512,
    judge_seconds: Positive = 300.0,
    judge_concurrency: Count = 4,
    judge_calls: Count | None = None,
    **options: Any,
) -> RewardModel:
    """``feedback.preferences`` with a teacher by name.

    The settings of the judge are read by ``runs.judging``.

    Args:
      spec: of the environment.
      teacher: who compares segments of experience: a script, by the environment's reward, which the agent does not see,
        a person, by jaxrl label RUN, or a judge, a language model on a server.
      judge_url: the address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1; its key is in the
        environment variable JAXRL_JUDGE_KEY.
      judge_model: the name of the model there.
      judge_task: a sentence about what is good; that of the environment by default, where one is known.
      judge_asks: ask about pairs, in both orders, or for the scores of single segments.
      judge_every: steps from one that the judge reads to the next.
      judge_temperature: of the model that answers; 0 for its likeliest answer.
      judge_top_p: share of the probability that the model samples from.
      judge_max_tokens: of an answer that is not one token.
      judge_seconds: for a question, with all its tries.
      judge_concurrency: questions that are under way at once.
      judge_calls: the most requests of a run, tries included; None for no limit.
    """
    return feedback.preferences(spec, teacher=teacher, **options)


def _gpt2(width: int = 128, num_layers: int = 4, num_heads: int = 4, dtype: str = "float32") -> Any:
    """GPT-2's architecture.

    Args:
      width: width of the residual stream.
      num_layers: number of layers.
      num_heads: number of attention heads; divides width.
      dtype: "float32", or "bfloat16" for matrix products.
    """
    return functools.partial(text.gpt2, width=width, num_layers=num_layers, num_heads=num_heads, dtype=dtype)


def _llama(
    width: int = 128, num_layers: int = 4, num_heads: int = 4, num_kv_heads: int = 4, dtype: str = "float32"
) -> Any:
    """Llama's architecture.

    Args:
      width: width of the residual stream.
      num_layers: number of layers.
      num_heads: number of attention heads; divides width.
      num_kv_heads: number of heads of keys and values; divides num_heads.
      dtype: "float32", or "bfloat16" for matrix products.
    """
    sizes = {"width": width, "num_layers": num_layers, "num_heads": num_heads, "num_kv_heads": num_kv_heads}
    return functools.partial(text.llama, **sizes, dtype=dtype)


def language_model(function: Callable[..., Any]) -> Choice:
    """A language model with the vocabulary and the lengths of a text task."""

    def make(env: Any, params: Any, **settings: Any) -> Any:
        spec = envs.spec(env, params)
        if not isinstance(spec.action, Texts):
            raise ValueError(f"actions: got {spec.action}, must be Texts; take a text task such as Reverse-6")
        length = features(spec.observation).tokens.shape[0] + spec.action.length
        return function(**settings)(spec.action.num_tokens, max_length=length)

    return Choice(function, make)


def _written(value: Any) -> str:
    """A value in the form that a flag reads."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


JUDGE = [name for name in inspect.signature(preferences).parameters if name.startswith("judge_")]
"""The settings of a judge on a server."""

PARTS: dict[str, Part] = {
    "torso": Part(
        "The network under the heads; by default nature or conv for images, by their size, and mlp for the rest.",
        {
            "mlp": module(networks.MLP),
            "conv": module(networks.Conv),
            "nature": module(networks.NatureCNN),
            "impala": module(networks.ImpalaCNN),
            "residual": module(networks.Residual),
            "transformer": module(networks.Transformer),
            "gru": module(networks.GRU),
        },
        lambda recipe, spec: torso_of(RECIPES[recipe], spec),
    ),
    "network": Part(
        "The language model of a recipe that writes texts.",
        {"gpt2": language_model(_gpt2), "llama": language_model(_llama)},
        lambda recipe, spec: "gpt2",
    ),
    "start": Part(
        "How a language model starts; by default with random parameters.",
        {
            "demonstrations": Choice(
                text.demonstrations, lambda env, params, **settings: text.demonstrations(env, **settings)
            )
        },
        given=frozenset({"env"}),
    ),
    "search": Part(
        "How a recipe that plans searches for its moves.",
        {name: maker(function) for name, function in planning.SEARCHES.items()},
    ),
    "planner": Part(
        "How a recipe that plans by a model finds its actions.",
        {name: maker(function) for name, function in plans.PLANNERS.items()},
        given=frozenset(inspect.signature(planners.PlanFn.__call__).parameters),
    ),
    "base": Part(
        "The recipe whose targets look ahead in a model.",
        {name: maker(function) for name, function in BASES.items()},
        given=frozenset({*inspect.signature(critics.shared).parameters, "num_critics"}),
    ),
    "targets": Part(
        "How rollouts in a model become the targets of critics.",
        {name: maker(function) for name, function in expansion.TARGETS.items()},
    ),
    "replay": Part(
        "Where a recipe with a replay keeps transitions, and how it samples them. Hindsight needs goals, frames needs "
        "stacked pictures.",
        {
            "uniform": maker(replay.uniform),
            "prioritized": maker(replay.prioritized),
            "hindsight": Choice(replay.hindsight, _hindsight),
            "frames": Choice(_frames, lambda env, params, **settings: _frames(**settings)),
        },
    ),
    "feedback": Part(
        "A reward model that replaces or adds to the environment's reward, for any recipe without a simulator.",
        {
            "preferences": model(preferences),
            "coach": signals(_coach, lambda spec, trainer, **settings: feedback.coach(trainer, **settings)),
            "tamer": signals(_tamer, feedback.tamer),
            "rnd": model(feedback.rnd),
            "clipped": model(feedback.clipped),
        },
        of_every_recipe=True,
        short=frozenset({"teacher", "labels", *JUDGE}),
    ),
}
"""Argument of a recipe -> its choices."""


def parts_of(recipe: str | Recipe) -> list[str]:
    """The arguments of a recipe that are chosen by a name in ``PARTS``; raises like ``find_recipe``."""
    found = find_recipe(recipe)
    return [*(name for name in inspect.signature(found).parameters if name in PARTS), *_of_every_recipe(found)]


def _of_every_recipe(recipe: Recipe) -> list[str]:
    """The parts that go with a recipe and are no argument of it. A simulator would pay its own rewards."""
    if "simulator" in filled_in(recipe).values():
        return []
    return [name for name, part in PARTS.items() if part.of_every_recipe]


def setting_flag(part: str, setting: str) -> str:
    """The name of a setting's flag, without dashes: ``torso.hidden``, or ``labels`` where it is short."""
    return setting if part in PARTS and setting in PARTS[part].short else f"{part}.{setting}"


def object_arguments(recipe: str | Recipe) -> list[str]:
    """The arguments of a recipe that are objects: those of ``PARTS`` and others, such as ``loss``."""
    found = find_recipe(recipe)
    others = {"spec", *hyperparameters(found), *filled_in(found), *shorthands_of(found)}
    known = inspect.signature(found).parameters
    own = [name for name, each in known.items() if name not in others and each.kind is each.KEYWORD_ONLY]
    return [*own, *_of_every_recipe(found)]


def choice_of(part: str, name: str) -> Choice:
    """A choice by name: an entry of ``PARTS``, or ``my_module:my_object``.

    A class is called with its settings. A function, such as a loss, is the object itself with its settings bound; for a
    torso it is called and returns the module. Any other object is used unchanged.

    Raises:
      UnknownName: the choice does not exist.
      ConfigError: a ``module:name`` can't be imported.
    """
    if not is_object(name):
        return cast(Choice, lookup(part, name, PARTS[part].choices if part in PARTS else {}))
    found = import_object(name, part)
    if isinstance(found, type):
        return module(found)
    if part == "torso" and not isinstance(found, nn.Module):
        return Choice(found, lambda env, params, **settings: found(**settings))
    if inspect.isroutine(found):
        return maker(found)
    return Choice(lambda: found, lambda env, params: found)


def settings_of(part: str, choice: str) -> dict[str, Parameter]:
    """The settings of a choice.

    Raises:
      UnknownName: the choice does not exist.
    """
    given = PARTS[part].given if part in PARTS else ()
    return parameters(choice_of(part, choice).described, given)


def make_part(part: str, choice: str, settings: dict[str, Any], env: Any, params: Any) -> Any:
    """The object that the recipe takes.

    Raises:
      UnknownName: the choice does not exist.
      TypeError, ValueError: a setting is invalid; the message names the part and the setting.
    """
    made = choice_of(part, choice)
    try:
        return made.make(env, params, **settings)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}.{error}") from error


def default_part(recipe: str | Recipe, part: str, spec: Spec) -> tuple[str, dict[str, Any]] | None:
    """The name and the settings of a recipe's default part in an environment; None if only the recipe knows it.

    Raises:
      LookupError: the default has no name.
    """
    known, row = inspect.signature(find_recipe(recipe)).parameters, PARTS[part]
    value = known[part].default if part in known else None
    for name, shorthand in shorthands_of(recipe).items():
        if value is None and shorthand.part == part:
            value = row.choices[shorthand.on if known[name].default else shorthand.off].described
    if value is None and row.default is not None and recipe in RECIPES:
        value = row.default(str(recipe), spec)
    return None if value is None else described(part, value)


def described(part: str, value: Any) -> tuple[str, dict[str, Any]]:
    """The name and the settings that reproduce an object, if it has some; see ``choice_of``.

    Raises:
      LookupError: no table or import reproduces it.
    """
    row = PARTS[part].choices if part in PARTS else {}
    if isinstance(value, str) and value in row:
        value = row[value].described
    bound = value.keywords if isinstance(value, functools.partial) else {}
    kind = value.func if isinstance(value, functools.partial) else value
    own = {} if inspect.isroutine(kind) else getattr(value, "__dict__", {})
    name = next((name for name, choice in row.items() if choice.described in (kind, type(value))), None)
    name = name or name_of(kind if inspect.isroutine(kind) else type(value))
    if name.startswith(":") or not (inspect.isroutine(kind) or isinstance(value, nn.Module)):
        raise LookupError(f"{part}: got {value!r}, must be in the table of parts or importable by its name")
    known = settings_of(part, name)
    settings = {key: {**own, **bound}.get(key, setting.default) for key, setting in known.items()}
    if isinstance(value, nn.Module):
        is_whole = make_part(part, name, settings, None, None) == value
    else:
        is_whole = not getattr(value, "args", ()) and not set(bound) - set(known)
    if not is_whole:
        raise LookupError(f"{part}: got {value!r}, must have arguments of plain values only")
    return name, settings
