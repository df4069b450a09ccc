"""MBMF: plans in learned dynamics teach a policy, which TRPO then improves. Nagabandi et al. 2018, arXiv:1708.02596."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import models, optim, types
from jaxrl.agents.parts import actor_critic, dynamics, normalizer, plans, replaying
from jaxrl.agents.parts.actor_critic import Extras
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.agents.parts.when import when
from jaxrl.agents.trpo import TRPOState, join, split, trpo
from jaxrl.arguments import Count, CountOrZero, NonNegative
from jaxrl.models.ensemble import EnsembleParams
from jaxrl.planners import Plan, PlanFn
from jaxrl.replay import ring
from jaxrl.replay.ring import Ring
from jaxrl.rollout import stored
from jaxrl.signature import Torso, recipe
from jaxrl.types import Agent, Array, Discrete, Metrics, PyTree, Spec, Transition

RewardFn = Annotated[Callable[..., Any], "a function (observation, action, next_observation) -> scalar"]


class MBMFState(NamedTuple):
    """The state of the agent.

    Attributes:
      dynamics: parameters of the ensemble.
      policy: the state of ``trpo``, without its leaves of environments.
      steps: int32, environment steps seen, all environments together.
      per_env: all transitions with the planner's actions, leaves ``[rows, B, ...]``, and those leaves of ``trpo``.
    """

    dynamics: EnsembleParams
    policy: TRPOState
    steps: Array
    per_env: tuple[Ring, Any]

    @property
    def params(self) -> dict[str, PyTree]:
        """All that is learned."""
        return {"dynamics": self.dynamics, "policy": self.policy.params}


class Label(NamedTuple):
    """The planner's action for a step.

    Attributes:
      action: ``[B, ...]`` its action; of continuous ones ``[B, D]`` in units of the bounds.
      is_known: ``[B]`` bool, False where nothing was planned.
    """

    action: Array
    is_known: Array


class MBMFExtras(NamedTuple):
    """The extras of a step, which ``update`` reads."""

    policy: Extras
    label: Label


@recipe(extends=trpo, remembers=plans.memory_of)
def mbmf(
    spec: Spec,
    *,
    torso: Torso | None = None,
    planner: str | PlanFn = "random_shooting",
    horizon: Count = 20,
    population: Count = 500,
    reward: RewardFn | None = None,
    termination: RewardFn | Literal["learned"] | None = None,
    num_members: Count = 1,
    hidden: Sequence[int] = (64, 64),
    model_learning_rate: NonNegative = 1e-3,
    clone_learning_rate: NonNegative = 1e-3,
    batch_size: Count = 64,
    max_epochs: Count = 50,
    patience: Count = 5,
    random_steps: CountOrZero = 500,
    planned_steps: CountOrZero = 1_500,
    cloned_steps: CountOrZero = 1_000,
    dyna: CountOrZero = 0,
    dyna_updates: Count = 1,
    data_capacity: Count = 10_000,
    **options: Any,
) -> Agent:
    """Model-based control that starts off model-free learning: a planner's actions are cloned, then TRPO goes on.

    Dynamics are fitted to random transitions and, again after every rollout, to those of model-predictive control in
    them. The planner's actions are cloned into a policy, ``min_theta -E log pi_theta(a_MPC | s)``, which then acts
    while the planner labels what it sees (DAgger, Ross et al. 2011, arXiv:1011.0686). In the end ``trpo`` learns from
    what the policy does. Nagabandi et al. 2018, "Neural network dynamics for model-based deep reinforcement learning
    with model-free fine-tuning". Every float may be a tracer.

    Args:
      spec: the environment's spec; its features are vectors. With ``envs.remember(env, planners.sequence_like(action,
        horizon))`` around the environment each plan starts from the previous one.
      torso: Flax module of the policy from ``[N, ...]`` to features ``[N, D]``; None chooses an MLP.
      planner: "random_shooting", the paper's, "cem", "mppi", or a function, see ``planners.PlanFn``.
      horizon: number of steps of a plan; its rewards have the discount ``gamma``.
      population: number of candidates per iteration.
      reward: the reward function ``(observation [D], action, next_observation [D]) -> scalar``; None to learn it.
      termination: the same for the end of the task, a bool; "learned" to learn it; None if the task never ends.
      num_members: number of networks of the dynamics; plans use one particle of each.
      hidden: widths of the hidden layers of the dynamics.
      model_learning_rate: step size of Adam, for the dynamics.
      clone_learning_rate: step size of Adam, for cloning.
      batch_size: number of transitions per gradient step, of the dynamics and of the policy that is cloned.
      max_epochs: largest number of passes over the data in a fit of the dynamics or of the policy.
      patience: number of passes without a lower held-out loss after which a fit stops.
      random_steps: number of environment steps with random actions.
      planned_steps: number of steps after those, in which the planner acts.
      cloned_steps: number of steps after those, in which the policy acts and the planner labels its states.
      dyna: number of steps of rollouts in the dynamics, from which ``trpo`` learns too; 0 for none. An update has as
        many rollouts as environment steps, each from a stored state.
      dyna_updates: number of updates on such rollouts for each update of ``trpo`` in the environment.
      data_capacity: number of transitions kept, all environments together; the oldest are overwritten.

    Returns:
      An ``Agent``, whose greedy policy is the planner until the first cloning.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    plan = plans.plan_fn(planner)
    plans.check_memory(spec, horizon)
    space, plain = spec.action, spec._replace(observation=stored(spec.observation))
    if dyna and isinstance(plain.observation, types.Observation) and any(x is not None for x in plain.observation[1:]):
        raise ValueError(f"dyna: got {dyna}, must be 0 where observations have masks or goals, which no model predicts")
    check_no_memory(plain, torso)
    model_free = trpo(plain, torso=torso, **options)
    gaussian = {name: options[name] for name in _GAUSSIAN if name in options}
    network = actor_critic.make_network(plain, torso, **gaussian)
    squash, gamma = options.get("squash", False), options.get("gamma", 0.99)
    clip = options.get("clip_observation", 10.0)
    ensemble = dynamics.ensemble_of(
        spec, num_members=num_members, hidden=hidden, reward=reward, termination=termination
    )
    swarm, start = dynamics.swarm(ensemble, particles_per_member=1)
    fit_options: dict[str, Any] = {"batch_size": batch_size, "max_epochs": max_epochs, "patience": patience}
    first_clone = random_steps + planned_steps
    first_tuned = first_clone + cloned_steps

    def init(key: Array, num_envs: int = 1) -> MBMFState:
        model_key, policy_key = jax.random.split(key)
        policy = model_free.init(policy_key, num_envs)
        data = dynamics.empty_data(spec, data_capacity, num_envs, extras=_label_like(spec))
        steps = jnp.zeros((), jnp.int32)
        return MBMFState(ensemble.init(model_key), policy._replace(per_env=()), steps, (data, policy.per_env))

    def act(key: Array, state: MBMFState, observation: Any, *, explore: bool = True) -> tuple[Any, MBMFExtras]:
        policy_key, plan_key, random_key = jax.random.split(key, 3)
        own, extras = model_free.act(policy_key, state.policy, stored(observation), explore=explore)
        batch = own.shape[0]
        nothing = Plan(
            own,
            jnp.zeros((batch, *plans.memory_of(spec, {"horizon": horizon}).shape), jnp.float32),
            jnp.full((batch,), jnp.nan, jnp.float32),
        )

        def planned(_: Plan) -> Plan:
            return plan(
                plan_key if explore else plans.greedy_keys(observation),
                dynamics.members(state.dynamics),
                swarm,
                start(observation, state.dynamics.elites.shape[0]),
                space=space,
                horizon=horizon,
                population=population,
                warm_start=types.memory(observation),
                action_mask=types.action_mask(observation),
                terminal_value=None,
                gamma=gamma,
                num_particles=1,
            )

        until = first_tuned if explore else first_clone
        is_planned = (state.steps < until) & ((state.steps >= random_steps) if explore else True)
        found = when(is_planned, planned, lambda nothing: nothing, nothing)
        label = found.action if isinstance(space, Discrete) else found.sequence[:, 0]
        action = jnp.where(state.steps < first_clone, found.action, own)
        if explore:
            random = replaying.to_environment(spec, replaying.uniform_action(random_key, spec, observation))[0]
            action = jnp.where(state.steps < random_steps, random, action)
        labelled = Label(label, jnp.broadcast_to(is_planned, (batch,)))
        return plans.remembered(observation, found, action), MBMFExtras(extras, labelled)

    def clone(due: Array, key: Array, params: PyTree, statistics: PyTree, data: Ring) -> tuple[PyTree, Metrics]:
        """The policy fitted to the planner's actions: eq. 9, as a likelihood."""
        actor, critic = split(params)

        def loss(actor: PyTree, key: Array, rows: Transition) -> Array:
            del key
            policy: Any = network.apply(join(actor, critic), rows.observation, method="act")
            return jnp.where(rows.extras.is_known, -policy.log_prob(_raw(rows.extras.action, squash)), 0.0)

        def fitted(state: tuple[PyTree, Metrics]) -> tuple[PyTree, Metrics]:
            rows, size = dynamics.rows_of(data)
            rows = rows._replace(observation=normalizer.standardize(plain, statistics, rows.observation, clip))
            optimizer = optim.clipped(optim.ADAM, clone_learning_rate)
            found = models.fit(key, state[0], rows, loss, size=size, optimizer=optimizer, **fit_options)
            return found.params, found.metrics()

        actor, metrics = dynamics.fitted_when(due, fitted, actor)
        return join(actor, critic), {f"clone_{name}": value for name, value in metrics.items()}

    def dreamt(key: Array, params: EnsembleParams, policy: TRPOState, data: Ring, num_branches: int) -> TRPOState:
        """The policy after updates on short rollouts in the dynamics: Dyna, Sutton 1991."""

        def step(policy: TRPOState, key: Array) -> tuple[TRPOState, None]:
            imagine_key, update_key = jax.random.split(key)
            seen = dynamics.imagined(
                imagine_key,
                ensemble,
                params,
                data,
                model_free,
                policy,
                space=space,
                length=dyna,
                num_branches=num_branches,
            )
            # The statistics of the environment are kept. The scale of imagined rewards counts the imagined returns too,
            # which begin at 0; a learning rate that is annealed falls with each of these updates.
            traces = jax.tree.map(lambda x: jnp.zeros((num_branches, *x.shape[1:]), x.dtype), policy.per_env)
            after = model_free.update(update_key, policy._replace(per_env=traces), seen)[0]
            return policy._replace(params=after.params, optimizer_state=after.optimizer_state), None

        return jax.lax.scan(step, policy, jax.random.split(key, dyna_updates))[0] if dyna else policy

    def update(key: Array, state: MBMFState, trajectory: Transition) -> tuple[MBMFState, Metrics]:
        model_key, clone_key, tune_key, dream_key = jax.random.split(key, 4)
        seen = dynamics.without_memory(trajectory)
        data = ring.add(state.per_env[0], seen._replace(extras=seen.extras.label))
        steps = state.steps + replaying.num_steps(trajectory)

        is_modelled = ((state.steps < first_tuned) | (dyna > 0)) & (steps >= random_steps)
        optimizer = optim.clipped(optim.ADAM, model_learning_rate)
        fitted, of_model = dynamics.refit(
            is_modelled, model_key, ensemble, state.dynamics, data, optimizer=optimizer, **fit_options
        )

        policy = state.policy._replace(per_env=state.per_env[1])
        own = seen._replace(extras=seen.extras.policy)

        def tuned(policy: TRPOState) -> tuple[TRPOState, Metrics]:
            policy, metrics = model_free.update(tune_key, policy, own)
            return dreamt(dream_key, fitted, policy, data, own.reward.size), metrics

        # From the first clone on the critic learns of what the policy does; the policy itself is still being taught.
        learns = jax.eval_shape(lambda: model_free.update(tune_key, policy, own)[1])
        fill = lambda x: jnp.full(x.shape, jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else 0, x.dtype)  # noqa: E731
        no_metrics = jax.tree.map(fill, learns)
        policy, of_policy = when(state.steps >= first_clone, tuned, lambda policy: (policy, no_metrics), policy)
        is_taught = state.steps < first_tuned
        actor = jax.tree.map(
            lambda old, new: jnp.where(is_taught, old, new), split(state.policy.params)[0], split(policy.params)[0]
        )
        params = join(actor, split(policy.params)[1])
        due = (steps >= first_clone) & (state.steps < max(first_tuned, 1))
        params, of_clone = clone(due, clone_key, params, policy.statistics, data)
        policy, trace = policy._replace(params=params, per_env=()), policy.per_env
        return MBMFState(fitted, policy, steps, (data, trace)), {**of_policy, **of_model, **of_clone}

    return Agent(init, act, update)


_GAUSSIAN = ("squash", "state_dependent_std", "initial_log_std")


def _raw(action: Array, squash: bool) -> Array:
    """An action in units of the bounds, in the space in which the policy scores it."""
    return jnp.arctanh(jnp.clip(action, -0.999, 0.999)) if squash else action


def _label_like(spec: Spec) -> Any:
    """The shapes of one ``Label``."""
    size, dtype = ((), np.int32) if isinstance(spec.action, Discrete) else ((math.prod(spec.action.shape),), np.float32)
    action: Any = jax.ShapeDtypeStruct(size, dtype)
    known: Any = jax.ShapeDtypeStruct((), np.bool_)
    return Label(action, known)


def functions(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    clip_observation: Any = 10.0,
    squash: bool = False,
    state_dependent_std: bool = False,
    initial_log_std: float = 0.0,
) -> Functions:
    """The policy, without a planner, and its value; the arguments are those that the agent was made with."""
    made: Any = actor_critic.functions(
        spec._replace(observation=stored(spec.observation)),
        torso=torso,
        clip_observation=clip_observation,
        squash=squash,
        state_dependent_std=state_dependent_std,
        initial_log_std=initial_log_std,
    )
    return Functions(
        policy=lambda state, observation: made.policy(state.policy, stored(observation)),
        value=lambda state, observation: made.value(state.policy, stored(observation)),
    )
