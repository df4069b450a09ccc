"""``versus``: a two-player game as a one-player environment, in which an opponent replies."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.planning import num_players, refuse_memory
from jaxrl.envs.wrappers import StepResult, select
from jaxrl.types import Agent, Array, PyTree


class VersusParams(NamedTuple):
    """Parameters of ``versus``.

    Attributes:
      game: the parameters of the game.
      opponent: the state of the agent that replies; ``vmap`` over it to play against several at once.
    """

    game: PyTree
    opponent: PyTree

    @property
    def max_steps_in_episode(self) -> Any:
        """The game's own limit: one player makes no more moves than both together."""
        return getattr(self.game, "max_steps_in_episode", None)


class VersusState(NamedTuple):
    """State of ``versus``.

    Attributes:
      env_state: the state of the game, with the player to move.
      observation: the player's observation; the next step needs it.
    """

    env_state: PyTree
    observation: Any


class _Table(NamedTuple):
    """The game between two moves of the player.

    Attributes:
      key: the key for later moves.
      env_state, observation: those of the game.
      theirs: bool, whether the opponent is to move.
      reward: the player's reward so far.
      weight: the weight of the future for the player so far.
      ended: bool, whether the episode in which the player moved is over.
      terminated, truncated, final: how it ended; ``final`` is the last observation.
    """

    key: Array
    env_state: PyTree
    observation: Any
    theirs: Array
    reward: Array
    weight: Array
    ended: Array
    terminated: Array
    truncated: Array
    final: Any


class Versus:
    """See ``versus``."""

    num_players = 1

    def __init__(self, env: Any, opponent: Agent, default_params: VersusParams, explore: bool) -> None:
        self.env, self.opponent, self.default_params, self.explore = env, opponent, default_params, explore

    @property
    def name(self) -> str:
        """The name of the game."""
        return self.env.name

    def action_space(self, params: VersusParams | None = None) -> Any:
        """The action space of the game."""
        return self.env.action_space(self._given(params).game)

    def flags(self, params: VersusParams | None = None) -> Any:
        """The binary features of the game, see ``Spec.flags``."""
        return self.env.flags(self._given(params).game) if hasattr(self.env, "flags") else None

    def inner_state(self, state: VersusState) -> PyTree:
        """The state of the game."""
        return state.env_state

    def reset(self, key: Array, params: VersusParams | None = None) -> tuple[Any, VersusState]:
        """Draws who begins. If the opponent does, it has already moved."""
        return self._stand(self._replies(self._new_game(key, self._given(params)), self._given(params)))

    def step(self, key: Array, state: VersusState, action: Array, params: VersusParams | None = None) -> StepResult:
        """The player moves, then the opponent moves until it is the player's turn again."""
        params = self._given(params)
        no = jnp.asarray(False)
        table = _Table(key, *state, no, jnp.float32(0.0), jnp.float32(1.0), no, no, no, state.observation)
        table = self._replies(self._moves(table, action, params), params)
        observation, state = self._stand(table)
        discount = jnp.where(table.terminated, 0.0, table.weight)
        info = {"discount": discount, "final_observation": table.final}
        return observation, state, table.reward, table.terminated, table.truncated, info

    def _given(self, params: VersusParams | None) -> VersusParams:
        return self.default_params if params is None else params

    def _stand(self, table: _Table) -> tuple[Any, VersusState]:
        return table.observation, VersusState(table.env_state, table.observation)

    def _new_game(self, key: Array, params: VersusParams) -> _Table:
        key, reset_key, coin_key = jax.random.split(key, 3)
        observation, env_state = self.env.reset(reset_key, params.game)
        no = jnp.asarray(False)
        theirs = jax.random.bernoulli(coin_key)
        return _Table(key, env_state, observation, theirs, jnp.float32(0.0), jnp.float32(1.0), ~no, no, no, observation)

    def _moves(self, table: _Table, action: Array, params: VersusParams) -> _Table:
        """Makes one move for the player to move, and starts a new game if it ended this one."""
        key, step_key, game_key = jax.random.split(table.key, 3)
        stepped = self.env.step(step_key, table.env_state, action, params.game)
        observation, env_state, reward, terminated, truncated, info = stepped
        done = terminated | truncated
        discount = jnp.where(terminated, 0.0, jnp.asarray(info.get("discount", 1.0), jnp.float32))
        counts = ~table.ended
        changed = discount < 0
        # The game has already reset; who begins is drawn again.
        theirs = jnp.where(done, jax.random.bernoulli(game_key), table.theirs ^ changed)
        return _Table(
            key=key,
            env_state=env_state,
            observation=observation,
            theirs=theirs,
            reward=table.reward + jnp.where(counts, table.weight * jnp.asarray(reward, jnp.float32), 0.0),
            weight=jnp.where(counts, table.weight * discount, table.weight),
            ended=table.ended | done,
            terminated=table.terminated | (counts & terminated),
            truncated=table.truncated | (counts & truncated),
            final=select(counts, info["final_observation"], table.final),
        )

    def _replies(self, table: _Table, params: VersusParams) -> _Table:
        """The opponent moves until it is the player's turn, in this game or the next one."""

        def reply(table: _Table) -> _Table:
            key, act_key = jax.random.split(table.key)
            seen = jax.tree.map(lambda x: x[None], table.observation)
            action, _ = self.opponent.act(act_key, params.opponent, seen, explore=self.explore)
            refuse_memory("versus", action)
            return self._moves(table._replace(key=key), action[0], params)

        return jax.lax.while_loop(lambda table: table.theirs, reply, table)


def versus(
    env: Any, opponent: Agent, opponent_state: PyTree, params: PyTree = None, *, explore: bool = False
) -> Versus:
    """Turns a two-player game into a one-player environment in which an agent replies.

    Every reset draws who begins. The sum of an episode's rewards is the player's outcome of the game, so ``evaluate``
    returns the mean score, and the return is 1 for a win, 0 for a draw and -1 for a loss:

        arena = envs.versus(envs.expose_state(game), opponent, opponent_state)
        returns = evaluate(key, agent, state, arena, arena.default_params).returns
        wins, draws, losses = (returns > 0).mean(), (returns == 0).mean(), (returns < 0).mean()

    Args:
      env: a game, or ``expose_state(game)`` if one of the two plans.
      opponent: any agent.
      opponent_state: its state, also the default of ``params.opponent``, which may be another one, traced or vmapped.
      params: the parameters of the game, ``env.default_params`` if None.
      explore: whether the opponent explores.

    Raises:
      TypeError: ``opponent`` is not an ``Agent``.
      ValueError: the environment has one player or feeds a memory back (apply ``envs.remember`` outside of ``versus``
        instead). An opponent with a memory is refused at the first reset.
    """
    if not isinstance(opponent, Agent):
        raise TypeError(f"versus: opponent: got {type(opponent).__name__}, must be an Agent")
    if num_players(env) != 2:
        name = getattr(env, "name", type(env).__name__)
        raise ValueError(f"versus: got {name} with {num_players(env)} player, must be a two-player game")
    params = env.default_params if params is None else params
    refuse_memory("versus", jax.eval_shape(lambda: env.reset(jax.random.key(0), params)[0]))
    return Versus(env, opponent, VersusParams(params, opponent_state), explore)
