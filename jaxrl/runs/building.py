"""From a configuration to the things it names: environment, agent, keys, and the program that trains them."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl import envs, networks, processes
from jaxrl.arguments import check_count, nearest
from jaxrl.runs.config import ConfigError, RunConfig, Sweep
from jaxrl.runs.kinds import Kind, kind_of
from jaxrl.runs.parts import make_part, shorthands_of
from jaxrl.runs.recipes import FILLED_IN, RECIPES, Parameter, hyperparameters, lookup
from jaxrl.training import parallel
from jaxrl.training.asynchronous import Asynchronous, check_shareable
from jaxrl.training.loop import count_updates
from jaxrl.training.program import Program, Runnable
from jaxrl.types import Agent, Array, PyTree, Spec


class Built(NamedTuple):
    """What a configuration names.

    Attributes:
      env, params: the environment.
      spec: its description.
      make_agent: from the swept hyper-parameters, by name, to the agent.
      keys: ``[S]`` one for each member.
      hyper: the swept hyper-parameters, ``[S]`` each; empty without a sweep.
      num_updates: of the whole run.
      kind: of the run, see ``kinds``.
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
        """The agent of one member, with its own value of what is swept."""
        return self.make_agent(**{name: values[member] for name, values in self.hyper.items()})


def build(config: RunConfig) -> Built:
    """Makes what a configuration names and checks its values, before anything is compiled.

    Raises:
      ConfigError: an unknown name or a value out of range, named.
    """
    try:
        return _build(config)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _build(config: RunConfig) -> Built:
    for name in ("seeds", "num_envs", "rollout_length", "num_steps"):
        check_count(name, getattr(config, name))
    if not 0 <= config.seed < 2**32:  # of larger ones JAX takes the lower 32 bits, so that two would be one
        raise ConfigError(f"seed: got {config.seed}, must lie in 0 to {2**32 - 1}")
    recipe = lookup("recipe", config.recipe, RECIPES)
    _check_workers(config)
    if config.sweep is not None:
        check_sweep(config.recipe, config.sweep)
    env, params = envs.make(config.environment)
    parts = {part: make_part(part, chosen.name, chosen.settings, env, params) for part, chosen in config.parts.items()}
    kind = kind_of(env)
    kind.check(config, parts.get("torso"))
    env = wrap(config, env, parts.get("torso"))
    filled_in: dict[str, Any] = {}
    if takes(recipe, "model"):
        filled_in |= {"model": envs.simulator(env, params), "symmetries": getattr(env, "symmetries", None)}
        env = envs.expose_state(env)
    spec = envs.spec(env, params)
    num_updates = count_updates(config.num_steps, config.num_envs, config.rollout_length)
    filled_in |= {"num_updates": num_updates} if takes(recipe, "num_updates") else {}
    # The part is named, so that the switch that says the same in short has nothing to say.
    filled_in |= {name: False for name, shorthand in shorthands_of(config.recipe).items() if shorthand.part in parts}

    def make_agent(**swept: Any) -> Agent:
        return recipe(spec, **parts, **{**config.hyperparameters, **filled_in, **swept})

    values = (None,) if config.sweep is None else config.sweep.values
    for value in values:
        agent = make_agent(**({} if config.sweep is None else {config.sweep.name: value}))
        state = jax.eval_shape(lambda key, agent=agent: agent.init(key, config.num_envs), jax.random.key(0))
        if config.workers:
            check_shareable(state)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    hyper = {}
    if config.sweep is not None:
        # Every value gets the same seeds, so that they are compared on equal luck.
        keys = jnp.tile(keys, len(config.sweep.values))
        hyper = {config.sweep.name: jnp.repeat(jnp.array(config.sweep.values, jnp.float32), config.seeds)}
    return Built(env, params, spec, make_agent, keys, hyper, num_updates, kind)


def wrap(config: RunConfig, env: Any, torso: Any) -> Any:
    """The environment as the agent sees it: its last steps at once, and what the torso remembers fed back.

    Args:
      config: of the run.
      env: what its environment's name makes.
      torso: of the agent, or None.
    """
    env = env if config.window is None else envs.window(env, config.window)
    if not networks.is_recurrent(torso):
        return env
    share_torso = config.hyperparameters.get("share_torso", False)
    critic = config.hyperparameters.get("baseline", True)
    return envs.remember(env, networks.memory_of(torso, share_torso=share_torso, critic=critic))


def fit_replay(config: RunConfig) -> RunConfig:
    """The configuration with a replay no larger than what the run puts into it.

    Samples are drawn from what is filled, so that the run stays the same and takes less memory. It still holds the rows
    that a window of ``n_step`` wants, and twice what learning starts with, of which a part may wait for outcomes.
    """
    values = config.hyperparameters
    steps_per_update = config.num_envs * config.rollout_length
    if "replay_capacity" not in values or steps_per_update < 1:
        return config
    steps = config.num_steps // steps_per_update * steps_per_update
    rows = config.rollout_length + (values.get("n_step") or 1) - 1
    most = max(steps, config.num_envs * rows, 2 * values.get("learning_starts", 0), 1)
    capacity = min(values["replay_capacity"], most)
    return dataclasses.replace(config, hyperparameters={**values, "replay_capacity": capacity})


def takes(recipe: Callable[..., Agent], argument: str) -> bool:
    """Whether a recipe has an argument of this name, which must be one that a run fills in."""
    assert argument in FILLED_IN
    return argument in inspect.signature(recipe).parameters


def is_sweepable(parameter: Parameter) -> bool:
    """Whether a hyper-parameter may be a tracer: every float may, nothing else."""
    return parameter.type in (float, float | None)


def check_sweep(recipe: str, sweep: Sweep) -> None:
    """Refuses to sweep what is no float hyper-parameter.

    Raises:
      ConfigError: naming it, and what may be swept.
    """
    known = hyperparameters(recipe)
    floats = [name for name, parameter in known.items() if is_sweepable(parameter)]
    if sweep.name not in floats:
        problem = f"is no hyper-parameter of {recipe}{nearest(sweep.name, floats)}"
        if sweep.name in known:
            problem = "is not a float, and only those can differ within one program"
        raise ConfigError(f"sweep: '{sweep.name}' {problem} (sweepable: {', '.join(floats)})")
    if not sweep.values or not all(math.isfinite(value) for value in sweep.values):
        raise ConfigError(f"sweep: {sweep.name} got {_listed(sweep)}, must be finite")
    if len(set(sweep.values)) < len(sweep.values):
        raise ConfigError(f"sweep: {sweep.name} got {_listed(sweep)}, the same value twice")


def _listed(sweep: Sweep) -> str:
    return ", ".join(f"{value:g}" for value in sweep.values) or "no value"


def make_mesh(config: RunConfig) -> Mesh | None:
    """The devices that a run is split over; None for one.

    Raises:
      ConfigError: more devices than there are, or counts that they do not divide.
    """
    if config.devices == config.seed_devices == 1 and not processes.are_many():
        return None
    try:
        mesh = parallel.make_mesh(config.devices, seeds=config.seed_devices)
        parallel.check_split(mesh, config.num_envs, config.num_members)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return mesh


def _check_workers(config: RunConfig) -> None:
    """Refuses what threads that share one state can't do."""
    check_count("workers", config.workers, least=0)
    for name in ("devices", "seeds"):
        if config.workers and getattr(config, name) != 1:
            raise ConfigError(f"{name}: got {getattr(config, name)}, must be 1 with workers, which share one state")
    if config.workers and config.sweep is not None:
        raise ConfigError("sweep: must be none with workers, which share one state; run one value after the other")


def make_program(config: RunConfig, built: Built, mesh: Mesh | None = None) -> Runnable:
    """What trains all members of a run: a program on the devices of ``make_mesh`` or on one, or threads."""
    if config.workers:
        agent = built.agent(0)
        return Asynchronous(
            agent,
            built.env,
            built.params,
            built.keys[0],
            num_workers=config.workers,
            num_envs=config.num_envs,
            rollout_length=config.rollout_length,
        )
    return Program(
        built.make_agent,
        built.env,
        built.params,
        built.keys,
        hyper=built.hyper,
        num_envs=config.num_envs,
        rollout_length=config.rollout_length,
        mesh=mesh,
    )
