"""``with_reward``: an agent that learns from a model's rewards, by models whose answer is known."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import a2c, dqn, ppo
from jaxrl.agents.players import random_player
from jaxrl.envs import probes, spec
from jaxrl.feedback import rnd
from jaxrl.networks import MLP
from jaxrl.training import check
from jaxrl.types import RewardModel

KEY = jax.random.key(5)


class Counts(NamedTuple):
    """Updates seen, and the environment's reward of each environment."""

    updates: Any
    per_env: Any


COUNTED = RewardModel(
    init=lambda key, num_envs=1: Counts(jnp.zeros(()), jnp.zeros(num_envs)),
    reward=lambda key, state, trajectory: jnp.full_like(trajectory.reward, 3.0) * (1.0 + state.updates),
    update=lambda key, state, trajectory: (
        Counts(state.updates + 1.0, state.per_env + trajectory.reward.sum(axis=0)),
        {"true_reward": trajectory.reward.sum()},
    ),
)
"""Pays 3 for each update that it has seen, and one more."""


@pytest.mark.parametrize("make", [a2c, ppo])
def test_the_agent_learns_from_the_models_reward_and_the_model_from_the_environments(kit, make):
    plain, state, trajectory, update = kit.one_step(make, normalize_reward=True)
    agent = jaxrl.with_reward(plain, COUNTED)
    rewarded = agent.init(KEY, 2)
    assert rewarded.agent.per_env == () and rewarded.per_env[0].shape == rewarded.per_env[1].shape == (2,)
    rewarded = rewarded._replace(
        agent=state._replace(per_env=()),
        reward_model=Counts(jnp.float32(2.0), ()),
        per_env=(state.per_env, jnp.ones(2)),
    )
    new, metrics = jax.jit(agent.update)(KEY, rewarded, trajectory)
    agent_key = jax.random.split(KEY, 3)[0]
    expected, _ = update(agent_key, state, trajectory._replace(reward=jnp.full_like(trajectory.reward, 9.0)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        new.agent._replace(per_env=new.per_env[0]),
        expected,
    )
    assert new.reward_model.updates == 3.0 and metrics["learned_reward"] == 9.0
    np.testing.assert_allclose(new.per_env[1], 1.0 + trajectory.reward.sum(axis=0), rtol=1e-6)
    assert metrics["reward_model_true_reward"] == trajectory.reward.sum() and "gradient_norm" in metrics
    assert new.params is new.agent.params


def test_a_snapshot_acts(kit):
    """Without what is kept for each environment, as evaluation on the way takes the state."""
    plain, state, trajectory, _ = kit.one_step(ppo, normalize_reward=True)
    agent = jaxrl.with_reward(plain, COUNTED)
    rewarded = agent.init(KEY, 2)
    seen = trajectory.observation[0]
    action, _ = agent.act(KEY, rewarded, seen, explore=False)
    np.testing.assert_array_equal(agent.act(KEY, rewarded._replace(per_env=()), seen, explore=False)[0], action)


def test_parameters_can_be_replaced_as_workers_do(kit):
    plain, state, _, _ = kit.one_step(a2c)
    rewarded = jaxrl.with_reward(plain, COUNTED).init(KEY, 2)
    replaced = rewarded._replace(params=state.params, reward_model=())
    assert type(replaced) is type(rewarded) and replaced.params is state.params and replaced.reward_model == ()
    assert replaced.agent.optimizer_state is rewarded.agent.optimizer_state


def test_statistics_can_be_replaced_as_transfer_does(kit):
    plain, state, trajectory, update = kit.one_step(a2c, normalize_observation=True)
    learned, _ = update(KEY, state, trajectory)
    rewarded = jaxrl.with_reward(plain, COUNTED).init(KEY, 2)
    moved = rewarded._replace(params=learned.params, statistics=learned.statistics)
    assert moved.statistics is learned.statistics and moved.agent.statistics is learned.statistics
    assert moved.params is learned.params and moved.reward_model is rewarded.reward_model
    without = jaxrl.with_reward(random_player(kit.specs["discrete"]), COUNTED).init(KEY, 2)
    assert without.statistics == ()


def test_rewards_of_another_shape_are_refused(kit):
    plain, _, trajectory, _ = kit.one_step(a2c)
    summed = COUNTED._replace(reward=lambda key, state, trajectory: trajectory.reward.sum(axis=0))
    agent = jaxrl.with_reward(plain, summed)
    with pytest.raises(ValueError, match=r"reward_model: returned rewards of shape \[2\]"):
        agent.update(KEY, agent.init(KEY, 2), trajectory)


def test_it_keeps_the_contract():
    env = probes.DiscountProbe()

    def make(spec, **options):
        small = {"replay_capacity": 48, "batch_size": 4, "learning_starts": 8}
        agent = dqn(spec, torso=MLP(hidden=(8,)), **small)
        return jaxrl.with_reward(agent, rnd(spec, torso=MLP(hidden=(4,)), embedding_size=4))

    report = check(make, env, env.default_params, spec=spec(env, env.default_params))
    assert "resumes" in report.properties and "vmaps_over_seeds" in report.properties


def test_the_bonus_falls_where_it_was_seen_and_stays_where_it_was_not(kit):
    """After learning from observations near the origin, those far away are what is rewarded."""
    model = rnd(kit.specs["discrete"], torso=MLP(hidden=(32,)), learning_rate=1e-2, reward_coef=0.0)
    _, _, trajectory, _ = kit.one_step()
    seen = trajectory._replace(next_observation=0.1 * trajectory.next_observation)
    unseen = trajectory._replace(next_observation=seen.next_observation + 0.5)
    state, reward = model.init(KEY, 2), jax.jit(model.reward)
    update = jax.jit(model.update)
    before = reward(KEY, state, seen).mean() / reward(KEY, state, unseen).mean()
    for _ in range(200):
        state, metrics = update(KEY, state, seen)
    after = reward(KEY, state, seen).mean() / reward(KEY, state, unseen).mean()
    assert after < 0.1 * before and metrics["loss"] < 1e-3


def test_the_bonus_is_the_error_over_the_deviation_of_its_discounted_sum(kit):
    """By a plain loop over the embeddings of the two networks."""
    gamma = 0.9
    described = kit.specs["discrete"]
    model = rnd(described, torso=MLP(hidden=(8,)), embedding_size=4, gamma=gamma, bonus_coef=2.0, reward_coef=0.5)
    _, _, trajectory, _ = kit.one_step()
    state = model.init(KEY, 2)
    same = state._replace(params=state.target_params)
    np.testing.assert_allclose(model.reward(KEY, same, trajectory), 0.5 * trajectory.reward, rtol=1e-6)
    raw = (model.reward(KEY, state, trajectory) - 0.5 * trajectory.reward) / 2.0  # before any data the scale is 1
    new, _ = model.update(KEY, state, trajectory)
    total, sums = np.zeros(2), []
    for step in np.asarray(raw):
        sums.append(total + step)
        total = gamma * sums[-1]
    np.testing.assert_allclose(new.per_env, total, rtol=1e-5)
    np.testing.assert_allclose(new.bonus_statistics.variance, np.var(sums), rtol=1e-4)


def test_its_state_is_float32_with_x64_on(kit):
    with jax.enable_x64(True):
        model = rnd(kit.specs["discrete"], torso=MLP(hidden=(4,)))
        state = jax.eval_shape(lambda: model.init(jax.random.key(0), 2))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype("float32"), jnp.dtype("int32")}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda spec: jaxrl.with_reward(ppo, rnd(spec)), "agent: got function"),
        (lambda spec: jaxrl.with_reward(ppo(spec), rnd), "reward_model: got function"),
        (lambda spec: rnd(spec, bonus_coef=-1.0), "bonus_coef: got -1"),
        (lambda spec: rnd(spec, embedding_size=0), "embedding_size: got 0"),
        (lambda spec: rnd(spec, torso=MLP), "torso: got"),
        (lambda spec: rnd("x"), r"spec: got 'x'.*jaxrl\.spec"),
        (lambda spec: rnd(spec, lr=0.1), "'lr'.*'learning_rate'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(kit, call, name):
    with pytest.raises((TypeError, ValueError), match=name):
        call(kit.specs["discrete"])
