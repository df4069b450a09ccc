"""The layers of the packages: who may import whom, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

import jaxrl

ROOT = Path(jaxrl.__file__).parent
LAYERS = {
    "types": 0,
    "arguments": 0,
    "signature": 1,
    "ops": 1,
    "hoist": 1,
    "processes": 1,
    "losses": 2,
    "optim": 2,
    "networks": 2,
    "envs": 2,
    "replay": 2,
    "search": 2,
    "rollout": 3,
    "models": 3,
    "planners": 3,
    "feedback": 3,
    "text": 3,
    "agents": 4,
    "training": 5,
    "runs": 6,
    "cli": 7,
    "__main__": 8,
}
FORBIDDEN = {("training", "agents"): "loops do not know agents"}
"""Imports that the layers would allow."""
SOURCES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def package_of(module):
    """``jaxrl.agents.ppo`` -> ``agents``."""
    return module.split(".")[1]


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source, module, is_package):
    """The full names of what a source imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            # ``from jaxrl import losses`` imports a part of it, as does ``from jaxrl.agents import ppo``.
            spread = base in ("jaxrl", "jaxrl.agents")
            yield from (f"{base}.{alias.name}" if spread else base for alias in node.names)


def is_recipe(name):
    """``jaxrl.agents.ppo``, and not ``jaxrl.agents.parts``, ``jaxrl.agents.presets`` or what is no recipe."""
    package, _, last = name.rpartition(".")
    file = ROOT / "agents" / f"{last}.py"
    return package == "jaxrl.agents" and file.exists() and f"\ndef {last}(" in file.read_text()


def violations(source, module, is_package=False):
    """What a module imports and must not."""
    here, found = package_of(module), []
    for name in imports(source, module, is_package):
        top = name.split(".")[0]
        if here in ("ops", "hoist") and top not in {"jax", "numpy", "jaxrl", *sys.stdlib_module_names}:
            found.append(f"{name}: {here} imports jax alone")
        if top != "jaxrl":
            continue
        there = package_of(f"{name}.")
        if (here, there) in FORBIDDEN:
            found.append(f"{name}: {FORBIDDEN[here, there]}")
        if module.startswith("jaxrl.agents.parts") and is_recipe(name):
            found.append(f"{name}: parts do not know the recipes that call them")
        if there != here and LAYERS.get(there, 99) >= LAYERS[here]:
            found.append(f"{name}: from layer {LAYERS[here]} ({here}) to layer {LAYERS.get(there)} ({there})")
    return found


def test_every_package_has_a_layer():
    assert {package_of(module_name(path)) for path in SOURCES} <= set(LAYERS)


def test_beside_the_recipes_lies_nothing_else():
    files = {path.stem for path in (ROOT / "agents").glob("*.py")} - {"__init__"}
    assert files == {name for name in files if is_recipe(f"jaxrl.agents.{name}")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    assert violations(path.read_text(), module_name(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jaxrl.training.loop", "from jaxrl.cli import main"),
        ("jaxrl.training.loop", "def f():\n  import jaxrl.cli.main"),
        ("jaxrl.search.tree", "from jaxrl import models"),
        ("jaxrl.search.tree", "from jaxrl.networks import MLP"),
        ("jaxrl.search.tree", "from ..networks import MLP"),
        ("jaxrl.types", "from jaxrl.ops import returns"),
        ("jaxrl.ops.td", "import optax"),
        ("jaxrl.training.checks", "from jaxrl.agents import ppo"),
        ("jaxrl.agents.parts.minibatches", "from jaxrl.agents.ppo import ppo"),
        ("jaxrl.agents.parts.minibatches", "from jaxrl.agents import ppo"),
        ("jaxrl.planners.cem", "from jaxrl.models import as_env"),
        ("jaxrl.text.generation", "from jaxrl.agents import ppo"),
        ("jaxrl.agents.ppo", "import jaxrl"),
        ("jaxrl.agents.ppo", "from jaxrl import nowhere"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert violations(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jaxrl.training.loop", "from jaxrl.rollout import rollout\nfrom jaxrl.training import evaluate"),
        ("jaxrl.search.tree", "from jaxrl.search.backup import backup\nfrom . import policies\nimport numpy, math"),
        ("jaxrl.ops.td", "from __future__ import annotations\nimport jax.numpy as jnp"),
        ("jaxrl.planners.cem", "from jaxrl.types import Model\nfrom jaxrl.envs import spec"),
        ("jaxrl.agents.ppo", "from jaxrl.agents.parts import minibatches\nfrom jaxrl.models import vae"),
        ("jaxrl.agents.rainbow", "from jaxrl.agents.c51 import c51"),
    ],
)
def test_a_right_import_passes(module, source):
    assert violations(source, module) == []
