"""Text tasks with one right answer, which pay 1 for it and 0 for anything else."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.envs.texts.base import LETTERS, TextTask, answer_of, equal, packed
from jaxrl.types import Array, Text


class _Exact(TextTask):
    """A task that pays for the answer that ``demonstrate`` gives."""

    def score(self, prompt: Text, answer: Text) -> Array:
        """1 for the right answer with its end, else 0."""
        return equal(answer, self.demonstrate(jax.random.key(0), prompt)).astype(jnp.float32)


class _Letters(_Exact):
    def __init__(self, num_letters: int = 6, held_out: bool = False) -> None:
        check_count("num_letters", num_letters)
        super().__init__(LETTERS + "=", num_letters + 1, num_letters + 2, held_out)
        self.num_letters = num_letters

    def draw(self, key: Array) -> Text:
        """Random letters and an equals sign."""
        letters = jax.random.randint(key, (self.num_letters,), 0, len(LETTERS))
        tokens = jnp.append(letters, len(LETTERS)).astype(jnp.int32)
        return Text(tokens, jnp.ones(tokens.shape, bool))

    def _changed(self, letters: Array) -> Array:
        raise NotImplementedError

    def demonstrate(self, key: Array, prompt: Text) -> Text:
        """The right answer."""
        letters = self._changed(prompt.tokens[: self.num_letters])
        return answer_of(letters, jnp.ones(letters.shape, bool), self.length, self.end)


class Reverse(_Letters):
    """Write the letters of the prompt in reverse order: "hello=" is answered by "olleh".

    Args:
      num_letters: the number of letters.
      held_out: draw the eighth of prompts that is never drawn otherwise.
    """

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"Reverse-{self.num_letters}"

    def _changed(self, letters: Array) -> Array:
        return letters[::-1]


class Sort(_Letters):
    """Write the letters of the prompt in alphabetical order: "hello=" is answered by "ehllo".

    Args:
      num_letters: the number of letters.
      held_out: draw the eighth of prompts that is never drawn otherwise.
    """

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"Sort-{self.num_letters}"

    def _changed(self, letters: Array) -> Array:
        return jnp.sort(letters)


class Add(_Exact):
    """Add two numbers of up to D digits: "7+38=" is answered by "45". Prompts and answers differ in length.

    Args:
      num_digits: D, at most 8.
      held_out: draw the eighth of prompts that is never drawn otherwise.
    """

    def __init__(self, num_digits: int = 2, held_out: bool = False) -> None:
        check_count("num_digits", num_digits)
        if num_digits > 8:
            raise ValueError(f"num_digits: got {num_digits}, must be at most 8, so that sums fit into 32 bits")
        super().__init__("0123456789+=", 2 * num_digits + 2, num_digits + 3, held_out)
        self.num_digits = num_digits

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"Add-{self.num_digits}"

    def draw(self, key: Array) -> Text:
        """Two numbers, each with as many digits as any other."""
        length_key, number_key = jax.random.split(key)
        highest = 10 ** jax.random.randint(length_key, (2,), 1, self.num_digits + 1)
        numbers = jax.random.randint(number_key, (2,), 0, highest)
        (a, known_a), (b, known_b) = (_digits(number, self.num_digits) for number in numbers)
        true, plus, equals = jnp.ones(1, bool), jnp.array([10]), jnp.array([11])
        tokens = jnp.concatenate([a, plus, b, equals])
        return packed(tokens, jnp.concatenate([known_a, true, known_b, true]), self.prompt_length)

    def demonstrate(self, key: Array, prompt: Text) -> Text:
        """The sum."""

        def read(numbers: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
            token, is_there = given
            first, second = numbers
            grown = jnp.where(is_there & (token < 10), 10 * second + token, second)
            return jnp.where(is_there & (token == 10), jnp.stack([grown, 0]), jnp.stack([first, grown])), None

        tokens = jnp.where(prompt.mask, prompt.tokens, 0)
        numbers, _ = jax.lax.scan(read, jnp.zeros(2, jnp.int32), (tokens, prompt.mask))
        return answer_of(*_digits(numbers.sum(), self.num_digits + 1), self.length, self.end)


def _digits(number: Array, width: int) -> tuple[Array, Array]:
    """The decimal digits ``[width]`` of a number, and which of them are written."""
    powers = jnp.asarray([10**i for i in range(width)][::-1], jnp.int32)
    return number // powers % 10, (number >= powers) | (powers == 1)
