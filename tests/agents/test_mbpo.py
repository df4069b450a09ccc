"""MBPO: where model rollouts start and end, what is kept of them, and what gradient steps are made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.parts.dyna import mixed, short_rollouts
from jaxrl.envs import make, probes, spec
from jaxrl.models.ensemble import Ensemble
from jaxrl.networks import MLP
from jaxrl.replay import ring
from jaxrl.rollout import reset, rollout
from jaxrl.types import Box, Model, Simulated, Transition

PENDULUM, PARAMS = make("Pendulum-v1", max_steps_in_episode=8)
SPEC = spec(PENDULUM, PARAMS)
SMALL = {
    "torso": MLP(hidden=(8,)),
    "batch_size": 8,
    "learning_starts": 8,
    "replay_capacity": 64,
    "imagined_capacity": 48,
    "num_rollouts": 3,
    "rollout_steps": 2,
    "num_gradient_steps": 2,
    "hidden": (8,),
    "num_members": 2,
    "num_elites": 1,
    "max_epochs": 2,
    "model_batch_size": 8,
}
KEY = jax.random.key(0)


def stored(observation, reward=0.0):
    """A ring of ``[rows, B]`` observations of one number."""
    observation = jnp.asarray(observation, jnp.float32)[..., None]
    shape = observation.shape[:2]
    flags, ones = jnp.zeros(shape, bool), jnp.ones(shape)
    rows = Transition(observation, observation, reward * ones, ones, flags, flags, observation, ())
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), rows)
    return ring.add(ring.init(example, shape[0] + 2, shape[1]), rows)  # two rows stay empty


def counter(end):
    """An "ensemble" in which observations grow by one each step, which pays its action; it ends at multiples of end."""

    def step(params, key, state, action):
        after = state + 1.0
        discount = jnp.where(after[0] % end == 0, 0.0, 1.0)
        return Simulated(after, after, action[0], discount, jnp.zeros((), bool))

    nothing = lambda *args: ()  # noqa: E731
    start = lambda key, params, observation: observation  # noqa: E731
    return Ensemble(nothing, nothing, nothing, nothing, start, lambda kind: Model(nothing, step))


@pytest.mark.parametrize(("length", "end"), [(1, 1000), (3, 1000), (4, 10)])
def test_rollouts_start_in_the_replay_and_end_by_length_or_by_the_model(length, end):
    starts = [[1.0, 21.0], [4.0, 28.0], [7.0, 39.0]]  # of three rows and two environments
    policy = lambda key, seen: 0.5 * seen  # noqa: E731
    rolled = short_rollouts(
        KEY, counter(end), (), stored(starts), policy, Box((1,), -1.0, 1.0), num_rollouts=40, length=length
    )
    assert rolled.reward.shape == (40 * length, 2)
    seen, after = (x.reshape(length, 80) for x in (rolled.observation[..., 0], rolled.next_observation[..., 0]))
    terminated, truncated = rolled.terminated.reshape(length, 80), rolled.truncated.reshape(length, 80)
    np.testing.assert_array_equal(after, seen + 1.0)
    np.testing.assert_allclose(rolled.reward, 0.5 * rolled.observation[..., 0])
    np.testing.assert_array_equal(terminated, after % end == 0)
    np.testing.assert_array_equal(rolled.discount.reshape(length, 80), 1.0 - terminated)
    assert set(seen[0].tolist()) == set(np.ravel(starts).tolist())  # all of them, and no empty row
    for column in range(80):
        steps = 0
        for row in range(length):
            if steps == 0:
                assert seen[row, column] in np.ravel(starts)
            else:
                assert seen[row, column] == seen[row - 1, column] + 1.0
            steps += 1
            assert truncated[row, column] == (steps == length and not terminated[row, column])
            steps = 0 if terminated[row, column] or truncated[row, column] else steps
    if end == 10:
        assert terminated.any() and truncated.any()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.6, 1.0])
def test_samples_are_real_with_the_given_probability(share):
    real, imagined = stored([[1.0], [2.0]]), stored([[-1.0], [-2.0]])
    sample = mixed(real, imagined, share, 0.9).sample(KEY, (), 4096)
    assert set(np.unique(sample.transition.observation)) <= {-2.0, -1.0, 1.0, 2.0}
    np.testing.assert_allclose((sample.transition.observation > 0).mean(), share, atol=0.03)
    np.testing.assert_allclose(sample.discount, 0.9, rtol=1e-6)
    np.testing.assert_array_equal(sample.transition.observation, sample.transition.next_observation)


def test_what_is_stored_and_imagined_in_each_update():
    """Four steps an update: learning starts with the second; 3 rollouts of 2 steps for each of 2 environments."""
    agent = jaxrl.mbpo(SPEC, **SMALL)
    observation, env_state = reset(KEY, PENDULUM, PARAMS, 2)
    state = agent.init(KEY, 2)

    @jax.jit
    def advance(key, state, env_state, observation):
        roll = rollout(key, agent, state, PENDULUM, PARAMS, env_state, observation, 2)
        after, metrics = agent.update(key, state, roll[2])
        return after, roll[0], roll[1], roll[2], metrics

    counts, trajectories = [], []
    for number in range(3):
        old = state
        key = jax.random.key(number)
        state, env_state, observation, trajectory, metrics = advance(key, state, env_state, observation)
        trajectories.append(trajectory)
        real, imagined = state.per_env
        counts.append((int(real.filled), int(imagined.filled), int(imagined.head), int(state.policy.gradient_steps)))
        moved = not all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), old.params, state.params)))
        assert moved == (number >= 1) and bool(np.isfinite(metrics["model_held_out"])) == (number == 1)
    assert counts == [(2, 0, 0, 0), (4, 6, 6, 2), (6, 12, 12, 4)]
    seen = jnp.concatenate([trajectory.observation for trajectory in trajectories])
    np.testing.assert_array_equal(real.transitions.observation[:6], seen)
    np.testing.assert_array_equal(real.transitions.action[:2], trajectories[0].extras)  # in units of the bounds
    # The first rollouts of the last update begin with what is in the replay.
    firsts = np.asarray(imagined.transitions.observation[6:9]).reshape(-1, 3)
    known = np.asarray(real.transitions.observation[:6]).reshape(-1, 3)
    assert all((np.abs(known - first).max(axis=1) < 1e-6).any() for first in firsts)
    assert not imagined.transitions.truncated[6:9].any() and imagined.transitions.truncated[9:12].all()


def test_nothing_is_fitted_or_imagined_before_it_is_due_in_a_population_either(primitives_of_population):
    always, inside = primitives_of_population(jaxrl.mbpo(SPEC, **SMALL), PENDULUM, PARAMS)
    assert "cond" in always and not always & {"while", "erf_inv", "dot_general"}
    assert {"while", "erf_inv", "dot_general"} <= inside


def test_a_probe_is_learned_from_imagined_steps_alone():
    """The observation says which action pays; no sample of a gradient step is real."""
    probe = probes.ContinuousObservationActionProbe()
    params = probe.default_params
    options = {
        **SMALL,
        "num_rollouts": 16,
        "rollout_steps": 1,
        "learning_rate": 3e-3,
        "max_epochs": 40,
        "hidden": (16,),
    }
    agent = jaxrl.mbpo(
        spec(probe, params),
        **options | {"torso": MLP(hidden=(16, 16)), "num_gradient_steps": 8, "batch_size": 32, "refit_every": 64},
        real_share=0.0,
        model_learning_rate=1e-2,
        termination=lambda *args: jnp.bool_(True),
    )
    play = partial(jaxrl.evaluate, jax.random.key(1), agent, env=probe, params=params, num_episodes=32, max_steps=1)

    def run(key):
        state, _ = jaxrl.train(key, agent, probe, params, num_steps=256, num_envs=4, rollout_length=2)
        return play(state.agent).returns.mean()

    # Several seeds, because one ends between -0.05 and -0.2; what is not trained gets -1.
    returns = jax.jit(jax.vmap(run))(jax.random.split(KEY, 6))
    assert returns.mean() > -0.25 and play(agent.init(KEY, 4)).returns.mean() < -0.7


def test_what_does_not_fit_is_refused_by_name():
    for options, error, said in (
        ({"rollout_steps": 0}, ValueError, "^rollout_steps: got 0"),
        ({"real_share": 1.5}, ValueError, "^real_share: got 1.5"),
        ({"num_elites": 9}, ValueError, "^num_elites: got 9"),
        ({"n_step": 3}, TypeError, "n_step"),
        ({"temperature": 0.1, "target_entropy": -1.0}, ValueError, "^target_entropy: got -1.0"),
    ):
        with pytest.raises(error, match=said):
            jaxrl.mbpo(SPEC, **options)
