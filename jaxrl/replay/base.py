"""The contract of a replay: four functions over an immutable state, and the samples they draw. Read this first.

Legend of shapes in this folder: T time, B environments, N samples per batch, n steps per window, rows of the ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jaxrl.arguments import check_count
from jaxrl.types import Array, PyTree, Transition

RewardFn = Callable[[Transition], Array]
"""``(transitions [n, N, ...]) -> rewards [n, N]`` for the steps of N windows."""


class Slot(NamedTuple):
    """The position of transitions in the ring: ``row`` and ``env``, int32 arrays of one shape."""

    row: Array
    env: Array


class Sample(NamedTuple):
    """A batch from the replay. Regress towards ``transition.reward + discount * value(transition.next_observation)``.

    Attributes:
      transition: leaves ``[N, ...]``. Observation, action and extras belong to the first step of the window;
        next_observation, terminated and truncated to its last step. The reward is the discounted sum of its rewards;
        the discount is the product of its discounts, without gamma.
      discount: ``[N]``, the weight of the value of next_observation: ``gamma^m`` times ``transition.discount`` for a
        window of m steps.
      weight: ``[N]``, importance weights with maximum 1; ones if sampling is uniform.
      index: the argument of ``update_priorities``.
    """

    transition: Transition
    discount: Array
    weight: Array
    index: Any


class InitFn(Protocol):
    """The signature of ``init``."""

    def __call__(self, example: Transition, num_envs: int) -> PyTree:
        """Returns an empty state.

        Args:
          example: one transition without a batch axis, of arrays or ``jax.ShapeDtypeStruct``; only shapes and dtypes
            are read.
          num_envs: B.

        Raises:
          ValueError: the capacity is too small for one window per environment.
        """
        ...


class AddFn(Protocol):
    """The signature of ``add``."""

    def __call__(self, state: PyTree, trajectory: Transition) -> PyTree:
        """Writes a trajectory ``[T, B, ...]`` over the oldest rows; a longer one leaves its last rows."""
        ...


class SampleFn(Protocol):
    """The signature of ``sample``."""

    def __call__(self, key: Array, state: PyTree, batch_size: int, *, reward_fn: RewardFn | None = None) -> Sample:
        """Samples with replacement. An empty replay returns zeros: don't learn from it until it holds enough.

        Args:
          key: consumed.
          state: the result of ``init``, ``add`` or ``update_priorities``.
          batch_size: N.
          reward_fn: computes new rewards for the sampled steps before a window is reduced; None uses the stored
            rewards.
        """
        ...


class UpdatePrioritiesFn(Protocol):
    """The signature of ``update_priorities``, which does nothing if sampling is uniform."""

    def __call__(self, state: PyTree, index: Any, priorities: Array) -> PyTree:
        """Sets the priorities ``[N]`` of the transitions at ``Sample.index``."""
        ...


class Replay(NamedTuple):
    """The four functions of a replay. It is not a pytree of arrays: close over it.

    Every leaf of a state has an environment axis, ``[B]`` or ``[..., B, ...]`` at axis 1, except for scalar counters,
    which all environments share. ``add`` and ``sample`` read B and the number of rows from the shapes, so they also
    work on a slice of the environments.
    """

    init: InitFn
    add: AddFn
    sample: SampleFn
    update_priorities: UpdatePrioritiesFn


class MakeReplay(Protocol):
    """The argument ``replay=`` of recipes: ``uniform``, ``prioritized``, or the result of ``hindsight(...)``."""

    def __call__(self, capacity: int, *, n_step: int, gamma: Any) -> Replay:
        """Returns a replay.

        Args:
          capacity: the number of transitions of all environments together, rounded up to the same number per
            environment.
          n_step: the number of steps in a window.
          gamma: the discount factor of a step; may be a tracer.
        """
        ...


def size_bytes(replay: Replay | MakeReplay, example: Transition, num_envs: int, capacity: int | None = None) -> int:
    """The memory in bytes of a replay's state, computed without allocating it.

    Args:
      replay: a replay, or a maker of replays, which needs ``capacity``.
      example: one transition without a batch axis, of arrays or ``jax.ShapeDtypeStruct``.
      num_envs: B.
      capacity: the number of transitions of all environments together.

    >>> scalar, flag = jax.ShapeDtypeStruct((), "float32"), jax.ShapeDtypeStruct((), bool)
    >>> example = Transition(scalar, scalar, scalar, scalar, flag, flag, scalar)
    >>> from jaxrl.replay.uniform import uniform
    >>> size_bytes(uniform, example, num_envs=8, capacity=1000)
    22008
    """
    if not isinstance(replay, Replay):
        if capacity is None:
            raise ValueError("capacity: got None, must be a number of transitions because replay is a maker of replays")
        replay = replay(capacity, n_step=1, gamma=1.0)
    made = replay
    state = jax.eval_shape(lambda: made.init(example, num_envs))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def num_rows(capacity: int, num_envs: int, n_step: int) -> int:
    """The number of rows of the ring: ``ceil(capacity / num_envs)``.

    Raises:
      ValueError: there are fewer rows than steps in a window, or less than one.
    """
    check_count("num_envs", num_envs)
    if capacity < num_envs:
        raise ValueError(f"capacity: got {capacity}, must be at least {num_envs}, one transition per environment")
    rows = -(-capacity // num_envs)
    if n_step > rows:
        raise ValueError(
            f"n_step: got {n_step}, must be at most {rows}, the steps that capacity {capacity} keeps of {num_envs} "
            "environments each; decrease n_step or increase capacity"
        )
    return rows
