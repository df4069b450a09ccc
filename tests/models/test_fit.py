"""``models.fit`` on problems whose solution is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import models

N = 200


def line(key=0, noise=0.1):
    x = jax.random.uniform(jax.random.key(key), (N,), minval=-1.0)
    return x, 2.0 * x + 1.0 + noise * jax.random.normal(jax.random.key(key + 1), (N,))


def square(params, key, batch):
    x, y = batch
    return jnp.square(params["w"] * x + params["b"] - y)


START = {"w": jnp.zeros(()), "b": jnp.zeros(())}
OPTIONS = {"optimizer": optax.adam(0.03), "batch_size": 32, "max_epochs": 60}


def test_the_line_is_that_of_least_squares_over_the_training_rows():
    data = line()
    fitted = jax.jit(lambda key: models.fit(key, START, data, square, **OPTIONS))(jax.random.key(0))
    train = ~np.asarray(models.held_out_rows(N, 0.1))
    slope, intercept = np.polyfit(np.asarray(data[0])[train], np.asarray(data[1])[train], 1)
    np.testing.assert_allclose([fitted.params["w"], fitted.params["b"]], [slope, intercept], atol=0.05)
    x, y = (np.asarray(part)[~train] for part in data)
    held_out = np.mean((float(fitted.params["w"]) * x + float(fitted.params["b"]) - y) ** 2)
    np.testing.assert_allclose(fitted.best, held_out, rtol=1e-5)
    assert fitted.best == fitted.held_out[: int(fitted.epochs) + 1].min() < 0.02 < fitted.held_out[0]
    assert fitted.held_out.shape == (61,)
    assert set(fitted.metrics()) == {"held_out_before", "held_out", "train", "epochs"}


def test_it_stops_where_nothing_is_learned_and_keeps_the_best():
    x = jnp.ones((N,))
    fitted = models.fit(
        jax.random.key(0), {"w": jnp.zeros(()), "b": jnp.zeros(())}, (x, 0.0 * x), square, patience=3, max_epochs=20
    )
    assert int(fitted.epochs) == 3
    assert fitted.params == START


def test_a_loss_that_becomes_nan_gives_back_what_there_was():
    def breaks(params, key, batch):
        return jnp.where(params["w"] == 0.0, params["w"] - 1.0, jnp.nan) * jnp.ones_like(batch[0])

    fitted = models.fit(jax.random.key(0), START, line(), breaks, patience=2, max_epochs=9)
    assert int(fitted.epochs) == 2
    assert float(fitted.params["w"]) == 0.0 and float(fitted.best) == -1.0


def test_rows_beyond_the_size_are_not_looked_at():
    x, y = line()
    spoiled = x.at[50:].set(jnp.nan), y.at[50:].set(jnp.nan)
    run = jax.jit(lambda size, data: models.fit(jax.random.key(0), START, data, square, size=size, **OPTIONS))
    found, expected = run(50, spoiled), run(50, (x, y))
    assert float(found.params["w"]) == float(expected.params["w"]) != 0.0
    # As many minibatches as 50 rows need, so the same as from a buffer of 50.
    small = models.fit(jax.random.key(0), START, (x[:50], y[:50]), square, **OPTIONS)
    np.testing.assert_allclose(small.params["w"], found.params["w"], rtol=1e-5)


@pytest.mark.parametrize("size", [0, 1])
def test_without_rows_to_train_on_nothing_changes(size):
    fitted = models.fit(jax.random.key(0), START, line(), square, size=size, **OPTIONS)
    assert fitted.params == START
    assert np.isfinite(fitted.held_out).all()


def test_without_held_out_rows_all_epochs_are_run():
    fitted = models.fit(jax.random.key(0), START, line(), square, held_out=0.0, **OPTIONS)
    assert int(fitted.epochs) == 60
    np.testing.assert_allclose(fitted.params["w"], 2.0, atol=0.05)


def test_rows_of_weight_0_teach_nothing():
    x, y = line()
    weight = (jnp.arange(N) < 100).astype(jnp.float32)
    wrong = y.at[100:].add(50.0)
    options = {**OPTIONS, "held_out": 0.0}
    fitted = models.fit(jax.random.key(0), START, (x, wrong), square, weight=weight, **options)
    np.testing.assert_allclose(fitted.params["b"], 1.0, atol=0.1)


def test_members_of_a_vmap_equal_single_runs():
    data = line()
    run = jax.jit(lambda key, held_out: models.fit(key, START, data, square, held_out=held_out, **OPTIONS))
    keys, shares = jax.random.split(jax.random.key(3), 3), jnp.array([0.05, 0.2, 0.5])
    together = jax.vmap(run)(keys, shares)
    for i in range(3):
        alone = run(keys[i], shares[i])
        assert int(alone.epochs) == int(together.epochs[i])
        np.testing.assert_allclose(together.params["w"][i], alone.params["w"], rtol=1e-5)
        np.testing.assert_allclose(together.held_out[i], alone.held_out, rtol=1e-4, atol=1e-6)
    assert len(set(np.asarray(together.epochs).tolist())) > 1


def test_the_penalty_shrinks_and_is_not_part_of_the_held_out_loss():
    penalty = lambda params: 100.0 * params["w"] ** 2  # noqa: E731
    fitted = models.fit(jax.random.key(0), START, line(), square, penalty=penalty, **OPTIONS)
    assert abs(float(fitted.params["w"])) < 0.1
    assert float(fitted.best) < 5.0


def test_held_out_rows_are_an_even_share_that_stays():
    for share in (0.0, 0.1, 0.25, 1.0):
        rows = np.asarray(models.held_out_rows(10_000, share))
        np.testing.assert_allclose(rows.mean(), share, atol=2e-3)
        np.testing.assert_array_equal(rows[:100], models.held_out_rows(100, share))
        # in every residue class, so that no environment of a vectorised buffer is left out
        np.testing.assert_allclose(rows.reshape(-1, 8).mean(0), share, atol=0.02)
    assert bool(models.held_out_rows(1, 0.01)[0])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("loss", {"loss": None}),
        ("penalty", {"penalty": 3}),
        ("batch_size", {"batch_size": 0}),
        ("max_epochs", {"max_epochs": 1.5}),
        ("patience", {"patience": 0}),
        ("held_out", {"held_out": 1.5}),
        ("min_improvement", {"min_improvement": float("nan")}),
        ("weight", {"weight": jnp.ones(3)}),
        ("data", {"data": (jnp.ones(3), jnp.ones(4))}),
        ("data", {"data": ()}),
    ],
)
def test_what_is_refused(name, changed):
    given = {"data": line(), "loss": square, **changed}
    with pytest.raises((TypeError, ValueError), match=f"^{name}: got "):
        models.fit(jax.random.key(0), START, given.pop("data"), given.pop("loss"), **given)
