"""The command line, called in this process, and one tiny run for all tests that only read."""

import pytest

from jaxrl.cli.main import main
from jaxrl.runs import session

TINY = ("--num-envs", "4", "--rollout-length", "16", "--num-epochs", "1", "--torso.hidden", "8")
"""Of ppo: 64 steps an update."""


class Outcome:
    """What a command left: its exit code, and its two streams with the line breaks of the terminal taken out."""

    def __init__(self, code, captured):
        self.code = code
        self.out, self.error = (" ".join(stream.split()) for stream in (captured.out, captured.err))


@pytest.fixture
def jaxrl(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return Outcome(code, capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of two or three updates, where a run of this size would be one chunk."""
    monkeypatch.setattr(session, "MIN_STEPS", 1)
    monkeypatch.setattr(session, "CHUNKS", 16)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a finished run of two seeds."""
    folder = tmp_path_factory.mktemp("cli") / "trained"
    patch = pytest.MonkeyPatch()
    patch.setattr(session, "MIN_STEPS", 1)
    patch.setattr(session, "CHUNKS", 16)
    arguments = ["train", "ppo", "CartPole-v1", "--seeds", "2", "--steps", "2048", "--eval-episodes", "4", *TINY]
    assert main([*arguments, "--out", str(folder)]) == 0
    patch.undo()
    return folder
