"""Fits on pairs of answers: DPO and IPO move the policy, a reward model learns the order."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, text
from jaxrl.envs.texts import Vowels
from jaxrl.types import Text

TASK = Vowels(4)
MODEL = text.gpt2(28, width=16, num_layers=1, num_heads=2, max_length=TASK.prompt_length + TASK.length)


@lru_cache
def fitted():
    """Pairs by the task's own score, 512 to learn from and 256 held out, and what is fitted to them."""

    @jax.jit
    def run(key):
        keys = jax.random.split(key, 768)
        prompt = jax.vmap(TASK.prompt)(keys)
        first, second = (
            jax.vmap(TASK.demonstrate)(jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys), prompt)
            for i in (1, 2)
        )
        pairs = text.compare(TASK.score, prompt, first, second)
        known, held_out = (jax.tree.map(lambda x, part=part: x[part], pairs) for part in (slice(512), slice(512, 768)))
        params = text.init_params(key, MODEL)
        settings = {"learning_rate": 1e-2, "num_epochs": 4, "batch_size": 64}
        policy, metrics = text.dpo(key, params, MODEL, known, beta=0.5, **settings)
        other, of_ipo = text.ipo(key, params, MODEL, known, beta=0.5, **settings)
        scorer, of_scorer = text.fit_reward(key, params, MODEL, known, **settings)
        right = [text.accuracy(each, params, MODEL, held_out) for each in (policy, other)]
        right.append(text.reward_accuracy(scorer, MODEL, held_out))
        scores = text.reward_score(scorer, MODEL, known.prompt, known.chosen)
        wrong = text.reward_score(scorer, MODEL, known.prompt, known.rejected)
        return pairs, metrics, of_ipo, of_scorer, right, scorer, jnp.concatenate([scores, wrong])

    return run(jax.random.key(0))


def test_the_chosen_answer_has_the_higher_score():
    pairs = fitted()[0]
    chosen, rejected = (jax.vmap(TASK.score)(pairs.prompt, answer) for answer in (pairs.chosen, pairs.rejected))
    assert (chosen >= rejected).all() and (chosen > rejected).mean() > 0.8


def test_dpo_starts_at_log_2_and_learns_the_order():
    _, metrics, of_ipo, of_scorer, right, _, scores = fitted()
    assert metrics["loss"][0] == pytest.approx(np.log(2.0), abs=1e-5)
    assert of_ipo["loss"][0] == pytest.approx(1.0, abs=1e-5)  # (1 / 2 beta)^2
    assert of_scorer["loss"][0] == pytest.approx(np.log(2.0), abs=1e-5)
    assert min(float(x) for x in right) > 0.75
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-3) and float(scores.std()) == pytest.approx(1.0, abs=1e-3)


def test_a_learned_score_is_a_reward():
    """Of a trajectory, and of an environment that pays it in place of the task's own."""
    pairs, *_, scorer, _ = fitted()
    prompt, answer = jax.tree.map(lambda x: x[:6].reshape(3, 2, -1), (pairs.prompt, pairs.chosen))

    class Seen:
        observation, action, reward = prompt, answer, jnp.zeros((3, 2))

    model = text.reward_model(scorer, MODEL)
    found = model.reward(jax.random.key(0), model.init(jax.random.key(0)), Seen)
    expected = text.reward_score(scorer, MODEL, *jax.tree.map(lambda x: x[:6], (pairs.prompt, pairs.chosen)))
    np.testing.assert_allclose(found.reshape(-1), expected, atol=1e-5)
    env = text.scored(envs.repeat(TASK, 2), lambda prompt, answer: answer.tokens[0].astype(jnp.float32))
    _, state = env.reset(jax.random.key(0))
    reward = env.step(jax.random.key(1), state, Text(jnp.full(5, 7, jnp.int32), jnp.ones(5, bool)))[2]
    assert reward == 7.0


def test_more_pairs_in_a_batch_than_there_are():
    with pytest.raises(ValueError, match="batch_size: got 64, must be at most 6"):
        pairs = jax.tree.map(lambda x: x[:6], fitted()[0])
        text.dpo(jax.random.key(0), text.init_params(jax.random.key(0), MODEL), MODEL, pairs)
