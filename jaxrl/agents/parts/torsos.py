"""Torsos for recipes where none is given. A recipe's module names its own as ``default_torso(spec)``."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

from jaxrl import networks
from jaxrl.types import Spec


def default_torso(
    spec: Spec, *, hidden: Sequence[int] = (64, 64), activation: str = "relu", layer_norm: bool = False
) -> nn.Module:
    """``Conv`` for images, else an ``MLP`` with these widths and this activation."""
    if isinstance(networks.default_torso(spec.observation), networks.Conv):
        return networks.Conv(layer_norm=layer_norm)
    return networks.MLP(hidden=hidden, activation=activation, layer_norm=layer_norm)
