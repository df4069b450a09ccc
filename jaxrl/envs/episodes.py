"""Judges a recorded run of an environment: its ends, resets, masks and numbers. Plain NumPy, on the host.

The protocol does not mark an observation as one of a fresh reset, so this is a statistical test: resets are compared
with each other, and the observations after an end have to be as close to them as they are to one another.

Legend of shapes: T steps, B environments, D numbers in one observation, K resets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxrl.envs.abstract import require
from jaxrl.types import Observation, action_mask

MIN_RESETS = 8
"""The number of resets needed before others are compared with them."""

MAX_SAMPLES = 64
"""The number of observations that are compared with all resets; more only take time."""

IMPROBABLE = 1e-6
"""A coincidence at most this probable is reported as an error."""


class Run(NamedTuple):
    """A recorded run with NumPy leaves.

    Attributes:
      first: ``[B, ...]``, the observations of the resets before the run.
      observation: ``[T, B, ...]``, the observations that the steps returned.
      reward: ``[T, B]``.
      terminated: ``[T, B]`` bool.
      truncated: ``[T, B]`` bool.
      info: ``[T, B, ...]`` leaves.
    """

    first: Any
    observation: Any
    reward: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]
    info: dict[Any, Any]


class _Numbers(NamedTuple):
    """The observations of a run as floats.

    Attributes:
      first: ``[B, D]``, the resets.
      returned: ``[T, B, D]``, the observations that the steps returned.
      final: ``[T, B, D]``, the true next observation of each step; ``final[0]`` is one step from a reset.
      done: ``[T, B]``, the ends of episodes.
      tolerance: the absolute and relative tolerance for numbers that should be equal.
    """

    first: NDArray[np.float64]
    returned: NDArray[np.float64]
    final: NDArray[np.float64]
    done: NDArray[np.bool_]
    tolerance: float


def check_run(run: Run) -> None:
    """Checks a run of random actions whose first step follows a reset in every environment.

    Raises:
      ProtocolError: a rule is broken; the message names it.
    """
    # Masks first: an action taken where none is legal could explain everything that follows.
    _check_masks(run)
    numbers = _numbers(run)
    for name, values in (
        ("reward", run.reward),
        ("observation", numbers.returned),
        ("final_observation", numbers.final),
    ):
        require(np.isfinite(values).all(), "finite", f"{name} has {_of(~np.isfinite(values))} NaN or infinite numbers")
    _check_info(run)
    differ = ~_equal(numbers.returned, numbers.final, numbers.tolerance) & ~numbers.done
    require(
        not differ.any(),
        "final_observation",
        f"differs from the returned observation at {_of(differ)} steps inside of episodes; it has to be the next "
        "observation of every step",
    )
    groups = {"terminated": run.terminated, "truncated": run.truncated & ~run.terminated}
    for name, ended in groups.items():
        if len(numbers.first) >= MIN_RESETS and ended.any():
            _check_fresh(name, ended, numbers)
            _check_final(name, ended, numbers)


def _numbers(run: Run) -> _Numbers:
    def flat(observation: Any, batch_ndim: int) -> NDArray[np.float64]:
        leaves = [np.asarray(leaf) for leaf in _parts(observation)]
        rows = [leaf.reshape(*leaf.shape[:batch_ndim], -1).astype(np.float64) for leaf in leaves]
        return np.concatenate(rows, axis=-1)

    # XLA may compute a float twice in one program and round it differently; bools and integers are exact.
    epsilons = [jnp.finfo(leaf.dtype).eps for leaf in _parts(run.first) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return _Numbers(
        first=flat(run.first, 1),
        returned=flat(run.observation, 2),
        final=flat(run.info["final_observation"], 2),
        done=run.terminated | run.truncated,
        tolerance=50.0 * float(max(epsilons, default=0.0)),
    )


def _parts(observation: Any) -> list[Any]:
    """The arrays that are compared. Memory and simulator states are not the environment's to reset."""
    if isinstance(observation, Observation):
        observation = observation._replace(memory=None, env_state=None)
    return jax.tree.leaves(observation)


def _equal(x: NDArray[np.float64], y: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Whether rows ``[..., D]`` are equal, ``[...]``."""
    return np.asarray(np.isclose(x, y, rtol=tolerance, atol=tolerance).all(-1))


def _of(wrong: NDArray[Any]) -> str:
    return f"{int(wrong.sum())} of {wrong.size}"


def _check_info(run: Run) -> None:
    for name, flag in (("terminated", run.terminated), ("truncated", run.truncated)):
        differ = run.info.get(name, flag) != flag
        require(not differ.any(), name, f'info["{name}"] differs from the returned value at {_of(differ)} steps')
    if "discount" in run.info:
        outside = ~(np.abs(run.info["discount"]) <= 1)
        require(
            not outside.any(),
            "discount",
            f'info["discount"] has to lie in [-1, 1], gamma is the agent\'s; it does not at {_of(outside)} steps',
        )
        # Inside of an episode it may be 0, where a return ends but the game goes on (a life is lost).
        ended = run.terminated | run.truncated
        wrong = ended & ((run.info["discount"] == 0) != run.terminated)
        require(
            not wrong.any(),
            "discount",
            f'info["discount"] has to be 0 where terminated and not where truncated (a truncation keeps its future); '
            f"wrong at {_of(wrong)} steps",
        )


def _check_masks(run: Run) -> None:
    # A terminated episode may have no legal action, and none is chosen there.
    exempt = {"final_observation": run.terminated}
    for name, observation in (
        ("reset", run.first),
        ("step", run.observation),
        ("final_observation", run.info["final_observation"]),
    ):
        mask = action_mask(observation)
        if mask is not None:
            stuck = np.asarray(~np.asarray(mask).any(-1) & ~exempt.get(name, np.bool_(False)))
            require(not stuck.any(), "mask", f"no action is legal in {_of(stuck)} observations of {name}")


def _nearest(samples: NDArray[Any], resets: NDArray[Any]) -> NDArray[np.float64]:
    """The distance ``[n]`` of each sample ``[n, D]`` to the closest of ``resets`` ``[K, D]``."""
    return np.array([np.sqrt(((resets - sample) ** 2).sum(-1)).min() for sample in samples])


def _unlike(samples: NDArray[Any], resets: NDArray[Any], tolerance: float) -> float:
    """The fraction of samples that are further from all resets than the resets are from one another."""
    others = [np.delete(resets, i, axis=0) for i in range(len(resets))]
    spread = max(_nearest(resets[i : i + 1], others[i])[0] for i in range(len(resets)))
    rounding = tolerance * np.linalg.norm(1.0 + np.abs(resets).max(0))
    # A factor of 2, since the largest of K distances is itself random.
    return float((_nearest(samples[:MAX_SAMPLES], resets) > 2.0 * spread + rounding).mean())


def _check_fresh(name: str, ended: NDArray[np.bool_], numbers: _Numbers) -> None:
    """Checks that the observation after an end looks like a reset, and the next one like one step after a reset.

    Args:
      name: how these episodes ended.
      ended: ``[T, B]``, where they ended.
      numbers: the observations.
    """
    # A rare start that no reset has shown is not an error; a majority of them is.
    unlike = _unlike(numbers.returned[ended], numbers.first, numbers.tolerance)
    require(
        unlike <= 0.5,
        "auto-reset",
        f"where an episode was {name}, the step returned an observation unlike all of {len(numbers.first)} resets (in "
        f"{unlike:.0%} of cases), must be that of a reset; reset in the same step",
    )
    later = numbers.final[1:][ended[:-1]]
    unlike = _unlike(later, numbers.final[0], numbers.tolerance) if len(later) else 0.0
    require(
        unlike <= 0.5,
        "auto-reset",
        f"one step after an episode was {name}, the observation is unlike those one step after a reset (in "
        f"{unlike:.0%} of cases); return the state of a reset too",
    )


def _check_final(name: str, ended: NDArray[np.bool_], numbers: _Numbers) -> None:
    """Checks that the final observation is not a copy of the reset one, unless such coincidences are probable.

    Args:
      name: how these episodes ended.
      ended: ``[T, B]``, where they ended.
      numbers: the observations.
    """
    first, returned, final, done, tolerance = numbers
    if not _equal(final[ended], returned[ended], tolerance).all():
        return
    # The probability that two resets coincide, from which that of meeting one given reset follows.
    pairs = _equal(first[:, None], first[None], tolerance).sum() - len(first)
    chance = pairs / (len(first) * (len(first) - 1))
    # Tasks may have to end where they began, but a truncation can occur anywhere: then any step inside of an episode
    # is as good as the last one.
    if name == "truncated" and not done.all():
        inside = returned[~done]
        chance = min(chance, _equal(inside, first[np.arange(len(inside)) % len(first)], tolerance).mean())
    num_ends = int(ended.sum())
    require(
        max(chance, 1.0 / len(first)) ** num_ends > IMPROBABLE,
        "final_observation",
        f"is the observation of the next reset at all of {num_ends} steps where an episode was {name}, must be "
        "the last observation of the episode that ended",
    )
