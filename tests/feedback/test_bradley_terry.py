"""Comparisons: the model of answers, how networks are fitted to it, and which queries are made, by known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit, logit

from jaxrl.feedback import comparisons
from jaxrl.feedback.bradley_terry import cross_entropy, entropy, log_probability
from jaxrl.feedback.comparisons import Comparisons, Learner
from jaxrl.feedback.queries import use
from jaxrl.feedback.segments import Segments
from jaxrl.types import Transition

KEY = jax.random.key(3)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_probabilities_are_those_of_the_formula_and_have_a_ceiling(noise):
    gap = np.array([-80.0, -2.0, 0.0, 0.3, 80.0], np.float32)
    expected = (1.0 - noise) * expit(gap.astype(np.float64)) + noise / 2
    np.testing.assert_allclose(jnp.exp(log_probability(gap, noise)), expected, rtol=1e-5, atol=1e-30)
    assert jnp.exp(log_probability(jnp.float32(1e4), 0.1)) == pytest.approx(0.95)
    assert jnp.isfinite(jax.grad(log_probability)(jnp.float32(-1e4), noise))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_ties_count_half(noise):
    gap, both = jnp.float32(0.7), jnp.array([1.0, 0.0])
    np.testing.assert_allclose(
        cross_entropy(gap, jnp.float32(0.5), noise), cross_entropy(gap, both, noise).mean(), rtol=1e-6
    )


def test_entropy_of_a_coin_is_log_2_and_of_certainty_0():
    np.testing.assert_allclose(entropy(jnp.array([0.0, 0.5, 1.0])), [0.0, np.log(2.0), 0.0], atol=1e-7)


def table(wins, total, length=1, lengths=None):
    """``total`` comparisons of state 0 with state 1, of which state 0 wins ``wins``; nothing is held out."""
    state = np.broadcast_to(np.array([0, 1])[None, :, None], (total, 2, length))
    mask = np.ones((total, 2, length), bool) if lengths is None else lengths
    label = (np.arange(total) < wins).astype(np.float32)
    none = np.zeros((total, 1), bool)
    return Comparisons(*map(jnp.asarray, (state, np.zeros_like(state), mask, label, ~none[:, 0], none, total)))


def learner(params, optimizer, penalty=0.0):
    params = jnp.asarray(params, jnp.float32)[None]
    return Learner(params, jax.vmap(optimizer.init)(params), jnp.full(1, penalty))


def of_table(params, observation, action):
    return params[observation]


@pytest.mark.parametrize(("wins", "noise"), [(3, 0.0), (7, 0.0), (7, 0.1)])
def test_with_n_of_N_wins_the_gap_is_the_logit(wins, noise):
    total, optimizer = 10, optax.sgd(2.0)
    fitted, fit = comparisons.fit(
        KEY, learner([0.0, 0.0], optimizer), table(wins, total), of_table, optimizer,
        noise=noise, num_steps=400, batch_size=total * 200,
    )  # fmt: skip
    share = (wins / total - noise / 2) / (1.0 - noise)
    gap = fitted.params[0, 0] - fitted.params[0, 1]
    assert gap == pytest.approx(logit(share), abs=0.1)
    share = wins / total
    assert fit.train_loss == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share), abs=1e-3)
    assert fit.held_out_loss == 0.0  # there are none


def test_a_constant_changes_nothing_where_lengths_are_equal_and_much_where_they_differ():
    def gap(constant, mask):
        both = comparisons.returns(
            of_table, jnp.array([0.3, -0.4]) + constant, jnp.array([[0, 0, 1], [1, 1, 1]]), jnp.zeros((2, 3)), mask
        )
        return both[0] - both[1]

    equal, unequal = jnp.ones((2, 3), bool), jnp.array([[1, 1, 1], [1, 0, 0]], bool)
    np.testing.assert_allclose([gap(0.0, equal), gap(5.0, equal)], 0.3 + 0.3 - 0.4 + 3 * 0.4, rtol=1e-5)
    np.testing.assert_allclose([gap(0.0, unequal), gap(5.0, unequal)], [0.2 + 0.4, 0.6 + 10.0], rtol=1e-5)


def test_what_a_segment_does_not_have_has_no_influence():
    nan = jnp.array([1.0, jnp.nan])
    found = jax.grad(
        lambda params: comparisons.returns(of_table, params, jnp.array([0, 1]), 0, jnp.array([1, 0])).sum()
    )
    np.testing.assert_array_equal(found(nan), [1.0, 0.0])


@pytest.mark.parametrize("memorized", [True, False])
def test_the_penalty_grows_where_members_memorize_and_shrinks_where_they_do_not(memorized):
    """Random answers, a parameter each: held out they stay at log 2. With one parameter both losses are equal."""
    total = 60
    rows = jnp.arange(total)
    state = jnp.stack([rows, jnp.full(total, total)], axis=1)[..., None] * (1 if memorized else 0)
    label = jax.random.bernoulli(KEY, 0.5, (total,)).astype(jnp.float32)
    given, held = jnp.ones(total, bool), (rows % 3 == 0)[:, None]
    data = Comparisons(state, state, jnp.ones((total, 2, 1), bool), label, given, held, jnp.int32(total))
    optimizer = optax.adam(0.3)
    start = learner(jnp.zeros(total + 1), optimizer, 1e-4)
    fitted, fit = comparisons.fit(KEY, start, data, of_table, optimizer, noise=0.0, num_steps=60, batch_size=60)
    if memorized:
        assert fit.held_out_loss > 1.5 * fit.train_loss and fitted.penalty[0] > 1e-4
    else:
        assert fit.held_out_loss == pytest.approx(fit.train_loss) and fitted.penalty[0] < 1e-4


def test_skipped_and_free_rows_change_nothing():
    optimizer = optax.sgd(0.5)
    good = table(7, 10)
    wide = jax.tree.map(lambda x: jnp.concatenate([x, x]) if x.ndim else x, good)
    wide = wide._replace(
        given=jnp.arange(20) < 10,
        label=jnp.where(jnp.arange(20) < 10, wide.label, jnp.nan),
    )
    run = lambda data: comparisons.fit(  # noqa: E731
        KEY, learner([0.1, 0.0], optimizer), data, of_table, optimizer, noise=0.0, num_steps=20, batch_size=8
    )
    for x, y in zip(jax.tree.leaves(run(good)), jax.tree.leaves(run(wide)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_new_comparisons_go_behind_the_old_ones_and_stop_at_the_capacity():
    example = Transition(*(jax.ShapeDtypeStruct((), jnp.float32) for _ in range(2)), 0, 0, 0, 0, ())
    data = comparisons.empty(example, capacity=5, length=2, num_members=3)
    for first in (0.0, 3.0):
        steps = jnp.arange(first, first + 3)[:, None, None] + jnp.zeros((3, 2, 2))
        pairs = Segments(Transition(steps, -steps, steps, 0, 0, 0, ()), jnp.ones((3, 2, 2), bool))
        data = comparisons.added(data, pairs, jnp.full(3, 0.5), jnp.ones(3, bool), jnp.zeros((3, 3), bool))
    assert data.asked == 5 and data.observation[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert data.action[:, 1, 1].tolist() == [0.0, -1.0, -2.0, -3.0, -4.0] and data.given.all()


def test_queries_are_chosen_where_members_disagree_or_doubt():
    """Candidates: all sure of the same, all in doubt, sure of opposite answers, sure with one in doubt."""
    gap = jnp.array([[9.0, 0.0, 9.0, 9.0], [9.0, 0.0, -9.0, 9.0], [9.0, 0.0, 9.0, 0.0], [9.0, 0.0, -9.0, 9.0]])
    assert jnp.argsort(-use("disagreement", gap)).tolist()[:2] == [2, 3]
    np.testing.assert_allclose(use("entropy", gap)[1:3], np.log(2.0), rtol=1e-6)
    assert use("entropy", gap)[0] < use("entropy", gap)[3] < np.log(2.0)
    assert not use("uniform", gap).any()
