"""World models: what is learned from, how the controller dreams and evolves, and the phases of the agent."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, models
from jaxrl.agents import world_models as recipe
from jaxrl.agents.parts import dreaming, evolution
from jaxrl.agents.world_models import dream_env, make_models, memory_of
from jaxrl.envs.probes import ImageProbe
from jaxrl.replay import ring as rings
from jaxrl.rollout import reset, rollout
from jaxrl.types import Box, Discrete, Spec, Transition

MODELS = {"latent_size": 2, "hidden_size": 4, "num_components": 2}
OPTIONS = {
    **MODELS,
    "steps_per_round": 16,
    "replay_capacity": 64,
    "sequence_length": 4,
    "vision_epochs": 2,
    "model_epochs": 2,
    "population": 4,
    "num_generations": 2,
    "num_dreams": 2,
    "dream_length": 3,
}


def ring_of(times, ends, rows):
    """A ring of two environments whose observation says when it was; the second ends a step later than the first."""
    scalar, flag = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), bool)
    vector, action = jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    ring = rings.init(Transition(vector, action, scalar, scalar, flag, flag, vector), rows, 2)
    t = jnp.arange(times)
    ended = jnp.stack([(t == ends), (t - 1 == ends)], axis=1)
    seen = jnp.stack([t, t + 0.5], axis=1)[..., None]
    cut = jnp.zeros((times, 2), bool)
    steps = Transition(seen, jnp.stack([t, t], axis=1), seen[..., 0], 1.0 - ended, ended, cut, seen + 1.0)
    add = jax.jit(rings.add)
    half = jax.tree.map(lambda leaf: leaf[: times // 2], steps)
    return add(add(ring, half), jax.tree.map(lambda leaf: leaf[times // 2 :], steps))


def encode(x):
    return models.Latent(x, jnp.zeros_like(x))


encoded = jax.jit(lambda ring: dreaming.encoded(ring, encode, 4, 6))


def test_sequences_are_in_the_order_of_time_and_know_where_episodes_begin():
    data = encoded(ring_of(5, 2, 8))
    found = data.sequences
    # Early sequences of both environments, then late ones: those that hold something come first.
    np.testing.assert_array_equal(
        found.latent.mean[..., 0], [[0, 1, 2, 3], [0.5, 1.5, 2.5, 3.5], *found.latent.mean[2:, :, 0]]
    )
    np.testing.assert_array_equal(found.latent.mean[2:, 0, 0], [4, 4.5])
    np.testing.assert_array_equal(found.next_latent.mean[..., 0], found.latent.mean[..., 0] + found.valid)
    np.testing.assert_array_equal(found.valid, [[True] * 4] * 2 + [[True, False, False, False]] * 2)
    np.testing.assert_array_equal(
        found.reset[:3], [[True, False, False, True], [True, False, False, False], [False] * 4]
    )
    np.testing.assert_array_equal(found.reset[3], [True, False, False, False])
    assert int(data.size) == 4
    assert set(np.asarray(data.first.mean)[:, 0].tolist()) == {0.0, 0.5, 3.0, 4.5}
    np.testing.assert_array_equal(found.terminated[0], [False, False, True, False])


def test_a_ring_that_has_wrapped_begins_with_its_oldest_step():
    data = encoded(ring_of(11, 6, 8))
    np.testing.assert_array_equal(data.sequences.latent.mean[::2, :, 0], [[3, 4, 5, 6], [7, 8, 9, 10]])
    assert data.sequences.valid.all() and int(data.size) == 4
    # What came before the oldest step is not known, so it begins no episode.
    assert set(np.asarray(data.first.mean)[:, 0].tolist()) == {7.0, 8.5}


SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), Discrete(3))


def test_returns_of_dreams_equal_those_of_a_loop():
    sequence = models.mdn_rnn(SPEC, latent_size=2, hidden_size=4)
    params = jax.jit(sequence.init)(jax.random.key(0))
    first = models.Latent(jax.random.normal(jax.random.key(1), (3, 2)), jnp.zeros((3, 2)))
    start, model = jax.jit(partial(dreaming.start_of, sequence, first)), models.dream(sequence)
    controller = dreaming.linear_controller(SPEC.action, 6)
    candidates = jax.random.normal(jax.random.key(2), (3, controller.size))
    found = jax.jit(lambda key: dreaming.dream_returns(key, model, params, start, controller.act, candidates, 4, 5))(
        jax.random.key(3)
    )
    start_key, key = jax.random.split(jax.random.key(3))
    starts, step = jax.random.split(start_key, 4), jax.jit(model.step)
    act = jax.jit(controller.act)
    expected = np.zeros((3, 4))
    for n in range(3):
        for d in range(4):
            observation, state = start(starts[d])
            for t in range(5):
                action = act(candidates[n], observation)
                simulated = step(params, jax.random.split(jax.random.fold_in(key, t), 4)[d], state, action)
                observation, state = simulated.observation, simulated.state
                expected[n, d] += float(simulated.reward)
                if float(simulated.discount) == 0.0:
                    break
    np.testing.assert_allclose(found, expected.mean(-1), rtol=1e-4, atol=1e-4)


def test_controllers_are_linear():
    seen = jnp.array([1.0, -2.0])
    weights = np.arange(6.0).reshape(2, 3)
    params = jnp.concatenate([jnp.array(weights).ravel(), jnp.array([0.0, 0.0, 10.0])]).astype(jnp.float32)
    assert int(dreaming.linear_controller(Discrete(3), 2).act(params, seen)) == 2
    assert int(dreaming.linear_controller(Discrete(3), 2).act(params.at[-1].set(0.0), seen)) == 0
    box = dreaming.linear_controller(Box((1, 2), -2.0, 2.0), 2)
    assert box.size == 6
    action = box.act(jnp.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.1]), seen)
    np.testing.assert_allclose(action, 2.0 * np.tanh([[1.0, 0.1]]), rtol=1e-5)


@pytest.mark.parametrize("strategy", ["cma_es", "sep_cma_es"])
def test_evolution_finds_the_top_of_a_hill_and_nan_is_the_worst(strategy):
    top = jnp.array([1.0, -2.0, 0.5])

    def fitness(key, candidates):
        height = -jnp.square((candidates - top[None]) * jnp.array([[1.0, 3.0, 1.0]])).sum(-1)
        return jnp.where(candidates[:, 0] > 1.5, jnp.nan, height)

    run = jax.jit(
        lambda key: evolution.evolve(
            key, jnp.zeros(3), fitness, population=16, num_generations=60, sigma=0.5, strategy=strategy
        )
    )
    mean, curve = run(jax.random.key(0))
    np.testing.assert_allclose(mean, top, atol=0.05)
    assert curve.shape == (60,)


@pytest.fixture(scope="module")
def wrapped():
    env = ImageProbe()
    return envs.remember(env, memory_of(envs.spec(env), MODELS))


@pytest.fixture(scope="module")
def agent(wrapped):
    return recipe(envs.spec(wrapped), **OPTIONS)


def trajectory_of(agent, env, state, key):
    observation, env_state = reset(key, env, env.default_params, 2)
    return rollout(key, agent, state, env, env.default_params, env_state, observation, 4)[2]


def test_a_round_is_done_when_it_is_due_and_once(agent, wrapped):
    state = jax.jit(agent.init, static_argnums=1)(jax.random.key(0), 2)
    update = jax.jit(agent.update)
    trajectory = jax.jit(partial(trajectory_of, agent, wrapped))(state, jax.random.key(1))
    states = [state]
    for i in range(4):
        state, metrics = update(jax.random.key(i), state, trajectory)
        states.append(state)
    same = [
        all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), old.learned, new.learned)))
        for old, new in zip(states, states[1:], strict=False)
    ]
    assert same == [True, False, True, True]
    assert [int(each.rounds) for each in states] == [0, 0, 1, 1, 1]
    assert float(metrics["vision_held_out"]) < float(metrics["vision_held_out_before"])
    assert float(metrics["dream_return"]) != 0.0
    for part in ("vision", "sequence", "controller", "first"):
        old, new = (getattr(each.learned, part) for each in (states[0], state))
        moved = jax.tree.map(lambda x, y: not np.array_equal(x, y), old, new)
        assert any(jax.tree.leaves(moved)), part
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learned))


def test_first_actions_are_random_later_ones_are_those_of_the_controller(agent, wrapped):
    state = jax.jit(agent.init, static_argnums=1)(jax.random.key(0), 2)
    observation, _ = reset(jax.random.key(1), wrapped, wrapped.default_params, 64)
    always_1 = state.learned._replace(controller=state.learned.controller.at[-1].set(1e3))
    state = state._replace(learned=always_1)
    act = jax.jit(agent.act, static_argnames="explore")
    random, _ = act(jax.random.key(2), state, observation)
    assert 0.2 < float((random.value == 1).mean()) < 0.8
    later, _ = act(jax.random.key(2), state._replace(rounds=jnp.int32(1)), observation)
    assert (later.value == 1).all()
    greedy, _ = act(jax.random.key(2), state, observation, explore=False)
    assert (greedy.value == 1).all()
    policy = jax.jit(jaxrl.functions(recipe, envs.spec(wrapped), **OPTIONS).policy)
    found = []
    for sign in (1.0, -1.0):
        drawn = sign * jax.random.normal(jax.random.key(3), state.learned.controller.shape)
        drawn = state._replace(learned=state.learned._replace(controller=drawn))
        chosen = policy(drawn, observation)
        np.testing.assert_array_equal(chosen, act(jax.random.key(2), drawn, observation, explore=False)[0].value)
        found.append(chosen)
    assert (found[0] != found[1]).all()
    vision, sequence = make_models(envs.spec(wrapped), **MODELS)
    z = vision.encode(state.learned.vision, observation).mean
    before = jax.tree.map(lambda leaf: leaf[0], models.DreamState(z, observation.memory))
    after = models.wake(sequence, state.learned.sequence, before, jnp.int32(1), z[0])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[0], atol=1e-5), after.memory, greedy.memory)


def test_the_dream_of_an_agent_is_an_environment(agent, wrapped):
    state = jax.jit(agent.init, static_argnums=1)(jax.random.key(0), 2)
    env = dream_env(envs.spec(wrapped), state.learned, max_steps=5, **MODELS)
    assert envs.check(env).episodes > 0
    assert envs.spec(env).observation.shape == (6,)


def test_an_environment_without_the_memory_is_refused():
    with pytest.raises(ValueError, match="^spec: got "):
        recipe(envs.spec(ImageProbe()), **OPTIONS)
