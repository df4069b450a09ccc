"""The GRU against Flax's cell in a plain loop, its gradient through time against that loop, and what sequences are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxrl.networks import GRU, MLP, CategoricalHead, Memory, RecurrentActorCritic, Sequences, is_recurrent, memory_of
from jaxrl.networks.recurrent import unroll
from jaxrl.types import Observation

T, N, D, H = 7, 3, 5, 4
RESET = np.zeros((T, N), bool)
RESET[[2, 5, 3], [0, 0, 2]] = True


class Same(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x


@pytest.fixture(scope="module")
def unit():
    """A GRU without an encoder, its parameters (biases drawn too), inputs, and a first memory."""
    gru, keys = GRU(size=H, encoder=Same()), jax.random.split(jax.random.key(0), 6)
    x, memory = jax.random.normal(keys[0], (T, N, D)), jax.random.normal(keys[1], (N, H))
    params = gru.init(keys[2], x, memory, RESET)
    inner = {**params["params"]}
    inner["bias"] = inner["bias"] + jax.random.normal(keys[3], (3 * H,))
    inner["candidate_bias"] = jax.random.normal(keys[4], (H,))
    return gru, {"params": inner}, x, memory


def loop(params, x, memory):
    """Flax's cell, step by step in Python, given the same numbers; memory zeroed by hand."""
    inner, cell = params["params"], nn.GRUCell(H, recurrent_kernel_init=nn.initializers.zeros)
    of_input, of_memory = jnp.split(inner["kernel"], 3, axis=1), jnp.split(inner["recurrent_kernel"], 3, axis=1)
    flax = {f"i{gate}": {"kernel": w} for gate, w in zip("rzn", of_input, strict=True)}
    for gate, bias in zip("rzn", jnp.split(inner["bias"], 3), strict=True):
        flax[f"i{gate}"]["bias"] = bias
    flax |= {f"h{gate}": {"kernel": w} for gate, w in zip("rzn", of_memory, strict=True)}
    flax["hn"]["bias"] = inner["candidate_bias"]
    seen = []
    with jax.numpy_rank_promotion("allow"):
        for t in range(T):
            memory = jnp.stack([jnp.zeros(H) if RESET[t, n] else memory[n] for n in range(N)])
            memory, _ = cell.apply({"params": flax}, memory, x[t])
            seen.append(memory)
    return jnp.stack(seen)


def test_gru_is_flax_s_cell_in_a_loop(unit):
    gru, params, x, memory = unit
    features, memories = gru.apply(params, x, memory, RESET)
    np.testing.assert_allclose(features, loop(params, x, memory), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features, memories)


def test_gradient_through_time_is_that_of_the_loop(unit):
    gru, params, x, memory = unit
    # The last memories alone, so that all of the gradient comes through time.
    of_scan = jax.grad(lambda *given: (gru.apply(*given, RESET)[0][-1] ** 2).sum(), argnums=(0, 1, 2))
    of_loop = jax.grad(lambda *given: (loop(*given)[-1] ** 2).sum(), argnums=(0, 1, 2))
    for found, expected in zip(
        jax.tree.leaves(jax.jit(of_scan)(params, x, memory)),
        jax.tree.leaves(jax.jit(of_loop)(params, x, memory)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    from_inputs = np.asarray(of_scan(params, x, memory)[1])
    assert (from_inputs[:5, 0] == 0).all() and (from_inputs[:3, 2] == 0).all(), "nothing passes a reset"
    assert (np.abs(from_inputs[:, 1]).max(-1) > 0).all(), "all of an uncut sequence counts"


def test_weights_at_first():
    gru = GRU(size=32, horizon=50)
    params = gru.init(jax.random.key(0), jnp.zeros((1, 1, 3)), jnp.zeros((1, 32)), jnp.zeros((1, 1), bool))["params"]
    for block in jnp.split(params["recurrent_kernel"], 3, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(32), atol=1e-5)
    reset, update, candidate = jnp.split(params["bias"], 3)
    assert (reset == 0).all() and (candidate == 0).all()
    kept = np.exp(update)  # z / (1 - z): the steps that a unit keeps
    assert kept.min() >= 1 and kept.max() <= 49 and kept.std() > 8
    plain = GRU(size=8, horizon=1).init(
        jax.random.key(0), jnp.zeros((1, 1, 3)), jnp.zeros((1, 8)), jnp.zeros((1, 1), bool)
    )
    assert (plain["params"]["bias"] == 0).all()


@pytest.mark.parametrize(("event", "kind"), [((3,), "MLP_0"), ((2, 2, 3), "MLP_0"), ((5, 5, 2), "Conv_0")])
def test_an_encoder_that_fits_the_observation(event, kind):
    gru = GRU(size=H)
    x, reset = jnp.ones((T, N, *event)), jnp.zeros((T, N), bool)
    params = gru.init(jax.random.key(0), x, jnp.zeros((N, H)), reset)
    assert kind in params["params"]
    assert gru.apply(params, x, jnp.zeros((N, H)), reset)[0].shape == (T, N, H)


def test_what_an_agent_remembers():
    gru, one = GRU(size=H), jax.ShapeDtypeStruct((H,), jnp.float32)
    assert is_recurrent(gru) and not is_recurrent(MLP())
    assert memory_of(gru) == Memory(one, one)
    assert memory_of(gru, share_torso=True) == memory_of(gru, critic=False) == Memory(one, ())
    with pytest.raises(TypeError, match="torso: got MLP, which has no property memory"):
        memory_of(MLP())


@pytest.mark.parametrize("share_torso", [False, True])
def test_sequences_are_steps_one_after_another(share_torso):
    """Whole sequences at once, against one step at a time with the memory carried and zeroed by hand."""
    network = RecurrentActorCritic(
        torso=GRU(size=H),
        policy=CategoricalHead(3, scale=1.0),
        share_torso=share_torso,
        critic=True,
        event_rank=1,
        heads={},
    )
    keys = jax.random.split(jax.random.key(0), 4)
    x, following = jax.random.normal(keys[0], (2, N, T, D))
    kept = Memory(jax.random.normal(keys[1], (N, H)), () if share_torso else jax.random.normal(keys[2], (N, H)))
    sequences = Sequences(Observation(x), kept, RESET.T)
    params = network.init(keys[3], Observation(x[:, 0], memory=kept))
    outputs = network.apply(params, sequences)
    v_tm1, v_t = network.apply(params, sequences, Observation(following), method="evaluate_ahead")
    for t in range(T):
        zero = RESET[t][:, None]
        kept = jax.tree.map(lambda h: jnp.where(zero, 0.0, h), kept)  # noqa: B023
        seen = Observation(x[:, t], memory=kept)
        policy, after = network.apply(params, seen, method="remember")
        np.testing.assert_allclose(outputs.policy.logits.reshape(N, T, 3)[:, t], policy.logits, rtol=1e-4, atol=1e-5)
        value = network.apply(params, seen, method="evaluate")
        np.testing.assert_allclose(v_tm1.reshape(N, T)[:, t], value, rtol=1e-4, atol=1e-5)
        ahead = network.apply(params, Observation(following[:, t], memory=after), method="evaluate")
        np.testing.assert_allclose(v_t.reshape(N, T)[:, t], ahead, rtol=1e-4, atol=1e-5)
        kept = after
    np.testing.assert_allclose(outputs.value, v_tm1, rtol=1e-5, atol=1e-6)


class Flat(nn.Module):
    """Forgets that sequences have a time axis."""

    memory = jax.ShapeDtypeStruct((H,), jnp.float32)

    @nn.compact
    def __call__(self, x, memory, reset):
        return x.reshape(-1, D), memory


def test_features_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"torso: got features \(21, 5\) from Flat, must be \[T, N, D\], T = 7, N = 3"):
        unroll(Flat().bind({}), jnp.zeros((N * T, D)), jnp.zeros((N, H)), RESET.T)
