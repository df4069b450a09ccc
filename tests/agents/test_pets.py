"""PETS: what is fitted and when, what the particles do, and that it learns a task that a plan can solve."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.parts import dynamics
from jaxrl.envs import make, probes, remember, spec
from jaxrl.planners import cem, sequence_like
from jaxrl.rollout import reset, rollout

SMALL = {"hidden": (16, 16), "population": 20, "horizon": 3, "max_epochs": 3, "data_capacity": 64, "batch_size": 8}
PENDULUM, PARAMS = make("Pendulum-v1", max_steps_in_episode=8)


def test_a_swarm_is_the_mean_over_particles_that_keep_their_members():
    """Without noise: each member's own open-loop rollout, written as a loop, and the mean of their rewards."""
    described = spec(PENDULUM, PARAMS)
    ensemble = dynamics.ensemble_of(described, num_members=3, hidden=(8,))
    quiet = ensemble._replace(model=lambda propagation: ensemble.model(propagation, noise=False))
    params = ensemble.init(jax.random.key(0))._replace(elites=jnp.array([2, 0], jnp.int32))
    model, start = dynamics.swarm(quiet, particles_per_member=2)
    first = jnp.array([[0.3, -0.2, 0.5]])
    state = jax.tree.map(lambda x: x[0], start(first, 2))
    actions = jnp.array([[0.4], [-1.0], [0.7]])
    totals = []
    for action in actions:
        simulated = model.step(dynamics.members(params), jax.random.key(1), state, action)
        state = simulated.state
        totals.append(float(simulated.reward))
    expected = np.zeros(3)
    for row, member in enumerate((2, 0)):
        seen = first
        for time, action in enumerate(actions):
            found = ensemble.predict(params, seen, action[None])
            seen = found.observation[member]
            expected[time] += float(found.reward[member, 0]) / 2
        np.testing.assert_allclose(state.observation[row], np.tile(np.asarray(seen), (2, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(totals, expected, rtol=1e-4, atol=1e-5)


def test_a_particle_that_ended_gets_nothing_more():
    """The task ends above 0.5; one of two particles is there from the first step on."""
    described = spec(PENDULUM, PARAMS)
    ensemble = dynamics.ensemble_of(
        described,
        num_members=1,
        hidden=(8,),
        reward=lambda seen, action, after: jnp.float32(1.0),
        termination=lambda seen, action, after: seen[0] > 0.5,
    )
    model, start = dynamics.swarm(ensemble, particles_per_member=2)
    params = dynamics.members(ensemble.init(jax.random.key(0)))
    state = jax.tree.map(lambda x: x[0], start(jnp.zeros((1, 3)), 1))
    apart = state._replace(observation=jnp.array([[[0.9, 0.0, 0.0], [-9.0, 0.0, 0.0]]]))
    first = model.step(params, jax.random.key(1), apart, jnp.zeros(1))
    second = model.step(params, jax.random.key(2), first.state, jnp.zeros(1))
    assert float(first.reward) == 1.0 and float(second.reward) == 0.5
    assert float(first.discount) == float(second.discount) == 1.0
    both = state._replace(observation=jnp.full((1, 2, 3), 0.9))
    assert float(model.step(params, jax.random.key(1), both, jnp.zeros(1)).discount) == 0.0


def agent_and_start(num_envs=2, **options):
    agent = jaxrl.pets(spec(PENDULUM, PARAMS), **{**SMALL, **options})
    observation, env_state = reset(jax.random.key(0), PENDULUM, PARAMS, num_envs)
    return agent, agent.init(jax.random.key(1), num_envs), env_state, observation


def test_random_actions_come_first_and_the_model_is_fitted_every_k_updates():
    agent, state, env_state, observation = agent_and_start(learning_starts=8, refit_every=2)

    @jax.jit
    def advance(key, state, env_state, observation):
        roll = rollout(key, agent, state, PENDULUM, PARAMS, env_state, observation, 2)
        after, metrics = agent.update(key, state, roll[2])
        return after, roll[0], roll[1], roll[2], metrics

    fits = []
    for number in range(6):
        before = state.params
        state, env_state, observation, trajectory, metrics = advance(
            jax.random.key(number), state, env_state, observation
        )
        moved = any((x != y).any() for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True))
        assert moved == bool(jnp.isfinite(metrics["model_held_out"]))
        assert bool(jnp.isnan(trajectory.extras).all()) == (number < 2)  # no plan before 8 steps
        fits.append(moved)
    assert fits == [False, True, False, True, False, True]
    data, size = dynamics.rows_of(state.per_env)
    assert int(size) == 24 == int(state.steps)
    np.testing.assert_array_equal(
        data.observation[22:24], jnp.asarray(trajectory.observation[-1])
    )  # the newest rows, in the order of time
    np.testing.assert_array_equal(data.action[22:24], trajectory.action[-1])


def test_what_is_not_due_is_not_computed_in_a_population_either():
    """The fit and the plan stay inside of conditionals when seeds are vmapped: no loop of theirs is outside."""
    agent, state, env_state, observation = agent_and_start()
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    keys = jax.random.split(jax.random.key(0), 2)
    text = str(jax.make_jaxpr(jax.vmap(agent.act, (0, 0, None)))(keys, states, observation))
    assert "cond[" in text and "top_k" not in text.split("cond[")[0]


def test_the_plan_is_that_of_the_planner_in_the_swarm():
    agent, state, _, observation = agent_and_start(learning_starts=0, planner=partial(cem, num_iterations=2))
    ensemble = dynamics.ensemble_of(spec(PENDULUM, PARAMS), hidden=(16, 16))
    model, start = dynamics.swarm(ensemble, 1)
    key = jax.random.key(5)
    found = cem(
        jax.random.split(key)[0],
        dynamics.members(state.params),
        model,
        start(observation, 5),
        space=spec(PENDULUM, PARAMS).action,
        horizon=3,
        population=20,
        num_iterations=2,
    )
    action, value = agent.act(key, state, observation)
    np.testing.assert_allclose(action, found.action, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value, found.value, rtol=1e-4, atol=1e-4)


def test_a_task_of_a_few_steps_is_learned():
    """The observation says which of two actions pays; after 60 random steps the model knows."""
    probe = probes.ContinuousObservationActionProbe()
    params = probe.default_params
    env = remember(probe, sequence_like(spec(probe, params).action, 2))
    agent = jaxrl.pets(
        spec(env, params),
        hidden=(16, 16),
        population=100,
        horizon=2,
        max_epochs=60,
        batch_size=16,
        data_capacity=256,
        learning_rate=1e-2,
        learning_starts=64,
        termination=lambda seen, action, after: jnp.bool_(True),
    )
    state, _ = jax.jit(lambda key: jaxrl.train(key, agent, env, params, num_steps=192, num_envs=4, rollout_length=16))(
        jax.random.key(0)
    )
    returns = jaxrl.evaluate(jax.random.key(1), agent, state.agent, env, params, num_episodes=32, max_steps=1).returns
    assert returns.mean() > -0.1


def test_what_does_not_fit_is_refused_by_name():
    plain = spec(PENDULUM, PARAMS)
    for options, said in (
        ({"planner": "x"}, "^planner: got 'x'"),
        ({"num_elites": 9}, "^num_elites: got 9"),
        ({"particles_per_member": 0}, "^particles_per_member: got 0"),
        ({"refit_every": 0}, "^refit_every: got 0"),
    ):
        with pytest.raises(ValueError, match=said):
            jaxrl.pets(plain, **options)
    image = probes.ImageProbe()
    with pytest.raises(ValueError, match="^spec: .*vectors"):
        jaxrl.pets(spec(image, image.default_params))
