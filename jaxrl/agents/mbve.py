"""MBVE: critics whose targets look ahead in a learned model. Feinberg et al. 2018, arXiv:1803.00101."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn

from jaxrl import optim
from jaxrl.agents.combinators.with_dynamics import with_dynamics
from jaxrl.agents.ddpg import ddpg
from jaxrl.agents.parts import critics, dynamics, expansion
from jaxrl.agents.parts import functions as by_recipe
from jaxrl.agents.parts.critics import default_torso as default_torso
from jaxrl.agents.parts.expansion import TARGETS, Targets
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.sac import sac
from jaxrl.agents.td3 import td3
from jaxrl.arguments import Count, CountOrZero, NonNegative, Unit, check_callable
from jaxrl.models.ensemble import EnsembleParams
from jaxrl.signature import recipe
from jaxrl.types import Agent, Spec

RewardFn = Annotated[Callable[..., Any], "a function (observation, action, next_observation) -> scalar"]
Base = Annotated[Callable[..., Agent], "td3, ddpg, sac or a function (spec, *, target_fn, **options) -> Agent"]

BASES: dict[str, Callable[..., Agent]] = {"td3": td3, "ddpg": ddpg, "sac": sac}
"""The recipes whose targets can look ahead, by name."""


@recipe(extends=critics.shared, without=("target_fn", "reward_model"))
def mbve(
    spec: Spec,
    *,
    base: str | Base = "td3",
    horizon: CountOrZero = 3,
    targets: str | Targets = "td_k",
    gamma: Unit = 0.99,
    learning_starts: CountOrZero = 1_000,
    reward: RewardFn | None = None,
    termination: RewardFn | Literal["learned"] | None = None,
    num_members: Count = 5,
    num_elites: Count | None = None,
    hidden: Sequence[Count] = (64, 64),
    activation: str = "silu",
    model_learning_rate: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-5,
    model_batch_size: Count = 128,
    max_epochs: Count = 20,
    patience: Count = 3,
    refit_every: Count = 250,
    data_capacity: Count = 100_000,
    **options: Any,
) -> Agent:
    """Model-based value expansion: td3, ddpg or sac, whose critics learn from rewards imagined H steps ahead.

    The target is ``y = r + gamma (sum_{k<H} gamma^k r_k + gamma^H V(s_H))`` with ``s_0 = s'``. ``a_k`` and V are those
    of the base's targets, and a member of an ensemble predicts ``r_k`` and ``s_{k+1}``. With H = 0 this is the base.
    Feinberg et al. 2018, "Model-based value expansion for efficient model-free reinforcement learning". Every float may
    be a tracer.

    Args:
      spec: the environment's spec; its observations are vectors.
      base: "td3", "ddpg" (the paper's), "sac", or one of these recipes with options bound.
      horizon: H, number of steps in the model.
      targets: "td_k", which fits the critics at imagined states too; "last" for the states of the replay alone; or a
        function, see ``agents.parts.expansion``.
      gamma: discount factor per step.
      learning_starts: environment steps with random actions before the first fit and the first gradient step.
      reward: the reward function ``(observation [D], action, next_observation [D]) -> scalar``; None to learn it.
      termination: the same for the end of the task, a bool; "learned" to learn it; None if the task never ends.
      num_members: number of networks of the ensemble.
      num_elites: number of members that are used, those with the lowest held-out loss; None for all.
      hidden: widths of the hidden layers of the ensemble's networks.
      activation: activation function of the ensemble, one of tanh, relu, gelu, silu, elu.
      model_learning_rate: step size of Adam, for the ensemble.
      weight_decay: weight of the sum of squares of the ensemble's weights.
      model_batch_size: number of transitions per gradient step of the ensemble.
      max_epochs: largest number of passes over the data in a fit.
      patience: number of passes without a lower held-out loss after which a fit stops.
      refit_every: number of environment steps between two fits.
      data_capacity: number of transitions kept for fits, all environments together.

    Returns:
      An ``Agent`` whose state is a ``combinators.DynamicsState``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    make, expand = base_of(base), targets_of(targets)
    make(spec, gamma=gamma, learning_starts=learning_starts, **options)  # refuses here what it can't take
    model_options = {"num_members": num_members, "num_elites": num_elites, "hidden": hidden, "activation": activation}
    ensemble = dynamics.unit_ensemble(
        spec, **model_options, reward=reward, termination=termination, weight_decay=weight_decay
    )

    def agent_of(params: EnsembleParams) -> Agent:
        world = expansion.world_of(ensemble, params, horizon, gamma)
        target_fn = partial(expand, world=world)
        return make(spec, target_fn=target_fn, gamma=gamma, learning_starts=learning_starts, **options)

    return with_dynamics(
        spec,
        agent_of,
        ensemble,
        learning_starts=learning_starts,
        refit_every=refit_every,
        data_capacity=data_capacity,
        batch_size=model_batch_size,
        max_epochs=max_epochs,
        patience=patience,
        optimizer=optim.clipped(optim.ADAM, model_learning_rate),
    )


def base_of(base: Any) -> Callable[..., Agent]:
    """The recipe for a name, or the given function.

    Raises:
      TypeError, ValueError: an unknown name, not a function, or one that has no argument target_fn.
    """
    if isinstance(base, str):
        if base not in BASES:
            raise ValueError(f"base: got {base!r}, must be {' or '.join(BASES)}, or a function")
        return BASES[base]
    check_callable("base", base, "td3, ddpg, sac or a function (spec, *, target_fn, **options) -> Agent")
    if "target_fn" not in inspect.signature(base).parameters:
        name = getattr(base, "__name__", repr(base))
        raise TypeError(f"base: got {name}, which takes no target_fn; must be td3, ddpg, sac or take it as they do")
    return base


def targets_of(targets: Any) -> Callable[..., Any]:
    """The expansion for a name, or the given function.

    Raises:
      TypeError, ValueError: an unknown name, or not a function.
    """
    if isinstance(targets, str):
        if targets not in TARGETS:
            raise ValueError(f"targets: got {targets!r}, must be {' or '.join(TARGETS)}, or a function")
        return TARGETS[targets]
    check_callable("targets", targets, "td_k, last or a function (key, sample, bootstrap, world) -> (sample, targets)")
    return targets


def functions(spec: Spec, *, base: Any = "td3", torso: nn.Module | None = None) -> Functions:
    """Policy and values of the base, from the state of ``mbve`` or ``steve``; see ``jaxrl.functions``."""
    make = base_of(base)
    made = by_recipe.functions(getattr(make, "func", make), spec, torso=torso)

    def of_agent(function: Any) -> Any:
        return None if function is None else lambda state, observation: function(state.agent, observation)

    return Functions(*(of_agent(function) for function in made))
