"""Rewards learned from comparisons of short segments. Christiano et al. 2017; PEBBLE, Lee et al. 2021.

Legend of shapes: T steps, B environments, L steps of a segment, Q queries, E members.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl import networks, optim, types
from jaxrl.arguments import Count, CountOrZero, Positive, Unit
from jaxrl.feedback import comparisons as compared
from jaxrl.feedback.comparisons import Comparisons, Fit, Learner
from jaxrl.feedback.networks import make_network, standardize
from jaxrl.feedback.queries import POOL, Choose, use
from jaxrl.feedback.segments import Segments, draw, example, kept, masked_sum
from jaxrl.feedback.state_entropy import COMPARED, state_entropy
from jaxrl.feedback.teachers import TEACHERS, Teacher, TeacherName, outside
from jaxrl.ops import across, normalize, numerics
from jaxrl.replay import ring
from jaxrl.replay.base import num_rows
from jaxrl.signature import Torso, recipe
from jaxrl.types import Array, Metrics, PyTree, RewardModel, Spec, Transition


class PreferencesState(NamedTuple):
    """The state of the reward model.

    Attributes:
      learner: the reward networks, leaves ``[E, ...]``.
      scale: ``[E]`` root mean square of each member's rewards on recent experience.
      statistics: mean and variance of the features.
      comparisons: what the teacher was asked, and its answers.
      fit: agreement with the answers after the last fit.
      fits: int32, the number of fits so far.
      heard: bool, whether answers came from outside since the last fit; the next update fits to them.
      steps: int32, environment steps so far.
      per_env: the recent experience from which queries are made; the only place that has the environment's reward.
    """

    learner: Learner
    scale: Array
    statistics: normalize.RunningStatistics
    comparisons: Comparisons
    fit: Fit
    fits: Array
    heard: Array
    steps: Array
    per_env: ring.Ring


class _Asked(NamedTuple):
    """The part of the state that a session with the teacher changes."""

    learner: Learner
    scale: Array
    comparisons: Comparisons
    fit: Fit
    fits: Array
    heard: Array


@recipe
def preferences(
    spec: Spec,
    *,
    teacher: TeacherName | Teacher = "oracle",
    labels: Count = 200,
    queries: Count = 20,
    query_interval: Count = 5_000,
    segment_length: Count = 25,
    choose: Choose = "disagreement",
    num_members: Count = 3,
    torso: Torso | None = None,
    learning_rate: Positive = 1e-3,
    noise: Unit = 0.1,
    initial_penalty: Positive = 1e-4,
    num_gradient_steps: Count = 200,
    batch_size: Count = 32,
    memory: Count = 10_000,
    pretraining: CountOrZero = 0,
    pseudo_labels: Unit | None = None,
) -> RewardModel:
    """A reward learned from a teacher's comparisons of segments, in place of the environment's.

    ``P(1 preferred) = (1 - noise) sigmoid(sum_t r(s_t, a_t) - sum_t r(s'_t, a'_t)) + noise / 2``, sums over the steps
    of two segments, is fitted to the answers by an ensemble of networks; ties count half. The reward is the mean of the
    members, each divided by its root mean square on recent experience. Christiano et al. 2017, "Deep reinforcement
    learning from human preferences", arXiv:1706.03741; with a replay, where old transitions get the newest reward, it
    is PEBBLE, Lee et al. 2021, arXiv:2106.05091. Two things differ from the first paper: members are scaled and not
    centred, because a constant matters where episodes differ in length, and segments end with their episode, so that it
    is learned. Until the first answer every reward is 0, unless there is ``pretraining``. Every float may be a tracer.

    A session is held whenever ``query_interval`` environment steps have passed, at most one in an update, until
    ``labels`` queries were put to the teacher. The agent never sees the environment's reward; a scripted teacher does.
    The answers of ``teachers.outside``, such as a person's, come between chunks of a run; see ``runs.outside_answers``.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      teacher: who compares: a name in ``teachers.TEACHERS``, ``teachers.scripted(...)`` or another ``Teacher``.
      labels: the number of queries of the whole run, skipped ones included.
      queries: Q, queries of a session.
      query_interval: environment steps, of all environments together, between two sessions.
      segment_length: L, steps of a segment, which is shorter where its episode ends.
      choose: how queries are chosen: "uniform", or from 10 times as many those about which members disagree most, or
        those whose mean prediction has the highest "entropy".
      num_members: E, networks of the ensemble.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``; None chooses MLP or Conv by the observation's shape.
      learning_rate: step size of Adam.
      noise: fraction of answers that are assumed to be random.
      initial_penalty: first coefficient of the sum of squared weights, which is adapted until the held-out loss is 1.1
        to 1.5 times the training loss.
      num_gradient_steps: gradient steps of a session.
      batch_size: comparisons of a gradient step.
      memory: transitions, all environments together, of the recent experience that segments are cut from.
      pretraining: environment steps before the first session, after which they follow in their interval. Until the
        first fit the reward is ``log(1 + distance to the 5th nearest state)`` in the recent experience, so that the
        agent visits many states before anybody is asked (PEBBLE); 0 for none, where that reward is 0.
      pseudo_labels: also fit to comparisons that nobody answered, whose preferred segment has at least this probability
        by the networks (SURF, Park et al. 2022, arXiv:2203.10050, where it is 0.99); None for none.

    Returns:
      A ``RewardModel``. Its metrics are the mean ``reward``, the number of ``labels`` that were given, and the
      ``train_loss``, ``held_out_loss`` and ``held_out_accuracy`` of the last session.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.

    >>> import jaxrl
    >>> from jaxrl.feedback import preferences
    >>> env, params = jaxrl.make("CartPole-v1")
    >>> spec = jaxrl.spec(env, params)
    >>> agent = jaxrl.with_reward(jaxrl.ppo(spec), preferences(spec, teacher="mistake", labels=200))
    """
    ask: Teacher = TEACHERS[teacher] if isinstance(teacher, str) else teacher
    network = make_network(spec, torso)
    adam = optim.clipped(optax.adam, learning_rate)
    shape = types.features(spec.observation).shape
    is_outside = ask is outside
    remembered = example(spec, states=is_outside)
    num_candidates = queries if choose == "uniform" else POOL * queries

    def init(key: Array, num_envs: int = 1) -> PreferencesState:
        rows = num_rows(memory, num_envs, 1)
        if rows < segment_length:
            raise ValueError(
                f"memory: got {memory}, must be at least segment_length x num_envs = {segment_length * num_envs}, one "
                "segment of each environment"
            )
        observation, action = spec.zeros(1), jnp.zeros((1, *remembered.action.shape), remembered.action.dtype)
        params = jax.vmap(lambda key: network.init(key, observation, action))(jax.random.split(key, num_members))
        penalty = jnp.full((num_members,), initial_penalty, jnp.float32)
        return PreferencesState(
            Learner(params, jax.vmap(adam.init)(params), penalty),
            jnp.ones((num_members,), jnp.float32),
            normalize.init_statistics(shape),
            compared.empty(remembered, labels, segment_length, num_members),
            Fit(*jnp.zeros((3,), jnp.float32)),
            jnp.zeros((), jnp.int32),
            jnp.zeros((), bool),
            jnp.zeros((), jnp.int32),
            ring.init(remembered, rows, num_envs),
        )

    def of_member(statistics: normalize.RunningStatistics, params: PyTree, observation: Any, action: Array) -> Array:
        """Rewards ``[...]`` of one member, not scaled."""
        return network.apply(params, standardize(spec, statistics, observation), action)  # type: ignore[return-value]

    def of_all(learner: Learner, statistics: normalize.RunningStatistics, steps: Transition) -> Array:
        """Rewards ``[E, ...]`` of the members, not scaled."""
        reward = partial(of_member, statistics, observation=steps.observation, action=steps.action)
        return jax.vmap(reward)(learner.params)

    def reward(key: Array, state: PreferencesState, trajectory: Transition) -> Array:
        del key
        members = of_all(state.learner, state.statistics, kept(trajectory))
        mean = (members / state.scale.reshape(-1, *(1,) * (members.ndim - 1))).mean(axis=0)
        is_learned = state.comparisons.given.any() & (state.fits > 0)
        if not pretraining:
            return jnp.where(is_learned, mean, 0.0)
        # Only until the first fit: afterwards the branch that compares states is not computed.
        before = jax.lax.cond(
            across.any_vmapped(~is_learned), lambda: spread(state, trajectory), lambda: jnp.zeros_like(mean)
        )
        return jnp.where(is_learned, mean, before)

    def spread(state: PreferencesState, trajectory: Transition) -> Array:
        """The reward of pretraining: how far observations are from others of the recent experience."""
        memory = state.per_env
        slots = memory.rows * memory.num_envs
        row, env = np.divmod(np.arange(0, slots, max(1, slots // COMPARED)), memory.num_envs)
        others = jax.tree.map(lambda leaf: leaf[row, env], memory.transitions.observation)
        flat = lambda seen: types.features(standardize(spec, state.statistics, seen))  # noqa: E731
        seen, others = flat(trajectory.observation), flat(others)
        others = others.reshape(others.shape[0], -1)
        return state_entropy(seen.reshape(*trajectory.reward.shape, -1), others, row < memory.filled)

    def chosen(state: PreferencesState, candidates: Segments) -> Segments:
        """The queries ``[Q, 2, L]`` that are put to the teacher, of ``[N, 2, L]``."""
        if choose == "uniform":
            return candidates
        members = of_all(state.learner, state.statistics, candidates.transitions)
        both = masked_sum(members, candidates.mask[None])
        _, best = jax.lax.top_k(use(choose, both[..., 0] - both[..., 1]), across.share("queries", queries))
        return jax.tree.map(lambda leaf: leaf[best], candidates)

    def session(key: Array, state: PreferencesState, due: Array) -> _Asked:
        """Asks the teacher, if that is due, and fits the networks to all answers so far."""
        draw_key, teacher_key, held_out_key, fit_key = jax.random.split(key, 4)
        pool = draw(draw_key, state.per_env, 2 * across.share("queries", num_candidates), segment_length)
        candidates = jax.tree.map(lambda leaf: leaf.reshape(-1, 2, *leaf.shape[1:]), pool)
        pairs = chosen(state, candidates)
        label, given = ask(teacher_key, pairs, pool)
        unheard = jax.random.bernoulli(held_out_key, compared.HELD_OUT, (*label.shape, num_members))
        answered = compared.added(state.comparisons, *across.gather((pairs, label, given, unheard)))
        answered = jax.tree.map(lambda new, old: jnp.where(due, new, old), answered, state.comparisons)
        learner, fit = compared.fit(
            fit_key,
            state.learner,
            answered,
            partial(of_member, state.statistics),
            adam,
            noise=noise,
            num_steps=num_gradient_steps,
            batch_size=batch_size,
            unanswered=candidates,
            confidence=pseudo_labels,
        )
        members = of_all(learner, state.statistics, pool.transitions)
        squares = masked_sum(jnp.square(members), pool.mask[None]).sum(axis=1)
        scale = jnp.sqrt(across.total(squares) / jnp.maximum(across.total(pool.mask.sum()), 1))
        return _Asked(learner, jnp.maximum(scale, 1e-6), answered, fit, state.fits + 1, jnp.zeros_like(state.heard))

    def update(key: Array, state: PreferencesState, trajectory: Transition) -> tuple[PreferencesState, Metrics]:
        before = state
        steps = numerics.count_up(before.steps, trajectory.reward.size * across.size())
        state = before._replace(steps=steps, per_env=ring.add(before.per_env, kept(trajectory, states=is_outside)))
        if trajectory.reward.size:  # an update without steps has no features
            seen = networks.as_float(types.features(trajectory.observation))
            state = state._replace(statistics=normalize.update_statistics(before.statistics, seen))
        first = pretraining or query_interval
        is_time = (steps - first) // query_interval > (before.steps - first) // query_interval
        due = is_time & (steps >= first) & (before.comparisons.asked < labels)
        learns = before.heard if is_outside else due
        old = _Asked(*(getattr(before, name) for name in _Asked._fields))

        def held() -> _Asked:
            new = session(key, state, due)
            learned = jax.tree.map(lambda new, old: jnp.where(learns, new, old), new, old)
            return learned._replace(comparisons=new.comparisons)

        # Not ``due`` itself, which has a batch axis where seeds are vmapped: both branches would be computed.
        new = jax.lax.cond(across.any_vmapped(due | learns), held, lambda: old)
        state = state._replace(**new._asdict())
        mean = reward(key, before, trajectory).mean() if trajectory.reward.size else jnp.zeros((), jnp.float32)
        return state, {"labels": new.comparisons.given.sum(), **new.fit._asdict(), "reward": mean}

    return RewardModel(init, reward, update)
