"""Replay: what an agent has seen, kept and sampled. Four pure functions over one immutable state, see ``base``."""

from jaxrl.replay import episodes, n_step, ring
from jaxrl.replay.base import MakeReplay, Replay, Sample, Slot, size_bytes
from jaxrl.replay.hindsight import hindsight
from jaxrl.replay.uniform import uniform

__all__ = ["MakeReplay", "Replay", "Sample", "Slot", "episodes", "hindsight", "n_step", "ring", "size_bytes", "uniform"]
