"""Model-predictive control: plan, take the first action, plan again. Garcia et al. 1989, Automatica 25 (3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from jaxrl import types
from jaxrl.agents.parts import planning, plans
from jaxrl.arguments import Count, Unit
from jaxrl.planners import PlanFn
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, Model, PyTree, Spec, Transition


class MPCState(NamedTuple):
    """The state of the agent.

    Attributes:
      model: the parameters of the model, ``()`` for the true simulator.
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
    """Model-predictive control in the true simulator: every action is the first one of a new plan. It learns nothing.

    ``a_t = first of argmax_{a_1..a_H} sum_k gamma^k r(s_{t+k}, a_k) + gamma^H V(s_{t+H})``. Garcia et al. 1989, "Model
    predictive control: theory and practice". Every float may be a tracer.

    Args:
      spec: of the environment ``envs.expose_state(env)``; with ``envs.remember(env, planners.sequence_like(action,
        horizon))`` around it each plan begins from the last one.
      model: ``envs.simulator(env, params)``, or another ``types.Model`` of the environment's states, of one player.
      planner: "cem", "mppi", "random_shooting", or a function, see ``planners.PlanFn``:
        ``functools.partial(planners.cem, num_iterations=3)``.
      horizon: steps of a plan.
      population: candidates of an iteration.
      num_particles: imagined runs of each candidate; more than 1 for a random simulator.
      gamma: discount of the future, a step.
      terminal_value: ``(observation [N, ...]) -> [N]``, what follows the last step of a plan; None for 0.

    Returns:
      An ``Agent``, whose ``act`` wants observations with an ``env_state``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    plan = plans.plan_fn(planner)
    plans.check_memory(spec, horizon)

    def init(key: Array, num_envs: int = 1) -> MPCState:
        del num_envs
        return MPCState(model.init(key))

    def act(key: Array, state: MPCState, observation: Any, *, explore: bool = True) -> tuple[Any, Array]:
        env_state = planning.true_state(observation)
        batch = (types.features(observation).shape[0],)
        found = plan(
            key if explore else plans.greedy_keys(planning.steps_taken(model, env_state, batch)),
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
        return state, {"planned_return": trajectory.extras.mean(), "reward": trajectory.reward.mean()}

    return Agent(init, act, update)
