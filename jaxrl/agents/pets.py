"""PETS: plans by particles in a learned ensemble of dynamics. Chua et al. 2018, arXiv:1805.12114."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import optim, types
from jaxrl.agents.parts import dynamics, plans, replaying
from jaxrl.agents.parts.when import when
from jaxrl.arguments import Count, CountOrZero, NonNegative, Unit
from jaxrl.models.ensemble import EnsembleParams
from jaxrl.planners import Plan, PlanFn, sequence_like
from jaxrl.replay import ring
from jaxrl.replay.ring import Ring
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, Spec, Transition

RewardFn = Annotated[Callable[..., Any], "a function (observation, action, next_observation) -> scalar"]


class PETSState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the ensemble.
      steps: int32, environment steps seen, all environments together.
      updates: int32, calls of ``update`` so far.
      per_env: all transitions, leaves ``[rows, B, ...]``.
    """

    params: EnsembleParams
    steps: Array
    updates: Array
    per_env: Ring


@recipe(remembers=plans.memory_of)
def pets(
    spec: Spec,
    *,
    planner: str | PlanFn = "cem",
    horizon: Count = 25,
    population: Count = 100,
    gamma: Unit = 1.0,
    reward: RewardFn | None = None,
    termination: RewardFn | Literal["learned"] | None = None,
    num_members: Count = 5,
    num_elites: Count | None = None,
    particles_per_member: Count = 1,
    hidden: Sequence[int] = (64, 64),
    activation: str = "silu",
    learning_rate: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-5,
    batch_size: Count = 64,
    max_epochs: Count = 50,
    patience: Count = 5,
    refit_every: Count = 1,
    learning_starts: CountOrZero = 200,
    data_capacity: Count = 10_000,
) -> Agent:
    """Probabilistic ensembles with trajectory sampling: model-predictive control in dynamics that are learned.

    The action is the first of the H actions that maximise ``mean_p sum_k gamma^k r(s_k^p, a_k)``. Each particle p is
    moved by one member of the ensemble throughout: ``s_{k+1}^p ~ N(s_k^p + mu_e(p)(s_k^p, a_k), sigma_e(p)^2)``. Chua
    et al. 2018, "Deep reinforcement learning in a handful of trials using probabilistic dynamics models". Every float
    may be a tracer.

    Args:
      spec: the environment's spec; its features are vectors. With ``envs.remember(env, planners.sequence_like(action,
        horizon))`` around the environment each plan starts from the previous one.
      planner: "cem", "mppi", "random_shooting", or a function, see ``planners.PlanFn``.
      horizon: number of steps of a plan.
      population: number of candidates per iteration.
      gamma: discount factor per step.
      reward: the reward function ``(observation [D], action, next_observation [D]) -> scalar``; None to learn it.
      termination: the same for the end of the task, a bool; "learned" to learn it; None if the task never ends.
      num_members: number of networks of the ensemble.
      num_elites: number of members that plans are made with, those with the lowest held-out loss; None for all.
      particles_per_member: number of simulated rollouts of each candidate in each of these members.
      hidden: widths of the hidden layers.
      activation: activation function, one of tanh, relu, gelu, silu, elu.
      learning_rate: step size of Adam.
      weight_decay: weight of the sum of squares of the weights.
      batch_size: number of transitions per gradient step.
      max_epochs: largest number of passes over the data in a fit.
      patience: number of passes without a lower held-out loss after which a fit stops.
      refit_every: number of calls of update between two fits.
      learning_starts: environment steps with random actions before the first fit.
      data_capacity: number of transitions kept, all environments together; the oldest are overwritten.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    plan = plans.plan_fn(planner)
    plans.check_memory(spec, horizon)
    model_options = {"num_members": num_members, "num_elites": num_elites, "hidden": hidden, "activation": activation}
    ensemble = dynamics.ensemble_of(
        spec, **model_options, reward=reward, termination=termination, weight_decay=weight_decay
    )
    swarm, start = dynamics.swarm(ensemble, particles_per_member)
    fit_options = {"batch_size": batch_size, "max_epochs": max_epochs, "patience": patience}
    fit_options["optimizer"] = optim.clipped(optim.ADAM, learning_rate, None)

    def init(key: Array, num_envs: int = 1) -> PETSState:
        zero = jnp.zeros((), jnp.int32)
        return PETSState(ensemble.init(key), zero, zero, dynamics.empty_data(spec, data_capacity, num_envs))

    def act(key: Array, state: PETSState, observation: Any, *, explore: bool = True) -> tuple[Any, Array]:
        plan_key, random_key = jax.random.split(key)
        batch = types.features(observation).shape[0]

        def planned(_: Any = None) -> Plan:
            return plan(
                plan_key if explore else plans.greedy_keys(observation),
                dynamics.members(state.params),
                swarm,
                start(observation, state.params.elites.shape[0]),
                space=spec.action,
                horizon=horizon,
                population=population,
                warm_start=types.memory(observation),
                action_mask=types.action_mask(observation),
                terminal_value=None,
                gamma=gamma,
                num_particles=1,
            )

        if not explore:
            found = planned()
            return plans.remembered(observation, found, found.action), found.value
        action = replaying.to_environment(spec, replaying.uniform_action(random_key, spec, observation))[0]
        sequence = jnp.zeros((batch, *sequence_like(spec.action, horizon).shape), jnp.float32)
        random = Plan(action, sequence, jnp.full((batch,), jnp.nan, jnp.float32))
        found = when(state.steps >= learning_starts, planned, lambda random: random, random)
        return plans.remembered(observation, found, found.action), found.value

    def update(key: Array, state: PETSState, trajectory: Transition) -> tuple[PETSState, Metrics]:
        seen = dynamics.without_memory(trajectory)
        data = ring.add(state.per_env, seen._replace(extras=()))
        steps, updates = state.steps + replaying.num_steps(trajectory), state.updates + 1
        # The negative log-likelihood of bootstrapped data, eq. 1, until that of held-out data rises.
        due = (updates % refit_every == 0) & (steps >= learning_starts)
        params, metrics = dynamics.refit(due, key, ensemble, state.params, data, **fit_options)
        metrics |= {"planned_return": trajectory.extras.mean(), "steps": steps}
        return PETSState(params, steps, updates, data), metrics

    return Agent(init, act, update)
