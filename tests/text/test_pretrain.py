"""Next-token training and bits a byte."""

import math

import jax
import numpy as np
import pytest

from jaxrl import text

MODEL = text.gpt2(257, width=32, num_layers=1, num_heads=2, max_length=16)
OPTIONS = {
    "tokenizer": text.Bytes(),
    "num_steps": 60,
    "batch_size": 8,
    "length": 16,
    "learning_rate": 0.02,
    "warm_up": 10,
}
CORPUS = "the cat sat on the mat. " * 40


@pytest.fixture(scope="module")
def trained():
    rows = []
    report = lambda *row: rows.append(row)  # noqa: E731
    return text.pretrain(jax.random.key(0), MODEL, CORPUS, **OPTIONS, report=report, evaluate_every=2), rows


def test_it_learns_a_text_that_repeats(trained):
    """The frequencies of letters alone take 3.1 bits; only the first letters of a window are uncertain."""
    result, rows = trained
    _, counts = np.unique(list(CORPUS), return_counts=True)
    share = counts / counts.sum()
    assert result.bits_per_byte < 1.0 < 3.0 < -(share * np.log2(share)).sum()
    assert [row[0] for row in rows] == [25, 50, 60] and rows == result.history
    assert math.isnan(rows[0][2]) and rows[1][2] > rows[2][2] == result.bits_per_byte


def test_the_same_key_gives_the_same_model_and_another_does_not(trained):
    again, other = (text.pretrain(jax.random.key(key), MODEL, CORPUS, **OPTIONS) for key in (0, 1))
    assert again.bits_per_byte == trained[0].bits_per_byte != other.bits_per_byte


def test_training_goes_on_from_given_parameters(trained, tmp_path):
    """The parameters of the caller stay his; a path is read as a file."""
    (tmp_path / "corpus.txt").write_text(CORPUS)
    before = jax.tree.map(np.array, trained[0].params)
    options = {**OPTIONS, "num_steps": 1, "learning_rate": 1e-9, "params": trained[0].params}
    more = text.pretrain(jax.random.key(0), MODEL, tmp_path / "corpus.txt", **options)
    assert more.bits_per_byte == pytest.approx(trained[0].bits_per_byte, rel=1e-4)
    jax.tree.map(np.testing.assert_array_equal, trained[0].params, before)


def test_bits_a_byte_are_those_of_a_plain_loop(trained):
    """Windows of 16 predictions that overlap by one token, the last one short; é is two bytes."""
    words = "the mat, the café sat on a"
    ids = np.array(text.Bytes().encode(words))
    total = 0.0
    for start in range(0, len(ids) - 1, 16):
        part = ids[start : start + 17]
        whole = np.zeros((1, 16), np.int32)
        whole[0, : len(part) - 1] = part[:-1]
        logits, _ = jax.jit(MODEL.apply)(trained[0].params, whole, np.arange(16)[None] < len(part) - 1)
        rows = np.asarray(logits, np.float64)[0, : len(part) - 1]
        total += (np.log(np.exp(rows).sum(-1)) - rows[np.arange(len(rows)), part[1:]]).sum()
    bits = text.bits_per_byte(trained[0].params, MODEL, words, text.Bytes(), length=16, batch_size=8)
    assert bits == pytest.approx(total / math.log(2.0) / 27, rel=1e-5)


def test_prose_is_english_of_half_a_megabyte():
    assert 300_000 < len(text.prose()) < 800_000
    assert "Assert statements are a convenient way to insert debugging assertions" in text.prose()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"length": 17}, "max_length=16"),
        ({"num_steps": 0}, "num_steps: got 0"),
        ({"held_out": 1.0}, "held_out: got 1.0"),
        ({"text": "short"}, "text: got 4 tokens"),
        ({"tokenizer": text.Bytes(vocab_size=300)}, "tokenizer: got 300"),
    ],
)
def test_arguments_are_checked(change, named):
    given = {"text": CORPUS, **OPTIONS, **change}
    with pytest.raises(ValueError, match=named):
        text.pretrain(jax.random.key(0), MODEL, given.pop("text"), **given)
