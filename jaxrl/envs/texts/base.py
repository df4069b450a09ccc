"""The base of text tasks: ``reset`` gives a prompt, one action is a whole answer, and the episode ends with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, PyTree, Text, Texts

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUM_PARTS = 8
"""One prompt in so many is held out."""


class TaskParams(NamedTuple):
    """The parameters of a text task.

    Attributes:
      max_steps_in_episode: an answer ends the episode.
    """

    max_steps_in_episode: int = 1


class TaskState(NamedTuple):
    """The prompt that is to be answered."""

    prompt: Text


class TextTask:
    """A task whose actions are texts. Subclasses define ``draw``, ``demonstrate`` and ``score``.

    Args:
      alphabet: the characters of the vocabulary, tokens from 0 on; the token after them ends an answer.
      prompt_length: P, the most characters of a prompt.
      length: N, the most tokens of an answer, with its end.
      held_out: draw prompts that are never drawn otherwise, an eighth of all: for evaluation. There have to be some
        hundred prompts.
    """

    def __init__(self, alphabet: str, prompt_length: int, length: int, held_out: bool = False) -> None:
        self.alphabet, self.prompt_length, self.length, self.held_out = alphabet, prompt_length, length, held_out

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return len(self.alphabet)

    @property
    def default_params(self) -> TaskParams:
        """The parameters."""
        return TaskParams()

    def action_space(self, params: PyTree = None) -> Texts:
        """Texts of the vocabulary."""
        return Texts(len(self.alphabet) + 1, self.length, self.end)

    def draw(self, key: Array) -> Text:
        """A prompt ``[P]``."""
        raise NotImplementedError

    def demonstrate(self, key: Array, prompt: Text) -> Text:
        """An answer ``[N]`` to a prompt, from which a model can start."""
        raise NotImplementedError

    def score(self, prompt: Text, answer: Text) -> Array:
        """The reward of an answer, float32, whatever stands at padding."""
        raise NotImplementedError

    def prompt(self, key: Array) -> Text:
        """A prompt of the task's part of all prompts: see ``held_out``."""

        def wrong(carry: tuple[Array, Text, Array]) -> Array:
            return (carry[2] < 256) & (is_held_out(carry[1]) != self.held_out)

        def again(carry: tuple[Array, Text, Array]) -> tuple[Array, Text, Array]:
            key, use = jax.random.split(carry[0])
            return key, self.draw(use), carry[2] + 1

        return jax.lax.while_loop(wrong, again, (key, self.draw(key), jnp.int32(0)))[1]

    def reset(self, key: Array, params: PyTree = None) -> tuple[Text, TaskState]:
        """A prompt."""
        prompt = self.prompt(key)
        return prompt, TaskState(prompt)

    def step(
        self, key: Array, state: TaskState, action: Text, params: PyTree = None
    ) -> tuple[Text, TaskState, Array, Array, Array, dict[Any, Any]]:
        """Scores an answer and gives the next prompt."""
        reward = jnp.asarray(self.score(state.prompt, action), jnp.float32)
        observation, new = self.reset(key, params)
        done = jnp.ones((), bool)
        return observation, new, reward, done, ~done, {"final_observation": state.prompt}

    def encode(self, text: str, length: int | None = None) -> Text:
        """A string as a prompt ``[P]`` or, with a length, as an answer ``[length]`` that ends."""
        tokens = [self.alphabet.index(character) for character in text]
        mask = np.ones(len(tokens), bool)
        if length is None:
            return packed(np.asarray(tokens, np.int32), mask, self.prompt_length)
        return answer_of(np.asarray(tokens, np.int32), mask, length, self.end)

    def decode(self, text: Text) -> str:
        """The string of a text, on the host; an end shows as a full stop, a cut answer has none."""
        tokens = np.asarray(text.tokens)[np.asarray(text.mask)]
        return "".join(f"{self.alphabet}."[token] for token in tokens)


def is_held_out(prompt: Text) -> Array:
    """Whether a prompt is one of the eighth that is only drawn with ``held_out``."""
    weights = jnp.cumsum(prompt.mask.astype(jnp.int32)) * 2654435 + 1
    return jnp.sum(jnp.where(prompt.mask, (prompt.tokens + 1) * weights, 0)) // 7 % NUM_PARTS == 0


def packed(tokens: Any, mask: Any, length: int) -> Text:
    """Tokens where ``mask``, in order, moved to the right end of ``[length]``: padding is on the left of a prompt."""
    tokens, mask = jnp.asarray(tokens, jnp.int32), jnp.asarray(mask, bool)
    short = max(length - tokens.shape[0], 0)
    tokens, mask = jnp.pad(tokens, (short, 0)), jnp.pad(mask, (short, 0))
    order = jnp.argsort(mask, stable=True)
    tokens, mask = tokens[order][-length:], mask[order][-length:]
    return Text(jnp.where(mask, tokens, 0), mask)


def answer_of(tokens: Any, mask: Any, length: int, end: int) -> Text:
    """Tokens where ``mask``, in order, then the end, at the left end of ``[length]``: padding is behind an answer."""
    tokens, mask = jnp.asarray(tokens, jnp.int32), jnp.asarray(mask, bool)
    extra = max(length - tokens.shape[0], 0)
    tokens, mask = jnp.pad(tokens, (0, extra)), jnp.pad(mask, (0, extra))
    tokens = tokens[jnp.argsort(~mask, stable=True)][:length]
    position, count = jnp.arange(length), jnp.sum(mask)
    tokens = jnp.where(position < count, tokens, jnp.where(position == count, end, 0))
    return Text(tokens.astype(jnp.int32), position <= count)


def equal(answer: Text, expected: Text) -> Array:
    """Whether two texts have the same own tokens."""
    same = jnp.where(answer.mask, answer.tokens, -1) == jnp.where(expected.mask, expected.tokens, -1)
    return jnp.all(same & (answer.mask == expected.mask))
