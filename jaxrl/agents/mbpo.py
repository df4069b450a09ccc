"""MBPO: short rollouts in a learned model train soft actor-critic. Janner et al. 2019, arXiv:1906.08253."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import optim
from jaxrl.agents.parts import dynamics, replaying
from jaxrl.agents.parts import functions as by_recipe
from jaxrl.agents.parts.critics import default_torso as default_torso
from jaxrl.agents.parts.dyna import mixed, short_rollouts
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.when import when
from jaxrl.agents.sac import SACState, sac
from jaxrl.arguments import Count, CountOrZero, NonNegative, Unit
from jaxrl.models.ensemble import EnsembleParams
from jaxrl.ops import numerics
from jaxrl.replay import ring
from jaxrl.replay.base import num_rows
from jaxrl.replay.ring import Ring
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Discrete, Metrics, PyTree, Spec, Transition

RewardFn = Annotated[Callable[..., Any], "a function (observation, action, next_observation) -> scalar"]


class MBPOState(NamedTuple):
    """The state of the agent.

    Attributes:
      dynamics: parameters of the ensemble.
      policy: the state of ``sac``, whose replay is ``per_env`` here.
      per_env: real and imagined transitions, leaves ``[rows, B, ...]``.
    """

    dynamics: EnsembleParams
    policy: SACState
    per_env: tuple[Ring, Ring]

    @property
    def params(self) -> dict[str, PyTree]:
        """All that is learned."""
        return {"dynamics": self.dynamics, **self.policy.params}


@recipe(extends=sac, without=("prioritized", "replay", "n_step", "reward_model", "target_fn"))
def mbpo(
    spec: Spec,
    *,
    rollout_steps: Count = 1,
    num_rollouts: Count = 100,
    real_share: Unit = 0.05,
    imagined_capacity: Count = 100_000,
    replay_capacity: Count = 100_000,
    learning_starts: CountOrZero = 1_000,
    num_gradient_steps: Count = 20,
    gamma: Unit = 0.99,
    reward: RewardFn | None = None,
    termination: RewardFn | Literal["learned"] | None = None,
    num_members: Count = 7,
    num_elites: Count = 5,
    hidden: Sequence[Count] = (64, 64),
    activation: str = "silu",
    model_learning_rate: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-5,
    model_batch_size: Count = 256,
    max_epochs: Count = 20,
    patience: Count = 5,
    refit_every: Count = 250,
    **options: Any,
) -> Agent:
    """Model-based policy optimisation: sac learns from short model rollouts that branch off from what was seen.

    Algorithm 2: a step in the environment is followed by M rollouts of k steps in an ensemble, ``s_0`` from the replay,
    ``a ~ pi(s)``, ``s' ~ N(mu_e(s, a), sigma_e(s, a)^2)`` for a random elite e at each step, and by G gradient steps of
    sac on what was imagined. Janner et al. 2019, "When to trust your model: model-based policy optimization". Every
    float may be a tracer.

    Args:
      spec: the environment's spec; its observations are vectors.
      rollout_steps: k, number of steps of a rollout in the ensemble.
      num_rollouts: M, number of rollouts per environment and call of update.
      real_share: fraction of a gradient step's samples that are real.
      imagined_capacity: number of imagined transitions kept; the oldest are overwritten.
      replay_capacity: number of real transitions kept, all environments together.
      learning_starts: environment steps with random actions before the first fit and the first gradient step.
      num_gradient_steps: G, gradient steps per call of update.
      gamma: discount factor per step.
      reward: the reward function ``(observation [D], action, next_observation [D]) -> scalar``; None to learn it.
      termination: the same for the end of the task, a bool; "learned" to learn it; None if the task never ends.
      num_members: number of networks of the ensemble.
      num_elites: number of members that are used, those with the lowest held-out loss.
      hidden: widths of the hidden layers of the ensemble's networks.
      activation: activation function of the ensemble, one of tanh, relu, gelu, silu, elu.
      model_learning_rate: step size of Adam, for the ensemble.
      weight_decay: weight of the sum of squares of the ensemble's weights.
      model_batch_size: number of transitions per gradient step of the ensemble.
      max_epochs: largest number of passes over the data in a fit.
      patience: number of passes without a lower held-out loss after which a fit stops.
      refit_every: number of environment steps between two fits.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    model_options = {"num_members": num_members, "num_elites": num_elites, "hidden": hidden, "activation": activation}
    ensemble = dynamics.unit_ensemble(
        spec, **model_options, reward=reward, termination=termination, weight_decay=weight_decay
    )
    fit_options: dict[str, Any] = {"batch_size": model_batch_size, "max_epochs": max_epochs, "patience": patience}
    fit_options["optimizer"] = optim.clipped(optim.ADAM, model_learning_rate)

    def model_free(real: Any = (), imagined: Any = ()) -> Agent:
        """The recipe ``sac``, whose samples are drawn from both rings."""
        return sac(
            spec,
            replay=lambda *args, **kwargs: mixed(real, imagined, real_share, gamma),
            learning_starts=learning_starts,
            num_gradient_steps=num_gradient_steps,
            gamma=gamma,
            **options,
        )

    model_free()  # refuses here what it can't take

    def init(key: Array, num_envs: int = 1) -> MBPOState:
        params = ensemble.init(jax.random.fold_in(key, dynamics.MODEL))
        example, imagined = replaying.example(spec), replaying.example(_in_floats(spec))
        rings = (
            ring.init(example, num_rows(replay_capacity, num_envs, 1), num_envs),
            ring.init(imagined, num_rows(imagined_capacity, num_envs, 1), num_envs),
        )
        return MBPOState(params, model_free().init(key, num_envs), rings)

    def act(key: Array, state: MBPOState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        return model_free().act(key, state.policy, observation, explore=explore)

    def update(key: Array, state: MBPOState, trajectory: Transition) -> tuple[MBPOState, Metrics]:
        model_key, imagination_key = (jax.random.fold_in(key, dynamics.MODEL + i) for i in range(2))
        real, imagined = state.per_env
        real = ring.add(real, replaying.stored(spec, trajectory))
        before, new_steps = state.policy.steps, replaying.num_steps(trajectory)
        due = dynamics.is_due(before, new_steps, learning_starts, refit_every)
        params, of_model = dynamics.refit(due, model_key, ensemble, state.dynamics, real, **fit_options)

        now = state.policy._replace(steps=numerics.count_up(before, new_steps))
        is_ready = now.steps >= learning_starts

        def policy(key: Array, observation: Array) -> Array:  # a ~ pi(s)
            action, unit = model_free().act(key, now, observation)
            return action if isinstance(spec.action, Discrete) else unit

        def rolled(_: Any) -> Transition:
            sizes = {"num_rollouts": num_rollouts, "length": rollout_steps}
            return short_rollouts(imagination_key, ensemble, params, real, policy, spec.action, **sizes)

        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(rolled, ()))
        rows = ring.add(imagined, when(is_ready, rolled, lambda _: nothing, ()))
        # Rows behind the head are empty: what was not imagined is not kept.
        head, filled = (jnp.where(is_ready, new, old) for new, old in zip(rows[1:], imagined[1:], strict=True))
        imagined = rows._replace(head=head, filled=filled)

        learned, metrics = model_free(real, imagined).update(key, state.policy, trajectory)
        return MBPOState(params, learned, (real, imagined)), {**metrics, **of_model}

    return Agent(init, act, update)


def _in_floats(spec: Spec) -> Spec:
    """The spec of what a model predicts."""
    seen: Any = spec.observation
    return spec._replace(observation=jax.ShapeDtypeStruct(seen.shape, jnp.float32))


def functions(spec: Spec, *, torso: nn.Module | None = None) -> Functions:
    """Those of ``sac``; see ``jaxrl.functions``."""
    made = by_recipe.functions(sac, spec, torso=torso)

    def of_policy(function: Any) -> Any:
        return None if function is None else lambda state, observation: function(state.policy, observation)

    return Functions(*(of_policy(function) for function in made))
