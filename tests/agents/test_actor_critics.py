"""DDPG, TD3 and SAC: targets, losses, directions of gradients, delay, noise; against plain NumPy loops.

Everything is seen through ``init``, ``act``, ``update``: a replay that always gives one batch feeds the update.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import ddpg, sac, td3
from jaxrl.agents.parts.functions import functions
from jaxrl.agents.parts.when import when
from jaxrl.networks import MLP
from jaxrl.replay import Replay, Sample
from jaxrl.types import Box, Discrete, Observation, RewardModel, Spec, Transition

N, F, D, A = 6, 4, 2, 3
VECTOR = jax.ShapeDtypeStruct((F,), jnp.float32)
BOX = Spec(VECTOR, Box((D,), -2.0, 4.0))
MASKED = Spec(Observation(VECTOR, action_mask=jax.ShapeDtypeStruct((A,), jnp.bool_)), Discrete(A))
TORSO = MLP(hidden=(5,), activation="relu")
SMALL = {"torso": TORSO, "replay_capacity": 64, "batch_size": N}
TAU, RATE = 0.25, 0.125
LOUD = {"target_noise": 10.0, "target_noise_clip": 0.25}
RECIPES = {
    "ddpg": partial(ddpg, BOX),
    "td3": partial(td3, BOX, policy_delay=3),
    "td3_loud": partial(td3, BOX, policy_delay=3, **LOUD),
    "td3_plain": partial(td3, BOX, target_noise=0.0, policy_delay=1),
    "sac": partial(sac, BOX, initial_temperature=0.5),
    "sac_fixed": partial(sac, BOX, temperature=0.3),
    "sac_discrete": partial(sac, MASKED, initial_temperature=0.5, target_entropy=0.4),
}
CRITICS = {name: 1 if name == "ddpg" else 2 for name in RECIPES}
KEY = jax.random.key(11)
CRITIC_KEY, ACTOR_KEY = jax.random.split(jax.random.split(KEY)[1])  # after that of the sample


def single_batch(capacity, *, n_step, gamma):
    """A replay whose state is the one batch that it gives, and the priorities that it was told."""
    return Replay(
        init=lambda example, num_envs: (),
        add=lambda state, trajectory: state,
        sample=lambda key, state, batch_size: state[0],
        update_priorities=lambda state, index, priorities: (state[0], priorities),
    )


class Made:
    """An agent whose batch is given, and a state: parameters off their initial values, targets those of another one."""

    def __init__(self, name, **options):
        options = {**SMALL, "optimizer": optax.sgd, "learning_rate": RATE, "tau": TAU, **options}
        self.agent = RECIPES[name](replay=single_batch, learning_starts=0, **options)
        self._update = jax.jit(self.agent.update)
        self.state, other = self._moved(0), self._moved(1)
        target_params = {group: other.params[group] for group in self.state.target_params}
        self.state = self.state._replace(target_params=target_params)

    def _moved(self, seed):
        state = self.agent.init(jax.random.key(seed))
        nudge = lambda x: x + 0.2 * np.random.default_rng(x.size).normal(size=x.shape).astype("f4")  # noqa: E731
        return state._replace(params=jax.tree.map(nudge, state.params))

    def update(self, state, sample, key=KEY):
        """``(state, priorities, metrics)`` after one gradient step."""
        state = state._replace(per_env=(sample, jnp.zeros(N, jnp.float32)))
        new, metrics = self._update(key, state, sample.transition)
        return new, new.per_env[1], metrics


@cache
def made(name):
    return Made(name)


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
    member = jax.tree.map(lambda leaf: np.asarray(leaf[e], np.float64), params["critics"]["params"]["members"])
    if action is None:
        return numpy_mlp(member["q_torso"], member["q_head"], x)
    return numpy_mlp(member["critic_torso"], member["value_head"], np.concatenate([x, action]))[0]


def numpy_policy(params, x, head="action_head"):
    actor = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["actor"]["params"])
    return numpy_mlp(actor["actor_torso"], actor[head], x)


def numpy_probs(params, observation, i):
    logits = numpy_policy(params, np.asarray(observation.features[i]), "policy_head")
    legal = np.asarray(observation.action_mask[i])
    weights = np.where(legal, np.exp(logits - logits.max()), 0.0)
    return weights / weights.sum(), legal


def gaussian_policy(state, observation):
    """The distribution of ``sac`` before the tanh."""
    return functions(sac, BOX, torso=TORSO).policy(state, observation)


def alpha(name, params):
    return 0.3 if name == "sac_fixed" else np.exp(float(params["temperature"]))


def numpy_next_value(name, state, following, i):
    """The bootstrap of one sample, from the equations of the papers."""
    online, target = state.params, state.target_params
    if name == "sac_discrete":
        probs, legal = numpy_probs(online, following, i)
        q = np.min([numpy_q(target, e, np.asarray(following.features[i])) for e in range(2)], axis=0)
        return sum(p * (q[a] - alpha(name, online) * np.log(p)) for a, p in enumerate(probs) if legal[a])
    x = np.asarray(following[i])
    if name.startswith("sac"):
        policy = gaussian_policy(state, following)
        raw, log_prob = (np.asarray(y[i]) for y in policy.sample_and_log_prob(seed=CRITIC_KEY))
        q = min(numpy_q(target, e, x, np.tanh(raw)) for e in range(2))
        return q - alpha(name, online) * log_prob
    action = np.tanh(numpy_policy(target, x))
    if name in ("td3", "td3_loud"):
        stddev, clip = LOUD.values() if name == "td3_loud" else (0.2, 0.5)
        noise = np.asarray(stddev * jax.random.normal(CRITIC_KEY, (N, D)))[i]
        action = np.clip(action + np.clip(noise, -clip, clip), -1, 1)
    return min(numpy_q(target, e, x, action) for e in range(CRITICS[name]))


@pytest.mark.parametrize("name", RECIPES)
def test_critic_loss_and_priorities(name):
    """Discounts of windows, terminations, minima over twins, entropies and weights, one sample at a time."""
    sample, state = batch(name), made(name).state
    observation, action, following = (
        getattr(sample.transition, part) for part in ("observation", "action", "next_observation")
    )
    stepped, priorities, metrics = made(name).update(state, sample)
    terms, errors = [], []
    for i in range(N):
        value = numpy_next_value(name, state, following, i)
        y = float(sample.transition.reward[i]) + float(sample.discount[i]) * value
        if name == "sac_discrete":
            q = [numpy_q(state.params, e, np.asarray(observation.features[i]))[int(action[i])] for e in range(2)]
        else:
            args = np.asarray(observation[i]), np.asarray(action[i])
            q = [numpy_q(state.params, e, *args) for e in range(CRITICS[name])]
        terms.append(float(sample.weight[i]) * sum(0.5 * (each - y) ** 2 for each in q))
        errors.append(np.mean([abs(each - y) for each in q]))
    np.testing.assert_allclose(metrics["loss"], np.mean(terms), rtol=1e-4)
    np.testing.assert_allclose(priorities, errors, rtol=1e-4)
    for before, after in zip(*map(jax.tree.leaves, (state.params["critics"], stepped.params["critics"])), strict=True):
        assert (before != after).any(), "every critic learns"


@pytest.mark.parametrize("name", RECIPES)
def test_critics_descend_their_loss_alone(name):
    """Their step is the numerical gradient of their loss, downwards, the target held."""
    sample, state = batch(name), made(name).state
    observation, action = sample.transition.observation, sample.transition.action
    stepped, _, _ = made(name).update(state, sample)
    targets = [
        float(sample.transition.reward[i])
        + float(sample.discount[i]) * numpy_next_value(name, state, sample.transition.next_observation, i)
        for i in range(N)
    ]

    def loss(size):
        critics = jax.tree.map(
            lambda p, new: p + size * (p - new) / RATE, state.params["critics"], stepped.params["critics"]
        )
        params, total = {**state.params, "critics": critics}, 0.0
        for i in range(N):
            if name == "sac_discrete":
                q = [numpy_q(params, e, np.asarray(observation.features[i]))[int(action[i])] for e in range(2)]
            else:
                args = np.asarray(observation[i]), np.asarray(action[i])
                q = [numpy_q(params, e, *args) for e in range(CRITICS[name])]
            total += float(sample.weight[i]) * sum(0.5 * (each - targets[i]) ** 2 for each in q)
        return total / N

    grads = jax.tree.map(lambda p, new: (p - new) / RATE, state.params["critics"], stepped.params["critics"])
    squared_norm = sum(float((x**2).sum()) for x in jax.tree.leaves(grads))
    np.testing.assert_allclose((loss(1e-3) - loss(-1e-3)) / 2e-3, squared_norm, rtol=2e-2)


@pytest.mark.parametrize("name", RECIPES)
def test_targets_are_read(name):
    """Perturbing each target moves the loss; nothing else is bootstrapped from than what the recipe says."""
    state = made(name).state
    loss = lambda state: float(made(name).update(state, batch(name))[2]["loss"])  # noqa: E731
    shifted = lambda tree, group: {**tree, group: jax.tree.map(lambda x: x + 0.3, tree[group])}  # noqa: E731
    before, target = loss(state), state.target_params
    assert loss(state._replace(target_params=shifted(target, "critics"))) != before
    moved = loss(state._replace(params=shifted(state.params, "actor")))
    if name.startswith("sac"):
        assert set(target) == {"critics"} and moved != before, "soft targets act by the policy itself"
    else:
        assert loss(state._replace(target_params=shifted(target, "actor"))) != before
        assert moved == before, "deterministic targets act by the target policy"


def policy_objective(name, params, observation):
    """What the actor climbs, by NumPy where it needs no random numbers."""
    if name == "sac_discrete":
        total = 0.0
        for i in range(N):
            probs, legal = numpy_probs(params, observation, i)
            q = np.min([numpy_q(params, e, np.asarray(observation.features[i])) for e in range(2)], axis=0)
            total += sum(p * (q[a] - alpha(name, params) * np.log(p)) for a, p in enumerate(probs) if legal[a])
        return total / N
    values = [numpy_q(params, 0, np.asarray(x), np.tanh(numpy_policy(params, np.asarray(x)))) for x in observation]
    return np.mean(values)


def climbed(name):
    """``(observation, size -> parameters, squared norm)``: the actor moved along its step, all else as it saw it.

    It sees the critics after their step and the temperature before its own.
    """
    state, sample = made(name).state, batch(name)
    stepped, _, _ = made(name).update(state, sample)
    actor = state.params["actor"]
    change = jax.tree.map(lambda new, old: (new - old) / RATE, stepped.params["actor"], actor)

    def params(size):
        moved = jax.tree.map(lambda p, d: p + size * d, actor, change)
        return {**state.params, "critics": stepped.params["critics"], "actor": moved}

    return sample.transition.observation, params, sum(float((x**2).sum()) for x in jax.tree.leaves(change))


@pytest.mark.parametrize("name", ["ddpg", "td3_plain", "sac_discrete"])
def test_actor_climbs_the_paper_s_objective(name):
    """A step of plain gradient descent is the numerical gradient of the objective, upwards."""
    observation, params, squared_norm = climbed(name)
    values = [policy_objective(name, params(size), observation) for size in (-1e-3, 1e-3)]
    # Along its own direction a gradient's slope is its squared length.
    np.testing.assert_allclose((values[1] - values[0]) / 2e-3, squared_norm, rtol=2e-2)
    assert squared_norm > 1e-4


def test_sac_climbs_value_and_entropy():
    """Its gradient goes through the sample: against finite differences with the same random numbers."""
    observation, params, squared_norm = climbed("sac_fixed")

    def objective(size):
        policy = gaussian_policy(made("sac_fixed").state._replace(params=params(size)), observation)
        raw, log_prob = policy.sample_and_log_prob(seed=ACTOR_KEY)
        q = [[numpy_q(params(size), e, np.asarray(observation[i]), np.tanh(raw[i])) for i in range(N)] for e in (0, 1)]
        return np.mean(np.min(q, axis=0) - 0.3 * np.asarray(log_prob))

    np.testing.assert_allclose((objective(2e-3) - objective(-2e-3)) / 4e-3, squared_norm, rtol=3e-2)
    stepped, _, metrics = made("sac_fixed").update(made("sac_fixed").state, batch("sac_fixed"))
    assert set(stepped.params) == {"actor", "critics"} and "temperature" not in metrics


@pytest.mark.parametrize("name", ["sac", "sac_discrete"])
@pytest.mark.parametrize("offset", [None, -1.0, 1.0])
def test_temperature_follows_the_entropy(name, offset):
    """Up where the entropy is below its target, down where it is above, by how much it is off; targets by default."""
    share = 0.5 if offset is None else 0.5 + offset
    wanted = share * np.log(2.0) if name == "sac_discrete" else -float(D) + (offset or 0.0)
    given = None if offset is None else share if name == "sac_discrete" else wanted
    agent = Made(name, target_entropy=given)
    old = agent.state.params["temperature"]
    stepped, _, metrics = agent.update(agent.state, batch(name))
    expected = old - RATE * (metrics["entropy"] - wanted)
    np.testing.assert_allclose(stepped.params["temperature"], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["temperature"], np.exp(stepped.params["temperature"]), rtol=1e-5)


def test_the_policy_is_late_and_targets_with_it():
    """Of three gradient steps, the third moves the actor and the targets, by tau towards the new parameters."""
    state = made("td3").state
    for count in range(1, 7):
        new, _, metrics = made("td3").update(state, batch("td3", count), jax.random.fold_in(KEY, count))
        assert new.gradient_steps == count
        due = count % 3 == 0
        for part in (lambda x: x.params["actor"], lambda x: x.target_params):
            moved = [(x != y).any() for x, y in zip(*map(jax.tree.leaves, map(part, (state, new))), strict=True)]
            assert all(moved) if due else not any(moved)
        assert (metrics["actor_gradient_norm"] > 0) == due
        if due:
            expected = jax.tree.map(lambda p, t: TAU * p + (1 - TAU) * t, new.params, state.target_params)
            for x, y in zip(*map(jax.tree.leaves, (new.target_params, expected)), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
        state = new


def test_late_steps_are_not_computed_where_no_member_is_due():
    """Under vmap with a batched count too; and members of different ages each keep their own pace."""
    calls = []

    def step(x):
        jax.debug.callback(lambda x: calls.append(float(x)), x)
        return x + 1.0

    run = jax.jit(jax.vmap(lambda count, x: when(count % 3 == 0, step, lambda x: x, x)))
    assert run(jnp.array([1, 2]), jnp.array([5.0, 6.0])).tolist() == [5.0, 6.0]
    jax.effects_barrier()
    assert calls == []
    assert run(jnp.array([3, 2]), jnp.array([5.0, 6.0])).tolist() == [6.0, 6.0]
    jax.effects_barrier()
    assert sorted(calls) == [5.0, 6.0]
    twice = jax.vmap(jax.vmap(lambda count: when(count % 3 == 0, lambda x: x + 1, lambda x: x, count)))
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


def test_sac_samples_and_its_best_is_the_mean():
    agent, state = made("sac").agent, made("sac").state._replace(steps=jnp.int32(10**6))
    observation = jax.random.normal(KEY, (64, F))
    policy = gaussian_policy(state, observation)
    best, stored = agent.act(KEY, state, observation, explore=False)
    np.testing.assert_allclose(stored, np.tanh(policy.loc), rtol=1e-5)
    np.testing.assert_allclose(best, 1.0 + 3.0 * stored, rtol=1e-5, atol=1e-5)
    acts = jax.vmap(lambda key: agent.act(key, state, observation)[1])(jax.random.split(KEY, 256))
    raw = np.arctanh(np.clip(acts, -0.99999, 0.99999))
    np.testing.assert_allclose(raw.mean(0), policy.loc, atol=0.5)
    assert (np.abs(acts) <= 1.0).all() and (raw.std(0) > 0.3).all()


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "sac_discrete"])
def test_public_functions(name):
    """The policy acts as ``act`` does, values are those of its actions, by NumPy."""
    make, spec = {"ddpg": (ddpg, BOX), "td3": (td3, BOX), "sac": (sac, BOX)}.get(name, (sac, MASKED))
    found, state, observation = functions(make, spec, **SMALL), made(name).state, batch(name).transition.observation
    action, stored = made(name).agent.act(KEY, state, observation, explore=False)
    policy, values = found.policy(state, observation), found.value(state, observation)
    if name == "sac_discrete":
        np.testing.assert_array_equal(policy.mode(), action)
        everything = found.action_values(state, observation)
        for i in range(N):
            probs, _ = numpy_probs(state.params, observation, i)
            q = np.min([numpy_q(state.params, e, np.asarray(observation.features[i])) for e in range(2)], axis=0)
            np.testing.assert_allclose(everything[i], q, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(values[i], probs @ q, rtol=1e-4, atol=1e-5)
        return
    assert found.action_values is None
    np.testing.assert_allclose(jnp.tanh(policy.loc) * 3.0 + 1.0 if name == "sac" else policy, action, rtol=1e-5)
    for i in range(N):
        q = [numpy_q(state.params, e, np.asarray(observation[i]), np.asarray(stored[i])) for e in range(CRITICS[name])]
        np.testing.assert_allclose(values[i], min(q) if name == "sac" else q[0], rtol=1e-4, atol=1e-5)


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


def test_errors():
    with pytest.raises(TypeError, match="spec: got actions .*, td3 takes continuous ones; see sac"):
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
    with pytest.raises(ValueError, match=r"target_entropy: got -1\.0 .*temperature=0\.1"):
        sac(BOX, temperature=0.1, target_entropy=-1.0)
    state = jax.eval_shape(sac(BOX, temperature=0.1).init, KEY)
    assert set(state.optimizer_state) == {"actor", "critics"} and set(state.target_params) == {"critics"}


@pytest.mark.parametrize("make", [ddpg, td3, sac])
def test_a_reward_model_rewards_the_actions_that_the_environment_took(make):
    """A model that pays the first axis of the action is the same as an environment that does, windows included."""
    first_axis = RewardModel(
        init=lambda key, num_envs=1: (),
        reward=lambda key, state, trajectory: trajectory.action[..., 0],
        update=lambda key, state, trajectory: (state, {"paid": trajectory.action[..., 0].mean()}),
    )
    rng = np.random.default_rng(0)
    seen, following = jnp.array(rng.normal(size=(2, 4, 2, F)), jnp.float32)
    options = {**SMALL, "learning_starts": 0, "n_step": 2}
    plain, paid = (make(BOX, **options, reward_model=model) for model in (None, first_axis))
    state, rewarded = (agent.init(KEY, 2) for agent in (plain, paid))
    action, unit = jax.vmap(lambda key, x: plain.act(key, state, x))(jax.random.split(KEY, 4), seen)
    ended = jnp.zeros((4, 2), bool)
    trajectory = Transition(seen, action, action[..., 0], jnp.ones((4, 2)), ended, ended, following, unit)
    new, _ = jax.jit(plain.update)(KEY, state, trajectory)
    other, metrics = jax.jit(paid.update)(KEY, rewarded, trajectory._replace(reward=jnp.zeros((4, 2))))
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, new.params, other.params)
    close(metrics["reward_model_paid"], action[..., 0].mean())
