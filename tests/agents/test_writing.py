"""Recipes of language models: what padding must not change, ratios, lengths and cut answers."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrl
from jaxrl import text
from jaxrl.agents.parts import writing
from jaxrl.types import Spec, Text, Texts, Transition

T, B, P, N, END = 4, 2, 3, 4, 5
MODEL = text.gpt2(6, width=8, num_layers=1, num_heads=2, max_length=16)
RECIPES = {"grpo": jaxrl.grpo, "rloo": jaxrl.rloo, "rlhf": jaxrl.rlhf}


def spec_of(length):
    leaf = lambda dtype: jax.ShapeDtypeStruct((length,), dtype)  # noqa: E731
    return Spec(Text(leaf(jnp.int32), leaf(jnp.bool_)), Texts(6, N, END))


def trajectory(seed=0):
    """Four answers to each of two prompts of three tokens; one answer is cut, the others have one to three tokens."""
    rng = np.random.default_rng(seed)
    prompt = np.broadcast_to(rng.integers(0, 5, (1, B, P)), (T, B, P))
    lengths = np.array([[2, 3], [4, 2], [3, 3], [2, 4]])
    ended = np.ones((T, B), bool)
    ended[3, 1] = False
    answer = rng.integers(0, 5, (T, B, N))
    np.put_along_axis(answer, lengths[..., None] - 1, np.where(ended, END, 1)[..., None], axis=-1)
    mask = np.arange(N) < lengths[..., None]
    observation = Text(jnp.asarray(prompt, jnp.int32), jnp.ones((T, B, P), bool))
    action = Text(jnp.asarray(np.where(mask, answer, 0), jnp.int32), jnp.asarray(mask))
    true = jnp.ones((T, B), bool)
    reward = jnp.asarray(rng.normal(size=(T, B)), jnp.float32)
    extras = writing.Written(jnp.asarray(ended))
    return Transition(observation, action, reward, 0.0 * reward, true, ~true, observation, extras)


def padded(given, where, filled):
    """The same texts with other padding: prompts of seven columns, and other tokens wherever no mask is."""
    before, behind = {"left": (4, 0), "right": (0, 4), "both": (1, 3)}[where]
    wider = lambda x, value: jnp.pad(x, ((0, 0), (0, 0), (before, behind)), constant_values=value)  # noqa: E731
    prompt = Text(wider(given.observation.tokens, filled), wider(given.observation.mask, False))
    answer = given.action._replace(tokens=jnp.where(given.action.mask, given.action.tokens, filled))
    return given._replace(observation=prompt, action=answer, next_observation=prompt)


@lru_cache
def program(name, length, options):
    """A first state, whose policy is not the reference, and the compiled update; SGD's steps show gradients."""
    agent = RECIPES[name](spec_of(length), network=MODEL, optimizer=optax.sgd, learning_rate=0.1, **dict(options))
    state = agent.init(jax.random.key(0), B)
    moved = jax.tree.map(lambda x: x * 1.1, state.policy)
    return state._replace(params={**state.params, "policy": moved} if name == "rlhf" else moved), jax.jit(agent.update)


def updated(name, given, **options):
    """The state and the metrics after one update."""
    state, update = program(name, given.observation.tokens.shape[-1], tuple(options.items()))
    return update(jax.random.key(1), state, given)


def close(first, second, atol=1e-5):
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(x, y, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_padding_changes_nothing(name):
    """Anywhere, of any tokens, the end among them (trl#734), and no metric sees it (trl#6803)."""
    options = {"kl_coef": 0.1, "num_minibatches": 2}
    plain, metrics = updated(name, trajectory(), **options)
    for where, filled in (("left", 10**9), ("right", END), ("both", -1)):
        state, found = updated(name, padded(trajectory(), where, filled), **options)
        close((plain.params, metrics), (state.params, found))
    assert metrics["answer_length"] == pytest.approx(np.mean([2, 3, 4, 2, 3, 3, 2, 4]))
    assert metrics["ended"] == pytest.approx(7 / 8) and float(metrics["kl"]) != 0.0


@pytest.mark.parametrize("name", ["grpo", "rlhf"])
def test_the_ratio_is_1_at_the_first_minibatch(name):
    """With temperature too (trl#4159, #6789, #4772): no step is made, so that every minibatch is a first one."""
    agent = RECIPES[name](
        spec_of(P), network=MODEL, learning_rate=0.0, temperature=0.7, clip_epsilon=1e-5, num_minibatches=2
    )
    state = agent.init(jax.random.key(0), B)
    _, metrics = jax.jit(agent.update)(jax.random.key(1), state, trajectory())
    assert metrics["clip_fraction"] == 0.0


def test_log_probabilities_are_those_of_sampling():
    """Row n is about token n (trl#6879 shifted the mask by one), at the temperature that was sampled at."""
    params = text.init_params(jax.random.key(2), MODEL)
    prompt = Text(jnp.array([[1, 2, 3]] * 8), jnp.ones((8, 3), bool))

    @jax.jit
    def both(key):
        made = text.generate(key, params, MODEL, *prompt, num_tokens=N, end=END, temperature=0.7)
        return made, text.log_probs(params, MODEL, *prompt, made.tokens, made.mask, temperature=0.7)

    made, again = both(jax.random.key(3))
    assert 0 < made.ended.sum() < 8
    np.testing.assert_allclose(made.log_probs, again, atol=1e-4)
    # The end is a token with a probability, and what is behind it is none.
    assert (np.asarray(again)[np.asarray(made.tokens == END) & np.asarray(made.mask)] < 0).all()
    assert not np.asarray(again)[~np.asarray(made.mask)].any()


TERMS = jnp.arange(1.0, 13.0).reshape(3, 4)
LENGTHS = jnp.array([1, 4, 2])
SHOWN = jnp.arange(4)[None] < LENGTHS[:, None]


@pytest.mark.parametrize("denominator", ["constant", "tokens", "texts"])
def test_a_text_that_is_left_out_counts_neither_above_nor_below(denominator):
    """trl#6369 masked cut answers in the sum, and counted them in what it is divided by."""
    found = writing.mean_of_texts(TERMS, SHOWN & jnp.array([True, False, True])[:, None], denominator)
    kept = jnp.array([0, 2])
    assert float(found) == pytest.approx(float(writing.mean_of_texts(TERMS[kept], SHOWN[kept], denominator)))
    assert float(writing.mean_of_texts(TERMS, SHOWN, denominator)) != pytest.approx(float(found))


def test_length_is_no_bias_by_default():
    """The weight of a token in the loss: the same in short and long texts, except with the paper's means of means."""
    weight = {
        name: np.asarray(jax.grad(lambda terms, name=name: writing.mean_of_texts(terms, SHOWN, name))(TERMS))
        for name in ("constant", "tokens", "texts")
    }
    shown = np.asarray(SHOWN)
    np.testing.assert_allclose(weight["constant"][shown], 1 / 12, rtol=1e-6)
    np.testing.assert_allclose(weight["tokens"][shown], 1 / 7, rtol=1e-6)
    np.testing.assert_allclose(weight["texts"][:, 0], [1 / 3, 1 / 12, 1 / 6], rtol=1e-6)
    assert not any(each[~shown].any() for each in weight.values())


def test_cut_answers_are_left_out_on_request():
    """As if they had not been written, but for the mean of their group."""
    given = trajectory()
    options = {"mask_cut": True, "num_minibatches": 1, "normalize_std": False, "max_grad_norm": None}
    state, _ = updated("grpo", given, **options)
    other = given._replace(action=given.action._replace(tokens=given.action.tokens.at[3, 1].set(2)))
    again, _ = updated("grpo", other, **options)
    close(state.params, again.params)
    without, _ = updated("grpo", other, **{**options, "mask_cut": False})
    assert any(
        not np.allclose(x, y, atol=1e-5)
        for x, y in zip(*map(jax.tree.leaves, (state.params, without.params)), strict=True)
    )


def test_only_answers_to_one_prompt_are_compared():
    """Without a group nothing is learned, and the metric says so."""
    given = trajectory()
    apart = jnp.arange(T * B * P).reshape(T, B, P) % 5
    state, metrics = updated("grpo", given._replace(observation=given.observation._replace(tokens=apart)))
    assert metrics["informative"] == 0.0 and metrics["gradient_norm"] == 0.0


def test_the_value_starts_at_0_and_the_coefficient_follows_its_target():
    agent = jaxrl.rlhf(spec_of(P), network=MODEL, kl_coef=0.1, target_kl=1e3, num_minibatches=1)
    state = agent.init(jax.random.key(0), B)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(state.params["value"]))
    after, _ = jax.jit(agent.update)(jax.random.key(1), state, trajectory())
    assert float(after.kl_coef) == pytest.approx(0.1 * (1 - 0.1 * 0.2))  # far below its target: the largest step down
    assert any(np.asarray(x).any() for x in jax.tree.leaves(after.params["value"]))


def test_a_network_has_to_fit_the_task():
    with pytest.raises(ValueError, match="network: got vocab_size=7, must be 6"):
        jaxrl.grpo(spec_of(P), network=text.gpt2(7, width=8, num_layers=1, num_heads=2, max_length=16))
    with pytest.raises(ValueError, match="network: got max_length=6, must be at least 7"):
        jaxrl.grpo(spec_of(P), network=text.gpt2(6, width=8, num_layers=1, num_heads=2, max_length=6))
    env, params = jaxrl.make("CartPole-v1")
    with pytest.raises(TypeError, match="spec: got actions Discrete.*grpo writes texts"):
        jaxrl.grpo(jaxrl.spec(env, params))
