"""Judges by functions and by language models in JAX, their texts, and the likelihood as a reward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import text
from jaxrl.feedback.judge import (
    Names,
    by_scores,
    byte_writer,
    function,
    in_both_orders,
    language_model,
    likelihood,
    names_of,
    pairs_of,
    template,
)
from jaxrl.types import Box, Discrete, Observation, Spec, Transition

ENV, PARAMS = jaxrl.make("CartPole-v1")
SPEC = jaxrl.spec(ENV, PARAMS)


def steps(count, rows=6):
    """Observations, actions and mask of a segment of CartPole of ``count`` steps, in ``rows`` rows, as NumPy arrays."""
    observation = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4) / 10
    return observation, np.arange(rows) % 2, np.arange(rows) < count


def test_texts_name_features_actions_and_the_end():
    write = template(SPEC, names_of(ENV))
    assert write.segment(*steps(2)) == (
        "Step 1. State: cart position 0.00, cart velocity 0.10, pole angle 0.20, pole angular velocity 0.30, "
        "Action: push left\n"
        "Step 2. State: cart position 0.40, cart velocity 0.50, pole angle 0.60, pole angular velocity 0.70, "
        "Action: push right\n"
        "The attempt ended after step 2."
    )
    assert len(write.segment(*steps(6)).splitlines()) == 6
    thin = template(SPEC, names_of(ENV), every=4, step="{number}: {pole angle:.1f} {action}").segment(*steps(6))
    assert thin == "Step 1. 1: 0.2 push left\nStep 5. 5: 1.8 push left\nStep 6. 6: 2.2 push right"
    assert write.segment(*steps(0)) == "The attempt ended after step 0."


def test_texts_of_other_spaces_and_of_pairs():
    pendulum, params = jaxrl.make("Pendulum-v1")
    write = template(jaxrl.spec(pendulum, params), names_of(pendulum))
    assert write.action(np.array([-1.5])) == "torque -1.50"
    plain = template(Spec(jax.ShapeDtypeStruct((2,), "float32"), Box((2,), -1.0, 1.0)))
    assert plain.state(np.array([1, 2])) == "feature 0 1.00, feature 1 2.00"
    goal = Observation(np.array([1.0, 2.0]), goal=np.array([3.0]))
    assert plain.state(goal) == "feature 0 1.00, feature 1 2.00, goal 3.00"
    pairs = [np.stack(leaves)[None] for leaves in zip(steps(2), steps(4), strict=True)]
    assert pairs_of(template(SPEC), *pairs) == [tuple(template(SPEC).segment(*steps(count)) for count in (2, 4))]
    env = type("Own", (), {"feature_names": ["a"], "action_names": ("up", "down"), "task": "Go up."})()
    assert names_of(env) == Names(("a",), ("up", "down"), "Go up.")


@pytest.mark.parametrize(
    ("spec", "options", "part"),
    [
        (SPEC, {"names": Names(("a", "b"))}, "names.features: got 2 (a, b), must be 4"),
        (SPEC, {"names": Names(actions=("a",))}, "names.actions: got 1 (a), must be 2"),
        (SPEC, {"step": "{stat}"}, "{stat}"),
        (SPEC, {"every": 0}, "every: got 0"),
        (Spec(jax.ShapeDtypeStruct((8, 8, 1), "float32"), Discrete(2)), {}, "[8, 8, 1]"),
    ],
)
def test_texts_that_can_not_be_written_are_refused_by_name(spec, options, part):
    with pytest.raises(ValueError, match="names|step|every|spec") as raised:
        template(spec, **options)
    assert part in str(raised.value)


def test_both_orders_take_out_the_place_and_report_flips():
    def judge(first, second):
        if "skip" in first + second:
            return None
        return 1.0 if "always" in first + second else float(len(first) > len(second))

    found = in_both_orders(function(judge), [("aa", "b"), ("c", "dd"), ("always", "x"), ("skip", "x")])
    np.testing.assert_array_equal(found.label[:3], [1.0, 0.0, 0.5])
    assert found.given.tolist() == [True, True, True, False] and found.flipped.tolist() == [False, False, True, False]
    assert found.flip_rate == pytest.approx(1 / 3) and not found.waiting.any()
    assert np.isnan(in_both_orders(function(judge), []).flip_rate)
    soft = in_both_orders(function(lambda first, second: 0.9 if first == "good" else 0.3), [("good", "bad")])
    np.testing.assert_allclose(soft.label, [0.8], atol=1e-6)


def test_a_function_that_scores_compares():
    judge = function(score=lambda text: None if text == "?" else float(len(text)))
    assert judge.compare([("aa", "b"), ("b", "c"), ("?", "a")]).value[:2].tolist() == [1.0, 0.5]
    assert by_scores(judge, [("aa", "b"), ("?", "a")]).given.tolist() == [True, False]
    with pytest.raises(ValueError, match=r"compare: returned 2.0"):
        function(lambda first, second: 2.0).compare([("a", "b")])
    with pytest.raises(ValueError, match="score: returned nan"):
        function(score=lambda text: float("nan")).score(["a"])
    with pytest.raises(TypeError, match="compare and score"):
        function()


def counts(prompt, prompt_mask, tokens, mask):
    """Log-probabilities of a "language model" that likes A by the number of x before "Attempt B", B by those after."""
    is_x = (prompt == ord("x")) & prompt_mask
    before = jnp.cumsum((prompt == ord("B")) & prompt_mask, axis=-1) < 1  # "Attempt B" has the first one
    in_first, in_second = (is_x & before).sum(-1), (is_x & ~before).sum(-1)
    says_a = tokens[:, -1] == ord("A")
    return jnp.where(mask, -1.0, 0.0).at[:, -1].set(jnp.where(says_a, in_first, in_second).astype(jnp.float32))


def test_a_language_model_judges_by_the_ratio_of_two_answers():
    judge = language_model(counts, lambda text: list(text.encode()), "Much.", batch_size=4)
    pairs = [("ox", "o"), ("o", "oxx"), ("ox", "ox"), ("oxx" * 9, "o"), ("o", "ox")]
    gap = np.array([1.0, -2.0, 0.0, 18.0, -1.0])
    np.testing.assert_allclose(judge.compare(pairs).value, 1 / (1 + np.exp(-gap)), atol=1e-6)
    assert judge.compare(pairs).given.all() and judge.compare([]).value.shape == (0,)
    assert judge.score(["o", "ox"]).given.all()


def test_a_transformer_of_text_judges_by_what_it_says_of_the_answers():
    model, encode = (
        text.llama(257, width=8, num_layers=1, num_heads=1, max_length=448),
        lambda words: list(words.encode()),
    )
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32), jnp.ones((1, 8), bool))
    params = jax.tree.map(lambda leaf: 30.0 * leaf if leaf.ndim > 1 else leaf, params)  # it has opinions
    asked = []

    def log_probs(*arrays):
        return text.log_probs(params, model, *arrays)

    judge = language_model(log_probs, lambda words: asked.append(words) or encode(words), "Much.", batch_size=2)
    found = judge.compare([("ox", "o"), ("an ox", "another one")]).value
    prompts = [words for words in dict.fromkeys(asked) if words.endswith("Answer:")]
    full = [encode(f"{prompt} A") for prompt in prompts]
    length = max(map(len, full))
    tokens = jnp.array([row + [0] * (length - len(row)) for row in full])
    logits, _ = jax.jit(model.apply)(params, tokens, jnp.arange(length)[None] < jnp.array([[len(row)] for row in full]))
    last = np.stack([logits[index, len(row) - 2] for index, row in enumerate(full)])  # after the space
    expected = 1 / (1 + np.exp(last[:, ord("B")] - last[:, ord("A")]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected - 0.5).max() > 0.01


def test_bytes_written_in_jax_are_the_text_of_the_template():
    names = names_of(ENV)
    observation = np.array([[0.0, 12.348, -0.126, -7.0], [1e9, -0.001, 99.5, 0.25]], np.float32)
    action = np.array([1, 0])
    tokens, mask = map(np.asarray, jax.jit(byte_writer(SPEC, names))(observation, action))
    written = [bytes(row[shown].tolist()).decode() for row, shown in zip(tokens, mask, strict=True)]
    expected = template(SPEC, names)
    clipped = np.clip(observation, -99999, 99999)
    for line, state, chosen in zip(written, clipped, action, strict=True):
        assert line == f"State: {expected.state(state)}, Action: {expected.action(chosen)}"
    assert (np.diff(mask.astype(int), axis=1) <= 0).all() and (tokens[~mask] == 0).all()
    box = Spec(jax.ShapeDtypeStruct((1,), "float32"), Box((1,), -2.0, 2.0))
    tokens, mask = map(np.asarray, byte_writer(box, digits=0)(jnp.array([[3.4]]), jnp.array([[-2.0]])))
    assert bytes(tokens[mask].tolist()).decode() == "State: feature 0 3, Action: action 0 -2"


def test_likelihood_is_the_mean_over_the_tokens_of_a_step():
    shape = (3, 2)
    observation = jnp.arange(24.0).reshape(*shape, 4)
    action = jnp.array([[0, 1]] * 3)
    zero = jnp.zeros(shape)
    trajectory = Transition(observation, action, zero, zero, zero > 0, zero > 0, observation)
    model = likelihood(lambda tokens, mask: jnp.where(tokens == ord("r"), -1.0, 0.0), byte_writer(SPEC, names_of(ENV)))
    assert model.init(jax.random.key(0), 2) == ()
    reward = jax.jit(model.reward)(jax.random.key(0), (), trajectory)
    texts = [[
        f"State: {template(SPEC, names_of(ENV)).state(observation[t, b])}, Action: {('push left', 'push right')[b]}"
        for b in range(2)] for t in range(3)]  # fmt: skip
    np.testing.assert_allclose(reward, [[-line.count("r") / len(line) for line in row] for row in texts], rtol=1e-6)
    assert model.update(jax.random.key(0), (), trajectory) == ((), {})
