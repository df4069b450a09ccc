"""Ends the episodes under way in every replay of a state, for a run that goes on in environments that were reset."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.replay.episodes import Episodes, Place
from jaxrl.replay.frames import FramesState, newest_pictures
from jaxrl.replay.ring import Ring
from jaxrl.types import PyTree, Transition


def end_episodes(state: PyTree) -> PyTree:
    """Marks the newest steps of all replays in a state as truncated, as if they had been added so.

    Else a window of n steps, a goal of hindsight or a stack of pictures could reach from one episode into another that
    only follows it in memory. Steps that ended an episode already do not change.

    Args:
      state: any pytree; replays in it are found by their types.
    """
    return jax.tree.map(_ended, state, is_leaf=_is_replay)


def _is_replay(x: Any) -> bool:
    return isinstance(x, (Ring, Episodes, FramesState))


def _ended(x: Any) -> Any:
    if isinstance(x, FramesState):
        return _of_frames(x)
    if isinstance(x, Episodes):
        return _of_episodes(x)
    return _of_ring(x) if isinstance(x, Ring) else x


def _goes_on(ring: Ring) -> jax.Array:
    """``[B]`` bool, whether the newest step ended no episode; False where there is none."""
    newest = (ring.head - 1) % ring.rows
    ended = ring.transitions.terminated[newest] | ring.transitions.truncated[newest]
    return ~ended & (ring.filled > 0)


def _of_ring(ring: Ring) -> Ring:
    newest = (ring.head - 1) % ring.rows
    truncated = ring.transitions.truncated.at[newest].set(ring.transitions.truncated[newest] | _goes_on(ring))
    return ring._replace(transitions=ring.transitions._replace(truncated=truncated))


def _of_episodes(state: Episodes) -> Episodes:
    goes_on = _goes_on(state.ring)[None]
    episode, step = state.coming
    coming = Place(jnp.where(goes_on, (episode + 1) % state.ring.rows, episode), jnp.where(goes_on, 0, step))
    return state._replace(ring=_of_ring(state.ring), coming=coming)


def _of_frames(state: FramesState) -> FramesState:
    """Also keeps the true next picture of the newest step."""
    goes_on = ~state.ended
    env = jnp.arange(goes_on.shape[0], dtype=jnp.int32)
    place = state.num_finals % state.finals.shape[0], env
    picture = newest_pictures(state.following[0], state.pictures)
    kept = jnp.where(goes_on[:, None, None, None], picture, state.finals[place])

    def of_ring(ring: Ring) -> Ring:
        newest = (ring.head - 1) % ring.rows
        transitions: Transition = _of_ring(ring).transitions
        following = transitions.next_observation
        following = following._replace(
            ended=following.ended.at[newest].set(following.ended[newest] | goes_on),
            final=following.final.at[newest].set(jnp.where(goes_on, state.num_finals, following.final[newest])),
        )
        return ring._replace(transitions=transitions._replace(next_observation=following))

    return state._replace(
        steps=jax.tree.map(
            lambda x: of_ring(x) if isinstance(x, Ring) else x, state.steps, is_leaf=lambda x: isinstance(x, Ring)
        ),
        finals=state.finals.at[place].set(kept),
        num_finals=state.num_finals + goes_on,
        ended=state.ended | goes_on,
    )
