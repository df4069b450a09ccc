"""Targets that look ahead in a model: against exact values, loops and enumeration; mbve and steve as agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.parts import critics, dynamics
from jaxrl.agents.parts.critics import Bootstrap
from jaxrl.agents.parts.expansion import World, inverse_variance, last, td_k, weighted_mean
from jaxrl.envs import make, probes, spec
from jaxrl.networks import MLP
from jaxrl.replay import Sample
from jaxrl.rollout import reset, rollout
from jaxrl.types import Simulated, Transition

PENDULUM, PARAMS = make("Pendulum-v1", max_steps_in_episode=8)
SPEC = spec(PENDULUM, PARAMS)
SMALL = {
    "torso": MLP(hidden=(8,)),
    "batch_size": 8,
    "learning_starts": 8,
    "replay_capacity": 64,
    "data_capacity": 64,
    "hidden": (8,),
    "num_members": 2,
    "max_epochs": 2,
    "model_batch_size": 8,
}
KEY, GAMMA, BONUS = jax.random.key(0), 0.9, 0.3


def sampled(observation, action, reward, discount, after, weight=1.0):
    """A sample of the transitions whose parts are given, ``discount`` with gamma."""
    discount, n = jnp.asarray(discount, jnp.float32), len(reward)
    flags = (discount == 0.0, jnp.zeros(n, bool))
    parts = (jnp.asarray(x, jnp.float32) for x in (observation, action, reward))
    transition = Transition(*parts, (discount != 0.0).astype(jnp.float32), *flags, jnp.asarray(after, jnp.float32), ())
    return Sample(transition, discount, jnp.full(n, weight, jnp.float32), jnp.arange(n))


# A linear system s' = 0.9 s + 0.5 a with reward s + a and a policy a = -0.4 s, whose choices pay BONUS more each:
# V(s) = 0.6 s + BONUS + gamma V(0.7 s), so V(s) = c s + BONUS / (1 - gamma).
SLOPE = 0.6 / (1.0 - 0.7 * GAMMA)


def exact_value(state):
    return SLOPE * state + BONUS / (1.0 - GAMMA)


def linear_step(member, key, observation, action):
    state, a = observation[:, 0], action[:, 0]
    after = 0.9 * state + 0.5 * a
    ones = jnp.ones_like(state)
    return Simulated(after[:, None], after[:, None], state + a + member, ones, jnp.zeros(state.shape, bool))


def exact_bootstrap(num_critics=2):
    value = lambda key, seen: exact_value(seen[:, 0])  # noqa: E731
    return Bootstrap(
        policy=lambda key, seen: (-0.4 * seen, jnp.full(seen.shape[:1], BONUS)),
        value=value,
        values=lambda key, seen: jnp.stack([value(key, seen)] * num_critics),
    )


STATE = np.array([1.0, -2.0, 0.5])
ACTION = np.array([0.3, 0.1, -0.7])
LINEAR = sampled(STATE[:, None], ACTION[:, None], STATE + ACTION, [GAMMA] * 3, (0.9 * STATE + 0.5 * ACTION)[:, None])


@pytest.mark.parametrize("expand", [last, td_k, inverse_variance])
@pytest.mark.parametrize("horizon", [0, 1, 4])
def test_with_the_true_model_and_the_exact_values_targets_do_not_depend_on_the_horizon(expand, horizon):
    sample, target = expand(KEY, LINEAR, exact_bootstrap(), World(linear_step, jnp.zeros(2), horizon, GAMMA))
    state, action = sample.transition.observation[:, 0], sample.transition.action[:, 0]
    np.testing.assert_allclose(target, state + action + GAMMA * exact_value(0.9 * state + 0.5 * action), rtol=1e-5)
    assert target.shape == (3 * (1 + horizon) if expand is td_k else 3,)
    np.testing.assert_array_equal(state[:3], LINEAR.transition.observation[:, 0])
    one_step = critics.one_step(KEY, LINEAR, exact_bootstrap())[1]
    np.testing.assert_allclose(target[:3], one_step, rtol=1e-5)


def test_rewards_of_the_model_count_up_to_the_horizon_and_no_further():
    """A model that pays 1 too much at each step."""
    for horizon in range(4):
        _, target = last(KEY, LINEAR, exact_bootstrap(), World(linear_step, jnp.ones(1), horizon, GAMMA))
        excess = target - critics.one_step(KEY, LINEAR, exact_bootstrap())[1]
        np.testing.assert_allclose(excess, sum(GAMMA ** (k + 1) for k in range(horizon)), rtol=1e-5)


REWARDS = np.array([1.0, 10.0, 100.0])  # of the step from each state of a chain 0 -> 1 -> 2 -> end
VALUES = np.array([7.0, 5.0, 3.0, 0.0])  # of the critic, wrong ones; the last one is never used


def chain_step(member, key, observation, action):
    state = observation[:, 0].astype(jnp.int32)
    after = (observation + 1.0).astype(jnp.float32)
    discount = jnp.where(state == 2, 0.0, 1.0)
    return Simulated(after, after, jnp.asarray(REWARDS)[jnp.minimum(state, 2)], discount, jnp.zeros(len(state), bool))


def chain_bootstrap():
    value = lambda key, seen: jnp.asarray(VALUES)[jnp.minimum(seen[:, 0].astype(jnp.int32), 3)]  # noqa: E731
    return Bootstrap(lambda key, seen: (seen, jnp.zeros(len(seen))), value, lambda *args: value(*args)[None])


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_td_k_on_a_chain_of_three_states(horizon):
    """Every target and weight by hand: a sum of rewards up to the horizon or the end, and the value behind it."""
    sample = sampled(
        [[0.0], [1.0], [2.0]], [[0.0]] * 3, REWARDS, [GAMMA, GAMMA, 0.0], [[1.0], [2.0], [3.0]], weight=0.5
    )
    joined, target = td_k(KEY, sample, chain_bootstrap(), World(chain_step, jnp.zeros(1), horizon, GAMMA))
    states = joined.transition.observation[:, 0].reshape(horizon + 1, 3)
    target, weight = target.reshape(horizon + 1, 3), joined.weight.reshape(horizon + 1, 3)
    for column, first in enumerate((0, 1, 2)):
        for row in range(horizon + 1):
            state, expected, factor = first + row, 0.0, 1.0
            assert states[row, column] == state and weight[row, column] == (0.5 if state < 3 else 0.0)
            if state > 2:  # behind the end
                continue
            for position in range(state, first + horizon + 1):
                expected += factor * REWARDS[position] if position < 3 else 0.0
                factor = 0.0 if position >= 2 else factor * GAMMA
            expected += factor * VALUES[min(first + horizon + 1, 3)]
            np.testing.assert_allclose(target[row, column], expected, rtol=1e-6)
    np.testing.assert_array_equal(joined.transition.reward[:3], sample.transition.reward)
    assert joined.index.shape == (3,)


def test_estimates_of_equal_variance_are_averaged_and_an_exploding_one_is_left_out():
    spread = jnp.array([-1.0, 1.0])[None, :, None]
    means = jnp.array([1.0, 2.0, 6.0])[:, None, None]
    np.testing.assert_allclose(weighted_mean(means + spread), [3.0])
    np.testing.assert_allclose(weighted_mean(jnp.broadcast_to(means, (3, 2, 1))), [3.0])  # no variance at all
    for factor in (1e6, 1e25, jnp.inf, jnp.nan):
        scale = jnp.array([1.0, 1.0, factor])[:, None, None]
        np.testing.assert_allclose(weighted_mean(means + scale * spread), [1.5], rtol=1e-5)
    for scale in (1e-18, 1e-6, 1e12):  # weights are relative
        variances = jnp.array([1.0, 2.0])[:, None, None]
        found = weighted_mean(scale * (means[:2] + jnp.sqrt(variances) * spread))
        np.testing.assert_allclose(found / scale, [4.0 / 3.0], rtol=1e-4)
    assert jnp.isnan(weighted_mean(jnp.full((2, 2, 1), jnp.nan))).all()


def test_steve_against_a_loop_over_members_critics_and_horizons():
    members, offsets, horizon = [0.0, 1.0, -3.0], [0.0, 0.5], 2
    bootstrap = exact_bootstrap()._replace(
        values=lambda key, seen: exact_value(seen[:, 0])[None] + jnp.asarray(offsets)[:, None]
    )
    _, target = inverse_variance(KEY, LINEAR, bootstrap, World(linear_step, jnp.array(members), horizon, GAMMA))
    for i in range(3):
        estimates = np.zeros((horizon + 1, len(members), len(offsets)))
        for h, m, e in np.ndindex(estimates.shape):
            state, total = float(LINEAR.transition.next_observation[i, 0]), 0.0
            for k in range(h):
                action = -0.4 * state
                total += GAMMA**k * (state + action + members[m] + BONUS)
                state = 0.9 * state + 0.5 * action
            estimates[h, m, e] = total + GAMMA**h * (exact_value(state) + offsets[e])
        flat = estimates.reshape(horizon + 1, -1)
        weights = 1.0 / flat.var(axis=1)
        value = (weights * flat.mean(axis=1)).sum() / weights.sum()
        np.testing.assert_allclose(target[i], STATE[i] + ACTION[i] + GAMMA * value, rtol=1e-5)


def test_members_draw_noise_of_their_own():
    def noisy(member, key, observation, action):
        after = linear_step(0.0, key, observation, action)
        return after._replace(reward=after.reward + 5.0 * jax.random.normal(key, after.reward.shape))

    world = World(noisy, jnp.zeros(4), 1, GAMMA)
    _, target = inverse_variance(KEY, LINEAR, exact_bootstrap(), world)
    # The critics agree and the members don't, so that nothing of the model remains.
    np.testing.assert_allclose(target, critics.one_step(KEY, LINEAR, exact_bootstrap())[1], rtol=1e-5)


def test_mbve_with_horizon_0_is_td3_bit_for_bit():
    """Without jit, which may round a larger program otherwise; the model is fitted once, as refit_every is 250."""
    shared = {name: SMALL[name] for name in ("torso", "batch_size", "learning_starts", "replay_capacity")}
    ours, plain = jaxrl.mbve(SPEC, horizon=0, **SMALL), jaxrl.td3(SPEC, **shared)
    mine, theirs = (jax.jit(agent.init, static_argnums=1)(KEY, 2) for agent in (ours, plain))
    observation, env_state = reset(KEY, PENDULUM, PARAMS, 2)
    trajectory = jax.jit(lambda state: rollout(KEY, plain, state, PENDULUM, PARAMS, env_state, observation, 4))(theirs)[
        2
    ]
    for number in range(2):
        (mine, metrics), (theirs, of_plain) = (
            ours.update(jax.random.key(number), mine, trajectory),
            plain.update(jax.random.key(number), theirs, trajectory),
        )
        agent = mine.agent._replace(per_env=mine.per_env[1])
        pairs = zip(jax.tree_util.tree_leaves_with_path(agent), jax.tree.leaves(theirs), strict=True)
        for (path, x), y in pairs:
            np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))
        assert all(metrics[name] == of_plain[name] for name in of_plain)
        assert np.isfinite(metrics["model_held_out"]) == (number == 0)
    assert int(theirs.gradient_steps) == 2


def test_a_fit_is_not_computed_when_it_is_not_due_in_a_population_either(primitives_of_population):
    always, inside = primitives_of_population(jaxrl.mbve(SPEC, **SMALL), PENDULUM, PARAMS)
    assert "cond" in always and not always & {"while", "dot_general"}
    assert {"while", "dot_general"} <= inside


def test_the_fit_comes_before_the_first_target_and_again_when_due():
    due = jax.vmap(lambda steps: dynamics.is_due(steps, 4, starts=10, every=8))(jnp.arange(0, 40, 4))
    # Steps behind each update are 4, 8, 12, ...: the first time at 12, then at 20 (18 is passed), 28, 36.
    assert due.tolist() == [False, False, True, False, True, False, True, False, True, False]
    assert bool(dynamics.is_due(jnp.int32(0), 1, starts=0, every=100))


def test_known_functions_take_actions_of_the_environment():
    ensemble = dynamics.unit_ensemble(
        SPEC, hidden=(4,), reward=lambda seen, action, after: action[0], termination=lambda *args: args[1][0] > 1.0
    )
    params = ensemble.init(KEY)
    found = ensemble.predict(params, jnp.zeros((2, 3)), jnp.array([[0.25], [0.75]]))
    np.testing.assert_allclose(found.reward[0], [0.5, 1.5])  # the pendulum's bounds are [-2, 2]
    assert (found.termination_logit[0] > 0.0).tolist() == [False, True]


def test_functions_are_those_of_the_base():
    for recipe, options in ((jaxrl.mbve, {"base": "sac"}), (jaxrl.steve, {})):
        options |= {"torso": SMALL["torso"]}
        agent, made = recipe(SPEC, **{**SMALL, **options}), jaxrl.functions(recipe, SPEC, **options)
        state = jax.eval_shape(lambda: agent.init(KEY, 2))  # noqa: B023
        assert jax.eval_shape(made.value, state, SPEC.zeros(3)).shape == (3,)
        assert made.policy is not None


def test_what_does_not_fit_is_refused_by_name():
    for recipe, options, error, said in (
        (jaxrl.mbve, {"base": "ppo"}, ValueError, "^base: got 'ppo'"),
        (jaxrl.mbve, {"base": jaxrl.dqn}, TypeError, "^base: got dqn"),
        (jaxrl.mbve, {"targets": "x"}, ValueError, "^targets: got 'x'"),
        (jaxrl.mbve, {"horizon": -1}, ValueError, "^horizon: got -1"),
        (jaxrl.mbve, {"num_elites": 9}, ValueError, "^num_elites: got 9"),
        (jaxrl.mbve, {"colour": 1}, TypeError, "colour"),
        (jaxrl.steve, {"base": "ddpg"}, ValueError, "^base: got 'ddpg'"),
        (jaxrl.steve, {"num_critics": 0}, ValueError, "^num_critics: got 0"),
    ):
        with pytest.raises(error, match=said):
            recipe(SPEC, **options)
    for env, said in ((probes.ImageProbe(), "^spec: .*Discrete"), (probes.MaskedProbe(), "^spec: .*action_mask")):
        with pytest.raises((TypeError, ValueError), match=said):
            jaxrl.mbve(spec(env, env.default_params), base="td3" if "Discrete" in said else "sac")
