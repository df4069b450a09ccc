"""Builds what a configuration names: environment, agent, keys, and the program that trains them."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl import envs, losses, networks
from jaxrl.agents.combinators import with_reward, with_states
from jaxrl.arguments import check_count, nearest
from jaxrl.runs import outside_answers
from jaxrl.runs.config import ConfigError, RunConfig, Sweep
from jaxrl.runs.kinds import Kind, kind_of
from jaxrl.runs.objects import import_object, is_object
from jaxrl.runs.parts import choice_of, make_part
from jaxrl.runs.recipes import Parameter, Recipe, filled_in, find_recipe, hyperparameters, remembered, shorthands_of
from jaxrl.runs.trainers import trainer_of
from jaxrl.training.loop import count_updates
from jaxrl.training.program import Runnable
from jaxrl.types import Agent, Array, PyTree, RewardModel, Spec

MOST = 2**31 - 1
"""The largest number of updates, and the largest integer setting, of a run."""


LATE_PARTS = ("feedback",)
"""Parts that are made for the environment as the agent sees it, after the run has wrapped it."""


class Built(NamedTuple):
    """The objects that a configuration names.

    Attributes:
      env, params: the environment.
      spec: its description.
      make_agent: a function from the swept hyper-parameters, by name, to the agent.
      keys: ``[S]``, one per member.
      hyper: the swept hyper-parameters, ``[S]`` each; empty without a sweep.
      num_updates: the number of updates of the whole run.
      kind: the kind of the run, see ``kinds``.
    """

    env: Any
    params: PyTree
    spec: Spec
    make_agent: Callable[..., Agent]
    keys: Array
    hyper: dict[str, Array]
    num_updates: int
    kind: Kind

    def agent(self, member: int) -> Agent:
        """The agent of one member, with its own value of the swept hyper-parameters."""
        return self.make_agent(**{name: values[member] for name, values in self.hyper.items()})


class Given(NamedTuple):
    """Objects that replace those that a configuration names.

    Attributes:
      recipe: ``(spec, **options) -> Agent``.
      environment: an environment, a function or class that returns one, or a pair of an environment and its params.
      env_params: its parameters; None for its ``default_params``.
      parts: parts by the names of the recipe's arguments.
      judge: a ``feedback.judge.Judge`` or a ``judging.Judged``, which answers for teacher "judge".
    """

    recipe: Recipe | None = None
    environment: Any = None
    env_params: PyTree = None
    parts: Mapping[str, Any] = {}
    judge: Any = None


def build(config: RunConfig, given: Given | None = None, num_updates: int | None = None) -> Built:
    """Builds what a configuration names and checks its values, before anything is compiled.

    Args:
      config: the configuration of a run with one stage, see ``RunConfig.phases``.
      given: objects in place of names.
      num_updates: the updates of a stage that sets them; None for as many as the steps allow.

    Raises:
      ConfigError: a name is unknown or a value out of range; the message names it.
    """
    try:
        return _build(config, given or Given(), num_updates)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _build(config: RunConfig, given: Given, num_updates: int | None) -> Built:
    check_size(config)
    if num_updates is None:
        num_updates = count_updates(config.num_steps, config.num_envs, config.rollout_length)
    check_count("num_updates", num_updates)
    _check_counters(config, num_updates)
    if not 0 <= config.seed < 2**32:  # JAX keeps the lower 32 bits of larger seeds, so two of them could coincide
        raise ConfigError(f"seed: got {config.seed}, must lie in 0 to {2**32 - 1}")
    recipe = given.recipe or find_recipe(config.recipe)
    if config.sweep is not None:
        check_sweep(config.recipe, recipe, config.sweep)
    env, params = make_environment(config.environment, config.environment_settings, given)

    def part_of(name: str, env: Any) -> Any:
        chosen = config.parts[name]
        return given.parts[name] if name in given.parts else make_part(name, chosen.name, chosen.settings, env, params)

    parts = {name: part_of(name, env) for name in config.parts if name not in LATE_PARTS}
    kind, trainer = kind_of(env), trainer_of(config)
    kind.check_trainer(config, trainer)
    trainer.check(config)
    outside_answers.check(config)
    kind.check(config, parts.get("torso"))
    env = wrap(config, env, parts.get("torso"))
    wanted = filled_in(recipe)
    values: dict[str, Any] = {"num_updates": num_updates, "num_players": envs.num_players(env)}
    if "simulator" in wanted.values():
        env, offered = kind.simulator(config, env, params)
        values |= offered
    spec = envs.spec(env, params)
    shows_states = outside_answers.teacher_of(config) == "person" and kind.draw is not None
    if shows_states:  # so that what is asked can be drawn
        env = envs.expose_state(env, innermost=True)
        spec = envs.spec(env, params)
    memory = remembered(recipe, spec, config.hyperparameters)
    if memory is not None:
        env = envs.remember(env, memory)
        spec = envs.spec(env, params)
    if getattr(recipe, "groups", False):
        env = envs.repeat(env, max(config.rollout_length, 1))
    reward_model = part_of("feedback", env) if "feedback" in config.parts else None
    fixed = {argument: values[what] for argument, what in wanted.items()}
    fixed |= _loss_of_feedback(config, recipe, given)
    # The part is named, so that the switch that says the same in short has nothing to say.
    fixed |= {name: False for name, shorthand in shorthands_of(recipe).items() if shorthand.part in parts}

    def make_agent(**swept: Any) -> Agent:
        agent = _rewarded(recipe, reward_model, spec, **parts, **{**config.hyperparameters, **fixed, **swept})
        return with_states(agent) if shows_states else agent

    sweep = config.sweep or Sweep((), ((),))
    for setting in sweep.values:
        agent = make_agent(**dict(zip(sweep.names, setting, strict=True)))
        if not isinstance(agent, Agent):
            raise ConfigError(f"recipe: {config.recipe} returned a {type(agent).__name__}, must return an Agent")
        state = jax.eval_shape(lambda key, agent=agent: agent.init(key, config.num_envs), jax.random.key(0))
        trainer.check_state(state)
    # Every value of a sweep gets the same seeds, so that they are compared on equal random numbers.
    keys = jnp.tile(jax.random.split(jax.random.key(config.seed), config.seeds), len(sweep.values))
    columns = dict(zip(sweep.names, zip(*sweep.values, strict=True), strict=True)) if sweep.names else {}
    hyper = {name: jnp.repeat(jnp.array(column, jnp.float32), config.seeds) for name, column in columns.items()}
    return Built(env, params, spec, make_agent, keys, hyper, num_updates, kind)


def _loss_of_feedback(config: RunConfig, recipe: Recipe, given: Given) -> dict[str, Any]:
    """The loss that goes with the feedback of a run, where it has one and no loss was chosen.

    Raises:
      ConfigError: the recipe can't take it.
    """
    chosen = config.parts.get("feedback")
    loss = None if chosen is None or "feedback" in given.parts else choice_of("feedback", chosen.name).loss
    if chosen is None or loss is None or "loss" in config.parts:
        return {}
    known = inspect.signature(recipe).parameters
    if "loss" not in known or known["loss"].default is not losses.actor_critic:
        raise ConfigError(
            f"feedback: got {chosen.name} for {config.recipe}, must be with reinforce, a2c or a3c, whose loss takes "
            "its signals as advantages"
        )
    return {"loss": loss}


def check_size(config: RunConfig) -> None:
    """Refuses fewer than one seed or environment, and more than 32 bits can count."""
    for name, least in (("seeds", 1), ("num_envs", 1), ("rollout_length", 0)):
        value = getattr(config, name)
        if not least <= value <= MOST:
            bound = f"at least {least}" if value < least else f"at most {MOST}"
            raise ConfigError(f"{name}: got {value}, must be {bound}")


def _rewarded(recipe: Recipe, reward_model: RewardModel | None, spec: Spec, **options: Any) -> Agent:
    """The recipe's agent; with a reward model, whose rewards a recipe with a replay computes when it samples.

    Raises:
      ValueError: there are two reward models.
    """
    if reward_model is None:
        return recipe(spec, **options)
    if "reward_model" not in inspect.signature(recipe).parameters:
        return with_reward(recipe(spec, **options), reward_model)
    if options.get("reward_model") is not None:
        raise ValueError(f"reward_model: got {options['reward_model']!r} beside feedback, give one of the two")
    return recipe(spec, **{**options, "reward_model": reward_model})


def _check_counters(config: RunConfig, num_updates: int) -> None:
    """Refuses more updates than 32 bits can count. Counters of environment steps saturate instead."""
    if num_updates > MOST:
        raise ConfigError(
            f"num_steps: got {config.num_steps}, which is {num_updates} updates, and a run has at most {MOST}; give "
            "--num-envs or --rollout-length larger values"
        )
    for name, value in config.hyperparameters.items():
        if isinstance(value, int) and abs(value) > MOST:
            raise ConfigError(f"{name}: got {value}, must be at most {MOST}")


def make_environment(name: str, settings: Mapping[str, Any], given: Given | None = None) -> tuple[Any, PyTree]:
    """The environment of a run and its parameters, without the wrappers of the run.

    Args:
      name: the name, as in ``RunConfig``.
      settings: the settings of the environment, by name.
      given: the environment, or a function that makes it, to use instead of the name.

    Raises:
      ConfigError: a ``module:name`` can't be imported or called with the settings.
      UnknownEnvironment, UnknownArgument, TypeError, ValueError: as in ``jaxrl.make``.
    """
    made, params = (None, None) if given is None else (given.environment, given.env_params)
    if made is None:
        if not is_object(name):
            return envs.make(name, **settings)
        made = import_object(name, "environment")
    if isinstance(made, type) or not hasattr(made, "step"):
        made = _called(made, name, settings)
    elif settings:
        raise ConfigError(f"environment: {name} is made already and takes no settings, got {', '.join(settings)}")
    env, own = made if isinstance(made, tuple) else (made, None)
    if params is None:
        params = getattr(env, "default_params", None) if own is None else own
    return env, params


def _called(make: Callable[..., Any], environment: str, settings: Mapping[str, Any]) -> Any:
    """The result of calling a function or class with the settings of the environment."""
    if not callable(make):
        kind = type(make).__name__
        raise ConfigError(
            f"environment: got {environment}, a {kind}, must be an environment or a function that makes one"
        )
    known = inspect.signature(make).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name in settings:
        if name not in known and not takes_any:
            listed = ", ".join(known) or "none"
            hint = nearest(name, known)
            raise ConfigError(f"{environment}: unknown setting '{name}'{hint} (settings: {listed})")
    return make(**settings)


def environment_settings(name: str) -> dict[str, Any]:
    """The settings that an environment takes, with their defaults: ``envs.settings``, or those of a ``module:name``.

    Raises:
      ConfigError, UnknownEnvironment: see ``make_environment``.
    """
    if not is_object(name):
        return envs.settings(name)
    made = import_object(name, "environment")
    if not callable(made) or (hasattr(made, "step") and not isinstance(made, type)):
        return {}
    known = inspect.signature(made).parameters.values()
    return {each.name: each.default for each in known if each.default is not each.empty}


def wrap(config: RunConfig, env: Any, torso: Any) -> Any:
    """Wraps the environment for the agent: a window of observations, and the memory of a recurrent torso.

    Args:
      config: the configuration of the run.
      env: the environment that ``make_environment`` returned.
      torso: the torso of the agent, or None.
    """
    env = env if config.window is None else envs.window(env, config.window)
    if not networks.is_recurrent(torso):
        return env
    share_torso = config.hyperparameters.get("share_torso", False)
    critic = config.hyperparameters.get("baseline", True)
    return envs.remember(env, networks.memory_of(torso, share_torso=share_torso, critic=critic))


def fit_replay(config: RunConfig) -> RunConfig:
    """The configuration with a replay no larger than the run's transitions.

    Samples are drawn from filled slots, so the run is unchanged and needs less memory. The replay keeps at least the
    rows of a window of ``n_step``, and twice ``learning_starts``, some of which may wait for outcomes.
    """
    values = config.hyperparameters
    steps_per_update = config.num_envs * config.rollout_length
    if "replay_capacity" not in values or steps_per_update < 1:
        return config
    steps = config.steps_at(config.num_updates)  # including earlier stages, whose replay may be handed over
    rows = config.rollout_length + (values.get("n_step") or 1) - 1
    most = max(steps, config.num_envs * rows, 2 * values.get("learning_starts", 0), 1)
    capacity = min(values["replay_capacity"], most)
    return dataclasses.replace(config, hyperparameters={**values, "replay_capacity": capacity})


def is_sweepable(parameter: Parameter) -> bool:
    """Whether a hyper-parameter may be a tracer, which holds for floats only."""
    return parameter.type in (float, float | None)


def check_sweep(name: str, recipe: Recipe, sweep: Sweep) -> None:
    """Refuses to sweep anything but float hyper-parameters.

    Raises:
      ConfigError: the message names it and lists what can be swept.
    """
    known = hyperparameters(recipe)
    floats = [name for name, parameter in known.items() if is_sweepable(parameter)]
    for swept in sweep.names:
        if swept not in floats:
            problem = f"is no hyper-parameter of {name}{nearest(swept, floats)}"
            if swept in known:
                problem = "is not a float, and only floats can differ within one program"
            raise ConfigError(f"sweep: '{swept}' {problem} (sweepable: {', '.join(floats)})")
    listed = "; ".join(sweep.short(index) for index in range(len(sweep.values))) or "no value"
    if not sweep.values or not all(math.isfinite(value) for setting in sweep.values for value in setting):
        raise ConfigError(f"sweep: {sweep.title} got {listed}, must be finite")
    if len(set(sweep.values)) < len(sweep.values):
        raise ConfigError(f"sweep: {sweep.title} got {listed}, the same value twice")


def make_mesh(config: RunConfig) -> Mesh | None:
    """The devices that a run is split over; None for one device.

    Raises:
      ConfigError: more devices than there are, or counts that they do not divide.
    """
    return trainer_of(config).make_mesh(config)


def make_program(config: RunConfig, built: Built, mesh: Mesh | None = None) -> Runnable:
    """The program that trains all members of a run, on the devices of ``make_mesh`` or on one."""
    return trainer_of(config).make(config, built, mesh)
