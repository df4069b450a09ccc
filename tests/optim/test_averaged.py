import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl import optim
from jaxrl.ops import across

GRADIENTS = {"w": jnp.array([[3.0, 0.0], [0.0, 4.0], [3.0, 4.0], [0.0, 0.0]]), "b": jnp.array([0.0, 8.0, 0.0, 0.0])}
MEAN = {"w": jnp.array([1.5, 2.0]), "b": jnp.array(2.0)}


def steps(optimizer, axis=across.AXIS):
    """The step of each of four members, leaves ``[4, ...]``."""

    def of_one(grads):
        params = jax.tree.map(jnp.zeros_like, grads)
        return optimizer.update(grads, optimizer.init(params), params)[0]

    return jax.vmap(of_one, axis_name=axis)(GRADIENTS)


def assert_all_are(updates, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(updates[name], jnp.stack([value] * 4), rtol=1e-6)


def test_all_take_the_step_of_the_mean():
    assert_all_are(steps(optim.averaged(optax.sgd(1.0))), jax.tree.map(jnp.negative, MEAN))


def test_the_clip_is_of_the_mean():
    norm = optax.tree.norm(MEAN)
    clipped = jax.tree.map(lambda x: -x / norm, MEAN)
    for make in (optax.sgd, lambda rate: optax.chain(optax.sgd(rate))):  # on one flat vector, and on the parameters
        assert_all_are(steps(optim.clipped(make, 1.0, max_grad_norm=1.0)), clipped)


def test_another_axis_is_another_axis():
    assert_all_are(steps(optim.averaged(optax.sgd(1.0), "hosts"), "hosts"), jax.tree.map(jnp.negative, MEAN))
    np.testing.assert_allclose(steps(optim.averaged(optax.sgd(1.0), "hosts"))["b"], -GRADIENTS["b"])


def test_alone_it_is_the_optimizer_with_its_state():
    inner = optax.adam(0.1)
    wrapped = optim.averaged(inner)
    assert jax.tree.structure(wrapped.init(MEAN)) == jax.tree.structure(inner.init(MEAN))
    ours, theirs = (optimizer.update(MEAN, optimizer.init(MEAN), MEAN)[0] for optimizer in (wrapped, inner))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_what_an_optimizer_asks_beside_the_gradient_reaches_it():
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=3))
    value_fn = lambda x: jnp.sum(x**2)  # noqa: E731
    x = jnp.array([1.0, 2.0])
    extra = {"value": value_fn(x), "grad": 2 * x, "value_fn": value_fn}
    ours, theirs = (o.update(2 * x, o.init(x), x, **extra)[0] for o in (optim.averaged(search), search))
    np.testing.assert_array_equal(ours, theirs)
