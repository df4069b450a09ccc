"""Teachers on fixed tables of returns. Lee et al. 2021, section 3."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxrl.feedback import Segments, teachers
from jaxrl.types import Transition

KEY = jax.random.key(11)


def segments(rewards, mask=None):
    """Segments with these rewards, and nothing else in them."""
    rewards = jnp.asarray(rewards, jnp.float32)
    steps = Transition((), (), rewards, (), (), (), ())
    return Segments(steps, jnp.ones(rewards.shape, bool) if mask is None else jnp.asarray(mask, bool))


POOL = segments([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])  # returns 0, 2, 4: mean 2, worst 0, deviation sqrt(8 / 3)
PAIRS = segments(
    [
        [[1.0, 0.0], [2.0, 0.0]],  # 1 < 2
        [[3.0, 0.0], [0.0, 0.0]],  # 3 > 0
        [[1.0, 0.0], [0.0, 1.0]],  # equal, but the second gets it later
        [[0.1, 0.0], [0.0, 0.0]],  # both are low
    ]
)
MANY = jax.tree.map(lambda x: jnp.tile(x, (5000, *(1,) * (x.ndim - 1))), PAIRS)


def answers(teacher, pairs=PAIRS, pool=POOL):
    return jax.jit(teacher)(KEY, pairs, pool)


def labels(teacher, **given):
    return answers(teacher, **given).label.tolist()


def test_the_oracle_prefers_the_larger_return_and_calls_equal_ones_equal():
    found = answers(teachers.TEACHERS["oracle"])
    assert found.label.tolist() == [0.0, 1.0, 0.5, 1.0] and found.given.all() and found.label.dtype == jnp.float32


def test_equal_calls_returns_within_its_share_of_the_mean_equal_and_scales_with_epsilon_once():
    """The margin is epsilon times 2: 0.2 for 0.1, in which the difference of 0.1 lies; 0.02 if it were squared."""
    assert labels(teachers.TEACHERS["equal"]) == [0.0, 1.0, 0.5, 0.5]
    assert labels(teachers.scripted(equal=0.04)) == [0.0, 1.0, 0.5, 1.0]
    assert labels(teachers.scripted(equal=0.51)) == [0.5, 1.0, 0.5, 0.5]


def test_skip_skips_pairs_of_low_returns_and_scales_with_epsilon_once():
    assert answers(teachers.TEACHERS["skip"]).given.tolist() == [True, True, True, False]
    assert answers(teachers.scripted(skip=0.04)).given.all()
    assert answers(teachers.scripted(skip=0.8)).given.tolist() == [True, True, False, False]


@pytest.mark.parametrize("shift", [-100.0, 7.0])
def test_thresholds_do_not_depend_on_a_constant_in_the_reward(shift):
    """Where rewards are negative, a fraction of their mean would be above nearly all of them."""
    shifted = [segments(x.transitions.reward + shift) for x in (PAIRS, POOL)]
    for teacher in (teachers.scripted(skip=0.1), teachers.scripted(equal=0.1), teachers.scripted(rationality=1.0)):
        jax.tree.map(
            np.testing.assert_array_equal, answers(teacher), answers(teacher, pairs=shifted[0], pool=shifted[1])
        )


def test_myopic_weighs_the_end_of_a_segment_most():
    assert labels(teachers.TEACHERS["myopic"]) == [0.0, 1.0, 0.0, 1.0]
    # The first has two steps only, the last of them with weight 1: 0.5 * 1 + 2 = 2.5 beside 0.25 * 4 + 1 = 2.
    pair = segments([[[1.0, 2.0, 9.0], [4.0, 0.0, 1.0]]], mask=[[[1, 1, 0], [1, 1, 1]]])
    assert labels(teachers.scripted(discount=0.5), pairs=pair) == [1.0]


def test_mistakes_are_a_tenth_and_ties_stay_ties():
    label = np.asarray(answers(teachers.TEACHERS["mistake"], MANY).label).reshape(-1, 4)
    np.testing.assert_allclose(label.mean(0), [0.1, 0.9, 0.5, 0.9], atol=0.015)
    assert (label[:, 2] == 0.5).all()


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_stochastic_answers_in_units_of_the_deviation_of_returns(scale):
    pairs, pool = (segments(scale * x.transitions.reward) for x in (MANY, POOL))
    label = np.asarray(answers(teachers.scripted(rationality=2.0), pairs, pool).label).reshape(-1, 4)
    gaps = np.array([-1.0, 3.0, 0.0, 0.1]) / np.sqrt(8.0 / 3.0)
    np.testing.assert_allclose(label.mean(0), expit(2.0 * gaps), atol=0.02)


def test_random_answers_do_not_depend_on_returns():
    label = np.asarray(answers(teachers.TEACHERS["random"], MANY).label).reshape(-1, 4)
    np.testing.assert_allclose(label.mean(0), 0.5, atol=0.02)
    assert set(np.unique(label)) == {0.0, 1.0}


def test_what_a_segment_does_not_have_is_not_seen():
    pair = segments([[[1.0, jnp.nan], [2.0, jnp.nan]]], mask=[[[1, 0], [1, 0]]])
    assert labels(teachers.TEACHERS["oracle"], pairs=pair) == [0.0]


def test_a_score_of_ones_own_takes_the_place_of_the_reward():
    teacher = teachers.scripted(score=lambda steps: -steps.reward)
    assert labels(teacher) == [1.0, 0.0, 0.5, 0.0]


def test_flaws_may_be_tracers():
    found = jax.vmap(lambda rate: teachers.scripted(mistake=rate)(KEY, MANY, POOL).label.reshape(-1, 4).mean(0))
    np.testing.assert_allclose(found(jnp.array([0.0, 1.0])), [[0.0, 1.0, 0.5, 1.0], [1.0, 0.0, 0.5, 0.0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mistake": 1.5}, "mistake: got 1.5"),
        ({"discount": -0.1}, "discount: got -0.1"),
        ({"rationality": -1.0}, "rationality: got -1"),
        ({"equal": "x"}, "equal: got 'x'"),
        ({"score": 3}, "score: got 3"),
    ],
)
def test_wrong_flaws_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        teachers.scripted(**options)
