"""PQN against a loop: its targets, its gradient steps, its annealing, its torso."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import pqn
from jaxrl.agents.parts.functions import functions
from jaxrl.networks import MLP, Conv
from jaxrl.types import Discrete, Observation, Spec, Transition

T, B, D, A = 6, 3, 4, 3
GAMMA, LAMBDA, RATE = 0.9, 0.7, 0.1
VECTOR = jax.ShapeDtypeStruct((D,), jnp.float32)
PLAIN = Spec(VECTOR, Discrete(A))
MASKED = Spec(Observation(VECTOR, jax.ShapeDtypeStruct((A,), jnp.bool_)), Discrete(A))
TORSO = MLP(hidden=(6,), activation="relu", layer_norm=True)
SGD = {"optimizer": optax.sgd, "learning_rate": RATE, "max_grad_norm": None, "gamma": GAMMA, "td_lambda": LAMBDA}


def random_trajectory(masked, seed=0):
    """Episodes that end in every way, next observations that are nobody's next."""
    rng = np.random.default_rng(seed)
    x, following = jnp.array(rng.normal(size=(2, T, B, D)), jnp.float32)
    mask = rng.random((2, T, B, A)) < 0.5
    mask[..., 1] = True
    terminated, truncated = rng.random((2, T, B)) < 0.25
    return Transition(
        observation=Observation(x, jnp.array(mask[0])) if masked else x,
        action=jnp.array(rng.integers(A, size=(T, B)), jnp.int32),
        reward=jnp.array(rng.normal(size=(T, B)), jnp.float32),
        discount=jnp.array(1.0 - terminated, jnp.float32),
        terminated=jnp.array(terminated),
        truncated=jnp.array(truncated),
        next_observation=Observation(following, jnp.array(mask[1])) if masked else following,
    )


@jax.numpy_rank_promotion("allow")
def by_hand(params, x):
    """The network in plain arithmetic, differentiable: a layer, its norm, the rectifier, the values."""
    layer, norm, head = (params["params"][k] for k in ("q_torso", "q_torso", "q_head"))
    dense, norm = layer["Dense_0"], norm["LayerNorm_0"]
    h = x @ dense["kernel"] + dense["bias"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-6)
    h = jnp.maximum(h * norm["scale"] + norm["bias"], 0.0)
    output = head["action_value"]["output"]
    return h @ output["kernel"].T + output["bias"]


def loop_targets(trajectory, q, masked):
    """Peng's Q(lambda) backwards through each environment, in the words of the paper's appendix."""
    expected = np.zeros((T, B))
    ended = np.asarray(trajectory.terminated | trajectory.truncated)
    for b in range(B):
        after = None
        for t in reversed(range(T)):
            row = np.asarray(q[t, b], np.float64)
            if masked:
                row = row[np.asarray(trajectory.next_observation.action_mask[t, b])]
            future = row.max() if after is None or ended[t, b] else (1 - LAMBDA) * row.max() + LAMBDA * after
            after = float(trajectory.reward[t, b]) + GAMMA * float(trajectory.discount[t, b]) * future
            expected[t, b] = after
    return expected


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_one_step_against_a_loop(masked):
    """Plain descent on the mean half square to targets that are held, from the parameters before."""
    trajectory = random_trajectory(masked)
    agent = pqn(MASKED if masked else PLAIN, torso=TORSO, num_epochs=1, num_minibatches=1, **SGD)
    state = agent.init(jax.random.key(0), B)
    x, following = (
        (trajectory.observation.features, trajectory.next_observation.features)
        if masked
        else (trajectory.observation, trajectory.next_observation)
    )
    target = jnp.array(loop_targets(trajectory, by_hand(state.params, following), masked), jnp.float32)

    def loss(params):
        chosen = jnp.take_along_axis(by_hand(params, x), trajectory.action[..., None], axis=-1)[..., 0]
        return 0.5 * jnp.mean((chosen - target) ** 2)

    value, grads = jax.jit(jax.value_and_grad(loss))(state.params)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.params, grads)
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, trajectory)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), new.params, expected)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(grads), rtol=1e-4)
    assert new.steps == T * B


def test_epochs_hold_the_targets():
    """Two epochs of one minibatch are two steps to the first targets; new targets would give other parameters."""
    trajectory = random_trajectory(False)
    one, two = (
        pqn(PLAIN, torso=TORSO, num_epochs=epochs, num_minibatches=1, **{**SGD, "gamma": 0.99}) for epochs in (1, 2)
    )
    first = one.init(jax.random.key(0), B)
    key, update = jax.random.key(1), jax.jit(one.update)
    together, _ = jax.jit(two.update)(key, first, trajectory)
    apart, _ = update(key, update(key, first, trajectory)[0], trajectory)
    # With no future the targets are the rewards, and the two must agree.
    blind = trajectory._replace(discount=jnp.zeros((T, B)), terminated=jnp.ones((T, B), bool))
    together_blind, _ = jax.jit(two.update)(key, first, blind)
    apart_blind, _ = update(key, update(key, first, blind)[0], blind)
    distance = lambda a, b: float(optax.tree.norm(jax.tree.map(jnp.subtract, a.params, b.params)))  # noqa: E731
    assert distance(together_blind, apart_blind) < 1e-6
    assert distance(together, apart) > 1e-4


def test_minibatches_are_all_samples_once():
    """With a rate so small that parameters stand still, minibatch steps add up to the step on all of it."""
    trajectory = random_trajectory(False)
    options = {**SGD, "learning_rate": 1e-3}
    whole, parts = (pqn(PLAIN, torso=TORSO, num_epochs=1, num_minibatches=n, **options) for n in (1, 6))
    state = whole.init(jax.random.key(0), B)
    moved = [
        jax.tree.map(jnp.subtract, jax.jit(agent.update)(jax.random.key(1), state, trajectory)[0].params, state.params)
        for agent in (whole, parts)
    ]
    # Six steps of a sixth of the samples are six times one step of all of them.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(6 * a, b, rtol=0.05, atol=2e-4), *moved)
    with pytest.raises(ValueError, match=r"num_minibatches: got 4, must divide .* = 6 x 3 = 18"):
        jax.eval_shape(pqn(PLAIN, torso=TORSO, num_minibatches=4).update, jax.random.key(0), state, trajectory)


def test_the_learning_rate_falls_to_zero_over_updates():
    trajectory = random_trajectory(False)
    options = {**SGD, "anneal_learning_rate": True, "num_updates": 2, "num_epochs": 2, "num_minibatches": 3}
    agent = pqn(PLAIN, torso=TORSO, **options, epsilon_end=0.0, epsilon_steps=4 * T * B)
    states, seen, update = [agent.init(jax.random.key(0), B)], [], jax.jit(agent.update)
    for i in range(3):
        state, metrics = update(jax.random.key(i), states[-1], trajectory)
        states, seen = [*states, state], [*seen, metrics]
    np.testing.assert_allclose([metrics["learning_rate"] for metrics in seen], [RATE, RATE / 2, 0.0])
    assert [int(metrics["gradient_steps"]) for metrics in seen] == [6, 12, 18]
    np.testing.assert_allclose([metrics["epsilon"] for metrics in seen], [1.0, 0.75, 0.5])
    moves = [
        float(optax.tree.norm(jax.tree.map(jnp.subtract, b.params, a.params)))
        for a, b in zip(states, states[1:], strict=False)
    ]
    assert moves[0] > moves[1] > 0.0 == moves[2]


def test_epsilon_follows_the_steps():
    agent = pqn(PLAIN, torso=TORSO, epsilon_start=1.0, epsilon_end=0.0, epsilon_steps=100)
    state = agent.init(jax.random.key(0))
    observation = jnp.broadcast_to(jnp.arange(D, dtype=jnp.float32), (4000, D))
    best = agent.act(jax.random.key(1), state, observation, explore=False)[0][0]
    for steps, share in [(0, 1 / 3), (50, 2 / 3), (100, 1.0)]:
        action, _ = agent.act(jax.random.key(2), state._replace(steps=jnp.int32(steps)), observation)
        np.testing.assert_allclose((action == best).mean(), share, atol=0.04)


def test_torsos_have_layer_norm_by_default():
    module = importlib.import_module("jaxrl.agents.pqn")
    assert module.default_torso(PLAIN) == MLP(hidden=(64, 64), activation="relu", layer_norm=True)
    image = Spec(jax.ShapeDtypeStruct((10, 10, 4), jnp.bool_), Discrete(A))
    assert module.default_torso(image) == Conv(layer_norm=True)
    params = pqn(PLAIN).init(jax.random.key(0)).params["params"]
    assert "LayerNorm_0" in params["q_torso"]


def test_public_functions_are_those_that_act():
    agent, public = pqn(MASKED, torso=TORSO), functions(pqn, MASKED, torso=TORSO)
    observation = jax.tree.map(lambda x: x[0], random_trajectory(True).observation)
    state = agent.init(jax.random.key(0))
    q = np.asarray(public.action_values(state, observation))
    legal = np.where(observation.action_mask, q, -np.inf)
    np.testing.assert_allclose(q, by_hand(state.params, observation.features), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(public.value(state, observation), legal.max(-1), rtol=1e-6)
    np.testing.assert_array_equal(public.policy(state, observation), legal.argmax(-1))
    np.testing.assert_array_equal(agent.act(jax.random.key(1), state, observation, explore=False)[0], legal.argmax(-1))
