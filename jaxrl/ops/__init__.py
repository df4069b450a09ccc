"""The equations of the papers as pure functions of arrays. They import jax alone and know no network and no agent."""

from jaxrl.ops import distributional, exploration, normalize, policy_gradient, returns, td, value

__all__ = ["distributional", "exploration", "normalize", "policy_gradient", "returns", "td", "value"]
