"""The contract of a replay: four functions over an immutable state, and the samples they draw. Read this first.

Legend of shapes in this folder: T time, B environments, N samples of a batch, n steps of a window, rows of the ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jaxrl.arguments import check_count
from jaxrl.types import Array, PyTree, Transition

RewardFn = Callable[[Transition], Array]
"""``(transitions [n, N, ...]) -> rewards [n, N]``, of the steps of N windows."""


class Slot(NamedTuple):
    """Where transitions lie in the ring: ``row`` and ``env``, int32 arrays of one shape."""

    row: Array
    env: Array


class Sample(NamedTuple):
    """A batch from the replay. Regress towards ``transition.reward + discount * value(transition.next_observation)``.

    Attributes:
      transition: leaves ``[N, ...]``: observation, action and extras of the first step of the window; the sum of its
        rewards, discounted; next_observation, terminated and truncated of its last step; discount is the product of
        its discounts, without gamma.
      discount: ``[N]`` the weight of the value of next_observation: ``gamma^m`` times ``transition.discount``, for a
        window of m steps.
      weight: ``[N]`` importance weights, the largest is 1; ones where sampling is uniform.
      index: the argument of ``update_priorities``.
    """

    transition: Transition
    discount: Array
    weight: Array
    index: Any


class InitFn(Protocol):
    """``init`` of a replay."""

    def __call__(self, example: Transition, num_envs: int) -> PyTree:
        """Makes the empty state.

        Args:
          example: one transition without a batch axis, arrays or ``jax.ShapeDtypeStruct``; only shapes are read.
          num_envs: B.

        Raises:
          ValueError: the capacity has no room for a window of every environment.
        """
        ...


class AddFn(Protocol):
    """``add`` of a replay."""

    def __call__(self, state: PyTree, trajectory: Transition) -> PyTree:
        """Writes a trajectory ``[T, B, ...]`` over the oldest rows; the last rows of a longer one stay."""
        ...


class SampleFn(Protocol):
    """``sample`` of a replay."""

    def __call__(self, key: Array, state: PyTree, batch_size: int, *, reward_fn: RewardFn | None = None) -> Sample:
        """Draws with replacement. From an empty replay it gives zeros: hide them until there is enough.

        Args:
          key: consumed.
          state: from ``init``, ``add`` or ``update_priorities``.
          batch_size: N.
          reward_fn: computes the rewards of the sampled steps anew, before a window is reduced; None takes those that
            are stored.
        """
        ...


class UpdatePrioritiesFn(Protocol):
    """``update_priorities`` of a replay; the identity where sampling is uniform."""

    def __call__(self, state: PyTree, index: Any, priorities: Array) -> PyTree:
        """Gives the transitions at ``Sample.index`` new priorities ``[N]``."""
        ...


class Replay(NamedTuple):
    """The four functions. Not a pytree of arrays: close over it.

    In a state every leaf has an environment axis, ``[B]`` or ``[..., B, ...]`` at axis 1, but for scalar counters,
    which all environments share; ``add`` and ``sample`` read B and rows from the shapes, so a part of the
    environments works.
    """

    init: InitFn
    add: AddFn
    sample: SampleFn
    update_priorities: UpdatePrioritiesFn


class MakeReplay(Protocol):
    """The argument ``replay=`` of recipes: ``uniform``, ``prioritized``, or the result of ``hindsight(...)``."""

    def __call__(self, capacity: int, *, n_step: int, gamma: Any) -> Replay:
        """Makes a replay.

        Args:
          capacity: transitions of all environments together; rounded up to whole rows of one for each environment.
          n_step: steps of a window.
          gamma: the discount of a step, may be a tracer.
        """
        ...


def size_bytes(replay: Replay | MakeReplay, example: Transition, num_envs: int, capacity: int | None = None) -> int:
    """The bytes that a replay's state takes, without making it.

    Args:
      replay: a replay, or what makes one; the latter wants ``capacity``.
      example: one transition without a batch axis, arrays or ``jax.ShapeDtypeStruct``.
      num_envs: B.
      capacity: transitions of all environments together.

    >>> scalar, flag = jax.ShapeDtypeStruct((), "float32"), jax.ShapeDtypeStruct((), bool)
    >>> example = Transition(scalar, scalar, scalar, scalar, flag, flag, scalar)
    >>> from jaxrl.replay.uniform import uniform
    >>> size_bytes(uniform, example, num_envs=8, capacity=1000)
    22008
    """
    if not isinstance(replay, Replay):
        if capacity is None:
            raise ValueError("capacity: got None, give the capacity that the replay is to be made with")
        replay = replay(capacity, n_step=1, gamma=1.0)
    made = replay
    state = jax.eval_shape(lambda: made.init(example, num_envs))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def num_rows(capacity: int, num_envs: int, n_step: int) -> int:
    """Rows of the ring: ``ceil(capacity / num_envs)``.

    Raises:
      ValueError: there are fewer rows than a window has steps, or less than one.
    """
    check_count("num_envs", num_envs)
    if capacity < num_envs:
        raise ValueError(f"capacity: got {capacity}, must be at least num_envs, {num_envs}: one transition of each")
    rows = -(-capacity // num_envs)
    if n_step > rows:
        raise ValueError(
            f"n_step: got {n_step}, but a capacity of {capacity} keeps only {rows} steps of each of {num_envs} "
            "environments; take fewer steps or a larger capacity"
        )
    return rows
