"""MDN-RNN: an LSTM that predicts a mixture of Gaussians for each latent number. Ha and Schmidhuber 2018.

Legend of shapes: N sequences, T steps, L latent numbers, A action inputs, H hidden units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive
from jaxrl.models.sequence import Heads, Outputs, SequenceModel, loss_of, step_input
from jaxrl.networks.actions import action_size
from jaxrl.networks.initializers import gaussian, orthogonal
from jaxrl.signature import recipe
from jaxrl.types import Array, PyTree, Spec


class LSTMMemory(NamedTuple):
    """The memory of an LSTM, ``[..., H]`` each; ``features`` is its output h."""

    cell: Array
    features: Array


class _LSTM(nn.Module):
    """An LSTM, ``c' = f c + i g, h' = o tanh(c')``, and the heads. Hochreiter and Schmidhuber 1997, with forget gates.

    Forget gates have an initial bias of 1.
    """

    hidden_size: int
    heads: Heads

    @nn.compact
    def __call__(self, x: Array, memory: LSTMMemory, reset: Array) -> tuple[Outputs, LSTMMemory]:
        """Reads ``x [N, T, L + A]`` from ``memory [N, H]``; ``reset [N, T]`` sets the memory to zero before a step."""
        kernel = self.param("kernel", gaussian(1.0), (x.shape[-1], 4 * self.hidden_size), jnp.float32)
        recurrent = self.param("recurrent", orthogonal(1.0), (self.hidden_size, 4 * self.hidden_size), jnp.float32)
        bias = self.param("bias", _forget_bias, (4 * self.hidden_size,), jnp.float32)
        # Computations that do not depend on the memory run before the loop, for all steps at once.
        projected = x @ kernel + bias[None, None]

        def step(memory: LSTMMemory, given: tuple[Array, Array]) -> tuple[LSTMMemory, Array]:
            x_t, reset_t = given
            cell, hidden = (jnp.where(reset_t[:, None], 0.0, leaf) for leaf in memory)
            i, f, g, o = jnp.split(x_t + hidden @ recurrent, 4, axis=-1)
            cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
            hidden = nn.sigmoid(o) * jnp.tanh(cell)
            return LSTMMemory(cell, hidden), hidden

        memory, hidden = jax.lax.scan(step, memory, (projected.swapaxes(0, 1), reset.swapaxes(0, 1)))
        return self.heads(hidden.swapaxes(0, 1)), memory


def _forget_bias(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    del key
    return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1.0)


@recipe
def mdn_rnn(
    spec: Spec,
    *,
    latent_size: Count = 32,
    hidden_size: Count = 256,
    num_components: Count = 5,
    scale_floor: Positive = 0.01,
    chain_size: CountOrZero = 0,
    reward_coef: NonNegative = 1.0,
    termination_coef: NonNegative = 1.0,
    terminal_weight: Positive = 1.0,
) -> SequenceModel:
    """An LSTM that predicts the next latent vector, the reward and the termination from all previous steps.

    ``p(z' | h) = prod_l sum_k w_lk N(z'_l; mean_lk, scale_lk^2)``: every latent number has its own mixture. Ha and
    Schmidhuber 2018, "Recurrent world models facilitate policy evolution", arXiv:1809.01999; Graves 2013, "Generating
    sequences with recurrent neural networks", arXiv:1308.0850.

    Args:
      spec: the environment's spec; its action space is used.
      latent_size: L, the latent size of the autoencoder.
      hidden_size: H.
      num_components: K, number of components of each mixture.
      scale_floor: smallest standard deviation of a component; at 0 the likelihood is unbounded.
      chain_size: U, hidden units through which the mixture of a latent number depends on the numbers before it (see
        ``Chain``); 0 for independent numbers, as in the paper.
      reward_coef: weight of the squared error of the reward.
      termination_coef: weight of the cross-entropy of the termination.
      terminal_weight: w, weight of terminal steps, which are rare, in the cross-entropy. A dream ends where the
        probability of the end is above ``1 / (1 + w)``.

    Returns:
      A ``SequenceModel``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.

    >>> import jaxrl
    >>> from jaxrl import models
    >>> rnn = models.mdn_rnn(jaxrl.spec(jaxrl.make("CartPole-v1")[0]), latent_size=2, hidden_size=8)
    >>> params = rnn.init(jax.random.key(0))
    >>> memory, outputs = rnn.step(params, rnn.memory, jnp.zeros(2), jnp.int32(1))
    >>> outputs.mixture.mean.shape, memory.features.shape
    ((2, 5), (8,))
    """
    network = _LSTM(hidden_size, Heads(latent_size, num_components, scale_floor, chain_size))
    start = LSTMMemory(jnp.zeros((hidden_size,), jnp.float32), jnp.zeros((hidden_size,), jnp.float32))

    def zeros(num: int) -> LSTMMemory:
        return jax.tree.map(lambda leaf: jnp.zeros((num, *leaf.shape), leaf.dtype), start)

    def init(key: Array) -> PyTree:
        x = jnp.zeros((1, 1, latent_size + action_size(spec.action)), jnp.float32)
        return network.init(key, x, zeros(1), jnp.zeros((1, 1), bool))

    def unroll(params: PyTree, z: Array, action: Array, reset: Array) -> Outputs:
        x = step_input(spec.action, z, action)
        return network.apply(params, x, zeros(x.shape[0]), reset)[0]

    def step(params: PyTree, memory: LSTMMemory, z: Array, action: Array) -> tuple[LSTMMemory, Outputs]:
        x = step_input(spec.action, z, action)[None, None]
        before = jax.tree.map(lambda leaf: leaf[None], memory)
        outputs, after = network.apply(params, x, before, jnp.zeros((1, 1), bool))
        return jax.tree.map(lambda leaf: leaf[0], after), jax.tree.map(lambda leaf: leaf[0, 0], outputs)

    loss = loss_of(unroll, reward_coef, termination_coef, terminal_weight)
    return SequenceModel(init, start, unroll, step, loss, latent_size, hidden_size)
