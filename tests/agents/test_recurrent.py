"""Recipes with a torso that remembers: what update recomputes is what acted, with resets in the middle."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import agents, envs, losses
from jaxrl.agents import a2c, ppo, reinforce, trpo
from jaxrl.agents.parts import actor_critic, recurrent
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.minibatches import shuffled_minibatches
from jaxrl.envs.recall import TMaze
from jaxrl.envs.wrappers import mask_actions
from jaxrl.networks import GRU, MLP, memory_of
from jaxrl.rollout import reset, rollout
from jaxrl.types import Remembered

T, B, H = 8, 4, 5
TORSO = GRU(size=H, encoder=MLP(hidden=(6,)))
MAZE = TMaze(1)
PARAMS = MAZE.default_params.replace(max_steps_in_episode=3)
LEGAL = lambda state, params: jnp.array([True, True, True, False]) | (state.position > 0)  # noqa: E731
RECIPES = {
    "reinforce": (reinforce, {}),
    "reinforce_plain": (partial(reinforce, baseline=False), {"critic": False}),
    "a2c": (partial(a2c, share_torso=True), {"share_torso": True}),
    "ppo": (partial(ppo, num_epochs=1, num_minibatches=1), {}),
    "ppo_continuous": (partial(ppo, num_epochs=1, num_minibatches=1), {}),
    "trpo": (partial(trpo, num_minibatches=2), {}),
}


def environment(continuous=False, **options):
    """Masked, cut after 3 steps, ended by some turns before; it feeds back what the torso remembers."""
    env = envs.probes.ContinuousActionProbe() if continuous else mask_actions(MAZE, LEGAL)
    return envs.remember(env, memory_of(TORSO, **options)), env.default_params if continuous else PARAMS


def experience(agent, env, params, seed=0):
    """State, and two rollouts one after the other: the second starts within episodes."""

    @jax.jit
    def run(key):
        state = agent.init(key, B)
        observation, env_state = reset(key, env, params, B)
        trajectories = []
        for i in range(2):
            env_state, observation, trajectory = rollout(
                jax.random.fold_in(key, i), agent, state, env, params, env_state, observation, T
            )
            trajectories.append(trajectory)
        return state, trajectories

    return run(jax.random.key(seed))


def worst_log_ratio(outputs, batch, settings):
    """How far the policy is from the one that acted."""
    del settings
    log_ratio = outputs.policy.log_prob(batch.raw_action) - batch.log_prob
    return outputs.value.sum() + log_ratio.sum(), {"worst": jnp.abs(log_ratio).max()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_ratio_is_1_on_the_first_minibatch(name):
    make, options = RECIPES[name]
    env, params = environment(name == "ppo_continuous", **options)
    agent = make(envs.spec(env, params), torso=TORSO, loss=worst_log_ratio, normalize_observation=True)
    state, trajectories = experience(agent, env, params)
    update = jax.jit(agent.update)
    for trajectory in trajectories:
        assert not isinstance(trajectory.action, Remembered)
        if name != "ppo_continuous":
            assert (trajectory.terminated | trajectory.truncated)[:-1].sum() > B
        # Statistics of a first update would be another policy's; each rollout is judged by the state that acted.
        _, metrics = update(jax.random.key(0), state, trajectory)
        assert metrics["worst"] < 2e-6 * max(1.0, float(jnp.abs(trajectory.extras.log_prob).max()))
    starts_within = any((leaf != 0).any() for leaf in jax.tree.leaves(trajectories[1].observation.memory))
    assert starts_within or name == "ppo_continuous", "whose episodes have one step"


def stepping(network, params, trajectory):
    """Log-probabilities, values, next values and memories of a trajectory, step by step in Python."""
    observation = trajectory.observation
    kept = jax.tree.map(lambda x: x[0], observation.memory)
    log_probs, values, next_values, memories = [], [], [], []
    for t in range(T):
        if t > 0:
            alive = ~(trajectory.terminated | trajectory.truncated)[t - 1]
            kept = jax.tree.map(lambda h: jnp.where(alive[:, None], h, 0.0), kept)  # noqa: B023
        memories.append(kept)
        seen = jax.tree.map(lambda x: x[t], observation._replace(memory=None))._replace(memory=kept)  # noqa: B023
        policy, after = network.apply(params, seen, method="remember")
        ahead = jax.tree.map(lambda x: x[t], trajectory.next_observation)._replace(memory=after)  # noqa: B023
        log_probs.append(policy.log_prob(trajectory.action[t]))
        values.append(network.apply(params, seen, method="evaluate"))
        next_values.append(network.apply(params, ahead, method="evaluate"))
        kept = after
    return jnp.stack(log_probs), jnp.stack(values), jnp.stack(next_values), memories


@pytest.fixture(scope="module", params=[False, True], ids=["two_torsos", "one_torso"])
def learner(request):
    """Network, parameters, the second rollout, and the memories that acted in it (recorded in extras)."""
    env, params = environment(share_torso=request.param)
    agent = ppo(envs.spec(env, params), torso=TORSO, share_torso=request.param, num_minibatches=2)

    def recording(key, state, observation, *, explore=True):
        action, extras = agent.act(key, state, observation, explore=explore)
        return action, (extras, observation.memory)

    state, (_, trajectory) = experience(agent._replace(act=recording), env, params)
    extras, memories = trajectory.extras
    network = actor_critic.make_network(envs.spec(env, params), TORSO, request.param)
    return network, state.params, trajectory._replace(extras=extras), memories


def test_recomputed_memories_are_those_that_acted(learner):
    network, params, trajectory, memories = learner
    sequences = recurrent.sequences_of(trajectory)
    recomputed = network.apply(params, sequences, method=lambda network, given: network._actor(given)[1])
    done = np.asarray(trajectory.terminated | trajectory.truncated)
    assert done[:-1].sum() > B and not done[:-1].all()
    # What acted at step t + 1 is what is recomputed after step t, or zero where an episode began.
    expected = np.where(done[:-1, :, None], 0.0, np.swapaxes(recomputed, 0, 1)[:-1])
    np.testing.assert_allclose(memories.actor[1:], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(memories.actor[0], trajectory.observation.memory.actor[0])
    looped = stepping(network, params, trajectory)[3]
    for found, kept in zip(memories.actor, looped, strict=True):
        np.testing.assert_allclose(found, kept.actor, rtol=1e-5, atol=1e-6)


def test_values_ahead_are_seen_with_the_memory_of_the_episode_that_ends(learner):
    network, params, trajectory, _ = learner
    found = jax.jit(partial(recurrent.evaluate, network))(params, trajectory)
    _, values, next_values, _ = stepping(network, params, trajectory)
    np.testing.assert_allclose(found[0], values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], next_values, rtol=1e-4, atol=1e-5)
    done = np.asarray(trajectory.terminated | trajectory.truncated)
    np.testing.assert_allclose(found[1][:-1][~done[:-1]], found[0][1:][~done[:-1]], rtol=1e-4, atol=1e-5)
    assert np.abs(found[1][:-1] - found[0][1:])[done[:-1]].min() > 1e-4, "a reset observation is another one"


def test_gradients_are_those_of_a_plain_loop(learner):
    network, params, trajectory, _ = learner
    rng = np.random.default_rng(0)
    advantage, target = jnp.array(rng.normal(size=(2, T, B)), jnp.float32)
    batch = actor_critic.make_batch(trajectory, advantage, target, target)
    settings = losses.Settings(value_coef=0.5, entropy_coef=0.0)

    def objective(params, batch, key):
        return losses.actor_critic(*actor_critic.forward(network, params, batch, key), settings)

    sgd = optax.sgd(1.0)
    learned, metrics = jax.jit(gradient_step(sgd, objective))(
        Learned(params, sgd.init(params)), batch, jax.random.key(0)
    )
    found = jax.tree.map(jnp.subtract, params, learned.params)

    def looped(params):
        log_prob, value, _, _ = stepping(network, params, trajectory)
        return -(log_prob * advantage).mean() + 0.5 * (0.5 * (value - target) ** 2).mean()

    loss, expected = jax.jit(jax.value_and_grad(looped))(params)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)


def test_minibatches_are_whole_environments(learner):
    _, _, trajectory, _ = learner
    index = jnp.arange(T * B, dtype=jnp.float32).reshape(T, B)
    trajectory = trajectory._replace(reward=index)
    batch = actor_critic.make_batch(trajectory, 2.0 * index, 3.0 * index, 4.0 * index)
    minibatches = shuffled_minibatches(jax.random.key(1), batch, 2)
    for i in range(2):
        seen, flat = recurrent.split(jax.tree.map(lambda x: x[i], minibatches))  # noqa: B023
        environments = flat.transition.reward.reshape(B // 2, T)[:, 0].astype(int)
        np.testing.assert_array_equal(flat.transition.reward.reshape(B // 2, T), index.T[environments])
        np.testing.assert_array_equal(flat.target, 3.0 * flat.transition.reward)
        np.testing.assert_array_equal(flat.advantage, 2.0 * flat.transition.reward)
        features = trajectory.observation.features
        np.testing.assert_array_equal(seen.observation.features, jnp.swapaxes(features, 0, 1)[environments])
        np.testing.assert_array_equal(flat.transition.observation.features, seen.observation.features.reshape(-1, 3))
        np.testing.assert_array_equal(seen.memory.actor, trajectory.observation.memory.actor[0][environments])
        done = (trajectory.terminated | trajectory.truncated)[:-1, environments].T
        np.testing.assert_array_equal(seen.reset[:, 1:], done)
        assert not seen.reset[:, 0].any()


def test_a_loss_of_one_s_own_sees_samples(learner):
    """An auxiliary head on the features of the torso, and the next observation beside each."""
    env, params = environment()

    def loss(outputs, batch, settings):
        error = outputs.heads["predict"] - batch.transition.next_observation.features
        return (error**2).mean(), {"auxiliary": (error**2).mean()}

    options = {"optimizer": optax.sgd, "num_epochs": 1, "num_minibatches": 1}
    agent = ppo(envs.spec(env, params), torso=TORSO, loss=loss, heads={"predict": nn.Dense(3)}, **options)
    state, (_, trajectory) = experience(agent, env, params)
    new, metrics = jax.jit(agent.update)(jax.random.key(0), state, trajectory)
    assert metrics["auxiliary"] > 0
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), new.params, state.params)["params"]
    assert all(jax.tree.leaves(moved["actor_torso"])) and not any(jax.tree.leaves(moved["critic_torso"]))


class TestRefusals:
    def test_an_environment_that_is_not_wrapped(self):
        with pytest.raises(ValueError, match=r"torso: got GRU, .* does not feed it back; use the spec of"):
            ppo(envs.spec(MAZE), torso=TORSO)

    def test_the_way_out_is_right(self):
        for options, said in (({}, ""), ({"share_torso": True}, ", share_torso=True")):
            with pytest.raises(ValueError, match=r"envs.remember\(env, networks.memory_of\(torso" + said + r"\)\)"):
                ppo(envs.spec(MAZE), torso=TORSO, **options)
        with pytest.raises(ValueError, match=r"memory_of\(torso, critic=False\)"):
            reinforce(envs.spec(MAZE), torso=TORSO, baseline=False)

    def test_another_memory(self):
        wrong = envs.remember(MAZE, memory_of(GRU(size=H + 1)))
        with pytest.raises(ValueError, match=r"spec: the environment feeds back .*\(6,\).* memory of GRU, .*\(5,\)"):
            a2c(envs.spec(wrong), torso=TORSO)
        with pytest.raises(ValueError, match=r"spec: the environment feeds back"):
            ppo(envs.spec(envs.remember(MAZE, memory_of(TORSO))), torso=TORSO, share_torso=True)

    @pytest.mark.parametrize("torso", [None, MLP()])
    def test_a_torso_that_forgets(self, torso):
        with pytest.raises(ValueError, match="torso: got MLP, .* an environment that feeds a memory back"):
            trpo(envs.spec(envs.remember(MAZE, memory_of(TORSO))), torso=torso)

    @pytest.mark.parametrize("name", ["dqn", "c51", "qr_dqn", "iqn", "rainbow", "pqn", "sac"])
    def test_recipes_that_cannot(self, name):
        make = getattr(agents, name)
        for env in (MAZE, envs.remember(MAZE, memory_of(TORSO))):
            with pytest.raises(TypeError, match="torso: got GRU, which has a memory; this recipe"):
                make(envs.spec(env), torso=TORSO)
        with pytest.raises(TypeError, match="spec: got an environment that feeds a memory back; this recipe has no"):
            make(envs.spec(env))

    def test_minibatches_that_cut_sequences(self):
        env, params = environment()
        agent = ppo(envs.spec(env, params), torso=TORSO, num_minibatches=3)
        state, (trajectory, _) = experience(agent, env, params)
        with pytest.raises(ValueError, match=r"num_minibatches: got 3, .* num_envs = 4; a recurrent torso learns from"):
            agent.update(jax.random.key(0), state, trajectory)
