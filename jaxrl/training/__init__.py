"""Loops: pure ones to ``jit`` and ``vmap``, a chunked one on the host, evaluation, checkpoints.

``train``, ``start``, ``advance``, ``train_step`` and ``evaluate`` are pure; ``Program`` and ``fit`` run populations
for long; ``Checkpoints`` saves them.
"""

from jaxrl.training.checkpoint import CheckpointError, Checkpoints
from jaxrl.training.evaluate import Episodes, evaluate
from jaxrl.training.host import Chunk, Program, first_bad, fit
from jaxrl.training.interrupt import Interrupted
from jaxrl.training.loop import TrainState, advance, start, train, train_step

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Chunk",
    "Episodes",
    "Interrupted",
    "Program",
    "TrainState",
    "advance",
    "evaluate",
    "first_bad",
    "fit",
    "start",
    "train",
    "train_step",
]
