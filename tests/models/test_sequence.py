"""MDN-RNN and transformer: mixtures against scipy, steps against whole sequences, and what they learn."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from jaxrl import models
from jaxrl.types import Box, Discrete, Spec

SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), Discrete(3))
CONTINUOUS = SPEC._replace(action=Box((2,), -1.0, 1.0))


def compiled(sequence):
    """The model with its functions compiled, rather than each of their operations."""
    functions = {name: jax.jit(getattr(sequence, name)) for name in ("init", "unroll", "step", "loss")}
    return sequence._replace(**functions)


MAKERS = {
    "mdn_rnn": lambda spec=SPEC, **options: compiled(models.mdn_rnn(spec, latent_size=2, hidden_size=8, **options)),
    "transformer": lambda spec=SPEC, **options: compiled(
        models.transformer(spec, latent_size=2, **{"width": 8, "num_heads": 2, "context": 4, **options})
    ),
    "chain": lambda spec=SPEC, **options: compiled(
        models.mdn_rnn(spec, latent_size=2, hidden_size=8, chain_size=4, **options)
    ),
}


def some_mixture(shape=(), num_components=3):
    logits, mean, scale = jax.random.normal(jax.random.key(0), (3, *shape, 2, num_components))
    return models.Mixture(2.0 * logits, 2.0 * mean, 0.1 + jnp.exp(scale))


def test_the_density_of_a_mixture_is_scipys():
    mixture = some_mixture((5,))
    z = jax.random.normal(jax.random.key(1), (5, 2))
    weights = scipy.special.softmax(np.asarray(mixture.logits, np.float64), axis=-1)
    densities = scipy.stats.norm.pdf(np.asarray(z)[..., None], mixture.mean, mixture.scale)
    np.testing.assert_allclose(mixture.log_prob(z), np.log((weights * densities).sum(-1)).sum(-1), rtol=1e-4)


def test_one_component_is_a_gaussian():
    mixture = some_mixture((5,), num_components=1)
    z = jax.random.normal(jax.random.key(1), (5, 2))
    gaussian = distrax.MultivariateNormalDiag(mixture.mean[..., 0], mixture.scale[..., 0])
    np.testing.assert_allclose(mixture.log_prob(z), gaussian.log_prob(z), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_moments_of_samples(temperature):
    mixture = some_mixture()
    samples = jax.vmap(lambda key: mixture.sample(key, temperature))(jax.random.split(jax.random.key(2), 40_000))
    weights = scipy.special.softmax(np.asarray(mixture.logits, np.float64) / temperature, axis=-1)
    mean = (weights * mixture.mean).sum(-1)
    variance = (weights * (np.square(mixture.mean) + temperature * np.square(mixture.scale))).sum(-1) - mean**2
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(samples.var(0), variance, rtol=0.06)
    # Each number of a latent has a mixture of its own: they are drawn independently.
    assert abs(np.corrcoef(np.asarray(samples).T)[0, 1]) < 0.02


@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e-6])
def test_without_temperature_the_mode_is_drawn(temperature):
    mixture = some_mixture()
    expected = jnp.take_along_axis(mixture.mean, mixture.logits.argmax(-1)[:, None], axis=-1)[:, 0]
    for seed in range(5):
        np.testing.assert_allclose(mixture.sample(jax.random.key(seed), temperature), expected, atol=1e-2)


@pytest.mark.parametrize("maker", MAKERS)
def test_the_scale_has_a_floor(maker):
    sequence = MAKERS[maker](scale_floor=0.3)
    params = jax.tree.map(lambda leaf: -100.0 * abs(leaf), sequence.init(jax.random.key(0)))
    outputs = sequence.unroll(params, jnp.ones((2, 3, 2)), jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 3), bool))
    # The density of two numbers is highest where both are at the mean of a component of the smallest scale.
    highest = -2.0 * np.log(0.3 * np.sqrt(2.0 * np.pi))
    mode = outputs.mixture.sample(jax.random.key(0), 0.0)
    assert float(outputs.mixture.log_prob(mode).max()) <= highest + 1e-3


def some_chain(shape=()):
    keys = jax.random.split(jax.random.key(6), 4)
    lead = (1,) * len(shape)
    return models.Chain(
        base=jax.random.normal(keys[0], (*shape, 2, 9)),
        hidden=jax.random.normal(keys[1], (*shape, 2, 4)),
        before=(3.0 * jax.random.normal(keys[2], (2, 2, 4)) * jnp.array([[0.0, 1.0], [0.0, 0.0]])[..., None])[
            (None,) * len(lead)
        ],
        after=2.0 * jax.random.normal(keys[3], (*lead, 2, 4, 9)),
        floor=jnp.full(lead, 0.1),
    )


def of_raw(raw):
    """Weights, means and scales of one number, in float64."""
    logits, mean, scale = np.split(np.asarray(raw, np.float64), 3, axis=-1)
    return scipy.special.softmax(logits, axis=-1), mean, 0.1 + np.logaddexp(0.0, scale)


def test_the_density_of_a_chain_is_that_of_one_number_given_those_before():
    chain = some_chain((5,))
    z = np.asarray(jax.random.normal(jax.random.key(1), (5, 2)), np.float64)
    expected = np.zeros(5)
    for n, number in np.ndindex(5, 2):
        units = chain.hidden[n, number] + sum(z[n, j] * chain.before[0, j, number] for j in range(number))
        weights, mean, scale = of_raw(chain.base[n, number] + np.tanh(units) @ chain.after[0, number])
        expected[n] += np.log((weights * scipy.stats.norm.pdf(z[n, number], mean, scale)).sum())
    np.testing.assert_allclose(chain.log_prob(jnp.asarray(z, jnp.float32)), expected, rtol=1e-4)


def test_samples_of_a_chain_have_the_moments_of_its_density():
    chain = some_chain()
    z = jax.vmap(chain.sample)(jax.random.split(jax.random.key(2), 40_000))
    axis = jnp.linspace(-25.0, 25.0, 1001)
    grid = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(np.asarray(jax.vmap(chain.log_prob)(grid), np.float64)) * float(axis[1] - axis[0]) ** 2
    assert abs(mass.sum() - 1.0) < 1e-2
    grid = np.asarray(grid)
    mean = mass @ grid
    covariance = (grid - mean).T @ (mass[:, None] * (grid - mean))
    assert abs(covariance[0, 1]) > 0.2  # what independent mixtures can't have
    np.testing.assert_allclose(z.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(np.asarray(z).T), covariance, atol=0.15)
    cold = jax.vmap(lambda key: chain.sample(key, 0.0))(jax.random.split(jax.random.key(2), 8))
    assert float(cold.std(0).max()) < 1e-5


def seen(outputs):
    """What outputs say: all predictions, and the density at one point."""
    return outputs._replace(mixture=outputs.mixture.log_prob(jnp.ones((1,) * outputs.reward.ndim + (2,))))


def given(num=3, length=9, space=SPEC.action):
    keys = jax.random.split(jax.random.key(3), 3)
    z = jax.random.normal(keys[0], (num, length, 2))
    if isinstance(space, Discrete):
        return z, jax.random.randint(keys[1], (num, length), 0, 3), jax.random.bernoulli(keys[2], 0.2, (num, length))
    return z, jax.random.normal(keys[1], (num, length, 2)), jax.random.bernoulli(keys[2], 0.2, (num, length))


@pytest.mark.parametrize("spec", [SPEC, CONTINUOUS])
@pytest.mark.parametrize("maker", MAKERS)
def test_steps_equal_the_pass_over_whole_sequences(maker, spec):
    """Over more steps than the transformer's context, with episodes that end in between."""
    sequence = MAKERS[maker](spec)
    params = sequence.init(jax.random.key(0))
    z, action, reset = given(space=spec.action)
    expected = sequence.unroll(params, z, action, reset)
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (3, *leaf.shape)), sequence.memory)
    step = jax.jit(jax.vmap(sequence.step, (None, 0, 0, 0)))
    memory = start
    for t in range(z.shape[1]):
        anew = lambda first, leaf: jnp.where(reset[:, t].reshape(-1, *[1] * (leaf.ndim - 1)), first, leaf)  # noqa: B023, E731
        memory, outputs = step(params, jax.tree.map(anew, start, memory), z[:, t], action[:, t])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[:, t], atol=5e-5), seen(outputs), seen(expected))  # noqa: B023
        np.testing.assert_array_equal(memory.features, outputs.features)


@pytest.mark.parametrize("maker", MAKERS)
def test_the_future_and_other_episodes_change_nothing(maker):
    sequence = MAKERS[maker](**({"context": 16} if maker == "transformer" else {}))
    params = sequence.init(jax.random.key(0))
    z, action, _ = given(num=1)
    reset = jnp.zeros((1, 9), bool).at[:, 5].set(True)
    features = lambda z: sequence.unroll(params, z, action, reset).features[0, :, 0]  # noqa: E731
    gradient = jax.jit(jax.jacobian(features))(z)[:, 0]
    depends = np.asarray(abs(gradient).sum(-1)) > 0.0
    t, s = np.indices((9, 9))
    np.testing.assert_array_equal(depends, (s <= t) & ((s >= 5) == (t >= 5)))


@pytest.mark.parametrize("maker", MAKERS)
def test_a_permuted_batch_gives_permuted_outputs(maker):
    sequence = MAKERS[maker]()
    params, (z, action, reset) = sequence.init(jax.random.key(0)), given()
    order = jnp.array([2, 0, 1])
    permuted = sequence.unroll(params, z[order], action[order], reset[order])
    expected = sequence.unroll(params, z, action, reset)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[order], atol=3e-5), seen(permuted), seen(expected))


def certain(z):
    return models.Latent(z, jnp.full_like(z, -10.0))


def sequences(num=64, length=8):
    """``z' = (first z of the episode, a)``, the reward is ``z'_0``, the task ends where ``a = 2``."""
    keys = jax.random.split(jax.random.key(5), 2)
    action = jax.random.randint(keys[1], (num, length), 0, 3)
    cue = jnp.sign(jax.random.normal(keys[0], (num,)))
    moved = jnp.stack([jnp.broadcast_to(cue[:, None], action.shape), action.astype(jnp.float32) - 1.0], axis=-1)
    z = jnp.concatenate([jnp.stack([cue, jnp.zeros(num)], axis=-1)[:, None], 0.0 * moved[:, :-1]], axis=1)
    z = z.at[:, 1:, 1].set(moved[:, :-1, 1])
    reset = jnp.zeros((num, length), bool).at[:, 0].set(True)
    return models.LatentSequences(
        certain(z), action, cue[:, None] * jnp.ones((1, length)), action == 2, certain(moved), reset, ~(reset & False)
    )


@pytest.mark.parametrize("maker", MAKERS)
def test_they_learn_what_needs_memory(maker):
    sequence = MAKERS[maker](scale_floor=0.1, **({"context": 8, "num_layers": 1} if maker == "transformer" else {}))
    data = sequences()
    fitted = jax.jit(
        lambda key, params: models.fit(
            key, params, data, sequence.loss, optimizer=optax.adam(0.01), batch_size=32, max_epochs=100, patience=20
        )
    )(jax.random.key(1), sequence.init(jax.random.key(0)))
    outputs = sequence.unroll(fitted.params, data.latent.mean, data.action, data.reset)
    assert float(abs(outputs.reward - data.reward).mean()) < 0.3
    assert float(((outputs.termination_logit > 0) == data.terminated).mean()) > 0.97
    mode = outputs.mixture.sample(jax.random.key(0), 0.0)
    assert float(abs(mode - data.next_latent.mean).mean()) < 0.2


@pytest.mark.parametrize("maker", MAKERS)
def test_a_terminal_step_weighs_as_much_as_so_many_copies_of_it(maker):
    """So the logit is positive where the probability of the end is above ``1 / (1 + w)``."""
    key, data = jax.random.key(1), sequences(num=3)
    params = MAKERS[maker]().init(jax.random.key(0))
    losses = [MAKERS[maker](terminal_weight=w, termination_coef=2.0).loss(params, key, data) for w in (1.0, 4.0)]
    z = data.latent.sample(jax.random.split(key)[0])
    logit = np.asarray(MAKERS[maker]().unroll(params, z, data.action, data.reset).termination_logit, np.float64)
    of_terminal = np.where(data.terminated, -scipy.special.log_expit(logit), 0.0)
    np.testing.assert_allclose(losses[1] - losses[0], 2.0 * 3.0 * of_terminal.mean(1), rtol=1e-4)
    plain = MAKERS[maker](terminal_weight=1.0, termination_coef=0.0).loss(params, key, data)
    cross_entropy = of_terminal + np.where(data.terminated, 0.0, -scipy.special.log_expit(-logit))
    np.testing.assert_allclose(losses[0] - plain, 2.0 * cross_entropy.mean(1), rtol=1e-3)


@pytest.mark.parametrize("maker", MAKERS)
def test_steps_that_are_not_valid_do_not_count(maker):
    sequence = MAKERS[maker]()
    params, data = sequence.init(jax.random.key(0)), sequences(num=3)
    valid = data.valid.at[:, 4:].set(False).at[2].set(False)
    spoiled = data._replace(reward=data.reward.at[:, 4:].set(1e6), valid=valid)
    short = jax.tree.map(lambda leaf: leaf[:, :4], data)
    losses = sequence.loss(params, jax.random.key(1), spoiled)
    np.testing.assert_allclose(losses[:2], sequence.loss(params, jax.random.key(1), short)[:2], rtol=1e-3)
    assert float(losses[2]) == 0.0


@pytest.mark.parametrize("maker", MAKERS)
def test_x64_keeps_float32(maker):
    sequence = MAKERS[maker]()
    with jax.enable_x64(True):
        z, action, reset = given()

        def run(key):
            params = sequence.init(key)
            memory, outputs = sequence.step(params, sequence.memory, z[0, 0].astype(jnp.float32), action[0, 0])
            loss = sequence.loss(params, key, sequences(num=2))
            return params, memory, outputs, loss, outputs.mixture.sample(key, 0.5)

        leaves = jax.tree.leaves(jax.eval_shape(run, jax.random.key(0)))
        assert [leaf for leaf in leaves if leaf.dtype.itemsize == 8] == []


@pytest.mark.parametrize(
    ("maker", "name", "changed"),
    [
        ("mdn_rnn", "num_components", {"num_components": 0}),
        ("mdn_rnn", "scale_floor", {"scale_floor": 0.0}),
        ("mdn_rnn", "reward_coef", {"reward_coef": -1.0}),
        ("transformer", "context", {"context": 0}),
        ("transformer", "num_heads", {"num_heads": 3}),
        ("transformer", "termination_coef", {"termination_coef": float("nan")}),
        ("mdn_rnn", "terminal_weight", {"terminal_weight": 0.0}),
    ],
)
def test_what_is_refused(maker, name, changed):
    with pytest.raises((TypeError, ValueError), match=f"{name}: got "):
        MAKERS[maker](**changed)
