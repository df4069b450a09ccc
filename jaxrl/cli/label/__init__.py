"""``jaxrl label``: a person compares clips of a run with ``--teacher person``, on a local page or in the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import parse
from jaxrl.runs.clips import Clips
from jaxrl.runs.console import make_console
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.outside_answers import teacher_of
from jaxrl.runs.phases import make_phases
from jaxrl.runs.questions import Questions


@dataclasses.dataclass(frozen=True)
class LabelFlags:
    """Compare clips for a run that was started with --feedback preferences --teacher person.

    The page is served on this machine only, at an address with a random token. Answers are stored in the run folder the
    moment they are given, and several people may answer at once. The run may be running or not.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    terminal: tyro.conf.FlagCreatePairsOff[bool] = False
    """Answer in the terminal: states as text where the environment draws them, else a line for each feature."""
    port: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: a free one)")] = 0
    """The port of the page."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that the run names, even if you never trained with them on this machine."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = parse(LabelFlags, arguments, prog="jaxrl label")
    if not 0 <= flags.port < 2**16:
        raise UsageError(f"--port: got {flags.port}, must lie in 0 to 65535")
    folder, console = RunFolder(flags.run), make_console()
    config = folder.read_config(trust=flags.trust)
    teacher = teacher_of(config)
    if teacher != "person":
        raise UsageError(
            f"{flags.run}: got a run with {f'teacher {teacher!r}' if teacher else 'no outside teacher'}, must be one "
            "that was started with --feedback preferences --teacher person"
        )
    questions, clips = Questions(folder.labels_file), Clips(make_phases(config)[-1].built)
    if flags.terminal:
        from jaxrl.cli.label.terminal import ask

        return ask(questions, clips, console)
    try:
        from jaxrl.cli.label import page
    except ImportError as error:
        raise UsageError(
            f"label: the page needs starlette and uvicorn ({error}): pip install 'jaxrl[label]'; or use --terminal"
        ) from error
    labels = config.parts["feedback"].settings["labels"] * config.num_members
    page.serve(page.make_app(page.Labelling(folder, questions, clips, labels)), flags.port, console)
    return 0
