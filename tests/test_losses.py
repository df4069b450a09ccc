"""Losses against a slow NumPy implementation, and how they add up."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import losses
from jaxrl.networks import Outputs
from jaxrl.types import Transition

N, A = 12, 3
SETTINGS = losses.Settings(clip_epsilon=0.2, value_coef=0.7, entropy_coef=0.03)


def make_data(weighted_samples):
    """Numbers ``[N]`` as NumPy, half of the ratios outside of the clip range, and the batch of them."""
    rng = np.random.default_rng(0)
    data = {
        "logits": rng.normal(size=(N, A)),
        "action": rng.integers(A, size=N),
        "advantage": rng.normal(size=N),
        "value": rng.normal(size=N),
        "old_value": rng.normal(size=N),
        "target": rng.normal(size=N),
        "weight": rng.integers(2, size=N).astype(float) if weighted_samples else np.ones(N),
    }
    log_p = data["logits"] - np.log(np.exp(data["logits"]).sum(-1, keepdims=True))
    data["log_prob"] = log_p[np.arange(N), data["action"]]
    data["old_log_prob"] = data["log_prob"] - rng.normal(size=N) * 0.4
    data["entropy"] = -(np.exp(log_p) * log_p).sum(-1)
    zeros = jnp.zeros(N)
    batch = losses.Batch(
        transition=Transition(zeros, zeros, zeros, zeros, zeros, zeros, zeros),
        raw_action=jnp.array(data["action"]),
        log_prob=jnp.array(data["old_log_prob"]),
        advantage=jnp.array(data["advantage"]),
        target=jnp.array(data["target"]),
        value=jnp.array(data["old_value"]),
        weight=jnp.array(data["weight"]) if weighted_samples else None,
    )
    return data, batch


def outputs_of(logits, value):
    return Outputs(policy=distrax.Categorical(logits=logits), value=value, features=jnp.zeros((N, 1)), heads={})


def slow(data, term):
    """The weighted mean of a term, sample by sample."""
    total = count = 0.0
    for i in range(N):
        total += data["weight"][i] * term({name: x[i] for name, x in data.items()})
        count += data["weight"][i]
    return total / max(count, 1.0)


def slow_ppo(x):
    ratio = np.exp(x["log_prob"] - x["old_log_prob"])
    return -min(ratio * x["advantage"], np.clip(ratio, 0.8, 1.2) * x["advantage"])


def slow_surrogate(x):
    return -np.exp(x["log_prob"] - x["old_log_prob"]) * x["advantage"]


def slow_kl(x):
    log_ratio = x["log_prob"] - x["old_log_prob"]
    return np.exp(log_ratio) - 1 - log_ratio


def slow_clipped_value(x):
    clipped = x["old_value"] + np.clip(x["value"] - x["old_value"], -0.3, 0.3)
    return 0.5 * max((x["value"] - x["target"]) ** 2, (clipped - x["target"]) ** 2)


def slow_huber(x):
    error = abs(x["value"] - x["target"])
    return 0.5 * error**2 if error <= 0.4 else 0.4 * (error - 0.2)


def slow_square(x):
    return 0.5 * (x["value"] - x["target"]) ** 2


TERMS = {
    "policy_gradient": (losses.policy_gradient, SETTINGS, lambda x: -x["log_prob"] * x["advantage"]),
    "surrogate": (losses.surrogate, SETTINGS, slow_surrogate),
    "ppo_clip": (losses.ppo_clip, SETTINGS, slow_ppo),
    "kl_penalty": (losses.kl_penalty, SETTINGS, slow_kl),
    "value": (losses.value, SETTINGS, slow_square),
    "value_clipped": (losses.value, SETTINGS._replace(clip_value_epsilon=0.3), slow_clipped_value),
    "value_huber": (losses.value, SETTINGS._replace(huber_delta=0.4), slow_huber),
    "entropy": (losses.entropy, SETTINGS, lambda x: -x["entropy"]),
    "actor_critic": (
        losses.actor_critic,
        SETTINGS,
        lambda x: -x["log_prob"] * x["advantage"] + 0.7 * slow_square(x) - 0.03 * x["entropy"],
    ),
    "trpo": (losses.trpo, SETTINGS, lambda x: slow_surrogate(x) - 0.03 * x["entropy"]),
    "ppo": (losses.ppo, SETTINGS, lambda x: slow_ppo(x) + 0.7 * slow_square(x) - 0.03 * x["entropy"]),
}


@pytest.mark.parametrize("weighted_samples", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", TERMS)
def test_against_numpy(name, weighted_samples):
    loss, settings, term = TERMS[name]
    data, batch = make_data(weighted_samples)
    outputs = outputs_of(jnp.array(data["logits"]), jnp.array(data["value"]))
    found, metrics = loss(outputs, batch, settings)
    np.testing.assert_allclose(found, slow(data, term), rtol=1e-5)
    assert all(metric.shape == () for metric in metrics.values())


def test_metrics():
    data, batch = make_data(False)
    _, metrics = losses.ppo(outputs_of(jnp.array(data["logits"]), jnp.array(data["value"])), batch, SETTINGS)
    outside = np.abs(np.exp(data["log_prob"] - data["old_log_prob"]) - 1) > 0.2
    assert 0 < outside.mean() < 1
    expected = {
        "policy_loss": slow(data, slow_ppo),
        "value_loss": slow(data, slow_square),
        "entropy": data["entropy"].mean(),
        "approximate_kl": slow(data, slow_kl),
        "clip_fraction": outside.mean(),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_samples_without_weight_do_not_count():
    """Whatever stands in them, NaN apart, neither loss nor gradient moves; and no weight at all is no division by 0."""
    data, batch = make_data(True)
    dead = data["weight"] == 0
    assert dead.any() and not dead.all()

    def loss(logits, value, batch):
        return losses.ppo(outputs_of(logits, value), batch, SETTINGS)[0]

    other = batch._replace(
        **{name: jnp.where(dead, getattr(batch, name) + 5.0, getattr(batch, name)) for name in ("advantage", "target")}
    )
    logits, value = jnp.array(data["logits"]), jnp.array(data["value"])
    found = [jax.value_and_grad(loss, argnums=(0, 1))(logits, value, b) for b in (batch, other)]
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert loss(logits, value, batch._replace(weight=jnp.zeros(N))) == 0.0


def test_weighted_is_the_sum_of_gradients():
    data, batch = make_data(False)
    logits, value = jnp.array(data["logits"]), jnp.array(data["value"])

    def mine(outputs, batch, settings):
        return jnp.sum(outputs.policy.logits**2) + outputs.value.sum(), {"mine": outputs.value.sum()}

    def gradient(loss):
        return jax.grad(lambda x: loss(outputs_of(*x), batch, SETTINGS)[0])((logits, value))

    joined = losses.weighted((2.0, losses.ppo_clip), (-0.5, losses.value), (0.1, mine))
    parts = [gradient(loss) for loss in (losses.ppo_clip, losses.value, mine)]
    for found, a, b, c in zip(gradient(joined), *parts, strict=True):
        np.testing.assert_allclose(found, 2.0 * a - 0.5 * b + 0.1 * c, rtol=1e-5, atol=1e-6)
    metrics = joined(outputs_of(logits, value), batch, SETTINGS)[1]
    assert set(metrics) == {"policy_loss", "approximate_kl", "clip_fraction", "value_loss", "mine"}


def test_weights_may_be_traced():
    data, batch = make_data(False)
    outputs = outputs_of(jnp.array(data["logits"]), jnp.array(data["value"]))
    swept = jax.vmap(lambda w: losses.weighted((w, losses.value))(outputs, batch, SETTINGS)[0])(jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(swept[1], 4 * swept[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda value: value.mean(), r"mine returned .*, must return \(scalar, metrics\)"),
        (lambda value: (value.mean(), value.mean()), r"mine returned .*, must return \(scalar, metrics\)"),
        (lambda value: (value, {}), r"mine returned a loss of shape \(12,\), must be a scalar such as batch.mean"),
        (lambda value: (value.mean(), {"v": value}), r"mine returned metrics\['v'\] of shape \(12,\)"),
    ],
)
def test_a_loss_that_is_none_is_named(given, message):
    def mine(outputs, batch, settings):
        return given(batch.value)

    _, batch = make_data(False)
    with pytest.raises((TypeError, ValueError), match=f"^loss: {message}"):
        losses.checked(mine, None, batch, SETTINGS)
    with pytest.raises((TypeError, ValueError), match=f"^loss: {message}"):
        losses.weighted((1.0, mine))(None, batch, SETTINGS)


def test_terms_are_pairs():
    for terms in ([[(1.0, losses.ppo)]], [losses.ppo], [(losses.ppo, 1.0)]):
        with pytest.raises(TypeError, match="^terms: got .*, must be pairs"):
            losses.weighted(*terms)


def test_weighted_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        losses.weighted()
