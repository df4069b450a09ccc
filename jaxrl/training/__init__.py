"""Loops: pure ones to ``jit`` and ``vmap``, a loop in chunks on the host, evaluation, checkpoints.

``train``, ``start``, ``advance``, ``train_step``, ``evaluate`` and ``match`` are pure. ``Program`` and ``fit`` run
populations for a long time, ``Checkpoints`` saves them, ``parallel`` splits them over devices. ``asynchronous`` trains
one agent with several threads. ``ratings`` fits ratings to many matches. ``check`` tests any agent, and ``checks``
has its properties one by one.
"""

from jaxrl.training.asynchronous import Asynchronous
from jaxrl.training.checkpoint import CheckpointError, Checkpoints
from jaxrl.training.checks import ConformanceError, Report, check
from jaxrl.training.evaluate import Episodes, evaluate
from jaxrl.training.host import Chunk, first_bad, fit
from jaxrl.training.interrupt import Interrupted
from jaxrl.training.loop import TrainState, advance, start, train, train_step
from jaxrl.training.match import Score, match
from jaxrl.training.parallel import ParallelError, make_mesh
from jaxrl.training.program import Program
from jaxrl.training.workers import WorkerFailed

__all__ = [
    "Asynchronous",
    "CheckpointError",
    "Checkpoints",
    "Chunk",
    "ConformanceError",
    "Episodes",
    "Interrupted",
    "ParallelError",
    "Program",
    "Report",
    "Score",
    "TrainState",
    "WorkerFailed",
    "advance",
    "check",
    "evaluate",
    "first_bad",
    "fit",
    "make_mesh",
    "match",
    "start",
    "train",
    "train_step",
]


def __dir__() -> list[str]:
    return sorted(__all__)
