"""The code of every page of the documentation is right: Python is traced, and commands are parsed.

Pages in ``ELSEWHERE`` are run, with their numbers looked at, by the tests of what they are about.
"""

import ast
import inspect
import json
import re
import shlex
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import pytest

import jaxrl
from jaxrl.cli.flags import parse

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
ELSEWHERE = {
    "add_an_agent.md": "tests/agents/test_own_recipes.py",
    "environments.md": "tests/envs/host/test_host_env.py",
    "feedback.md": "tests/feedback/test_page.py",
    "games.md": "tests/training/test_match.py",
    "parts.md": "tests/ops/test_parts_page.py",
    "search.md": "tests/search/test_page.py",
}

CARTPOLE = """
import jax, jax.numpy as jnp, optax
import jaxrl
from functools import partial
from jaxrl import envs, models, networks, optim, runs
from jaxrl.ops import across
from jaxrl.training import parallel
key = jax.random.key(0)
env, params = jaxrl.make("CartPole-v1")
spec = jaxrl.spec(env, params)
agent = jaxrl.a2c(spec, torso=networks.MLP((4,)))
"""
SETUP = {
    "parallel.md": CARTPOLE
    + """
trajectory = jaxrl.Transition(*[jnp.zeros((3, 2))] * 7)
""",
    "transformer.md": CARTPOLE,
    "recipes.md": CARTPOLE
    + """
from jaxrl.agents.parts import planning
import importlib
world_models = importlib.import_module("jaxrl.agents.world_models")
""",
}
"""What a page takes for granted."""


def blocks(page, *languages):
    """The fenced code of a page in some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
    return [code for language, code in found if language in languages]


CALLED = ("models.md", "runs.md", "text.md")
"""Pages of fragments, of which calls are checked; what they make is tested in tests/models and tests/runs."""
TRACED = [
    page
    for page in PAGES
    if blocks(page, "python") and page not in {*ELSEWHERE, *CALLED, "design.md", "write_an_environment.md"}
]


@pytest.mark.parametrize("page", TRACED)
def test_python_can_be_traced(page):
    """Nothing is compiled: a page is one trace, in which shapes, names and options are checked."""
    code = compile(SETUP.get(page, "") + "\n".join(blocks(page, "python")), page, "exec")
    jax.eval_shape(lambda: exec(code, {}))


def test_the_environment_of_the_page_follows_the_protocol():
    names = {}
    exec(compile("\n".join(blocks("write_an_environment.md", "python")), "write_an_environment.md", "exec"), names)
    assert isinstance(names["agent"], jaxrl.Agent)


@pytest.mark.parametrize("page", CALLED)
def test_calls_fit_their_signatures(page):
    names = {"jaxrl": jaxrl, "models": jaxrl.models, "runs": jaxrl.runs, "envs": jaxrl.envs, "text": jaxrl.text}
    checked = 0
    for node in ast.walk(ast.parse("\n".join(blocks(page, "python")))):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if re.fullmatch(r"[\w.]+", called) and called.split(".")[0] in names:
            parameters = inspect.signature(eval(called, names)).parameters
            kinds = {parameter.kind for parameter in parameters.values()}
            unknown = {word.arg for word in node.keywords} - set(parameters)
            assert not unknown or inspect.Parameter.VAR_KEYWORD in kinds, (ast.unparse(node), unknown)
            checked += 1
    assert checked >= 3


def test_ppo_line_by_line_quotes_the_file():
    page = PAGES["design.md"].split("### PPO, line by line")[1].split("\n### ")[0]
    source = re.sub(r"\s+", "", (ROOT / "jaxrl" / "agents" / "ppo.py").read_text())
    quoted = "".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    whole = [line for line in quoted.splitlines() if line.strip() and "..." not in line]
    assert len(whole) >= 15
    whole = [line for line in whole if not line.startswith("def ")]  # the page leaves out annotations
    assert not [line for line in whole if re.sub(r"\s+", "", line) not in source]


def commands(page):
    """The ``jaxrl train`` command lines of a page whose recipe and environment are the library's."""
    for line in "\n".join(blocks(page, "bash", "")).splitlines():
        words = shlex.split(line.split(" && ")[-1], comments=True)
        while words and "=" in words[0] or words[:1] == ["srun"]:
            words = words[1:]
        own = any(":" in word for word in words) or "RECIPE" in words
        if words[:2] == ["jaxrl", "train"] and len(words) > 3 and not own:
            yield " ".join(words[2:])


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    if "envpool/" in command:
        pytest.importorskip("envpool")
    config, _ = parse(command.split())
    assert config.recipe == command.split()[0] and config.environment == command.split()[1]


def test_commands_were_found():
    assert len(COMMANDS) >= 20


def test_every_page_is_in_the_navigation():
    listed = (ROOT / "mkdocs.yml").read_text()
    assert not [page for page in PAGES if f" {page}\n" not in listed and page not in ("README.md", "recipes.md")]


def test_the_notebook_runs():
    """Its cells, in order, without Jupyter: the notebook is plain JSON."""
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert code.count("100_000") == 1
    matplotlib.use("Agg")
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there is no window to show the picture in
        exec(compile(code.replace("100_000", "512"), "quickstart.ipynb", "exec"), names)
    assert names["returns"].shape[0] == names["NUM_SEEDS"] and jnp.isfinite(names["returns"]).all()
