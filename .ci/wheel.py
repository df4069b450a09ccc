"""Tries an installed wheel, outside of the source folder: ``python wheel.py WHEEL COMMAND OF THE README``.

What is in the wheel, the command at a small budget, its run loaded back into code, ``jaxrl list`` and the help of every
recipe. The first thing that fails ends it with an exit code that is not 0.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import jaxrl
from jaxrl import agents
from jaxrl.cli.main import main
from jaxrl.runs.recipes import hyperparameters


def check_contents(wheel: str) -> None:
    """The package with its types, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    outside = [name for name in names if not name.startswith("jaxrl/") and ".dist-info/" not in name]
    assert "jaxrl/py.typed" in names, "the wheel has no jaxrl/py.typed"
    assert not outside, f"the wheel has more than the package: {outside}"


def run_command(command: list[str]) -> None:
    """The command trains, and its run can be loaded."""
    subprocess.run([*command, "--num-steps", "8192", "--out", "run"], check=True, stdin=subprocess.DEVNULL)
    agent, _ = jaxrl.load("run")
    assert callable(agent.act)
    subprocess.run(["jaxrl", "list"], check=True, stdin=subprocess.DEVNULL)


def check_helps() -> None:
    """``jaxrl train RECIPE --help`` of every recipe, in this process."""
    for recipe in agents.__all__:
        text, code = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(text):
                code = main(["train", recipe, "--help"])
        except SystemExit as end:
            code = end.code
        own = next(iter(hyperparameters(recipe))).replace("_", "-")
        complete = not code and all(flag in text.getvalue() for flag in ("--num-steps", f"--{own}"))
        assert complete, f"jaxrl train {recipe} --help: exit code {code}, text:\n{text.getvalue()}"
    print(f"jaxrl train RECIPE --help: all {len(agents.__all__)} recipes")


if __name__ == "__main__":
    home = Path(jaxrl.__file__).resolve()
    assert home.is_relative_to(Path(sys.prefix).resolve()), f"jaxrl comes from {home}, not from the wheel"
    check_contents(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run_command(sys.argv[2:])
    check_helps()
