"""Rows of agreement: every recipe of the conformance table computes on the accelerator what it computes on the CPU.

``equality/...`` gives one update the same state, trajectory and key on both. On GPUs JAX multiplies float32 matrices as
TF32 by default, so the update is computed twice: with full precision, where it must agree to float tolerance, and as it
runs by default, which is reported. ``conformance/...`` runs the compiled properties of the suite on the accelerator.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks.gpu.row import Figures, Row, Skipped

TABLE = Path(__file__).parents[2] / "tests" / "conformance" / "test_recipes.py"
RTOL, ATOL = 1e-3, 1e-4
TABULAR = ("q_learning", "sarsa", "expected_sarsa")
FIRST = ("ppo", "dqn", "sac", "trpo", "alphazero", "ppo_gru")


@cache
def table() -> ModuleType:
    """The module with the conformance table."""
    try:
        spec = importlib.util.spec_from_file_location("conformance_table", TABLE)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise Skipped(f'{error.name} is not installed: pip install -e ".[test]"') from None
    return module


def difference(expected: Any, actual: Any) -> tuple[float, float, str]:
    """The share of numbers within tolerance, the largest difference, and the leaf that has it."""
    close = total = 0
    worst, where = 0.0, "-"
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(actual), strict=True):
        a, b = (np.asarray(table().to_numpy(leaf)) for leaf in (x, y))
        within = np.isclose(b.astype(float), a.astype(float), RTOL, ATOL, equal_nan=True)
        close, total = close + int(within.sum()), total + within.size
        gap = float(np.nanmax(np.abs(a.astype(float) - b.astype(float)), initial=0.0))
        if gap > worst:
            worst, where = gap, jax.tree_util.keystr(path)
    return close / total, worst, where


def equality(recipe: str, small: bool) -> Figures:
    """One update on the CPU and on the accelerator, from the same arguments."""
    del small
    cases = table()
    subject = cases.subject.__wrapped__
    with jax.default_device(jax.devices("cpu")[0]):
        tested = subject(recipe, cases.RECIPES[recipe].environments[-1])
        seen = tested.experience
        first, expected, _ = seen.states
        arguments = tested.fold(2), first, seen.trajectory
    arguments = jax.device_put(arguments, jax.devices()[0])
    figures: Figures = {}
    for label, precision in (("", "highest"), (" by default", None)):
        with jax.default_matmul_precision(precision):
            state, _ = jax.jit(lambda *args: tested.agent.update(*args))(*arguments)
        share, worst, where = difference(expected, state)
        figures[f"equal{label}"] = f"{share:.2%}" if share < 1.0 else "100%"
        figures[f"largest difference{label}"] = f"{worst:.1e} {where}" if worst else "0"
        if label == "" and share < 1.0:
            figures["wrong"] = f"rtol {RTOL:g} and atol {ATOL:g} do not hold"
    return figures


def conformance(recipe: str, small: bool) -> Figures:
    """The compiled properties of a recipe in the last of its environments."""
    cases = table()
    environment = cases.RECIPES[recipe].environments[-1]
    properties = cases.properties(recipe, environment)
    broken = {}
    for name in ("repeats", "vmaps_over_seeds") if small else properties:
        if name in properties:
            try:
                properties[name](cases.subject(recipe, environment))
            except AssertionError as error:
                broken[name] = str(error).splitlines()[0]
    figures: Figures = {"properties": len(properties), "broken": len(broken)}
    return {**figures, "wrong": "; ".join(broken.values())} if broken else figures


def rows(kind: Any, names: tuple[str, ...], limit: float) -> tuple[Row, ...]:
    """A row for each recipe."""
    return tuple(Row(f"{kind.__name__}/{name}", partial(kind, name), limit=limit, needs=15) for name in names)


def others() -> tuple[str, ...]:
    """The rest of the table, read as text, because its import takes seconds that a run without these rows saves."""
    names = re.findall(r'^    "(\w+)": Recipe\(', TABLE.read_text(), re.MULTILINE) if TABLE.exists() else []
    return tuple(name for name in (*names, *TABULAR) if name not in FIRST)


EQUALITY = rows(equality, FIRST, limit=120)
CONFORMANCE = rows(conformance, FIRST, limit=120)
