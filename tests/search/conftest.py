"""Models to search in: a random one without ties, and tic-tac-toe."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.search import RecurrentFnOutput, RootFnOutput


def mix(x):
    """A hash of uint32, bit by bit random enough for models without ties."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def unit(x):
    """[0, 1) of uint32."""
    return (mix(x) >> 8).astype(jnp.float32) * 2.0**-24


class RandomGame:
    """Logits, values, rewards, ends and illegal actions by a hash of what was done so far."""

    def __init__(self, num_actions, discount, masked=False, scale=2.0):
        self.num_actions, self.discount, self.masked, self.scale = num_actions, discount, masked, scale

    def logits(self, state):
        actions = jnp.arange(1, self.num_actions + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1)
        return self.scale * (2.0 * unit(state[:, None] + actions[None]) - 1.0)

    def invalid(self, state):
        actions = jnp.arange(1, self.num_actions + 1, dtype=jnp.uint32) * jnp.uint32(0x85EBCA77)
        invalid = unit(state[:, None] ^ actions[None]) < 0.4
        return invalid.at[:, 0].set(False)

    def value(self, state):
        return 2.0 * unit(state ^ jnp.uint32(0x51)) - 1.0

    def root(self, key, batch, make=RootFnOutput):
        state = jax.random.bits(key, (batch,), jnp.uint32)
        return make(prior_logits=self.logits(state), value=self.value(state), embedding={"state": state})

    def step(self, params, key, action, embedding, make=RecurrentFnOutput):
        del params, key
        state = mix(embedding["state"] * jnp.uint32(31) + action.astype(jnp.uint32) + jnp.uint32(1))
        ended = unit(state ^ jnp.uint32(0x99)) < 0.1
        fields = dict(
            reward=0.3 * unit(state ^ jnp.uint32(0x77)),
            discount=jnp.where(ended, 0.0, self.discount),
            prior_logits=self.logits(state),
            value=self.value(state),
        )
        if self.masked:
            fields["invalid_actions"] = self.invalid(state)
        return make(**fields), {"state": state}


LINES = np.array([(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)])


class TicTacToe:
    """Boards ``[9]``: 1 for the player to move, -1 for the other; the exact values beside it."""

    def root(self, boards):
        boards = jnp.asarray(boards, jnp.int32)
        return RootFnOutput(jnp.zeros((len(boards), 9)), jnp.zeros(len(boards)), boards)

    def step(self, params, key, action, boards):
        del params, key
        boards = jnp.where(jax.nn.one_hot(action, 9, dtype=bool), 1, boards)
        won = (boards[:, LINES] == 1).all(-1).any(-1)
        over = won | (boards != 0).all(-1)
        output = RecurrentFnOutput(
            reward=won.astype(jnp.float32),
            discount=jnp.where(over, 0.0, -1.0),
            prior_logits=jnp.zeros(boards.shape),
            value=jnp.zeros(len(boards)),
            invalid_actions=boards != 0,
        )
        return output, -boards


@cache
def minimax(board):
    """The value of a board (a tuple) to the player to move, and of its every legal action, by full search."""
    values = {}
    for action in (i for i in range(9) if board[i] == 0):
        after = tuple(1 if i == action else x for i, x in enumerate(board))
        if any(all(after[i] == 1 for i in line) for line in LINES.tolist()):
            values[action] = 1
        elif all(after):
            values[action] = 0
        else:
            values[action] = -minimax(tuple(-x for x in after))[0]
    return max(values.values()), values


@cache
def open_boards(num_stones):
    """All boards of so many stones where nobody has won, seen by the player to move."""
    found = []
    for squares in itertools.combinations(range(9), num_stones):
        for mine in itertools.combinations(squares, num_stones // 2):
            board = tuple(0 if i not in squares else 1 if i in mine else -1 for i in range(9))
            if not any(abs(sum(board[i] for i in line)) == 3 for line in LINES.tolist()):
                found.append(board)
    return found


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def random_game():
    return RandomGame


@pytest.fixture
def tic_tac_toe():
    return TicTacToe()


@pytest.fixture
def solve():
    return minimax


@pytest.fixture
def boards():
    return open_boards
