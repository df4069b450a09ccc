"""Pure maths on arrays: the equations of the papers. Imports jax alone, knows no network and no agent."""

from jaxrl.ops import normalize, policy_gradient, returns, value

__all__ = ["normalize", "policy_gradient", "returns", "value"]
