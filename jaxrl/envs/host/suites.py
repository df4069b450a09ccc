"""The suites of environments outside JAX: ``make("gymnasium/LunarLander-v3")``, ``make("envpool/BipedalWalker-v3")``.

A suite is imported when it is used. envpool steps in C++ threads, several times as fast as Gymnasium, which has more
environments.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrl.envs.games.pgx_games import NotInstalled
from jaxrl.envs.host import goals
from jaxrl.envs.host.env import HostEnv, HostParams
from jaxrl.envs.host.spaces import interface
from jaxrl.envs.host.vectors import Serial, Stepped

NO_LIMIT = 1_000_000
"""The time limit of an environment that declares none."""


def imported(package: str, extra: str, name: str) -> Any:
    """Imports a package that an environment needs.

    Raises:
      NotInstalled: it is missing; the message has the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise NotInstalled(f'"{name}": {package} is not installed; pip install "jaxrl[{extra}]"') from error


REGISTER = ("ale_py", "gymnasium_robotics")
"""Packages that add their environments to Gymnasium's registry, where they are installed."""


def gymnasium_names() -> list[str]:
    """All names in Gymnasium's registry, with those of the packages that register theirs."""
    gymnasium = imported("gymnasium", "gymnasium", "gymnasium/")
    for package in REGISTER:
        if importlib.util.find_spec(package) is not None:
            gymnasium.register_envs(importlib.import_module(package))
    return sorted(gymnasium.registry)


def envpool_names() -> list[str]:
    """All tasks of envpool."""
    return sorted(imported("envpool", "envpool", "envpool/").list_all_envs())


def gymnasium_env(
    name: str,
    *,
    max_steps_in_episode: int | None = None,
    env_restarts: int = 0,
    timeout: float = 60.0,
) -> tuple[HostEnv, HostParams]:
    """An environment of Gymnasium or of a package that registers its environments there.

    Args:
      name: name in Gymnasium's registry.
      max_steps_in_episode: the time limit; None for the registered limit.
      env_restarts: number of times per batch that an environment is recreated after an error.
      timeout: longest time of one step of a batch, in seconds.
    """
    full = f"gymnasium/{name}"
    gymnasium = imported("gymnasium", "gymnasium", full)
    options: dict[str, Any] = {} if max_steps_in_episode is None else {"max_episode_steps": max_steps_in_episode}
    make = partial(_make_gymnasium, gymnasium, name, options)
    drawn = partial(_make_gymnasium, gymnasium, name, {**options, "render_mode": "rgb_array"})
    example = make()
    limit = example.spec.max_episode_steps or NO_LIMIT
    seen = interface(full, example.observation_space, example.action_space)
    known = goals.functions(name, example.spec.kwargs.get("reward_type")) if seen.has_success else {}
    example.close()
    env = HostEnv(
        full,
        partial(Serial, make, restarts=env_restarts),
        seen,
        max_steps_in_episode=limit,
        timeout=timeout,
        make_drawn=partial(Serial, drawn),
        **known,
    )
    return env, env.default_params


def _make_gymnasium(gymnasium: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return gymnasium.make(name, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise NotInstalled(f'"gymnasium/{name}": {error}') from error


def quiet(make: Callable[..., Any]) -> Callable[..., Any]:
    """The function without Gymnasium's warnings that bounds of envpool, which are float64, are cast to float32."""

    def made(*args: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered by casting", category=UserWarning)
            return make(*args, **options)

    return made


class EnvPool:
    """A batch of envpool, which steps in its own threads."""

    def __init__(self, make: Callable[..., Any], seeds: Sequence[int]) -> None:
        """Makes the batch.

        Args:
          make: ``envpool.make`` of one task.
          seeds: seed of each environment.
        """
        # envpool derives the seeds of environments from one seed.
        seed = int(np.random.SeedSequence([int(seed) for seed in seeds]).generate_state(1)[0] >> 1)
        self._pool = make(num_envs=len(seeds), seed=seed)
        self._size = len(seeds)

    def reset(self, which: NDArray[np.bool_]) -> Any:
        """Resets some environments by index, which takes no step."""
        numbers = np.flatnonzero(which).astype(np.int32)
        seen, info = self._pool.reset(numbers)

        def placed(part: NDArray[Any]) -> NDArray[Any]:
            rows = np.zeros((self._size, *part.shape[1:]), part.dtype)
            rows[info["env_id"]] = part
            return rows

        return _each_part(placed, seen)

    def step(self, action: NDArray[Any]) -> Stepped:
        """Steps every environment; the rows come in the order in which the threads finish."""
        seen, reward, terminated, truncated, info = self._pool.step(action)
        order = np.argsort(info["env_id"])
        sort = lambda part: np.array(part[order])  # noqa: E731
        success = sort(info["is_success"]).astype(bool) if "is_success" in info else None
        return Stepped(_each_part(sort, seen), sort(reward), sort(terminated), sort(truncated), success)

    def render(self, index: int) -> NDArray[np.uint8]:
        """Draws one environment."""
        return np.asarray(self._pool.render(env_ids=np.array([index]))[0])

    def close(self) -> None:
        """Stops the threads."""
        self._pool.close()


def envpool_env(
    name: str, *, max_steps_in_episode: int | None = None, num_threads: int = 0, timeout: float = 60.0
) -> tuple[HostEnv, HostParams]:
    """A task of envpool.

    Args:
      name: name in envpool's registry.
      max_steps_in_episode: the time limit; None for the registered limit.
      num_threads: number of threads; 0 for envpool's default.
      timeout: longest time of one step of a batch, in seconds.
    """
    full = f"envpool/{name}"
    envpool = imported("envpool", "envpool", full)
    options: dict[str, Any] = {"env_type": "gymnasium", "num_threads": num_threads}
    if max_steps_in_episode is not None:
        options["max_episode_steps"] = max_steps_in_episode
    make = partial(quiet(envpool.make), name, **options)
    spec = envpool.make_spec(name, **{key: options[key] for key in options if key != "env_type"})
    spaces = quiet(lambda: (spec.gymnasium_observation_space, spec.gymnasium_action_space))()
    seen = interface(full, *spaces, channels_first=True)
    limit = int(getattr(spec.config, "max_episode_steps", 0)) or NO_LIMIT
    known = goals.functions(name, getattr(spec.config, "reward_type", None)) if seen.has_success else {}
    env = HostEnv(
        full,
        partial(EnvPool, make),
        seen,
        max_steps_in_episode=limit,
        timeout=timeout,
        make_drawn=partial(EnvPool, partial(make, render_mode="rgb_array")),
        **known,
    )
    return env, env.default_params


def _each_part(function: Callable[[NDArray[Any]], NDArray[Any]], observation: Any) -> Any:
    """Applies a function to an observation, or to each part of a dict of them."""
    if isinstance(observation, dict):
        return {name: function(part) for name, part in observation.items()}
    return function(observation)
