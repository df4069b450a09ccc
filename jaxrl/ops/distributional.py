"""Distributions of returns: categorical on fixed atoms, quantiles, and numbers written as histograms.

K atoms or bins, M quantiles; batch axes in front, ``[...]``. A *support* is the increasing positions of the atoms,
``[K]``, of any spacing; probabilities on it are ``[..., K]``. Losses are terms, one number a sample: the caller takes
the mean, or the weighted one. Targets are constants: the gradient is stopped on them, in the losses.

Of the next distribution, for each sample: ``target_atoms`` moves its atoms by reward and discount. Quantiles are then
targets as they are; categorical ones are brought back to the support by ``project``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics

Array = jax.Array


def target_atoms(r_t: Array, discount_t: Array, atoms_t: Array) -> Array:
    """The distributional Bellman operator on positions: ``r_t + discount_t z``.

    Bellemare, Dabney and Munos 2017, arXiv:1707.06887, section 3.

    Args:
      r_t: ``[...]`` rewards, or sums of n of them.
      discount_t: ``[...]`` discounts, gamma included, of what comes after.
      atoms_t: ``[K]`` a support shared by all samples, or ``[..., K]`` quantiles of the true next observations.

    Returns:
      ``[..., K]``; in falling order where ``discount_t`` is negative, as between two players.
    """
    r_t, discount_t = jnp.asarray(r_t), jnp.asarray(discount_t)
    return r_t[..., None] + discount_t[..., None] * jnp.broadcast_to(atoms_t, (*r_t.shape, atoms_t.shape[-1]))


def two_hot(value: Array, support: Array) -> Array:
    """A number as a distribution with that mean on the one or two atoms around it.

    The weight of atom i is the triangle that is 1 at ``z_i`` and 0 at its neighbours. Beyond the ends all of it lies
    on the end. Schrittwieser et al. 2020, arXiv:1911.08265, appendix F; Hafner et al. 2023, arXiv:2301.04104.
    Decode by ``categorical_mean``.

    Args:
      value: ``[...]``.
      support: ``[K]`` strictly increasing; a single atom takes everything.

    Returns:
      ``[..., K]`` never negative, of sum 1.

    >>> two_hot(jnp.array([0.25, 3.0, 99.0]), jnp.array([0.0, 1.0, 5.0])).tolist()
    [[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    """
    # Scaled by a power of two, which leaves the digits of ratios as they are, so that differences don't overflow.
    value = jnp.asarray(value)[..., None] / 16.0
    support = support / 16.0
    support = support.reshape((1,) * (value.ndim - 1) + (-1,))
    gap = jnp.diff(support, axis=-1)
    no_gap = jnp.ones_like(support[..., :1])  # beyond an end, where the clip leaves nothing to divide
    offset = jnp.clip(value, support[..., :1], support[..., -1:]) - support
    # Divided by the gap, not multiplied by its inverse: that makes an atom exactly 1 at itself, and 0 at the next.
    above = offset / jnp.concatenate([gap, no_gap], axis=-1)
    below = -offset / jnp.concatenate([no_gap, gap], axis=-1)
    return jnp.maximum(1.0 - jnp.maximum(above, below), 0.0)


def project(atoms: Array, probs: Array, support: Array) -> Array:
    """The distribution on ``support`` nearest to one on other atoms: each atom's mass goes to its two neighbours.

    ``q_i = sum_j p_j triangle_i(z_j)``: the nearest in the Cramer distance, of the same mean unless clipped. No mass is
    lost on an atom or beyond an end, as it is by the floor and ceil of many tutorials. Bellemare et al. 2017,
    arXiv:1707.06887, eq. 7; Rowland et al. 2018, arXiv:1802.08163.

    Args:
      atoms: ``[..., K]`` positions, in any order, each sample's own: see ``target_atoms``.
      probs: ``[..., K]`` their masses.
      support: ``[L]`` strictly increasing, of any spacing; L need not be K.

    Returns:
      ``[..., L]`` of the same sum as ``probs``; what lies beyond an end is on the end.

    >>> support = jnp.array([0.0, 1.0, 2.0])
    >>> project(support + 1.0, jnp.array([0.5, 0.25, 0.25]), support).tolist()
    [0.0, 0.5, 0.5]
    """
    # A product of matrices in full float32: on CPU three times faster than the sum, on a GPU not left to TF32.
    return jnp.einsum("...k,...kl->...l", probs, two_hot(atoms, support), precision=jax.lax.Precision.HIGHEST)


def categorical_mean(probs: Array, support: Array) -> Array:
    """``sum_i p_i z_i``: the value of a categorical distribution, and the decoding of ``two_hot`` and ``hl_gauss``.

    Args:
      probs: ``[..., K]``.
      support: ``[K]`` atoms; for ``hl_gauss`` the ``bin_centers``.

    Returns:
      ``[...]``.
    """
    # A sum, not a product of matrices: that would be in TF32 on a GPU, 3 digits, and choose the wrong actions.
    return jnp.sum(probs * support.reshape((1,) * (probs.ndim - 1) + (-1,)), axis=-1)


def categorical_cross_entropy_term(logits: Array, target_probs: Array) -> Array:
    """``-sum_i q_i log p_i``, whose gradient is that of ``KL(q || p)``. Bellemare et al. 2017, algorithm 1.

    Args:
      logits: ``[..., K]`` of p, finite, and less than the largest number of their dtype apart.
      target_probs: ``[..., K]`` q, held constant.

    Returns:
      ``[...]`` to be minimised.
    """
    return -jnp.sum(jax.lax.stop_gradient(target_probs) * jax.nn.log_softmax(logits), axis=-1)


def quantile_midpoints(num_quantiles: int) -> Array:
    """``tau_i = (i + 1/2) / M``, i in [0, M): whose quantiles are the best M equal atoms in Wasserstein-1.

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

    L is Huber's loss, square within kappa. A quantile is pulled up with weight tau and down with ``1 - tau``. Summed
    over one's own quantiles, averaged over the targets. Dabney et al. 2018, arXiv:1710.10044, eq. 10, whose loss is
    not divided by kappa; Dabney et al. 2018, arXiv:1806.06923 (IQN), eq. 3, as here. At kappa 1 they are the same.

    Args:
      quantiles: ``[..., M]`` of the network in training.
      target: ``[..., M']`` atoms of equal weight, held constant: see ``target_atoms``.
      tau: ``[M]``, as ``quantile_midpoints``, or ``[..., M]`` each sample's own, drawn as IQN does.
      kappa: scalar, in units of the return; 0 is quantile regression, whose minimisers are the empirical quantiles.

    Returns:
      ``[...]`` to be minimised.

    >>> tau, target = jnp.array([0.25]), jnp.array([3.0, -2.0])  # (0.25 * 3 + 0.75 * 2) / 2
    >>> quantile_huber_term(jnp.array([0.0]), target, tau, kappa=0.0).item()
    1.125
    """
    tau = jnp.broadcast_to(tau, quantiles.shape)[..., :, None]
    error = jax.lax.stop_gradient(target)[..., None, :] - quantiles[..., :, None]
    weight = jnp.where(error < 0, 1.0 - tau, tau)
    # L / kappa, such that it is |u| at 0, where the square has no room.
    size = jnp.abs(error)
    quadratic = jnp.minimum(size, kappa)
    huber = 0.5 * jnp.square(quadratic) / numerics.positive(kappa, quadratic.dtype) + size - quadratic
    return jnp.sum(jnp.mean(jax.lax.stop_gradient(weight) * huber, axis=-1), axis=-1)


def bin_centers(edges: Array) -> Array:
    """The middle of each bin, where ``hl_gauss`` is decoded.

    Args:
      edges: ``[K + 1]`` increasing.

    Returns:
      ``[K]``.
    """
    return 0.5 * (edges[1:] + edges[:-1])


def hl_gauss(value: Array, edges: Array, sigma: Any) -> Array:
    """A number as the histogram of a Gaussian around it, cut to the range of the bins.

    ``p_i = (Phi((e_{i+1} - x) / sigma) - Phi((e_i - x) / sigma)) / Z``. Imani and White 2018, arXiv:1806.04613;
    Farebrother et al. 2024, arXiv:2403.03950, section 3.1, with sigma 0.75 bins. Decoded by ``categorical_mean`` at
    the ``bin_centers`` it is the number again, to a hundred-thousandth of a bin at that sigma, less well below. Near an
    end the cut pulls it inwards: let the bins reach a few sigma further than the values.

    Args:
      value: ``[...]``, clipped to the range of the bins.
      edges: ``[K + 1]`` of the bins, strictly increasing.
      sigma: scalar above 0, in units of the value.

    Returns:
      ``[..., K]`` never negative, of sum 1.

    >>> [round(p, 4) for p in hl_gauss(jnp.array(0.5), jnp.array([-1.0, 0.0, 1.0, 2.0]), 0.5).tolist()]
    [0.1577, 0.6845, 0.1577]
    """
    value, dtype = jnp.asarray(value), jnp.result_type(value, edges)
    # Neighbouring values of Phi differ by less than half precision resolves.
    value, edges = value.astype(numerics.wide(dtype)), edges.astype(numerics.wide(dtype))
    value = jnp.clip(value, edges[0], edges[-1])[..., None]
    edges = edges.reshape((1,) * (value.ndim - 1) + (-1,))
    below = jax.scipy.special.ndtr((edges - value) / sigma)
    # The approximation of Phi is monotone only up to rounding, and no device promises more.
    mass = jnp.maximum(jnp.diff(below, axis=-1), 0.0)
    total = jnp.sum(mass, axis=-1, keepdims=True)
    # A Gaussian so wide that Phi is the same at all edges is flat over them.
    flat = jnp.diff(edges / (edges[..., -1:] - edges[..., :1]), axis=-1)
    return jnp.where(total > 0, mass / jnp.where(total > 0, total, 1.0), flat).astype(dtype)
