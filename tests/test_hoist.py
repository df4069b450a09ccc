"""The hoisted scan equals the plain one, and does hoist."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import hoist


def noisy_walk(carry, key):
    noise = jax.random.normal(key, (3,))
    carry = carry * 0.9 + noise
    return carry, (carry.sum(), noise)


def equal_trees(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        assert a.dtype == b.dtype


def loop_primitives(function, *args):
    """The primitives inside the scan of a function's jaxpr."""
    found = set()

    def visit(jaxpr, inside):
        for equation in jaxpr.eqns:
            if inside:
                found.add(equation.primitive.name)
            for value in equation.params.values():
                for inner in value if isinstance(value, (tuple, list)) else [value]:
                    if hasattr(inner, "jaxpr"):
                        visit(inner.jaxpr, inside or equation.primitive.name == "scan")

    visit(jax.make_jaxpr(function)(*args).jaxpr, False)
    return found


def test_equals_the_plain_scan():
    keys = jax.random.split(jax.random.key(0), 7)
    init = jnp.ones(3)
    equal_trees(hoist.scan(noisy_walk, init, keys), jax.lax.scan(noisy_walk, init, keys))


def test_random_numbers_leave_the_loop():
    keys = jax.random.split(jax.random.key(0), 7)
    plain = loop_primitives(lambda k: jax.lax.scan(noisy_walk, jnp.ones(3), k), keys)
    hoisted = loop_primitives(lambda k: hoist.scan(noisy_walk, jnp.ones(3), k), keys)
    assert "random_bits" in plain
    assert "random_bits" not in hoisted and "erf_inv" not in hoisted


def test_large_results_stay_in_the_loop():
    def body(carry, key):
        image = jnp.zeros((40, 40)).at[jax.random.randint(key, (), 0, 40)].set(1.0)
        return carry + image.sum(), image

    keys = jax.random.split(jax.random.key(0), 7)
    primitives = loop_primitives(lambda k: hoist.scan(body, jnp.zeros(()), k), keys)
    assert "scatter" in primitives and "random_bits" not in primitives
    equal_trees(hoist.scan(body, jnp.zeros(()), keys), jax.lax.scan(body, jnp.zeros(()), keys))


def test_closed_over_tracers_literals_and_passed_through_inputs():
    def run(scan, scale):
        def body(carry, x):
            return carry + 1, (x["a"], carry * scale, x["b"] * scale, 2.0)

        return scan(body, jnp.zeros((), jnp.int32), {"a": jnp.arange(4), "b": jnp.arange(4.0)})

    with jax.numpy_rank_promotion("allow"):
        plain = jax.jit(lambda s: run(jax.lax.scan, s))(3.0)
        equal_trees(jax.jit(lambda s: run(hoist.scan, s))(3.0), plain)
        over = jnp.array([1.0, 2.0])
        equal_trees(jax.vmap(lambda s: run(hoist.scan, s))(over), jax.vmap(lambda s: run(jax.lax.scan, s))(over))


def test_nested_scans_conds_and_custom_gradients_are_carried_over():
    def body(carry, key):
        inner, _ = jax.lax.scan(lambda c, _: (jax.nn.relu(c) + 1.0, None), jax.random.uniform(key), length=3)
        chosen = jax.lax.cond(inner > 3.5, lambda x: x, lambda x: -x, inner)
        return carry + jax.nn.silu(chosen), carry

    keys = jax.random.split(jax.random.key(1), 5)
    equal_trees(hoist.scan(body, jnp.zeros(()), keys), jax.lax.scan(body, jnp.zeros(()), keys))
    gradient = jax.grad(lambda c: hoist.scan(lambda c, k: body(c * 1.5, k), c, keys)[0])(jnp.ones(()))
    np.testing.assert_allclose(gradient, 1.5**5, rtol=1e-5)


def test_side_effects_stay_in_the_loop_and_in_order():
    seen = []

    def body(carry, x):
        jax.debug.callback(lambda v: seen.append(int(v)), x, ordered=True)
        return carry + x, None

    carry, _ = hoist.scan(body, jnp.zeros((), jnp.int32), jnp.arange(5))
    jax.effects_barrier()
    assert int(carry) == 10 and seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["CartPole-v1", "DeepSea-bsuite", "FourRooms-misc", "Breakout-MinAtar"])
def test_environments_step_the_same(name):
    env, params = gymnax.make(name)

    def run(scan, key):
        def body(state, key):
            act_key, step_key = jax.random.split(key)
            action = env.action_space(params).sample(act_key)
            observation, state, reward, terminated, truncated, info = env.step(step_key, state, action, params)
            return state, (observation, reward, terminated | truncated, info["final_observation"])

        _, state = env.reset(key, params)
        return scan(body, state, jax.random.split(key, 60))[1]

    with jax.numpy_rank_promotion("allow"):
        equal_trees(jax.jit(lambda k: run(hoist.scan, k))(jax.random.key(3)),
                    jax.jit(lambda k: run(jax.lax.scan, k))(jax.random.key(3)))  # fmt: skip


def test_nothing_to_hand_over_and_no_steps():
    keys = jax.random.split(jax.random.key(0), 5)
    carry, ys = hoist.scan(lambda c, _: (c + 1, c), jnp.zeros((), jnp.int32), keys)
    assert int(carry) == 5 and ys.tolist() == [0, 1, 2, 3, 4]
    carry, ys = hoist.scan(noisy_walk, jnp.ones(3), keys[:0])
    assert carry.tolist() == [1, 1, 1] and ys[0].shape == (0,)


def test_keys_that_draw_otherwise_under_vmap_are_left_alone():
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 5)
    plain, hoisted = jax.lax.scan(noisy_walk, jnp.ones(3), keys), hoist.scan(noisy_walk, jnp.ones(3), keys)
    np.testing.assert_array_equal(plain[0], hoisted[0])


def test_large_intermediates_are_not_made_for_all_steps():
    def body(carry, key):
        return carry + jax.random.permutation(key, 4096)[:3].sum(), None

    keys = jax.random.split(jax.random.key(0), 100)
    compiled = jax.jit(lambda k: hoist.scan(body, jnp.zeros((), jnp.int32), k)[0]).lower(keys).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4096 * 4 * 20
