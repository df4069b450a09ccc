"""The ensemble on dynamics that are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl import models
from jaxrl.models.scaling import scale_of
from jaxrl.types import Box, Discrete, Spec, Transition

SPEC = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), Box((1,), -1.0, 1.0))
N = 400


@partial(jax.jit, static_argnames="size")
def transitions(key=0, size=N, spread=1.0):
    """``s' = s + (a, 0.5 s_0 + noise, 0)``, reward ``s_0 + a``, ends where ``s_0 > 0.5``; the third feature is 7."""
    keys = jax.random.split(jax.random.key(key), 3)
    state = spread * jax.random.uniform(keys[0], (size, 3), minval=-1.0)
    state = state.at[:, 2].set(7.0)
    action = jax.random.uniform(keys[1], (size, 1), minval=-1.0)
    noise = 0.1 * jax.random.normal(keys[2], (size,))
    change = jnp.stack([action[:, 0], 0.5 * state[:, 0] + noise, jnp.zeros(size)], axis=-1)
    ends = state[:, 0] > 0.5
    return Transition(
        observation=state,
        action=action,
        reward=state[:, 0] + action[:, 0],
        discount=1.0 - ends,
        terminated=ends,
        truncated=jnp.zeros(size, bool),
        next_observation=state + change,
    )


OPTIONS = {"num_members": 4, "hidden": (32,), "termination": "learned"}
FIT = {"max_epochs": 60, "batch_size": 32, "patience": 60}


def ensemble(spec, **options):
    """Of functions that are compiled, rather than each of their operations."""
    made = models.ensemble(spec, **options)
    functions = {name: jax.jit(getattr(made, name)) for name in ("init", "predict", "loss", "start")}
    return made._replace(fit=jax.jit(made.fit, static_argnames=("max_epochs", "batch_size", "patience")), **functions)


@pytest.fixture(scope="module")
def dynamics():
    return ensemble(SPEC, **OPTIONS)


@pytest.fixture(scope="module")
def fitted(dynamics):
    return dynamics.fit(jax.random.key(1), dynamics.init(jax.random.key(0)), transitions(), **FIT)


def test_it_learns_the_dynamics_their_noise_the_reward_and_the_end(dynamics, fitted):
    params, curves = fitted
    test = transitions(5)
    found = dynamics.predict(params, test.observation, test.action)
    expected = test.observation + jnp.stack([test.action[:, 0], 0.5 * test.observation[:, 0], jnp.zeros(N)], axis=-1)
    assert float(abs(found.observation.mean(0) - expected).mean()) < 0.05
    np.testing.assert_allclose(jnp.sqrt(found.observation_variance[..., 1]).mean(), 0.1, atol=0.03)
    assert float(abs(found.reward.mean(0) - test.reward).mean()) < 0.05
    assert float(((found.termination_logit.mean(0) > 0) == test.terminated).mean()) > 0.9
    assert (curves.best < curves.held_out[:, 0] - 1.0).all()
    assert len(set(np.asarray(curves.best).tolist())) == 4  # bootstraps differ


def test_members_disagree_off_the_data(dynamics, fitted):
    disagreement = []
    for spread in (1.0, 3.0, 10.0):
        test = transitions(6, spread=spread)
        found = dynamics.predict(fitted[0], test.observation.at[:, 2].set(7.0), test.action)
        disagreement.append(float(found.observation.std(0).mean()))
    assert disagreement[1] > 2.0 * disagreement[0]
    assert disagreement[2] > 2.0 * disagreement[1]


def test_a_constant_input_stays_finite(dynamics, fitted):
    data = transitions()
    for value in (7.0, 8.0, -1e4):
        found = dynamics.predict(fitted[0], data.observation.at[:, 2].set(value), data.action)
        assert all(np.isfinite(leaf).all() for leaf in found)
    constant = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), data)
    params, curves = dynamics.fit(jax.random.key(0), fitted[0], constant, max_epochs=2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, curves)))


def test_the_loss_is_scipys_likelihood(dynamics, fitted):
    data = jax.tree.map(lambda leaf: leaf[:7], transitions(9))
    found = dynamics.predict(fitted[0], data.observation, data.action)
    log_prob = scipy.stats.norm.logpdf(
        data.next_observation[None], found.observation, np.sqrt(found.observation_variance)
    ).sum(-1)
    log_prob += scipy.stats.norm.logpdf(data.reward[None], found.reward, np.sqrt(found.reward_variance))
    ends = 1.0 / (1.0 + np.exp(-np.asarray(found.termination_logit, np.float64)))
    log_prob += scipy.stats.bernoulli.logpmf(np.asarray(data.terminated)[None], ends)
    np.testing.assert_allclose(dynamics.loss(fitted[0], data), -log_prob, rtol=2e-3, atol=2e-2)


def test_steps_are_draws_from_the_members(dynamics, fitted):
    params, _ = fitted
    observation, action = jnp.array([0.2, -0.1, 7.0]), jnp.array([0.3])
    found = dynamics.predict(params, observation[None], action[None])
    keys = jax.random.split(jax.random.key(2), 4000)
    member = jnp.int32(2)
    state = models.EnsembleState(observation, member)
    model = dynamics.model()
    steps = jax.jit(jax.vmap(model.step, (None, 0, None, None)))(params, keys, state, action)
    assert (steps.state.member == 2).all()
    np.testing.assert_allclose(steps.observation.mean(0), found.observation[2, 0], atol=0.01)
    np.testing.assert_allclose(steps.observation.std(0), jnp.sqrt(found.observation_variance[2, 0]), rtol=0.06)
    np.testing.assert_allclose(steps.reward.std(), jnp.sqrt(found.reward_variance[2, 0]), rtol=0.06)
    quiet = jax.jit(dynamics.model(noise=False).step)(params, keys[0], state, action)
    np.testing.assert_allclose(quiet.observation, found.observation[2, 0], rtol=1e-5)
    np.testing.assert_allclose(quiet.reward, found.reward[2, 0], rtol=1e-5)
    assert float(quiet.discount) == float(found.termination_logit[2, 0] <= 0)


def test_a_fresh_member_each_step_comes_from_the_elites(dynamics, fitted):
    params = fitted[0]._replace(elites=jnp.array([1, 3]))
    model = dynamics.model("ts_1", noise=False)
    state = dynamics.start(jax.random.key(0), params, jnp.zeros((500, 3)))
    assert set(np.asarray(state.member).tolist()) == {1, 3}
    keys = jax.random.split(jax.random.key(1), 500)
    after = jax.jit(jax.vmap(model.step, (None, 0, 0, None)))(params, keys, state, jnp.zeros(1)).state.member
    assert set(np.asarray(after).tolist()) == {1, 3}
    assert (after != state.member).any()


def test_elites_are_the_members_with_the_lowest_held_out_loss():
    dynamics = ensemble(SPEC, **OPTIONS, num_elites=2)
    params, curves = dynamics.fit(jax.random.key(0), dynamics.init(jax.random.key(1)), transitions(), max_epochs=2)
    assert set(np.asarray(params.elites).tolist()) == set(np.argsort(np.asarray(curves.best))[:2].tolist())


def test_known_reward_and_termination():
    dynamics = ensemble(
        SPEC,
        **{**OPTIONS, "termination": lambda s, a, n: n[0] > 0.0},
        reward=lambda s, a, n: 10.0 * a[0] + n[0],
    )
    params, data = dynamics.init(jax.random.key(0)), transitions()
    found = dynamics.predict(params, data.observation, data.action)
    np.testing.assert_allclose(found.reward, 10.0 * data.action[None, :, 0] + found.observation[..., 0], rtol=1e-5)
    np.testing.assert_array_equal(found.termination_logit > 0, found.observation[..., 0] > 0)
    state = models.EnsembleState(data.observation[0], jnp.int32(0))
    step = jax.jit(dynamics.model().step)(params, jax.random.key(3), state, data.action[0])
    np.testing.assert_allclose(step.reward, 10.0 * data.action[0, 0] + step.observation[0], rtol=1e-5)
    assert float(step.discount) == float(step.observation[0] <= 0.0)


def test_discrete_actions_and_a_member_alone():
    spec = SPEC._replace(action=Discrete(3))
    dynamics = ensemble(spec, **{**OPTIONS, "termination": None})
    params = dynamics.init(jax.random.key(0))
    observation, action = jnp.ones((2, 3)), jnp.array([0, 2])
    found = dynamics.predict(params, observation, action)
    assert found.observation.shape == (4, 2, 3)
    assert not np.allclose(found.observation[:, 0], found.observation[:, 1])
    alone = dynamics.predict(models.only(params, 3), observation, action)
    np.testing.assert_allclose(alone.observation[0], found.observation[3], rtol=1e-5)
    state = dynamics.start(jax.random.key(1), params, observation)
    step = jax.jit(jax.vmap(dynamics.model().step, (None, 0, 0, 0)))
    step = step(params, jax.random.split(jax.random.key(2)), state, action)
    np.testing.assert_array_equal(step.discount, [1.0, 1.0])


def test_a_permuted_batch_gives_permuted_outputs(dynamics, fitted):
    data, order = transitions(), jax.random.permutation(jax.random.key(0), N)
    found = dynamics.predict(fitted[0], data.observation, data.action)
    permuted = dynamics.predict(fitted[0], data.observation[order], data.action[order])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[:, order], y, rtol=1e-5, atol=1e-5), found, permuted)


def test_x64_keeps_float32(dynamics):
    with jax.enable_x64(True):
        data = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, transitions())

        def run(key):
            params, curves = dynamics.fit(key, dynamics.init(key), data, max_epochs=2)
            state = dynamics.start(key, params, data.observation)
            step = jax.vmap(dynamics.model().step, (None, None, 0, 0))(params, key, state, data.action)
            return params, curves, step

        leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(run, jax.random.key(0)))
        assert [jax.tree_util.keystr(path) for path, leaf in leaves if leaf.dtype.itemsize == 8] == []


def test_scale_counts_valid_rows_and_only_centres_rounding():
    rows = jnp.array([[1e3, 1.0], [1e3 + 1e-4, 3.0], [jnp.nan, jnp.nan]])
    scale = scale_of(rows, jnp.array([True, True, False]))
    np.testing.assert_allclose(scale.mean, [1e3, 2.0])
    np.testing.assert_allclose(scale.scale, [1.0, 1.0])
    np.testing.assert_allclose(scale_of(rows[:2] * 5.0, jnp.ones(2, bool)).scale, [1.0, 5.0])
    np.testing.assert_array_equal(scale_of(rows, jnp.zeros(3, bool)).scale, [1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("num_members", {"num_members": 0}),
        ("num_elites", {"num_elites": 9}),
        ("hidden", {"hidden": (0,)}),
        ("activation", {"activation": "step"}),
        ("reward", {"reward": 1.0}),
        ("termination", {"termination": "known"}),
        ("bound_coef", {"bound_coef": -1.0}),
        ("weight_decay", {"weight_decay": float("inf")}),
        ("spec", {"spec": Spec(jax.ShapeDtypeStruct((3, 3), jnp.float32), Discrete(2))}),
    ],
)
def test_what_is_refused(name, changed):
    given = {"spec": SPEC, **changed}
    with pytest.raises((TypeError, ValueError), match=f"{name}.*: got "):
        models.ensemble(given.pop("spec"), **given)


def test_an_unknown_propagation_is_refused(dynamics):
    with pytest.raises(ValueError, match="^propagation: got "):
        dynamics.model("ts")
