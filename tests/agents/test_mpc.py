"""Model-predictive control: its plans reach the environment, the last one comes back, and episodes begin afresh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.parts import plans
from jaxrl.envs import expose_state, make, probes, remember, simulator, spec
from jaxrl.planners import cem, sequence_like, shift
from jaxrl.rollout import reset, rollout
from jaxrl.types import Box, Observation, Remembered


def agent_in(env, params=None, horizon=4, population=64, **options):
    """The environment as the agent wants it, with its last plan fed back, and the agent."""
    params = env.default_params if params is None else params
    model = simulator(env, params)
    exposed = expose_state(env)
    action = spec(exposed, params).action
    env = remember(exposed, sequence_like(action, horizon))
    agent = jaxrl.mpc(spec(env, params), model=model, horizon=horizon, population=population, **options)
    return env, params, agent


@pytest.mark.parametrize("planner", plans.PLANNERS)
@pytest.mark.parametrize(
    "probe", [probes.ObservationActionProbe, probes.ContinuousObservationActionProbe, probes.MaskedProbe]
)
def test_probes_are_solved_without_learning(planner, probe):
    """The best action of each observation, under the mask where there is one."""
    env, params, agent = agent_in(probe(), planner=planner, horizon=2, population=400)
    if planner == "mppi":
        agent = agent_in(probe(), planner=partial(jaxrl.planners.mppi, temperature=0.01), horizon=2, population=400)[-1]
    state = agent.init(jax.random.key(0))
    returns = jaxrl.evaluate(jax.random.key(1), agent, state, env, params, num_episodes=32, max_steps=2).returns
    best = {probes.MaskedProbe: 0.5}.get(probe, probe().best_return - 0.02)
    assert (returns >= best).all()


def test_the_last_plan_comes_back_shifted_and_episodes_begin_afresh():
    """Two-step episodes of the pendulum: memory is zero where one starts, else what was planned the step before."""
    pendulum, params = make("Pendulum-v1", max_steps_in_episode=2)
    env, params, agent = agent_in(pendulum, params, horizon=4, population=20)
    observation, env_state = reset(jax.random.key(0), env, params, 3)
    assert observation.memory.shape == (3, 4, 1) and (observation.memory == 0.0).all()
    state = agent.init(jax.random.key(1))
    for time in range(4):
        action, _ = agent.act(jax.random.key(time), state, observation)
        assert isinstance(action, Remembered)
        first = Box((1,), -2.0, 2.0).from_unit(action.memory[:, 0])
        step = jax.vmap(partial(env.step, params=params), (0, 0, 0))
        observation, env_state, *_ = step(jax.random.split(jax.random.key(9), 3), env_state, action)
        expected = action.memory if time % 2 == 0 else jnp.zeros_like(action.memory)
        np.testing.assert_array_equal(observation.memory, expected)
        assert (action.memory[:, -1] == 0.0).all() and not (first == 0.0).all()


def test_the_plan_begins_from_the_memory():
    """With a planner that looks at nothing else: what it was given is what it was told the step before."""

    def planner(key, params, model, state, *, space, horizon, population, warm_start, **options):
        sequence = warm_start + jnp.arange(3.0).reshape(1, 3, 1) / 10.0
        return jaxrl.planners.Plan(jax.vmap(space.from_unit)(sequence[:, 0]), sequence, jnp.zeros(sequence.shape[0]))

    pendulum, params = make("Pendulum-v1")
    env, params, agent = agent_in(pendulum, params, horizon=3, planner=planner)
    observation, env_state = reset(jax.random.key(0), env, params, 1)
    state = agent.init(jax.random.key(0))
    _, _, trajectory = rollout(jax.random.key(1), agent, state, env, params, env_state, observation, 3)
    # The plan 0, .1, .2 moves on by a step: .1 + 0, then .2 + .1.
    np.testing.assert_allclose(trajectory.action[:, 0, 0] / 2.0, [0.0, 0.1, 0.3], rtol=1e-5)


def test_without_a_memory_it_plans_from_nothing():
    pendulum, params = make("Pendulum-v1")
    env = expose_state(pendulum)
    agent = jaxrl.mpc(spec(env, params), model=simulator(pendulum, params), horizon=3, population=20)
    observation, _ = reset(jax.random.key(0), env, params, 2)
    action, value = agent.act(jax.random.key(1), agent.init(jax.random.key(0)), observation)
    assert action.shape == (2, 1) and value.shape == (2,)
    found = cem(
        jax.random.key(1), (), simulator(pendulum, params), observation.env_state,
        space=Box((1,), -2.0, 2.0), horizon=3, population=20,
    )  # fmt: skip
    np.testing.assert_allclose(action, found.action, rtol=1e-5)


def test_a_longer_horizon_swings_the_pendulum_up():
    """A start that hangs down: with 25 steps the plan sees the top, with 5 it does not."""
    pendulum, params = make("Pendulum-v1", max_steps_in_episode=100)
    reached = {}
    for horizon in (5, 25):
        env, params, agent = agent_in(pendulum, params, horizon=horizon, population=64)
        observation, env_state = reset(jax.random.key(3), env, params, 4)
        inner = env_state.replace(theta=jnp.full(4, jnp.pi), theta_dot=jnp.zeros(4))
        features = jax.vmap(pendulum.get_obs)(inner)
        observation = observation._replace(features=features, env_state=inner)
        run = jax.jit(partial(rollout, agent=agent, state=agent.init(jax.random.key(0)), env=env, length=100))
        _, _, trajectory = run(jax.random.key(1), params=params, env_state=inner, observation=observation)
        reached[horizon] = np.asarray(trajectory.next_observation.features[..., 0][60:-1]).mean()
    assert reached[25] > 0.85 and reached[5] < 0.5


def test_update_learns_nothing():
    pendulum, params = make("Pendulum-v1")
    env, params, agent = agent_in(pendulum, params, horizon=2, population=4)
    state, metrics = jaxrl.train(jax.random.key(0), agent, env, params, num_steps=8, num_envs=2, rollout_length=2)
    assert jax.tree.leaves(state.agent) == []
    assert set(metrics) >= {"planned_return", "reward"}


def test_what_does_not_fit_is_refused_by_name():
    pendulum, params = make("Pendulum-v1")
    model, plain = simulator(pendulum, params), spec(expose_state(pendulum), params)
    other = spec(remember(expose_state(pendulum), sequence_like(plain.action, 7)), params)
    with pytest.raises(ValueError, match="^spec: .*horizon=4"):
        jaxrl.mpc(other, model=model, horizon=4)
    with pytest.raises(ValueError, match="^planner: got 'cme'"):
        jaxrl.mpc(plain, model=model, planner="cme")
    with pytest.raises(TypeError, match="^planner: .*horizon"):
        jaxrl.mpc(plain, model=model, planner=lambda key, params, model, state: None)
    with pytest.raises(ValueError, match="^gamma: got 2"):
        jaxrl.mpc(plain, model=model, gamma=2.0)
    with pytest.raises(TypeError, match="^model: "):
        jaxrl.mpc(plain, model=pendulum)
    agent = jaxrl.mpc(plain, model=model, horizon=2, population=4)
    with pytest.raises(ValueError, match="^observation: .*env_state"):
        agent.act(jax.random.key(0), agent.init(jax.random.key(0)), Observation(jnp.zeros((1, 3))))


def test_a_shifted_plan_ends_open():
    np.testing.assert_array_equal(shift(jnp.arange(6.0).reshape(1, 3, 2)), [[[2.0, 3.0], [4.0, 5.0], [0.0, 0.0]]])
