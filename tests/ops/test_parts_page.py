"""The page of parts is true: its blocks run, each alone, and it shows every function of the modules it is about."""

import inspect
import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxrl.ops import distributional, exploration, td

PAGE = (Path(__file__).parents[2] / "docs" / "parts.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_was_read():
    assert len(BLOCKS) >= 10


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block):
    names = {}
    exec(compile(block, "docs/parts.md", "exec"), names)
    for name in ("loss", "target", "noise", "probs"):
        assert name not in names or jnp.isfinite(names[name]).all()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_is_a_dozen_lines(block):
    lines = [line for line in block.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 12


@pytest.mark.parametrize("module", [td, distributional, exploration], ids=lambda module: module.__name__)
def test_every_function_is_shown(module):
    public = [
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    ]
    missing = [name for name in public if not re.search(rf"\b{name}\b", PAGE)]
    assert public and not missing
