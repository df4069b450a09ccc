"""Returns against their definitions, written as sums over windows; against rlax; and the bugs that peers shipped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl.ops import returns

GAMMA, LAMBDA = 0.9, 0.7
LENGTHS = [1, 2, 3, 8]

discounted_returns = jax.jit(returns.discounted_returns)
n_step_returns = jax.jit(returns.n_step_returns, static_argnums=4)
lambda_returns = jax.jit(returns.lambda_returns)
gae = jax.jit(returns.gae)
vtrace = jax.jit(returns.vtrace)


def random_trajectory(seed, *shape, sign=1.0):
    """Rewards, discounts, v_tm1, v_t and continue_t with terminations and truncations; v_t unrelated to v_tm1."""
    rng = np.random.default_rng(seed)
    r_t, v_tm1, v_t = rng.normal(size=(3, *shape)).astype(np.float32)
    terminated, truncated = rng.random((2, *shape)) < 0.25
    mover = rng.choice([1.0, sign], shape)
    discount_t = (GAMMA * mover * ~terminated).astype(np.float32)
    return r_t, discount_t, v_tm1, v_t, ~(terminated | truncated)


def column_by_column(loop):
    """Runs a loop over [T] on each column of [T, B]."""

    def batched(*arrays):
        return np.stack([loop(*columns) for columns in zip(*(np.moveaxis(a, 1, 0) for a in arrays), strict=True)], 1)

    return batched


def last_index(continue_t, t):
    """The last index of the episode, or of the array, that t belongs to."""
    while t < len(continue_t) - 1 and continue_t[t]:
        t += 1
    return t


def windowed_return(r_t, discount_t, v_t, continue_t, t, n):
    last = min(t + n - 1, last_index(continue_t, t))
    total, weight = 0.0, 1.0
    for i in range(t, last + 1):
        total += weight * float(r_t[i])
        weight *= float(discount_t[i])
    return total + weight * float(v_t[last])


def loop_n_step(n):
    @column_by_column
    def loop(r_t, discount_t, v_t, continue_t):
        return [windowed_return(r_t, discount_t, v_t, continue_t, t, n) for t in range(len(r_t))]

    return loop


@column_by_column
def loop_lambda(r_t, discount_t, v_t, continue_t):
    """The forward view: (1 - lambda) sum_n lambda^(n-1) G^(n), the last window taking the weight that is left."""
    result = []
    for t in range(len(r_t)):
        longest = last_index(continue_t, t) - t + 1
        windows = [windowed_return(r_t, discount_t, v_t, continue_t, t, n) for n in range(1, longest + 1)]
        mixed = sum((1 - LAMBDA) * LAMBDA**i * window for i, window in enumerate(windows[:-1]))
        result.append(mixed + LAMBDA ** (longest - 1) * windows[-1])
    return result


@column_by_column
def loop_gae(r_t, discount_t, v_tm1, v_t, continue_t):
    result = []
    for t in range(len(r_t)):
        total, weight = 0.0, 1.0
        for i in range(t, last_index(continue_t, t) + 1):
            total += weight * (float(r_t[i]) + float(discount_t[i]) * float(v_t[i]) - float(v_tm1[i]))
            weight *= float(discount_t[i]) * LAMBDA
        result.append(total)
    return result


def loop_vtrace(clip_rho, clip_c, clip_pg_rho):
    """Espeholt et al., eq. 1, with lambda in c; then the advantage from the targets, one index later."""

    @column_by_column
    def loop(r_t, discount_t, v_tm1, v_t, continue_t, log_rho_tm1):
        ratio = np.exp(log_rho_tm1.astype(np.float64))
        vs = []
        for t in range(len(r_t)):
            total, weight = float(v_tm1[t]), 1.0
            for i in range(t, last_index(continue_t, t) + 1):
                delta = min(clip_rho, ratio[i]) * (r_t[i] + discount_t[i] * v_t[i] - v_tm1[i])
                total += weight * delta
                weight *= discount_t[i] * LAMBDA * min(clip_c, ratio[i])
            vs.append(total)
        advantage = []
        for t in range(len(r_t)):
            inside = t < last_index(continue_t, t)
            future = v_t[t] + (LAMBDA * (vs[t + 1] - v_tm1[t + 1]) if inside else 0.0)
            advantage.append(min(clip_pg_rho, ratio[t]) * (r_t[t] + discount_t[t] * future - v_tm1[t]))
        return np.stack([vs, advantage], -1)

    return loop


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["one player", "two players"])
@pytest.mark.parametrize("length", LENGTHS)
class TestAgainstLoops:
    """[T, B] with random terminations, truncations and movers."""

    def trajectory(self, length, sign):
        return random_trajectory(length, length, 5, sign=sign)

    def test_discounted_returns(self, length, sign):
        r_t, discount_t, _, v_t, continue_t = self.trajectory(length, sign)
        expected = loop_n_step(length)(r_t, discount_t, v_t, continue_t)
        assert_close(discounted_returns(r_t, discount_t, v_t, continue_t), expected)

    @pytest.mark.parametrize("n", [1, 2, 100])
    def test_n_step_returns(self, length, sign, n):
        r_t, discount_t, _, v_t, continue_t = self.trajectory(length, sign)
        expected = loop_n_step(n)(r_t, discount_t, v_t, continue_t)
        assert_close(n_step_returns(r_t, discount_t, v_t, continue_t, n), expected)

    def test_lambda_returns(self, length, sign):
        r_t, discount_t, _, v_t, continue_t = self.trajectory(length, sign)
        expected = loop_lambda(r_t, discount_t, v_t, continue_t)
        assert_close(lambda_returns(r_t, discount_t, v_t, continue_t, LAMBDA), expected)

    def test_gae(self, length, sign):
        trajectory = self.trajectory(length, sign)
        assert_close(gae(*trajectory, LAMBDA), loop_gae(*trajectory))

    @pytest.mark.parametrize("clips", [(1.0, 1.0, 1.0), (1.3, 0.8, 2.0)])
    def test_vtrace(self, length, sign, clips):
        trajectory = self.trajectory(length, sign)
        log_rho_tm1 = np.random.default_rng(9).normal(size=trajectory[0].shape).astype(np.float32)
        clip_rho, clip_c, clip_pg_rho = clips
        result = vtrace(*trajectory, log_rho_tm1, LAMBDA, clip_rho=clip_rho, clip_c=clip_c, clip_pg_rho=clip_pg_rho)
        expected = loop_vtrace(*clips)(*trajectory, log_rho_tm1)
        assert_close(result.vs, expected[..., 0])
        assert_close(result.pg_advantage, expected[..., 1])


class TestAgainstRlax:
    """Where conventions coincide: one stream of T + 1 values, an episode's end marked by discount 0 alone."""

    @pytest.fixture(params=[1, 2, 8])
    def stream(self, request):
        length = request.param
        rng = np.random.default_rng(length)
        values = jnp.asarray(rng.normal(size=length + 1), jnp.float32)
        r_t = jnp.asarray(rng.normal(size=length), jnp.float32)
        discount_t = jnp.asarray(rng.choice([0.0, GAMMA], length, p=[0.2, 0.8]), jnp.float32)
        return r_t, discount_t, values, discount_t > 0

    def test_discounted_returns(self, stream):
        r_t, discount_t, values, continue_t = stream
        expected = rlax.discounted_returns(r_t, discount_t, values[1:])
        assert_close(discounted_returns(r_t, discount_t, values[1:], continue_t), expected)

    @pytest.mark.parametrize("n", [1, 3])
    def test_n_step_returns(self, stream, n):
        r_t, discount_t, values, continue_t = stream
        expected = rlax.n_step_bootstrapped_returns(r_t, discount_t, values[1:], n)
        assert_close(n_step_returns(r_t, discount_t, values[1:], continue_t, n), expected)

    def test_lambda_returns(self, stream):
        r_t, discount_t, values, continue_t = stream
        expected = rlax.lambda_returns(r_t, discount_t, values[1:], LAMBDA)
        assert_close(lambda_returns(r_t, discount_t, values[1:], continue_t, LAMBDA), expected)

    def test_lambda_for_each_step(self, stream):
        r_t, discount_t, values, continue_t = stream
        lambda_t = jnp.linspace(0.2, 0.9, len(r_t))
        expected = rlax.lambda_returns(r_t, discount_t, values[1:], lambda_t)
        assert_close(lambda_returns(r_t, discount_t, values[1:], continue_t, lambda_t), expected)

    def test_gae(self, stream):
        r_t, discount_t, values, continue_t = stream
        expected = rlax.truncated_generalized_advantage_estimation(r_t, discount_t, LAMBDA, values)
        assert_close(gae(r_t, discount_t, values[:-1], values[1:], continue_t, LAMBDA), expected)

    def test_vtrace(self, stream):
        r_t, discount_t, values, continue_t = stream
        log_rho_tm1 = jnp.linspace(-1.0, 1.0, len(r_t))
        result = vtrace(
            r_t, discount_t, values[:-1], values[1:], continue_t, log_rho_tm1, LAMBDA, clip_rho=1.5, clip_pg_rho=0.8
        )
        expected = rlax.vtrace_td_error_and_advantage(
            values[:-1], values[1:], r_t, discount_t, jnp.exp(log_rho_tm1), LAMBDA, 1.5, 0.8
        )
        assert_close(result.vs - values[:-1], expected.errors)
        assert_close(result.pg_advantage, expected.pg_advantage)


# Every way here to estimate the value of the observations acted on, of (r_t, discount_t, v_tm1, v_t, continue_t).
ESTIMATORS = {
    "discounted": lambda r, d, v_tm1, v_t, k: discounted_returns(r, d, v_t, k),
    "3-step": lambda r, d, v_tm1, v_t, k: n_step_returns(r, d, v_t, k, 3),
    "lambda": lambda r, d, v_tm1, v_t, k: lambda_returns(r, d, v_t, k, LAMBDA),
    "gae": lambda r, d, v_tm1, v_t, k: v_tm1 + gae(r, d, v_tm1, v_t, k, LAMBDA),
    "vtrace": lambda r, d, v_tm1, v_t, k: vtrace(r, d, v_tm1, v_t, k, jnp.zeros_like(v_t), LAMBDA).vs,
}


class TestPitfalls:
    """A to B pays 0, B to B pays 1, cut at step 5, gamma 0.9. V(B) = 1 / (1 - 0.9) = 10, V(A) = 0 + 0.9 * 10 = 9."""

    A, B = 0, 1
    observation = np.array([A, B, B, B, B, A, B, B, B, B])
    true_next = np.array([B, B, B, B, B, B, B, B, B, B])
    reset_next = np.array([B, B, B, B, A, B, B, B, B, A])
    r_t = jnp.array([0.0, 1, 1, 1, 1, 0, 1, 1, 1, 1])
    truncated = jnp.array([False] * 4 + [True] + [False] * 4 + [True])
    terminated = jnp.zeros(10, bool)

    def solve(self, name, discount, next_observation, continue_t):
        """The fixed point of regressing the value of A and B on the mean of their estimates."""
        discount_t = returns.bootstrap_discount(discount, GAMMA)
        values = np.zeros(2)
        for _ in range(100):
            v_tm1, v_t = jnp.asarray(values[self.observation]), jnp.asarray(values[next_observation])
            estimate = np.asarray(ESTIMATORS[name](self.r_t, discount_t, v_tm1, v_t, continue_t))
            values = np.array([estimate[self.observation == s].mean() for s in (self.A, self.B)])
        return values

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_a_time_limit_is_no_end(self, name):
        continue_t = returns.continues(self.terminated, self.truncated)
        right = self.solve(name, jnp.ones(10), self.true_next, continue_t)
        np.testing.assert_allclose(right, [9.0, 10.0], atol=2e-3)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_the_example_tells_right_from_wrong(self, name):
        """If either mistake gave [9, 10] too, the test above would prove nothing."""
        continue_t = returns.continues(self.terminated, self.truncated)
        reset_observation = self.solve(name, jnp.ones(10), self.reset_next, continue_t)
        as_terminal = self.solve(name, 1.0 - self.truncated, self.true_next, continue_t)
        assert reset_observation[1] < 9.0
        assert as_terminal[1] < 7.0

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_nothing_crosses_an_episode_boundary(self, name):
        """What happens after a cut, terminated or truncated, cannot be seen before it."""
        r_t, discount_t, v_tm1, v_t, _ = random_trajectory(0, 6)
        discount_t[1] = 0.0
        continue_t = np.array([True, False, True, False, True, True])
        before = ESTIMATORS[name](r_t, discount_t, v_tm1, v_t, continue_t)
        for cut in (2, 4):
            later = np.arange(6) >= cut
            changed = ESTIMATORS[name](
                r_t + 100.0 * later, discount_t, v_tm1 - 50.0 * later, v_t + 70.0 * later, continue_t
            )
            np.testing.assert_array_equal(changed[:cut], before[:cut])
            assert not np.allclose(changed[cut:], before[cut:])

    def test_a_terminal_value_is_not_used(self):
        r_t, discount_t, v_tm1, v_t, continue_t = random_trajectory(1, 4)
        discount_t[2], continue_t[2] = 0.0, False
        shifted = np.where(np.arange(4) == 2, v_t + 1000.0, v_t)
        for name in ESTIMATORS:
            expected = ESTIMATORS[name](r_t, discount_t, v_tm1, v_t, continue_t)
            actual = ESTIMATORS[name](r_t, discount_t, v_tm1, shifted, continue_t)
            np.testing.assert_array_equal(actual, expected)

    def test_n_steps_discount_the_value_n_times(self):
        """r = 1, gamma = 1/2, v = 16. 3 steps: 1 + 1/2 + 1/4 + 16/8 = 3.75. A bootstrap by gamma alone: 9.75."""
        r_t, discount_t, v_t = jnp.ones(5), jnp.full(5, 0.5), jnp.full(5, 16.0)
        actual = n_step_returns(r_t, discount_t, v_t, jnp.ones(5, bool), 3)
        # The last two windows shorten: 1 + 1/2 + 16/4 = 5.5 and 1 + 16/2 = 9.
        assert actual.tolist() == [3.75, 3.75, 3.75, 5.5, 9.0]

    def test_lambda_returns_are_not_a_step_late(self):
        """gamma = lambda = 1/2, r = [1, 2], v_t = [4, 8].

        G_1 = 2 + 1/2 * 8 = 6, and G_0 = 1 + 1/2 * (1/2 * 4 + 1/2 * 6) = 3.5.
        A step late, with v_{t+1} for v_t, G_0 would be 1 + 1/2 * (1/2 * 8 + 1/2 * 6) = 4.5.
        """
        r_t, discount_t, v_t = jnp.array([1.0, 2.0]), jnp.full(2, 0.5), jnp.array([4.0, 8.0])
        assert lambda_returns(r_t, discount_t, v_t, jnp.ones(2, bool), 0.5).tolist() == [3.5, 6.0]

    def test_two_players_take_turns(self):
        """Only the last move pays, to who made it: +1 for that player, -1 for the other, by turns, backwards."""
        r_t, discount_t = jnp.array([0.0, 0, 0, 1]), jnp.array([-1.0, -1, -1, 0])
        continue_t = jnp.array([True, True, True, False])
        assert discounted_returns(r_t, discount_t, jnp.zeros(4), continue_t).tolist() == [-1, 1, -1, 1]


class TestIdentities:
    def test_gae_is_lambda_returns_less_values(self):
        values = np.random.default_rng(0).normal(size=9).astype(np.float32)
        r_t, discount_t, *_, continue_t = random_trajectory(3, 8)
        advantage = gae(r_t, discount_t, values[:-1], values[1:], continue_t, LAMBDA)
        targets = lambda_returns(r_t, discount_t, values[1:], continue_t, LAMBDA)
        assert_close(advantage + values[:-1], targets)

    def test_vtrace_on_policy_is_gae(self):
        trajectory = random_trajectory(4, 8, 3)
        result = vtrace(*trajectory, np.zeros((8, 3), np.float32), LAMBDA)
        assert_close(result.pg_advantage, gae(*trajectory, LAMBDA))
        assert_close(result.vs, trajectory[2] + gae(*trajectory, LAMBDA))

    def test_lambda_0_and_1(self):
        r_t, discount_t, _, v_t, continue_t = random_trajectory(5, 8)
        assert_close(lambda_returns(r_t, discount_t, v_t, continue_t, 0.0), r_t + discount_t * v_t)
        expected = n_step_returns(r_t, discount_t, v_t, continue_t, 8)
        assert_close(lambda_returns(r_t, discount_t, v_t, continue_t, 1.0), expected)


class TestConventions:
    def test_continues(self):
        terminated, truncated = jnp.array([False, True, False, True]), jnp.array([False, False, True, True])
        assert returns.continues(terminated, truncated).tolist() == [True, False, False, False]
        assert returns.continues(terminated * 1.0, truncated * 1.0).tolist() == [True, False, False, False]

    def test_bootstrap_discount(self):
        assert returns.bootstrap_discount(jnp.array([1.0, 0.0, -1.0]), 0.5).tolist() == [0.5, 0.0, -0.5]

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_batch_axes_are_independent(self, name):
        trajectory = random_trajectory(6, 4, 2, 3)
        together = ESTIMATORS[name](*trajectory)
        assert together.shape == (4, 2, 3)
        alone = ESTIMATORS[name](*(leaf[:, 1, 2] for leaf in trajectory))
        assert_close(together[:, 1, 2], alone)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_gamma_may_be_traced(self, name):
        r_t, discount, v_tm1, v_t, continue_t = random_trajectory(7, 5)

        def of_gamma(gamma):
            discount_t = returns.bootstrap_discount(discount, gamma)
            return ESTIMATORS[name](r_t, discount_t, v_tm1, v_t, continue_t)

        swept = jax.jit(jax.vmap(of_gamma))(jnp.array([0.5, 0.99]))
        for gamma, row in zip([0.5, 0.99], swept, strict=True):
            assert_close(row, of_gamma(gamma))

    def test_lambda_and_clips_may_be_traced(self):
        trajectory = random_trajectory(8, 5, 2)
        log_rho_tm1 = np.full((5, 2), 0.3, np.float32)

        def of_both(lambda_, clip):
            weights = vtrace(*trajectory, log_rho_tm1, lambda_, clip_rho=clip, clip_c=clip, clip_pg_rho=clip)
            return weights.vs + gae(*trajectory, lambda_), weights.pg_advantage

        swept = jax.jit(jax.vmap(of_both))(jnp.array([0.0, 0.9]), jnp.array([1.0, jnp.inf]))
        for i, hyper in enumerate([(0.0, 1.0), (0.9, np.inf)]):
            for actual, expected in zip(swept, of_both(*hyper), strict=True):
                assert_close(actual[i], expected)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_integer_rewards(self, name):
        """gymnax pays int32 in some environments."""
        _, discount_t, v_tm1, v_t, continue_t = random_trajectory(9, 3, 2)
        reward = np.array([[1, 0], [0, 2], [3, 1]])
        actual = ESTIMATORS[name](reward.astype(np.int32), discount_t, v_tm1, v_t, continue_t)
        assert actual.dtype == jnp.float32
        expected = ESTIMATORS[name](reward.astype(np.float32), discount_t, v_tm1, v_t, continue_t)
        np.testing.assert_array_equal(actual, expected)

    def test_gradient_of_the_bootstrap(self):
        """dG_0 / dv_1 over 2 steps is gamma^2, and v_0 has no part in it."""
        discount_t, continue_t = jnp.full(2, GAMMA), jnp.ones(2, bool)
        gradient = jax.grad(lambda v_t: discounted_returns(jnp.ones(2), discount_t, v_t, continue_t)[0])(jnp.ones(2))
        assert_close(gradient, [0.0, GAMMA**2])

    def test_huge_ratios_leave_gradients_finite(self):
        r_t, discount_t, v_tm1, v_t, continue_t = (jnp.asarray(leaf) for leaf in random_trajectory(10, 3))
        log_rho_tm1 = jnp.array([200.0, -200.0, 0.5])

        def total(log_rho_tm1):
            result = vtrace(r_t, discount_t, v_tm1, v_t, continue_t, log_rho_tm1)
            return result.vs.sum() + result.pg_advantage.sum()

        value, gradient = jax.value_and_grad(total)(log_rho_tm1)
        assert np.isfinite(value) and np.isfinite(gradient).all()

    def test_n_is_checked(self):
        with pytest.raises(ValueError, match="n: got 0"):
            returns.n_step_returns(jnp.ones(2), jnp.ones(2), jnp.ones(2), jnp.ones(2, bool), 0)
