"""Evaluation of all members of a run, and the table of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxrl.runs.building import EVALUATION, Built
from jaxrl.runs.config import RunConfig
from jaxrl.training.evaluate import Episodes, episode_limit, evaluate
from jaxrl.types import PyTree

STEP_LIMIT = 10_000
"""Steps after which an episode is given up where the environment has no time limit of its own."""

AT_ONCE = 65_536
"""Episodes played side by side at most, all members together."""

ROWS = 64
"""Members that get a row of their own; beyond, the summary alone is printed."""


def max_steps(built: Built) -> int:
    """Steps of an episode at most: the environment's own limit, or ``STEP_LIMIT``."""
    return episode_limit(built.params) or STEP_LIMIT


def evaluation_keys(built: Built, seed: int) -> Any:
    """``[S]`` keys that no training draws from; another ``seed`` gives other episodes."""
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, EVALUATION), seed))(built.keys)


def evaluate_members(
    built: Built, states: PyTree, *, num_episodes: int, explore: bool = False, seed: int = 0
) -> Episodes:
    """Plays ``num_episodes`` with each member.

    Args:
      built: what the run's configuration names.
      states: ``[S, ...]`` of the agents.
      num_episodes: of each member.
      explore: sample the policy; else take its mode.
      seed: chooses the episodes.

    Returns:
      Leaves ``[S, num_episodes]``, on the host.
    """

    def play(member: tuple[Any, PyTree, dict[str, Any]]) -> Episodes:
        key, state, hyper = member
        return evaluate(
            key,
            built.make_agent(**hyper),
            state,
            built.env,
            built.params,
            num_episodes=num_episodes,
            max_steps=max_steps(built),
            explore=explore,
        )

    members = (evaluation_keys(built, seed), states, built.hyper)
    run: Callable[..., Episodes] = jax.vmap(play)
    if len(built.keys) * num_episodes > AT_ONCE:
        run = lambda xs: jax.lax.map(play, xs, batch_size=max(1, AT_ONCE // num_episodes))  # noqa: E731
    return jax.device_get(jax.jit(run)(members))


def standard_error(values: np.ndarray) -> float:
    """Of the mean of ``[n]`` values; NaN for one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _cells(*numbers: float) -> list[str]:
    return ["-" if np.isnan(number) else f"{number:.2f}" for number in numbers]


def _of(value: float | None) -> list[str]:
    return [] if value is None else [f"{value:g}"]


def print_table(config: RunConfig, episodes: Episodes, console: Console, *, explore: bool) -> None:
    """Prints a row for each seed, then the whole population: for a sweep, that of each value."""
    returns = np.asarray(episodes.returns)
    num_seeds, num_episodes = len(config.members()), returns.shape[1]
    how = "sampled actions" if explore else "greedy actions"
    table = Table(
        title=f"{config.recipe} on {config.environment}: {num_episodes} episodes a seed, {how}",
        caption="worst: of one seed its worst episode, of all the seed with the least mean",
    )
    swept = [] if config.sweep is None else [config.sweep.name]
    for column in [*swept, "seed"]:
        table.add_column(column, no_wrap=True)
    for column in ("mean return", "std error", "worst", "length"):
        table.add_column(column, justify="right", no_wrap=True)
    for member in config.members() if num_seeds <= ROWS else ():
        row = returns[member.number]
        length = float(np.mean(episodes.lengths[member.number]))
        cells = _cells(row.mean(), standard_error(row), row.min(), length)
        table.add_row(*_of(member.value), str(member.seed), *cells)
    table.add_section()
    values = (None,) if config.sweep is None else config.sweep.values
    for value, means in zip(values, returns.mean(-1).reshape(len(values), config.seeds), strict=True):
        worst = f"{means.min():.2f} (seed {means.argmin()})"
        cells = [*_cells(means.mean(), standard_error(means)), worst]
        table.add_row(*_of(value), f"all {config.seeds}", *cells, style="bold")
    console.print(table)
    unfinished = int((~np.asarray(episodes.finished)).sum())
    if unfinished:
        console.print(f"{unfinished} episodes were cut after {STEP_LIMIT} steps")
