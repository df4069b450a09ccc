"""TRPO: its update against NumPy, the trust region over whole runs, and what moves when."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxrl
from jaxrl import losses
from jaxrl.agents import trpo
from jaxrl.agents.parts import actor_critic
from jaxrl.envs import make, spec
from jaxrl.networks import MLP
from jaxrl.ops import returns
from jaxrl.training.loop import train

T, B, D = 8, 2, 3  # of the kit


def policies(kit, kind, state, trajectory):
    """The distribution of the actor on the trajectory's observations, standardised as they were acted on."""
    policy = jaxrl.functions(trpo, kit.specs[kind], torso=kit.torso).policy
    return lambda params: policy(state._replace(params=params), trajectory.observation.reshape(T * B, D))


def forward(actor, x):
    """Logits of the kit's torso and a categorical head, written out."""
    dense, head = actor["actor_torso"]["Dense_0"], actor["policy_head"]["NarrowDense_0"]
    hidden = jnp.tanh(x @ dense["kernel"] + dense["bias"][None])
    return jax.nn.log_softmax(hidden @ head["kernel"].T + head["bias"][None])


def slow_step(log_pi, flat, action, advantage, max_kl, damping, decay):
    """The actor's step with the dense Fisher matrix of scores, in float64; ``(step, scale)``."""
    num = len(action)
    scores = np.asarray(jax.jacobian(log_pi)(flat), np.float64)  # [N, A, P]
    probs = np.exp(np.asarray(log_pi(flat), np.float64))
    fisher = np.einsum("na,nai,naj->ij", probs, scores, scores) / num
    gradient = -np.einsum("n,ni->i", advantage, scores[np.arange(num), action]) / num
    damped = fisher + damping * np.eye(len(flat))
    x = np.linalg.solve(damped, gradient)
    full = -np.sqrt(2 * max_kl / (x @ damped @ x)) * x
    for k in range(10):
        after = np.asarray(log_pi(flat + jnp.asarray(decay**k * full, jnp.float32)), np.float64)
        kl = (probs * (np.log(probs) - after)).sum(-1).mean()
        ratio = np.exp(after)[np.arange(num), action] / probs[np.arange(num), action]
        if kl <= max_kl and (ratio * advantage).mean() > advantage.mean():
            return decay**k * full, decay**k
    return 0.0 * full, 0.0


@pytest.mark.parametrize(("max_kl", "backtracks"), [(0.01, 0), (0.5, 1), (1.5, 2)])
def test_the_actors_step_is_that_of_the_dense_fisher_matrix(kit, max_kl, backtracks):
    """From a policy that is sharp, whose divergence grows faster than its quadratic model (of a flat one, slower)."""
    damping, decay = 0.01, 0.7
    agent, state, _, update = kit.one_step(
        trpo, max_kl=max_kl, damping=damping, backtrack_decay=decay, num_cg_steps=60, num_minibatches=4
    )
    own = state.params["params"]
    sharp = jax.tree.map(lambda leaf: 100.0 * leaf, own["policy_head"])
    state = state._replace(params={"params": {**own, "policy_head": sharp}})
    trajectory = kit.trajectory_of(agent, state, kit.specs["discrete"])
    found, metrics = update(jax.random.key(0), state, trajectory)
    network = actor_critic.make_network(kit.specs["discrete"], kit.torso)
    v_tm1, v_t = actor_critic.values(network, state.params, trajectory)
    continue_t = returns.continues(trajectory.terminated, trajectory.truncated)
    estimated = returns.gae(trajectory.reward, 0.99 * trajectory.discount, v_tm1, v_t, continue_t, 0.95)
    advantage = np.asarray(estimated, np.float64).ravel()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    actor = {name: state.params["params"][name] for name in ("actor_torso", "policy_head")}
    flat, unravel = ravel_pytree(actor)
    x = trajectory.observation.reshape(T * B, D)
    log_pi = lambda flat: forward(unravel(flat), x)  # noqa: E731
    step, scale = slow_step(log_pi, flat, np.ravel(trajectory.action), advantage, max_kl, damping, decay)
    assert scale == decay**backtracks
    np.testing.assert_allclose(metrics["step_scale"], scale, rtol=1e-5)
    moved = {name: found.params["params"][name] for name in actor}
    change = np.asarray(ravel_pytree(moved)[0], np.float64) - np.asarray(flat, np.float64)
    np.testing.assert_allclose(change, step, rtol=0, atol=1e-3 * np.abs(step).max())


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("options", [{}, {"normalize_observation": True, "entropy_coef": 0.1}], ids=["plain", "more"])
def test_no_update_leaves_the_trust_region(kit, kind, options):
    """From the policy that acted to the new one, under the statistics that acted; and the surrogate improves."""
    max_kl = 0.05
    agent, state, _, update = kit.one_step(trpo, kind, max_kl=max_kl, damping=1e-3, num_minibatches=4, **options)
    scales = []
    for seed in range(12):
        trajectory = kit.trajectory_of(agent, state, kit.specs[kind], seed)
        new, metrics = update(jax.random.key(seed), state, trajectory)
        policy = policies(kit, kind, state, trajectory)
        kl = policy(state.params).kl_divergence(policy(new.params)).mean()
        assert kl <= max_kl * (1 + 1e-4)
        np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-2, atol=1e-5)
        scales.append(float(metrics["step_scale"]))
        assert (metrics["improvement"] > 0.0) == (scales[-1] > 0.0)
        state = new
    assert sum(scale > 0.0 for scale in scales) >= 10


def test_a_loss_without_descent_moves_the_critic_alone(kit):
    """A constant has no gradient: the actor stays where it is, bit for bit, and the critic learns on."""

    def constant(outputs, batch, settings):
        return 0.0 * outputs.policy.log_prob(batch.raw_action).sum(), {}

    _, state, trajectory, update = kit.one_step(trpo, loss=constant, num_minibatches=4)
    new, metrics = update(jax.random.key(0), state, trajectory)
    change = kit.difference(new.params, state.params)["params"]
    assert kit.norm(change["actor_torso"]) == kit.norm(change["policy_head"]) == metrics["step_scale"] == 0.0
    assert kit.norm(change["critic_torso"]) > 1e-3 and kit.norm(change["value_head"]) > 1e-3


def test_the_actor_does_not_read_the_critics_settings(kit):
    """Another step size of the critic leaves the first update's actor alone."""
    _, state, trajectory, update = kit.one_step(trpo, num_minibatches=4)
    _, _, _, other = kit.one_step(trpo, num_minibatches=2, learning_rate=0.1, num_epochs=3)
    one, two = (f(jax.random.key(0), state, trajectory)[0].params["params"] for f in (update, other))
    np.testing.assert_allclose(kit.norm(kit.difference(one["actor_torso"], two["actor_torso"])), 0.0, atol=1e-6)
    assert kit.norm(kit.difference(one["critic_torso"], two["critic_torso"])) > 1e-2


def test_the_critic_is_a_regression(kit):
    """Enough epochs end where the targets are, which a step of the policy does not move."""
    agent = trpo(
        kit.specs["discrete"], torso=MLP(hidden=(64,)), learning_rate=0.02, num_epochs=500, num_minibatches=1, gamma=0.0
    )
    state = agent.init(jax.random.key(0), B)
    trajectory = kit.trajectory_of(agent, state, kit.specs["discrete"])
    new, _ = jax.jit(agent.update)(jax.random.key(0), state, trajectory)
    value_of = jaxrl.functions(trpo, kit.specs["discrete"], torso=MLP(hidden=(64,))).value
    value, before = (value_of(s, trajectory.observation.reshape(T * B, D)) for s in (new, state))
    reward = np.ravel(trajectory.reward)  # at gamma 0 it is the target
    assert np.abs(value - reward).max() < 0.05 < 1.0 < np.abs(before - reward).max()


def test_the_critics_learning_rate_anneals_by_updates(kit):
    """Plain SGD of a tiny step: the critic's change is the rate, which counts updates, not gradient steps."""
    _, state, trajectory, update = kit.one_step(
        trpo, optimizer=optax.sgd, learning_rate=1e-5, num_minibatches=4, anneal_learning_rate=True, num_updates=4
    )
    changes = []
    for i in range(6):
        new, _ = update(jax.random.key(i), state, trajectory)
        changes.append(kit.norm(kit.difference(new.params, state.params)["params"]["value_head"]))
        state = state._replace(optimizer_state=new.optimizer_state, updates=new.updates)
    np.testing.assert_allclose(np.array(changes) / changes[0], [1.0, 0.75, 0.5, 0.25, 0.0, 0.0], atol=0.02)


def test_seeds_and_step_sizes_vmap():
    env, params = make("CartPole-v1")
    described = spec(env, params)

    def run(key, max_kl, damping):
        agent = trpo(described, torso=MLP(hidden=(8,)), max_kl=max_kl, damping=damping)
        state, metrics = train(key, agent, env, params, num_steps=512, num_envs=4, rollout_length=32)
        return state.agent.params, metrics["kl"]

    keys, kls = jax.random.split(jax.random.key(0), 3), jnp.array([1e-4, 0.01, 0.1])
    together, found = jax.jit(jax.vmap(run))(keys, kls, jnp.array([0.1, 0.1, 0.01]))
    assert found.shape == (3, 4) and (found <= kls[:, None] * (1 + 1e-5)).all() and (found > 0.0).any(axis=1).all()
    alone = jax.jit(run)(keys[1], 0.01, 0.1)[0]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-2, atol=2e-3), together, alone)


def test_a_population_of_full_size_steps_as_each_member_does_alone():
    """At this size jaxlib 0.10.2 on CPU compiled other directions for a population; see ``optim.natural_gradient``."""
    env, params = make("CartPole-v1")
    agent = trpo(spec(env, params), num_epochs=1)

    def run(key):
        return train(key, agent, env, params, num_steps=2048, num_envs=8, rollout_length=128)[1]["kl"]

    keys = jax.random.split(jax.random.key(0), 4)
    together, alone = jax.jit(jax.vmap(run))(keys), jnp.stack([*map(jax.jit(run), keys)])
    np.testing.assert_allclose(together, alone, rtol=0.02)
    assert (together > 0.005).all()


def test_entropy_is_in_the_step(kit):
    """With a large bonus and no advantages the step makes the policy more random."""
    agent, state, trajectory, update = kit.one_step(
        trpo, "continuous", loss=losses.weighted((1.0, losses.entropy)), num_minibatches=4
    )
    new, _ = update(jax.random.key(0), state, trajectory)
    policy = policies(kit, "continuous", state, trajectory)
    assert policy(new.params).entropy().mean() > policy(state.params).entropy().mean() + 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_kl": 0.0}, r"max_kl: got 0.0, must lie in \(0, inf\)"),
        ({"damping": -1.0}, r"damping: got -1.0, must lie in \[0, inf\)"),
        ({"backtrack_decay": 1.0}, r"backtrack_decay: got 1.0, must lie in \(0, 1\)"),
        ({"num_cg_steps": 0}, "num_cg_steps: got 0, must be at least 1"),
        ({"num_backtracks": 0}, "num_backtracks: got 0, must be at least 1"),
        ({"anneal_learning_rate": True}, "num_updates: got None"),
    ],
)
def test_bad_options_are_refused_by_name(kit, options, message):
    with pytest.raises(ValueError, match=message):
        trpo(kit.specs["discrete"], **options)
