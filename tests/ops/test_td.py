"""One-step targets against rlax and loops, masks, and what no gradient may pass through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl.ops import returns, td

N, A = 64, 4
GAMMA = 0.9


@pytest.fixture(scope="module")
def batch():
    """Two steps of action values, a selector, actions, rewards, discounts (some 0, some negative), and a policy."""
    rng = np.random.default_rng(0)
    q_tm1, q_t, q_selector = rng.normal(size=(3, N, A)).astype(np.float32)
    a_tm1, a_t = rng.integers(A, size=(2, N)).astype(np.int32)
    r_t = rng.normal(size=N).astype(np.float32)
    discount_t = GAMMA * rng.choice([1.0, 0.0, -1.0], N).astype(np.float32)
    probs = rng.dirichlet(np.ones(A), N).astype(np.float32)
    mask = rng.random((N, A)) < 0.6
    mask[:, 2] |= ~mask.any(-1)
    return dict(
        q_tm1=q_tm1, q_t=q_t, selector=q_selector, a_tm1=a_tm1, a_t=a_t, r=r_t, d=discount_t, probs=probs, mask=mask
    )


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


class TestTakeAction:
    @pytest.mark.parametrize("rest", [(), (3,), (3, 2)])
    @pytest.mark.parametrize("batch_shape", [(), (5,), (4, 5)])
    def test_against_indexing(self, batch_shape, rest):
        rng = np.random.default_rng(0)
        values = rng.normal(size=(*batch_shape, A, *rest)).astype(np.float32)
        action = rng.integers(A, size=batch_shape)
        expected = np.empty((*batch_shape, *rest), np.float32)
        for index in np.ndindex(batch_shape):
            expected[index] = values[(*index, action[index])]
        np.testing.assert_array_equal(td.take_action(values, action), expected)

    def test_keeps_the_dtype(self):
        assert td.take_action(jnp.arange(4), jnp.array(2)).dtype == jnp.int32
        assert td.take_action(jnp.ones(4, jnp.bfloat16), jnp.array(2)).dtype == jnp.bfloat16

    def test_other_actions_leave_no_trace(self):
        """Infinite and undefined values of actions not taken: 0 * inf would be NaN, in the gradient too."""
        values = jnp.array([[jnp.inf, 2.0, jnp.nan, -jnp.inf]])
        taken, gradient = jax.value_and_grad(lambda q: td.take_action(q, jnp.array([1])).sum())(values)
        assert taken == 2.0
        assert gradient.tolist() == [[0.0, 1.0, 0.0, 0.0]]

    @pytest.mark.parametrize("action_shape", [(5, 1), (3,), (5, A)])
    def test_refuses_axes_that_do_not_match(self, action_shape):
        with pytest.raises(ValueError, match="values: got shape .*, must be"):
            td.take_action(jnp.ones((5, A)), jnp.zeros(action_shape, jnp.int32))


class TestAgainstRlax:
    """rlax gives errors of single transitions: target minus the value of the action taken."""

    def errors(self, batch, target):
        return target - td.take_action(batch["q_tm1"], batch["a_tm1"])

    def test_td_error(self, batch):
        v_tm1, v_t = batch["q_tm1"][:, 0], batch["q_t"][:, 0]
        expected = jax.vmap(rlax.td_learning)(v_tm1, batch["r"], batch["d"], v_t)
        assert_close(td.td_error(v_tm1, batch["r"], batch["d"], v_t), expected)

    def test_sarsa(self, batch):
        b = batch
        expected = jax.vmap(rlax.sarsa)(b["q_tm1"], b["a_tm1"], b["r"], b["d"], b["q_t"], b["a_t"])
        assert_close(self.errors(b, td.sarsa_target(b["r"], b["d"], b["q_t"], b["a_t"])), expected)

    def test_expected_sarsa(self, batch):
        b = batch
        expected = jax.vmap(rlax.expected_sarsa)(b["q_tm1"], b["a_tm1"], b["r"], b["d"], b["q_t"], b["probs"])
        assert_close(self.errors(b, td.expected_sarsa_target(b["r"], b["d"], b["q_t"], b["probs"])), expected)

    def test_q_learning(self, batch):
        b = batch
        expected = jax.vmap(rlax.q_learning)(b["q_tm1"], b["a_tm1"], b["r"], b["d"], b["q_t"])
        assert_close(self.errors(b, td.q_learning_target(b["r"], b["d"], b["q_t"])), expected)

    def test_double_q_learning(self, batch):
        b = batch
        expected = jax.vmap(rlax.double_q_learning)(b["q_tm1"], b["a_tm1"], b["r"], b["d"], b["q_t"], b["selector"])
        assert_close(self.errors(b, td.double_q_learning_target(b["r"], b["d"], b["q_t"], b["selector"])), expected)


class TestMasks:
    def test_targets_against_a_loop(self, batch):
        b = batch
        single, double = [], []
        for q, selector, mask, r, d in zip(b["q_t"], b["selector"], b["mask"], b["r"], b["d"], strict=True):
            legal = [a for a in range(A) if mask[a]]
            single.append(r + d * max(q[a] for a in legal))
            double.append(r + d * q[max(legal, key=lambda a: selector[a])])
        assert_close(td.q_learning_target(b["r"], b["d"], b["q_t"], b["mask"]), single)
        assert_close(td.double_q_learning_target(b["r"], b["d"], b["q_t"], b["selector"], b["mask"]), double)

    def test_no_value_of_an_illegal_action_matters(self, batch):
        b = batch
        for illegal in (1e30, np.inf, np.nan):
            q_t, selector = (np.where(b["mask"], q, illegal) for q in (b["q_t"], b["selector"]))
            np.testing.assert_array_equal(
                td.q_learning_target(b["r"], b["d"], q_t, b["mask"]),
                td.q_learning_target(b["r"], b["d"], b["q_t"], b["mask"]),
            )
            np.testing.assert_array_equal(
                td.double_q_learning_target(b["r"], b["d"], q_t, selector, b["mask"]),
                td.double_q_learning_target(b["r"], b["d"], b["q_t"], b["selector"], b["mask"]),
            )

    def test_legal_actions_worth_less_than_any_filling(self):
        """A fill of 0 or -1e9 would be the maximum here."""
        values, mask = jnp.array([-1e30, -2e30, 5.0]), jnp.array([True, True, False])
        assert td.masked_argmax(values, mask) == 0
        np.testing.assert_allclose(td.masked_max(values, mask), -1e30)

    def test_first_of_equal_actions(self):
        values = jnp.array([[3.0, 1.0, 3.0], [3.0, 1.0, 1.0]])
        mask = jnp.array([[True, True, True], [False, True, True]])
        assert td.masked_argmax(values, mask).tolist() == [0, 1]
        assert td.masked_argmax(values).dtype == jnp.int32

    def test_no_legal_action_at_the_end_of_a_game(self):
        """A discount of 0 must remove the value, and 0 * -inf would be NaN."""
        q, nothing = jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2), bool)
        r_t, discount_t = jnp.array([5.0]), jnp.zeros(1)
        assert td.q_learning_target(r_t, discount_t, q, nothing).tolist() == [5.0]
        assert td.double_q_learning_target(r_t, discount_t, q, q, nothing).tolist() == [5.0]
        assert td.masked_max(q, nothing).tolist() == [2.0]


class TestSoftValue:
    def test_against_a_loop(self, batch):
        q, probs = batch["q_t"].astype(float), batch["probs"].astype(float)
        expected = [
            sum(p * (x - 0.3 * np.log(p)) for x, p in zip(*row, strict=True)) for row in zip(q, probs, strict=True)
        ]
        assert_close(td.soft_value(batch["q_t"], jnp.log(batch["probs"]), 0.3), expected)

    def test_best_policy_reaches_the_log_sum_exp(self):
        """max_pi E[q - alpha log pi] = alpha log sum exp(q / alpha), at pi = softmax(q / alpha), where it is flat."""
        q, alpha = jnp.array([1.0, -0.5, 2.0]), 0.7
        value, gradient = jax.value_and_grad(td.soft_value, 1)(q, q / alpha, alpha)
        np.testing.assert_allclose(value, alpha * jax.nn.logsumexp(q / alpha), rtol=1e-6)
        np.testing.assert_allclose(gradient, np.zeros(3), atol=1e-6)
        assert td.soft_value(q, q / alpha + jnp.array([0.5, 0.0, 0.0]), alpha) < value - 1e-3

    @pytest.mark.parametrize("fill", [-np.inf, -1e9])
    def test_illegal_actions_add_nothing(self, fill):
        q, logits = jnp.array([1.0, 7.0, 3.0]), jnp.array([0.2, fill, -0.4])
        value, gradients = jax.value_and_grad(td.soft_value, (0, 1))(q, logits, 0.5)
        np.testing.assert_allclose(value, td.soft_value(q[::2], logits[::2], 0.5), rtol=1e-6)
        assert all(np.isfinite(gradient).all() and gradient[1] == 0 for gradient in gradients)

    def test_no_legal_action_is_finite(self):
        value, gradient = jax.value_and_grad(td.soft_value, 1)(jnp.array([1.0, 3.0]), jnp.full(2, -jnp.inf), 0.5)
        np.testing.assert_allclose(value, 2.0 + 0.5 * np.log(2), rtol=1e-6)
        assert np.isfinite(gradient).all()


class TestGradients:
    def test_targets_are_constants(self, batch):
        b = batch

        def total(r, d, q, selector, probs):
            targets = td.one_step_target(r, d, q[:, 0]) + td.sarsa_target(r, d, q, b["a_t"])
            targets += td.expected_sarsa_target(r, d, q, probs) + td.q_learning_target(r, d, q, b["mask"])
            return (targets + td.double_q_learning_target(r, d, q, selector, b["mask"])).sum()

        gradients = jax.grad(total, range(5))(b["r"], b["d"], b["q_t"], b["selector"], b["probs"])
        assert not any(gradient.any() for gradient in gradients)

    def test_td_error_is_the_semi_gradient(self):
        gradients = jax.grad(td.td_error, (0, 3))(1.0, 2.0, 0.5, 4.0)
        assert gradients == (-1.0, 0.0)

    def test_values_are_differentiable(self):
        """An actor that is trained through its critic needs them so."""
        q, probs = jnp.array([1.0, 2.0]), jnp.array([0.25, 0.75])
        assert jax.grad(td.expected_value, (0, 1))(q, probs)[0].tolist() == [0.25, 0.75]
        assert jax.grad(td.masked_max)(q).tolist() == [0.0, 1.0]


class TestLambda:
    """Q(lambda) is lambda-returns over the values here: nothing else is needed."""

    @pytest.mark.parametrize("watkins", [False, True], ids=["Peng", "Watkins"])
    def test_against_rlax(self, watkins):
        rng = np.random.default_rng(1)
        q_t = rng.normal(size=(6, A)).astype(np.float32)
        r_t, discount_t = rng.normal(size=6).astype(np.float32), np.full(6, GAMMA, np.float32)
        a_t = rng.integers(A, size=6)
        a_t[:3] = q_t[:3].argmax(-1)
        lambda_ = np.full(6, 0.7, np.float32)
        if watkins:
            lambda_ = lambda_ * np.asarray(a_t == td.masked_argmax(q_t))
            assert 0 < np.count_nonzero(lambda_) < 6
        ours = returns.lambda_returns(r_t, discount_t, td.masked_max(q_t), np.ones(6, bool), lambda_)
        # rlax has the error of an action of value 0.
        zeros = jnp.zeros((6, A))
        assert_close(ours, rlax.q_lambda(zeros, jnp.zeros(6, int), r_t, discount_t, jnp.asarray(q_t), lambda_))


def test_a_table_learns_the_values_of_a_chain():
    """States 0, 1, 2, an end; right pays 1 at the end, left goes back. q = gamma^distance, exact in a few sweeps."""
    next_state = jnp.array([[0, 1], [0, 2], [1, 2]])
    r_t = jnp.zeros((3, 2)).at[2, 1].set(1.0)
    discount_t = jnp.full((3, 2), GAMMA).at[2, 1].set(0.0)
    q = jnp.zeros((3, 2))
    for _ in range(5):
        q = td.q_learning_target(r_t, discount_t, q[next_state])
    best = np.array([GAMMA**2, GAMMA, 1.0])
    np.testing.assert_allclose(q, np.stack([GAMMA * best[[0, 0, 1]], best], axis=1), rtol=1e-6)


def test_under_jit_and_vmap(batch):
    """A population with its own discounts and temperatures."""
    b = batch

    def one(gamma, temperature):
        discount_t = returns.bootstrap_discount(jnp.ones(N), gamma)
        target = td.double_q_learning_target(b["r"], discount_t, b["q_t"], b["selector"], b["mask"])
        return target + td.soft_value(b["q_t"], b["selector"], temperature)

    swept = jax.jit(jax.vmap(one))(jnp.array([0.5, 0.9]), jnp.array([0.1, 1.0]))
    for gamma, temperature, row in zip([0.5, 0.9], [0.1, 1.0], swept, strict=True):
        assert_close(row, one(gamma, temperature))
