"""One update of each recipe against another implementation of it: plain loops, NumPy, and ``jax.grad``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import a2c, ppo, reinforce
from jaxrl.agents.parts.actor_critic import Extras
from jaxrl.networks import MLP
from jaxrl.types import Discrete, Spec, Transition

T, B, D, A, H = 6, 3, 4, 3, 5
N = T * B
SPEC = Spec(jax.ShapeDtypeStruct((D,), jnp.float32), Discrete(A))
GAMMA, LAMBDA = 0.9, 0.7


def make_trajectory():
    """Random, with episodes that terminate, that are cut, and both; old log-probabilities off the policy's own."""
    rng = np.random.default_rng(3)
    ends = rng.random((2, T, B)) < 0.25
    terminated, truncated = ends
    return Transition(
        observation=rng.normal(size=(T, B, D)).astype(np.float32),
        action=rng.integers(A, size=(T, B)).astype(np.int32),
        reward=rng.normal(size=(T, B)).astype(np.float32),
        discount=1.0 - terminated.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        next_observation=rng.normal(size=(T, B, D)).astype(np.float32),
        extras=Extras(np.log(rng.uniform(0.2, 0.5, size=(T, B))).astype(np.float32), None),
    )


def forward(params, x):
    """``(log pi [N, A], v [N])`` of the actor-critic, written out."""
    p = params["params"]
    hidden = {
        torso: jnp.tanh(x @ p[torso]["Dense_0"]["kernel"] + jnp.broadcast_to(p[torso]["Dense_0"]["bias"], (len(x), H)))
        for torso in ("actor_torso", "critic_torso")
        if torso in p
    }
    policy = p["policy_head"]["NarrowDense_0"]
    logits = hidden["actor_torso"] @ policy["kernel"].T + jnp.broadcast_to(policy["bias"], (len(x), A))
    log_pi = logits - jnp.log(jnp.exp(logits).sum(-1, keepdims=True))
    if "critic_torso" not in p:
        return log_pi, jnp.zeros(len(x))
    value = p["value_head"]["NarrowDense_0"]
    return log_pi, (hidden["critic_torso"] @ value["kernel"].T)[:, 0] + value["bias"][0]


def slow_gae(t, v_tm1, v_t, lambda_):
    """Advantages by the definition, one environment and one step at a time, from each step forwards."""
    advantage = np.zeros((T, B))
    for b in range(B):
        for start in range(T):
            weight = 1.0
            for k in range(start, T):
                future = 0.0 if t.terminated[k, b] else GAMMA * v_t[k, b]
                advantage[start, b] += weight * (t.reward[k, b] + future - v_tm1[k, b])
                if t.terminated[k, b] or t.truncated[k, b]:
                    break
                weight *= GAMMA * lambda_
    return advantage


def slow_returns(t):
    """Returns of episodes that end in the trajectory, and which steps belong to one."""
    returns, known = np.zeros((T, B)), np.zeros((T, B))
    for b in range(B):
        for start in range(T):
            for k in range(start, T):
                returns[start, b] += GAMMA ** (k - start) * t.reward[k, b]
                if t.terminated[k, b] or t.truncated[k, b]:
                    known[start, b] = 1.0
                    break
    return returns, known


def clipped(gradient, max_norm):
    norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in jax.tree.leaves(gradient)))
    return jax.tree.map(lambda g: np.asarray(g) * min(1.0, max_norm / norm), gradient), norm


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, learning_rate, epsilon):
        self.learning_rate, self.epsilon, self.steps, self.m, self.v = learning_rate, epsilon, 0, 0.0, 0.0

    def step(self, params, gradient):
        flat, tree = jax.tree.flatten(params)
        g = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)]).astype(np.float64)
        self.steps += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m, v = self.m / (1 - 0.9**self.steps), self.v / (1 - 0.999**self.steps)
        return self._moved(flat, tree, -self.learning_rate * m / (np.sqrt(v) + self.epsilon))

    def _moved(self, flat, tree, change):
        cuts = np.cumsum([np.size(x) for x in flat])[:-1]
        pieces = np.split(change, cuts)
        moved = [np.asarray(x + d.reshape(np.shape(x)), np.float32) for x, d in zip(flat, pieces, strict=True)]
        return jax.tree.unflatten(tree, moved)


class RMSProp(Adam):
    """Hinton 2012, the epsilon outside of the root, as in PyTorch."""

    def step(self, params, gradient):
        flat, tree = jax.tree.flatten(params)
        g = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)]).astype(np.float64)
        self.v = 0.99 * self.v + 0.01 * g**2
        return self._moved(flat, tree, -self.learning_rate * g / (np.sqrt(self.v) + self.epsilon))


def values_of(params, t):
    value = lambda x: np.asarray(forward(params, x.reshape(N, D))[1], np.float64).reshape(T, B)  # noqa: E731
    return value(t.observation), value(t.next_observation)


def assert_moved_alike(before, found, expected, tolerance=2e-6):
    moved = 0.0
    for (path, x), y, z in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), jax.tree.leaves(before), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance, err_msg=jax.tree_util.keystr(path))
        moved = max(moved, float(np.abs(x - z).max()))
    assert moved > 100 * tolerance


@pytest.mark.parametrize("value_loss", ["square", "clipped", "huber"])
def test_ppo(value_loss):
    """Three epochs of one minibatch: ratios leave the clip range, values the value clip."""
    options = {"square": {}, "clipped": {"clip_value_epsilon": 0.02}, "huber": {"huber_delta": 0.3}}[value_loss]
    agent = ppo(
        SPEC, torso=MLP(hidden=(H,)), gamma=GAMMA, gae_lambda=LAMBDA, learning_rate=0.02, clip_epsilon=0.3,
        value_coef=0.8, entropy_coef=0.05, max_grad_norm=0.4, num_epochs=3, num_minibatches=1, **options,
    )  # fmt: skip
    t, state = make_trajectory(), agent.init(jax.random.key(0))
    found, metrics = jax.jit(agent.update)(jax.random.key(1), state, t)

    v_tm1, v_t = values_of(state.params, t)
    advantage = slow_gae(t, v_tm1, v_t, LAMBDA)
    target, v_old = (advantage + v_tm1).reshape(N), v_tm1.reshape(N)
    advantage = ((advantage - advantage.mean()) / (advantage.std() + 1e-8)).reshape(N)

    def loss(params):
        log_pi, value = forward(params, t.observation.reshape(N, D))
        ratio = jnp.exp(log_pi[jnp.arange(N), t.action.reshape(N)] - t.extras.log_prob.reshape(N))
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.7, 1.3) * advantage)
        error = value - target
        if value_loss == "clipped":
            error = jnp.maximum(abs(error), abs(v_old + jnp.clip(value - v_old, -0.02, 0.02) - target))
        terms = jnp.where(abs(error) < 0.3, error**2 / 2, 0.3 * (abs(error) - 0.15))
        value_term = (terms if value_loss == "huber" else error**2 / 2).mean()
        entropy = -(jnp.exp(log_pi) * log_pi).sum(-1).mean()
        return -surrogate.mean() + 0.8 * value_term - 0.05 * entropy

    params, adam, losses, norms = state.params, Adam(0.02, 1e-5), [], []
    for _ in range(3):
        value, gradient = jax.value_and_grad(loss)(params)
        gradient, norm = clipped(gradient, 0.4)
        params = adam.step(params, gradient)
        losses.append(value)
        norms.append(norm)
    assert_moved_alike(state.params, found.params, params)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], np.mean(norms), rtol=1e-4)
    assert 0.0 < metrics["clip_fraction"] < 1.0 and max(norms) > 0.4


@pytest.mark.parametrize("lambda_", [1.0, LAMBDA])
def test_a2c(lambda_):
    agent = a2c(SPEC, torso=MLP(hidden=(H,)), gamma=GAMMA, gae_lambda=lambda_, learning_rate=0.01, entropy_coef=0.05)
    t, state = make_trajectory(), agent.init(jax.random.key(0))
    found, _ = jax.jit(agent.update)(jax.random.key(1), state, t)
    v_tm1, v_t = values_of(state.params, t)
    advantage = slow_gae(t, v_tm1, v_t, lambda_)
    target, advantage = (advantage + v_tm1).reshape(N), advantage.reshape(N)

    def loss(params):
        log_pi, value = forward(params, t.observation.reshape(N, D))
        chosen = log_pi[jnp.arange(N), t.action.reshape(N)]
        entropy = -(jnp.exp(log_pi) * log_pi).sum(-1)
        return (-chosen * advantage + 0.5 * (value - target) ** 2 / 2 - 0.05 * entropy).mean()

    gradient, norm = clipped(jax.grad(loss)(state.params), 0.5)
    assert norm > 0.5
    assert_moved_alike(state.params, found.params, RMSProp(0.01, 1e-5).step(state.params, gradient))


@pytest.mark.parametrize("baseline", [True, False])
def test_reinforce(baseline):
    agent = reinforce(
        SPEC, torso=MLP(hidden=(H,)), gamma=GAMMA, baseline=baseline, learning_rate=0.01, normalize_advantage=False
    )
    t, state = make_trajectory(), agent.init(jax.random.key(0))
    found, _ = jax.jit(agent.update)(jax.random.key(1), state, t)
    v_tm1, v_t = values_of(state.params, t)
    if baseline:
        advantage, known = slow_gae(t, v_tm1, v_t, 1.0), np.ones((T, B))
    else:
        advantage, known = slow_returns(t)
        assert 0 < known.mean() < 1
    target, advantage, known = (advantage + v_tm1).reshape(N), advantage.reshape(N), known.reshape(N)

    def loss(params):
        log_pi, value = forward(params, t.observation.reshape(N, D))
        terms = -log_pi[jnp.arange(N), t.action.reshape(N)] * advantage
        return ((terms + baseline * 0.5 * (value - target) ** 2 / 2) * known).sum() / known.sum()

    gradient = jax.grad(loss)(state.params)
    # Adam's first step is lr * sign(g) wherever |g| is far above epsilon; gradients compare better than signs.
    assert_moved_alike(state.params, found.params, Adam(0.01, 1e-8).step(state.params, gradient), tolerance=5e-5)
