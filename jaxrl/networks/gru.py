"""The gated recurrent unit as a torso. Cho et al. 2014, arXiv:1406.1078."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.mlp import MLP
from jaxrl.networks.pixels import image_torso


def _blocks(key: jax.Array, size: int) -> jax.Array:
    """``[H, 3 H]``: an orthogonal matrix for each gate and for the candidate."""
    # One batched Gram-Schmidt, since three loops take three times as long to compile.
    blocks = jax.vmap(lambda one: orthogonal(1.0)(one, (size, size)))(jax.random.split(key, 3))
    return jnp.swapaxes(blocks, 0, 1).reshape(size, 3 * size)


def _gate_bias(key: jax.Array, size: int, horizon: int) -> jax.Array:
    """``[3 H]``; ``log(U(1, horizon - 1))`` for the update gate, so initial time scales reach up to the horizon."""
    steps = jax.random.uniform(key, (size,), jnp.float32, 1.0, max(horizon - 1.0, 1.0))
    zeros = jnp.zeros(size, jnp.float32)
    return jnp.concatenate([zeros, jnp.log(steps), zeros])


class GRU(nn.Module):
    """A recurrent torso: ``h' = (1 - z) n + z h``, whose features are its memory.

    ``r = sigmoid(W_r x + U_r h + b_r)``, ``z = sigmoid(W_z x + U_z h + b_z)``,
    ``n = tanh(W_n x + b_n + r (U_n h + c_n))``, x the encoded observation. Cho et al. 2014, "Learning phrase
    representations using RNN encoder-decoder for statistical machine translation", with the reset gate
    after the product with U_n as in cuDNN, so that the three products are one. Initial time scales of the memory are
    spread up to a horizon: Tallec and Ollivier 2018, "Can recurrent neural networks warp time?". The environment must
    feed its memory back, see ``jaxrl.envs.remember``.

    Attributes:
      size: H, the size of the memory.
      horizon: the longest initial time scale of the memory in steps; 1 for no bias.
      encoder: torso from each observation to the input of the GRU; None for an MLP of one layer, or
        ``image_torso`` for images.
    """

    size: int = 64
    horizon: int = 100
    encoder: nn.Module | None = None

    @property
    def memory(self) -> jax.ShapeDtypeStruct:
        """The memory for one environment."""
        return jax.ShapeDtypeStruct((self.size,), jnp.float32)

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array, reset: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Reads T steps; see ``recurrent.unroll`` for the contract of a recurrent torso."""
        encoder = self.encoder
        if encoder is None:
            encoder = image_torso(x.shape[2:], hidden=(self.size,)) or MLP(hidden=(self.size,))
        encoded = encoder(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], -1)
        # Computations that do not depend on the memory run before the loop, for all steps at once.
        bias = self.param("bias", lambda key: _gate_bias(key, self.size, self.horizon))
        kernel = self.param("kernel", orthogonal(1.0), (encoded.shape[-1], 3 * self.size))
        recurrent_kernel = self.param("recurrent_kernel", lambda key: _blocks(key, self.size))
        candidate_bias = self.param("candidate_bias", nn.initializers.zeros, (self.size,), jnp.float32)
        projected = encoded @ kernel + bias[None, None]

        def step(h: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            x_t, reset_t = given
            h = jnp.where(reset_t[:, None], 0.0, h)
            (x_r, x_z, x_n), (h_r, h_z, h_n) = (jnp.split(part, 3, axis=-1) for part in (x_t, h @ recurrent_kernel))
            r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + r * (h_n + candidate_bias[None]))
            h = (1.0 - z) * n + z * h
            return h, h

        _, memories = jax.lax.scan(step, memory, (projected, reset))
        return memories, memories
