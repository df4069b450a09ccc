"""Pure maths on arrays: the equations of the papers. Imports jax alone, knows no network and no agent."""

from jaxrl.ops import distributional, exploration, normalize, policy_gradient, returns, td, value

__all__ = ["distributional", "exploration", "normalize", "policy_gradient", "returns", "td", "value"]
