"""Every public function of ops at the edges of every float dtype: one row each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl import ops
from jaxrl.ops import (
    across,
    distributional,
    exploration,
    groups,
    normalize,
    numerics,
    outcomes,
    pairs,
    policy_gradient,
    returns,
    td,
    tokens,
    value,
)

from ..edges import DTYPES, FEW, A, N, Row, T, check, covered, finite, legal, public, sums_to_1, within


def same(result, given):
    np.testing.assert_array_equal(result, given)


def equals(expected):
    def holds(result, *_):
        assert result == expected

    return holds


def same_mass(result, atoms, probs, support):
    del atoms, support
    np.testing.assert_allclose(*(np.asarray(x, float).sum(-1) for x in (result, probs)), atol=0.03)


def chosen_legally(probs, values, epsilon, mask):
    del values, epsilon
    sums_to_1(probs)
    assert not np.asarray(probs)[~np.asarray(mask) & np.asarray(mask).any(-1, keepdims=True)].any()


def largest_legal(result, values, mask):
    values, mask = np.asarray(values, float), np.asarray(mask)
    expected = np.where(mask | ~mask.any(-1, keepdims=True), values, -np.inf).max(-1)
    np.testing.assert_array_equal(np.asarray(result, float), expected)


def statistics(samples):
    return normalize.update_statistics(normalize.init_statistics((N,)), samples)


ACROSS = {
    "across.size": Row("", across.size, equals(1)),
    "across.index": Row("", across.index, equals(0)),
    "across.mean": Row("r", across.mean, same),
    "across.total": Row("r", across.total, same),
    "across.gather": Row("r", across.gather, same),
    "across.least": Row("r", across.least, same),
    "across.variance": Row("r", across.variance, share=1 / 16, power=0.5),
    "across.own": Row("k", across.own, lambda result, key: equals(True)(result == key)),
    "across.share": Row("", lambda: across.share("num_envs", 6), equals(6)),
}
DISTRIBUTIONS = {
    "distributional.target_atoms": Row("veq", distributional.target_atoms),
    "distributional.two_hot": Row("vg", distributional.two_hot, sums_to_1),
    "distributional.project": Row("qpg", distributional.project, same_mass),
    "distributional.categorical_mean": Row("pg", distributional.categorical_mean, finite),
    "distributional.categorical_cross_entropy_term": Row(
        "qp", distributional.categorical_cross_entropy_term, within(-1e-2, np.inf)
    ),
    "distributional.quantile_midpoints": Row(
        "", lambda: distributional.quantile_midpoints(A), within(0.09, 0.91), dtype="float32"
    ),
    "distributional.quantile_huber_term": Row(
        "qqz",
        lambda q, target, kappa: distributional.quantile_huber_term(q, target, jnp.full(A, 0.5, q.dtype), kappa),
        within(0.0, np.inf),
        share=1 / 32,
    ),
    "distributional.bin_centers": Row("g", lambda edges: distributional.bin_centers(4.0 * edges), finite),
    "distributional.hl_gauss": Row(
        "vgz", lambda x, edges, sigma: distributional.hl_gauss(x, 4.0 * edges, sigma), sums_to_1
    ),
}
EXPLORATION = {
    "exploration.linear_schedule": Row(
        "av",
        lambda step, ends: exploration.linear_schedule(step, jnp.float32(ends[0]), jnp.float32(ends[1]), 3),
        dtype="float32",
        power=0.1,
    ),
    "exploration.epsilon_greedy": Row(
        "kqum", exploration.epsilon_greedy, lambda action, k, q, u, mask: legal(action, mask)
    ),
    "exploration.epsilon_greedy_probs": Row("qum", exploration.epsilon_greedy_probs, chosen_legally),
    "exploration.boltzmann": Row("kqzm", exploration.boltzmann, lambda action, k, q, z, mask: legal(action, mask)),
    "exploration.boltzmann_probs": Row("qzm", exploration.boltzmann_probs, chosen_legally),
    "exploration.gaussian": Row("kqz", exploration.gaussian, within(-1.0, 1.0), oracle=False),
    "exploration.ornstein_uhlenbeck": Row(
        "kqu", lambda key, noise, u: exploration.ornstein_uhlenbeck(key, noise, u, u), finite, share=0.5, oracle=False
    ),
    "exploration.uniform_discrete": Row(
        "km",
        lambda key, mask: exploration.uniform_discrete(key, (N,), A, mask),
        lambda action, k, mask: legal(action, mask),
    ),
    "exploration.uniform_box": Row(
        "k", lambda key: exploration.uniform_box(key, (N, 2)), within(-1.0, 1.0), dtype="float32"
    ),
}
NORMALIZE = {
    "normalize.init_statistics": Row("", lambda: normalize.init_statistics((N,)), within(0.0, 0.0), dtype="float32"),
    "normalize.update_statistics": Row(
        "rr", lambda x, y: normalize.update_statistics(statistics(x), y), finite, dtype="float32"
    ),
    "normalize.standard_deviation": Row(
        "r", lambda x: normalize.standard_deviation(statistics(x)), within(1e-5, 1e16), dtype="float32"
    ),
    "normalize.standardize": Row(
        "rr", lambda x, y: normalize.standardize(statistics(x), y), within(-10.0, 10.0), dtype="float32"
    ),
    "normalize.discounted_return_trace": Row("vrdc", normalize.discounted_return_trace, finite, share=1 / 16),
}
NUMERICS = {
    "numerics.wide": Row("v", lambda x: jnp.zeros((), numerics.wide(x)), dtype="wide"),
    "numerics.positive": Row("zv", lambda z, x: numerics.positive(z, x.dtype), within(1e-310, 1.1e4), oracle=False),
    "numerics.tie_noise": Row(
        "v", lambda x: x + numerics.tie_noise(1e-6, x.dtype) - x, within(0.0, 0.1), share=0.0, oracle=False
    ),
    "numerics.max_log_ratio": Row(
        "v", lambda x: jnp.exp(numerics.max_log_ratio(x.dtype) + 0 * x), finite, oracle=False
    ),
    "numerics.count_up": Row(
        "",
        lambda: [numerics.count_up(jnp.int32(count), 4) for count in (3, 2**31 - 3, 2**31 - 1)],
        lambda found: equals(True)([int(count) for count in found] == [7, 2**31 - 1, 2**31 - 1]),
    ),
    "numerics.log_softmax": Row("q", numerics.log_softmax, finite, oracle=False),
}
POLICY_GRADIENT = {
    "policy_gradient.policy_gradient_term": Row("vv", policy_gradient.policy_gradient_term),
    "policy_gradient.surrogate_term": Row("vv", policy_gradient.surrogate_term, oracle=False),
    "policy_gradient.ppo_clip_term": Row("vvu", policy_gradient.ppo_clip_term, oracle=False),
    "policy_gradient.approximate_kl": Row("v", policy_gradient.approximate_kl, finite, oracle=False),
    "policy_gradient.clip_fraction": Row(
        "vu", policy_gradient.clip_fraction, within(0.0, 1.0), dtype="float32", oracle=False
    ),
    "policy_gradient.categorical_entropy": Row(
        "q", policy_gradient.categorical_entropy, within(-0.02, np.log(A) + 0.02)
    ),
    "policy_gradient.categorical_kl": Row("qq", policy_gradient.categorical_kl, within(-0.1, 1e309), oracle=False),
    "policy_gradient.normalize_advantage": Row(
        "r", policy_gradient.normalize_advantage, within(-np.sqrt(T * N), np.sqrt(T * N)), share=1 / 8, power=0.5
    ),
}
RETURNS = {
    "returns.bootstrap_discount": Row("d", lambda d: returns.bootstrap_discount(d, 0.99), within(-1.0, 1.0)),
    "returns.continues": Row("cc", returns.continues),
    "returns.discounted_returns": Row("rdrc", returns.discounted_returns, finite, share=1 / 16),
    "returns.n_step_returns": Row("rdrc", lambda *x: returns.n_step_returns(*x, 2), finite, share=1 / 16),
    "returns.lambda_returns": Row("rdrcu", returns.lambda_returns, finite, share=1 / 16),
    "returns.gae": Row("rdrrcu", returns.gae, finite, share=1 / 32),
    "returns.vtrace": Row("rdrrcr", returns.vtrace, finite, share=1 / 32),
    "outcomes.open_returns": Row("rdrc", outcomes.open_returns, finite, share=1 / 16),
}
TD = {
    "td.take_action": Row("qa", td.take_action, finite),
    "td.legal_or_all": Row("m", td.legal_or_all, lambda result, mask: equals(True)(bool(result.any(-1).all()))),
    "td.masked_max": Row("qm", td.masked_max, largest_legal),
    "td.masked_argmax": Row("qm", td.masked_argmax, lambda action, q, mask: legal(action, mask)),
    "td.expected_value": Row("qp", td.expected_value, finite, share=0.5),
    "td.double_q_value": Row("qqm", td.double_q_value, finite),
    "td.soft_value": Row("qqu", td.soft_value, finite, share=0.25),
    "td.one_step_target": Row("vev", td.one_step_target, finite, share=0.25),
    "td.td_error": Row("vvev", td.td_error, finite, share=0.25),
    "td.sarsa_target": Row("veqa", td.sarsa_target, finite, share=0.25),
    "td.expected_sarsa_target": Row("veqp", td.expected_sarsa_target, finite, share=0.25),
    "td.q_learning_target": Row("veqm", td.q_learning_target, finite, share=0.25),
    "td.double_q_learning_target": Row("veqqm", td.double_q_learning_target, finite, share=0.25),
}
VALUE = {
    "value.squared_error_term": Row("vv", value.squared_error_term, within(0.0, np.inf)),
    "value.clipped_value_term": Row("vvvu", value.clipped_value_term, within(0.0, np.inf)),
    "value.huber_term": Row("vvu", value.huber_term, within(0.0, np.inf), share=0.25),
    "value.explained_variance": Row("vv", value.explained_variance, within(-np.inf, 1.0), dtype="wide"),
    "value.compress": Row("v", value.compress, finite),
    "value.expand": Row("v", value.expand),
}
TOGETHER = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)[:, :, None]
"""Of T = 3 answers, which have the same prompt."""
TEXTS = {
    "groups.same_prompt": Row(
        "nm",
        jax.jit(groups.same_prompt),
        lambda same, *_: equals(True)(bool(jnp.diagonal(same).all())),
    ),
    "groups.group_advantage": Row(
        "r",
        jax.jit(lambda r: groups.group_advantage(r, jnp.asarray(TOGETHER))),
        within(-T, T),
        share=1 / 8,
        power=0.5,
    ),
    "groups.leave_one_out": Row(
        "r", jax.jit(lambda r: groups.leave_one_out(r, jnp.asarray(TOGETHER))), finite, share=1 / 8
    ),
    "pairs.dpo_term": Row("vv", lambda x, y: pairs.dpo_term(x, y, 0.1), within(0.0, np.inf), share=0.5),
    "pairs.ipo_term": Row("vv", lambda x, y: pairs.ipo_term(x, y, 0.1), within(0.0, np.inf), share=0.5),
    "tokens.masked_sum": Row("qm", tokens.masked_sum, share=1 / 32),
    "tokens.masked_mean": Row("qm", jax.jit(tokens.masked_mean), finite, share=1 / 32),
    "tokens.whiten": Row(
        "qm", jax.jit(tokens.whiten), within(-np.sqrt(N * A), np.sqrt(N * A)), share=1 / 32, power=0.5
    ),
    "tokens.last": Row(
        "m", jax.jit(tokens.last), lambda ends, mask: equals(True)(bool((ends.sum(-1) == mask.any(-1)).all()))
    ),
    "tokens.kl_k1": Row("v", tokens.kl_k1, finite),
    "tokens.kl_k3": Row("v", tokens.kl_k3, finite, oracle=False),
    "tokens.token_rewards": Row("vqmu", jax.jit(tokens.token_rewards), finite, share=0.25),
    "tokens.token_gae": Row(
        "qqmu", jax.jit(lambda r, v, mask, u: tokens.token_gae(r, v, mask, u, 0.95)), finite, share=1 / 32
    ),
}
ROWS = {
    **ACROSS, **DISTRIBUTIONS, **EXPLORATION, **NORMALIZE, **NUMERICS, **POLICY_GRADIENT, **RETURNS, **TD, **TEXTS,
    **VALUE
}  # fmt: skip


def test_every_public_function_has_a_row():
    assert covered(ROWS) == public(ops, "across", "numerics", "outcomes")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
@FEW
@given(data=st.data())
def test_at_the_edges_of_its_dtype(name, dtype, data):
    check(ROWS[name], dtype, data)
