"""Torsos and what they are fed: against Flax's own layers on the same weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.networks import (
    MLP,
    ActionValueHead,
    ActorCritic,
    CategoricalHead,
    CategoricalPolicy,
    Conv,
    DeterministicPolicy,
    ImplicitQuantileHead,
    NatureCNN,
    PolicyValue,
    QNetwork,
    Residual,
    SquashedGaussianPolicy,
    Transformer,
    as_float,
    critic_ensemble,
    default_torso,
    inputs,
)
from jaxrl.networks.conv import patches
from jaxrl.types import Box, Discrete, Observation


def test_mlp_against_flax():
    x = jax.random.normal(jax.random.key(0), (5, 3, 2))
    mlp = MLP(hidden=(7, 4), activation="silu")
    params = mlp.init(jax.random.key(1), x)
    weights = params["params"]
    expected = x.reshape(5, 6)
    for i, width in enumerate((7, 4)):
        expected = nn.silu(nn.Dense(width).apply({"params": weights[f"Dense_{i}"]}, expected))
    np.testing.assert_allclose(mlp.apply(params, x), expected, rtol=1e-6, atol=1e-6)


def test_layer_norm_comes_before_the_activation():
    x = jax.random.normal(jax.random.key(0), (5, 6))
    mlp = MLP(hidden=(32,), activation="relu", layer_norm=True)
    params = mlp.init(jax.random.key(1), x)
    y = x @ params["params"]["Dense_0"]["kernel"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(np.var(y, -1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(mlp.apply(params, x), np.maximum(y, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "shape"), [(3, (10, 10, 4)), (2, (5, 7, 3)), (3, (3, 3, 1))])
def test_conv_against_flax(size, shape):
    """The patches and the matrix product are a convolution, gradients included."""
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    torso = Conv(channels=(6,), hidden=(), kernel_size=size, activation="tanh")
    params = torso.init(jax.random.key(1), x)
    dense = params["params"]["Dense_0"]
    flax_conv = nn.Conv(6, (size, size), padding="VALID")
    kernel = dense["kernel"].reshape(size, size, shape[-1], 6)

    def by_flax(kernel, bias):
        return jnp.tanh(flax_conv.apply({"params": {"kernel": kernel, "bias": bias}}, x)).reshape(2, -1)

    expected = by_flax(kernel, dense["bias"])
    np.testing.assert_allclose(torso.apply(params, x), expected, rtol=1e-5, atol=1e-5)
    weights = jax.random.normal(jax.random.key(2), expected.shape)
    ours = jax.grad(lambda params: (weights * torso.apply(params, x)).sum())(params)["params"]["Dense_0"]["kernel"]
    theirs = jax.grad(lambda kernel: (weights * by_flax(kernel, dense["bias"])).sum())(kernel)
    np.testing.assert_allclose(ours.reshape(kernel.shape), theirs, rtol=1e-4, atol=1e-5)


def test_layer_norm_of_images_is_over_channels():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    plain, normal = (Conv(channels=(4,), hidden=(), activation="tanh", layer_norm=norm) for norm in (False, True))
    params = normal.init(jax.random.key(1), x)
    assert params["params"]["LayerNorm_0"]["scale"].shape == (4,)
    y = np.arctanh(np.asarray(plain.apply({"params": {"Dense_0": params["params"]["Dense_0"]}}, 0.1 * x), np.float64))
    y = y.reshape(2, 3, 3, 4)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(np.var(y, -1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(normal.apply(params, 0.1 * x), np.tanh(y).reshape(2, -1), rtol=1e-2, atol=1e-3)


def test_conv_then_dense():
    x = jnp.ones((2, 6, 6, 1))
    torso = Conv(channels=(2, 3), hidden=(5, 4))
    params = torso.init(jax.random.key(0), x)["params"]
    assert [params[f"Dense_{i}"]["kernel"].shape for i in range(4)] == [(9, 2), (18, 3), (12, 5), (5, 4)]


def test_patches_refuse_small_images():
    with pytest.raises(ValueError, match="kernel_size: got 3, must be at most the image's size, 2 x 5"):
        patches(jnp.ones((1, 2, 5, 1)), 3)
    with pytest.raises(ValueError, match="use MLP for vectors"):
        Conv().init(jax.random.key(0), jnp.ones((1, 5)))


def test_unknown_activation_is_named():
    with pytest.raises(ValueError, match="activation: got 'tan', allowed are tanh, relu"):
        MLP(activation="tan").init(jax.random.key(0), jnp.ones((1, 5)))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 51, 255], jnp.uint8, [0.0, 0.2, 1.0]),
        ([-3, 0, 255], jnp.int32, [-3.0, 0.0, 255.0]),
        ([False, True], jnp.bool_, [0.0, 1.0]),
        ([0.5, -2.0], jnp.float16, [0.5, -2.0]),
        ([0.5, 300.0], jnp.float32, [0.5, 300.0]),
    ],
)
def test_as_float(values, dtype, expected):
    floats = inputs.as_float(jnp.array(values, dtype))
    assert floats.dtype == jnp.float32
    np.testing.assert_allclose(floats, expected, rtol=1e-6)


class TestNetworkInput:
    @pytest.mark.parametrize("batch", [(), (4,), (3, 4)], ids=str)
    @pytest.mark.parametrize("event", [(), (5,), (6, 6, 2)], ids=str)
    def test_shapes(self, batch, event):
        x = jnp.arange(np.prod((*batch, *event), dtype=int), dtype=jnp.float32).reshape(*batch, *event)
        made = inputs.network_input(x, None, len(event))
        assert made.shape == (np.prod(batch, dtype=int), *(event or (1,)))
        assert made.reshape(-1).tolist() == x.reshape(-1).tolist()

    @pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_, jnp.float16])
    def test_the_dtype_is_the_environments(self, dtype):
        assert inputs.network_input(jnp.ones((4, 5), dtype), None, 1).dtype == dtype
        assert inputs.network_input(jnp.ones((4, 5), dtype), jnp.ones((4, 2), dtype), 1).dtype == dtype

    def test_goals_lie_beside_features(self):
        made = inputs.network_input(jnp.ones((3, 4, 5)), jnp.full((3, 4, 1, 2), 7, jnp.int32), 1)
        assert made.shape == (12, 7)
        assert made[5].tolist() == [1.0] * 5 + [7.0] * 2

    def test_goals_beside_images_are_refused(self):
        with pytest.raises(ValueError, match="observation.features: got 3 axes together with a goal"):
            inputs.network_input(jnp.ones((2, 4, 4, 1)), jnp.ones((2, 3)), 3)


TORSOS = [
    (MLP((8,)), (5,), (1,)),
    (MLP((8,), layer_norm=True), (3, 4), (2,)),
    (Transformer(width=4), (5,), (1,)),
    (Transformer(width=4), (3, 4), (2,)),
    (Transformer(width=4), (4, 4, 2), (3,)),
    (Conv((4,), (8,)), (5, 5, 2), ()),
    (Residual(channels=4, blocks=1), (4, 4, 2), ()),
]


@pytest.mark.parametrize(("torso", "event", "rank"), TORSOS, ids=lambda value: str(value).split("(")[0])
def test_a_torso_takes_any_leading_axes(torso, event, rank):
    x = jax.random.normal(jax.random.key(0), (6, *event))
    params = torso.init(jax.random.key(1), x)
    flat = torso.apply(params, x)
    for batch in ((6,), (2, 3), (3, 1, 2)):
        np.testing.assert_array_equal(
            torso.apply(params, x.reshape(*batch, *event), *rank), flat.reshape(*batch, flat.shape[-1])
        )


@pytest.mark.parametrize(("torso", "event", "rank"), TORSOS, ids=lambda value: str(value).split("(")[0])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bool_])
def test_a_torso_converts_its_input_to_floats(torso, event, rank, dtype):
    x = jax.random.randint(jax.random.key(0), (2, *event), 0, 256).astype(dtype)
    params = torso.init(jax.random.key(1), x)
    np.testing.assert_array_equal(torso.apply(params, x), torso.apply(params, as_float(x)))


class Embedding(nn.Module):
    """Token ids ``[N, L]`` as the mean of their embeddings: fails on floats, as ``nn.Embed`` does."""

    @nn.compact
    def __call__(self, x):
        return nn.Embed(8, 16)(x).mean(axis=1)


NETWORKS = {
    "actor_critic": ActorCritic(Embedding(), CategoricalHead(3), False, True, 1, {}),
    "policy_value": PolicyValue(Embedding(), 3, 1, bounded=True),
    "q": QNetwork(Embedding(), ActionValueHead(3, dueling=True), 1),
    "atoms": QNetwork(Embedding(), ActionValueHead(3, num_outputs=5, noisy=True), 1),
    "critics": critic_ensemble(Discrete(3), Embedding(), 1),
    "categorical": CategoricalPolicy(Embedding(), 3, 1),
    "deterministic": DeterministicPolicy(Embedding(), 2, 1),
    "gaussian": SquashedGaussianPolicy(Embedding(), 2, 1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_keeps_the_leading_axes_and_hands_integers_to_its_torso(name):
    network, tokens = NETWORKS[name], jnp.arange(6 * 4).reshape(6, 4) % 8
    mask = jnp.arange(6 * 3).reshape(6, 3) % 4 > 0
    masked = name in ("actor_critic", "policy_value", "categorical")

    def numbers(outputs):
        if hasattr(outputs, "policy"):
            outputs = {"logits": outputs.policy.logits, "value": outputs.value, "features": outputs.features}
        elif hasattr(outputs, "logits"):
            outputs = outputs.logits
        elif hasattr(outputs, "loc"):
            outputs = (outputs.loc, outputs.scale_diag)
        return outputs

    def seen(*batch):
        if not masked:
            return tokens.reshape(*batch, 4)
        return Observation(tokens.reshape(*batch, 4), action_mask=mask.reshape(*batch, 3))

    params = network.init(jax.random.key(0), seen(6))
    flat = numbers(network.apply(params, seen(6)))
    axis = int(name == "critics")  # behind the members of the ensemble
    for batch in ((2, 3), (1, 3, 2)):
        found = numbers(network.apply(params, seen(*batch)))
        for x, y in zip(jax.tree.leaves(flat), jax.tree.leaves(found), strict=True):
            assert y.shape == (*x.shape[:axis], *batch, *x.shape[axis + 1 :])
            np.testing.assert_array_equal(y.reshape(x.shape), x)


def test_quantiles_keep_the_leading_axes():
    network = QNetwork(MLP((8,)), ImplicitQuantileHead(ActionValueHead(3), num_cosines=4), 1)
    x, tau = jax.random.normal(jax.random.key(0), (6, 4)), jax.random.uniform(jax.random.key(1), (6, 5))
    params = network.init(jax.random.key(2), x, tau)
    flat = network.apply(params, x, tau)
    assert flat.shape == (6, 3, 5)
    found = network.apply(params, x.reshape(2, 3, 4), tau.reshape(2, 3, 5))
    np.testing.assert_array_equal(found, flat.reshape(2, 3, 3, 5))
    np.testing.assert_array_equal(
        network.apply(params, x.reshape(2, 3, 4), tau[0])[1, 2], network.apply(params, x, tau[0])[5]
    )


@pytest.mark.parametrize(("shape", "rank"), [((4,), 1), ((3, 3, 2), 3)])
def test_critics_of_continuous_actions_keep_the_leading_axes(shape, rank):
    critic = critic_ensemble(Box((2,), -1.0, 1.0), MLP((8,)), rank)
    x, action = jax.random.normal(jax.random.key(0), (6, *shape)), jax.random.normal(jax.random.key(1), (6, 2))
    params = critic.init(jax.random.key(2), x, action)
    found = critic.apply(params, x.reshape(2, 3, *shape), action.reshape(2, 3, 2))
    np.testing.assert_array_equal(found, critic.apply(params, x, action).reshape(2, 2, 3))


@pytest.mark.parametrize("recipe", ["ppo", "dqn"])
def test_a_recipe_hands_integers_to_a_torso_that_embeds_them(recipe):
    """Tokens 0 to 7 in a random order; the action is the parity of the first: no linear function of the ids."""

    class Tokens:
        default_params = None

        def action_space(self, params=None):
            return Discrete(2)

        def reset(self, key, params=None):
            tokens = jax.random.randint(key, (1,), 0, 8, jnp.int32)
            return tokens, tokens

        def step(self, key, state, action, params=None):
            observation, fresh = self.reset(key)
            reward = jnp.where(action == state[0] % 2, 1.0, 0.0)
            info = {"final_observation": state}
            return observation, fresh, reward, jnp.bool_(True), jnp.bool_(False), info

    env = Tokens()
    spec = jaxrl.spec(env)
    if recipe == "ppo":
        agent, loop = jaxrl.ppo(spec, torso=Embedding(), learning_rate=0.02), {"num_envs": 16, "rollout_length": 16}
    else:
        options = {"learning_rate": 0.02, "learning_starts": 64, "replay_capacity": 1024, "epsilon_steps": 1}
        agent, loop = jaxrl.dqn(spec, torso=Embedding(), **options), {"num_envs": 16, "rollout_length": 4}
    key = jax.random.key(0)
    train = jax.jit(lambda key: jaxrl.train(key, agent, env, None, num_steps=8192, **loop)[0].agent)
    action, _ = agent.act(key, train(key), jnp.arange(8, dtype=jnp.int32)[:, None], explore=False)
    np.testing.assert_array_equal(action, np.arange(8) % 2)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((84, 84, 4), NatureCNN),
        ((36, 35, 3), Conv),
        ((10, 10, 4), Conv),
        ((3, 3, 1), Conv),
        ((2, 9, 1), MLP),
        ((4,), MLP),
        ((4, 4), MLP),
        ((), MLP),
    ],
)
def test_default_torso(shape, kind):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert isinstance(default_torso(leaf), kind)
    assert isinstance(default_torso(Observation(features=leaf)), kind)
