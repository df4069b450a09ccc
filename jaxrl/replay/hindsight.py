"""Hindsight experience replay replaces goals by goals that were achieved. Andrychowicz et al. 2017."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, UNIT, check_callable, check_count, check_float
from jaxrl.replay import episodes as episode_rings
from jaxrl.replay import n_step as windows
from jaxrl.replay import ring as rings
from jaxrl.replay.base import MakeReplay, Replay, RewardFn, Sample, Slot, num_rows
from jaxrl.replay.episodes import Episodes
from jaxrl.replay.relabel import GoalFn, Steps, relabel, where
from jaxrl.types import Array, Observation, Transition


def hindsight(
    reward_fn: GoalFn, terminated_fn: GoalFn | None = None, strategy: str = "future", k: Any = 4
) -> MakeReplay:
    """Returns a maker of replays that relabel k of k + 1 samples with a goal that was achieved later.

    For a transition s_t -> s_{t+1} of an episode that ends in s_T, the new goal is the goal achieved in

      final    s_T
      future   s_i, i uniform in [t+1, T]
      episode  s_i, i uniform in [1, T]
      random   the next state of any stored transition, of any episode

    Andrychowicz et al., "Hindsight Experience Replay", 2017. The paper stores the k copies. Here a sample is relabelled
    with probability ``k / (k + 1)`` when it is drawn, which gives the same mixture and needs no memory. T is the last
    step so far of an unfinished episode, and 1 is the first stored step of an episode whose beginning was overwritten.

    The rewards, terminations and discounts of all steps of a window are recomputed for the new goal before it is
    reduced to one transition, so a window ends where the new goal is reached. An episode that ended at its own goal
    but does not reach the new one counts as truncated, because the task would have continued.

    Observations must be ``Observation(features, goal=, achieved_goal=)``, with features that exclude the goal. Example:
    ``dqn(spec, replay=hindsight(env.reward_fn, env.terminated_fn))`` on an environment of ``jaxrl.envs.goals``.

    Args:
      reward_fn: ``(achieved_goal [N, G] of the next observation, goal [N, G]) -> [N]``, the reward of a step.
      terminated_fn: takes the same arguments and returns ``[N]`` bool, whether the step reaches the goal and thereby
        ends the task. Terminations for other reasons (a fall) are kept. None if reaching a goal does not end the task.
      strategy: "final", "future", "episode" or "random".
      k: the number of relabelled samples for each unchanged one, at least 0; may be a tracer.

    Returns:
      A maker of replays like ``uniform``: ``(capacity, *, n_step, gamma) -> Replay`` with state ``Episodes``, index
      ``Slot``.

    Raises:
      TypeError, ValueError: an argument is invalid; the message names it. ``init`` raises if the observations have no
        goals or the results of the functions are not ``[N]``.
    """
    _check_arguments(reward_fn, terminated_fn, strategy, k)
    choose, goal_reward_fn = STRATEGIES[strategy], reward_fn
    probability = k / (k + 1.0)

    def make(capacity: int, *, n_step: int, gamma: Any) -> Replay:
        check_count("capacity", capacity)
        check_count("n_step", n_step)
        check_float("gamma", gamma, UNIT)

        def init(example: Transition, num_envs: int) -> Episodes:
            _check_example(example, reward_fn, terminated_fn)
            return episode_rings.init(example, num_rows(capacity, num_envs, n_step), num_envs)

        def sample(key: Array, state: Episodes, batch_size: int, *, reward_fn: RewardFn | None = None) -> Sample:
            slot_key, coin_key, goal_key = jax.random.split(key, 3)
            slot = rings.draw(slot_key, state.ring, batch_size)
            source = choose(goal_key, state, slot)
            # An empty replay has nothing to relabel and returns zeros, like every other replay.
            coin = jax.random.bernoulli(coin_key, probability, (batch_size,)) & (state.ring.filled > 0)
            goal = rings.take(state.ring.transitions.next_observation.achieved_goal, *source)
            steps = _steps(state, slot, n_step)
            new = relabel(steps, goal, coin, goal_reward_fn, terminated_fn)
            if reward_fn is not None:
                new = new._replace(reward=windows.new_rewards(reward_fn, _window(state, slot, new, goal, coin)))
            transition, discount = _reduce(state, slot, new, goal, coin, gamma)
            return Sample(transition, discount, jnp.ones((batch_size,), jnp.float32), slot)

        def update_priorities(state: Episodes, index: Slot, priorities: Array) -> Episodes:
            del index, priorities
            return state

        return Replay(init, episode_rings.add, sample, update_priorities)

    return make


def final(key: Array, state: Episodes, slot: Slot) -> Slot:
    """The last step of the episode."""
    _, after = episode_rings.around(state, slot)
    return Slot(rings.later(state.ring, slot.row, after), slot.env)


def future(key: Array, state: Episodes, slot: Slot) -> Slot:
    """A uniformly random step of the episode, this one or a later one."""
    _, after = episode_rings.around(state, slot)
    return Slot(rings.later(state.ring, slot.row, _below(key, after + 1)), slot.env)


def episode(key: Array, state: Episodes, slot: Slot) -> Slot:
    """A uniformly random step of the episode."""
    before, after = episode_rings.around(state, slot)
    return Slot(rings.later(state.ring, slot.row, _below(key, before + after + 1) - before), slot.env)


def random(key: Array, state: Episodes, slot: Slot) -> Slot:
    """A uniformly random stored step."""
    return rings.draw(key, state.ring, slot.row.shape[0])


STRATEGIES: dict[str, Callable[[Array, Episodes, Slot], Slot]] = {
    "final": final,
    "future": future,
    "episode": episode,
    "random": random,
}
"""Name -> ``(key, state, slot [N]) -> slot [N]``, the steps whose next achieved goals become the new goals."""


def _steps(state: Episodes, slot: Slot, n: int) -> Steps:
    stored = state.ring.transitions
    parts = Steps(
        stored.reward,
        stored.discount,
        stored.terminated,
        stored.truncated,
        stored.observation.goal,
        stored.next_observation.achieved_goal,
    )
    return rings.take(parts, *rings.window_slots(state.ring, slot, n))


def _reduce(
    state: Episodes, slot: Slot, steps: Steps, goal: Array, coin: Array, gamma: Any
) -> tuple[Transition, Array]:
    """Reduces relabelled windows to one transition each, like ``n_step.at``."""
    ring = state.ring
    stored = ring.transitions
    valid = rings.window_valid(ring, slot, steps.terminated | steps.truncated)
    reduced = windows.reduce(steps.reward, steps.discount, valid, gamma)
    ask = partial(_ask, coin, goal)
    at_last = lambda x: jnp.take_along_axis(x, reduced.last[None], axis=0)[0]  # noqa: E731
    observation, action, extras = rings.take((stored.observation, stored.action, stored.extras.extras), *slot)
    next_observation = rings.take(stored.next_observation, rings.later(ring, slot.row, reduced.last), slot.env)
    transition = Transition(
        observation=ask(observation),
        action=action,
        reward=reduced.reward,
        discount=reduced.transition_discount,
        terminated=at_last(steps.terminated),
        truncated=at_last(steps.truncated),
        next_observation=ask(next_observation),
        extras=extras,
    )
    return transition, reduced.discount


def _ask(coin: Array, goal: Array, seen: Observation) -> Observation:
    """Replaces the goal of observations ``[N]`` or ``[n, N]`` by the new goal where ``coin`` is True."""
    leading = seen.goal.ndim - goal.ndim
    goal = jnp.broadcast_to(goal.reshape((1,) * leading + goal.shape), seen.goal.shape)
    return seen._replace(goal=where(jnp.broadcast_to(coin, seen.goal.shape[: leading + 1]), goal, seen.goal))


def _window(state: Episodes, slot: Slot, steps: Steps, goal: Array, coin: Array) -> Transition:
    """All steps ``[n, N, ...]`` of the windows, relabelled."""
    stored = rings.take(state.ring.transitions, *rings.window_slots(state.ring, slot, steps.reward.shape[0]))
    return Transition(
        observation=_ask(coin, goal, stored.observation),
        action=stored.action,
        reward=steps.reward,
        discount=steps.discount,
        terminated=steps.terminated,
        truncated=steps.truncated,
        next_observation=_ask(coin, goal, stored.next_observation),
        extras=stored.extras.extras,
    )


def _below(key: Array, bound: Array) -> Array:
    """Uniform integers in ``[0, bound)`` with a bound per entry; drawn like ``ring.draw``, and for the same reason."""
    return (jax.random.bits(key, bound.shape, jnp.uint32) % bound.astype(jnp.uint32)).astype(jnp.int32)


def _check_arguments(reward_fn: Any, terminated_fn: Any, strategy: Any, k: Any) -> None:
    check_callable("reward_fn", reward_fn, "a function (achieved_goal [N, G], goal [N, G]) -> reward [N]")
    if terminated_fn is not None:
        check_callable(
            "terminated_fn",
            terminated_fn,
            "a function (achieved_goal [N, G], goal [N, G]) -> bool [N], or None if no goal ends the task",
        )
    if strategy not in STRATEGIES:
        known = ", ".join(f'"{name}"' for name in STRATEGIES)
        raise ValueError(f"strategy: got {strategy!r}, must be one of {known}")
    check_float("k", k, NON_NEGATIVE)


def _check_example(example: Transition, reward_fn: GoalFn, terminated_fn: GoalFn | None) -> None:
    for name in ("observation", "next_observation"):
        seen = getattr(example, name)
        parts = ("goal", "achieved_goal")
        missing = [part for part in parts if not isinstance(seen, Observation) or getattr(seen, part) is None]
        if missing:
            raise ValueError(
                f"{name}: got an observation without {' and '.join(missing)}, must be "
                "jaxrl.types.Observation(features=..., goal=..., achieved_goal=...), as goal environments have it"
            )
        goal, achieved = ((getattr(seen, part).shape, str(getattr(seen, part).dtype)) for part in parts)
        if goal != achieved:
            raise ValueError(
                f"{name}: got goal {goal[1]}{list(goal[0])} and achieved_goal {achieved[1]}{list(achieved[0])}, must "
                "have the same shape and dtype because hindsight replaces one by the other"
            )
    goal = example.observation.goal
    batch = jax.ShapeDtypeStruct((7, *goal.shape), goal.dtype)
    for name, function, kind in (("reward_fn", reward_fn, jnp.number), ("terminated_fn", terminated_fn, jnp.bool_)):
        result = None if function is None else jax.eval_shape(function, batch, batch)
        if result is not None and (result.shape != (7,) or not jnp.issubdtype(result.dtype, kind)):
            raise ValueError(
                f"{name}: got {result.dtype}{list(result.shape)} for a batch of 7 goals, must return "
                f"{'numbers' if kind is jnp.number else 'bool'} of shape [7]"
            )
