"""The value family: targets, losses, masks, warm-up, priorities; against rlax and plain loops."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

from jaxrl import replay as replays
from jaxrl.agents import c51, dqn, iqn, qr_dqn, rainbow
from jaxrl.agents.parts import action_values as family
from jaxrl.agents.parts import replaying, targets
from jaxrl.agents.parts.functions import functions
from jaxrl.networks import MLP, ActionValueHead, ImplicitQuantileHead, QNetwork
from jaxrl.ops.distributional import quantile_midpoints
from jaxrl.replay import Replay, Sample
from jaxrl.types import Discrete, Observation, RewardModel, Spec, Transition

N, A, D = 6, 3, 4
K = 5
VECTOR = jax.ShapeDtypeStruct((D,), jnp.float32)
PLAIN = Spec(VECTOR, Discrete(A))
MASKED = Spec(Observation(VECTOR, action_mask=jax.ShapeDtypeStruct((A,), jnp.bool_)), Discrete(A))
SMALL = {"torso": MLP(hidden=(8,)), "replay_capacity": 64, "batch_size": N}
ATOMS = {"v_min": -3.0, "v_max": 3.0, "num_atoms": K}
RECIPES = {
    "dqn": dqn,
    "double": partial(dqn, double=True),
    "square": partial(dqn, huber_delta=None),
    "c51": partial(c51, **ATOMS),
    "qr_dqn": partial(qr_dqn, num_quantiles=K, kappa=0.5),
    "iqn": partial(iqn, num_fractions=4, num_target_fractions=3, num_policy_fractions=K, num_cosines=6),
    "rainbow": partial(rainbow, **ATOMS),
}


def batch(masked=False, seed=0):
    """A sample whose weights, discounts and rewards all differ, as 3-step windows leave them."""
    rng = np.random.default_rng(seed)
    observation, following = (jnp.array(rng.normal(size=(N, D)), jnp.float32) for _ in range(2))
    if masked:
        masks = jnp.array([[True, False, True], [False, False, True]] * (N // 2))
        observation, following = Observation(observation, masks), Observation(following, masks[::-1])
    terminated = jnp.arange(N) == 2
    transition = Transition(
        observation=observation,
        action=jnp.array([0, 2, 2, 2, 0, 2], jnp.int32),
        reward=jnp.array(rng.normal(size=N), jnp.float32),
        discount=1.0 - terminated.astype(jnp.float32),
        terminated=terminated,
        truncated=jnp.zeros(N, bool),
        next_observation=following,
    )
    discount = jnp.array([0.99, 0.97, 0.0, 0.99, 0.98, 0.97], jnp.float32)
    weight = jnp.array([1.0, 0.5, 0.9, 0.2, 0.7, 0.4], jnp.float32)
    return Sample(transition, discount, weight, None)


def fixed_replay(sample):
    """What makes a replay that always gives this sample, and whose state is the last priorities."""

    def make(capacity, *, n_step, gamma):
        return Replay(
            init=lambda example, num_envs: jnp.zeros(N),
            add=lambda state, trajectory: state,
            sample=lambda key, state, batch_size: sample,
            update_priorities=lambda state, index, priorities: priorities,
        )

    return make


class Made(NamedTuple):
    """An agent whose replay gives ``batch(masked)``, and the network that it should have.

    Attributes:
      state: with other parameters for the target.
      step: ``(key, state) -> (state, metrics)``, one jitted gradient step by plain SGD at rate 1.
      outputs: ``(params, observation, *head_inputs, noise) -> [N, A, ...]``.
      mean: outputs -> values ``[N, A]``.
      fractions: ``(key, target) -> `` inputs of the head, for the online or the target network.
    """

    state: Any
    step: Any
    outputs: Any
    mean: Any
    fractions: Any
    policy_inputs: Any


HEADS = {
    "c51": ActionValueHead(A, K),
    "qr_dqn": ActionValueHead(A, K),
    "iqn": ImplicitQuantileHead(ActionValueHead(A), 6),
    "rainbow": ActionValueHead(A, K, dueling=True, noisy=True),
}


@cache
def made(name, masked=False):
    described = MASKED if masked else PLAIN
    sgd = {"optimizer": optax.sgd, "learning_rate": 1.0, "max_grad_norm": None, "learning_starts": 0}
    options = {**SMALL, **sgd, "target_interval": 1000, "replay": fixed_replay(batch(masked))}
    agent = RECIPES[name](described, **options)
    params, target = (agent.init(jax.random.key(seed), 2).params for seed in range(2))
    state = agent.init(jax.random.key(0), 2)._replace(target_params=target)
    network = QNetwork(SMALL["torso"], HEADS.get(name, ActionValueHead(A)), 1)
    assert jax.tree.structure(params) == jax.tree.structure(state.params)

    def outputs(params, observation, *head_inputs, noise=None):
        return network.apply(params, observation, *head_inputs, rngs={} if noise is None else {"noise": noise})

    def mean(outputs):
        if name in ("c51", "rainbow"):
            return (jax.nn.softmax(outputs) * jnp.linspace(-3.0, 3.0, K).reshape(1, 1, K)).sum(-1)
        return outputs.mean(-1) if outputs.ndim == 3 else outputs

    def fractions(key, count):
        return (jax.random.uniform(key, (N, count)),) if name == "iqn" else ()

    step = jax.jit(lambda key, state: agent.update(key, state, trajectory(4, 2)))
    return Made(state, step, outputs, mean, fractions, (quantile_midpoints(K),) if name == "iqn" else ())


def keys_of(key, name):
    """The keys that the loss draws from in an update with ``key``."""
    return family.loss_keys(jax.random.split(key)[1], name == "rainbow")


def heads(name, key, params, target, masked=False):
    """What the reference losses are made of: head outputs of the batch, drawn as the loss draws them."""
    parts, keys, transition = made(name, masked), keys_of(key, name), batch(masked).transition
    inputs = parts.fractions(keys.fractions, 4)
    online = parts.outputs(params, transition.observation, *inputs, noise=keys.noise)
    following = transition.next_observation
    next_inputs = parts.fractions(keys.target_fractions, 3)
    next_target = parts.outputs(target, following, *next_inputs, noise=keys.target_noise)
    selector = params if name in ("double", "rainbow") else target
    chooser = parts.mean(parts.outputs(selector, following, *parts.policy_inputs, noise=keys.selector_noise))
    return online, next_target, jax.lax.stop_gradient(chooser), inputs


def reference(name, key, params, target):
    """Terms of the loss ``[N]`` by rlax, one sample at a time, from the outputs of the heads."""
    online, following, chooser, inputs = heads(name, key, params, target)
    sample = batch()
    terms = []
    for i in range(N):
        action, reward, discount = sample.transition.action[i], sample.transition.reward[i], sample.discount[i]
        if name in ("dqn", "square"):
            error = rlax.q_learning(online[i], action, reward, discount, following[i])
            terms.append(rlax.huber_loss(error) if name == "dqn" else rlax.l2_loss(error))
        elif name == "double":
            error = rlax.double_q_learning(online[i], action, reward, discount, following[i], chooser[i])
            terms.append(rlax.huber_loss(error))
        elif name == "c51":
            atoms = jnp.linspace(-3.0, 3.0, K)
            args = (atoms, online[i], action, reward, discount, atoms, following[i])
            terms.append(rlax.categorical_q_learning(*args))
        elif name == "rainbow":
            atoms = jnp.linspace(-3.0, 3.0, K)
            # One action alone, the one that the online network chooses: rlax has no double C51.
            best = jnp.argmax(chooser[i])
            args = (atoms, online[i], action, reward, discount, atoms, following[i][best][None])
            terms.append(rlax.categorical_q_learning(*args))
        else:
            tau = inputs[0][i] if inputs else quantile_midpoints(K)
            args = (online[i].T, tau, action, reward, discount, chooser[i][None], following[i].T)
            kappa = 0.5 if name == "qr_dqn" else 1.0
            # rlax does not divide by kappa, as IQN's paper does.
            terms.append(rlax.quantile_q_learning(*args, huber_param=kappa) / kappa)
    return jnp.stack(terms)


def step_by_hand(name, key, params, target):
    """The loss and its gradient, by the reference."""

    @jax.jit
    @jax.value_and_grad
    def loss(params, target):
        return (batch().weight * reference(name, key, params, target)).mean()

    return loss(params, target)


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_the_reference(name):
    """The loss, and its gradient, which holds the targets constant: with plain SGD a step is the gradient."""
    key, state = jax.random.key(7), made(name).state
    new, metrics = made(name).step(key, state)
    loss, grads = step_by_hand(name, key, state.params, state.target_params)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=2e-4)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(grads), rtol=2e-3)
    expected = jax.tree.map(jnp.subtract, state.params, grads)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5), new.params, expected)
    assert new.per_env.shape == (N,) and (new.per_env >= -1e-6).all()


@pytest.mark.parametrize("name", ["dqn", "qr_dqn"])
def test_priority_is_the_error_of_the_value(name):
    key, sample, state = jax.random.key(7), batch(), made(name).state
    online, following, _, _ = heads(name, key, state.params, state.target_params)
    value, next_value = (np.asarray(made(name).mean(outputs)) for outputs in (online, following))
    new, _ = made(name).step(key, state)
    expected = sample.transition.reward + sample.discount * next_value.max(-1)
    np.testing.assert_allclose(new.per_env, abs(expected - value[np.arange(N), sample.transition.action]), atol=1e-5)


def test_priority_of_c51_is_0_where_there_is_nothing_left_to_learn():
    """Terminal with reward 0 is all mass on the middle atom; the divergence from that falls to 0 as it is learned."""
    sample = batch()
    ended = sample.transition._replace(reward=jnp.zeros(N))
    sample = sample._replace(transition=ended, discount=jnp.zeros(N), weight=jnp.ones(N))
    options = {**SMALL, **ATOMS, "replay": fixed_replay(sample), "learning_starts": 0, "learning_rate": 0.1}
    agent = c51(PLAIN, **options, num_gradient_steps=200)
    new, metrics = jax.jit(agent.update)(jax.random.key(1), agent.init(jax.random.key(0), 2), trajectory(4, 2))
    np.testing.assert_allclose(new.per_env, 0.0, atol=1e-3)
    assert metrics["loss"] > 0.01, "the mean over the steps, those from before it was learned included"


def test_loss_of_c51_is_the_entropy_of_the_target_and_its_priority():
    """``-sum q log p = H(q) + KL(q || p)``, the latter the priority."""
    key, state, sample = jax.random.key(3), made("c51").state, batch()
    new, _ = made("c51").step(key, state)
    online, following, chooser, _ = heads("c51", key, state.params, state.target_params)
    atoms, logits = np.linspace(-3.0, 3.0, K), np.asarray(online)
    for i in range(N):
        best = jax.nn.softmax(following[i, jnp.argmax(chooser[i])])
        q = np.zeros(K)
        for mass, atom in zip(np.asarray(best, np.float64), atoms, strict=True):
            moved = np.clip(float(sample.transition.reward[i]) + float(sample.discount[i]) * atom, -3.0, 3.0)
            q += mass * np.maximum(1.0 - abs(moved - atoms) / 1.5, 0.0)
        p = np.asarray(jax.nn.softmax(logits[i, sample.transition.action[i]]), np.float64)
        divergence = sum(a * np.log(a / b) for a, b in zip(q, p, strict=True) if a > 1e-12)
        np.testing.assert_allclose(new.per_env[i], divergence, atol=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_target_network_is_read(name):
    state, key = made(name).state, jax.random.key(0)
    before = made(name).step(key, state)[1]["loss"]
    moved = state._replace(target_params=jax.tree.map(lambda x: x + 0.3, state.target_params))
    assert abs(made(name).step(key, moved)[1]["loss"] - before) > 1e-4


@pytest.mark.parametrize("name", ["dqn", "double", "c51", "iqn"])
def test_no_illegal_action_in_the_target(name):
    """The loss of the best legal next actions, and not of the best ones, which are illegal in some samples."""
    key, state, sample = jax.random.key(3), made(name, masked=True).state, batch(masked=True)
    online, following, chooser, inputs = heads(name, key, state.params, state.target_params, masked=True)
    legal = np.asarray(sample.transition.next_observation.action_mask)
    assert not legal[np.arange(N), chooser.argmax(-1)].all(), "the mask has to matter here"

    def terms(choice):
        """The priorities, for a choice of next actions: the error of the mean, or the divergence."""
        reward, discount = sample.transition.reward, sample.discount
        taken, value = np.arange(N), made(name).mean
        if name != "c51":
            target = reward + discount * value(following)[taken, choice]
            return abs(target - value(online)[taken, sample.transition.action])
        atoms = jnp.linspace(-3.0, 3.0, K)
        moved = reward[:, None] + discount[:, None] * atoms[None]
        q = rlax.categorical_l2_project
        target = jnp.stack(
            [q(z, p, atoms) for z, p in zip(moved, jax.nn.softmax(following[taken, choice]), strict=True)]
        )
        log_p = jax.nn.log_softmax(online[taken, sample.transition.action])
        return -(target * log_p).sum(-1) - jax.scipy.special.entr(target).sum(-1)

    priorities = made(name, masked=True).step(key, state)[0].per_env
    right, wrong = terms(jnp.where(legal, chooser, -jnp.inf).argmax(-1)), terms(chooser.argmax(-1))
    np.testing.assert_allclose(priorities, right, atol=1e-4)
    assert abs(np.asarray(right - wrong)).max() > 1e-3


MASKS = jnp.array([[True, False, True], [False, True, False]])


@pytest.mark.parametrize("steps", [0, 10_000])
@pytest.mark.parametrize("name", ["dqn", "rainbow"])
def test_no_illegal_action_is_taken(name, steps):
    """In the warm-up, exploring and exploiting; each legal one is taken sometimes in the warm-up."""
    agent = RECIPES[name](MASKED, **SMALL, epsilon_end=0.5, learning_starts=10)
    state = agent.init(jax.random.key(0), 2)._replace(steps=jnp.int32(steps))
    observation = Observation(jnp.ones((2, D)), MASKS)
    keys = jax.random.split(jax.random.key(1), 200)
    for explore in (True, False):
        act = jax.jit(jax.vmap(partial(agent.act, explore=explore), in_axes=(0, None, None)))
        actions = np.asarray(act(keys, state, observation)[0])
        assert np.asarray(MASKS)[np.arange(2), actions].all()
        if explore and steps == 0:
            assert 60 < (actions[:, 0] == 0).sum() < 140, "uniform over the two legal ones"


def trajectory(length, num_envs, seed=0):
    rng = np.random.default_rng(seed)
    observation = jnp.array(rng.normal(size=(length, num_envs, D)), jnp.float32)
    number = jnp.array(rng.normal(size=(length, num_envs)), jnp.float32)
    ended = jnp.zeros((length, num_envs), bool)
    action = jnp.array(rng.integers(A, size=(length, num_envs)), jnp.int32)
    return Transition(observation, action, number, jnp.ones_like(number), ended, ended, observation + 1.0)


def same(x, y):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


@pytest.mark.parametrize("num_gradient_steps", [1, 4])
def test_warm_up_then_learning_and_the_target_by_gradient_steps(num_gradient_steps):
    """8 steps an update and learning from 20 on: two updates wait, and every third gradient step moves the target."""
    agent = dqn(
        PLAIN, **SMALL, learning_starts=20, num_gradient_steps=num_gradient_steps, target_interval=3, epsilon_end=0.0
    )
    states, metrics = [agent.init(jax.random.key(0), 2)], []
    update = jax.jit(agent.update)
    for i in range(6):
        state, seen = update(jax.random.key(i), states[-1], trajectory(4, 2, seed=i))
        states, metrics = [*states, state], [*metrics, seen]
    assert [int(state.steps) for state in states] == [0, 8, 16, 24, 32, 40, 48]
    assert [int(state.gradient_steps) for state in states] == [num_gradient_steps * n for n in (0, 0, 0, 1, 2, 3, 4)]
    assert [bool(seen["loss"] > 0.0) for seen in metrics] == [False, False, True, True, True, True]
    for i in (1, 2):
        assert same(states[0].learner, states[i].learner)
        assert not same(states[i - 1].per_env, states[i].per_env)
    for before, after in zip(states[2:], states[3:], strict=False):
        assert not same(before.params, after.params)
        moves = int(after.gradient_steps) // 3 - int(before.gradient_steps) // 3
        assert same(before.target_params, after.target_params) == (moves == 0)
        if int(after.gradient_steps) % 3 == 0:
            assert same(after.target_params, after.params)
    observation, keys = jnp.ones((1, D)), jax.random.split(jax.random.key(1), 300)
    act = jax.jit(jax.vmap(agent.act, in_axes=(0, None, None)))
    late = states[-1]._replace(steps=jnp.int32(10_000))
    counts = [np.bincount(np.asarray(act(keys, s, observation)[0]).ravel(), minlength=A) for s in (states[2], late)]
    assert counts[0].min() > 60 and np.count_nonzero(counts[1]) == 1


def test_target_copies_are_exact_and_soft_ones_a_mixture():
    params, old = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, -1.0])}
    assert same(targets.follow(params, old, 1.0, jnp.int32(4), 2), params)
    assert same(targets.follow(params, old, 1.0, jnp.int32(5), 2), old)
    np.testing.assert_allclose(targets.follow(params, old, 0.25)["w"], [2.5, -0.25])


def test_a_step_samples_the_replay():
    """The batch that the replay gives for the first key, its weights, and the learning rate, nothing else."""
    options = {"learning_starts": 0, "optimizer": optax.sgd, "learning_rate": 0.1, "max_grad_norm": None}
    agent = dqn(PLAIN, **SMALL, **options, huber_delta=None)
    buffer = replays.uniform(SMALL["replay_capacity"], n_step=1, gamma=0.99)
    state, seen, key = agent.init(jax.random.key(0), 2), trajectory(4, 2), jax.random.key(5)
    sample = buffer.sample(jax.random.split(key)[0], buffer.add(state.per_env, replaying.stored(PLAIN, seen)), N)
    q_values = functions(dqn, PLAIN, **SMALL).action_values

    def loss(params):
        value, following = (
            q_values(state._replace(params=p), x)
            for p, x in (
                (params, sample.transition.observation),
                (state.target_params, sample.transition.next_observation),
            )
        )
        target = sample.transition.reward + 0.99 * sample.transition.discount * following.max(-1)
        return 0.5 * jnp.mean((value[jnp.arange(N), sample.transition.action] - target) ** 2)

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, jax.grad(loss)(state.params))
    new, _ = jax.jit(agent.update)(key, state, seen)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), new.params, expected)


def test_priorities_are_written():
    """Where the batch lay the tree holds ``(|error| + epsilon)^alpha``, elsewhere the 1 of what was never looked at."""
    agent = dqn(PLAIN, **SMALL, learning_starts=0, prioritized=True, learning_rate=0.0)
    buffer = replays.prioritized(SMALL["replay_capacity"], n_step=1, gamma=0.99)
    state, seen, key = agent.init(jax.random.key(0), 2), trajectory(4, 2), jax.random.key(5)
    sample = buffer.sample(jax.random.split(key)[0], buffer.add(state.per_env, seen), N)
    q_values = functions(dqn, PLAIN, **SMALL).action_values
    value, following = (q_values(state, x) for x in (sample.transition.observation, sample.transition.next_observation))
    target = sample.transition.reward + sample.discount * following.max(-1)
    errors = np.asarray(abs(target - value[jnp.arange(N), sample.transition.action]))
    new, _ = jax.jit(agent.update)(key, state, seen)
    expected = np.ones((4, 2))
    expected[sample.index.row, sample.index.env] = (errors + 1e-6) ** 0.6
    total = replays.sum_tree.total(new.per_env.tree)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-4)
    assert abs(total - 8.0) > 0.1


def test_noisy_values_explore_and_their_means_exploit():
    agent = dqn(PLAIN, **SMALL, noisy=True, noisy_sigma=3.0, learning_starts=0)
    state, observation = agent.init(jax.random.key(0)), jnp.ones((1, D))
    keys = jax.random.split(jax.random.key(1), 100)
    explored, exploited = (
        jax.jit(jax.vmap(partial(agent.act, explore=explore), in_axes=(0, None, None)))(keys, state, observation)[0]
        for explore in (True, False)
    )
    assert len(np.unique(explored)) > 1 and len(np.unique(exploited)) == 1


def test_rainbow_is_c51_with_everything_on():
    on = {"double": True, "dueling": True, "noisy": True, "prioritized": True, "n_step": 3}
    ours, plain = (make(PLAIN, **SMALL, learning_starts=0, **ATOMS) for make in (rainbow, partial(c51, **on)))
    key, seen = jax.random.key(0), trajectory(4, 2)
    new = [jax.jit(agent.update)(key, agent.init(key, 2), seen)[0] for agent in (ours, plain)]
    assert same(*new)
    off, bare = (
        make(PLAIN, **SMALL, learning_starts=0, **ATOMS, n_step=1)
        for make in (partial(rainbow, double=False, dueling=False, noisy=False, prioritized=False), c51)
    )
    new = [jax.jit(agent.update)(key, agent.init(key, 2), seen)[0] for agent in (off, bare)]
    assert same(*new)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (partial(c51, v_min=2.0, v_max=2.0), ValueError, "v_max: got 2.0, must be above v_min=2.0"),
        (partial(c51, v_max="9"), TypeError, "v_max: got '9', must be a number"),
        (partial(rainbow, num_atoms=1), ValueError, "num_atoms: got 1, must be at least 2"),
        (partial(qr_dqn, num_quantiles=0), ValueError, "num_quantiles: got 0"),
        (partial(qr_dqn, kappa=-1.0), ValueError, "kappa: got -1.0"),
        (partial(iqn, num_target_fractions=2.0), TypeError, "num_target_fractions: got 2.0"),
        (partial(iqn, kappa=float("nan")), ValueError, "kappa: got nan"),
        (partial(dqn, huber_delta=0.0), ValueError, "huber_delta: got 0.0"),
        (partial(dqn, epsilon_end=1.5), ValueError, "epsilon_end: got 1.5"),
        (
            partial(dqn, prioritized=True, replay=partial(replays.prioritized, alpha=0.5)),
            ValueError,
            "prioritized: got True together",
        ),
        (partial(dqn, replay="uniform"), TypeError, "replay: got 'uniform'"),
        (partial(dqn, learning_starts=-1), ValueError, "learning_starts: got -1"),
        (partial(dqn, num_atoms=51), TypeError, "dqn: unknown option 'num_atoms'"),
    ],
)
def test_what_is_wrong_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make(PLAIN)


FUNCTIONS = {
    **{name: make for name, make in RECIPES.items() if name not in ("double", "square")},
    "dueling": partial(dqn, dueling=True, noisy=True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_are_those_that_act(name):
    """Action values of legal and illegal actions, the value of the best legal one, and the action that is taken."""
    make = FUNCTIONS[name]
    agent = make(MASKED, torso=SMALL["torso"])
    public = functions(make.func if isinstance(make, partial) else make, MASKED, torso=SMALL["torso"], **keywords(make))
    state, observation = agent.init(jax.random.key(0), 2), batch(masked=True).transition.observation
    q = np.asarray(public.action_values(state, observation))
    legal = np.where(observation.action_mask, q, -np.inf)
    assert q.shape == (N, A) and not (q.argmax(-1) == legal.argmax(-1)).all()
    np.testing.assert_allclose(public.value(state, observation), legal.max(-1), rtol=1e-6)
    greedy, _ = agent.act(jax.random.key(1), state, observation, explore=False)
    np.testing.assert_array_equal(greedy, legal.argmax(-1))
    np.testing.assert_array_equal(public.policy(state, observation), greedy)


def keywords(make):
    return make.keywords if isinstance(make, partial) else {}


def nth_reward(scale):
    """A reward model that counts its updates, starting from ``scale``, and pays the count for every step."""
    return RewardModel(
        init=lambda key, num_envs=1: jnp.float32(scale),
        reward=lambda key, state, trajectory: jnp.full_like(trajectory.reward, state),
        update=lambda key, state, trajectory: (state + 1.0, {"count": state + 1.0}),
    )


@pytest.mark.parametrize("n_step", [1, 3])
def test_old_transitions_get_the_newest_reward(n_step):
    """The second update pays 2 for every step, the ones of the first trajectory included; windows sum it."""
    gamma, options = 0.9, {**SMALL, "learning_starts": 0, "optimizer": optax.sgd, "learning_rate": 0.0}
    agent = dqn(PLAIN, **options, gamma=gamma, n_step=n_step, huber_delta=None, reward_model=nth_reward(0.0))
    state, update = agent.init(jax.random.key(0), 2), jax.jit(agent.update)
    # Without values the loss of a sample is half the square of its reward.
    state = state._replace(**{name: jax.tree.map(jnp.zeros_like, state.params) for name in ("params", "target_params")})
    for i in range(1, 3):
        state, metrics = update(jax.random.key(i), state, trajectory(4, 2, seed=i))
        assert metrics["reward_model_count"] == i and state.reward_model == i
        # From windows of one step, at the end of the ring, to n.
        sums = [i * sum(gamma**k for k in range(m)) for m in range(1, n_step + 1)]
        assert 0.5 * sums[0] ** 2 - 1e-4 <= metrics["loss"] <= 0.5 * sums[-1] ** 2 + 1e-4
        if n_step == 1:
            np.testing.assert_allclose(metrics["loss"], 0.5 * i**2, rtol=1e-5)
        else:
            assert metrics["loss"] > 0.5 * sums[0] ** 2 + 0.1


def test_without_a_reward_model_rewards_are_those_of_the_environment():
    """And a model that repeats them changes nothing, bit for bit."""
    repeats = RewardModel(
        init=lambda key, num_envs=1: (),
        reward=lambda key, state, trajectory: trajectory.reward,
        update=lambda key, state, trajectory: (state, {}),
    )
    key, seen = jax.random.key(0), trajectory(4, 2)
    agents = [
        dqn(PLAIN, **SMALL, learning_starts=0, n_step=2, **options) for options in ({}, {"reward_model": repeats})
    ]
    new = [jax.jit(agent.update)(key, agent.init(key, 2), seen)[0] for agent in agents]
    assert same(*new)


def test_learning_rate_goes_to_0_over_the_updates():
    """Of 2 updates of 2 gradient steps: a third update moves nothing. Metrics tell, of epsilon too."""
    options = {"learning_starts": 0, "num_gradient_steps": 2, "anneal_learning_rate": True, "num_updates": 2}
    agent = dqn(PLAIN, **SMALL, **options, learning_rate=0.5, epsilon_start=1.0, epsilon_end=0.0, epsilon_steps=16)
    states, seen, update = [agent.init(jax.random.key(0), 2)], [], jax.jit(agent.update)
    for i in range(3):
        state, metrics = update(jax.random.key(i), states[-1], trajectory(4, 2, seed=i))
        states, seen = [*states, state], [*seen, metrics]
    assert [float(metrics["learning_rate"]) for metrics in seen] == [0.5, 0.25, 0.0]
    assert [float(metrics["epsilon"]) for metrics in seen] == [1.0, 0.5, 0.0]
    assert [int(metrics["gradient_steps"]) for metrics in seen] == [2, 4, 6]
    assert not same(states[0].params, states[1].params) and not same(states[1].params, states[2].params)
    assert same(states[2].params, states[3].params)
