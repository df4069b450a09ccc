"""The multilayer perceptron torso."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.inputs import as_float, flatten_batch

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "elu": nn.elu,
}


def activation_fn(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation called ``name``.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: got {name!r}, allowed are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class MLP(nn.Module):
    """Dense layers with an activation after each: ``x <- act(W x + b)``.

    It is called on ``[N, *event]``, whose event axes are flattened, or on ``[..., *event]`` with the rank of the event:
    ``mlp(x, 1)`` maps ``[T, B, D]`` to ``[T, B, hidden[-1]]``.

    Attributes:
      hidden: the width of each layer.
      activation: one of tanh, relu, gelu, silu, elu.
      layer_norm: layer norm before each activation (Ba et al. 2016).
    """

    hidden: Sequence[int] = (64, 64)
    activation: str = "tanh"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, event_rank: int | None = None) -> jax.Array:
        """From ``[..., *event]`` to ``[..., D]``; without ``event_rank`` only the first axis is the batch."""
        activate = activation_fn(self.activation)
        x, batch = flatten_batch(as_float(x), x.ndim - 1 if event_rank is None else event_rank)
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=orthogonal())(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = activate(x)
        return x.reshape(*batch, x.shape[-1])
