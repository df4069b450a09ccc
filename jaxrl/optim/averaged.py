"""The all-reduce of data-parallel training, as an optax transformation."""

from __future__ import annotations

from typing import Any

import optax

from jaxrl.ops import across


def averaged(inner: optax.GradientTransformation, axis: str = across.AXIS) -> optax.GradientTransformationExtraArgs:
    """``inner`` on the mean of the gradients of all devices.

    It goes around gradient clipping, so that the norm of the mean gradient is clipped. The state is that of ``inner``.
    Outside of a ``shard_map`` over the axis it equals ``inner``.

    Args:
      inner: transformation of the averaged gradient.
      axis: axis of the ``jax.shard_map`` over whose devices the samples are split.
    """
    optimizer = optax.with_extra_args_support(inner)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return optimizer.update(across.mean(updates, axis), state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update_fn)
