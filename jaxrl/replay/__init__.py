"""Experience replay: four pure functions over an immutable state, see ``base``."""

from jaxrl.replay import episodes, n_step, ring, sequences, sum_tree, unrolls
from jaxrl.replay.base import MakeReplay, Replay, Sample, Slot, size_bytes
from jaxrl.replay.frames import frames
from jaxrl.replay.hindsight import hindsight
from jaxrl.replay.prioritized import prioritized
from jaxrl.replay.uniform import uniform

__all__ = [
    "MakeReplay",
    "Replay",
    "Sample",
    "Slot",
    "episodes",
    "frames",
    "hindsight",
    "n_step",
    "prioritized",
    "ring",
    "sequences",
    "size_bytes",
    "sum_tree",
    "uniform",
    "unrolls",
]


def __dir__() -> list[str]:
    return sorted(__all__)
