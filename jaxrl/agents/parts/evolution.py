"""Evolution strategies on a vector of parameters, by evosax. Legend of shapes: N candidates, P parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops import across
from jaxrl.types import Array

Strategy = Literal["cma_es", "sep_cma_es"]


def evolve(
    key: Array,
    mean: Array,
    fitness: Callable[[Array, Array], Array],
    *,
    population: int,
    num_generations: int,
    sigma: Any,
    strategy: Strategy = "cma_es",
) -> tuple[Array, Array]:
    """Moves the mean of a Gaussian over parameters to where fitness is high. Hansen 2016, arXiv:1604.00772.

    The result is the mean and not the best candidate, which is the luckiest of many noisy evaluations.

    Args:
      key: consumed; that of the first device, where environments are split over several.
      mean: ``[P]``, where it starts.
      fitness: ``(key, candidates [N, P]) -> [N]``, to be maximised; a NaN is the worst. All candidates of a generation
        get one key, so that they can be compared on equal luck.
      population: N.
      num_generations: how many populations are evaluated.
      sigma: the standard deviation at first; may be a tracer.
      strategy: "cma_es" decomposes a matrix ``[P, P]`` in every generation, "sep_cma_es" (Ros and Hansen 2008) keeps a
        diagonal one, for thousands of parameters.

    Returns:
      ``(mean [P], curve [num_generations])``, the mean fitness of each population.
    """
    from evosax.algorithms import CMA_ES, Sep_CMA_ES  # loads slowly

    with jax.ensure_compile_time_eval():  # its constants are kept in an object, where tracers have no place
        algorithm = (CMA_ES if strategy == "cma_es" else Sep_CMA_ES)(population, np.zeros(mean.shape, np.float32))
        settings = algorithm.default_params
    settings = settings.replace(std_init=jnp.asarray(sigma, jnp.float32))
    init_key, key = jax.random.split(common(key))

    def generation(state: Any, key: Array) -> tuple[Any, Array]:
        ask_key, fitness_key, tell_key = jax.random.split(key, 3)
        candidates, state = algorithm.ask(ask_key, state, settings)
        found = fitness(fitness_key, candidates.astype(jnp.float32))
        cost = jnp.where(jnp.isnan(found), jnp.inf, -found)
        state, _ = algorithm.tell(tell_key, candidates, cost, state, settings)
        return state, found.mean()

    # A strict session is about jaxrl's code, and evosax relies on rank promotion and on JAX's default dtype.
    with jax.numpy_rank_promotion("allow"):
        start = algorithm.init(init_key, mean, settings)
        wide = jnp.zeros(()).dtype
        start = jax.tree.map(
            lambda leaf: leaf.astype(wide) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, start
        )
        state, curve = jax.lax.scan(generation, start, jax.random.split(key, num_generations))
        return algorithm.get_mean(state).astype(jnp.float32), curve


def common(key: Array) -> Array:
    """The key at index 0 of the axis ``across.AXIS``: what is drawn from it is the same for all devices."""
    if across.size() == 1:
        return key
    shared = across.total(jnp.where(across.index() == 0, jax.random.key_data(key), jnp.uint32(0)))
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(shared, impl=jax.random.key_impl(key)) if is_typed else shared
