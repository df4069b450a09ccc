"""Tokenizers: bytes, byte pairs by the ``tokenizers`` package, and padding of what they return."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from jaxrl.arguments import check_count
from jaxrl.text import extras


class Tokenizer(Protocol):
    """Text to tokens and back.

    Attributes:
      vocab_size: V, the number of tokens.
      end: the token that ends a text; None if there is none.
    """

    @property
    def vocab_size(self) -> int: ...  # noqa: D102

    @property
    def end(self) -> int | None: ...  # noqa: D102

    def encode(self, text: str) -> list[int]: ...  # noqa: D102

    def decode(self, tokens: Iterable[int]) -> str: ...  # noqa: D102


class Bytes(NamedTuple):
    """The 256 bytes of UTF-8, and an end token.

    >>> Bytes().encode("hé"), Bytes().decode([104, 195, 169, 256])
    ([104, 195, 169], 'hé')
    """

    vocab_size: int = 257
    end: int = 256

    def encode(self, text: str) -> list[int]:
        """The bytes of a text."""
        return list(text.encode())

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of bytes; the end token is left out, and what is no UTF-8 becomes U+FFFD."""
        return bytes(int(token) for token in tokens if token < 256).decode(errors="replace")


class BPE(NamedTuple):
    """A tokenizer of the ``tokenizers`` package.

    Attributes:
      inner: a ``tokenizers.Tokenizer``.
      end: the token that ends a text; None if there is none.
    """

    inner: Any
    end: int | None

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        return int(self.inner.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens around it."""
        return list(self.inner.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; special tokens are left out."""
        return str(self.inner.decode([int(token) for token in tokens]))


END = "<|endoftext|>"


def bpe(texts: Iterable[str], vocab_size: int) -> BPE:
    """Learns byte-level byte pairs from texts, as GPT-2's.

    Sennrich et al. 2016, arXiv:1508.07909. Needs the extra ``text``.

    Args:
      texts: the texts.
      vocab_size: number of tokens: 256 bytes, the end token, and pairs.

    Returns:
      The tokenizer, whose ``vocab_size`` is smaller where the texts have too few pairs.

    Raises:
      ValueError: ``vocab_size`` is below 257.
    """
    check_count("vocab_size", vocab_size, 257)
    package = extras.package("tokenizers", "text")
    inner = package.Tokenizer(package.models.BPE())
    inner.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = package.decoders.ByteLevel()
    alphabet = package.pre_tokenizers.ByteLevel.alphabet()
    trainer = package.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return BPE(inner, int(inner.token_to_id(END)))


def pad(
    sequences: Sequence[Sequence[int]], length: int | None = None, side: Literal["left", "right"] = "left"
) -> tuple[np.ndarray, np.ndarray]:
    """Token sequences as one array.

    >>> [x.tolist() for x in pad([[5, 6], [7]])]
    [[[5, 6], [0, 7]], [[True, True], [False, True]]]

    Args:
      sequences: B sequences of tokens.
      length: T; None for that of the longest.
      side: where the padding is.

    Returns:
      ``(tokens [B, T] int32, mask [B, T] bool)``.

    Raises:
      ValueError: ``side`` is unknown, or a sequence is longer than ``length``.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side: got {side!r}, must be 'left' or 'right'")
    longest = max((len(sequence) for sequence in sequences), default=0)
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"length: got {length}, must be at least {longest}, the length of the longest sequence")
    tokens, mask = np.zeros((len(sequences), length), np.int32), np.zeros((len(sequences), length), bool)
    for row, sequence in enumerate(sequences):
        columns = slice(length - len(sequence), None) if side == "left" else slice(0, len(sequence))
        tokens[row, columns], mask[row, columns] = sequence, True
    return tokens, mask
