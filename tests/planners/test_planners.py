"""Planners beside answers that are known: Riccati's, those of all sequences, and what a plan must not do."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.planners import cem, mppi, random_shooting, sequence_like, sequences, shift
from jaxrl.types import Box, Discrete, Model, Observation, Simulated

A, B = np.array([[1.0, 0.2], [0.0, 1.0]]), np.array([[0.02], [0.2]])
Q, R, FINAL = np.diag([1.0, 0.1]), np.array([[0.05]]), np.diag([3.0, 1.0])
UNBOUNDED = Box((1,), -np.inf, np.inf)
UNIT = Box((1,), -1.0, 1.0)
PLANNERS = {"random_shooting": random_shooting, "cem": cem, "mppi": partial(mppi, temperature=0.05)}
every = pytest.mark.parametrize("plan", PLANNERS.values(), ids=PLANNERS)


def model_of(step):
    """A model from ``(state, action) -> (state, reward, discount, truncated)``, which sees its own state."""

    def simulate(params, key, state, action):
        after, reward, discount, truncated = step(state, action)
        return Simulated(after, after, jnp.float32(reward), jnp.float32(discount), jnp.bool_(truncated))

    return Model(lambda key: (), simulate)


def linear(state, action):
    a, b, q, r = (jnp.asarray(x, jnp.float32) for x in (A, B, Q, R))
    return a @ state + b @ action, -(state @ q @ state + action @ r @ action), 1.0, False


def riccati(horizon, gamma=1.0):
    """``P`` and ``K`` of the first step: the value is ``-x^T P x``, the best action ``-K x``."""
    p = FINAL
    for _ in range(horizon):
        k = gamma * np.linalg.solve(R + gamma * B.T @ p @ B, B.T @ p @ A)
        p = Q + gamma * A.T @ p @ (A - B @ k)
    return p, k


def final_value(observation):
    return -jnp.einsum("ni,ij,nj->n", observation, jnp.asarray(FINAL, jnp.float32), observation)


STATES = jnp.array([[1.0, 0.0], [-0.7, 0.4], [0.3, -1.0]])


@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize(
    ("plan", "close"),
    [
        (partial(cem, num_iterations=30, min_std=0.005, initial_std=2.0, alpha=0.2), 0.02),
        (partial(mppi, num_iterations=60, sigma=0.15, temperature=0.01), 0.1),
    ],
    ids=["cem", "mppi"],
)
def test_lqr_is_planned_as_by_riccati(plan, close, gamma):
    found = jax.jit(
        partial(
            plan,
            model=model_of(linear),
            space=UNBOUNDED,
            horizon=6,
            population=300,
            gamma=gamma,
            terminal_value=final_value,
        )
    )(jax.random.key(0), (), state=STATES)
    p, k = riccati(6, gamma)
    states = np.asarray(STATES, np.float64)
    best = -np.einsum("bi,ij,bj->b", states, p, states)
    np.testing.assert_allclose(found.value, best, rtol=0.01)
    np.testing.assert_allclose(found.action, -states @ k.T, atol=close)
    assert (np.asarray(found.value) <= best + 1e-4 * abs(best)).all()  # no plan beats the best one


def table(num_states=5, num_actions=3, seed=0):
    """A random deterministic task, as tables."""
    rng = np.random.default_rng(seed)
    return rng.integers(num_states, size=(num_states, num_actions)), rng.normal(size=(num_states, num_actions))


def table_model(following, reward):
    following, reward = jnp.asarray(following, jnp.int32), jnp.asarray(reward, jnp.float32)
    return model_of(lambda state, action: (following[state, action], reward[state, action], 1.0, False))


def brute_force(following, reward, state, horizon, gamma):
    """The best return of all sequences, and the first action of the sequence that has it."""
    found = {}
    for sequence in itertools.product(range(reward.shape[1]), repeat=horizon):
        total, now = 0.0, state
        for time, action in enumerate(sequence):
            total += gamma**time * reward[now, action]
            now = following[now, action]
        found[sequence] = total
    best = max(found, key=found.get)
    return found[best], best[0]


@every
def test_discrete_plans_are_those_of_brute_force(plan):
    following, reward = table()
    states = jnp.arange(5, dtype=jnp.int32)
    plan = partial(plan, space=Discrete(3), horizon=4, population=1500, gamma=0.9)
    found = plan(jax.random.key(1), (), table_model(following, reward), states)
    expected = [brute_force(following, reward, state, 4, 0.9) for state in range(5)]
    np.testing.assert_allclose(found.value, [value for value, _ in expected], atol=1e-5)
    np.testing.assert_array_equal(found.action, [action for _, action in expected])
    assert found.action.dtype == jnp.int32


def bandit(reward):
    """The reward of an action in [-1, 1], whatever the state."""
    return model_of(lambda state, action: (state, reward(action.sum()), 1.0, False))


@every
@pytest.mark.parametrize("spoilt", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_not_finite_never_wins(plan, spoilt):
    """Above 0.3 the model breaks down; the best sound action is 0.3, and a mean with the others in it would be NaN."""
    model = bandit(lambda action: jnp.where(action > 0.3, spoilt, action))
    found = plan(jax.random.key(0), (), model, jnp.zeros((2, 1)), space=UNIT, horizon=2, population=200)
    assert np.isfinite(found.sequence).all() and np.isfinite(found.value).all()
    assert (np.asarray(found.sequence) <= 0.3).all()
    assert (np.asarray(found.value) > 0.35).all()


@every
def test_where_nothing_is_finite_the_last_plan_goes_on(plan):
    model = bandit(lambda action: jnp.nan * action)
    warm = jnp.full((2, 3, 1), 0.25)
    found = plan(jax.random.key(0), (), model, jnp.zeros((2, 1)), space=UNIT, horizon=3, population=20, warm_start=warm)
    np.testing.assert_array_equal(found.sequence, warm)
    np.testing.assert_array_equal(found.action, warm[:, 0])
    assert (found.value == -jnp.inf).all()


def test_sigma_and_temperature_of_mppi_change_the_plan():
    plan = partial(mppi, model=bandit(lambda action: -((action - 0.9) ** 2)), space=UNIT, horizon=1, population=500)
    plan = partial(plan, num_iterations=1, state=jnp.zeros((1, 1)), params=())
    narrow, wide, cold = (
        float(plan(jax.random.key(0), sigma=sigma, temperature=temperature).action[0, 0])
        for sigma, temperature in ((0.02, 1e-3), (0.5, 1e-3), (0.5, 100.0))
    )
    assert narrow < 0.15 and wide > 0.8 and abs(cold) < 0.1
    assert float(plan(jax.random.key(0), sigma=0.0).action[0, 0]) == 0.0


def test_mppi_weighs_by_exponentiated_returns():
    """One step of MPPI over the candidates that it drew, beside NumPy."""
    model = model_of(lambda state, action: (state, jnp.sin(3.0 * action.sum()), 1.0, False))
    key, space = jax.random.key(3), UNIT
    found = mppi(
        key, (), model, jnp.zeros((1, 1)), space=space, horizon=2, population=50, num_iterations=1, temperature=0.3
    )
    improve_key = jax.random.split(jax.random.split(key, 1)[0])[0]
    draw_key = jax.random.split(jax.random.split(improve_key, 1)[0])[0]
    drawn = sequences.propose(draw_key, space, jnp.zeros((2, 1)), jnp.full((2, 1), 0.5), 50)
    drawn = np.asarray(drawn, np.float64)
    weights = np.exp(np.sin(3.0 * drawn[..., 0]).sum(1) / 0.3)
    mean = np.einsum("n,nhk->hk", weights / weights.sum(), drawn)
    np.testing.assert_allclose(found.sequence[0], mean, atol=1e-5)


@every
def test_the_value_of_the_last_observation_counts(plan):
    """Rewards say -1, the value behind the horizon says +1: it decides, unless gamma^H makes it small."""
    model = model_of(lambda state, action: (state + action, -0.5 * action.sum(), 1.0, False))
    plan = partial(plan, jax.random.key(0), (), model, jnp.zeros((1, 1)), space=UNIT, horizon=3, population=300)
    without = plan()
    with_value = plan(terminal_value=lambda observation: observation[:, 0])
    discounted = plan(terminal_value=lambda observation: observation[:, 0], gamma=0.1)
    assert float(without.action[0, 0]) < -0.5 < 0.5 < float(with_value.action[0, 0])
    assert float(discounted.action[0, 0]) < -0.3
    np.testing.assert_allclose(with_value.value, 0.5 * with_value.sequence.sum((1, 2)), rtol=1e-5)


@every
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_permuted_states_give_permuted_plans(plan, kind):
    order = jnp.array([2, 0, 1])
    if kind == "discrete":
        model, space, states = table_model(*table()), Discrete(3), jnp.array([0, 3, 4])
    else:
        model, space, states = model_of(linear), UNBOUNDED, STATES
    keys = jax.random.split(jax.random.key(0), 3)
    plan = partial(plan, space=space, horizon=3, population=50)
    found, permuted = plan(keys, (), model, states), plan(keys[order], (), model, states[order])
    alone = [plan(keys[i : i + 1], (), model, states[i : i + 1]) for i in range(3)]
    for field in ("action", "sequence", "value"):
        np.testing.assert_allclose(getattr(found, field)[order], getattr(permuted, field), rtol=1e-5, atol=1e-6)
        together = np.concatenate([getattr(each, field) for each in alone])
        np.testing.assert_allclose(getattr(found, field), together, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(plan(jax.random.key(0), (), model, states).sequence, found.sequence)


def ending(how):
    """Action 1 pays 1 and ends the episode, action 0 pays 0.4; behind the end every step pays 10, or NaN."""

    def step(state, action):
        ended = state > 0
        reward = jnp.where(ended, 10.0 if how != "nan" else jnp.nan, jnp.where(action == 1, 1.0, 0.4))
        terminated = (action == 1) & (how != "truncated")
        return (
            jnp.where(action == 1, 1, state),
            reward,
            jnp.where(terminated, 0.0, 1.0),
            (action == 1) & (how == "truncated"),
        )

    return model_of(step)


@every
@pytest.mark.parametrize("how", ["terminated", "truncated", "nan"])
def test_an_episode_that_ended_stops_paying(plan, how):
    """Three steps of 0.4, or two and then 1, which is the best: 1.8. An end at once pays 1 alone, not 21."""
    found = plan(
        jax.random.key(0), (), ending(how), jnp.zeros(1, jnp.int32), space=Discrete(2), horizon=3, population=100
    )
    np.testing.assert_allclose(found.value, 1.8, rtol=1e-6)
    assert int(found.action[0]) == 0


@every
def test_a_cut_episode_counts_with_the_value_of_its_last_observation(plan):
    """The value of state 1 is 5 behind a cut, and nothing behind an end."""
    plan = partial(plan, space=Discrete(2), horizon=3, population=100, gamma=0.5)
    plan = partial(plan, terminal_value=lambda observation: 5.0 * observation)
    start = jnp.zeros(1, jnp.int32)
    cut = plan(jax.random.key(0), (), ending("truncated"), start)
    np.testing.assert_allclose(cut.value, 1.0 + 0.5 * 5.0, rtol=1e-6)
    assert int(cut.action[0]) == 1
    ended = plan(jax.random.key(0), (), ending("terminated"), start)
    np.testing.assert_allclose(ended.value, 1.0, rtol=1e-6)


@every
def test_only_legal_actions_are_planned(plan):
    """Action 2 pays best and is illegal at first; later action 1 is."""

    def step(params, key, state, action):
        reward = jnp.where((state > 0) & (action == 1), 100.0, action.astype(jnp.float32))
        observation = Observation(features=state + 1.0, action_mask=jnp.array([True, False, True]))
        return Simulated(state + 1, observation, reward, jnp.float32(1.0), jnp.bool_(False))

    found = plan(
        jax.random.key(0),
        (),
        Model(lambda key: (), step),
        jnp.zeros(2),
        space=Discrete(3),
        horizon=3,
        population=100,
        action_mask=jnp.array([[True, True, False], [True, False, False]]),
    )
    np.testing.assert_array_equal(found.action, [1, 0])
    np.testing.assert_allclose(found.value, [1.0 + 2.0 + 2.0, 0.0 + 2.0 + 2.0])


@every
def test_a_warm_start_is_never_left_for_a_worse_plan(plan):
    model = bandit(lambda action: -((action - 0.123456) ** 2))
    warm = jnp.full((1, 4, 1), 0.123456)
    found = plan(jax.random.key(0), (), model, jnp.zeros((1, 1)), space=UNIT, horizon=4, population=8, warm_start=warm)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-9)
    np.testing.assert_array_equal(shift(warm)[0, :, 0], [*warm[0, 1:, 0], 0.0])


@every
def test_actions_lie_in_their_bounds(plan):
    space = Box((2,), np.array([0.0, -3.0]), np.array([4.0, -1.0]))
    model = model_of(lambda state, action: (state, action[0] - action[1], 1.0, False))
    found = plan(jax.random.key(0), (), model, jnp.zeros((3, 1)), space=space, horizon=2, population=400)
    assert found.action.shape == (3, 2) and found.action.dtype == jnp.float32
    action = np.asarray(found.action)
    assert (action >= space.low).all() and (action <= space.high).all()
    assert (action[:, 0] > 2.2).all() and (action[:, 1] < -2.1).all()
    assert sequence_like(space, 2).shape == found.sequence.shape[1:]


def test_particles_average_over_a_random_model():
    """A gamble of -1 or 1.2 beside a sure 0.3: a single run is sometimes lucky, the mean of 256 is not."""

    def step(params, key, state, action):
        gamble = jnp.where(jax.random.bernoulli(key), 1.2, -1.0)
        reward = jnp.where(action == 1, gamble, 0.3)
        return Simulated(state, state, reward, jnp.float32(1.0), jnp.bool_(False))

    plan = partial(random_shooting, space=Discrete(2), horizon=1, population=200)
    model, states = Model(lambda key: (), step), jnp.zeros((16, 1))
    found = [plan(jax.random.key(0), (), model, states, num_particles=n) for n in (1, 256)]
    assert (found[0].action == 1).sum() > 1 and (found[1].action == 0).all()


@every
def test_floats_may_be_tracers_and_x64_changes_no_dtype(plan):
    model = bandit(lambda action: -(action**2))
    floats = {"gamma": 0.9} | {
        "random_shooting": {},
        "cem": {"alpha": 0.1, "initial_std": 0.5, "min_std": 0.05},
        "mppi": {"sigma": 0.5, "temperature": 1.0},
    }[getattr(plan, "func", plan).__name__]
    plan = partial(plan, space=UNIT, horizon=2, population=20)
    given = [jnp.array([value, value / 2]) for value in floats.values()]

    def run(*values):
        return plan(jax.random.key(0), (), model, jnp.zeros((1, 1)), **dict(zip(floats, values, strict=True)))

    found = jax.vmap(run)(*given)
    np.testing.assert_allclose(found.sequence[0], run(*floats.values()).sequence, atol=1e-6)
    with jax.enable_x64(True):
        shapes = jax.eval_shape(run, *floats.values())
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"model": "truth"}, TypeError, "^model: .*truth"),
        ({"model": model_of(linear)._replace(num_players=2)}, ValueError, "^model: .*2 players"),
        ({"space": "box"}, TypeError, "^space: .*box"),
        ({"horizon": 0}, ValueError, "^horizon: got 0"),
        ({"population": 2.5}, TypeError, "^population: got 2.5"),
        ({"num_particles": 0}, ValueError, "^num_particles: got 0"),
        ({"gamma": 1.5}, ValueError, "^gamma: got 1.5"),
        ({"terminal_value": 3.0}, TypeError, "^terminal_value: got 3.0"),
        ({"warm_start": jnp.zeros((3, 2, 1))}, ValueError, r"^warm_start: .*\(3, 2, 1\)"),
        ({"state": jnp.zeros(())}, ValueError, "^state: "),
        ({"state": {"a": jnp.zeros(2), "b": jnp.zeros(3)}}, ValueError, "^state: "),
        ({"space": Discrete(2), "action_mask": jnp.ones((3, 4), bool)}, ValueError, r"^action_mask: .*\(3, 4\)"),
        ({"key": jax.random.split(jax.random.key(0), 2)}, ValueError, "^key: got 2"),
        ({"num_elites": 11}, ValueError, "^num_elites: got 11"),
        ({"num_iterations": 0}, ValueError, "^num_iterations: got 0"),
        ({"alpha": -0.1}, ValueError, "^alpha: got -0.1"),
        ({"initial_std": -1.0}, ValueError, "^initial_std: got -1.0"),
        ({"min_std": float("nan")}, ValueError, "^min_std: got nan"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused_by_name(changed, error, said):
    given = {"model": model_of(linear), "space": UNBOUNDED, "horizon": 4, "population": 10, "state": STATES}
    given = {"key": jax.random.key(0), "params": (), **given, **changed}
    positional = [given.pop(name) for name in ("key", "params", "model", "state")]
    with pytest.raises(error, match=said):
        cem(*positional, **given)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"sigma": -1.0}, "^sigma: got -1.0"), ({"temperature": 0.0}, "^temperature: got 0.0")],
)
def test_what_makes_no_sense_to_mppi_is_refused_by_name(changed, said):
    with pytest.raises(ValueError, match=said):
        mppi(jax.random.key(0), (), model_of(linear), STATES, space=UNBOUNDED, horizon=4, population=10, **changed)
