"""Distributions of returns: categorical ones on fixed atoms, quantiles, and scalars encoded as histograms.

Legend of shapes: K atoms or bins, M quantiles, batch axes ``[...]`` in front. A *support* is the increasing positions
``[K]`` of the atoms, with any spacing; probabilities on it are ``[..., K]``. Losses are terms, one number per sample;
the caller takes the (weighted) mean. The losses stop the gradient on their targets.

The next distribution becomes a target in two steps. ``target_atoms`` shifts and scales its atoms by reward and
discount; quantiles are then targets. ``project`` maps a categorical distribution back to the support.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.ops.value import compress, expand

Array = jax.Array


def target_atoms(r_t: Array, discount_t: Array, atoms_t: Array) -> Array:
    """The distributional Bellman operator on positions: ``r_t + discount_t z``.

    Bellemare, Dabney and Munos 2017, arXiv:1707.06887, section 3.

    Args:
      r_t: ``[...]``, rewards or n-step sums of rewards.
      discount_t: ``[...]``, the discounts of the next value, gamma included.
      atoms_t: ``[K]``, a support shared by all samples, or ``[..., K]``, the quantiles of the true next observations.

    Returns:
      ``[..., K]``, in decreasing order where ``discount_t`` is negative, as between two players.
    """
    r_t, discount_t = jnp.asarray(r_t), jnp.asarray(discount_t)
    return r_t[..., None] + discount_t[..., None] * jnp.broadcast_to(atoms_t, (*r_t.shape, atoms_t.shape[-1]))


def two_hot(value: Array, support: Array) -> Array:
    """Encodes a number as the distribution with that mean on the one or two nearest atoms.

    The weight of atom i is a triangle function, 1 at ``z_i`` and 0 at its neighbours. Numbers outside of the support
    get all weight on its end. Schrittwieser et al. 2020, arXiv:1911.08265, appendix F; Hafner et al. 2023,
    arXiv:2301.04104. ``categorical_mean`` decodes it.

    Args:
      value: ``[...]``, the numbers.
      support: ``[K]``, strictly increasing; a single atom gets all weight.

    Returns:
      ``[..., K]``, nonnegative with sum 1.

    >>> two_hot(jnp.array([0.25, 3.0, 99.0]), jnp.array([0.0, 1.0, 5.0])).tolist()
    [[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    """
    # Scaled by a power of two, which is exact, so that differences don't overflow.
    value = jnp.asarray(value)[..., None] / 16.0
    support = support / 16.0
    support = support.reshape((1,) * (value.ndim - 1) + (-1,))
    gap = jnp.diff(support, axis=-1)
    no_gap = jnp.ones_like(support[..., :1])  # outside of the support the clip makes the numerator 0
    offset = jnp.clip(value, support[..., :1], support[..., -1:]) - support
    # Divided by the gap, not multiplied by its inverse, so that the weight is exactly 1 at an atom and 0 at the next.
    above = offset / jnp.concatenate([gap, no_gap], axis=-1)
    below = -offset / jnp.concatenate([no_gap, gap], axis=-1)
    return jnp.maximum(1.0 - jnp.maximum(above, below), 0.0)


def project(atoms: Array, probs: Array, support: Array) -> Array:
    """Projects a distribution onto ``support``: each atom's mass is split between its two neighbours.

    ``q_i = sum_j p_j triangle_i(z_j)``: the projection in the Cramer distance, which preserves the mean unless clipped.
    No mass is lost on an atom or outside of the support, as it is with the floor and ceil of many tutorials. Bellemare
    et al. 2017, arXiv:1707.06887, eq. 7; Rowland et al. 2018, arXiv:1802.08163.

    Args:
      atoms: ``[..., K]``, positions in any order, per sample: see ``target_atoms``.
      probs: ``[..., K]``, their probabilities.
      support: ``[L]``, strictly increasing, with any spacing; L may differ from K.

    Returns:
      ``[..., L]`` with the same sum as ``probs``; mass outside of the support is moved to its end.

    >>> support = jnp.array([0.0, 1.0, 2.0])
    >>> project(support + 1.0, jnp.array([0.5, 0.25, 0.25]), support).tolist()
    [0.0, 0.5, 0.5]
    """
    # A matrix product in full float32: on CPU three times faster than the sum, and without TF32 on a GPU.
    return jnp.einsum("...k,...kl->...l", probs, two_hot(atoms, support), precision=jax.lax.Precision.HIGHEST)


def categorical_mean(probs: Array, support: Array) -> Array:
    """``sum_i p_i z_i``: the mean of a categorical distribution, and the decoder of ``two_hot`` and ``hl_gauss``.

    Args:
      probs: ``[..., K]``, probabilities.
      support: ``[K]``, the atoms; for ``hl_gauss`` the ``bin_centers``.

    Returns:
      ``[...]``.
    """
    # A sum, not a matrix product: on a GPU that would use TF32, with 3 digits, and choose wrong actions.
    return jnp.sum(probs * support.reshape((1,) * (probs.ndim - 1) + (-1,)), axis=-1)


def categorical_cross_entropy_term(logits: Array, target_probs: Array) -> Array:
    """``-sum_i q_i log p_i``, whose gradient is that of ``KL(q || p)``. Bellemare et al. 2017, algorithm 1.

    Args:
      logits: ``[..., K]``, the logits of p, finite, clipped to a quarter of the largest number.
      target_probs: ``[..., K]``, q, held constant.

    Returns:
      ``[...]``, to be minimised.
    """
    return -jnp.sum(jax.lax.stop_gradient(target_probs) * numerics.log_softmax(logits), axis=-1)


def quantile_midpoints(num_quantiles: int) -> Array:
    """``tau_i = (i + 1/2) / M``, i in [0, M): their quantiles are the best M equal atoms in the Wasserstein-1 distance.

    Dabney et al. 2018, arXiv:1710.10044, lemma 2.

    Args:
      num_quantiles: M.

    Returns:
      ``[M]`` float32.

    >>> quantile_midpoints(4).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    return (jnp.arange(num_quantiles, dtype=jnp.float32) + 0.5) / num_quantiles


def quantile_huber_term(quantiles: Array, target: Array, tau: Array, kappa: Any = 1.0) -> Array:
    """``sum_i mean_j |tau_i - 1[u_ij < 0]| L(u_ij) / kappa``, with ``u_ij = target_j - quantile_i``.

    L is Huber's loss, quadratic within kappa. A quantile is pulled up with weight tau and down with weight ``1 - tau``.
    The terms are summed over the quantiles and averaged over the targets. Dabney et al. 2018, arXiv:1710.10044, eq. 10,
    without the division by kappa; Dabney et al. 2018, arXiv:1806.06923 (IQN), eq. 3, with it. They agree at kappa 1.

    Args:
      quantiles: ``[..., M]``, the output of the online network.
      target: ``[..., M']``, atoms of equal weight, held constant: see ``target_atoms``.
      tau: ``[M]``, as ``quantile_midpoints``, or ``[..., M]``, drawn per sample as in IQN.
      kappa: scalar, in units of the return; 0 is quantile regression, whose minimisers are the empirical quantiles.

    Returns:
      ``[...]``, to be minimised.

    >>> tau, target = jnp.array([0.25]), jnp.array([3.0, -2.0])  # (0.25 * 3 + 0.75 * 2) / 2
    >>> quantile_huber_term(jnp.array([0.0]), target, tau, kappa=0.0).item()
    1.125
    """
    tau = jnp.broadcast_to(tau, quantiles.shape)[..., :, None]
    error = jax.lax.stop_gradient(target)[..., None, :] - quantiles[..., :, None]
    weight = jnp.where(error < 0, 1.0 - tau, tau)
    # L / kappa, written so that it becomes |u| at kappa = 0.
    size = jnp.abs(error)
    quadratic = jnp.minimum(size, kappa)
    # Divided first, so that it fits into the dtype wherever the term does.
    huber = 0.5 * quadratic * (quadratic / numerics.positive(kappa, quadratic.dtype)) + size - quadratic
    return jnp.sum(jnp.mean(jax.lax.stop_gradient(weight) * huber, axis=-1), axis=-1)


def bin_centers(edges: Array) -> Array:
    """The centre of each bin, for decoding ``hl_gauss``.

    Args:
      edges: ``[K + 1]``, increasing.

    Returns:
      ``[K]``.
    """
    return 0.5 * edges[1:] + 0.5 * edges[:-1]  # a sum of the largest numbers would overflow


def hl_gauss(value: Array, edges: Array, sigma: Any) -> Array:
    """Encodes a number as the histogram of a Gaussian around it, truncated to the range of the bins.

    ``p_i = (Phi((e_{i+1} - x) / sigma) - Phi((e_i - x) / sigma)) / Z``. Imani and White 2018, arXiv:1806.04613;
    Farebrother et al. 2024, arXiv:2403.03950, section 3.1, with sigma 0.75 bins. ``categorical_mean`` at the
    ``bin_centers`` decodes it, at that sigma with an error of 1e-5 bins, and with a larger one for a smaller sigma.
    Near an end of the range the truncation biases the mean inwards: let the bins extend a few sigma beyond the values.

    Args:
      value: ``[...]``, clipped to the range of the bins.
      edges: ``[K + 1]``, the edges of the bins, strictly increasing.
      sigma: scalar above 0, in units of the value.

    Returns:
      ``[..., K]``, nonnegative with sum 1.

    >>> [round(p, 4) for p in hl_gauss(jnp.array(0.5), jnp.array([-1.0, 0.0, 1.0, 2.0]), 0.5).tolist()]
    [0.1577, 0.6845, 0.1577]
    """
    value, dtype = jnp.asarray(value), jnp.result_type(value, edges)
    # Neighbouring values of Phi differ by less than the resolution of half precision. Scaled as in two_hot.
    wide = numerics.wide(dtype)
    value, edges = value.astype(wide) / 16.0, edges.astype(wide) / 16.0
    sigma = numerics.positive(sigma / 16.0, wide)
    value = jnp.clip(value, edges[0], edges[-1])[..., None]
    edges = edges.reshape((1,) * (value.ndim - 1) + (-1,))
    below = jax.scipy.special.ndtr((edges - value) / sigma)
    # The approximation of Phi is monotone only up to rounding errors.
    mass = jnp.maximum(jnp.diff(below, axis=-1), 0.0)
    total = jnp.sum(mass, axis=-1, keepdims=True)
    # If the Gaussian is so wide that Phi is equal at all edges, the histogram is uniform.
    flat = jnp.diff(edges / (edges[..., -1:] - edges[..., :1]), axis=-1)
    return jnp.where(total > 0, mass / jnp.where(total > 0, total, 1.0), flat).astype(dtype)


class Bins(NamedTuple):
    """Numbers as distributions over bins, so that a network can regress them by cross-entropy.

    ``encode(x)`` is ``two_hot(h(x))``, ``decode`` the mean brought back by the inverse of h. Schrittwieser et al. 2020,
    arXiv:1911.08265, appendix F; h is ``value.compress`` of Pohlen et al. 2018.

    Attributes:
      support: ``[M]`` the positions of the bins.
      compressed: Python bool, False where numbers have a range of their own and h is the identity.
    """

    support: Array
    compressed: bool

    @classmethod
    def of_returns(cls, size: int) -> Bins:
        """The integers from ``-size`` to ``size``, for ``h(x)``; 20 are enough for x to 422, 300 for x to 58,000."""
        return cls(jnp.arange(-size, size + 1, dtype=jnp.float32), True)

    @classmethod
    def of_range(cls, size: int) -> Bins:
        """``2 size + 1`` bins from -1 to 1."""
        return cls(jnp.arange(-size, size + 1, dtype=jnp.float32) / size, False)

    @property
    def size(self) -> int:
        """M."""
        return self.support.shape[0]

    def encode(self, x: Array) -> Array:
        """From ``[...]`` to distributions ``[..., M]``; what lies beyond an end is on the end."""
        return two_hot(compress(x) if self.compressed else x, self.support)

    def decode(self, logits: Array) -> Array:
        """From logits ``[..., M]`` to ``[...]``.

        >>> bins = Bins.of_returns(5)
        >>> [round(x, 3) for x in bins.decode(jnp.log(bins.encode(jnp.array([-7.5, 0.0, 20.0])))).tolist()]
        [-7.5, 0.0, 20.0]
        """
        mean = categorical_mean(jax.nn.softmax(logits), self.support)
        return expand(mean) if self.compressed else mean


__all__ = [
    "Bins",
    "bin_centers",
    "categorical_cross_entropy_term",
    "categorical_mean",
    "hl_gauss",
    "project",
    "quantile_huber_term",
    "quantile_midpoints",
    "target_atoms",
    "two_hot",
]


def __dir__() -> list[str]:
    return sorted(__all__)
