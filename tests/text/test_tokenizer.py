"""Tokenizers and padding."""

import sys

import pytest

from jaxrl import text


def test_bytes_there_and_back():
    tokens = text.Bytes().encode("naïve, 3 € ☃")
    assert max(tokens) < 256 and len(tokens) == len("naïve, 3 € ☃".encode())
    assert text.Bytes().decode([*tokens, text.Bytes().end]) == "naïve, 3 € ☃"
    assert text.Bytes().decode([0xC3]) == "\ufffd"


def test_byte_pairs_there_and_back_and_shorter():
    corpus = ["the cat and the hat", "that is the cat's hat"] * 3
    tokenizer = text.bpe(corpus, 280)
    tokens = tokenizer.encode("the hat: naïve ☃")
    assert tokenizer.decode([*tokens, tokenizer.end]) == "the hat: naïve ☃"
    assert len(tokenizer.encode(corpus[0])) < len(corpus[0]) / 2
    assert 257 < tokenizer.vocab_size <= 280 and max(tokens) < tokenizer.vocab_size


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"length": 1}, "length: got 1"), ({"side": "middle"}, "side: got 'middle'")],
)
def test_padding_refuses(arguments, named):
    with pytest.raises(ValueError, match=named):
        text.pad([[1, 2]], **arguments)


def test_padding_on_the_right_to_a_length():
    tokens, mask = text.pad([[5, 6], [], [7]], 3, "right")
    assert tokens.tolist() == [[5, 6, 0], [0, 0, 0], [7, 0, 0]]
    assert mask.tolist() == [[True, True, False], [False] * 3, [True, False, False]]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r'tokenizers.*pip install "jaxrl\[text\]"'):
        text.bpe(["a"], 300)
