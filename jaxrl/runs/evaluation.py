"""Evaluation of all members of a run, and the table of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxrl.runs.config import RunConfig, Sweep
from jaxrl.runs.console import print_titled
from jaxrl.training.evaluate import Episodes, episode_limit, evaluate
from jaxrl.types import PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

EVALUATION = 2**31
"""Folded into a member's key to evaluate it; training folds and splits with small numbers only."""

STEP_LIMIT = 10_000
"""The steps after which an episode is truncated if the environment has no time limit."""

AT_ONCE = 65_536
"""Upper limit on the episodes played in parallel, over all members."""

ROWS = 64
"""Upper limit on the seeds that get their own row; with more, only the summary is printed."""


def max_steps(built: Built) -> int:
    """The step limit of an episode: the environment's own, or ``STEP_LIMIT``."""
    return episode_limit(built.params) or STEP_LIMIT


def evaluation_keys(built: Built, seed: int) -> Any:
    """Returns ``[S]`` keys that training never uses; a different ``seed`` gives different episodes."""
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, EVALUATION), seed))(built.keys)


def evaluate_members(
    built: Built, states: PyTree, *, num_episodes: int, explore: bool = False, seed: int = 0
) -> Episodes:
    """Plays ``num_episodes`` with each member.

    Args:
      built: the run's environment and agent.
      states: the agents' states, ``[S, ...]``.
      num_episodes: episodes per member.
      explore: sample actions from the policy instead of taking its mode.
      seed: selects the episodes.

    Returns:
      Leaves ``[S, num_episodes]``, on the host.
    """
    return make_evaluator(built, num_episodes=num_episodes, explore=explore)(states, seed)


def make_evaluator(built: Built, *, num_episodes: int, explore: bool = False) -> Callable[[PyTree, int], Episodes]:
    """``evaluate_members`` as a function ``(states, seed) -> Episodes`` that compiles once."""

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

    run: Callable[..., Episodes] = jax.vmap(play)
    if len(built.keys) * num_episodes > AT_ONCE:
        run = lambda xs: jax.lax.map(play, xs, batch_size=max(1, AT_ONCE // num_episodes))  # noqa: E731
    compiled = jax.jit(run)
    return lambda states, seed: jax.device_get(compiled((evaluation_keys(built, seed), states, built.hyper)))


def one_value(config: RunConfig, built: Built, states: PyTree, first: int) -> tuple[RunConfig, Built, PyTree]:
    """Restricts a sweep to one value: the members from ``first`` on, one per seed."""
    assert config.sweep is not None
    taken = slice(first, first + config.seeds)
    hyper = {name: values[taken] for name, values in built.hyper.items()}
    sweep = Sweep(config.sweep.names, (config.sweep.values[first // config.seeds],))
    return (
        dataclasses.replace(config, sweep=sweep),
        built._replace(keys=built.keys[taken], hyper=hyper),
        jax.tree.map(lambda leaf: leaf[taken], states),
    )


def standard_error(values: np.ndarray) -> float:
    """The standard error of the mean of ``[n]`` values; NaN for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _cells(*numbers: float) -> list[str]:
    return ["-" if np.isnan(number) else f"{number:.2f}" for number in numbers]


def print_table(config: RunConfig, episodes: Episodes, console: Console, *, explore: bool) -> None:
    """Prints one row per seed and one for all of them; for a sweep of several values, one row per value."""
    returns, lengths = np.asarray(episodes.returns), np.asarray(episodes.lengths)
    has_goals = episodes.success is not None
    percent = 100.0 * np.asarray(episodes.success if has_goals else np.zeros(returns.shape))
    sweep, means = config.sweep, returns.mean(-1)
    how = "sampled actions" if explore else "greedy actions"
    which = f", {sweep.label(0)}" if sweep is not None and len(sweep.values) == 1 else ""
    title = f"{config.recipe} on {config.environment}{which}: {returns.shape[1]} episodes per seed, {how}"
    if sweep is not None and len(sweep.values) > 1:
        table = _table(sweep.title, "worst seed", has_goals)
        names = [sweep.short(index) for index in range(len(sweep.values))]
        of_values = (x.reshape(len(names), -1) for x in (means, lengths, percent))
        for value, seeds, steps, reached in zip(names, *of_values, strict=True):
            mean, error, worst, length = _cells(seeds.mean(), standard_error(seeds), seeds.min(), steps.mean())
            _add_row(table, value, mean, error, f"{worst} (seed {seeds.argmin()})", length, *_cells(reached.mean()))
        print_titled(console, title, table)
    else:
        table = _table("seed", "worst episode", has_goals)
        of_seeds = zip(returns, lengths, percent, strict=True) if config.seeds <= ROWS else ()
        for seed, (row, steps, reached) in enumerate(of_seeds):
            cells = _cells(row.mean(), standard_error(row), row.min(), steps.mean(), reached.mean())
            _add_row(table, str(seed), *cells)
        table.add_section()
        if config.seeds > 1:
            cells = _cells(means.mean(), standard_error(means), returns.min(), lengths.mean(), percent.mean())
            _add_row(table, f"all {config.seeds}", *cells, style="bold")
        print_titled(console, title, table)
        if means.min() < means.max():
            console.print(f"worst seed: {means.argmin()}, mean return {means.min():.2f}", soft_wrap=True)
    unfinished = int((~np.asarray(episodes.finished)).sum())
    if unfinished:
        console.print(
            f"{unfinished} episodes were cut after {STEP_LIMIT} steps, since the environment has no time limit",
            soft_wrap=True,
        )


def _table(first: str, worst: str, has_goals: bool) -> Table:
    table = Table()
    table.add_column(first, no_wrap=True)
    for column in ("mean return", "std error", worst, "length", *(["success %"] if has_goals else [])):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _add_row(table: Table, *cells: str, style: str | None = None) -> None:
    """Adds a row, without the last cell where the table has no column for successes."""
    table.add_row(*cells[: len(table.columns)], style=style)
