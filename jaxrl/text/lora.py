"""Low-rank adapters of the kernels of any Flax module.

Hu et al. 2021, "LoRA", arXiv:2106.09685: a kernel W becomes ``W + scale A B`` with A ``[inputs, rank]`` and B
``[rank, outputs]``; A and B are trained, W is not. B starts at 0, so that the adapted module starts as the module.

Legend of shapes: I inputs, O outputs, r rank.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count, check_key
from jaxrl.types import Array, PyTree


class Factors(NamedTuple):
    """The adapter of one kernel.

    Attributes:
      a: ``[I, r]``; all axes of the kernel but the last are its inputs.
      b: ``[r, O]``.
    """

    a: Array
    b: Array


Adapters = dict[str, Factors]
"""An adapter for each chosen kernel, by its path in the parameters, such as "params/layers_0/mlp_output/kernel"."""


def _name(path: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)


def lora(key: Array, params: PyTree, *, rank: int = 8, kernels: str = ".*") -> Adapters:
    """Adapters with Gaussian A of variance ``1 / I`` and B = 0.

    Args:
      key: PRNG key.
      params: parameters of a Flax module.
      rank: r, the rank of the change of a kernel.
      kernels: a regular expression that is searched for in the path of each kernel; the others stay as they are.

    Returns:
      The adapters: a pytree, and all that is to be trained.

    Raises:
      ValueError: no kernel's path matches, or ``rank`` is below 1.
    """
    check_key(key)
    check_count("rank", rank)
    leaves = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    names = [name for name, leaf in leaves if name.split("/")[-1] == "kernel" and leaf.ndim >= 2]
    chosen = [name for name in names if re.search(kernels, name)]
    if not chosen:
        raise ValueError(f"kernels: got {kernels!r}, which matches none of {', '.join(names) or 'no kernels'}")
    shapes = {name: leaf.shape for name, leaf in leaves}
    adapters = {}
    for i, name in enumerate(chosen):
        inputs, outputs = math.prod(shapes[name][:-1]), shapes[name][-1]
        a = jax.random.normal(jax.random.fold_in(key, i), (inputs, rank), jnp.float32) / math.sqrt(inputs)
        adapters[name] = Factors(a, jnp.zeros((rank, outputs), jnp.float32))
    return adapters


def merge_lora(params: PyTree, adapters: Adapters, *, scale: Array | float = 1.0) -> PyTree:
    """Parameters with the kernels ``W + scale A B``, of the shapes and dtypes of ``params``; differentiable.

    Args:
      params: parameters of a Flax module.
      adapters: from ``lora``.
      scale: the paper's ``alpha / r``.
    """

    def merged(path: Any, leaf: Array) -> Array:
        if _name(path) not in adapters:
            return leaf
        a, b = adapters[_name(path)]
        return (leaf + (scale * (a @ b)).reshape(leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(merged, params)


def apply_lora(
    module: nn.Module, params: PyTree, adapters: Adapters, *arguments: Any, scale: Array | float = 1.0, **options: Any
) -> Any:
    """``module.apply(params, *arguments, **options)`` with ``x W + scale (x A) B`` for each adapted ``nn.Dense``.

    It equals ``module.apply(merge_lora(params, adapters), ...)``. No gradient of a whole kernel is made, which saves
    memory where kernels are large.

    Raises:
      TypeError: an adapted kernel is not that of an ``nn.Dense``; use ``merge_lora`` for those.
    """
    dense: set[str] = set()

    def adapted(call: Any, inputs: Any, keywords: Any, context: Any) -> Any:
        path = "/".join(("params", *context.module.path, "kernel"))
        outputs = call(*inputs, **keywords)
        if context.method_name != "__call__" or path not in adapters or not isinstance(context.module, nn.Dense):
            return outputs
        dense.add(path)
        a, b = (factor.astype(outputs.dtype) for factor in adapters[path])
        return outputs + jnp.asarray(scale, outputs.dtype) * (inputs[0].astype(outputs.dtype) @ a) @ b

    with nn.intercept_methods(adapted):
        result = module.apply(params, *arguments, **options)
    if set(adapters) - dense:
        raise TypeError(
            f"adapters: got {min(set(adapters) - dense)}, must be of an nn.Dense that is called; use merge_lora"
        )
    return result
