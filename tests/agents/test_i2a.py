"""I2A: whose rollouts are imagined, who reads them, and what each gradient reaches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrl
from jaxrl import rollout
from jaxrl.agents.parts.imagination import copy_model, imagine, learned_model, next_rollouts
from jaxrl.envs import probes
from jaxrl.networks import Conv
from jaxrl.networks.imagination import ImaginationTorso, Imagined, NextImage, stack, unstack
from jaxrl.types import Box, Model, Simulated, Transition

N, A, D = 5, 3, 4
IMAGES = np.random.default_rng(0).random((N, 4, 4, 2)).astype(np.float32)
SMALL = {
    "torso": Conv((2,), (4,)),
    "depth": 2,
    "model_channels": 4,
    "model_hidden": 4,
    "encoder_channels": 2,
    "encoder_size": 4,
    "joint_size": 8,
}


def rolled(params, key, state, action):
    """A model that rolls the image by the action and pays what comes to its corner."""
    image = jnp.roll(state, action + 1, axis=0) * params
    return Simulated(image, image, image[0, 0, 0], jnp.float32(1.0), jnp.bool_(False))


class Kept(NamedTuple):
    """Extras of a trajectory."""

    imagined: Imagined


ROLL = Model(lambda key: jnp.float32(0.9), rolled)


def first_column(image):
    """A policy: logits that depend on the image."""
    return image[:, :A, 0, 0]


def imagined(images, key=None):
    return jax.jit(lambda images: imagine(key, ROLL, jnp.float32(0.9), first_column, images, A, D))(images)


def test_each_observation_has_its_own_rollouts():
    """Against a plain loop, by the most probable actions: a public notebook mixes environments and actions here."""
    found = imagined(IMAGES)
    for n in range(N):
        for first in range(A):
            image, action = IMAGES[n], first
            for step in range(D):
                image = np.float32(0.9) * np.roll(image, action + 1, axis=0)
                np.testing.assert_allclose(found.image[n, first, step], image, rtol=1e-6)
                np.testing.assert_allclose(found.reward[n, first, step], image[0, 0, 0], rtol=1e-6)
                action = image[:A, 0, 0].argmax()


def test_drawn_rollouts_begin_with_each_action_and_go_on_by_the_policy():
    found = imagined(np.repeat(IMAGES[:1], 4000, axis=0), jax.random.key(0))
    for first in range(A):
        once = 0.9 * np.roll(IMAGES[0], first + 1, axis=0)
        np.testing.assert_allclose(found.image[:, first, 0], np.broadcast_to(once, (4000, 4, 4, 2)), rtol=1e-6)
        wanted = np.exp(once[:A, 0, 0]) / np.exp(once[:A, 0, 0]).sum()
        twice = [
            np.isclose(found.image[:, first, 1], 0.9 * np.roll(once, a + 1, axis=0)).all((1, 2, 3)) for a in range(A)
        ]
        np.testing.assert_allclose(np.mean(twice, axis=1), wanted, atol=4 * 0.5 / np.sqrt(4000))


def test_stacked_rollouts_come_apart():
    found = imagined(IMAGES)
    image, frames = unstack(stack(IMAGES, found), A, D)
    np.testing.assert_array_equal(image, IMAGES)
    np.testing.assert_array_equal(frames[..., :2], found.image)
    assert (frames[..., 2] == found.reward[..., None, None]).all()


def closed(path, weights):
    """The weights of an LSTM cell that knows nothing of what it read before."""
    name = jax.tree_util.keystr(path)
    if "'hf'" in name and weights.ndim == 1:
        return weights - 30.0  # the bias of the forget gate
    return 0.0 * weights if any(f"'h{gate}'" in name for gate in "figo") and weights.ndim == 2 else weights


def test_the_encoder_reads_backwards_and_keeps_actions_apart():
    """Gates closed, the LSTM keeps what it reads last: the first imagined step, since it reads backwards."""
    torso, found = ImaginationTorso(Conv((2,), (4,)), A, D, (2,), 4, 16), imagined(IMAGES)
    params = jax.jit(torso.init)(jax.random.key(0), stack(IMAGES, found))
    forget = jax.tree_util.tree_map_with_path(closed, params)
    read = jax.jit(lambda reward: torso.apply(forget, stack(IMAGES, Imagined(found.image, reward))))

    def moved(change):
        x, y = (read(reward) for reward in (found.reward, found.reward.at[change].add(5.0)))
        return np.abs(x - y).max(1)

    assert moved(np.s_[:, 1, 0]).max() > 1e-3, "the first step is read last, and stays"
    assert moved(np.s_[:, 1, D - 1]).max() < 1e-6, "the last step is read first, and is forgotten"
    assert (moved(np.s_[2, 1, 0]) > 0.0).sum() <= 1, "observations do not mix"


ENV = probes.ImageProbe()
SPEC = jaxrl.spec(ENV, ENV.default_params)
RATES = {"learning_rate": 1e-3, "model_learning_rate": 1e-2, "distillation_learning_rate": 3e-3}


@pytest.fixture(scope="module")
def tried():
    """A small agent in the image probe: a state, a trajectory, and its update at any rates, compiled once."""
    agent = jaxrl.i2a(SPEC, **SMALL)

    @jax.jit
    def start(key):
        state = agent.init(key, 8)
        observation, env_state = rollout.reset(key, ENV, ENV.default_params, 8)
        return state, rollout.rollout(key, agent, state, ENV, ENV.default_params, env_state, observation, 4)[2]

    @jax.jit
    def update(state, trajectory, rates):
        return jaxrl.i2a(SPEC, **SMALL, **rates).update(jax.random.key(0), state, trajectory)

    return (
        agent,
        *start(jax.random.key(0)),
        lambda state, trajectory, **rates: update(state, trajectory, {**RATES, **rates}),
    )


def test_next_observations_have_their_own_rollouts():
    """As if each were imagined anew, except where an episode terminates, whose value is not read."""
    length, num_envs = 6, 3
    random = np.random.default_rng(1)
    shape = (length, num_envs)
    observation, fresh = random.random((2, *shape, 4, 4, 2)).astype(np.float32)
    terminated, truncated = random.random((2, *shape)) < np.array([0.2, 0.5])[:, None, None]
    ended = terminated | truncated
    ahead = np.where(ended[..., None, None, None], fresh, np.concatenate([observation[1:], fresh[-1:]]))

    @jax.jit
    def rollouts(images):
        found = imagine(None, ROLL, jnp.float32(0.9), first_column, images.reshape(-1, 4, 4, 2), A, D)
        return jax.tree.map(lambda x: x.reshape(*images.shape[:-3], *x.shape[1:]), found)

    zeros = np.zeros(shape, np.float32)
    found = Transition(
        observation, zeros, zeros, 1.0 - terminated, terminated, truncated, ahead, Kept(rollouts(observation))
    )
    found = jax.jit(lambda x: next_rollouts(jax.random.key(0), lambda key, image: rollouts(image), x))(found)
    wanted = rollouts(ahead)
    assert terminated.any() and (truncated & ~terminated)[:-1].sum() > num_envs, "more than one group of them"
    for name in ("image", "reward"):
        x, y = (np.asarray(getattr(rollout, name))[~terminated] for rollout in (found, wanted))
        np.testing.assert_allclose(x, y, rtol=1e-6)


def leaves(state, name):
    return jax.tree.leaves(getattr(state.params, name))


def test_permuted_environments_act_as_before(tried):
    agent, state, trajectory, _ = tried
    order = np.random.default_rng(0).permutation(8)
    noise = jax.random.randint(jax.random.key(3), (8, 4, 4, 2), 0, 255).astype(jnp.uint8)
    act = jax.jit(lambda observation: agent.act(jax.random.key(0), state, observation, explore=False))
    (action, extras), (permuted, permuted_extras) = act(noise), act(noise[order])
    np.testing.assert_array_equal(action[order], permuted)
    np.testing.assert_allclose(extras.policy.log_prob[order], permuted_extras.policy.log_prob, rtol=1e-4)
    np.testing.assert_allclose(extras.imagined.image[order], permuted_extras.imagined.image, rtol=1e-4, atol=1e-6)
    assert np.unique(np.round(extras.policy.log_prob, 6)).size == 8, "each has its own"


def test_update_reads_the_rollouts_that_acted(tried):
    _, state, trajectory, update = tried
    altered = trajectory.extras._replace(imagined=jax.tree.map(lambda x: 1.0 - x, trajectory.extras.imagined))
    first, second = (update(state, trajectory._replace(extras=x))[0] for x in (trajectory.extras, altered))
    assert any((x != y).any() for x, y in zip(leaves(first, "policy"), leaves(second, "policy"), strict=True))


def test_only_distillation_reaches_the_distilled_policy(tried):
    _, state, trajectory, update = tried
    moving, frozen = (update(state, trajectory, distillation_learning_rate=rate)[0] for rate in (3e-3, 0.0))
    pairs = lambda x, y, name: zip(leaves(x, name), leaves(y, name), strict=True)  # noqa: E731
    assert all((x == y).all() for x, y in pairs(frozen, state, "distilled")), "neither PPO nor the model moves it"
    for name in ("policy", "model"):
        assert any((x != y).any() for x, y in pairs(frozen, state, name))
        assert all((x == y).all() for x, y in pairs(frozen, moving, name)), "distillation moves nothing else"
    assert any((x != y).any() for x, y in pairs(moving, state, "distilled"))


def test_the_model_and_the_distilled_policy_learn(tried):
    """One trajectory again and again, the policy standing still: what both are fitted to comes near."""
    _, state, trajectory, update = tried
    seen = []
    for _ in range(100):
        state, metrics = update(state, trajectory, learning_rate=0.0)
        names = ("distillation_kl", "reward_error", "model_loss", "model_held_out")
        seen.append({name: float(metrics[name]) for name in names})
    assert seen[-1]["distillation_kl"] < 0.3 * seen[0]["distillation_kl"]
    assert seen[-1]["reward_error"] < 0.2 * seen[0]["reward_error"]
    assert seen[-1]["model_loss"] < 0.5 * seen[0]["model_loss"]
    # Before a fit: an untrained model gives each of the 4 x 4 x 2 pixels a probability of about a half.
    np.testing.assert_allclose(seen[0]["model_held_out"], 32 * np.log(2.0), rtol=0.2)
    assert seen[0]["model_loss"] < seen[0]["model_held_out"] and seen[-1]["model_loss"] < seen[-2]["model_held_out"]


def test_a_model_of_one_s_own_and_one_in_which_nothing_happens():
    agent = jaxrl.i2a(SPEC, **SMALL, model=copy_model(SPEC))
    state = jax.jit(agent.init)(jax.random.key(0))
    assert state.params.model == state.optimizer_state.model == ()
    images = jax.random.randint(jax.random.key(1), (3, 4, 4, 2), 0, 255).astype(jnp.uint8)
    _, extras = jax.jit(agent.act)(jax.random.key(0), state, images)
    assert (extras.imagined.reward == 0.0).all()
    wanted = jnp.broadcast_to(images[:, None, None].astype(jnp.float32) / 255.0, (3, 2, 2, 4, 4, 2))
    np.testing.assert_allclose(extras.imagined.image, wanted, rtol=1e-6)


def test_a_learned_model_is_a_model_of_single_states():
    model, network = learned_model(SPEC, 4, 4)

    @jax.jit
    def both(key):
        params = model.init(key)
        step = model.step(params, key, jnp.asarray(IMAGES[0]), jnp.int32(1))
        return step, network.apply(params, IMAGES[:1], jnp.array([1]))

    simulated, (logits, reward) = both(jax.random.key(0))
    np.testing.assert_allclose(simulated.observation, jax.nn.sigmoid(logits[0]), rtol=1e-5)
    np.testing.assert_allclose(simulated.reward, reward[0], rtol=1e-5)
    assert simulated.discount == 1.0 and not simulated.truncated


def test_a_reward_that_two_pixels_decide_is_learned():
    """One pixel in 49 is on, and pays where it meets a mark. Always saying the mean has an error of 0.25, and so has a
    network that reads the mean over pixels."""
    network, adam = NextImage(2, (8, 8), 16), optax.adam(5e-3)

    def batch(key):
        spot_key, mark_key = jax.random.split(key)
        spot = jax.nn.one_hot(jax.random.randint(spot_key, (64,), 0, 49), 49)
        image = jnp.stack([spot, jax.random.bernoulli(mark_key, 0.5, (64, 49))], axis=-1).reshape(64, 7, 7, 2)
        return image, (image[..., 0] * image[..., 1]).sum((1, 2))

    @jax.jit
    def fit(params):
        def step(carry, key):
            params, optimizer_state = carry
            image, paid = batch(key)

            def loss(params):
                _, reward = network.apply(params, image, jnp.zeros(64, jnp.int32), image)
                return jnp.square(reward - paid).mean()

            error, gradient = jax.value_and_grad(loss)(params)
            updates, optimizer_state = adam.update(gradient, optimizer_state)
            return (optax.apply_updates(params, updates), optimizer_state), error

        return jax.lax.scan(step, (params, adam.init(params)), jax.random.split(jax.random.key(1), 400))[1]

    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 7, 7, 2)), jnp.zeros(1, jnp.int32))
    errors = fit(params)
    assert errors[-50:].mean() < 0.05, errors[::50]


def test_functions_say_what_the_agent_does(tried):
    agent, state, _, _ = tried
    images = jax.random.randint(jax.random.key(1), (3, 4, 4, 2), 0, 255).astype(jnp.uint8)
    functions = jaxrl.functions(jaxrl.i2a, SPEC, **SMALL)

    @jax.jit
    def both(state):
        action, extras = agent.act(jax.random.key(0), state, images, explore=False)
        return extras.policy.log_prob, functions.policy(state, images).log_prob(action), functions.value(state, images)

    acted, said, value = both(state)
    np.testing.assert_allclose(acted, said, rtol=1e-5)
    assert value.shape == (3,)


def test_minibatches_of_the_model_divide_the_rollout(tried):
    _, state, trajectory, _ = tried
    agent = jaxrl.i2a(SPEC, **SMALL, model_minibatches=5)
    with pytest.raises(ValueError, match="model_minibatches: got 5"):
        jax.eval_shape(agent.update, jax.random.key(0), state, trajectory)


def test_what_can_t_be_imagined_is_refused():
    env, params = jaxrl.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"spec: got observations of shape \[4\]"):
        jaxrl.i2a(jaxrl.spec(env, params))
    with pytest.raises(TypeError, match="spec: .*Box"):
        jaxrl.i2a(SPEC._replace(action=Box((1,), -1.0, 1.0)))
