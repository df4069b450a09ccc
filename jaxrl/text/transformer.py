"""A decoder-only transformer language model, with a key-value cache for generation.

Legend of shapes: B texts, T tokens, Q queries, S keys, H heads, K heads of keys and values, E width of a head, D width,
V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.arguments import POSITIVE, check_count, check_float
from jaxrl.types import Array

CHOICES = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "mlp": ("gelu", "swiglu"),
    "dtype": ("float32", "bfloat16"),
}


class Cache(NamedTuple):
    """Keys and values of one layer, a column for each token, S in all.

    Attributes:
      keys: ``[B, K, S, E]``.
      values: ``[B, K, S, E]``.
    """

    keys: Array
    values: Array


def token_positions(mask: Array) -> Array:
    """The position of each token, counted over the true ones, so that padding has no effect: ``[B, T]`` int32.

    >>> token_positions(jnp.array([[False, True, True, False, True]])).tolist()
    [[0, 0, 1, 1, 2]]
    """
    return jnp.maximum(jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1, 0)


def rotate(x: Array, positions: Array, base: float) -> Array:
    """Rotary positions: the pair ``(x_i, x_{i + E/2})`` is turned by the angle ``position / base^(2i / E)``.

    Su et al. 2021, "RoFormer", arXiv:2104.09864, with the halves paired as in GPT-NeoX and Llama.

    Args:
      x: ``[B, T, heads, E]``.
      positions: ``[B, T]``.
      base: the base of the angles, 10,000 in the paper.

    Returns:
      ``[B, T, heads, E]``.
    """
    half = x.shape[-1] // 2
    frequency = jnp.exp(-math.log(base) * jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) * frequency[None, None, None]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attend(query: Array, keys: Array, values: Array, mask: Array) -> Array:
    """``softmax(q k^T / sqrt(E)) v`` with the softmax in float32; each head of keys serves H / K heads of queries.

    Args:
      query: ``[B, Q, H, E]``.
      keys: ``[B, K, S, E]``.
      values: ``[B, K, S, E]``.
      mask: ``[B, Q, S]`` bool, the keys that a query attends to, at least one for each query.

    Returns:
      ``[B, Q, H * E]``.
    """
    num, length, heads, size = query.shape
    grouped = query.reshape(num, length, keys.shape[1], -1, size)
    logits = jnp.einsum("bqkge,bkse->bkgqs", grouped, keys, preferred_element_type=jnp.float32) / math.sqrt(size)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, -1e30), axis=-1).astype(values.dtype)
    return jnp.einsum("bkgqs,bkse->bqkge", weights, values).reshape(num, length, heads * size)


class Layer(nn.Module):
    """Attention to previous tokens, then an MLP, each a pre-norm residual branch; its fields are ``Transformer``'s."""

    num_heads: int
    num_kv_heads: int
    head_width: int
    mlp_width: int
    norm: str
    rotary_base: float | None
    mlp: str
    bias: bool
    epsilon: float
    scale: float
    dtype: Any

    def _dense(self, size: int, name: str, scale: float = 0.02) -> nn.Module:
        init = nn.initializers.normal(scale)
        return nn.Dense(size, use_bias=self.bias, kernel_init=init, dtype=self.dtype, name=name)

    @nn.compact
    def __call__(
        self, x: Array, positions: Array, mask: Array, past: Cache | None = None, column: Array | int = 0
    ) -> tuple[Array, Cache]:
        """One layer.

        Args:
          x: ``[B, Q, D]`` the residual stream, float32.
          positions: ``[B, Q]``.
          mask: ``[B, Q, S]`` bool, the keys that a query attends to.
          past: the cache, whose columns from ``column`` on are overwritten by the new tokens; None for only these.
          column: the column of the first of the Q tokens.

        Returns:
          ``(x [B, Q, D], cache of S columns)``.
        """
        num, length, width = x.shape
        heads, kv_heads, size = self.num_heads, self.num_kv_heads, self.head_width
        y = norm_of(self.norm, self.epsilon, self.dtype, "attention_norm")(x)
        joined = self._dense((heads + 2 * kv_heads) * size, "query_key_value")(y)
        joined = joined.reshape(num, length, heads + 2 * kv_heads, size)
        query, key, value = jnp.split(joined, [heads, heads + kv_heads], axis=2)
        if self.rotary_base is not None:
            query, key = (rotate(part, positions, self.rotary_base) for part in (query, key))
        cache = Cache(key.swapaxes(1, 2), value.swapaxes(1, 2))
        if past is not None:
            put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), column, axis=2)  # noqa: E731
            cache = Cache(put(past.keys, cache.keys), put(past.values, cache.values))
        attended = attend(query, cache.keys, cache.values, mask)
        x = x + self._dense(width, "attention_output", self.scale)(attended).astype(x.dtype)
        y = norm_of(self.norm, self.epsilon, self.dtype, "mlp_norm")(x)
        if self.mlp == "swiglu":
            gate, up = jnp.split(self._dense(2 * self.mlp_width, "mlp_hidden")(y), 2, axis=-1)
            y = nn.silu(gate) * up
        else:
            y = nn.gelu(self._dense(self.mlp_width, "mlp_hidden")(y), approximate=True)
        return x + self._dense(width, "mlp_output", self.scale)(y).astype(x.dtype), cache


def norm_of(kind: str, epsilon: float, dtype: Any, name: str | None = None) -> nn.Module:
    """LayerNorm or RMSNorm."""
    return (nn.LayerNorm if kind == "layer" else nn.RMSNorm)(epsilon=epsilon, dtype=dtype, name=name)


class Transformer(nn.Module):
    """A causal language model: ``logits[t]`` are those of token t + 1 after the tokens up to t.

    Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2), and Touvron et al. 2023,
    arXiv:2302.13971 (Llama), are two settings of the fields; see ``gpt2`` and ``llama``. Positions are counted over the
    true tokens and padding is never attended to, so that padding anywhere, with any ids, changes nothing elsewhere.

    Attributes:
      vocab_size: V, the number of tokens.
      width: D, the width of the residual stream, a multiple of the number of heads.
      num_layers: the number of layers of attention and MLP.
      num_heads: H, the number of attention heads.
      max_length: the largest number of tokens of a text, padding included.
      num_kv_heads: K, the number of heads of keys and values, which divides H (grouped queries, Ainslie et al. 2023,
        arXiv:2305.13245); None for H.
      mlp_width: the width of the MLP's hidden layer; None for 4 D.
      norm: "layer" (LayerNorm) or "rms" (RMSNorm).
      positions: "learned" embeddings that are added to those of tokens, or "rotary".
      mlp: "gelu" (in its tanh form), or "swiglu".
      bias: whether the matrix products have a bias.
      tied: whether the logits are products with the embeddings of tokens; a matrix of their own otherwise.
      epsilon: added to the variance in norms.
      rotary_base: the base of the angles of rotary positions.
      dtype: "float32" or "bfloat16", the dtype of the matrix products; parameters, residual stream and logits are
        float32.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    max_length: int
    num_kv_heads: int | None = None
    mlp_width: int | None = None
    norm: Literal["layer", "rms"] = "layer"
    positions: Literal["learned", "rotary"] = "learned"
    mlp: Literal["gelu", "swiglu"] = "gelu"
    bias: bool = True
    tied: bool = True
    epsilon: float = 1e-5
    rotary_base: float = 10_000.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raises a ValueError or TypeError that names the field."""
        for name in ("vocab_size", "width", "num_layers", "num_heads", "max_length"):
            check_count(name, getattr(self, name))
        for name in ("num_kv_heads", "mlp_width"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, must be one of {', '.join(allowed)}")
        for name in ("epsilon", "rotary_base"):
            if isinstance(getattr(self, name), jax.core.Tracer):
                raise TypeError(f"{name}: got a tracer, must be a number, since the fields of a module are static")
            check_float(name, getattr(self, name), POSITIVE)
        if self.width % self.num_heads:
            raise ValueError(f"num_heads: got {self.num_heads}, must divide width={self.width}")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads: got {self.num_kv_heads}, must divide num_heads={self.num_heads}")
        if self.positions == "rotary" and self.width // self.num_heads % 2:
            raise ValueError(f"width: got {self.width}, rotary positions need an even width of each head")
        super().__post_init__()

    def setup(self) -> None:
        init = nn.initializers.normal(0.02)
        dtype = jnp.dtype(self.dtype)
        self.embedding = nn.Embed(self.vocab_size, self.width, embedding_init=init)
        if self.positions == "learned":
            self.position_embedding = nn.Embed(self.max_length, self.width, embedding_init=init)
        self.layers = [
            Layer(
                self.num_heads,
                self.num_kv_heads or self.num_heads,
                self.width // self.num_heads,
                self.mlp_width or 4 * self.width,
                self.norm,
                self.rotary_base if self.positions == "rotary" else None,
                self.mlp,
                self.bias,
                self.epsilon,
                0.02 / math.sqrt(2.0 * self.num_layers),  # keeps the scale of the stream at every depth
                dtype,
            )
            for _ in range(self.num_layers)
        ]
        self.final_norm = norm_of(self.norm, self.epsilon, dtype)
        if not self.tied:
            self.head = nn.Dense(self.vocab_size, use_bias=False, kernel_init=init, dtype=dtype)

    def _check(self, tokens: Array, mask: Array, length: int) -> None:
        if not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.ndim != 2:
            raise TypeError(f"tokens: got {tokens.dtype}{list(tokens.shape)}, must be integers [B, T]")
        if not jnp.issubdtype(mask.dtype, jnp.bool_) or mask.shape != tokens.shape:
            raise TypeError(f"mask: got {mask.dtype}{list(mask.shape)}, must be bool{list(tokens.shape)}")
        if length > self.max_length:
            raise ValueError(f"tokens: got {length} columns, must be at most max_length={self.max_length}")

    def _features(
        self, tokens: Array, present: Array, positions: Array, mask: Array, past: Any, column: Any
    ) -> tuple[Array, tuple[Cache, ...]]:
        # Ids of padding are arbitrary: no lookup may leave the table.
        ids = jnp.where(present, jnp.clip(tokens, 0, self.vocab_size - 1), 0)
        x = self.embedding(ids)
        if self.positions == "learned":
            x = x + self.position_embedding(jnp.minimum(positions, self.max_length - 1))
        kept = []
        for layer, cache in zip(self.layers, past, strict=True):
            x, cache = layer(x, positions, mask, cache, column)
            kept.append(cache)
        return self.final_norm(x).astype(jnp.float32), tuple(kept)

    def __call__(self, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """Logits and features of texts.

        Args:
          tokens: ``[B, T]`` integers; any where the mask is false.
          mask: ``[B, T]`` bool, false for padding.

        Returns:
          ``(logits [B, T, V] float32, hidden [B, T, D] float32)``; ``hidden`` are the features of which logits are a
          linear function. Both are meaningless where the mask is false.

        Raises:
          TypeError, ValueError: tokens or mask have a wrong shape or dtype, or too many columns.
        """
        hidden = self.features(tokens, mask)
        return self.logits(hidden), hidden

    def features(self, tokens: Array, mask: Array) -> Array:
        """``hidden [B, T, D]`` without the logits, for which the largest matrix product is."""
        self._check(tokens, mask, tokens.shape[1])
        return self._features(tokens, mask, token_positions(mask), causal(mask), [None] * self.num_layers, 0)[0]

    def logits(self, hidden: Array, kernel: Array | None = None) -> Array:
        """``[..., V]`` float32 of features ``[..., D]``; ``kernel`` is that of ``logits_kernel``, where it was made."""
        if kernel is not None:
            return jnp.matmul(hidden.astype(self.dtype), kernel, preferred_element_type=jnp.float32)
        if self.tied:
            table = self.embedding.embedding.astype(self.dtype)
            return jnp.einsum("...d,vd->...v", hidden.astype(self.dtype), table, preferred_element_type=jnp.float32)
        return self.head(hidden).astype(jnp.float32)

    def logits_kernel(self) -> Array | None:
        """``[D, V]``, the embeddings transposed, for loops: a product with few rows takes an eighth of the time on CPU.

        None where the logits have a matrix of their own, which is stored so.
        """
        return self.embedding.embedding.astype(self.dtype).T if self.tied else None

    def prefill(self, tokens: Array, mask: Array, size: int) -> tuple[Array, tuple[Cache, ...]]:
        """Features ``[B, T, D]`` of prompts, and caches of ``size`` columns of which the first T are filled."""
        self._check(tokens, mask, size)
        hidden, caches = self._features(tokens, mask, token_positions(mask), causal(mask), [None] * self.num_layers, 0)
        room = ((0, 0), (0, 0), (0, size - tokens.shape[1]), (0, 0))
        return hidden, jax.tree.map(lambda leaf: jnp.pad(leaf, room), caches)

    def step(
        self, tokens: Array, positions: Array, mask: Array, caches: tuple[Cache, ...], column: Array
    ) -> tuple[Array, tuple[Cache, ...]]:
        """Features of one more token of each text.

        Args:
          tokens: ``[B]``.
          positions: ``[B]``, see ``token_positions``.
          mask: ``[B, S]`` bool, the columns that are attended to, the own one included.
          caches: of S columns each.
          column: scalar int32, the column that the token takes.

        Returns:
          ``(hidden [B, D], caches)``.
        """
        present = jnp.ones_like(tokens[:, None], bool)
        hidden, caches = self._features(tokens[:, None], present, positions[:, None], mask[:, None], caches, column)
        return hidden[:, 0], caches


def causal(mask: Array) -> Array:
    """``[B, T, T]`` bool: a query attends to itself and to the true tokens before it."""
    age = jnp.arange(mask.shape[1])[:, None] - jnp.arange(mask.shape[1])[None]
    return ((age > 0)[None] & mask[:, None]) | (age == 0)[None]


def gpt2(
    vocab_size: int = 50_257,
    *,
    width: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    max_length: int = 1024,
    **fields: Any,
) -> Transformer:
    """GPT-2's architecture; the defaults are its smallest model, of 124M parameters.

    Radford et al. 2019, "Language models are unsupervised multitask learners".

    Args:
      vocab_size: number of tokens.
      width: width of the residual stream.
      num_layers: number of layers.
      num_heads: number of attention heads.
      max_length: largest number of tokens of a text.
      **fields: other fields of ``Transformer``.
    """
    return Transformer(vocab_size, width, num_layers, num_heads, max_length, **fields)


def llama(
    vocab_size: int,
    *,
    width: int,
    num_layers: int,
    num_heads: int,
    max_length: int,
    num_kv_heads: int | None = None,
    mlp_width: int | None = None,
    **fields: Any,
) -> Transformer:
    """Llama's architecture: RMSNorm, rotary positions, grouped queries, SwiGLU, no biases.

    Touvron et al. 2023, "LLaMA", arXiv:2302.13971; grouped queries as in Llama 2 (arXiv:2307.09288).

    Args:
      vocab_size: number of tokens.
      width: width of the residual stream.
      num_layers: number of layers.
      num_heads: number of attention heads.
      max_length: largest number of tokens of a text.
      num_kv_heads: number of heads of keys and values; None for ``num_heads``.
      mlp_width: width of the MLP's hidden layer; None for ``8 / 3 width`` rounded up to a multiple of 32.
      **fields: other fields of ``Transformer``.
    """
    mlp_width = 32 * -(-8 * width // 96) if mlp_width is None else mlp_width
    style = {"norm": "rms", "positions": "rotary", "mlp": "swiglu", "bias": False, "tied": False, **fields}
    return Transformer(
        vocab_size, width, num_layers, num_heads, max_length, num_kv_heads=num_kv_heads, mlp_width=mlp_width, **style
    )
