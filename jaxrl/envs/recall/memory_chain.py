"""Gymnax's MemoryChain with its length in the name. Osband et al. 2020, "Behaviour suite for RL"."""

from __future__ import annotations

from gymnax.environments.bsuite import memory_chain

from jaxrl.arguments import check_count


class MemoryChain(memory_chain.MemoryChain):
    """A bit is shown at the start and asked for L steps later: +1 for the same action, -1 for the other.

    All as in gymnax's "MemoryChain-bsuite", whose ``memory_length`` is 5 unless it is given. Its observation is a step
    late: that of the start is returned by the reset and again by the first step, and the one that the last action is
    chosen on shows 1/L of the time remaining and nothing of the bit. So an episode has L + 1 steps, a window needs L
    of them to hold the bit at the end, and a policy without memory has a mean return of 0: half of the episodes pay +1,
    half -1.

    Args:
      memory_length: L, at least 2: with 1 the bit is still in sight.
      num_bits: bits shown; which of them is asked for is said at the last step.
    """

    def __init__(self, memory_length: int = 20, num_bits: int = 1) -> None:
        check_count("memory_length", memory_length, least=2)
        check_count("num_bits", num_bits)
        super().__init__(num_bits)
        self.memory_length = memory_length

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"MemoryChain-{self.memory_length}"

    @property
    def default_params(self) -> memory_chain.EnvParams:
        """Of this length."""
        return memory_chain.EnvParams(memory_length=self.memory_length)
