"""Text tasks: prompts, right answers, scores, and what is held out."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import ProtocolError, SpecError, check, make, repeat, spec, specs, texts
from jaxrl.envs.texts.base import is_held_out
from jaxrl.types import Text, Texts

TASKS = {
    "Reverse-3": lambda prompt: prompt[-2::-1] + ".",
    "Sort-3": lambda prompt: "".join(sorted(prompt[:-1])) + ".",
    "Add-2": lambda prompt: str(eval(re.sub(r"\b0+(?=\d)", "", prompt[:-1]))) + ".",
    "Brackets-4": None,
    "Vowels-6": None,
}


def drawn(env, num=40):
    """Prompts, demonstrations and their scores."""

    @jax.jit
    def draw(key):
        prompt = env.prompt(key)
        answer = env.demonstrate(jax.random.fold_in(key, 1), prompt)
        return prompt, answer, env.score(prompt, answer), is_held_out(prompt)

    return jax.vmap(draw)(jax.random.split(jax.random.key(0), num))


def row(text, index):
    return jax.tree.map(lambda x: x[index], text)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_the_protocol(name):
    env, params = make(name)
    report = check(env, params, num_steps=2, num_envs=16)
    assert report.terminated == report.steps == 64  # two runs of 2 x 16
    assert isinstance(spec(env, params).action, Texts)


@pytest.mark.parametrize("name", [name for name, answer in TASKS.items() if answer])
def test_demonstrations_are_right(name):
    env, _ = make(name)
    prompts, answers, scores, _ = drawn(env)
    assert (scores == 1.0).all()
    for i in range(40):
        assert env.decode(row(answers, i)) == TASKS[name](env.decode(row(prompts, i)))
    lengths = {len(env.decode(row(prompts, i))) for i in range(40)}
    assert lengths == ({4} if name != "Add-2" else {4, 5, 6})


def test_an_answer_without_its_end_or_with_more_is_wrong():
    env, _ = make("Reverse-3")
    prompt = env.encode("abc=")
    score = lambda tokens, length: float(  # noqa: E731
        env.score(prompt, Text(jnp.array(tokens), jnp.arange(5) < length))
    )
    end = env.end
    assert score([2, 1, 0, end, 7], 4) == 1.0
    assert score([2, 1, 0, end, 10**9], 4) == 1.0  # padding is not read
    assert score([2, 1, 0, end, 7], 5) == 0.0
    assert score([2, 1, 0, 7, 7], 3) == 0.0
    assert score([2, 1, 0, 7, 7], 5) == 0.0
    assert score([2, 0, 1, end, 7], 4) == 0.0


@pytest.mark.parametrize(
    ("prompt", "answer", "is_right"),
    [
        ("([([", "])])", True),
        ("([([", "])]){}", True),
        ("([([", "])", False),
        ("([([", "]))]", False),
        ("([([", ")])]", False),
        ("(){[", "]}", True),
        ("(){[", "]}]", False),
    ],
)
def test_brackets(prompt, answer, is_right):
    env, _ = make("Brackets-4")
    assert float(env.score(env.encode(prompt), env.encode(answer, 7))) == is_right
    cut = Text(env.encode(answer, 7).tokens, env.encode(answer, 7).tokens != env.end)
    assert float(env.score(env.encode(prompt), cut._replace(mask=cut.mask & (jnp.arange(7) < len(answer))))) == 0.0


def test_demonstrations_close_all_brackets():
    env, _ = make("Brackets-4")
    assert (drawn(env)[2] == 1.0).all()


def test_vowels():
    env, _ = make("Vowels-6")
    score = lambda text: float(env.score(env.encode("abc="), env.encode(text, 7)))  # noqa: E731
    assert score("aei") == 1.0
    assert score("abc") == pytest.approx(1 / 3)
    assert score("aeioua") == 0.5
    assert score("") == -0.5


@pytest.mark.parametrize("name", TASKS)
def test_what_is_held_out_is_never_drawn(name):
    for held_out in (False, True):
        env, _ = make(name, held_out=held_out)
        assert (drawn(env)[3] == held_out).all()


class Leaky(texts.Reverse):
    """Reads what stands at padding."""

    def score(self, prompt, answer):
        return answer.tokens.sum().astype(jnp.float32)


def test_a_score_that_reads_padding_is_found():
    env = Leaky(2)
    with pytest.raises(ProtocolError, match="^padding: the reward changed"):
        check(env, env.default_params, num_steps=2, num_envs=16)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Texts(5, 4, 5), "got end=5 .* must be a token, below 5"),
        (Texts(5, 0, 1), "got length=0 .* at least 1"),
        (Texts(1, 4, 0), "got num_tokens=1 .* at least 2"),
    ],
)
def test_a_vocabulary_has_its_end(space, message):
    with pytest.raises(SpecError, match=message):
        specs.action_spec(space)


def test_a_prompt_has_a_mask_of_its_length():
    tokens = jax.ShapeDtypeStruct((3,), jnp.int32)
    with pytest.raises(SpecError, match=r"Text.mask: got bool\[4\]|Text.tokens: got int32\[3\]"):
        specs.observation_spec(Text(tokens, jax.ShapeDtypeStruct((4,), jnp.bool_)), Texts(5, 4, 0))


def test_a_sum_needs_32_bits():
    with pytest.raises(ValueError, match="num_digits: got 9"):
        texts.Add(9)


def test_repeat_gives_a_prompt_again():
    env, params = make("Sort-3")
    repeated = repeat(env, 3)
    check(repeated, params, num_steps=4, num_envs=8)
    agent_text = Text(jnp.zeros((2, 5), jnp.int32), jnp.ones((2, 5), bool))

    def step(carry, key):
        observation, state = carry
        stepped = jax.vmap(repeated.step, (0, 0, 0, None))(jax.random.split(key, 2), state, agent_text, params)
        return stepped[:2], observation.tokens

    first = jax.vmap(repeated.reset, (0, None))(jax.random.split(jax.random.key(1), 2), params)
    _, seen = jax.jit(lambda first: jax.lax.scan(step, first, jax.random.split(jax.random.key(2), 7)))(first)
    seen = np.asarray(seen)
    for start, end in ((0, 3), (3, 6)):
        assert (seen[start:end] == seen[start]).all()
    assert (seen[2] != seen[3]).any(-1).all() and (seen[5] != seen[6]).any(-1).all()


def test_other_recipes_refuse_texts():
    env, params = make("Reverse-3")
    with pytest.raises(TypeError, match="spec: got actions Texts.*ppo"):
        jaxrl.ppo(spec(env, params))
