"""Devices with a part of the environments each, against one device with all of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import jaxrl
from jaxrl import envs, replay, rollout, text
from jaxrl.agents.parts import minibatches
from jaxrl.feedback import rnd
from jaxrl.networks import GRU, MLP, memory_of
from jaxrl.ops import across
from jaxrl.replay import Slot
from jaxrl.training import Checkpoints, ParallelError, Program, fit, make_mesh, parallel, train

D, E, T, UPDATES = 4, 8, 8, 3
KEY = jax.random.key(3)
COUNTS = {"num_steps": E * T * UPDATES, "num_envs": E, "rollout_length": T}
SGD = {"torso": MLP(hidden=(6,)), "optimizer": optax.sgd, "learning_rate": 0.3}

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices, see JAX_NUM_CPU_DEVICES")


def in_blocks(agent):
    """The agent, acting for D blocks of environments with the keys that D devices have."""

    def act(key, state, observation, *, explore=True):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(D))
        blocks = jax.tree.map(lambda x: x.reshape(D, -1, *x.shape[1:]), observation)
        acted = jax.vmap(partial(agent.act, explore=explore), (0, None, 0))(keys, state, blocks)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), acted)

    return agent._replace(act=act)


def newest(capacity, *, n_step, gamma):
    """A replay of windows of one step that gives the newest rows, so that parts of a batch make up the batch."""
    made = replay.uniform(capacity, n_step=n_step, gamma=gamma)

    def sample(key, state, batch_size, *, reward_fn=None):
        index = jnp.arange(batch_size, dtype=jnp.int32)
        row = (state.head - 1 - index // state.num_envs) % state.rows
        transition = jax.tree.map(lambda x: x[row, index % state.num_envs], state.transitions)
        if reward_fn is not None:
            reward = reward_fn(jax.tree.map(lambda x: x[None], transition))[0]
            transition = transition._replace(reward=reward)
        discount = gamma * transition.discount
        return replay.Sample(transition, discount, jnp.ones(batch_size), Slot(row, index % state.num_envs))

    return made._replace(sample=sample)


def curious(spec, **options):
    return jaxrl.dqn(spec, **options, reward_model=rnd(spec, torso=MLP(hidden=(6,)), bonus_coef=0.1))


LEARNS_AT_ONCE = {"replay": newest, "replay_capacity": 40 * E, "batch_size": 4 * E, "learning_starts": 8 * E}
NORMALIZED = {"normalize_advantage": True, "normalize_observation": True, "normalize_reward": True}
WRITER = {
    "network": text.gpt2(28, width=8, num_layers=1, num_heads=2, max_length=8),
    "optimizer": optax.sgd,
    "learning_rate": 0.3,
    "target_kl": 1.0,
    "num_minibatches": 2,
}
RECIPES = {
    "reinforce": ("CartPole-v1", jaxrl.reinforce, {**SGD, "normalize_advantage": True}),
    "a2c": ("CartPole-v1", jaxrl.a2c, SGD),
    "ppo": ("CartPole-v1", jaxrl.ppo, {**SGD, **NORMALIZED, "num_minibatches": 4, "target_kl": 1e-3}),
    "ppo_gru": ("CartPole-v1", jaxrl.ppo, {**SGD, "torso": GRU(size=4), "num_minibatches": 1}),
    "trpo": ("Pendulum-v1", jaxrl.trpo, {**SGD, **NORMALIZED, "learning_rate": 1e-3, "num_minibatches": 2}),
    "pqn": ("CartPole-v1", jaxrl.pqn, {**SGD, "epsilon_steps": 100}),
    "q_learning": ("FrozenLake-misc", jaxrl.q_learning, {"initial_value": 0.5, "omega": 0.6, "epsilon_steps": 100}),
    "sarsa": ("FrozenLake-misc", jaxrl.sarsa, {"initial_value": 0.5, "epsilon_steps": 100}),
    "dqn": ("CartPole-v1", jaxrl.dqn, {**SGD, **LEARNS_AT_ONCE, "epsilon_steps": 100}),
    "dqn_curious": ("CartPole-v1", curious, {**SGD, **LEARNS_AT_ONCE, "epsilon_steps": 100}),
    "sac": ("CartPole-v1", jaxrl.sac, {**SGD, **LEARNS_AT_ONCE, "learning_rate": 0.01}),
    "rlhf": ("Vowels-3", jaxrl.rlhf, WRITER),
    "td3": ("Pendulum-v1", jaxrl.td3, {**SGD, **LEARNS_AT_ONCE, "learning_rate": 1e-4, "target_noise": 0.0}),
}


def made(recipe):
    name, make, options = RECIPES[recipe]
    env, params = envs.make(name)
    if isinstance(options.get("torso"), GRU):
        env = envs.remember(env, memory_of(options["torso"]))
    return make(envs.spec(env, params), **options), env, params


def flat(tree):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_devices_with_a_part_each_equal_one_with_all(recipe, monkeypatch):
    monkeypatch.setattr(minibatches, "random_order", lambda key, size: jnp.arange(size, dtype=jnp.int32))
    agent, env, params = made(recipe)
    alone, alone_metrics = jax.jit(lambda key: train(key, in_blocks(agent), env, params, **COUNTS))(KEY)
    mesh = make_mesh(D)
    split, split_metrics = jax.jit(lambda key: parallel.train(key, agent, env, params, mesh=mesh, **COUNTS))(KEY)
    first = flat(parallel.start(KEY, agent, env, params, E, mesh=mesh)[0].agent)
    moved = [np.abs(x - first[name]).max() for name, x in flat(alone.agent).items() if ".params" in name and x.size]
    assert max(moved) > 1e-3  # else a gradient D times too large would not be seen
    for name, x in flat(alone).items():
        np.testing.assert_allclose(flat(split)[name], x, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, x in alone_metrics.items():
        if not name.endswith("gradient_norm"):  # which is the mean of the devices' own
            np.testing.assert_allclose(split_metrics[name], x, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_mesh_of_one_device_is_no_mesh(toys):
    agent, env, params = made("dqn")
    alone = jax.jit(lambda key: train(key, agent, env, params, **COUNTS))(KEY)
    toys.assert_close(
        alone, jax.jit(lambda key: parallel.train(key, agent, env, params, mesh=make_mesh(1), **COUNTS))(KEY)
    )


def test_environments_draw_the_same_keys_wherever_they_live():
    alone = jax.random.key_data(rollout.step_keys(KEY, T, E))
    parts = jax.vmap(lambda _: rollout.step_keys(KEY, T, E // D), axis_name=across.AXIS)(jnp.zeros(D))
    parts = jax.random.key_data(parts)
    np.testing.assert_array_equal(np.concatenate(parts[:, :, 1:], axis=1), alone[:, 1:])
    assert (
        len(np.unique(np.asarray(parts[:, :, 0]).reshape(-1, 2), axis=0)) == D * T
    )  # those that actions are drawn with


def test_importance_weights_are_those_of_each_part_over_the_largest_of_all():
    made = replay.prioritized(6 * E, n_step=1, gamma=0.9, alpha=1.0, beta=0.5)
    scalar, flag = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), bool)
    example = jaxrl.Transition(scalar, scalar, scalar, scalar, flag, flag, scalar)
    priorities = jnp.array([[1.0, 1.0, 4.0, 2.0], [8.0, 16.0, 8.0, 40.0]])

    def of_part(priorities):
        state = made.init(example, 2)
        state = made.add(state, jax.tree.map(lambda x: jnp.zeros((2, 2), x.dtype), example))
        slot = Slot(jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1]))
        state = made.update_priorities(state, slot, priorities)
        sample = made.sample(KEY, state, 64)
        return sample.weight, priorities[2 * sample.index.row + sample.index.env] / priorities.sum()

    weight, probability = jax.vmap(of_part, axis_name=across.AXIS)(priorities)
    expected = np.asarray(probability) ** -0.5
    assert expected[0].max() != expected[1].max()
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-4)


@pytest.fixture(scope="module")
def population():
    """Four seeds with a learning rate each on 2 x 4 devices: PPO with everything that is shared, 4 updates."""
    env, params = envs.make("CartPole-v1")
    make_agent = partial(jaxrl.ppo, envs.spec(env, params), torso=MLP((8,)), **NORMALIZED)
    hyper = {"learning_rate": np.array([1e-3, 1e-3, 1e-2, 1e-2], np.float32)}

    def program(mesh, members=slice(None)):
        return Program(
            make_agent,
            env,
            params,
            jax.random.split(KEY, 4)[members],
            hyper={name: values[members] for name, values in hyper.items()},
            num_envs=E,
            rollout_length=T,
            mesh=mesh,
        )

    made = program(make_mesh(8, seeds=2))
    return program, made, *fit(made, num_updates=4, updates_per_chunk=4)


def test_seeds_are_split_over_the_other_axis(population, toys):
    program, _, state, metrics = population
    assert tuple(state.observation.sharding.spec) == ("seeds", "envs")
    assert jax.tree.leaves(state.agent.params)[0].sharding.shard_shape((4, 4, 8)) == (2, 4, 8)
    alone, alone_metrics = fit(program(make_mesh(4), slice(3, 4)), num_updates=4, updates_per_chunk=4)
    toys.assert_close(jax.tree.map(lambda x: x[3:], state), alone)
    toys.assert_close({name: rows[3:] for name, rows in metrics.items()}, alone_metrics)
    assert len(np.unique(metrics["loss"][:, -1])) == 4


def test_a_split_run_resumes_bit_for_bit(population, toys, tmp_path):
    _, program, whole, _ = population
    half, _ = fit(program, num_updates=2, updates_per_chunk=4)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, half)
    restored = checkpoints.restore(program.abstract_state())
    assert restored.observation.sharding == half.observation.sharding
    resumed, _ = fit(program, num_updates=4, updates_per_chunk=4, state=restored)
    toys.assert_same(resumed, whole)


def test_a_replay_is_split_with_its_environments():
    agent, env, params = made("dqn")
    state, _ = parallel.start(KEY, agent, env, params, E, mesh=make_mesh(D))
    replayed = state.agent.per_env
    rows = replayed.rows
    assert {x.sharding.shard_shape(x.shape)[:2] for x in jax.tree.leaves(replayed.transitions)} == {(rows, E // D)}
    assert replayed.head.sharding.is_fully_replicated
    masks = jaxrl.types.Observation(jnp.zeros((E,)), action_mask=jnp.ones((E, E), bool))  # which axis is E of the two?
    whole, part = (jax.tree.map(lambda x, n=n: x[:n], masks) for n in (E, E // D))
    assert parallel._environment_axis(whole.action_mask, part.action_mask, E, D) == P("envs")


def test_an_agent_that_does_not_average_is_refused(toys):
    program = Program(
        toys.make_agent,
        toys.env,
        toys.params,
        jax.random.split(KEY, 2),
        hyper={"scale": np.ones(2, np.float32)},
        num_envs=E,
        rollout_length=T,
        mesh=make_mesh(8, seeds=2),
    )
    with pytest.raises(ParallelError, match=r"agent\.params.*optim\.averaged"):
        fit(program, num_updates=1, updates_per_chunk=1)


def test_an_agent_whose_state_cannot_be_split_is_refused():
    agent, env, params = made("a2c")
    stray = agent._replace(init=lambda key, num_envs=1: (agent.init(key, num_envs), jnp.zeros(num_envs)))
    with pytest.raises(ValueError, match=r"agent\.1 is \[8\] with 8 environments and \[2\] with 2: .* per_env"):
        parallel.start(KEY, stray, env, params, E, mesh=make_mesh(D))


@pytest.mark.parametrize("length", [lambda n: (2 * n,), lambda n: (1,) * n], ids=["twice", "axes"])
def test_a_leaf_of_per_env_without_an_axis_of_environments_is_refused(length):
    agent, env, params = made("a2c")
    odd = agent._replace(init=lambda key, num_envs=1: agent.init(key)._replace(per_env=jnp.zeros(length(num_envs))))
    with pytest.raises(ValueError, match=r"agent\.per_env is \[.*with 8 environments and \[.*with 2: .* an axis as"):
        parallel.start(KEY, odd, env, params, E, mesh=make_mesh(D))


def test_a_run_goes_on_with_the_environments_of_its_state(monkeypatch):
    """E is the state's, whatever ``num_envs`` says, and no second state is made."""
    agent, env, params = made("a2c")
    mesh = make_mesh(D)
    state, _ = parallel.start(KEY, agent, env, params, E, mesh=mesh)
    monkeypatch.setattr(parallel, "start", None)
    after, metrics = parallel.train(
        KEY, agent, env, params, mesh=mesh, num_steps=2 * E * T, rollout_length=T, state=state
    )
    assert (int(after.updates), metrics["loss"].shape, after.episode_return.shape) == (2, (2,), (E,))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: make_mesh(jax.device_count() + 1), r"devices: got 9, there are 8 \(cpu\); .*JAX_NUM_CPU_DEVICES=9"),
        (lambda: make_mesh(0), "devices: got 0, must be at least 1"),
        (lambda: make_mesh(8, seeds=3), "seed_devices: got 3, must divide the 8 devices"),
        (lambda: parallel.check_split(make_mesh(8), 12), "num_envs: got 12, must be a multiple of 8"),
        (lambda: parallel.check_split(make_mesh(8, seeds=4), 12, 6), "seeds: got 6, must be a multiple of 4"),
    ],
)
def test_wrong_counts_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_batch_that_devices_cannot_share_is_named():
    env, params = envs.make("CartPole-v1")
    agent = jaxrl.dqn(envs.spec(env, params), batch_size=30)
    with pytest.raises(ValueError, match="batch_size: got 30, must be a multiple of 4"):
        parallel.train(KEY, agent, env, params, mesh=make_mesh(D), **COUNTS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool", "uint8"])
def test_the_checksum_sees_every_bit_that_differs(dtype):
    x = jnp.maximum(jax.random.normal(jax.random.key(0), (64, 64)) * 50, 0.0).astype(dtype)
    checksum = parallel._checksum
    assert checksum(x) == checksum(jnp.array(x)) != checksum(x[::-1])
    assert len({int(checksum(x.at[i, i].set(x[i, i] == 0))) for i in range(8)} | {int(checksum(x))}) > 4
    if jnp.issubdtype(x.dtype, jnp.floating):
        assert checksum(x) != checksum(-x)
        assert checksum(x) != checksum(x.at[:2, 0].multiply(-1))  # a plain sum has 2 x 2^31 = 0
