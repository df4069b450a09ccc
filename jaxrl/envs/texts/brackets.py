"""A text task with many right answers: close what is open."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.envs.texts.base import TextTask, answer_of
from jaxrl.types import Array, Text

BRACKETS = "([{)]}"
NUM_KINDS = 3


class Brackets(TextTask):
    """Continue N brackets so that all are closed in the right order: "([(]" has no continuation, "([(" has ")])".

    It pays 1 for an answer that closes all and ends, else 0. An answer may open more, so there are several.

    Args:
      num_brackets: N, the brackets of a prompt.
      held_out: draw the eighth of prompts that is never drawn otherwise.
    """

    def __init__(self, num_brackets: int = 6, held_out: bool = False) -> None:
        check_count("num_brackets", num_brackets)
        super().__init__(BRACKETS, num_brackets, num_brackets + 3, held_out)
        self.num_brackets = num_brackets

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"Brackets-{self.num_brackets}"

    def draw(self, key: Array) -> Text:
        """A random beginning with an open bracket at its end."""
        kinds_key, open_key = jax.random.split(key)
        kinds = jax.random.randint(kinds_key, (self.num_brackets,), 0, NUM_KINDS)
        opens = jax.random.bernoulli(open_key, 0.6, (self.num_brackets,)).at[-1].set(True)

        def write(carry: tuple[Array, Array], given: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            stack, depth = carry
            kind, is_open = given
            is_open = is_open | (depth == 0)
            token = jnp.where(is_open, kind, NUM_KINDS + stack[depth - 1])
            stack = jnp.where(is_open, stack.at[depth].set(kind), stack)
            return (stack, depth + jnp.where(is_open, 1, -1)), token

        start = jnp.zeros(self.num_brackets, jnp.int32), jnp.int32(0)
        _, tokens = jax.lax.scan(write, start, (kinds, opens))
        return Text(tokens.astype(jnp.int32), jnp.ones(tokens.shape, bool))

    def _read(self, tokens: Array, mask: Array) -> tuple[Array, Array, Array]:
        """The open brackets after a text: ``(kinds [M], how many, whether nothing was closed wrongly)``."""

        def read(
            carry: tuple[Array, Array, Array], given: tuple[Array, Array]
        ) -> tuple[tuple[Array, Array, Array], None]:
            stack, depth, is_right = carry
            token, is_there = given
            opens, closes = is_there & (token < NUM_KINDS), is_there & (token >= NUM_KINDS)
            fits = (depth > 0) & (stack[depth - 1] == token - NUM_KINDS)
            stack = jnp.where(opens, stack.at[depth].set(token), stack)
            depth = depth + opens.astype(jnp.int32) - (closes & (depth > 0)).astype(jnp.int32)
            return (stack, depth, is_right & (fits | ~closes)), None

        start = jnp.zeros(tokens.shape[0], jnp.int32), jnp.int32(0), jnp.ones((), bool)
        (stack, depth, is_right), _ = jax.lax.scan(read, start, (tokens, mask))
        return stack, depth, is_right

    def demonstrate(self, key: Array, prompt: Text) -> Text:
        """Closes what is open, nothing else."""
        stack, depth, _ = self._read(jnp.where(prompt.mask, prompt.tokens, 0), prompt.mask)
        position = jnp.arange(self.num_brackets)
        closing = NUM_KINDS + stack[jnp.maximum(depth - 1 - position, 0)]
        return answer_of(closing, position < depth, self.length, self.end)

    def score(self, prompt: Text, answer: Text) -> Array:
        """1 where all is closed and the answer has ended, else 0."""
        ends = answer.mask & (answer.tokens == self.end)
        mask = jnp.concatenate([prompt.mask, answer.mask & ~ends])
        tokens = jnp.where(mask, jnp.concatenate([prompt.tokens, answer.tokens]), 0)
        _, depth, is_right = self._read(tokens, mask)
        return (is_right & (depth == 0) & ends.any()).astype(jnp.float32)
