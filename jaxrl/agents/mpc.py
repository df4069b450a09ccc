"""Model-predictive control: plan, take the first action, plan again. Garcia et al. 1989, Automatica 25 (3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from jaxrl import types
from jaxrl.agents.parts import planning, plans
from jaxrl.arguments import Count, Unit, check_steps
from jaxrl.planners import PlanFn
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, Model, PyTree, Spec, Transition


class MPCState(NamedTuple):
    """The state of the agent.

    Attributes:
      model: the parameters of the model; ``()`` for the true simulator.
      per_env: ().
    """

    model: PyTree
    per_env: tuple[()] = ()


Value = Annotated[Callable[..., Any], "a function (observation [N, ...]) -> [N]"]


@recipe(fills={"model": "simulator"}, remembers=plans.memory_of)
def mpc(
    spec: Spec,
    *,
    model: Annotated[Model, "a types.Model such as envs.simulator(env, params)"],
    planner: str | PlanFn = "cem",
    horizon: Count = 25,
    population: Count = 100,
    num_particles: Count = 1,
    gamma: Unit = 1.0,
    terminal_value: Value | None = None,
) -> Agent:
    """Model-predictive control in the true simulator: each action is the first one of a new plan; nothing is learned.

    ``a_t`` is the first of the H actions that maximise ``sum_{k<H} gamma^k r(s_{t+k}, a_{t+k}) + gamma^H V(s_{t+H})``.
    Garcia et al. 1989, "Model predictive control: theory and practice". Every float may be a tracer.

    Args:
      spec: the spec of ``envs.expose_state(env)``. If that is wrapped in ``envs.remember(env,
        planners.sequence_like(action, horizon))``, each plan starts from the previous one.
      model: ``envs.simulator(env, params)``, or another ``types.Model`` of the environment's states, with one player.
      planner: "cem", "mppi", "random_shooting", or a ``planners.PlanFn`` such as
        ``functools.partial(planners.cem, num_iterations=3)``.
      horizon: number of steps of a plan.
      population: number of candidates per iteration.
      num_particles: number of simulated rollouts of each candidate; more than 1 makes sense in a stochastic simulator.
      gamma: discount factor per step.
      terminal_value: ``(observation [N, ...]) -> [N]``, the value after the last step of a plan; None for 0.

    Returns:
      An ``Agent`` whose ``act`` needs observations with an ``env_state``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    plan = plans.plan_fn(planner)
    plans.check_memory(spec, horizon)

    def init(key: Array, num_envs: int = 1) -> MPCState:
        del num_envs
        return MPCState(model.init(key))

    def act(key: Array, state: MPCState, observation: Any, *, explore: bool = True) -> tuple[Any, Array]:
        env_state = planning.true_state(observation)
        found = plan(
            key if explore else plans.greedy_keys(observation),
            state.model,
            model,
            env_state,
            space=spec.action,
            horizon=horizon,
            population=population,
            warm_start=types.memory(observation),
            action_mask=types.action_mask(observation),
            terminal_value=terminal_value,
            gamma=gamma,
            num_particles=num_particles,
        )
        return plans.remembered(observation, found, found.action), found.value

    def update(key: Array, state: MPCState, trajectory: Transition) -> tuple[MPCState, Metrics]:
        del key
        check_steps(trajectory.reward.shape)
        return state, {"planned_return": trajectory.extras.mean(), "reward": trajectory.reward.mean()}

    return Agent(init, act, update)
