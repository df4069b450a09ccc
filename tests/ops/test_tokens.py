"""Known answers of what is computed for tokens, groups and pairs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import groups, pairs, tokens
from jaxrl.ops import policy_gradient as pg

MASK = jnp.array([[True, True, False, False], [True, True, True, True], [False, False, False, False]])


def optimum(kl_in, beta=0.5):
    """Where gradient descent ends on a bandit of two tokens that pay 1 and 0, by exact sums over both.

    The reference is uniform. Weights are frequencies of samples of the policy, and the baseline is the mean.
    """
    pays, reference = jnp.array([1.0, 0.0]), jnp.log(jnp.full(2, 0.5))

    def loss(theta):
        log_pi = jax.nn.log_softmax(jnp.stack([theta, 0.0]))
        frequency = jax.lax.stop_gradient(jnp.exp(log_pi))
        log_ratio = reference - log_pi
        score, penalty = pays, jnp.zeros(2)
        if kl_in == "reward":
            score = pays - beta * jax.lax.stop_gradient(tokens.kl_k1(log_ratio))
        else:
            penalty = beta * tokens.kl_k3(log_ratio)
        advantage = score - jnp.sum(frequency * score)
        return jnp.sum(frequency * (pg.policy_gradient_term(log_pi, advantage) + penalty))

    descend = lambda _, theta: theta - 2.0 * jax.grad(loss)(theta)  # noqa: E731
    return float(jax.nn.sigmoid(jax.jit(lambda: jax.lax.fori_loop(0, 500, descend, jnp.float32(0.0)))()))


def test_where_the_divergence_stands_decides_the_optimum():
    """In the reward: pi = sigma(1 / beta). As k3 in the loss: pi (1 - pi) = beta (pi - 1/2)."""
    pi = optimum("reward")
    kl = pi * np.log(2 * pi) + (1 - pi) * np.log(2 * (1 - pi))
    assert pi == pytest.approx(0.880797, abs=1e-5)
    assert kl == pytest.approx(0.32781, abs=1e-5)
    assert pi - 0.5 * kl == pytest.approx(0.716890, abs=1e-5)
    assert optimum("loss") == pytest.approx(0.809017, abs=1e-5)


def test_the_estimators_have_the_divergence_as_mean():
    """By exact sums over the nine texts of length 2 over a vocabulary of 3."""
    rng = np.random.default_rng(0)
    table = lambda: np.asarray(jax.nn.log_softmax(jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)), float)  # noqa: E731
    pi, reference = table(), table()  # the first row for the first token, row 1 + a after token a
    rows = lambda a: (0, 1 + a)  # noqa: E731
    exact = sum(
        np.exp(pi[0, a] + pi[1 + a, b]) * (pi[0, a] + pi[1 + a, b] - reference[0, a] - reference[1 + a, b])
        for a, b in itertools.product(range(3), range(3))
    )
    by_rows = np.asarray(pg.categorical_kl(jnp.asarray(pi), jnp.asarray(reference)))
    assert exact == pytest.approx(by_rows[0] + np.exp(pi[0]) @ by_rows[1:], abs=1e-5)
    for estimate in (tokens.kl_k1, tokens.kl_k3):
        found = 0.0
        for a, b in itertools.product(range(3), range(3)):
            ratio = [reference[row, token] - pi[row, token] for row, token in zip(rows(a), (a, b), strict=True)]
            found += np.exp(pi[0, a] + pi[1 + a, b]) * float(estimate(jnp.asarray(ratio)).sum())
        assert found == pytest.approx(exact, abs=1e-5)


def test_the_score_is_paid_at_the_last_own_token_and_never_behind_it():
    """trl#3750 paid it at the padding."""
    kl = jnp.full((3, 4), 0.5).at[~MASK].set(jnp.nan)
    found = tokens.token_rewards(jnp.array([1.0, 2.0, 3.0]), kl, MASK, 0.2)
    np.testing.assert_allclose(found, [[-0.1, 0.9, 0, 0], [-0.1, -0.1, -0.1, 1.9], [0, 0, 0, 0]], atol=1e-6)


def test_advantages_of_tokens_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    reward, value = rng.normal(size=(2, 3, 4)).astype(np.float32)
    found = tokens.token_gae(jnp.asarray(reward), jnp.asarray(value), MASK, 0.9, 0.8)
    expected = np.zeros((3, 4))
    for row, length in enumerate((2, 4, 0)):
        advantage = 0.0
        for t in range(length - 1, -1, -1):
            later = value[row, t + 1] if t + 1 < length else 0.0
            advantage = reward[row, t] + 0.9 * later - value[row, t] + 0.9 * 0.8 * advantage
            expected[row, t] = advantage
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_means_and_whitening_see_no_padding():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4)), jnp.float32)
    own = np.asarray(x)[np.asarray(MASK)]
    for filled in (jnp.nan, 1e9):
        y = jnp.where(MASK, x, filled)
        assert float(tokens.masked_mean(y, MASK)) == pytest.approx(own.mean(), abs=1e-6)
        white = np.asarray(tokens.whiten(y, MASK))
        np.testing.assert_allclose(white[np.asarray(MASK)], (own - own.mean()) / own.std(), atol=1e-5)
        assert not white[~np.asarray(MASK)].any()
    assert float(tokens.masked_mean(x, jnp.zeros_like(MASK))) == 0.0


def test_groups_of_any_size_are_those_of_a_loop():
    """In each column answers 0, 2 and 3 have one prompt, 1 and 4 another, 5 is alone."""
    prompt = jnp.array([7, 8, 7, 7, 8, 9])[:, None, None]
    same = groups.same_prompt(prompt, jnp.ones_like(prompt, bool))
    score = np.random.default_rng(3).normal(size=(6, 1)).astype(np.float32)
    centred, scaled, left_out = (np.zeros((6, 1)) for _ in range(3))
    for members in ([0, 2, 3], [1, 4], [5]):
        for i in members:
            others = [j for j in members if j != i]
            centred[i] = score[i] - score[members].mean()
            scaled[i] = centred[i] / (score[members].std() + 1e-4)
            left_out[i] = score[i] - score[others].mean() if others else 0.0
    np.testing.assert_allclose(groups.group_advantage(score, same, normalize_std=False), centred, atol=1e-6)
    np.testing.assert_allclose(groups.group_advantage(score, same), scaled, atol=1e-4)
    np.testing.assert_allclose(groups.leave_one_out(score, same), left_out, atol=1e-6)


def test_a_group_of_one_right_answer_in_four():
    score, same = jnp.array([0.0, 0.0, 0.0, 1.0]), jnp.ones((4, 4), bool)
    np.testing.assert_allclose(groups.group_advantage(score, same, normalize_std=False), [-0.25, -0.25, -0.25, 0.75])
    np.testing.assert_allclose(groups.leave_one_out(score, same), 4 / 3 * (np.asarray(score) - 0.25), atol=1e-6)
    np.testing.assert_allclose(groups.group_advantage(score, same, epsilon=0.0), [-(3**-0.5)] * 3 + [3**0.5], atol=1e-6)


def minimum(term, rate, beta):
    """The difference of log-ratios that minimises a loss, where the first of two answers wins this often."""
    loss = lambda h: rate * term(h, 0.0 * h, beta) + (1 - rate) * term(0.0 * h, h, beta)  # noqa: E731
    descend = lambda _, h: h - 2.0 * jax.grad(loss)(h)  # noqa: E731
    return float(jax.jit(lambda: jax.lax.fori_loop(0, 500, descend, jnp.float32(0.0)))())


def test_pairs():
    zero = jnp.zeros(3)
    np.testing.assert_allclose(pairs.dpo_term(zero, zero, 0.3), np.log(2.0), rtol=1e-6)
    # Bradley-Terry: sigma(beta h) is the win rate.
    assert minimum(pairs.dpo_term, 0.75, 0.5) == pytest.approx(2 * np.log(3.0), abs=1e-4)
    # IPO: (2 rate - 1) / (2 beta), finite where all prefer one.
    ipo = lambda chosen, rejected, beta: 0.1 * pairs.ipo_term(chosen, rejected, beta)  # noqa: E731
    assert minimum(ipo, 0.75, 0.5) == pytest.approx(0.5, abs=1e-4)
    assert minimum(ipo, 1.0, 0.5) == pytest.approx(1.0, abs=1e-4)
