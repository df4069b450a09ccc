"""The all-reduce of data-parallel training, as an optax transformation."""

from __future__ import annotations

from typing import Any

import optax

from jaxrl.ops import across


def averaged(inner: optax.GradientTransformation, axis: str = across.AXIS) -> optax.GradientTransformationExtraArgs:
    """``inner`` on the mean of the gradients of all devices.

    Around the clip, not inside of it: the norm that is clipped is that of the mean. The state is that of ``inner``.
    Where the axis is not in scope it is ``inner``.

    Args:
      inner: what the averaged gradient goes to.
      axis: of the ``jax.shard_map`` whose members have a part of the samples each.
    """
    optimizer = optax.with_extra_args_support(inner)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return optimizer.update(across.mean(updates, axis), state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update_fn)
