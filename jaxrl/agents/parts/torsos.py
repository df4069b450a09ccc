"""Default torsos of recipes. A recipe's module defines its own as ``default_torso(spec)``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from jaxrl import networks, types
from jaxrl.types import Spec


def default_torso(
    spec: Spec, *, hidden: Sequence[int] = (64, 64), activation: str = "relu", layer_norm: bool = False
) -> nn.Module:
    """``networks.image_torso`` for images, else an ``MLP`` with these widths and this activation."""
    torso = networks.image_torso(types.features(spec.observation).shape, layer_norm=layer_norm)
    return networks.MLP(hidden=hidden, activation=activation, layer_norm=layer_norm) if torso is None else torso


def torso_of(recipe: Callable[..., Any], spec: Spec) -> nn.Module:
    """The default torso of a recipe: ``default_torso(spec)`` of its module where it defines one."""
    make = getattr(sys.modules.get(recipe.__module__), "default_torso", None)
    torso: nn.Module = networks.default_torso(spec.observation) if make is None else make(spec)
    return torso
