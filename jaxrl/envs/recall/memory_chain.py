"""Gymnax's MemoryChain with its length in the name. Osband et al. 2020, "Behaviour suite for RL"."""

from __future__ import annotations

from gymnax.environments.bsuite import memory_chain

from jaxrl.arguments import check_count


class MemoryChain(memory_chain.MemoryChain):
    """A bit is shown at the start and asked for L steps later: +1 for the same action, -1 for the other.

    It behaves like gymnax's "MemoryChain-bsuite", whose ``memory_length`` is 5 by default. The observation lags by one
    step: the reset and the first step both return that of the start, and the one at the last action contains 1/L of the
    time remaining and not the bit. So an episode has L + 1 steps, a window must span L of them to contain the bit at
    the end, and a policy without memory has a mean return of 0, +1 in half of the episodes and -1 in the others.

    Args:
      memory_length: L, at least 2, because with 1 the bit is still visible.
      num_bits: the number of bits; the last step shows which of them is asked for.
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
        """The length in the parameters."""
        return memory_chain.EnvParams(memory_length=self.memory_length)
