"""What is learned without answers: rewards of pretraining, pseudo-labels, and a teacher who answers later."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import cdist
from scipy.special import expit

from jaxrl.feedback import comparisons, preferences, teachers
from jaxrl.feedback.segments import Segments
from jaxrl.feedback.state_entropy import NEIGHBOR, state_entropy
from jaxrl.networks import MLP
from jaxrl.types import Discrete, Spec, Transition

KEY = jax.random.key(3)
T, B, D = 20, 2, 2


def test_the_reward_of_pretraining_is_the_logarithm_of_the_distance_to_the_fifth_neighbour():
    states, others = (jax.random.normal(key, (n, 3)) for key, n in zip(jax.random.split(KEY), (7, 30), strict=True))
    filled = np.arange(30) < 20
    nearest = np.sort(cdist(states, others[:20]), axis=1)[:, NEIGHBOR - 1]
    found = state_entropy(states.reshape(7, 1, 3), others, filled)
    assert found.shape == (7, 1)
    np.testing.assert_allclose(found[:, 0], np.log1p(nearest), rtol=1e-4)
    assert not state_entropy(states, others, np.arange(30) < NEIGHBOR - 1).any(), "too few to have a fifth"


def test_confident_guesses_are_labels_and_others_are_not():
    """Segments of one step with a linear reward, against a loop in NumPy: one answered pair, and one without answer."""
    shapes = Transition(jax.ShapeDtypeStruct((D,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32), 0, 0, 0, 0, 0)
    number, told, untold = jnp.zeros((1, 2, 1)), np.array([0.3, 0.1]), np.array([-0.2, 1.0])

    def pair(gap):
        observation = jnp.stack([jnp.asarray(gap, jnp.float32), jnp.zeros(D)]).reshape(1, 2, 1, D)
        steps = Transition(observation, number, number, number, number, number, ())
        return Segments(steps, jnp.ones((1, 2, 1), bool))

    answered = comparisons.added(
        comparisons.empty(shapes, 4, 1, 1), pair(told), jnp.ones(1), jnp.ones(1, bool), jnp.zeros((1, 1), bool)
    )
    start, optimizer = jnp.array([[0.5, 0.7]]), optax.sgd(0.5)

    @jax.jit
    def fitted(confidence):
        learner = comparisons.Learner(start, jax.vmap(optimizer.init)(start), jnp.zeros(1))
        options = {"noise": 0.0, "num_steps": 20, "batch_size": 3, "unanswered": pair(untold), "confidence": confidence}
        reward = lambda params, observation, action: observation @ params  # noqa: E731
        return comparisons.fit(KEY, learner, answered, reward, optimizer, **options)[0].params[0]

    def by_hand(confidence):
        params, counted = np.asarray(start[0], float), 0
        for _ in range(20):
            step = told * (1.0 - expit(told @ params))
            sure = expit(abs(untold @ params))
            if sure >= confidence:
                step, counted = step + np.sign(untold @ params) * untold * (1.0 - sure), counted + 1
            params = params + 0.5 * step
        return params, counted

    for confidence, least, most in ((0.5, 20, 20), (0.66, 1, 19), (1.0, 0, 0)):
        expected, counted = by_hand(confidence)
        assert least <= counted <= most
        np.testing.assert_allclose(fitted(confidence), expected, rtol=1e-4)


SPEC = Spec(jax.ShapeDtypeStruct((D,), jnp.float32), Discrete(2))
MODEL = preferences(
    SPEC, teacher="person", torso=MLP(hidden=(8,)), labels=40, queries=40, query_interval=T * B, segment_length=2,
    memory=3 * T * B, num_gradient_steps=200, learning_rate=1e-2, batch_size=16, pretraining=2 * T * B,
    pseudo_labels=0.99, choose="uniform",
)  # fmt: skip


def trajectory(key):
    observation = jax.random.normal(key, (T, B, D))
    number, flag = jnp.full((T, B), jnp.nan), jnp.zeros((T, B), bool)
    return Transition(observation, jnp.zeros((T, B), jnp.int32), number, number, flag, flag, observation)


def test_answers_that_come_later_are_fitted_to_in_the_next_update_and_pretraining_pays_until_then():
    update = jax.jit(lambda key, state: MODEL.update(key, state, trajectory(key)))
    pay = jax.jit(lambda state: MODEL.reward(KEY, state, trajectory(jax.random.key(9))))
    state, asked, paid = MODEL.init(KEY, B), [], []
    for key in jax.random.split(KEY, 4):
        state, metrics = update(key, state)
        asked.append(int(state.comparisons.asked))
        paid.append(pay(state))
    assert asked == [0, 40, 40, 40] and metrics["labels"] == 0 and state.fits == 0
    assert all(0.0 < reward.mean() < 2.0 for reward in paid) and jnp.isfinite(paid[-1]).all()
    pairs = state.comparisons
    returns = jnp.where(pairs.mask, pairs.observation[..., 0], 0.0).sum(-1)
    label = (returns[:, 0] > returns[:, 1]).astype(jnp.float32)
    state = state._replace(comparisons=pairs._replace(label=label, given=jnp.ones(40, bool)), heard=jnp.array(True))
    np.testing.assert_array_equal(pay(state), paid[-1])  # not yet
    state, metrics = update(KEY, state)
    assert state.fits == 1 and not state.heard and metrics["labels"] == 40 and metrics["train_loss"] < np.log(2.0)
    learned = np.ravel(pay(state))
    assert np.corrcoef(learned, np.ravel(trajectory(jax.random.key(9)).observation[..., 0]))[0, 1] > 0.8
    again, _ = update(KEY, state)
    jax.tree.map(np.testing.assert_array_equal, again.learner, state.learner)  # nothing new was heard


def test_an_outside_teacher_gives_nothing_yet():
    given = teachers.outside(KEY, Segments((), jnp.ones((3, 2, 5), bool)), Segments((), jnp.ones((6, 5), bool)))
    assert given.label.tolist() == [0.5] * 3 and not given.given.any()


def test_bad_options_are_refused_by_name():
    for name, value in (("pretraining", -1), ("pseudo_labels", 1.5)):
        with pytest.raises((TypeError, ValueError), match=name):
            preferences(SPEC, **{name: value})
