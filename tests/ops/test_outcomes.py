"""Returns whose end is not known yet, against a loop over one whole game."""

import jax.numpy as jnp
import numpy as np

from jaxrl.ops.outcomes import open_returns
from jaxrl.ops.value import compress, expand


def slow(reward, discount, value, ends):
    """The return of each step of ``[T]`` lists, None where it is not known at the end."""
    found = []
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for k in range(t, len(reward)):
            total += weight * reward[k]
            weight *= discount[k]
            if ends[k]:
                found.append(total + weight * value[k])
                break
        else:
            found.append(None)
    return found


def drawn(length, num, seed=0):
    generator = np.random.default_rng(seed)
    terminated = generator.random((length, num)) < 0.2
    truncated = (generator.random((length, num)) < 0.15) & ~terminated
    discount = np.where(terminated, 0.0, generator.choice([-1.0, 1.0], (length, num))) * 0.9
    reward, value = generator.normal(size=(2, length, num))
    return [x.astype(np.float32) for x in (reward, discount, value)], terminated | truncated


def test_returns_equal_a_loop_where_the_end_was_seen():
    (reward, discount, value), ends = drawn(17, 5)
    total, weight = open_returns(*map(jnp.asarray, (reward, discount, value, ~ends)))
    known = 0
    for b in range(5):
        for t, expected in enumerate(slow(reward[:, b], discount[:, b], value[:, b], ends[:, b])):
            assert (weight[t, b] == 0) == (expected is not None)
            if expected is not None:
                known += 1
                np.testing.assert_allclose(total[t, b], expected, rtol=1e-5, atol=1e-6)
    assert 40 < known < 17 * 5


def test_two_halves_are_the_whole():
    (reward, discount, value), ends = drawn(16, 4, seed=1)
    whole = open_returns(*map(jnp.asarray, (reward, discount, value, ~ends)))
    first, second = (
        open_returns(*(jnp.asarray(x[half]) for x in (reward, discount, value, ~ends)))
        for half in (slice(0, 9), slice(9, 16))
    )
    np.testing.assert_allclose(whole[0][:9], first[0] + first[1] * second[0][:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole[1][:9], first[1] * second[1][:1], rtol=1e-6)


def test_values_of_any_size_are_compressed_and_come_back():
    import rlax

    x = jnp.array([-1e5, -300.0, -1.0, -1e-3, 0.0, 1e-4, 0.5, 2.0, 500.0, 1e6])
    np.testing.assert_allclose(compress(x), rlax.signed_hyperbolic(x), rtol=1e-6)
    np.testing.assert_allclose(expand(compress(x)), x, rtol=1e-4, atol=1e-6)
    assert (jnp.diff(compress(x)) > 0).all()
