"""Each probe pays what its docstring says, and its solution is the best there is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.probes import (
    PROBES,
    DiscountProbe,
    ImageProbe,
    Indexed,
    MaskedProbe,
    ProbeState,
    TruncationProbe,
    ValueOnlyProbe,
)
from jaxrl.types import Box, Discrete, action_mask, features

GAMMA = 0.9
probes = pytest.mark.parametrize("probe", [kind() for kind in PROBES], ids=lambda probe: probe.name)


def candidates(probe):
    """All actions, or a grid over the box that holds every multiple of 0.1."""
    action = envs.spec(probe).action
    if isinstance(action, Discrete):
        return np.arange(action.num_actions)
    return np.linspace(action.low, action.high, 1 + round(float(10 * (action.high - action.low)[0])))


def starts(probe):
    return [ProbeState(jnp.int32(0), jnp.int32(cue)) for cue in range(probe.num_cues)]


def best(probe, state):
    """Value and action of the solution for the observation of ``state``."""
    solution = probe.solution(GAMMA)
    seen = jax.tree.leaves(probe.get_obs(state))
    rows = zip(*(np.asarray(leaf) for leaf in jax.tree.leaves(solution.observations)), strict=True)
    (index,) = [i for i, row in enumerate(rows) if all((x == y).all() for x, y in zip(row, seen, strict=True))]
    action = candidates(probe)[0] if solution.actions is None else solution.actions[index]
    return solution.values[index], action


def discounted_return(probe, state, first_action):
    """Of taking ``first_action`` and the best ones after it, ignoring truncation."""
    total, weight, action = 0.0, 1.0, first_action
    for _ in range(3):
        _, state, reward, terminated, _ = probe.step_env(jax.random.key(0), state, action, probe.default_params)
        total += weight * float(reward)
        if terminated:
            return total
        weight *= GAMMA
        value, action = best(probe, state)
    return total + weight * float(value)


@probes
def test_values_are_the_returns_of_the_best_actions(probe):
    values, returns = [], []
    for state in starts(probe):
        value, action = best(probe, state)
        values.append(float(value))
        returns.append(discounted_return(probe, state, action))
    if isinstance(probe, MaskedProbe):
        # Its two starts have the same features and so one value, the mean.
        np.testing.assert_allclose(returns, [1.0, 0.5])
        returns = [np.mean(returns)] * 2
    np.testing.assert_allclose(values, returns, rtol=1e-6)


@probes
def test_no_action_is_better_and_only_value_probes_have_ties(probe):
    for state in starts(probe):
        _, action = best(probe, state)
        optimum = discounted_return(probe, state, action)
        returns = {float(np.sum(a)): discounted_return(probe, state, jnp.asarray(a)) for a in candidates(probe)}
        assert max(returns.values()) <= optimum + 1e-5
        winners = [a for a, value in returns.items() if value > optimum - 1e-5]
        if isinstance(probe, ValueOnlyProbe):
            assert len(winners) == len(returns)
        else:
            np.testing.assert_allclose(winners, [np.sum(action)], atol=1e-6)


@probes
def test_values_of_later_observations(probe):
    solution = probe.solution(GAMMA)
    if probe.length == 1 and not isinstance(probe, TruncationProbe):
        assert len(solution.values) == probe.num_cues
        return
    assert len(solution.values) == 2
    state = ProbeState(jnp.int32(1), jnp.int32(0))
    value, action = best(probe, state)
    np.testing.assert_allclose(value, discounted_return(probe, state, action), rtol=1e-6)


def test_the_numbers_of_the_docstrings():
    np.testing.assert_allclose(DiscountProbe().solution(0.9).values, [0.9, 1.0])
    np.testing.assert_allclose(TruncationProbe().solution(0.9).values, [9.0, 10.0], rtol=1e-6)


@probes
def test_best_return(probe):
    """The mean return an episode of the solution, in the environment as loops see it."""
    solution = probe.solution(GAMMA)
    space = probe.action_space()

    def choose(observation):
        if solution.actions is None:
            return jnp.zeros(space.shape, space.dtype)
        match = jax.tree.map(
            lambda rows, row: (rows == row[None]).reshape(len(rows), -1).all(-1), solution.observations, observation
        )
        return solution.actions[jnp.argmax(functools.reduce(jnp.logical_and, jax.tree.leaves(match)))]

    @jax.jit
    @jax.vmap
    def run(key):
        def body(carry, key):
            observation, state = carry
            outcome = probe.step(key, state, choose(observation), probe.default_params)
            observation, state, reward, terminated, truncated, info = outcome
            return (observation, state), (reward, terminated | truncated, info.get("illegal", False))

        carry = probe.reset(key, probe.default_params)
        return jax.lax.scan(body, carry, jax.random.split(key, 20))[1]

    reward, done, illegal = run(jax.random.split(jax.random.key(1), 500))
    # 10 000 steps: a mean over at least 2 000 episodes, whose standard error is at most 0.023.
    np.testing.assert_allclose(reward.sum() / done.sum(), probe.best_return, atol=0.08)
    assert not illegal.any()


@probes
def test_probes_keep_the_protocol(probe):
    report = envs.check(probe, num_steps=50, num_envs=16)
    assert report.weak_types == ()
    assert report.episodes == report.steps // (5 if isinstance(probe, TruncationProbe) else probe.length)
    ends = (report.truncated, report.terminated)
    assert ends == ((report.episodes, 0) if isinstance(probe, TruncationProbe) else (0, report.episodes))


@pytest.mark.parametrize("kind", [kind for kind in PROBES if issubclass(kind, ValueOnlyProbe)])
def test_value_probes_take_either_kind_of_action(kind):
    assert envs.spec(kind()).action == Discrete(2)
    assert isinstance(envs.spec(kind(continuous=True)).action, Box)


def test_an_illegal_action_is_paid_and_flagged_only_where_illegal():
    probe = MaskedProbe()
    for state in starts(probe):
        mask = action_mask(probe.get_obs(state))
        for action in range(3):
            _, _, reward, _, info = probe.step_env(jax.random.key(0), state, jnp.int32(action), probe.default_params)
            assert bool(info["illegal"]) == (not mask[action])
            assert float(reward) == (0.5 * action if mask[action] else -100.0)
    masks = np.stack([action_mask(probe.get_obs(state)) for state in starts(probe)])
    np.testing.assert_array_equal(masks, [[True, True, True], [True, True, False]])
    assert (features(probe.get_obs(starts(probe)[0])) == features(probe.get_obs(starts(probe)[1]))).all()


def test_the_image_is_an_image():
    image = ImageProbe().get_obs(ProbeState(jnp.int32(0), jnp.int32(1)))
    assert (image.shape, image.dtype) == ((4, 4, 2), jnp.uint8)
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, 255, 255])


def test_the_truncation_probe_tells_the_three_targets_apart():
    """One-step targets over one episode A, B, B, B, B | A, iterated to their fixed point."""
    probe = TruncationProbe()
    params, key = probe.default_params, jax.random.key(0)
    observation, state = probe.reset(key, params)
    visits = []
    for _ in range(5):
        before = int(observation.argmax())
        observation, state, reward, terminated, truncated, info = probe.step(key, state, 0, params)
        assert not terminated
        final = int(info["final_observation"].argmax())
        visits.append((before, float(reward), bool(truncated), int(observation.argmax()), final))
    assert [visit[2] for visit in visits] == [False] * 4 + [True]

    def fixed_point(target):
        values = np.zeros(2)
        for _ in range(300):
            targets = [(before, reward + 0.9 * target(values, *rest)) for before, reward, *rest in visits]
            values = np.array([np.mean([value for at, value in targets if at == place]) for place in (0, 1)])
        return values

    right = fixed_point(lambda values, truncated, returned, final: values[final])
    terminal = fixed_point(lambda values, truncated, returned, final: 0.0 if truncated else values[returned])
    reset = fixed_point(lambda values, truncated, returned, final: values[returned])
    np.testing.assert_allclose(right, probe.solution(0.9).values, rtol=1e-5)
    np.testing.assert_allclose(terminal, [2.8, 3.1], atol=0.05)
    np.testing.assert_allclose(reset, [7.35, 8.16], atol=0.01)


@pytest.mark.parametrize(
    "probe", [DiscountProbe(), TruncationProbe(), MaskedProbe(), ImageProbe()], ids=lambda x: x.name
)
def test_indexed_probes_number_what_they_show(probe):
    """Step by step the same episode as the probe's own; what is shown is the row of the solution that equals it."""
    indexed = Indexed(probe)
    envs.check(indexed)
    described = envs.spec(indexed)
    known = features(probe.solution(GAMMA).observations)
    assert described.num_observations == len(known)
    assert features(described.observation) == jax.ShapeDtypeStruct((), jnp.int32)
    keys = jax.random.split(jax.random.key(1), 7)
    (shown, state), (seen, plain_state) = (env.reset(keys[0]) for env in (indexed, probe))
    for key in keys[1:]:
        np.testing.assert_array_equal(known[features(shown)], features(seen))
        assert np.array(action_mask(shown)).tolist() == np.array(action_mask(seen)).tolist()
        shown, state, *paid, info = indexed.step(key, state, jnp.int32(1))
        seen, plain_state, *expected, _ = probe.step(key, plain_state, jnp.int32(1))
        assert [float(x) for x in paid] == [float(x) for x in expected]
        assert features(info["final_observation"]).dtype == jnp.int32
    solved = indexed.solution(GAMMA)
    told_apart = 1 if isinstance(probe, MaskedProbe) else len(known)
    assert features(solved.observations).tolist() == [i % told_apart for i in range(len(known))]
    np.testing.assert_array_equal(solved.values, probe.solution(GAMMA).values)
