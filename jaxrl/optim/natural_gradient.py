"""The natural gradient within a trust region, as optax transformations: direction, line search, and both in a chain.

Like optax's line searches, they take functions of the parameters in addition to the gradient::

    optimizer = optim.trust_region(max_divergence=0.01)
    updates, state = optimizer.update(grads, state, params, value_fn=surrogate, divergence_fn=divergence)

Both functions map parameters to a scalar. ``value_fn`` is minimised, and ``grads`` is its gradient at ``params``.
``divergence_fn(there)`` is the mean ``KL(pi_old || pi_there)``, where pi_old, the policy at ``params``, is held
constant: value and gradient are 0 at ``params``.

Where environments are split over devices (``ops.across``), gradient, products, value and divergence are each averaged
over them, so that all devices take the step of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.arguments import INNER_UNIT, NON_NEGATIVE, POSITIVE, check_count, check_float
from jaxrl.ops import across

ScalarFn = Callable[[Any], jax.Array]


def fisher_vector_product(divergence_fn: ScalarFn, params: Any, damping: Any = 0.0) -> Callable[[Any], Any]:
    """The map ``v -> (F + damping I) v``, where the Fisher matrix F is the Hessian of the divergence at ``params``.

    Forward over reverse: the gradient is linearised once, and every product is one forward pass through it. Pearlmutter
    1994, "Fast exact multiplication by the Hessian".

    Args:
      divergence_fn: function from parameters to a scalar.
      params: parameters at which the Hessian is taken.
      damping: scalar, added to the diagonal.

    Returns:
      A linear function on pytrees like ``params``.
    """
    _, hessian_product = jax.linearize(jax.grad(divergence_fn), params)
    return lambda v: optax.tree.add_scale(hessian_product(v), damping, v)


def natural_gradient(
    max_divergence: Any, *, num_cg_steps: int = 10, damping: Any = 0.1
) -> optax.GradientTransformationExtraArgs:
    """The natural-gradient step whose divergence is ``max_divergence`` to second order.

    ``-sqrt(2 delta / x^T H x) x`` with ``H x = g`` by conjugate gradient, ``H = F + damping I``: the minimiser of
    ``g^T s`` under ``s^T H s / 2 <= delta``. Schulman et al. 2015, arXiv:1502.05477, appendix C. A gradient of 0 gives
    a step of 0. The bound includes the damping, as in reference implementations, so that the step is finite where the
    gradient is not in the range of F. ``update`` takes ``divergence_fn``.

    Args:
      max_divergence: scalar, delta; may be a tracer.
      num_cg_steps: largest number of conjugate-gradient steps; they stop early once the residual has fallen by 1e5.
      damping: scalar, may be a tracer.

    Raises:
      TypeError, ValueError: an argument is outside of its range, or ``update`` lacks one; the message names it.
    """
    check_float("max_divergence", max_divergence, POSITIVE)
    check_count("num_cg_steps", num_cg_steps)
    check_float("damping", damping, NON_NEGATIVE)

    def update_fn(
        updates: Any, state: Any, params: Any = None, *, divergence_fn: ScalarFn | None = None, **extra: Any
    ) -> tuple[Any, Any]:
        del extra
        divergence = _scalar("divergence_fn", divergence_fn)
        of_part = fisher_vector_product(divergence, _given(params, "natural_gradient"), damping)
        product = lambda v: across.mean(of_part(v))  # noqa: E731
        updates = across.mean(updates)
        # The start is 0 x g instead of constant zeros, with which jaxlib 0.10.2 on CPU computes a wrong first residual
        # g - H 0 for a population inside a scan.
        nowhere = optax.tree.scale(0.0, updates)
        direction, _ = jax.scipy.sparse.linalg.cg(product, updates, nowhere, maxiter=num_cg_steps)
        curvature = optax.tree.vdot(direction, product(direction))
        # No step where the gradient is 0, or where rounding makes the curvature negative.
        bent = (curvature > 0.0) & jnp.isfinite(curvature)
        scale = jnp.where(bent, jnp.sqrt(2.0 * max_divergence / jnp.where(bent, curvature, 1.0)), 0.0)
        # A select, not a product, as in the line search below: 0 x NaN is NaN.
        return jax.tree.map(lambda d: jnp.where(bent, -scale * d, jnp.zeros_like(d)), direction), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)


class BacktrackState(NamedTuple):
    """The result of the last line search, as a diagnostic; the next one does not read it.

    Attributes:
      scale: accepted fraction of the full step, 0 if none was accepted; all fields are float32.
      divergence: divergence at the new parameters.
      improvement: decrease of the value.
    """

    scale: jax.Array
    divergence: jax.Array
    improvement: jax.Array


def backtrack(
    max_divergence: Any, *, num_backtracks: int = 10, decay: Any = 0.8
) -> optax.GradientTransformationExtraArgs:
    """The largest step ``decay^k`` x step, k = 0, 1, ..., that lowers the value and keeps the divergence in its bound.

    If none of the ``num_backtracks`` tries does both, the step is 0. The divergence of an accepted step is never above
    its bound, and NaN is never accepted. ``update`` takes ``value_fn`` and ``divergence_fn``.

    Args:
      max_divergence: scalar, may be a tracer.
      num_backtracks: number of tries, including the full step.
      decay: factor from one try to the next, scalar in (0, 1), may be a tracer.

    Raises:
      TypeError, ValueError: an argument is outside of its range, or ``update`` lacks one; the message names it.
    """
    check_float("max_divergence", max_divergence, POSITIVE)
    check_count("num_backtracks", num_backtracks)
    check_float("decay", decay, INNER_UNIT)

    def init_fn(params: Any) -> BacktrackState:
        del params
        return BacktrackState(*(jnp.zeros((), jnp.float32) for _ in BacktrackState._fields))

    def update_fn(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value_fn: ScalarFn | None = None,
        divergence_fn: ScalarFn | None = None,
        **extra: Any,
    ) -> tuple[Any, BacktrackState]:
        del state, extra
        value_of, divergence_of = _scalar("value_fn", value_fn), _scalar("divergence_fn", divergence_fn)
        start = _given(params, "backtrack")
        before = across.mean(value_of(start))

        def tried(scale: jax.Array) -> tuple[jax.Array, BacktrackState]:
            there = jax.tree.map(lambda p, u: (p + scale * u).astype(p.dtype), start, updates)
            divergence, value = across.mean((divergence_of(there), value_of(there)))
            improvement = before - value
            found = BacktrackState(scale, divergence.astype(jnp.float32), improvement.astype(jnp.float32))
            return (divergence <= max_divergence) & (improvement > 0.0), found

        def body(carry: tuple[jax.Array, Any, BacktrackState]) -> tuple[jax.Array, Any, BacktrackState]:
            k, _, _ = carry
            return k + 1, *tried(jnp.asarray(decay, jnp.float32) ** k)

        nowhere = init_fn(params)
        carry = (jnp.zeros((), jnp.int32), jnp.zeros((), bool), nowhere)
        _, accepted, found = jax.lax.while_loop(lambda carry: ~carry[1] & (carry[0] < num_backtracks), body, carry)
        found = jax.tree.map(lambda new, none: jnp.where(accepted, new, none), found, nowhere)
        # A select, not a product: a step that is not finite must not reach the parameters as 0 x NaN.
        step = jax.tree.map(
            lambda u: jnp.where(accepted, (found.scale * u).astype(u.dtype), jnp.zeros_like(u)), updates
        )
        return step, found

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def trust_region(
    max_divergence: Any,
    *,
    num_cg_steps: int = 10,
    damping: Any = 0.1,
    num_backtracks: int = 10,
    decay: Any = 0.8,
) -> optax.GradientTransformationExtraArgs:
    """``natural_gradient``, then ``backtrack``: the step of TRPO. The state's last element is a ``BacktrackState``.

    Schulman et al. 2015, "Trust region policy optimization", arXiv:1502.05477. See both for the arguments.

    >>> target = jnp.array([3.0, 0.0])
    >>> value = lambda params: jnp.sum((params - target) ** 2)
    >>> params = jnp.zeros(2)
    >>> divergence = lambda there: jnp.sum((there - params) ** 2) / 2  # KL of unit Gaussians with these means
    >>> optimizer = trust_region(max_divergence=0.5, damping=0.0)
    >>> step, _ = optimizer.update(
    ...     jax.grad(value)(params), optimizer.init(params), params, value_fn=value, divergence_fn=divergence
    ... )
    >>> bool(0.7 < step[0] <= 1.0)  # near the bound, a distance of 1
    True
    """
    return optax.chain(
        natural_gradient(max_divergence, num_cg_steps=num_cg_steps, damping=damping),
        backtrack(max_divergence, num_backtracks=num_backtracks, decay=decay),
    )


def _given(params: Any, name: str) -> Any:
    """The parameters, which are optional in optax's ``update``.

    Raises:
      ValueError: they were not given.
    """
    if params is None:
        raise ValueError(f"params: {name}.update got None, must be the parameters that the step starts from")
    return params


def _scalar(name: str, function: ScalarFn | None) -> ScalarFn:
    """The function, checked to return a scalar.

    Raises:
      TypeError: it is not a function, or returns something else.
    """
    takes = "a function from parameters to a scalar"
    if not callable(function):
        raise TypeError(f"{name}: update got {function!r}, must be {takes}")

    def checked(params: Any) -> jax.Array:
        result = function(params)
        if jnp.shape(result) != ():
            raise TypeError(f"{name}: got a function that returns shape {jnp.shape(result)}, must be {takes}")
        return result

    return checked
