"""The equations of the papers as pure functions of arrays. They import jax alone and know no network and no agent."""

from jaxrl.ops import (
    distributional,
    exploration,
    groups,
    normalize,
    pairs,
    policy_gradient,
    returns,
    td,
    tokens,
    value,
)

__all__ = [
    "distributional",
    "exploration",
    "groups",
    "normalize",
    "pairs",
    "policy_gradient",
    "returns",
    "td",
    "tokens",
    "value",
]


def __dir__() -> list[str]:
    return sorted(__all__)
