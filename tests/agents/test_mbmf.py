"""MBMF: who acts when, what is learned when, and that the policy does what the planner says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.parts import dynamics
from jaxrl.agents.trpo import split
from jaxrl.envs import make, probes, spec
from jaxrl.networks import GRU
from jaxrl.ops import normalize
from jaxrl.rollout import reset, rollout
from jaxrl.types import Model, Remembered, Simulated

PENDULUM, PARAMS = make("Pendulum-v1", max_steps_in_episode=8)
SPEC = spec(PENDULUM, PARAMS)
SMALL = {"hidden": (8,), "population": 4, "horizon": 2, "max_epochs": 2, "batch_size": 8, "data_capacity": 64}
PHASES = {"random_steps": 4, "planned_steps": 4, "cloned_steps": 4, "num_minibatches": 2, "num_epochs": 1}


def always(value):
    """A planner whose every action is ``value``, in units of the bounds."""

    def planner(key, params, model, state, *, space, horizon, warm_start, **options):
        batch = jax.tree.leaves(state)[0].shape[0]
        sequence = jnp.full((batch, horizon, 1), value, jnp.float32)
        return jaxrl.planners.Plan(jax.vmap(space.from_unit)(sequence[:, 0]), sequence, jnp.zeros(batch))

    return planner


def test_phases_follow_each_other():
    """Random, planner, policy with the planner's labels, policy: four steps each, one rollout of 2 x 2."""
    agent = jaxrl.mbmf(SPEC, **{**SMALL, **PHASES}, planner=always(0.375))
    observation, env_state = reset(jax.random.key(0), PENDULUM, PARAMS, 2)
    state = agent.init(jax.random.key(1), 2)

    @jax.jit
    def advance(key, state, env_state, observation):
        roll = rollout(key, agent, state, PENDULUM, PARAMS, env_state, observation, 2)
        after, metrics = agent.update(key, state, roll[2])
        return after, roll[0], roll[1], roll[2], metrics

    seen = []
    for number in range(4):
        before = state
        state, env_state, observation, trajectory, metrics = advance(
            jax.random.key(number), state, env_state, observation
        )
        moved = {
            name: any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), old, new)))
            for name, old, new in (
                ("dynamics", before.dynamics, state.dynamics),
                ("actor", *(split(each.policy.params)[0] for each in (before, state))),
                ("critic", *(split(each.policy.params)[1] for each in (before, state))),
            )
        }
        is_planners = np.isclose(trajectory.action, 0.75).all()
        is_own = np.isclose(trajectory.action, np.clip(2.0 * trajectory.extras.policy.raw_action, -2.0, 2.0)).all()
        labelled = trajectory.extras.label.is_known
        assert (np.isclose(trajectory.extras.label.action, 0.375) == np.asarray(labelled)[..., None]).all()
        flags = (bool(is_planners), bool(is_own), bool(labelled.all()), bool(labelled.any()))
        seen.append(
            (flags, moved, [name for name in ("model_train", "clone_train", "kl") if np.isfinite(metrics[name])])
        )
    random, planned, cloned, tuned = (flags for flags, _, _ in seen)
    assert random[2:] == (False, False) and not random[0] and not random[1]
    assert planned == (True, False, True, True)
    assert cloned == (False, True, True, True)
    assert tuned == (False, True, False, False)
    assert [moved for _, moved, _ in seen] == [
        {"dynamics": True, "actor": False, "critic": False},
        {"dynamics": True, "actor": True, "critic": False},
        {"dynamics": True, "actor": True, "critic": True},
        {"dynamics": False, "actor": True, "critic": True},
    ]
    assert [named for _, _, named in seen] == [
        ["model_train"],
        ["model_train", "clone_train"],
        ["model_train", "clone_train", "kl"],
        ["kl"],
    ]
    assert int(state.steps) == 16


def test_the_policy_is_cloned_from_the_planner():
    """The planner always says 0.5; after cloning the greedy policy does, and before it the planner itself acts."""
    options = {**SMALL, **PHASES, "max_epochs": 200, "patience": 50, "planned_steps": 60, "clone_learning_rate": 1e-2}
    agent = jaxrl.mbmf(SPEC, **options, planner=always(0.5))
    run = jax.jit(
        lambda key, n: jaxrl.train(key, agent, PENDULUM, PARAMS, num_steps=n, num_envs=2, rollout_length=16),
        static_argnums=1,
    )
    state, metrics = run(jax.random.key(0), 64)
    observation = reset(jax.random.key(5), PENDULUM, PARAMS, 16)[0]
    action, extras = agent.act(jax.random.key(0), state.agent, observation, explore=False)
    np.testing.assert_allclose(action, 1.0, atol=0.15)
    assert not extras.label.is_known.any() and metrics["clone_held_out"][-1] < metrics["clone_held_out_before"][-1]
    policy = jaxrl.functions(jaxrl.mbmf, SPEC).policy(state.agent, observation)
    np.testing.assert_allclose(2.0 * policy.mode(), action, rtol=1e-5)
    first, labels = agent.act(jax.random.key(0), agent.init(jax.random.key(1), 2), observation, explore=False)
    np.testing.assert_allclose(first, 1.0)
    assert labels.label.is_known.all()


def test_the_clone_sees_what_the_policy_sees():
    """With standardised observations it is fitted to them; the planner says an eighth of the speed."""

    def planner(key, params, model, state, *, space, horizon, warm_start, **options):
        leaf = jax.tree.leaves(state)[0]  # [B, members, particles, 3]
        speed = leaf.reshape(leaf.shape[0], -1)[:, 2:3]
        sequence = jnp.broadcast_to(speed[:, None] / 8.0, (speed.shape[0], horizon, 1))
        return jaxrl.planners.Plan(jax.vmap(space.from_unit)(sequence[:, 0]), sequence, jnp.zeros(speed.shape[0]))

    options = {**SMALL, **PHASES, "max_epochs": 300, "patience": 300, "planned_steps": 60, "clone_learning_rate": 1e-2}
    agent = jaxrl.mbmf(SPEC, **options, planner=planner, normalize_observation=True)
    train = lambda key: jaxrl.train(key, agent, PENDULUM, PARAMS, num_steps=64, num_envs=2, rollout_length=16)[0]  # noqa: E731
    state = jax.jit(train)(jax.random.key(0)).agent
    # Until it acts, the policy has no statistics; give it those of its observations, and let it be cloned again.
    seen = state.per_env[0].transitions.observation.reshape(-1, 3)
    statistics = state.policy.statistics
    statistics = statistics._replace(observation=normalize.update_statistics(statistics.observation, seen))
    state = state._replace(policy=state.policy._replace(statistics=statistics), steps=jnp.int32(60))
    observation, env_state = reset(jax.random.key(2), PENDULUM, PARAMS, 2)
    again = rollout(jax.random.key(1), agent, state, PENDULUM, PARAMS, env_state, observation, 2)
    state = jax.jit(agent.update)(jax.random.key(3), state, again[2])[0]
    action, _ = agent.act(jax.random.key(0), state, seen, explore=False)
    np.testing.assert_allclose(action[:, 0] / 2.0, seen[:, 2] / 8.0, atol=0.1)


def test_it_plans_nothing_once_it_is_tuned():
    """In a population too: the planner stays inside of a conditional."""
    agent = jaxrl.mbmf(SPEC, **SMALL, **PHASES, planner="cem")
    states = jax.vmap(agent.init)(jax.random.split(jax.random.key(0), 2))
    observation = reset(jax.random.key(0), PENDULUM, PARAMS, 1)[0]
    text = str(
        jax.make_jaxpr(jax.vmap(agent.act, (0, 0, None)))(jax.random.split(jax.random.key(1), 2), states, observation)
    )
    assert "top_k" in text and "top_k" not in text.split("cond[")[0]


def test_imagined_rollouts_branch_off_from_what_is_stored():
    """In a model that counts up and ends at 3, with the sum of state and action as reward; written out as a loop."""
    ensemble = dynamics.ensemble_of(SPEC, num_members=2, hidden=(4,))
    params = ensemble.init(jax.random.key(0))

    def step(params, key, state, action):
        after = state._replace(observation=state.observation + 1.0)
        discount = jnp.where(after.observation[0] >= 3.0, 0.0, 1.0)
        reward = state.observation[0] + action[0]
        return Simulated(after, after.observation, reward, discount, jnp.bool_(False))

    counting = ensemble._replace(model=lambda propagation: Model(ensemble.init, step))
    data = dynamics.empty_data(SPEC, 8, 1)
    stored = data.transitions._replace(observation=jnp.arange(8.0)[:, None, None] * jnp.ones((8, 1, 3)))
    data = data._replace(transitions=stored, filled=jnp.int32(2))  # observations 0 and 1
    actor = jaxrl.Agent(None, lambda key, state, seen, *, explore=True: (0.5 * seen[:, :1], seen[:, 0]), None)
    branches = jax.jit(
        lambda key: dynamics.imagined(
            key, counting, params, data, actor, (), space=SPEC.action, length=4, num_branches=16
        )
    )(jax.random.key(1))
    at = np.asarray(branches.observation)[..., 0]
    assert set(at[0].tolist()) == {0.0, 1.0}
    np.testing.assert_array_equal(branches.extras, at)
    np.testing.assert_allclose(branches.reward, 1.5 * at)
    np.testing.assert_array_equal(np.asarray(branches.next_observation)[..., 0], at + 1.0)
    ends = at == 2.0
    np.testing.assert_array_equal(branches.terminated, ends)
    np.testing.assert_array_equal(branches.discount, np.where(ends, 0.0, 1.0))
    # What was truncated or terminated is followed by a stored state, all else by the next observation.
    assert not branches.truncated.any()  # each ends before its four steps are over
    follows = at[1:] == at[:-1] + 1.0
    assert (follows | ends[:-1]).all() and np.isin(at[1:][ends[:-1]], (0.0, 1.0)).all()


def test_dyna_teaches_the_policy_what_the_model_says():
    """The reward of the model prefers an action of 1; one update of trpo alone moves the mean by 0.3 at most."""
    options = {**SMALL, "random_steps": 0, "planned_steps": 0, "cloned_steps": 0, "num_minibatches": 2, "gamma": 0.0}
    options |= {"reward": lambda seen, action, after: -jnp.square(action[0] - 1.0), "num_epochs": 1, "max_epochs": 1}
    agent = jaxrl.mbmf(SPEC, **options, planner=always(0.0), dyna=2, dyna_updates=30)
    observation, env_state = reset(jax.random.key(0), PENDULUM, PARAMS, 16)
    state = agent.init(jax.random.key(1), 16)

    @jax.jit
    def learned(key):
        trajectory = rollout(key, agent, state, PENDULUM, PARAMS, env_state, observation, 1)[2]
        return agent.update(key, state, trajectory)[0]

    act = lambda state: agent.act(jax.random.key(0), state, observation, explore=False)[0].mean()  # noqa: E731
    assert abs(act(state)) < 0.3 and abs(act(learned(jax.random.key(2))) - 1.0) < 0.3


def test_plans_are_remembered():
    env = jaxrl.envs.remember(PENDULUM, jaxrl.planners.sequence_like(SPEC.action, 2))
    agent = jaxrl.mbmf(spec(env, PARAMS), **SMALL, **PHASES)
    observation = reset(jax.random.key(0), env, PARAMS, 2)[0]
    action, _ = agent.act(jax.random.key(0), agent.init(jax.random.key(1), 2), observation)
    assert isinstance(action, Remembered) and action.memory.shape == (2, 2, 1)


def test_what_does_not_fit_is_refused_by_name():
    for options, error, said in (
        ({"planner": "x"}, ValueError, "^planner: got 'x'"),
        ({"planned_steps": -1}, ValueError, "^planned_steps: got -1"),
        ({"dyna": -1}, ValueError, "^dyna: got -1"),
        ({"max_kl": 0.0}, ValueError, "^max_kl: got 0"),
        ({"torso": GRU(size=4)}, TypeError, "^torso: .*GRU"),
        ({"colour": 1}, TypeError, "colour"),
    ):
        with pytest.raises(error, match=said):
            jaxrl.mbmf(SPEC, **options)
    image = probes.ImageProbe()
    with pytest.raises(ValueError, match="^spec: .*vectors"):
        jaxrl.mbmf(spec(image, image.default_params))
