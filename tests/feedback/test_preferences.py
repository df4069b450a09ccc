"""``preferences``: what it learns, what it asks, and that nothing but the teacher sees the environment's reward."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import probes, spec
from jaxrl.feedback import preferences, teachers
from jaxrl.networks import MLP, Conv
from jaxrl.ops import across
from jaxrl.types import Box, Discrete, Spec, Transition

KEY = jax.random.key(7)
T, B, D = 40, 4, 3
SPEC = Spec(jax.ShapeDtypeStruct((D,), jnp.float32), Box((1,), -2.0, 2.0))
SMALL = {
    "torso": MLP(hidden=(16,)),
    "labels": 120,
    "queries": 40,
    "query_interval": 2 * T * B,
    "segment_length": 6,
    "memory": 4 * T * B,
    "learning_rate": 1e-2,
    "num_gradient_steps": 150,
}
WEIGHT = jnp.array([2.0, -1.0, 0.0])


def trajectory(key, pays=lambda observation, action: observation @ WEIGHT + action[..., 0]):
    keys = jax.random.split(key, 3)
    observation = jax.random.normal(keys[0], (T, B, D))
    action = jax.random.uniform(keys[1], (T, B, 1), minval=-2.0, maxval=2.0)
    terminated = jax.random.bernoulli(keys[2], 0.1, (T, B))
    discount = 1.0 - terminated
    return Transition(
        observation, action, pays(observation, action), discount, terminated, ~terminated & False, observation
    )


@cache
def trained(pays="linear", num_updates=6, **options):
    """``(model, state, metrics of each update)`` after updates on random experience."""
    model = preferences(SPEC, **{**SMALL, **options})
    rewards = {"linear": {}, "constant": {"pays": lambda observation, action: jnp.ones(action.shape[:-1])}}[pays]

    def step(state, key):
        return model.update(key, state, trajectory(key, **rewards))

    def run(key):
        return jax.lax.scan(step, model.init(key, B), jax.random.split(key, num_updates))

    return model, *jax.jit(run)(KEY)


def correlation(model, state):
    steps = trajectory(jax.random.key(99))
    return np.corrcoef(np.ravel(model.reward(KEY, state, steps)), np.ravel(steps.reward))[0, 1]


@pytest.mark.parametrize(("teacher", "least"), [("oracle", 0.95), ("mistake", 0.9)])
def test_the_reward_is_learned_from_comparisons(teacher, least):
    model, state, metrics = trained(teacher=teacher)
    assert correlation(model, state) > least
    assert metrics["held_out_accuracy"][-1] > (0.85 if teacher == "oracle" else 0.75)
    assert metrics["train_loss"][-1] < np.log(2.0) and jnp.isfinite(metrics["held_out_loss"]).all()


def test_nothing_is_learned_from_random_answers():
    _, _, metrics = trained(teacher="random")
    assert metrics["held_out_accuracy"][-1] < 0.65 and metrics["held_out_loss"][-1] > 0.95 * np.log(2.0)


def test_a_constant_reward_is_learned_where_episodes_differ_in_length():
    """CartPole's: of two segments the longer one is better, so every step is worth the same, about 1 once scaled."""
    model, state, _ = trained(pays="constant", teacher="oracle")
    reward = model.reward(KEY, state, trajectory(jax.random.key(99)))
    assert reward.mean() == pytest.approx(1.0, abs=0.1) and reward.min() > 0.3


def test_sessions_are_held_at_their_interval_until_the_labels_are_used():
    model, state, metrics = trained(teacher="oracle", num_updates=9)
    assert metrics["labels"].tolist() == [0, 40, 40, 80, 80, 120, 120, 120, 120]
    assert state.comparisons.asked == 120 and state.steps == 9 * T * B
    changed = np.diff(np.asarray(metrics["train_loss"])) != 0.0
    assert changed.tolist() == [True, False, True, False, True, False, False, False]
    assert metrics["reward"][0] == metrics["reward"][1] == 0.0 != metrics["reward"][2]


def test_members_are_scaled_to_a_mean_square_of_1_and_averaged():
    model, state, _ = trained(teacher="oracle")
    steps = trajectory(jax.random.key(99))
    one = lambda member: model.reward(  # noqa: E731
        KEY,
        state._replace(
            learner=jax.tree.map(lambda leaf: leaf[member][None], state.learner), scale=state.scale[member][None]
        ),
        steps,
    )
    members = jnp.stack([one(member) for member in range(3)])
    np.testing.assert_allclose(jnp.square(members).mean((1, 2)), 1.0, atol=0.35)
    np.testing.assert_allclose(model.reward(KEY, state, steps), members.mean(0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(members[0], members[1], atol=1e-2)


def test_skipped_queries_are_asked_and_not_counted_as_labels():
    _, state, metrics = trained(teacher=teachers.scripted(skip=1.0))
    assert state.comparisons.asked == 120 and 0 < metrics["labels"][-1] < 120
    assert metrics["labels"][-1] == state.comparisons.given.sum()


def test_about_1_of_e_comparisons_is_held_out_for_each_member():
    _, state, _ = trained(teacher="oracle")
    held_out = np.asarray(state.comparisons.held_out)
    np.testing.assert_allclose(held_out.mean(0), np.exp(-1.0), atol=0.12)
    assert (held_out[:, 0] != held_out[:, 1]).any()


def test_the_teacher_gets_pairs_and_recent_experience():
    seen = []

    def teacher(key, pairs, pool):
        seen.append((pairs.mask.shape, pool.mask.shape, pairs.transitions.observation.shape))
        return teachers.TEACHERS["oracle"](key, pairs, pool)

    for choose, pool in (("uniform", 20), ("entropy", 200)):
        model = preferences(SPEC, **{**SMALL, "queries": 10}, teacher=teacher, choose=choose)
        jax.eval_shape(lambda key, model=model: model.update(key, model.init(key, B), trajectory(key)), KEY)
        assert seen[-1] == ((10, 2, 6), (pool, 6), (10, 2, 6, D))


class Paying:
    """An environment that pays its reward times a factor, which may be a tracer."""

    def __init__(self, env, factor):
        self.env, self.factor = env, factor

    def __getattr__(self, name):
        return getattr(self.env, name)

    def step(self, key, state, action, params):
        observation, state, reward, *rest = self.env.step(key, state, action, params)
        return observation, state, reward * self.factor, *rest


@pytest.mark.parametrize("recipe", ["a2c", "dqn"])
def test_only_the_teacher_sees_the_true_reward(recipe):
    """A whole run, where the teacher knows the truth from the observation and everybody else is paid NaN."""
    env = probes.ObservationActionProbe()
    described = spec(env, env.default_params)
    score = lambda steps: jnp.where(steps.action == 1, steps.observation[..., 0], -steps.observation[..., 0])  # noqa: E731
    model = preferences(
        described, teacher=teachers.scripted(score=score), torso=MLP(hidden=(8,)), labels=16, queries=8,
        query_interval=64, segment_length=2, memory=128, num_gradient_steps=10,
    )  # fmt: skip
    if recipe == "a2c":
        agent = jaxrl.with_reward(jaxrl.a2c(described, torso=MLP(hidden=(8,))), model)
    else:
        options = {"replay_capacity": 128, "batch_size": 8, "learning_starts": 32, "n_step": 2}
        agent = jaxrl.dqn(described, torso=MLP(hidden=(8,)), reward_model=model, **options)

    @jax.jit
    def run(factor):
        paying = Paying(env, factor)
        return jaxrl.train(
            KEY, agent, paying, env.default_params, num_steps=256, num_envs=2, rollout_length=8
        )[0].agent  # fmt: skip

    told, untold = run(1.0), run(jnp.nan)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(told), jax.tree.leaves(untold), strict=True):
        where = jax.tree_util.keystr(path)
        if where.endswith("transitions.reward"):  # what the replay and the teacher's memory keep, and nobody reads
            assert jnp.isnan(y).any()
            continue
        np.testing.assert_array_equal(x, y, err_msg=where)
        assert jnp.isfinite(y).all() if jnp.issubdtype(y.dtype, jnp.floating) else True, where


def test_two_devices_ask_one_teacher_and_learn_one_reward():
    """Each draws half of the queries from its own experience; what is learned is the same on both."""
    model = preferences(SPEC, **SMALL)

    def run(key, experience):
        state = model.init(key, B)
        for part in jax.random.split(experience, 2):
            state, metrics = model.update(across.own(key), state, trajectory(part))
        return state._replace(per_env=()), metrics

    state, metrics = jax.jit(jax.vmap(run, in_axes=(None, 0), axis_name=across.AXIS))(KEY, jax.random.split(KEY))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        np.testing.assert_array_equal(leaf[0], leaf[1], err_msg=jax.tree_util.keystr(path))
    assert metrics["labels"].tolist() == [80, 80]  # both devices' steps count: a session of 40 in each update
    pairs = state.comparisons.observation[0, :80].reshape(80, -1)
    assert len(np.unique(np.asarray(pairs), axis=0)) > 70  # not one twice for two devices


@pytest.mark.parametrize("shape", [(), (5,), (4, 4, 1)])
@pytest.mark.parametrize("action", [Discrete(3), Box((2,), -np.inf, np.inf)])
def test_any_observation_and_action_has_a_reward(shape, action):
    described = Spec(jax.ShapeDtypeStruct(shape, jnp.float32), action)
    torso = Conv(channels=(2,), hidden=(4,)) if len(shape) == 3 else MLP(hidden=(4,))
    model = preferences(described, **{**SMALL, "torso": torso})
    taken = jnp.zeros((T, B), jnp.int32) if isinstance(action, Discrete) else jnp.zeros((T, B, 2))
    number, flag = jnp.zeros((T, B)), jnp.zeros((T, B), bool)
    steps = Transition(jnp.zeros((T, B, *shape)), taken, number, number, flag, flag, jnp.zeros((T, B, *shape)))
    state, metrics = jax.eval_shape(lambda key: model.update(key, model.init(key, B), steps), KEY)
    assert jax.eval_shape(model.reward, KEY, state, steps).shape == (T, B)
    assert {x.shape for x in metrics.values()} == {()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "orakle"}, "teacher: got 'orakle'"),
        ({"choose": "random"}, "choose: got 'random'"),
        ({"labels": 0}, "labels: got 0"),
        ({"noise": 1.5}, "noise: got 1.5"),
        ({"torso": jaxrl.networks.GRU(size=4)}, "torso: got GRU"),
        ({"memory": 20}, "memory: got 20.*segment_length x num_envs = 24"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        preferences(SPEC, **{**SMALL, **options}).init(KEY, B)
