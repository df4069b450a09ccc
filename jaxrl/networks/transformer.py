"""The transformer torso: an encoder over the tokens of one observation, with a readout token."""

from __future__ import annotations

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.networks.gating import GRUGate
from jaxrl.networks.initializers import gaussian
from jaxrl.networks.inputs import as_float, flatten_batch
from jaxrl.networks.mlp import activation_fn
from jaxrl.networks.tokens import POSITIONS, Tokenizer

DTYPES = ("float32", "bfloat16")


class EncoderLayer(nn.Module):
    """Attention, then an MLP per token, each a pre-norm residual branch: ``x <- x + f(norm(x))``.

    Xiong et al. 2020, "On layer normalization in the transformer architecture" (pre-norm). With ``gated`` a
    ``GRUGate`` of the rectified branch replaces the sum (Parisotto et al. 2020, "Stabilizing transformers for
    reinforcement learning"). The residual stream is float32 for every dtype of the branches.

    Attributes:
      num_heads: divides the width.
      mlp_ratio: the width of the MLP's hidden layer divided by the width of tokens.
      activation: activation of the MLP.
      scale: gain of the initial weights of the last layer of a branch.
      dropout: dropout rate of the output of each branch, applied where there is an rng "dropout".
      gated: use a gate instead of the sum.
      gate_bias: initial bias of the gates.
      dtype: dtype of the matrix products.
    """

    num_heads: int
    mlp_ratio: int
    activation: str
    scale: float
    dropout: float
    gated: bool
    gate_bias: float
    dtype: Any

    def _dense(self, size: int, scale: float, name: str, **options: Any) -> nn.Module:
        return nn.Dense(size, kernel_init=gaussian(scale), dtype=self.dtype, name=name, **options)

    def _join(self, x: jax.Array, branch: jax.Array, name: str) -> jax.Array:
        branch = branch.astype(x.dtype)
        if self.dropout > 0.0:
            branch = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"), name=f"{name}_dropout")(branch)
        if self.gated:
            return GRUGate(self.gate_bias, self.dtype, name=f"{name}_gate")(x, nn.relu(branch))
        return x + branch

    @nn.compact
    def __call__(self, x: jax.Array, present: jax.Array | None, num_queries: int) -> jax.Array:
        """One layer.

        Args:
          x: ``[N, T, W]`` the residual stream.
          present: ``[N, T]`` bool, the tokens that may be attended to; None for all.
          num_queries: Q; outputs are computed for the first Q tokens only.

        Returns:
          ``[N, Q, W]``.
        """
        num, length, width = x.shape
        heads = (self.num_heads, width // self.num_heads)
        y = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        x = x[:, :num_queries]
        query = self._dense(width, 1.0, "query")(y[:, :num_queries]).reshape(num, num_queries, *heads)
        # No biases: the keys' bias cancels in the softmax, the values' bias is redundant with the output's.
        key_value = self._dense(2 * width, 1.0, "key_value", use_bias=False)(y)
        key_value = key_value.reshape(num, length, 2, *heads)
        mask = None if present is None else present[:, None, None, :]
        attended = jax.nn.dot_product_attention(query, key_value[:, :, 0], key_value[:, :, 1], mask=mask)
        attended = self._dense(width, self.scale, "attention_output")(attended.reshape(num, num_queries, width))
        x = self._join(x, attended, "attention")
        y = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(x)
        y = self._dense(self.mlp_ratio * width, 1.0, "mlp_hidden")(y)
        y = self._dense(width, self.scale, "mlp_output")(activation_fn(self.activation)(y))
        return self._join(x, y, "mlp")


class Transformer(nn.Module):
    """A pre-norm transformer encoder over the tokens of an observation, with a readout token.

    Vaswani et al. 2017, "Attention is all you need"; Xiong et al. 2020, "On layer normalization in the transformer
    architecture". On ``[N, D]`` it attends to features, on ``[N, k, D]`` to rows, on ``[N, H, W, C]`` to patches of an
    image or squares of a board; see ``networks.tokens``. The features ``[N, W]`` are the normalised readout token.

    Attributes:
      num_layers: the number of layers of attention and MLP.
      num_heads: number of attention heads; must divide the width.
      width: W, the width of tokens and features.
      mlp_ratio: the width of the MLPs' hidden layer divided by the width of tokens.
      activation: activation of the MLPs: tanh, relu, gelu, silu, elu.
      positions: learned, or sinusoidal.
      patch_size: (images and boards) the width of the square patches that become tokens.
      window: (matrices) rows are steps from envs.window; those that the last channel flags as absent are masked.
      gated: gates in place of residual sums, as in GTrXL.
      gate_bias: (gated) initial bias of the gates; above 0 a layer is initially close to the identity.
      dropout: dropout rate of every branch, where gradients are computed; not a tracer.
      dtype: dtype of the matrix products, float32 or bfloat16; parameters and features are float32.
    """

    num_layers: int = 1
    num_heads: int = 2
    width: int = 32
    mlp_ratio: int = 2
    activation: str = "relu"
    positions: Literal["learned", "sinusoidal"] = "learned"
    patch_size: int = 1
    window: bool = False
    gated: bool = False
    gate_bias: float = 2.0
    dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raises a ValueError or TypeError that names the attribute."""
        for name in ("num_layers", "num_heads", "width", "mlp_ratio", "patch_size"):
            check_count(name, getattr(self, name))
        if self.width % self.num_heads:
            raise ValueError(f"num_heads: got {self.num_heads}, must divide width={self.width}")
        for name, allowed in (("positions", POSITIONS), ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, allowed are {', '.join(allowed)}")
        if isinstance(self.dropout, jax.core.Tracer):
            raise TypeError("dropout: got a tracer, must be a number, since arguments of torsos are static")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout: got {self.dropout}, must be in [0, 1)")
        activation_fn(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, event_rank: int | None = None) -> jax.Array:
        """From ``[..., *event]`` to ``[..., W]``; without ``event_rank`` only the first axis is the batch."""
        x, batch = flatten_batch(as_float(x), x.ndim - 1 if event_rank is None else event_rank)
        tokenizer = Tokenizer(self.width, self.positions, self.patch_size, self.window, name="tokens")
        tokens, present = tokenizer(x)
        readout = self.param("readout", nn.initializers.normal(0.02), (1, 1, self.width), jnp.float32)
        stream = jnp.concatenate([jnp.broadcast_to(readout, (len(x), 1, self.width)), tokens], axis=1)
        if present is not None:
            present = jnp.pad(present, ((0, 0), (1, 0)), constant_values=True)
        for i in range(self.num_layers):
            layer = EncoderLayer(
                self.num_heads,
                self.mlp_ratio,
                self.activation,
                1.0 / math.sqrt(2.0 * self.num_layers),  # keeps the scale of the stream at every depth
                self.dropout,
                self.gated,
                self.gate_bias,
                jnp.dtype(self.dtype),
                name=f"layer_{i}",
            )
            # Only the readout token of the last layer is used, so only that is computed.
            stream = layer(stream, present, 1 if i == self.num_layers - 1 else stream.shape[1])
        return nn.LayerNorm(name="norm")(stream[:, 0]).reshape(*batch, self.width)
