"""The value family: targets, losses, masks, warm-up, priorities; against rlax and plain loops."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

from jaxrl import replay as replays
from jaxrl.agents import action_values as family
from jaxrl.agents import c51, dqn, iqn, off_policy, ppo, qr_dqn, rainbow
from jaxrl.networks import MLP
from jaxrl.ops.distributional import quantile_midpoints
from jaxrl.replay import Sample
from jaxrl.types import Box, Discrete, Observation, Spec, Transition

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


@cache
def made(name, masked=False):
    """Parts, parameters, other parameters for the target, and the jitted loss."""
    agent = RECIPES[name](MASKED if masked else PLAIN, **SMALL)
    parts = family.parts_of(agent)
    params, target = (agent.init(jax.random.key(seed)).params for seed in range(2))
    return parts, params, target, jax.jit(partial(family.loss, parts))


def heads(name, key, masked=False):
    """What the reference losses are made of: head outputs of the batch, drawn as the loss draws them."""
    parts, params, target, _ = made(name, masked)
    online_key, target_key, *noise = jax.random.split(key, 5)
    transition = batch(masked).transition
    online_inputs = parts.criterion.online_inputs(online_key, N)
    following = transition.next_observation
    online = family.outputs(parts, params, transition.observation, online_inputs, noise[2])
    next_target = family.outputs(parts, target, following, parts.criterion.target_inputs(target_key, N), noise[0])
    chooser = family.values(parts, params if parts.double else target, following, noise[1])
    return online, next_target, chooser, online_inputs


def reference(name, key):
    """Terms of the loss ``[N]`` by rlax, one sample at a time, from the outputs of the heads."""
    online, following, chooser, inputs = heads(name, key)
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
    return np.array(terms, np.float64)


@pytest.mark.parametrize("name", RECIPES)
def test_loss_is_the_reference(name):
    key, sample = jax.random.key(7), batch()
    _, params, target, loss = made(name)
    total, (priorities, metrics) = loss(params, target, key, sample)
    expected = (np.asarray(sample.weight, np.float64) * reference(name, key)).mean()
    np.testing.assert_allclose(total, expected, rtol=2e-4)
    np.testing.assert_allclose(metrics["loss"], total)
    assert priorities.shape == (N,) and (priorities >= -1e-6).all()


@pytest.mark.parametrize("name", ["dqn", "qr_dqn"])
def test_priority_is_the_error_of_the_value(name):
    key, sample = jax.random.key(7), batch()
    parts, params, target, loss = made(name)
    value, following = (
        np.asarray(family.values(parts, p, o))
        for p, o in ((params, sample.transition.observation), (target, sample.transition.next_observation))
    )
    _, (priorities, _) = loss(params, target, key, sample)
    expected = sample.transition.reward + sample.discount * following.max(-1)
    np.testing.assert_allclose(priorities, abs(expected - value[np.arange(N), sample.transition.action]), atol=1e-5)


def test_priority_of_c51_is_0_where_there_is_nothing_left_to_learn():
    """Terminal with reward 0 is all mass on the middle atom, which these logits say already."""
    parts = made("c51")[0]
    logits = jnp.where(jnp.arange(K) == K // 2, 40.0, 0.0)[None]
    zero = jnp.zeros(1)
    loss, priority = parts.criterion.terms(logits, jnp.zeros((1, K)), zero, zero)
    np.testing.assert_allclose([loss[0], priority[0]], 0.0, atol=1e-6)
    uniform, kl = parts.criterion.terms(jnp.zeros((1, K)), jnp.zeros((1, K)), zero, jnp.ones(1))
    np.testing.assert_allclose([uniform[0], kl[0]], [np.log(K), 0.0], atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_target_network_is_read(name):
    """And gives no gradient."""
    parts, params, target, loss = made(name)
    key, sample = jax.random.key(0), batch()
    before = loss(params, target, key, sample)[0]
    moved = jax.tree.map(lambda x: x + 0.3, target)
    assert abs(loss(params, moved, key, sample)[0] - before) > 1e-4
    grads = jax.grad(lambda t: family.loss(parts, params, t, key, sample)[0])(target)
    assert all((np.asarray(leaf) == 0.0).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ["dqn", "double", "c51", "iqn"])
def test_no_illegal_action_in_the_target(name):
    """What the target network says of illegal next actions changes nothing, however large."""
    parts, params, target, _ = made(name, masked=True)
    key, sample = jax.random.key(3), batch(masked=True)
    _, following, _, _ = heads(name, key, masked=True)
    legal = np.asarray(sample.transition.next_observation.action_mask)
    values = np.asarray(family.values(parts, target, sample.transition.next_observation))
    assert not legal[np.arange(N), values.argmax(-1)].all(), "the mask has to matter here"
    observation, last = sample.transition.next_observation, jax.random.split(key, 5)[3]
    action = family.best_next(parts, params, target, following, observation, last)
    assert legal[np.arange(N), action].all()


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
    copied = off_policy.moving_target(1.0, 2)
    assert same(copied(params, old, jnp.int32(4)), params)
    assert same(copied(params, old, jnp.int32(5)), old)
    mixed = off_policy.moving_target(0.25, 1)(params, old, jnp.int32(1))
    np.testing.assert_allclose(mixed["w"], [2.5, -0.25])


def test_one_gradient_step_is_the_reference_gradient():
    """With plain SGD: the sampled batch, its weights, and the learning rate, nothing else."""
    agent = dqn(PLAIN, **SMALL, learning_starts=0, optimizer=optax.sgd, learning_rate=0.1, max_grad_norm=None)
    config, parts = off_policy.config_of(agent), family.parts_of(agent)
    state, seen, key = agent.init(jax.random.key(0), 2), trajectory(4, 2), jax.random.key(5)
    sample_key, learn_key = jax.random.split(key)
    sample = config.replay.sample(sample_key, config.replay.add(state.per_env, seen), N)
    grads = jax.grad(lambda p: family.loss(parts, p, state.target_params, learn_key, sample)[0])(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    new, _ = jax.jit(agent.update)(key, state, seen)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(new.params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_priorities_are_written():
    """Where the batch lay the tree holds ``(|error| + epsilon)^alpha``, elsewhere the 1 of what was never looked at."""
    agent = dqn(PLAIN, **SMALL, learning_starts=0, prioritized=True, learning_rate=0.0)
    config, parts = off_policy.config_of(agent), family.parts_of(agent)
    state, seen, key = agent.init(jax.random.key(0), 2), trajectory(4, 2), jax.random.key(5)
    sample_key, learn_key = jax.random.split(key)
    sample = config.replay.sample(sample_key, config.replay.add(state.per_env, seen), N)
    _, (errors, _) = family.loss(parts, state.params, state.target_params, learn_key, sample)
    new, _ = jax.jit(agent.update)(key, state, seen)
    expected = np.ones((4, 2))
    expected[sample.index.row, sample.index.env] = (np.asarray(errors) + 1e-6) ** 0.6
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
    off = family.parts_of(rainbow(PLAIN, double=False, dueling=False, noisy=False))
    assert not (off.double or off.noisy or off.network.head.dueling)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (partial(c51, v_min=2.0, v_max=2.0), ValueError, "v_max: got 2.0, must lie above v_min, 2.0"),
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


def test_other_agents_have_no_action_values():
    with pytest.raises(TypeError, match="off-policy recipes"):
        family.parts_of(ppo(Spec(VECTOR, Box((2,), -1.0, 1.0))))


def test_learning_rate_goes_to_0_over_the_updates():
    """Of 2 updates of 2 gradient steps: a third update moves nothing."""
    options = {"learning_starts": 0, "num_gradient_steps": 2, "anneal_learning_rate": True, "num_updates": 2}
    agent = dqn(PLAIN, **SMALL, **options)
    states, update = [agent.init(jax.random.key(0), 2)], jax.jit(agent.update)
    for i in range(3):
        states.append(update(jax.random.key(i), states[-1], trajectory(4, 2, seed=i))[0])
    assert not same(states[0].params, states[1].params) and not same(states[1].params, states[2].params)
    assert same(states[2].params, states[3].params)
