"""What the on-policy recipes share: what peers got wrong, each with its test."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrl
from jaxrl import losses
from jaxrl.agents import a2c, ppo, reinforce, trpo
from jaxrl.agents.parts import actor_critic, normalizer
from jaxrl.agents.parts.actor_critic import Extras
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.minibatches import epochs, random_order, shuffled_minibatches
from jaxrl.agents.reinforce import known_return
from jaxrl.envs import probes, spec
from jaxrl.networks import Conv
from jaxrl.ops import normalize
from jaxrl.rollout import reset, rollout

T, B, D = 8, 2, 3  # of the kit
RECIPES = {"reinforce": reinforce, "a2c": a2c, "ppo": ppo, "trpo": trpo}


def worst_log_ratio(outputs, batch, settings):
    """A user's loss that reports how far the policy is from the one that acted."""
    del settings
    log_ratio = outputs.policy.log_prob(batch.raw_action) - batch.log_prob
    return outputs.value.sum() + log_ratio.sum(), {"worst": jnp.abs(log_ratio).max()}


class TestRatio:
    """Statistics that change between rollout and loss make another policy of the same parameters."""

    @pytest.mark.parametrize("kind", ["discrete", "continuous"])
    @pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
    def test_is_1_on_the_first_minibatch(self, kit, make, kind):
        agent, state, _, update = kit.one_step(make, kind, loss=worst_log_ratio, normalize_observation=True)
        for seed in range(3):
            trajectory = kit.trajectory_of(agent, state, kit.specs[kind], seed)
            before = state.statistics.observation
            state, metrics = update(jax.random.key(seed), state, trajectory)
            assert metrics["worst"] < 2e-6 * max(1.0, float(jnp.abs(trajectory.extras.log_prob).max()))
            assert state.statistics.observation.num_samples == before.num_samples + T * B
            assert kit.norm(kit.difference(state.statistics.observation.mean, before.mean)) > 0.0

    def test_is_1_through_the_tanh(self, kit):
        """Saturated actions have no inverse in float32: the raw action is what is scored."""
        _, state, trajectory, update = kit.one_step(
            ppo, "continuous", loss=worst_log_ratio, squash=True, initial_log_std=1.9, normalize_observation=True
        )
        assert jnp.abs(trajectory.action).max() > 0.999999
        _, metrics = update(jax.random.key(0), state, trajectory)
        assert metrics["worst"] < 1e-4


def test_normaliser_reads_observations_acted_on(kit):
    agent, state, trajectory, update = kit.one_step(normalize_observation=True)
    for _ in range(2):
        state, _ = update(jax.random.key(0), state, trajectory)
    seen = np.asarray(trajectory.observation, np.float64).reshape(-1, D)
    statistics = state.statistics.observation
    np.testing.assert_allclose(statistics.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.variance, seen.var(0), rtol=1e-4)
    shifted = trajectory.observation[0] + 100.0
    further = statistics._replace(mean=statistics.mean + 100.0)
    moved = state._replace(statistics=state.statistics._replace(observation=further))
    acts = [
        agent.act(jax.random.key(1), s, o)[1].log_prob
        for s, o in ((state, trajectory.observation[0]), (moved, shifted))
    ]
    np.testing.assert_allclose(*acts, rtol=1e-3)


def test_normaliser_takes_pixels_as_the_network_does():
    """uint8 is scaled to 0..1 first, and the standardised image, a float, not once more."""
    env = probes.ImageProbe()
    agent = ppo(spec(env), torso=Conv(channels=(2,), hidden=(4,)), normalize_observation=True)
    statistics = agent.init(jax.random.key(0)).statistics
    images = env.solution(0.9).observations
    refreshed = normalize.update_statistics(statistics.observation, images.astype(jnp.float32) / 255.0)
    seen = normalizer.standardize(spec(env), statistics._replace(observation=refreshed), images)
    np.testing.assert_allclose(seen, jnp.where(images > 0, 1.0, -1.0), rtol=1e-5)


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
def test_standardised_features_are_clipped_where_asked(make):
    """Before any data they are only clipped; acting and ``functions`` see the same."""
    described = spec(probes.ObservationActionProbe())
    options = {"normalize_observation": True, "clip_observation": 0.5}
    agent, functions = make(described, **options), jaxrl.functions(make, described, **options)
    state = agent.init(jax.random.key(0))
    far, near, nearer = (jnp.full_like(described.zeros(1), x) for x in (100.0, 0.5, 0.4))
    log_probs = [agent.act(jax.random.key(1), state, x, explore=False)[1].log_prob.item() for x in (far, near, nearer)]
    assert log_probs[0] == log_probs[1] != log_probs[2]
    values = [functions.value(state, x).item() for x in (far, near, nearer)]
    assert values[0] == values[1] != values[2]
    wide = jaxrl.functions(make, described, normalize_observation=True)
    assert wide.value(state, far).item() == wide.value(state, jnp.full_like(far, 10.0)).item() != values[0]


class TestUserLoss:
    def test_replaces_the_loss(self, kit):
        """Gradient 1 for the value's bias, none for the policy: two steps of size 1."""

        def loss(outputs, batch, settings):
            return outputs.value.mean(), {"mine": batch.advantage.mean()}

        _, state, trajectory, update = kit.one_step(
            loss=loss, optimizer=optax.sgd, learning_rate=1.0, max_grad_norm=None, num_minibatches=2
        )
        new, metrics = update(jax.random.key(0), state, trajectory)
        change = kit.difference(new.params, state.params)["params"]
        np.testing.assert_allclose(change["value_head"]["NarrowDense_0"]["bias"], [-2.0], atol=1e-6)
        assert kit.norm(change["actor_torso"]) == kit.norm(change["policy_head"]) == 0.0
        assert metrics.pop("gradient_steps") == 2 * (int(state.updates) + 1)
        assert set(metrics) == {"loss", "mine", "gradient_norm", "explained_variance", "learning_rate"}

    def test_added_to_the_loss(self, kit):
        """The weighted sum moves the parameters by the weighted sum of what each loss would."""

        def auxiliary(outputs, batch, settings):
            error = outputs.heads["predict"] - batch.transition.next_observation
            return (error**2).mean(), {"auxiliary": (error**2).mean()}

        def change(loss):
            sgd = {"optimizer": optax.sgd, "learning_rate": 1.0, "max_grad_norm": None}
            _, state, trajectory, update = kit.one_step(loss=loss, heads={"predict": nn.Dense(D)}, **sgd)
            new, metrics = update(jax.random.key(0), state, trajectory)
            return kit.difference(new.params, state.params), metrics

        both, metrics = change(losses.weighted((1.0, losses.ppo), (0.25, auxiliary)))
        ppo_alone, auxiliary_alone = change(losses.ppo)[0], change(auxiliary)[0]
        expected = jax.tree.map(lambda x, y: x + 0.25 * y, ppo_alone, auxiliary_alone)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), both, expected)
        assert kit.norm(auxiliary_alone["params"]["actor_torso"]) > 1e-3
        assert {"auxiliary", "policy_loss"} <= set(metrics)

    def test_sees_aligned_samples(self, kit):
        """After the shuffle each sample still has its own observation, action, reward, targets, log-probability."""
        agent, state, trajectory, _ = kit.one_step()
        index = jnp.arange(T * B, dtype=jnp.float32).reshape(T, B)
        marked = trajectory._replace(
            observation=jnp.broadcast_to(index[..., None], (T, B, D)),
            action=index.astype(jnp.int32) % 4,
            reward=index,
            extras=Extras(-index, None),
        )
        batch = actor_critic.make_batch(marked, advantage=2.0 * index, target=3.0 * index, value=4.0 * index)
        minibatches = shuffled_minibatches(jax.random.key(0), batch, 4)
        shuffled = minibatches.advantage.reshape(-1) / 2.0
        assert sorted(shuffled.tolist()) == list(range(T * B)) != shuffled.tolist()
        flat = jax.tree.map(lambda x: x.reshape(T * B, *x.shape[2:]), minibatches)
        np.testing.assert_array_equal(flat.transition.observation, np.repeat(shuffled[:, None], D, 1))
        np.testing.assert_array_equal(flat.transition.reward, shuffled)
        np.testing.assert_array_equal(flat.raw_action, shuffled % 4)
        np.testing.assert_array_equal(flat.log_prob, -shuffled)
        np.testing.assert_array_equal(flat.target, 3.0 * shuffled)
        np.testing.assert_array_equal(flat.value, 4.0 * shuffled)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_random_order_is_a_permutation(size):
    orders = jax.vmap(lambda key: random_order(key, size))(jax.random.split(jax.random.key(0), 400))
    assert orders.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(orders, axis=-1), np.broadcast_to(np.arange(size), (400, size)))
    if size > 2:
        # Each position sees every index alike: means within five deviations of those of a uniform one.
        deviation = np.sqrt((size**2 - 1) / 12 / 400)
        np.testing.assert_allclose(orders.mean(0), (size - 1) / 2, atol=5 * deviation)


def test_random_order_of_many():
    order = random_order(jax.random.key(0), 2**14 + 1)
    assert sorted(order.tolist()) == list(range(2**14 + 1))


def test_reward_scaling_against_a_loop(kit):
    """VecNormalize of OpenAI baselines: a running discounted return in each environment, its deviation divides."""
    gamma = 0.8
    agent = ppo(kit.specs["discrete"], torso=kit.torso, gamma=gamma, normalize_reward=True)
    state = agent.init(jax.random.key(0), B)
    running, traces = np.zeros(B), []
    for seed in range(3):
        trajectory = kit.trajectory_of(agent, state, kit.specs["discrete"], seed)
        reward = np.asarray(trajectory.reward, np.float64) * 10.0 ** (seed - 1)
        trajectory = trajectory._replace(reward=jnp.asarray(reward, jnp.float32))
        scaled, statistics, per_env = normalizer.scale_rewards(state.statistics, state.per_env, trajectory, gamma)
        ended = np.asarray(trajectory.terminated | trajectory.truncated)
        for t in range(T):
            traces.append(running + reward[t])
            running = np.where(ended[t], 0.0, gamma * (running + reward[t]))
        expected = np.clip(reward / (np.std(traces) + 1e-8), -10, 10)
        np.testing.assert_allclose(scaled, expected, rtol=1e-4)
        np.testing.assert_allclose(per_env, running, rtol=1e-5, atol=1e-6)
        state = state._replace(statistics=statistics, per_env=per_env)


def test_minibatches_that_do_not_fit_are_refused(kit):
    agent, state, trajectory, _ = kit.one_step(num_minibatches=3)
    with pytest.raises(ValueError, match=r"num_minibatches: got 3, must divide .* = 8 x 2 = 16"):
        agent.update(jax.random.key(0), state, trajectory)


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
def test_rank_promotion_raises_inside(kit, make):
    """The session is strict: a library that promotes ranks anywhere would fail in every test."""
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
    env = probes.ContinuousActionProbe()
    agent = make(spec(env), torso=kit.torso, normalize_observation=True, normalize_reward=True, squash=True)

    def run(key):
        observation, env_state = reset(key, env, env.default_params, B)
        state = agent.init(key, B)
        _, _, trajectory = rollout(key, agent, state, env, env.default_params, env_state, observation, T)
        return agent.update(key, state, trajectory)

    jax.eval_shape(run, jax.random.key(0))


class DropoutTorso(nn.Module):
    """Drops out where it is given random numbers to."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(32)(x.reshape(x.shape[0], -1)))
        return nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(x)


def test_a_stochastic_torso_draws_in_gradients_alone():
    env = probes.ObservationProbe()
    agent = ppo(spec(env, env.default_params), torso=DropoutTorso(), num_epochs=1, num_minibatches=1)
    network = actor_critic.make_network(spec(env, env.default_params), DropoutTorso())
    state = agent.init(jax.random.key(0), 8)
    observation, env_state = reset(jax.random.key(1), env, env.default_params, 8)
    _, _, trajectory = rollout(jax.random.key(2), agent, state, env, env.default_params, env_state, observation, 4)
    v_tm1, v_t = actor_critic.values(network, state.params, trajectory)
    np.testing.assert_array_equal(v_tm1, actor_critic.values(network, state.params, trajectory)[0])
    batch = actor_critic.make_batch(trajectory, v_t - v_tm1, v_t, v_tm1)

    def loss(params, batch, key):
        return losses.ppo(*actor_critic.forward(network, params, batch, key), losses.Settings())

    def norm(key):
        sgd = optax.sgd(1.0)
        return float(
            gradient_step(sgd, loss)(Learned(state.params, sgd.init(state.params)), batch, key)[1]["gradient_norm"]
        )

    assert norm(jax.random.key(3)) != norm(jax.random.key(4)), "dropout draws no numbers"
    assert norm(None) == norm(None)
    updated = [agent.update(jax.random.key(seed), state, trajectory)[0].params for seed in (5, 6)]
    assert any(bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, updated), strict=True)), (
        "one minibatch in one epoch: only dropout tells two keys apart"
    )


def test_epochs_stop_after_the_pass_that_asks_for_it():
    """Steps that count: three of five passes of four steps, and the mean of the metrics over those alone."""

    def step(count, minibatch, key):
        return count + 1, {"count": count.astype(jnp.float32)}

    batch = jnp.arange(8.0)
    run = lambda stop: epochs(jax.random.key(0), step, jnp.int32(0), batch, 5, 4, stop)  # noqa: E731
    count, metrics = run(lambda count: count > 8)
    assert int(count) == 12 and metrics["epochs"] == 3 and metrics["count"] == np.arange(12).mean()
    count, metrics = run(None)
    assert int(count) == 20 and set(metrics) == {"count"} and metrics["count"] == np.arange(20).mean()


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
def test_functions_are_those_that_acted(kit, make):
    """The log-probability of the actions taken, by the policy of ``functions``, observations raw."""
    described = kit.specs["discrete"]
    agent, state, trajectory, update = kit.one_step(make, normalize_observation=True)
    state, _ = update(jax.random.key(0), state, trajectory)
    found = jaxrl.functions(make, described, torso=kit.torso, normalize_observation=True, learning_rate=0.1)
    observation = trajectory.observation[0]
    action, extras = agent.act(jax.random.key(1), state, observation)
    np.testing.assert_allclose(found.policy(state, observation).log_prob(action), extras.log_prob, rtol=1e-5)
    assert found.value(state, observation).shape == (B,) and found.action_values is None


def test_known_returns_are_those_of_episodes_that_end_within_the_rollout():
    continue_t = jnp.array([[True, True], [False, True], [True, True], [True, False]])
    expected = [[True, True], [True, True], [False, True], [False, True]]
    np.testing.assert_array_equal(known_return(continue_t), expected)
