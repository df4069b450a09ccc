"""Runs from Python: one call writes the same folder as ``jaxrl train``, for any recipe and any environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxrl import envs, processes
from jaxrl.agents.presets import LOOP
from jaxrl.arguments import nearest
from jaxrl.feedback.judge import Judge
from jaxrl.runs.building import Given, fit_replay, make_environment
from jaxrl.runs.config import Chosen, RunConfig, Sweep
from jaxrl.runs.console import make_console
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.judging import Judged
from jaxrl.runs.objects import name_of
from jaxrl.runs.parts import PARTS, default_part, described, object_arguments, settings_of
from jaxrl.runs.presets import defaults_of
from jaxrl.runs.recipes import RECIPES, Recipe, find_recipe, hyperparameters
from jaxrl.runs.starting import Run, continue_run, start, with_changes
from jaxrl.runs.trainers import with_trainer_settings
from jaxrl.types import Agent, PyTree


def train(
    folder: str | Path,
    recipe: str | Recipe | Agent,
    environment: Any,
    env_params: PyTree = None,
    *,
    num_steps: int | None = None,
    num_envs: int | None = None,
    rollout_length: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    sweep: Mapping[str, Sequence[float]] | None = None,
    environment_settings: Mapping[str, Any] | None = None,
    window: int | None = None,
    eval_every: int | None = None,
    eval_episodes: int = 128,
    init_from: str | Path | None = None,
    devices: int = 1,
    seed_devices: int = 1,
    workers: int = 0,
    wandb: bool = False,
    quiet: bool = False,
    judge: Judge | Judged | None = None,
    **options: Any,
) -> Run:
    """Trains a population of seeds and writes a run folder, as ``jaxrl train`` does.

    For example ``train("runs/mine", jaxrl.ppo, MyEnv(), num_steps=200_000, seeds=8, torso=MyTorso())``. The folder has
    metrics.csv, TensorBoard events, checkpoints, the evaluation and the curve; ``jaxrl.load`` and ``resume`` read it.
    Recipes, environments and parts that can be imported are stored by name; others have to be passed to ``load`` and
    ``resume`` again.

    Args:
      folder: the run's folder; it must be new or empty.
      recipe: a name such as "ppo", ``"my_module:my_recipe"``, a function ``(spec, **options) -> Agent``, or an agent.
      environment: a name such as "CartPole-v1", ``"my_module:make_env"``, an environment, or a function or class that
        makes one.
      env_params: its parameters; None for its ``default_params``. With a name, use ``environment_settings``.
      num_steps: environment steps per seed; None for the preset's, as for ``num_envs`` and ``rollout_length``.
      num_envs: B, environments per seed.
      rollout_length: T, steps of each environment before an update.
      seeds: the number of agents that are trained side by side.
      seed: the random seed of the run; its key is split into one per seed.
      sweep: values of float hyper-parameters; all combinations are trained, with all seeds for each.
      environment_settings: the arguments of ``jaxrl.make`` besides the name, or of the function that makes the
        environment.
      window: the number of last observations of the episode that the agent sees at once.
      eval_every: environment steps per seed between two evaluations during training; None for none.
      eval_episodes: episodes per seed in an evaluation; 0 for none.
      init_from: the run whose parameters to start from.
      devices, seed_devices: the devices to split the run over, see ``RunConfig``.
      workers: threads that share one state; 0 for none.
      wandb: also log to Weights & Biases.
      quiet: print nothing.
      judge: who answers for teacher "judge", in place of a server: a ``feedback.judge.Judge``.
      **options: hyper-parameters and parts of the recipe; the others have the values of its preset. A part is an
        object, a name, or a name with settings: ``feedback={"name": "preferences", "labels": 200}``.

    Raises:
      ConfigError, RunError: an argument is unknown, out of range or contradictory; or the folder is not empty.
      RunStopped: the run ended early: ``Diverged``, ``InterruptedRun``, ``NotWritten``; the message says what was
        saved.
    """
    recipe = _always(recipe) if isinstance(recipe, Agent) else recipe
    if isinstance(environment, str) and env_params is not None:
        raise ConfigError(
            f"env_params: got {type(env_params).__name__} beside the name {environment!r}; give environment_settings, "
            "such as {'max_steps_in_episode': 200}, or the environment as an object"
        )
    function, recipe_name = find_recipe(recipe), _recipe_name(recipe)
    given = Given(
        None if isinstance(recipe, str) else function,
        None if isinstance(environment, str) else environment,
        env_params,
        judge=judge,
    )
    config = RunConfig(
        recipe=recipe_name,
        environment=_environment_name(environment, env_params),
        seed=seed,
        seeds=seeds,
        num_steps=0,
        num_envs=0,
        rollout_length=0,
        parts={},
        hyperparameters={},
        sweep=None if not sweep else Sweep.grid(sweep),
        init_from=None if init_from is None else str(Path(init_from).resolve()),
        window=window,
        devices=devices,
        seed_devices=seed_devices,
        workers=workers,
        environment_settings=dict(environment_settings or {}),
        eval_every=eval_every,
        eval_episodes=eval_episodes,
    )
    loop = {"num_steps": num_steps, "num_envs": num_envs, "rollout_length": rollout_length}
    config, given = _with_options(config, function, given, {k: v for k, v in loop.items() if v is not None}, options)
    run = start(RunFolder(folder), config, given=given, console=_console(quiet), wandb=wandb)
    assert run is not None
    return run


def resume(
    folder: str | Path,
    *,
    num_steps: int | None = None,
    update: int | None = None,
    eval_every: int | None = None,
    eval_episodes: int | None = None,
    devices: int | None = None,
    seed_devices: int | None = None,
    wandb: bool = False,
    quiet: bool = False,
    trust: bool = False,
    recipe: Recipe | None = None,
    environment: Any = None,
    env_params: PyTree = None,
    judge: Judge | Judged | None = None,
    **parts: Any,
) -> Run:
    """Continues a run from its last checkpoint, as ``jaxrl resume`` does; the result equals the uninterrupted run's.

    Args:
      folder: the run's folder.
      num_steps: a new budget, in environment steps per seed since the start of the run; None for the old one.
      update: the update of the checkpoint to continue from; later progress is dropped.
      eval_every, eval_episodes, devices, seed_devices: new ones; None for those of the run.
      wandb, quiet: see ``train``.
      trust: see ``load``.
      recipe, environment, env_params, judge, **parts: the objects that the run was started with, if they can't be
        imported by their names.

    Raises:
      ConfigError, RunError, RunStopped: see ``train``. RunError also if the run is finished, or names modules that this
        user has not trained with.
    """
    run = RunFolder(folder)
    before = run.read_config(trust=trust)
    config = with_changes(
        before,
        num_steps=num_steps,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        devices=devices,
        seed_devices=seed_devices,
    )
    given = Given(recipe, environment, env_params, parts, judge)
    return continue_run(
        run, config, before, given=given, console=_console(quiet), update=update, wandb=wandb, trust=trust
    )


def _always(agent: Agent) -> Recipe:
    def agent_itself(spec: Any) -> Agent:
        return agent

    return agent_itself


def _console(quiet: bool) -> Console:
    return make_console(quiet=quiet or not processes.is_first())


def _recipe_name(recipe: str | Recipe) -> str:
    if isinstance(recipe, str):
        return recipe
    return next((name for name, known in RECIPES.items() if known is recipe), None) or name_of(recipe)


def _environment_name(environment: Any, env_params: PyTree) -> str:
    """The name to store; an environment that is an object or has its own parameters has to be given again."""
    if isinstance(environment, str):
        return environment
    is_maker = isinstance(environment, type) or (callable(environment) and not hasattr(environment, "step"))
    called = name_of(environment if is_maker else type(environment))
    return called if is_maker and env_params is None else f":{called.rpartition(':')[2]}"


def _with_options(
    config: RunConfig, recipe: Recipe, given: Given, loop: dict[str, int], options: dict[str, Any]
) -> tuple[RunConfig, Given]:
    """The configuration with all arguments of the recipe, and the objects among them."""
    known, objects = hyperparameters(recipe), object_arguments(recipe)
    defaults = defaults_of(config.recipe, config.environment)
    for name in options:
        if name not in known and name not in objects:
            listed = ", ".join([*objects, *known])
            raise ConfigError(f"{name}: is no option of {config.recipe}{nearest(name, [*known, *objects])} ({listed})")
    hyper = {name: options.get(name, defaults.get(name, known[name].default)) for name in known}
    hyper = {name: tuple(value) if isinstance(value, list) else value for name, value in hyper.items()}
    config = dataclasses.replace(config, hyperparameters=hyper, **{name: {**defaults, **loop}[name] for name in LOOP})
    config = with_trainer_settings(config, options)
    try:
        env, params = make_environment(config.environment, config.environment_settings, given)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    spec = envs.spec(env if config.window is None else envs.window(env, config.window), params)
    parts: dict[str, Chosen] = {}
    kept: dict[str, Any] = {}
    for name in objects:
        chosen, thing = _part(recipe, name, options, defaults, spec)
        if chosen is not None:
            parts[name] = chosen
        if thing is not None:
            kept[name] = thing
    config = dataclasses.replace(config, parts=parts)
    return config if "replay_capacity" in options else fit_replay(config), given._replace(parts=kept)


def _part(
    recipe: Recipe, name: str, options: Mapping[str, Any], defaults: Mapping[str, Any], spec: Any
) -> tuple[Chosen | None, Any]:
    """The stored form of an object that a recipe takes, and the object itself if it has to be given again."""
    value = options.get(name)
    if (isinstance(value, Mapping) and name in PARTS) or (value is None and name in defaults):
        settings = dict(defaults[name] if value is None else value)
        choice = settings.pop("name", None)
        if not isinstance(choice, str):
            raise ConfigError(f"{name}: got {value}, must have a 'name', one of {', '.join(PARTS[name].choices)}")
        return Chosen(choice, {key: each.default for key, each in settings_of(name, choice).items()} | settings), None
    if value is None:
        by_name = next((known for known, each in RECIPES.items() if each is recipe), None)
        found = default_part(by_name, name, spec) if by_name is not None and name in PARTS else None
        return (None if found is None else Chosen(*found)), None
    if isinstance(value, str):
        return Chosen(value, {key: each.default for key, each in settings_of(name, value).items()}), None
    try:
        return Chosen(*described(name, value)), None
    except LookupError:
        return Chosen(f":{getattr(value, '__name__', type(value).__name__)}", {}), value
