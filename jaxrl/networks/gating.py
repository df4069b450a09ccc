"""A gate in place of the residual sum."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.initializers import gaussian


class GRUGate(nn.Module):
    """Combines a residual branch ``y`` with the residual stream ``x`` as a GRU combines input and state.

    ``r = s(W_r y + U_r x)``, ``z = s(W_z y + U_z x - b)``, ``h = tanh(W_h y + U_h (r * x))``, ``(1 - z) x + z h``.
    Parisotto et al. 2020, "Stabilizing transformers for reinforcement learning", section 3.2. With a positive bias it
    is initially close to the identity.

    Attributes:
      bias: the initial b.
      dtype: the dtype of the products.
    """

    bias: float = 2.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """From ``[..., W]`` and ``[..., W]`` to ``[..., W]``."""
        width = x.shape[-1]

        def dense(multiple: int, name: str) -> nn.Module:
            return nn.Dense(multiple * width, use_bias=False, kernel_init=gaussian(1.0), dtype=self.dtype, name=name)

        of_y = jnp.split(dense(3, "input")(y).astype(x.dtype), 3, axis=-1)
        of_x = jnp.split(dense(2, "state")(x).astype(x.dtype), 2, axis=-1)
        bias = self.param("bias", nn.initializers.constant(self.bias), (width,), jnp.float32)
        bias = bias.reshape((1,) * (x.ndim - 1) + (-1,))
        reset = nn.sigmoid(of_y[0] + of_x[0])
        update = nn.sigmoid(of_y[1] + of_x[1] - bias)
        candidate = jnp.tanh(of_y[2] + dense(1, "candidate")(reset * x).astype(x.dtype))
        return (1.0 - update) * x + update * candidate
