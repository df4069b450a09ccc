"""The natural gradient against explicit matrices, and the trust region that its step never leaves."""

import doctest
import importlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxrl import optim
from jaxrl.networks.heads import CategoricalHead, GaussianHead

natural_gradient = importlib.import_module("jaxrl.optim.natural_gradient")  # by name, which the package's own hides

N, D = 16, 3
HEADS = {"discrete": CategoricalHead(4, scale=1.0), "continuous": GaussianHead(2, initial_log_std=-0.3, scale=1.0)}


class Problem:
    """A small policy at random parameters, its divergence, and the surrogate of random advantages."""

    def __init__(self, kind, seed=0):
        keys = jax.random.split(jax.random.key(seed), 5)
        self.kind, head, self.x = kind, HEADS[kind], jax.random.normal(keys[0], (N, D))
        self.params = {"hidden": jax.random.normal(keys[1], (D, 4)), "head": head.init(keys[2], jnp.zeros((1, 4)))}
        self.policy = lambda params: head.apply(params["head"], jnp.tanh(self.x @ params["hidden"]))
        self.old = self.policy(self.params)
        self.action, self.advantage = self.old.sample(seed=keys[3]), jax.random.normal(keys[4], (N,))

    def divergence(self, params):
        return self.old.kl_divergence(self.policy(params)).mean()

    def value(self, params):
        ratio = jnp.exp(self.policy(params).log_prob(self.action) - self.old.log_prob(self.action))
        return -(ratio * self.advantage).mean()

    def step(self, optimizer, scale=1.0):
        grads = jax.tree.map(lambda g: scale * g, jax.grad(self.value)(self.params))
        functions = {"value_fn": self.value, "divergence_fn": self.divergence}
        updates, state = optimizer.update(grads, optimizer.init(self.params), self.params, **functions)
        return updates, state

    def explicit_fisher(self):
        """``E_x E_a grad log pi grad log pi^T``, actions summed out, or the Gaussian's own Fisher matrix."""
        flat, unravel = ravel_pytree(self.params)
        if self.kind == "discrete":
            log_probs = lambda flat: jax.nn.log_softmax(self.policy(unravel(flat)).logits)  # noqa: E731
            scores, probs = np.asarray(jax.jit(jax.jacobian(log_probs))(flat), np.float64), np.exp(log_probs(flat))
            return np.einsum("na,nai,naj->ij", probs, scores, scores) / N
        moments = lambda flat: (self.policy(unravel(flat)).loc, jnp.log(self.policy(unravel(flat)).scale_diag))  # noqa: E731
        of_mean, of_log_std = (np.asarray(x, np.float64) for x in jax.jit(jax.jacobian(moments))(flat))
        std = np.exp(np.asarray(moments(flat)[1], np.float64))
        # Of N(mu, sigma): 1 / sigma^2 for mu, 2 for log sigma.
        whitened = of_mean / std[..., None]
        return (np.einsum("nai,naj->ij", whitened, whitened) + 2 * np.einsum("nai,naj->ij", of_log_std, of_log_std)) / N


@pytest.fixture(scope="module", params=HEADS)
def problem(request):
    return Problem(request.param)


@cache
def stepped(kind):
    """Jitted ``(seed, max_divergence) -> (what was found, divergence, value before, value after)``."""

    @jax.jit
    def step(seed, max_divergence):
        there = Problem(kind, seed)
        updates, (_, found) = there.step(optim.trust_region(max_divergence, damping=1e-3, num_backtracks=30))
        after = optax.apply_updates(there.params, updates)
        return found, there.divergence(after), there.value(there.params), there.value(after)

    return step


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_product_is_that_of_the_explicit_matrix(problem, damping):
    fisher = problem.explicit_fisher() + damping * np.eye(ravel_pytree(problem.params)[0].size)
    product = jax.jit(optim.fisher_vector_product(problem.divergence, problem.params, damping))
    for seed in range(3):
        v = jax.tree.map(lambda p, s=seed: jnp.cos(7.0 * p + s), problem.params)
        expected = fisher @ np.asarray(ravel_pytree(v)[0], np.float64)
        np.testing.assert_allclose(ravel_pytree(product(v))[0], expected, rtol=1e-4, atol=1e-5)


def test_the_step_solves_the_damped_system(problem):
    """Enough conjugate-gradient steps give the direction of the dense solution, at the length of the bound."""
    delta, damping = 0.02, 0.1
    updates, _ = jax.jit(lambda: problem.step(optim.natural_gradient(delta, num_cg_steps=100, damping=damping)))()
    gradient = np.asarray(ravel_pytree(jax.grad(problem.value)(problem.params))[0], np.float64)
    damped = problem.explicit_fisher() + damping * np.eye(gradient.size)
    x = np.linalg.solve(damped, gradient)
    expected = -np.sqrt(2 * delta / (x @ damped @ x)) * x
    np.testing.assert_allclose(ravel_pytree(updates)[0], expected, rtol=2e-3, atol=1e-5)


class TestQuadratic:
    """``g^T s`` under ``s^T A s / 2 <= delta`` is least at ``-sqrt(2 delta / g^T A^-1 g) A^-1 g``."""

    A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
    SLOPE = np.array([1.0, -2.0, 0.5])
    START = {"a": jnp.array([0.3, -0.2]), "b": jnp.array(1.0)}

    def functions(self):
        flat, _ = ravel_pytree(self.START)
        moved = lambda params: ravel_pytree(params)[0] - flat  # noqa: E731
        divergence = lambda params: 0.5 * moved(params) @ jnp.asarray(self.A, jnp.float32) @ moved(params)  # noqa: E731
        return {"divergence_fn": divergence, "value_fn": lambda p: jnp.asarray(self.SLOPE, jnp.float32) @ moved(p)}

    def update(self, optimizer, grads):
        """Of the optimizer in this problem, compiled as one program."""
        state, functions = optimizer.init(self.START), self.functions()
        return jax.jit(lambda grads: optimizer.update(grads, state, self.START, **functions))(grads)

    def closed_form(self, delta):
        x = np.linalg.solve(self.A, self.SLOPE)
        return -np.sqrt(2 * delta / (self.SLOPE @ x)) * x

    def test_closed_form(self):
        grads = ravel_pytree(self.START)[1](jnp.asarray(self.SLOPE, jnp.float32))
        optimizer = optim.natural_gradient(0.05, damping=0.0)
        updates, _ = self.update(optimizer, grads)
        step = np.asarray(ravel_pytree(updates)[0], np.float64)
        np.testing.assert_allclose(step, self.closed_form(0.05), rtol=1e-4)
        np.testing.assert_allclose(0.5 * step @ self.A @ step, 0.05, rtol=1e-4)
        # No other step of this divergence goes down further.
        others = np.random.default_rng(0).normal(size=(1000, 3))
        others *= np.sqrt(0.1 / np.einsum("ni,ij,nj->n", others, self.A, others))[:, None]
        assert self.SLOPE @ step < (others @ self.SLOPE).min() + 1e-4

    def test_one_step_of_conjugate_gradient_is_steepest_descent(self):
        grads = ravel_pytree(self.START)[1](jnp.asarray(self.SLOPE, jnp.float32))
        optimizer = optim.natural_gradient(0.05, num_cg_steps=1, damping=0.0)
        updates, _ = self.update(optimizer, grads)
        expected = -np.sqrt(0.1 / (self.SLOPE @ self.A @ self.SLOPE)) * self.SLOPE
        np.testing.assert_allclose(ravel_pytree(updates)[0], expected, rtol=1e-4)

    @pytest.mark.parametrize(("too_long", "tries"), [(0.9, 0), (1.4, 1), (3.0, 4)])
    def test_the_search_takes_the_first_power_that_fits(self, too_long, tries):
        decay, delta = 0.7, 0.05
        step = ravel_pytree(self.START)[1](jnp.asarray(too_long * self.closed_form(delta), jnp.float32))
        search = optim.backtrack(delta, decay=decay)
        updates, found = self.update(search, step)
        assert decay**tries * too_long <= 1 < decay ** (tries - 1) * too_long or tries == 0
        np.testing.assert_allclose(found.scale, decay**tries, rtol=1e-6)
        np.testing.assert_allclose(found.divergence, delta * (too_long * decay**tries) ** 2, rtol=1e-4)
        np.testing.assert_allclose(
            found.improvement, -self.SLOPE @ self.closed_form(delta) * too_long * decay**tries, rtol=1e-4
        )
        jax.tree.map(lambda u, s: np.testing.assert_allclose(u, decay**tries * s, rtol=1e-5), updates, step)

    @pytest.mark.parametrize("broken", ["uphill", "too far", "nan"])
    def test_no_step_where_none_is_good(self, broken):
        down = jnp.asarray(self.closed_form(0.05), jnp.float32)
        step = {"uphill": -down, "too far": 100.0 * down, "nan": down * jnp.nan}[broken]
        search = optim.backtrack(0.05, num_backtracks=5)
        given = ravel_pytree(self.START)[1](step)
        updates, found = self.update(search, given)
        assert all((np.asarray(u) == 0.0).all() for u in jax.tree.leaves(updates))
        assert tuple(map(float, found)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("max_divergence", [1e-4, 0.01, 0.1, 1.0, 10.0])
def test_the_divergence_is_never_above_its_bound(problem, max_divergence):
    taken = 0
    for seed in range(5):
        found, divergence, before, after = stepped(problem.kind)(seed, max_divergence)
        assert divergence <= max_divergence * (1 + 1e-5)
        np.testing.assert_allclose(found.divergence, divergence, rtol=1e-3, atol=1e-6)
        assert after < before if found.scale else found.improvement == 0.0
        taken += bool(found.scale)
    assert taken == 5


def test_a_gradient_of_zero_is_no_step(problem):
    updates, (_, found) = problem.step(optim.trust_region(0.01), scale=0.0)
    assert all((np.asarray(u) == 0.0).all() for u in jax.tree.leaves(updates))
    assert found.scale == 0.0


def test_jit_vmap_and_traced_floats(problem):
    """Lengths of search differ in a batch; each member ends where it ends alone."""

    def step(stretch, damping, decay):
        parts = optim.natural_gradient(stretch * 0.05, damping=damping), optim.backtrack(0.05, decay=decay)
        return problem.step(optax.chain(*parts))

    floats = (jnp.array([0.5, 10.0, 50.0]), jnp.array([0.1, 0.03, 0.01]), jnp.array([0.8, 0.5, 0.7]))
    together = jax.jit(jax.vmap(step))(*floats)
    alone = [jax.jit(step)(*(float(f[i]) for f in floats)) for i in range(3)]
    assert len({float(found.scale) for _, (_, found) in alone}) == 3
    for i, one in enumerate(alone):
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=2e-3, atol=1e-3), together, one)


@pytest.mark.parametrize("make", [optim.natural_gradient, optim.backtrack])
def test_params_are_asked_for_by_name(make):
    optimizer = make(0.01)
    with pytest.raises(ValueError, match=rf"params: {make.__name__}.update got None"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), value_fn=jnp.sum, divergence_fn=jnp.sum)


@pytest.mark.parametrize(
    ("make", "argument", "value"),
    [
        (optim.natural_gradient, "max_divergence", -1.0),
        (optim.natural_gradient, "max_divergence", "a"),
        (optim.natural_gradient, "num_cg_steps", 0),
        (optim.natural_gradient, "damping", -0.1),
        (optim.backtrack, "max_divergence", 0.0),
        (optim.backtrack, "num_backtracks", 0),
        (optim.backtrack, "decay", 1.5),
        (optim.trust_region, "decay", 1.0),
    ],
)
def test_bad_arguments_are_refused_by_name(make, argument, value):
    with pytest.raises((TypeError, ValueError), match=f"{argument}: got"):
        make(**{"max_divergence": 0.01, argument: value})


@pytest.mark.parametrize("lacking", ["value_fn", "divergence_fn"])
def test_functions_are_asked_for_by_name_and_give_scalars(lacking):
    optimizer, params = optim.trust_region(0.01), jnp.ones(2)
    functions = {"value_fn": jnp.sum, "divergence_fn": jnp.sum}
    update = lambda given: optimizer.update(params, optimizer.init(params), params, **given)  # noqa: E731
    with pytest.raises(TypeError, match=f"{lacking}: update got None, must be a function from parameters to a scalar"):
        update({name: function for name, function in functions.items() if name != lacking})
    with pytest.raises(TypeError, match=rf"{lacking}: got a function that returns shape \(2,\), must be"):
        update({**functions, lacking: jnp.square})


def test_the_example_in_the_docstring():
    result = doctest.testmod(natural_gradient)
    assert result.attempted > 0 and result.failed == 0
