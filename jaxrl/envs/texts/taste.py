"""A text task with a scripted taste in place of right answers: vowels, and a length."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.envs.texts.base import LETTERS, TextTask, answer_of
from jaxrl.types import Array, Text

VOWELS = "aeiou"
# Letters of English prose, in per mille, a to z; a rough table serves.
FREQUENCIES = (82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1)


class Vowels(TextTask):
    """Write letters: the score is the share of vowels, less the distance of the length from N/2, in units of N.

    ``score = vowels / L - |L - N / 2| / N`` for an answer of L letters without its end; it lies in [-1/2, 1].
    Demonstrations are random letters of English frequency, of any length: an agent has to leave them, and how far is
    for the KL divergence to say.

    Args:
      num_letters: N, the most letters of an answer.
      held_out: draw the eighth of prompts that is never drawn otherwise.
    """

    def __init__(self, num_letters: int = 16, held_out: bool = False) -> None:
        check_count("num_letters", num_letters, least=2)
        super().__init__(LETTERS + "=", 4, num_letters + 1, held_out)
        self.num_letters = num_letters

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"Vowels-{self.num_letters}"

    def draw(self, key: Array) -> Text:
        """Three random letters and an equals sign."""
        letters = jax.random.randint(key, (3,), 0, len(LETTERS))
        return Text(jnp.append(letters, len(LETTERS)).astype(jnp.int32), jnp.ones(4, bool))

    def demonstrate(self, key: Array, prompt: Text) -> Text:
        """Random letters of English frequency."""
        letters_key, length_key = jax.random.split(key)
        logits = jnp.log(jnp.asarray(FREQUENCIES, jnp.float32))
        letters = jax.random.categorical(letters_key, logits, shape=(self.num_letters,))
        count = jax.random.randint(length_key, (), 1, self.num_letters + 1)
        return answer_of(letters, jnp.arange(self.num_letters) < count, self.length, self.end)

    def score(self, prompt: Text, answer: Text) -> Array:
        """The share of vowels less the distance from half the length."""
        own = answer.mask & (answer.tokens != self.end)
        kinds = jnp.asarray([LETTERS.index(vowel) for vowel in VOWELS], jnp.int32)
        vowels = (own[:, None] & (answer.tokens[:, None] == kinds[None])).sum()
        count = own.sum()
        distance = jnp.abs(count - self.num_letters / 2) / self.num_letters
        return (vowels / jnp.maximum(count, 1) - distance).astype(jnp.float32)
