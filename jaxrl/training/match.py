"""Matches between two agents: many games side by side, of which each agent begins half."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count, check_key
from jaxrl.envs import expose_state, num_players, spec
from jaxrl.envs.planning import refuse_memory
from jaxrl.rollout import future_weight, reset
from jaxrl.training.evaluate import episode_limit
from jaxrl.training.loop import TrainState
from jaxrl.types import Agent, Array, Discrete, PyTree, action_mask

Player = tuple[Agent, PyTree]
"""An agent and its state."""


class Score(NamedTuple):
    """The result of a match for the first of the two players; arrays ``[2]``, the games it began and the others.

    Attributes:
      wins, draws, losses: numbers of games; a game truncated by a time limit counts as a draw.
    """

    wins: Array
    draws: Array
    losses: Array

    @property
    def games(self) -> Array:
        """``[2]``, the number of games."""
        return self.wins + self.draws + self.losses

    @property
    def points(self) -> Array:
        """``[]``, the mean points per game: 1 for a win, 0.5 for a draw."""
        return (self.wins + 0.5 * self.draws).sum(-1) / self.games.sum(-1)


class _Table(NamedTuple):
    """Games in progress, ``[B, ...]``.

    Attributes:
      env_state, observation: those of the games.
      ours: bool, whether the first player is to move.
      result: the sum of the first player's rewards so far.
      over: bool, whether the game is over.
    """

    env_state: PyTree
    observation: Any
    ours: Array
    result: Array
    over: Array


def match(
    key: Array,
    env: Any,
    params: Any,
    one: Player,
    other: Player,
    *,
    num_games: int = 128,
    opening_moves: int = 0,
    max_steps: int | None = None,
) -> Score:
    """Plays ``num_games`` between two agents without exploration; each begins half of them.

    The two halves are played one after the other, so that only the player to move computes if players alternate. Every
    random opening is played twice, once from either side.

    Args:
      key: consumed.
      env, params: a two-player game in gymnax's protocol, ``jaxrl.make("pgx/connect_four")``. Players see the state.
      one, other: ``(agent, state)`` each.
      num_games: the number of games, even.
      opening_moves: the number of random moves at the start of each game, over both players; without them deterministic
        players would repeat one game. A game that ends during the opening is scored.
      max_steps: the number of moves after which a game is a draw; None takes the environment's own limit.

    Returns:
      The score of ``one``.

    Raises:
      TypeError: ``key`` is not a PRNG key, a player is not a pair of an agent and its state, or actions are not
        discrete.
      ValueError: the environment has one player, a count is out of range, or the environment or a player has memory.
    """
    check_key(key)
    limit = _check(env, params, {"one": one, "other": other}, num_games, opening_moves, max_steps)
    num_actions = _num_actions(env, params)
    env, size = expose_state(env), num_games // 2
    reset_key, opening_key, *play_keys = jax.random.split(key, 4)
    observation, env_state = reset(reset_key, env, params, size)

    def half(chosen: tuple[Array, Array]) -> Array:
        """``[3]`` wins, draws and losses where ``begins`` says whether the first player does."""
        play_key, begins = chosen

        def going_on(carry: tuple[Array, _Table]) -> Array:
            return (carry[0] < limit) & ~carry[1].over.all()

        def body(carry: tuple[Array, _Table]) -> tuple[Array, _Table]:
            time, table = carry
            opening = time < opening_moves
            # In openings the keys are those of the other half, so that it has the same ones.
            keys = jax.random.split(jax.random.fold_in(jnp.where(opening, opening_key, play_key), time), 3 + size)
            think = lambda key, player, turn: _think(key, player, table.observation, turn & ~table.over & ~opening)  # noqa: E731
            action = jnp.where(table.ours, think(keys[0], one, table.ours), think(keys[1], other, ~table.ours))
            if opening_moves:
                action = jnp.where(opening, _any_legal(keys[2], table.observation, num_actions), action)
            return time + 1, _step(keys[3:], env, params, table, action)

        start = _Table(env_state, observation, jnp.full(size, begins), jnp.zeros(size), jnp.zeros(size, bool))
        carry = jax.tree.map(jnp.asarray, (jnp.zeros((), jnp.int32), start))
        _, table = jax.lax.while_loop(going_on, body, carry)
        result = jnp.where(table.over, table.result, 0.0)
        return jnp.stack([(result > 0).sum(), (result == 0).sum(), (result < 0).sum()])

    return Score(*jax.lax.map(half, (jnp.stack(play_keys), jnp.array([True, False]))).T)


def _think(key: Array, player: Player, observation: Any, turn: Array) -> Array:
    """The actions ``[B]`` of a player if it is its ``turn [B]`` in any game; else arbitrary ones."""
    agent, state = player

    def act() -> Array:
        action = agent.act(key, state, observation, explore=False)[0]
        refuse_memory("match", action)
        return action.astype(jnp.int32)

    return jax.lax.cond(turn.any(), act, lambda: jnp.zeros(turn.shape, jnp.int32))


def _any_legal(key: Array, observation: Any, num_actions: int) -> Array:
    mask = action_mask(observation)
    logits = jnp.zeros(num_actions) if mask is None else jnp.where(mask, 0.0, -jnp.inf)
    batch = jax.tree.leaves(observation)[0].shape[:1]
    return jax.random.categorical(key, logits, shape=batch).astype(jnp.int32)


def _step(keys: Array, env: Any, params: Any, table: _Table, action: Array) -> _Table:
    env_step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    observation, env_state, reward, terminated, truncated, info = env_step(keys, table.env_state, action, params)
    # A reward belongs to the player that moved.
    gained = jnp.where(table.ours, reward, -reward)
    result = jnp.where(table.over, table.result, table.result + gained)
    return _Table(
        env_state=env_state,
        observation=observation,
        ours=table.ours ^ (future_weight(terminated, info) < 0),
        result=jnp.where(truncated & ~terminated & ~table.over, 0.0, result),
        over=table.over | terminated | truncated,
    )


def _num_actions(env: Any, params: Any) -> int:
    space = spec(env, params).action
    if not isinstance(space, Discrete):
        raise TypeError(f"env: got actions {space}, must be discrete")
    return space.num_actions


def _check(env: Any, params: Any, players: dict[str, Any], num_games: int, opening_moves: int, steps: Any) -> int:
    """The most moves of a game."""
    if num_players(env) != 2:
        raise ValueError(f"env: got {getattr(env, 'name', type(env).__name__)}, must be a two-player game")
    refuse_memory("match", spec(env, params).observation)
    for name, player in players.items():
        if not isinstance(player, tuple) or len(player) != 2 or not isinstance(player[0], Agent):
            raise TypeError(f"{name}: got {type(player).__name__}, must be a pair (agent, state)")
        if isinstance(player[1], TrainState):
            raise TypeError(f"{name}: got a TrainState, must be the state of the agent in it: state.agent")
    for name, count, least in (("num_games", num_games, 2), ("opening_moves", opening_moves, 0)):
        check_count(name, count, least)
    if num_games % 2:
        raise ValueError(f"num_games: got {num_games}, must be even, because each player begins half of them")
    limit = episode_limit(params) if steps is None else steps
    if limit is None or limit < 1:
        raise ValueError(f"max_steps: got {limit}, must be at least 1; the environment declares no limit of its own")
    return limit
