"""The actor-critic family: targets, losses, directions of gradients, delay, noise; against plain NumPy loops."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import actor_critics as family
from jaxrl.agents import ddpg, dqn, off_policy, ppo, sac, td3
from jaxrl.agents.when import when
from jaxrl.networks import MLP
from jaxrl.replay import Sample
from jaxrl.types import Box, Discrete, Observation, Spec, Transition

N, F, D, A = 6, 4, 2, 3
VECTOR = jax.ShapeDtypeStruct((F,), jnp.float32)
BOX = Spec(VECTOR, Box((D,), -2.0, 4.0))
MASKED = Spec(Observation(VECTOR, action_mask=jax.ShapeDtypeStruct((A,), jnp.bool_)), Discrete(A))
SMALL = {"torso": MLP(hidden=(5,), activation="relu"), "replay_capacity": 64, "batch_size": N}
TAU, RATE = 0.25, 0.125
RECIPES = {
    "ddpg": partial(ddpg, BOX),
    "td3": partial(td3, BOX, policy_delay=3),
    "td3_plain": partial(td3, BOX, target_noise=0.0, policy_delay=1),
    "sac": partial(sac, BOX, initial_temperature=0.5),
    "sac_fixed": partial(sac, BOX, temperature=0.3),
    "sac_discrete": partial(sac, MASKED, initial_temperature=0.5, target_entropy=0.4),
}
CRITICS = {name: 1 if name == "ddpg" else 2 for name in RECIPES}
KEY = jax.random.key(11)


@cache
def made(name):
    """Parts, and a learner whose target is another's, after moving all parameters off their initial values."""
    agent = RECIPES[name](**SMALL, optimizer=optax.sgd, learning_rate=RATE, tau=TAU)
    parts = family.parts_of(agent)

    def moved(seed):
        learner = agent.init(jax.random.key(seed)).learner
        nudge = lambda x: x + 0.2 * np.random.default_rng(x.size).normal(size=x.shape).astype("f4")  # noqa: E731
        return learner._replace(params=jax.tree.map(nudge, learner.params))

    learner, other = moved(0), moved(1)
    target = family.with_target(parts, other.params)
    return agent, parts, learner._replace(target_params=target), jax.jit(partial(family.learn, parts))


def batch(name, seed=0):
    """A sample whose weights, discounts and rewards all differ, as 3-step windows leave them."""
    rng = np.random.default_rng(seed)
    observation, following = (jnp.array(rng.normal(size=(N, F)), jnp.float32) for _ in range(2))
    action = jnp.array(rng.uniform(-1, 1, size=(N, D)), jnp.float32)
    if name == "sac_discrete":
        masks = jnp.array([[True, False, True], [False, True, True]] * (N // 2))
        observation, following = Observation(observation, masks), Observation(following, masks[::-1])
        action = jnp.array([0, 2, 2, 1, 0, 2], jnp.int32)
    terminated = jnp.arange(N) == 2
    reward = jnp.array(rng.normal(size=N), jnp.float32)
    transition = Transition(
        observation, action, reward, 1.0 - terminated, terminated, jnp.arange(N) == 4, following, ()
    )
    discount = jnp.array([0.99, 0.97, 0.0, 0.99, 0.98, 0.97], jnp.float32)
    weight = jnp.array([1.0, 0.5, 0.9, 0.2, 0.7, 0.4], jnp.float32)
    return Sample(transition, discount, weight, None)


def numpy_mlp(torso, head, x):
    hidden = np.maximum(x @ torso["Dense_0"]["kernel"] + torso["Dense_0"]["bias"], 0)
    while "kernel" not in head:
        (head,) = head.values()
    return head["kernel"] @ hidden + head["bias"]


def numpy_q(params, e, x, action=None):
    """``Q_e(s, a)`` of one observation, or of all actions."""
    member = jax.tree.map(lambda leaf: np.asarray(leaf[e], np.float64), params.critics["params"]["members"])
    if action is None:
        return numpy_mlp(member["q_torso"], member["q_head"], x)
    return numpy_mlp(member["critic_torso"], member["value_head"], np.concatenate([x, action]))[0]


def numpy_policy(params, x, head="action_head"):
    actor = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params.actor["params"])
    return numpy_mlp(actor["actor_torso"], actor[head], x)


def numpy_logits(params, observation, i):
    logits = numpy_policy(params, np.asarray(observation.features[i]), "policy_head")
    legal = np.asarray(observation.action_mask[i])
    weights = np.where(legal, np.exp(logits - logits.max()), 0.0)
    return weights / weights.sum(), legal


def alpha(name, params):
    return 0.3 if name == "sac_fixed" else np.exp(float(params.temperature))


def numpy_next_value(name, parts, learner, key, following, i):
    """The bootstrap of one sample, from the equations of the papers."""
    online, target = learner.params, learner.target_params
    if name == "sac_discrete":
        probs, legal = numpy_logits(online, following, i)
        q = np.min([numpy_q(target, e, np.asarray(following.features[i])) for e in range(2)], axis=0)
        return sum(p * (q[a] - alpha(name, online) * np.log(p)) for a, p in enumerate(probs) if legal[a])
    x = np.asarray(following[i])
    if name.startswith("sac"):
        policy = parts.networks.policy(online, following)
        raw, log_prob = (np.asarray(y[i]) for y in policy.sample_and_log_prob(seed=key))
        q = min(numpy_q(target, e, x, np.tanh(raw)) for e in range(2))
        return q - alpha(name, online) * log_prob
    action = np.tanh(numpy_policy(target, x))
    if name == "td3":
        noise = np.asarray(0.2 * jax.random.normal(key, (N, D)))[i]
        action = np.clip(action + np.clip(noise, -0.5, 0.5), -1, 1)
    return min(numpy_q(target, e, x, action) for e in range(CRITICS[name]))


@pytest.mark.parametrize("name", RECIPES)
def test_critic_loss_and_priorities(name):
    """Discounts of windows, terminations, minima over twins, entropies and weights, one sample at a time."""
    _, parts, learner, _ = made(name)
    sample = batch(name)
    observation, action, following = (
        getattr(sample.transition, part) for part in ("observation", "action", "next_observation")
    )
    stepped, priorities, metrics = jax.jit(partial(family.critic_step, parts))(KEY, learner, sample)
    terms, errors = [], []
    for i in range(N):
        value = numpy_next_value(name, parts, learner, KEY, following, i)
        y = float(sample.transition.reward[i]) + float(sample.discount[i]) * value
        if name == "sac_discrete":
            q = [numpy_q(learner.params, e, np.asarray(observation.features[i]))[int(action[i])] for e in range(2)]
        else:
            args = np.asarray(observation[i]), np.asarray(action[i])
            q = [numpy_q(learner.params, e, *args) for e in range(CRITICS[name])]
        terms.append(float(sample.weight[i]) * sum(0.5 * (each - y) ** 2 for each in q))
        errors.append(np.mean([abs(each - y) for each in q]))
    np.testing.assert_allclose(metrics["loss"], np.mean(terms), rtol=1e-4)
    np.testing.assert_allclose(priorities, errors, rtol=1e-4)
    for before, after in zip(*map(jax.tree.leaves, (learner.params.critics, stepped.params.critics)), strict=True):
        assert (before != after).any(), "every critic learns"
    same = jax.tree.map(lambda x, y: (x == y).all(), stepped.params.actor, learner.params.actor)
    assert all(jax.tree.leaves(same)), "the actor does not learn here"


@pytest.mark.parametrize("name", RECIPES)
def test_targets_are_read(name):
    """Perturbing each target moves the loss; nothing else is bootstrapped from than what the recipe says."""
    _, parts, learner, _ = made(name)
    step = jax.jit(partial(family.critic_step, parts))
    loss = lambda learner: float(step(KEY, learner, batch(name))[2]["loss"])  # noqa: E731
    shifted = lambda tree: jax.tree.map(lambda x: x + 0.3, tree)  # noqa: E731
    target = learner.target_params
    assert loss(learner) != loss(learner._replace(target_params=target._replace(critics=shifted(target.critics))))
    moved = learner._replace(params=learner.params._replace(actor=shifted(learner.params.actor)))
    if name.startswith("sac"):
        assert target.actor == () and loss(moved) != loss(learner), "soft targets act by the policy itself"
    else:
        assert loss(learner) != loss(learner._replace(target_params=target._replace(actor=shifted(target.actor))))
        assert loss(moved) == loss(learner), "deterministic targets act by the target policy"


def policy_objective(name, learner, observation):
    """What the actor climbs, by NumPy where it needs no random numbers."""
    params = learner.params
    if name == "sac_discrete":
        total = 0.0
        for i in range(N):
            probs, legal = numpy_logits(params, observation, i)
            q = np.min([numpy_q(params, e, np.asarray(observation.features[i])) for e in range(2)], axis=0)
            total += sum(p * (q[a] - alpha(name, params) * np.log(p)) for a, p in enumerate(probs) if legal[a])
        return total / N
    values = [numpy_q(params, 0, np.asarray(x), np.tanh(numpy_policy(params, np.asarray(x)))) for x in observation]
    return np.mean(values)


@pytest.mark.parametrize("name", ["ddpg", "td3_plain", "sac_discrete"])
def test_actor_climbs_the_paper_s_objective(name):
    """A step of plain gradient descent is the numerical gradient of the objective, upwards."""
    _, parts, learner, _ = made(name)
    observation = batch(name).transition.observation
    stepped, _ = jax.jit(partial(family.actor_step, parts))(KEY, learner, observation)
    change = jax.tree.map(lambda new, old: (new - old) / RATE, stepped.params.actor, learner.params.actor)
    shift = lambda size: jax.tree.map(lambda p, d: p + size * d, learner.params.actor, change)  # noqa: E731
    values = [
        policy_objective(name, learner._replace(params=learner.params._replace(actor=shift(size))), observation)
        for size in (-1e-3, 1e-3)
    ]
    squared_norm = sum(float((x**2).sum()) for x in jax.tree.leaves(change))
    # Along its own direction a gradient's slope is its squared length.
    np.testing.assert_allclose((values[1] - values[0]) / 2e-3, squared_norm, rtol=2e-2)
    assert squared_norm > 1e-4


def test_sac_climbs_value_and_entropy():
    """Its gradient goes through the sample: against finite differences with the same random numbers."""
    _, parts, learner, _ = made("sac_fixed")
    observation = batch("sac_fixed").transition.observation
    stepped, metrics = jax.jit(partial(family.actor_step, parts))(KEY, learner, observation)
    change = jax.tree.map(lambda new, old: (new - old) / RATE, stepped.params.actor, learner.params.actor)

    def objective(size):
        actor = jax.tree.map(lambda p, d: p + size * d, learner.params.actor, change)
        params = learner.params._replace(actor=actor)
        raw, log_prob = parts.networks.policy(params, observation).sample_and_log_prob(seed=KEY)
        q = [[numpy_q(params, e, np.asarray(observation[i]), np.tanh(raw[i])) for i in range(N)] for e in range(2)]
        return np.mean(np.min(q, axis=0) - 0.3 * np.asarray(log_prob))

    squared_norm = sum(float((x**2).sum()) for x in jax.tree.leaves(change))
    np.testing.assert_allclose((objective(2e-3) - objective(-2e-3)) / 4e-3, squared_norm, rtol=3e-2)
    assert stepped.params.temperature == () and "temperature" not in metrics


@pytest.mark.parametrize("name", ["sac", "sac_discrete"])
def test_temperature_follows_the_entropy(name):
    """Up where the entropy is below its target, down where it is above, by how much it is off; targets by default."""
    _, parts, learner, _ = made(name)
    observation = batch(name).transition.observation
    wanted = 0.4 * np.log(2.0) if name == "sac_discrete" else -float(D)
    for offset in (-1.0, 1.0):
        target = lambda observation, offset=offset: parts.rule.temperature.target_entropy(observation) + offset  # noqa: E731
        rule = parts.rule._replace(temperature=parts.rule.temperature._replace(target_entropy=target))
        stepped, metrics = jax.jit(partial(family.actor_step, parts._replace(rule=rule)))(KEY, learner, observation)
        expected = learner.params.temperature - RATE * (metrics["entropy"] - (wanted + offset))
        np.testing.assert_allclose(stepped.params.temperature, expected, rtol=1e-4)
        np.testing.assert_allclose(metrics["temperature"], np.exp(stepped.params.temperature), rtol=1e-5)


def test_the_policy_is_late_and_targets_with_it():
    """Of three gradient steps, the third moves the actor and the targets, by tau towards the new parameters."""
    _, _, learner, learn = made("td3")
    for count in range(1, 7):
        new, _, _ = learn(jax.random.fold_in(KEY, count), learner, batch("td3", count))
        assert new.gradient_steps == count
        due = count % 3 == 0
        for part in (lambda x: x.params.actor, lambda x: x.target_params):
            moved = [(x != y).any() for x, y in zip(*map(jax.tree.leaves, map(part, (learner, new))), strict=True)]
            assert all(moved) if due else not any(moved)
        if due:
            expected = jax.tree.map(
                lambda p, t: TAU * p + (1 - TAU) * t,
                family.Roles(new.params.actor, new.params.critics),
                learner.target_params,
            )
            for x, y in zip(*map(jax.tree.leaves, (new.target_params, expected)), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
        learner = new


def test_late_steps_are_not_computed_where_no_member_is_due():
    """Under vmap with a batched count too; and members of different ages each keep their own pace."""
    calls = []

    def step(x):
        jax.debug.callback(lambda x: calls.append(float(x)), x)
        return x + 1.0

    run = jax.jit(jax.vmap(lambda count, x: when(count % 3 == 0, step, x)))
    assert run(jnp.array([1, 2]), jnp.array([5.0, 6.0])).tolist() == [5.0, 6.0]
    jax.effects_barrier()
    assert calls == []
    assert run(jnp.array([3, 2]), jnp.array([5.0, 6.0])).tolist() == [6.0, 6.0]
    jax.effects_barrier()
    assert sorted(calls) == [5.0, 6.0]
    twice = jax.vmap(jax.vmap(lambda count: when(count % 3 == 0, lambda x: x + 1, count)))
    assert twice(jnp.arange(4).reshape(2, 2)).tolist() == [[1, 1], [2, 4]]


def test_exploration_is_noise_around_the_policy_within_the_bounds():
    observation = jax.random.normal(KEY, (512, F))
    for name, make in {"ddpg": ddpg, "td3": td3}.items():
        quiet, loud = (make(BOX, **SMALL, learning_starts=0, exploration_noise=noise) for noise in (0.1, 5.0))
        state = quiet.init(jax.random.key(0))
        best, _ = quiet.act(KEY, state, observation, explore=False)
        action, stored = quiet.act(KEY, state, observation)
        assert best.shape == action.shape == stored.shape == (512, D)
        np.testing.assert_allclose((action - best).std(), 0.1 * 3.0, rtol=0.1, err_msg=name)
        np.testing.assert_allclose(action, 1.0 + 3.0 * stored, rtol=1e-5, atol=1e-5)
        wild, stored = loud.act(KEY, state, observation)
        assert wild.min() == -2.0 and wild.max() == 4.0 and abs(stored).max() == 1.0


def test_smoothing_noise_is_clipped():
    """The action that targets are valued at is never further than the clip from the target policy's."""
    seen = []
    parts = family.parts_of(td3(BOX, **SMALL, target_noise=10.0, target_noise_clip=0.25))
    learner = made("td3")[2]
    following = jnp.concatenate([batch("td3", seed).transition.next_observation for seed in range(20)])

    class Recorded(family.Networks):
        def values(self, params, observation, *action):
            seen.append(np.asarray(action[0]))
            return super().values(params, observation, *action)

    nets = Recorded(*parts.networks)
    parts.rule.next_value(KEY, nets, learner.params, learner.target_params, following)
    best = np.asarray(parts.networks.policy(learner.target_params, following))
    assert np.abs(seen[0]).max() <= 1.0
    inside = np.abs(best) < 0.75
    offset = (seen[0] - best)[inside]
    assert offset.max() < 0.2501 and offset.min() > -0.2501
    # Of a deviation 40 times the clip, nearly all is cut, on either side.
    assert (offset > 0.2499).mean() > 0.4 and (offset < -0.2499).mean() > 0.4


def test_sac_samples_and_its_best_is_the_mean():
    agent, parts, learner, _ = made("sac")
    state = agent.init(jax.random.key(0))._replace(params=learner.params, steps=jnp.int32(10**6))
    observation = jax.random.normal(KEY, (64, F))
    policy = parts.networks.policy(learner.params, observation)
    best, stored = agent.act(KEY, state, observation, explore=False)
    np.testing.assert_allclose(stored, np.tanh(policy.loc), rtol=1e-5)
    np.testing.assert_allclose(best, 1.0 + 3.0 * stored, rtol=1e-5, atol=1e-5)
    acts = jax.vmap(lambda key: agent.act(key, state, observation)[1])(jax.random.split(KEY, 256))
    raw = np.arctanh(np.clip(acts, -0.99999, 0.99999))
    np.testing.assert_allclose(raw.mean(0), policy.loc, atol=0.5)
    assert (np.abs(acts) <= 1.0).all() and (raw.std(0) > 0.3).all()


@pytest.mark.parametrize("name", ["td3", "sac_discrete"])
def test_warm_up(name):
    """Uniform actions and an untouched learner until learning starts; then both end together."""
    spec = MASKED if name == "sac_discrete" else BOX
    agent = RECIPES[name](**SMALL, learning_starts=8)
    update = jax.jit(agent.update)
    state = agent.init(jax.random.key(0), 4)
    sample = batch(name).transition
    for count in (4, 8):
        row = jax.tree.map(lambda x: x[None, :4], sample)
        if name == "td3":
            row = row._replace(extras=row.action)
        new, metrics = update(KEY, state, row)
        assert new.steps == count and new.per_env.filled == count // 4
        assert new.gradient_steps == (count >= 8)
        learned = any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (state.params, new.params)), strict=True))
        assert learned == (count >= 8) and (metrics["loss"] != 0) == (count >= 8)
        state = new
    if spec is BOX:
        fresh, many = agent.init(jax.random.key(0), 4), jnp.zeros((4096, F))
        early = agent.act(KEY, fresh, many)[1]
        np.testing.assert_allclose([early.mean(), early.std()], [0.0, 3**-0.5], atol=0.03)
        assert agent.act(KEY, state, many)[1].std() < 0.2


def test_parts_and_errors():
    assert family.parts_of(ddpg(BOX)).rule.num_critics == 1
    for other in (ppo(BOX), dqn(MASKED)):
        with pytest.raises(TypeError, match="agent: got Agent"):
            family.parts_of(other)
    with pytest.raises(TypeError, match="spec: td3 gives continuous actions.*see sac"):
        td3(MASKED)
    for make, option in [
        (ddpg, {"exploration_noise": -1.0}),
        (td3, {"policy_delay": 0}),
        (td3, {"target_noise": "loud"}),
        (sac, {"initial_temperature": 0.0}),
        (sac, {"temperature": -0.1}),
        (sac, {"actor_learning_rate": -1e-3}),
    ]:
        (name,) = option
        with pytest.raises((TypeError, ValueError), match=f"{name}: got"):
            make(BOX, **option)
    with pytest.raises(TypeError, match="spec: got None"):
        sac(None)
    state = jax.eval_shape(off_policy.config_of(sac(BOX, temperature=0.1)).method.init, KEY)
    assert state.optimizer_state.temperature == () and state.target_params.actor == ()
