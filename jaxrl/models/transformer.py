"""A causal transformer as a sequence model, with a cache for dreams.

Legend of shapes: N sequences, T steps, Q queries, S keys, C context, W width, L latent numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive
from jaxrl.models.sequence import Heads, Outputs, SequenceModel, loss_of, step_input
from jaxrl.networks.actions import action_size
from jaxrl.networks.initializers import gaussian
from jaxrl.networks.mlp import activation_fn
from jaxrl.signature import recipe
from jaxrl.types import Array, PyTree, Spec


class Cache(NamedTuple):
    """The memory of one sequence: keys and values of the last C steps, the newest last.

    Attributes:
      keys: ``[layers, C, heads, W / heads]``.
      values: of the same shape.
      seen: int32, the number of valid steps, at most C.
      features: ``[W]`` of the last step, zeros before the first.
    """

    keys: Array
    values: Array
    seen: Array
    features: Array


class _CausalLayer(nn.Module):
    """Attention to previous steps, then an MLP, each a pre-norm residual branch.

    Positions enter as relative biases: each head adds a learned number for the age of a step to its logits. So outputs
    do not depend on absolute positions, and a cache of the last C steps gives the same outputs as the whole sequence.
    """

    num_heads: int
    mlp_ratio: int
    context: int
    scale: float

    @nn.compact
    def __call__(
        self, x: Array, past: tuple[Array, Array] | None, age: Array, mask: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        """One layer.

        Args:
          x: ``[N, Q, W]`` the residual stream.
          past: keys and values ``[N, S - Q, heads, W / heads]`` of previous steps; None for none.
          age: ``[Q, S]`` int32, number of steps from a key to a query.
          mask: ``[N, Q, S]`` bool, the keys that a query may attend to.

        Returns:
          ``(x [N, Q, W], keys and values [N, S, heads, W / heads])``.
        """
        num, length, width = x.shape
        y = nn.LayerNorm(name="attention_norm")(x)
        projected = nn.Dense(3 * width, kernel_init=gaussian(1.0), name="query_key_value")(y)
        query, *new = jnp.moveaxis(projected.reshape(num, length, 3, self.num_heads, -1), 2, 0)
        keys, values = new if past is None else (jnp.concatenate(pair, axis=1) for pair in zip(past, new, strict=True))
        by_age = self.param("age", nn.initializers.normal(1.0), (self.num_heads, self.context), jnp.float32)
        bias = by_age[:, jnp.clip(age, 0, self.context - 1)][None]
        attended = jax.nn.dot_product_attention(query, keys, values, bias=bias, mask=mask[:, None])
        dense = lambda size, scale, name: nn.Dense(size, kernel_init=gaussian(scale), name=name)  # noqa: E731
        x = x + dense(width, self.scale, "attention_output")(attended.reshape(num, length, width))
        y = activation_fn("gelu")(dense(self.mlp_ratio * width, 1.0, "mlp_hidden")(nn.LayerNorm(name="mlp_norm")(x)))
        return x + dense(width, self.scale, "mlp_output")(y), (keys, values)


class _CausalTransformer(nn.Module):
    num_layers: int
    num_heads: int
    width: int
    mlp_ratio: int
    context: int
    heads: Heads

    def setup(self) -> None:
        self.embedding = nn.Dense(self.width, kernel_init=gaussian(1.0))
        scale = 1.0 / math.sqrt(2.0 * self.num_layers)  # keeps the scale of the stream at every depth
        self.layers = [
            _CausalLayer(self.num_heads, self.mlp_ratio, self.context, scale) for _ in range(self.num_layers)
        ]
        self.norm = nn.LayerNorm()

    def __call__(self, x: Array, reset: Array) -> Outputs:
        """Outputs ``[N, T]`` of ``x [N, T, L + A]``."""
        steps = jnp.arange(x.shape[1])
        age = steps[:, None] - steps[None]
        episode = jnp.cumsum(reset, axis=1)
        mask = (episode[:, :, None] == episode[:, None]) & ((age >= 0) & (age < self.context))[None]
        stream = self.embedding(x)
        for layer in self.layers:
            stream, _ = layer(stream, None, age, mask)
        return self.heads(self.norm(stream))

    def step(self, x: Array, cache: Cache) -> tuple[Outputs, Cache]:
        """Outputs ``[N]`` of ``x [N, L + A]``, and the updated caches, leaves ``[N, ...]``."""
        age = jnp.arange(self.context - 1, -1, -1)
        mask = age[None] <= cache.seen[:, None]
        stream, kept = self.embedding(x)[:, None], []
        for i, layer in enumerate(self.layers):
            past = (cache.keys[:, i, 1:], cache.values[:, i, 1:])
            stream, both = layer(stream, past, age[None], mask[:, None])
            kept.append(both)
        outputs = self.heads(self.norm(stream[:, 0]))
        keys, values = (jnp.stack(leaves, axis=1) for leaves in zip(*kept, strict=True))
        count = jnp.minimum(cache.seen + 1, self.context)
        return outputs, Cache(keys, values, count, outputs.features)


@recipe
def transformer(
    spec: Spec,
    *,
    latent_size: Count = 32,
    num_layers: Count = 2,
    num_heads: Count = 4,
    width: Count = 128,
    mlp_ratio: Count = 2,
    context: Count = 32,
    num_components: Count = 5,
    scale_floor: Positive = 0.01,
    chain_size: CountOrZero = 0,
    reward_coef: NonNegative = 1.0,
    termination_coef: NonNegative = 1.0,
    terminal_weight: Positive = 1.0,
) -> SequenceModel:
    """``mdn_rnn`` with a causal transformer instead of the LSTM, which attends to the last C steps of the episode.

    Vaswani et al. 2017, "Attention is all you need", pre-norm (Xiong et al. 2020), with a token for each pair of latent
    and action and a learned bias for each age (Raffel et al. 2020, arXiv:1910.10683, without buckets). In dreams each
    step attends to C cached keys per layer; steps give the same outputs as the pass over the whole sequence.

    Args:
      spec: the environment's spec; its action space is used.
      latent_size: L, the latent size of the autoencoder.
      num_layers: number of layers of attention and MLP.
      num_heads: number of attention heads; divides the width.
      width: W, the width of tokens and features.
      mlp_ratio: the width of the MLPs' hidden layer divided by the width of tokens.
      context: C, number of steps that a layer attends to, including the current one; 1 for a model without memory.
      num_components: K, number of components of each mixture.
      scale_floor: smallest standard deviation of a component.
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
    """
    if width % num_heads:
        raise ValueError(f"num_heads: got {num_heads}, must divide width={width}")
    heads = Heads(latent_size, num_components, scale_floor, chain_size)
    network = _CausalTransformer(num_layers, num_heads, width, mlp_ratio, context, heads)
    kept = jnp.zeros((num_layers, context, num_heads, width // num_heads), jnp.float32)
    start = Cache(kept, kept, jnp.zeros((), jnp.int32), jnp.zeros((width,), jnp.float32))

    def init(key: Array) -> PyTree:
        x = jnp.zeros((1, 1, latent_size + action_size(spec.action)), jnp.float32)
        return network.init(key, x, jnp.zeros((1, 1), bool))

    def unroll(params: PyTree, z: Array, action: Array, reset: Array) -> Outputs:
        return network.apply(params, step_input(spec.action, z, action), reset)  # type: ignore[return-value]

    def step(params: PyTree, memory: Cache, z: Array, action: Array) -> tuple[Cache, Outputs]:
        x = step_input(spec.action, z, action)[None]
        before: Any = jax.tree.map(lambda leaf: leaf[None], memory)
        outputs, after = network.apply(params, x, before, method="step")
        return jax.tree.map(lambda leaf: leaf[0], after), jax.tree.map(lambda leaf: leaf[0], outputs)

    loss = loss_of(unroll, reward_coef, termination_coef, terminal_weight)
    return SequenceModel(init, start, unroll, step, loss, latent_size, width)
