"""Generation and log-probabilities of completions."""

import importlib
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl import text
from jaxrl.text.generate import truncate
from tests.text.test_transformer import MAKERS, init

PROMPTS = [[3, 1, 4, 1], [9], [2, 7, 1]]
END = 5
KEY = jax.random.key(0)


@pytest.fixture(scope="module", params=list(MAKERS))
def model(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def params(model):
    return init(model, gain=2.0)


@pytest.fixture(scope="module")
def sampled(model, params):
    """Completions of many copies of the prompts, some of which end early."""
    prompt, mask = (np.repeat(x, 8, axis=0) for x in text.pad(PROMPTS))
    arguments = {"num_tokens": 7, "end": END, "temperature": 0.7}
    completion = text.generate(jax.random.key(2), params, model, prompt, mask, **arguments)
    return prompt, mask, jax.tree.map(np.asarray, completion), arguments


def test_log_probabilities_are_those_of_the_full_pass(model, params, sampled):
    """Cached steps equal the full pass, so that ratios are 1 at the first minibatch, temperature included."""
    prompt, mask, completion, _ = sampled
    full = jax.jit(lambda params, *x: text.log_probs(params, model, *x, temperature=0.7))
    again = np.asarray(full(params, prompt, mask, completion.tokens, completion.mask))
    np.testing.assert_allclose(again, completion.log_probs, atol=1e-5)
    assert (again[~completion.mask] == 0.0).all()


def test_the_mask_ends_with_the_end_token(sampled):
    _, _, completion, _ = sampled
    assert 0 < completion.ended.sum() < len(completion.ended)
    for tokens, mask, ended in zip(completion.tokens, completion.mask, completion.ended, strict=True):
        own = tokens[mask]
        assert mask[: len(own)].all() and (END in own) == bool(ended)
        assert (own[:-1] != END).all() and (tokens[len(own) :] == 0).all()
        assert ended or len(own) == 7


@pytest.mark.parametrize("side", ["right", "longer"])
def test_padding_of_prompts_changes_nothing(model, params, sampled, side):
    _, _, completion, arguments = sampled
    pad = partial(text.pad, side="right") if side == "right" else partial(text.pad, length=6)
    prompt, mask = (np.repeat(x, 8, axis=0) for x in pad(PROMPTS))
    prompt = np.where(mask, prompt, 10**9)
    other = text.generate(jax.random.key(2), params, model, prompt, mask, **arguments)
    np.testing.assert_array_equal(other.tokens, completion.tokens)
    np.testing.assert_allclose(other.log_probs, completion.log_probs, atol=1e-5)
    again = jax.jit(lambda params, *x: text.log_probs(params, model, *x, temperature=0.7))(
        params, prompt, mask, np.where(other.mask, other.tokens, 10**9), other.mask
    )
    np.testing.assert_allclose(again, completion.log_probs, atol=1e-5)


def test_what_is_drawn_in_the_loop_equals_what_is_drawn_ahead(model, params, sampled, monkeypatch):
    prompt, mask, completion, arguments = sampled
    module = importlib.import_module("jaxrl.text.generate")  # the package has a function of this name
    monkeypatch.setattr(module, "NOISE_SIZE", 0)
    module._generate.clear_cache()
    other = text.generate(jax.random.key(2), params, model, prompt, mask, **arguments)
    module._generate.clear_cache()
    np.testing.assert_array_equal(other.tokens, completion.tokens)


def test_seeds_under_vmap_are_those_alone(model, params, sampled):
    """Where one seed's texts have all ended and another's have not, the first stay as they are."""
    prompt, mask, completion, arguments = sampled
    keys = jnp.stack([jax.random.key(2), jax.random.key(3)])
    both = jax.vmap(lambda key: text.generate(key, params, model, prompt, mask, **arguments))(keys)
    np.testing.assert_array_equal(both.tokens[0], completion.tokens)
    np.testing.assert_array_equal(both.mask[0], completion.mask)
    assert (both.tokens[0] != both.tokens[1]).any()


def bandit(logits):
    """A model whose next token has these logits whatever came before, with its parameters."""
    model = text.gpt2(len(logits), width=4, num_layers=1, num_heads=1, max_length=8, tied=False)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), int), jnp.ones((1, 1), bool))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    params["params"]["final_norm"]["bias"][:] = [1.0, 0.0, 0.0, 0.0]
    params["params"]["head"]["kernel"][0] = logits
    return model, params


LOGITS = np.log([0.5, 0.3, 0.2])


def test_frequencies_at_temperature_0_7_are_the_exact_ones():
    """Texts of two tokens that may end after one: chi-squared against the exact distribution."""
    model, params = bandit(LOGITS)
    p = np.exp(LOGITS / 0.7) / np.exp(LOGITS / 0.7).sum()
    prompt, mask = np.zeros((20_000, 1), np.int32), np.ones((20_000, 1), bool)
    completion = text.generate(jax.random.key(0), params, model, prompt, mask, num_tokens=2, end=2, temperature=0.7)
    tokens, lengths = np.asarray(completion.tokens), np.asarray(completion.mask).sum(axis=1)
    counts = {(2,): ((lengths == 1) & (tokens[:, 0] == 2)).sum()}
    exact = {(2,): p[2]}
    for first, second in itertools.product((0, 1), (0, 1, 2)):
        counts[first, second] = ((lengths == 2) & (tokens == [first, second]).all(axis=1)).sum()
        exact[first, second] = p[first] * p[second]
    assert sum(counts.values()) == 20_000
    expected = 20_000 * np.array([exact[text_] for text_ in counts])
    assert stats.chisquare(list(counts.values()), expected).pvalue > 1e-3
    np.testing.assert_allclose(completion.log_probs[:, 0], np.log(p)[tokens[:, 0]], atol=1e-5)


def test_temperature_0_is_greedy_and_has_no_choice():
    model, params = bandit(LOGITS)
    prompt, mask = np.zeros((4, 1), np.int32), np.ones((4, 1), bool)
    run = jax.jit(
        lambda t: text.generate(jax.random.key(0), params, model, prompt, mask, num_tokens=3, end=None, temperature=t)
    )
    for temperature in (0.0, jnp.zeros(())):
        completion = run(temperature)
        assert (completion.tokens == 0).all() and (completion.log_probs == 0.0).all()
        assert completion.mask.all() and not completion.ended.any()


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [(None, None, 4), (2, None, 2), (9, None, 4), (None, 0.6, 2), (None, 0.5, 1), (None, 1e-9, 1), (3, 0.8, 2)],
)
def test_truncation(top_k, top_p, kept):
    """Of 0.5, 0.3, 0.15, 0.05; after top-k of 3 they are 0.526, 0.316, 0.158, and two have 0.842."""
    logits = np.log([[0.15, 0.5, 0.05, 0.3]])
    expected = np.argsort(-logits[0])[:kept]
    finite = np.flatnonzero(np.isfinite(np.asarray(truncate(jnp.asarray(logits), top_k, top_p))[0]))
    assert set(finite) == set(expected)


def test_truncated_samples_have_the_log_probabilities_of_the_truncated_distribution():
    model, params = bandit(LOGITS)
    prompt, mask = np.zeros((64, 1), np.int32), np.ones((64, 1), bool)
    completion = text.generate(
        jax.random.key(0), params, model, prompt, mask, num_tokens=1, end=None, top_k=2, top_p=0.99
    )
    assert set(np.ravel(completion.tokens)) == {0, 1}
    exact = np.log([0.625, 0.375])[np.ravel(completion.tokens)]
    np.testing.assert_allclose(completion.log_probs[:, 0], exact, atol=1e-6)


def test_a_value_head_sees_the_state_before_each_token(model, params, sampled):
    """Row n is the same whatever token n is, and logits are those that token n was sampled from."""
    prompt, mask, completion, _ = sampled
    full = jax.jit(lambda *x: text.score(params, model, prompt, mask, *x))
    scores = full(completion.tokens, completion.mask)
    changed = completion.tokens.copy()
    changed[:, 3] = 8
    other = full(changed, completion.mask)
    np.testing.assert_array_equal(np.asarray(scores.hidden)[:, :4], np.asarray(other.hidden)[:, :4])
    assert np.abs(np.asarray(scores.hidden) - other.hidden)[:, 4][completion.mask[:, 4]].max() > 0.01
    whole = (np.concatenate(pair, axis=1) for pair in ((prompt, completion.tokens), (mask, completion.mask)))
    logits = np.asarray(jax.jit(model.apply)(params, *whole)[0])
    np.testing.assert_allclose(scores.logits, logits[:, prompt.shape[1] - 1 : -1], atol=1e-5)


def test_numbers_stay_float32_under_x64(params, model):
    """A temperature in float64 would else turn logits into float64, which the loop's carry refuses."""
    prompt, mask = np.zeros((1, 2), np.int64), np.ones((1, 2), bool)
    with jax.enable_x64(True):
        options = {"num_tokens": 2, "end": np.int64(3), "temperature": np.float64(0.7), "top_p": np.float64(0.9)}
        completion = jax.eval_shape(lambda key: text.generate(key, params, model, prompt, mask, **options), KEY)
        score = partial(text.score, params, model, temperature=np.float64(0.7))
        scores = jax.eval_shape(lambda tokens, ended: score(prompt, mask, tokens, ended), *completion[::2])
    assert completion.tokens.dtype == np.int32 and completion.log_probs.dtype == np.float32
    assert {leaf.dtype for leaf in scores} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_tokens": 0}, "num_tokens: got 0"),
        ({"num_tokens": 99}, "max_length=16"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"top_k": 0}, "top_k: got 0"),
        ({"top_p": 0.0}, "top_p: got 0.0"),
        ({"end": 11}, "end: got 11"),
        ({"key": 3}, "key: got 3"),
        ({"prompt": np.zeros((2, 0), int)}, "prompt: got"),
        ({"prompt": np.zeros((2, 2))}, "prompt: got float"),
        ({"prompt_mask": np.ones((2, 2))}, "prompt_mask: got float"),
        ({"prompt_mask": np.ones((2, 3), bool)}, r"prompt_mask: got bool\[2, 3\]"),
    ],
)
def test_arguments_are_checked(change, named):
    model = MAKERS["gpt2"]()
    given = {"key": jax.random.key(0), "prompt": np.zeros((2, 2), int), "prompt_mask": np.ones((2, 2), bool)}
    given |= {"num_tokens": 2, "end": 5, **change}
    with pytest.raises((TypeError, ValueError), match=named):
        text.generate(given.pop("key"), {}, model, given.pop("prompt"), given.pop("prompt_mask"), **given)


def test_log_probabilities_refuse_temperature_0():
    with pytest.raises(ValueError, match="temperature: got 0"):
        ones = np.ones((1, 1), bool)
        text.log_probs({}, MAKERS["gpt2"](), np.zeros((1, 1), int), ones, np.zeros((1, 1), int), ones, temperature=0.0)
