"""A replay of stacked pictures that stores each picture once and stacks them when it samples.

An observation ``[H, W, k c]`` holds the k newest pictures of c channels, the newest last. Observation and next
observation of a transition hold k + 1 different ones, of which all but one belong to other transitions too: 1M screens
of 84 x 84 are 7 GB, and 56 GB as stacks. Under this replay lies another one, which stores the place of a step
instead of its observations.

Legend of shapes: T time, B environments, N samples, R rows of pictures, F rows of final pictures, k stacked pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.replay.base import MakeReplay, Replay, RewardFn, Sample, num_rows
from jaxrl.replay.uniform import uniform
from jaxrl.types import Array, PyTree, Transition

STEPS_PER_FINAL = 16
"""There is one row of final pictures for this many rows of the ring,"""

MIN_FINALS = 16
"""and at least this many."""


class Place(NamedTuple):
    """Where the pictures of an observation are. Leaves ``[rows, B]`` in the replay, ``[...]`` in a sample.

    Attributes:
      env: the environment.
      row: the row of the newest picture.
      age: number of steps since the episode's first observation, at most k - 1.
      repeated: whether the first observation repeats its picture; else it begins with zeros.
    """

    env: Array
    row: Array
    age: Array
    repeated: Array


class NextPlace(NamedTuple):
    """Where the pictures of a next observation are.

    Attributes:
      before: the observation of the same step, which has all of them but the newest.
      ended: whether the episode ended, so that the next row belongs to another one.
      final: number of the final picture, counted per environment, if the episode was truncated; else -1.
    """

    before: Place
    ended: Array
    final: Array


class FramesState(NamedTuple):
    """The state.

    Attributes:
      steps: state of the replay of places.
      pictures: ``[R, B, H, W, c]``.
      finals: ``[F, B, H, W, c]``, the newest pictures of truncated episodes.
      num_finals: ``[B]`` int32, the number of them so far.
      following: ``[1, B, H, W, k c]``, the next observation of the newest step.
      ended: ``[B]``, whether the newest step ended its episode; true at the start.
      age: ``[B]``, and
      repeated: ``[B]``, those of the newest step's ``Place``.
      head: int32, the row of the next picture.
    """

    steps: PyTree
    pictures: Array
    finals: Array
    num_finals: Array
    following: Array
    ended: Array
    age: Array
    repeated: Array
    head: Array


def frames(num_stacked: int = 4, replay: MakeReplay = uniform) -> MakeReplay:
    """Makes replays that store each picture of a stack once.

    Samples are those of ``replay`` to the last bit, with three exceptions. After a terminal step, where the next
    observation has no weight, its newest picture is not stored, and that of the observation takes its place. The same
    happens to a truncation that is older than the last F of its environment; F is 16 or a sixteenth of the rows.
    And where environments are reset without a flag, the last step before it has the new episode's first picture as its
    next one; runs that are resumed call ``replay.cut.end_episodes`` before.

    Observations have to be stacks: the next one is the last one without its oldest picture, and the first one of an
    episode repeats its picture or begins with zeros.

    Args:
      num_stacked: k, the number of pictures in an observation.
      replay: makes the replay that samples: ``uniform``, ``prioritized`` or one with options bound.

    Returns:
      The argument ``replay=`` of a recipe.

    Raises:
      TypeError, ValueError: ``num_stacked`` is no positive integer. ``init`` raises if observations are no images of a
        multiple of ``num_stacked`` channels.
    """
    check_count("num_stacked", num_stacked)

    def make(capacity: int, *, n_step: int, gamma: Any) -> Replay:
        return _make(num_stacked, replay(capacity, n_step=n_step, gamma=gamma), capacity, n_step)

    return make


def _make(k: int, steps: Replay, capacity: int, n_step: int) -> Replay:
    def init(example: Transition, num_envs: int) -> FramesState:
        seen: Any = example.observation
        shape: tuple[int, ...] = tuple(getattr(seen, "shape", ()))
        if len(shape) != 3 or shape[-1] % k:
            found = list(shape) if hasattr(seen, "shape") else type(seen).__name__
            raise ValueError(
                f"replay: frames got observations {found}, must be images [H, W, C] of {k} stacked pictures, C a "
                f"multiple of num_stacked={k}; use replay.uniform for others"
            )
        rows = num_rows(capacity, num_envs, n_step)
        picture = (num_envs, *shape[:2], shape[2] // k)
        number, flag = jnp.zeros((num_envs,), jnp.int32), jnp.zeros((num_envs,), bool)
        place = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), Place(number, number, number, flag))
        following = NextPlace(place, ended=place.repeated, final=place.row)  # their shapes and dtypes
        return FramesState(
            steps=steps.init(example._replace(observation=place, next_observation=following), num_envs),
            # The oldest step needs k - 1 pictures before its own, and the newest one the picture after it.
            pictures=jnp.zeros((rows + k, *picture), seen.dtype),
            finals=jnp.zeros((max(min(rows, MIN_FINALS), -(-rows // STEPS_PER_FINAL)), *picture), seen.dtype),
            num_finals=number,
            following=jnp.zeros((1, num_envs, *shape), seen.dtype),
            ended=~flag,
            age=number,
            repeated=flag,
            head=jnp.zeros((), jnp.int32),
        )

    def add(state: FramesState, trajectory: Transition) -> FramesState:
        if not trajectory.reward.shape[0]:
            return state
        state, (place, following) = jax.lax.scan(_add_step, state, trajectory)
        newest = newest_pictures(state.following[0], state.pictures)
        pictures = jax.lax.dynamic_update_index_in_dim(state.pictures, newest, state.head, 0)
        places = trajectory._replace(observation=place, next_observation=following)
        return state._replace(pictures=pictures, steps=steps.add(state.steps, places))

    def sample(key: Array, state: FramesState, batch_size: int, *, reward_fn: RewardFn | None = None) -> Sample:
        with_stacks: RewardFn | None = None
        if reward_fn is not None:
            of_stacks: Callable[[Transition], Array] = reward_fn
            with_stacks = lambda window: of_stacks(_stacked(state, window, k))  # noqa: E731
        drawn = steps.sample(key, state.steps, batch_size, reward_fn=with_stacks)
        return drawn._replace(transition=_stacked(state, drawn.transition, k))

    def update_priorities(state: FramesState, index: Any, priorities: Array) -> FramesState:
        return state._replace(steps=steps.update_priorities(state.steps, index, priorities))

    return Replay(init, add, sample, update_priorities)


def newest_pictures(observation: Array, pictures: Array) -> Array:
    """The newest pictures ``[B, H, W, c]`` of observations ``[B, H, W, k c]``."""
    return observation[..., -pictures.shape[-1] :]


def _add_step(state: FramesState, step: Transition) -> tuple[FramesState, tuple[Place, NextPlace]]:
    """Stores the pictures of one step of all environments, leaves ``[B, ...]``."""
    seen, following = step.observation, step.next_observation
    num_envs = seen.shape[0]
    newest = newest_pictures(seen, state.pictures)
    k = seen.shape[-1] // newest.shape[-1]
    # Whoever resets environments between two trajectories ends an episode without a flag.
    continues = ~state.ended & (seen == state.following[0]).all((1, 2, 3))
    age = jnp.where(continues, jnp.minimum(state.age + 1, k - 1), 0)
    repeats = (seen == jnp.tile(newest, k)).all((1, 2, 3))
    repeated = jnp.where(continues, state.repeated, repeats)
    row = jnp.full((num_envs,), state.head)
    place = Place(jnp.arange(num_envs, dtype=jnp.int32), row, age, repeated)

    ended = step.terminated | step.truncated
    truncated = step.truncated & ~step.terminated
    places = state.num_finals % state.finals.shape[0], place.env
    final = jnp.where(truncated[:, None, None, None], newest_pictures(following, newest), state.finals[places])
    state = state._replace(
        pictures=jax.lax.dynamic_update_index_in_dim(state.pictures, newest, state.head, 0),
        finals=state.finals.at[places].set(final),
        num_finals=state.num_finals + truncated,
        following=following[None],
        ended=ended,
        age=age,
        repeated=repeated,
        head=(state.head + 1) % state.pictures.shape[0],
    )
    return state, (place, NextPlace(place, ended, jnp.where(truncated, state.num_finals - 1, -1)))


def _stacked(state: FramesState, transition: Transition, k: int) -> Transition:
    """Transitions with stacks of pictures in place of their places; leaves ``[..., H, W, k c]``."""
    following: NextPlace = transition.next_observation
    return transition._replace(
        observation=_stack(_pictures(state, transition.observation, k)),
        next_observation=_stack(_pictures(state, following.before, k)[1:] + [_next_picture(state, following)]),
    )


def _pictures(state: FramesState, place: Place, k: int) -> list[Array]:
    """The k pictures ``[..., H, W, c]`` of an observation, the oldest first."""
    found = []
    for back in range(k - 1, -1, -1):
        row = (place.row - jnp.minimum(back, place.age)) % state.pictures.shape[0]
        blank = (back > place.age) & ~place.repeated
        picture = state.pictures[row, place.env]
        found.append(jnp.where(blank[..., None, None, None], 0, picture))
    return found


def _next_picture(state: FramesState, place: NextPlace) -> Array:
    """The newest picture ``[..., H, W, c]`` of a next observation."""
    row, env = place.before.row, place.before.env
    kept = (place.final >= 0) & (state.num_finals[env] - place.final <= state.finals.shape[0])
    inside = state.pictures[jnp.where(place.ended, row, (row + 1) % state.pictures.shape[0]), env]
    final = state.finals[jnp.maximum(place.final, 0) % state.finals.shape[0], env]
    return jnp.where(kept[..., None, None, None], final, inside)


def _stack(pictures: list[Array]) -> Array:
    return jnp.concatenate(pictures, axis=-1)
