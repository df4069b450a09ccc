"""Replay: what an agent has seen, kept and sampled. Four pure functions over one immutable state, see ``base``."""

from jaxrl.replay import n_step, ring
from jaxrl.replay.base import MakeReplay, Replay, Sample, Slot, size_bytes
from jaxrl.replay.uniform import uniform

__all__ = ["MakeReplay", "Replay", "Sample", "Slot", "n_step", "ring", "size_bytes", "uniform"]
