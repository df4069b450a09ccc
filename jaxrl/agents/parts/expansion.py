"""Targets of critics from rollouts in a model: value expansion, with the TD-k trick, and weighted by variance.

Each of them is a function ``(key, sample, bootstrap, world) -> (sample, targets)``, which with a world is a
``critics.TargetFn``.

Legend of shapes: N samples, K members of an ensemble, E critics, H steps in the model, D features of an observation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.critics import Bootstrap, one_step
from jaxrl.models.ensemble import Ensemble, EnsembleParams, EnsembleState, only
from jaxrl.networks import as_float
from jaxrl.ops import td
from jaxrl.replay import Sample
from jaxrl.types import Array, PyTree, Simulated, Transition

STEPS = 0x4D56
"""Folded into the key of a target for what the model and the steps in it draw."""


class World(NamedTuple):
    """A model in which targets look ahead.

    Attributes:
      step: ``(params of a member, key, observation [N, D], action [N, ...]) -> Simulated``, leaves ``[N, ...]``, of
        actions as the replay stores them.
      members: parameters of the members, leaves ``[K, ...]``.
      horizon: H, a Python int.
      gamma: discount of a step.
    """

    step: Callable[[PyTree, Array, Array, Array], Simulated]
    members: PyTree
    horizon: int
    gamma: Any


class Path(NamedTuple):
    """Rollouts in the model from ``s_0`` on, leaves ``[H, N, ...]``.

    Attributes:
      observation, action: ``s_k`` and ``a_k``.
      bonus: what the policy adds to the reward, see ``critics.Bootstrap``.
      reward, discount: of the step; the discount is 0 where the model terminates.
      next_observation: ``s_{k+1}``.
    """

    observation: Array
    action: Array
    bonus: Array
    reward: Array
    discount: Array
    next_observation: Array


Targets = Annotated[
    Callable[[Array, Sample, Bootstrap, World], tuple[Sample, Array]],
    "td_k, last or a function, see agents.parts.expansion",
]


def world_of(dynamics: Ensemble, params: EnsembleParams, horizon: int, gamma: Any) -> World:
    """A learned ensemble as a ``World`` of its elites, each of which predicts means."""
    model = dynamics.model("ts_infinity", noise=False)

    def step(params: EnsembleParams, key: Array, observation: Array, action: Array) -> Simulated:
        keys = jax.random.split(key, observation.shape[0])
        states = EnsembleState(observation, jnp.zeros(observation.shape[:1], jnp.int32))
        return jax.vmap(model.step, (None, 0, 0, 0))(params, keys, states, action)

    return World(step, jax.vmap(only, (None, 0))(params, params.elites), horizon, gamma)


def imagine(keys: Array, world: World, number: Any, bootstrap: Bootstrap, observation: Array) -> Path:
    """The policy's rollout from ``[N, D]`` in the member of a number, with a key for each of H steps."""
    member = jax.tree.map(lambda x: x[number], world.members)

    def step(observation: Array, key: Array) -> tuple[Array, Path]:
        action, bonus = bootstrap.policy(key, observation)
        # Members share what the policy draws, and not what they draw themselves.
        after = world.step(member, jax.random.fold_in(key, STEPS + number), observation, action)
        return after.observation, Path(observation, action, bonus, after.reward, after.discount, after.observation)

    return jax.lax.scan(step, as_float(observation), keys)[1]


def last(key: Array, sample: Sample, bootstrap: Bootstrap, world: World) -> tuple[Sample, Array]:
    """Value expansion: ``y = r + gamma V^H(s')``, ``V^H(s_0) = sum_{k<H} gamma^k r_k + gamma^H V(s_H)``.

    The rollout is that of one member, drawn anew for each call. Feinberg et al. 2018, "Model-based value expansion for
    efficient model-free reinforcement learning", arXiv:1803.00101. With H = 0 it is ``critics.one_step``.

    Args:
      key: consumed.
      sample: N transitions.
      bootstrap: V and the policy.
      world: the model; returns pass over its time limit, if it has one.
    """
    if not world.horizon:
        return one_step(key, sample, bootstrap)
    path = _of_one_member(key, world, bootstrap, sample)
    value, _ = _backwards(key, path, bootstrap, world)
    return sample, td.one_step_target(sample.transition.reward, sample.discount, value)


def td_k(key: Array, sample: Sample, bootstrap: Bootstrap, world: World) -> tuple[Sample, Array]:
    """Value expansion whose critics are fitted at the states of the rollout too.

    ``mean_k (Q(s_k, a_k) - sum_{k<=j<H} gamma^{j-k} r_j - gamma^{H-k} V(s_H))^2``, k = -1 being the transition of the
    replay. The critics so learn values of the states in which they are used. Feinberg et al. 2018.
    Imagined states behind the end of an episode have weight 0.

    Args:
      key, sample, bootstrap, world: see ``last``.

    Returns:
      ``(sample, targets)`` of N (H + 1) transitions, those of the replay first.
    """
    if not world.horizon:
        return one_step(key, sample, bootstrap)
    path = _of_one_member(key, world, bootstrap, sample)
    value, imagined = _backwards(key, path, bootstrap, world)
    target = td.one_step_target(sample.transition.reward, sample.discount, value)
    begins = (sample.discount != 0.0).astype(jnp.float32)[None]
    goes_on = (path.discount != 0.0).astype(jnp.float32)
    is_reached = jnp.cumprod(jnp.concatenate([begins, goes_on])[:-1], axis=0)
    ends = path.discount == 0.0
    flags = (ends, jnp.zeros_like(ends))
    steps = Transition(path.observation, path.action, path.reward, path.discount, *flags, path.next_observation, ())
    join = lambda x, y: jnp.concatenate([x, y.reshape(-1, *y.shape[2:])])  # noqa: E731
    joined = Sample(
        transition=jax.tree.map(join, sample.transition._replace(extras=()), steps),
        discount=join(sample.discount, world.gamma * path.discount),
        weight=join(sample.weight, sample.weight[None] * is_reached),
        index=sample.index,
    )
    return joined, join(target, jax.lax.stop_gradient(imagined))


def inverse_variance(key: Array, sample: Sample, bootstrap: Bootstrap, world: World) -> tuple[Sample, Array]:
    """STEVE: the targets of all horizons up to H, weighted by the inverse of their variance over models and critics.

    ``y = r + gamma sum_h w_h mean_{k,e} V_h^{k,e}(s')``, ``w_h ~ 1 / var_{k,e} V_h^{k,e}``, where V_h looks h steps
    ahead in member k and ends with critic e. Buckman et al. 2018, "Sample-efficient reinforcement learning with
    stochastic ensemble value expansion", arXiv:1807.01675.

    Args:
      key, sample, bootstrap, world: see ``last``.
    """
    keys = _keys(key, world.horizon)
    first = as_float(sample.transition.next_observation)

    def of_member(number: Array) -> Array:
        path = imagine(keys[:-1], world, number, bootstrap, first)
        seen = jnp.concatenate([first[None], path.next_observation])
        values = jax.vmap(bootstrap.values)(keys, seen)
        ones = jnp.ones((1, first.shape[0]), jnp.float32)
        weight = jnp.cumprod(jnp.concatenate([ones, world.gamma * path.discount]), axis=0)
        rewards = jnp.cumsum(weight[:-1] * (path.reward + path.bonus), axis=0)
        return jnp.concatenate([0.0 * ones, rewards])[:, None] + weight[:, None] * values

    estimates = jax.vmap(of_member)(jnp.arange(_num_members(world)))  # [K, H + 1, E, N]
    estimates = estimates.swapaxes(0, 1).reshape(world.horizon + 1, -1, first.shape[0])
    value = weighted_mean(estimates)
    return sample, td.one_step_target(sample.transition.reward, sample.discount, value)


def weighted_mean(estimates: Array) -> Array:
    """The mean of estimators, each weighted by the inverse of its variance.

    Args:
      estimates: ``[J, S, N]``, S draws of each of J estimators; one whose mean or variance is not finite has weight 0.

    Returns:
      ``[N]``; NaN where no estimator is finite.

    >>> weighted_mean(jnp.array([[[0.0], [2.0]], [[3.0], [5.0]], [[-1e30], [1e30]]])).tolist()
    [2.5]
    """
    mean, variance = estimates.mean(axis=1), estimates.var(axis=1)
    is_finite = jnp.isfinite(mean) & jnp.isfinite(variance)
    variance = jnp.where(is_finite, variance, jnp.inf)
    # Relative to the least one, so that neither small nor large variances overflow; of zeros all weigh the same.
    tiny = jnp.finfo(variance.dtype).tiny
    least = variance.min(axis=0, keepdims=True)
    weight = jnp.where(is_finite, jnp.maximum(least, tiny) / jnp.maximum(variance, tiny), 0.0)
    return (weight * jnp.where(is_finite, mean, 0.0)).sum(axis=0) / weight.sum(axis=0)


TARGETS: dict[str, Callable[..., Any]] = {"td_k": td_k, "last": last}
"""Expansions by name."""


def _num_members(world: World) -> int:
    """K."""
    return int(jax.tree.leaves(world.members)[0].shape[0])


def _keys(key: Array, horizon: int) -> Array:
    """Keys of ``s_0`` to ``s_H``, ``[H + 1]``; the last one is ``key``, with which the base would value ``s_0``."""
    steps = jnp.arange(horizon, dtype=jnp.uint32) + jnp.uint32(STEPS)
    return jnp.concatenate([jax.vmap(jax.random.fold_in, (None, 0))(key, steps), key[None]])


def _of_one_member(key: Array, world: World, bootstrap: Bootstrap, sample: Sample) -> Path:
    """The rollout from ``s'`` in a random member."""
    chosen = jax.random.randint(jax.random.fold_in(key, STEPS - 1), (), 0, _num_members(world))
    keys = _keys(key, world.horizon)[:-1]
    return imagine(keys, world, chosen, bootstrap, sample.transition.next_observation)


def _backwards(key: Array, path: Path, bootstrap: Bootstrap, world: World) -> tuple[Array, Array]:
    """``V^H(s_0) [N]``, and the values of the steps, ``Q^{H-k}(s_k, a_k) [H, N]``, from the end to the beginning."""
    value, steps = bootstrap.value(key, path.next_observation[-1]), []
    for k in reversed(range(world.horizon)):
        steps.append(path.reward[k] + world.gamma * path.discount[k] * value)
        value = steps[-1] + path.bonus[k]
    return value, jnp.stack(steps[::-1])
