"""Which torso a recipe has where none is given."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from jaxrl import networks
from jaxrl.types import features

_VALUES: dict[str, Any] = {"hidden": (64, 64), "activation": "relu"}
_WIDE: dict[str, Any] = {"hidden": (256, 256), "activation": "relu"}
_MLP: dict[str, dict[str, Any]] = {
    **{name: _VALUES for name in ("dqn", "c51", "qr_dqn", "iqn", "rainbow")},
    "pqn": {**_VALUES, "layer_norm": True},
    **{name: _WIDE for name in ("ddpg", "td3", "sac")},
    "alphazero": _WIDE,
}
_CONV: dict[str, dict[str, Any]] = {"pqn": {"layer_norm": True}}


def default_torso(recipe: str, observation_spec: Any) -> nn.Module:
    """``Conv`` for images, else an ``MLP`` of the recipe's usual widths; AlphaZero has residual blocks for boards."""
    if recipe == "alphazero" and len(features(observation_spec).shape) == 3:
        return networks.Residual()
    torso = networks.default_torso(observation_spec)
    options = (_MLP if isinstance(torso, networks.MLP) else _CONV).get(recipe, {})
    return type(torso)(**options)
