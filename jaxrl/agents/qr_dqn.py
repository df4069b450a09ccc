"""QR-DQN: the distribution of the return as quantiles. Dabney et al. 2018, arXiv:1710.10044."""

from __future__ import annotations

from typing import Any

import jax

from jaxrl import types
from jaxrl.agents.dqn import DQNState
from jaxrl.agents.parts import action_values, replaying, targets
from jaxrl.agents.parts.action_values import default_torso as default_torso
from jaxrl.agents.parts.functions import Functions
from jaxrl.arguments import Count, NonNegative
from jaxrl.ops import distributional, td
from jaxrl.replay import Sample
from jaxrl.signature import Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


def functions(
    spec: Spec, *, torso: Torso | None = None, dueling: bool = False, noisy: bool = False, num_quantiles: int = 50
) -> Functions:
    """The greedy policy and the action values of a state; give it the arguments that the agent was made with."""
    network = action_values.make_network(spec, torso, num_quantiles, dueling=dueling, noisy=noisy)
    return action_values.functions(
        lambda params, observation: action_values.outputs(network, params, observation).mean(axis=-1)
    )


@recipe(extends=action_values.shared)
def qr_dqn(spec: Spec, *, num_quantiles: Count = 50, kappa: NonNegative = 1.0, **options: Any) -> Agent:
    """Quantile-regression DQN: the distribution of each action's return as quantiles, by the quantile Huber loss.

    ``L = E w sum_i mean_j |tau_i - 1[u_ij < 0]| huber(u_ij) / kappa``, ``u_ij = r + gamma Z'_j(s', a*) - Z_i(s, a)``,
    ``a* = argmax mean_j Z'_j``. Dabney et al. 2018, "Distributional reinforcement learning with quantile regression".
    Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      num_quantiles: M quantiles an action.
      kappa: error beyond which the loss is linear, in units of the return; 0 for plain quantile regression.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    shared = action_values.shared(spec, **options)
    network = action_values.make_network(
        spec, shared.torso, num_quantiles, dueling=shared.dueling, noisy=shared.noisy, sigma=shared.noisy_sigma
    )
    fractions = distributional.quantile_midpoints(num_quantiles)  # tau_i, lemma 2

    def quantiles(params: PyTree, observation: Any, noise: Any = None, dropout: Any = None) -> Array:
        return action_values.outputs(network, params, observation, noise=noise, dropout=dropout)

    def q_values(params: PyTree, observation: Any, noise: Any = None) -> Array:
        return quantiles(params, observation, noise).mean(axis=-1)

    def init(key: Array, num_envs: int = 1) -> DQNState:
        learner = targets.init(network.init(key, spec.zeros(1)), shared.optimizer)
        return DQNState(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: DQNState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        return action_values.act(shared, q_values, key, state.params, state.steps, observation, explore), ()

    def loss(params: PyTree, target_params: PyTree, key: Array, sample: Sample) -> tuple[Array, tuple[Array, Metrics]]:
        keys, transition = action_values.loss_keys(key, shared.noisy), sample.transition
        # The targets r + gamma Z'_j(s', a*): Q' chooses a*, or Q with double.
        z_t = quantiles(target_params, transition.next_observation, keys.target_noise)
        selector_t = z_t.mean(axis=-1)
        if shared.double:
            held = jax.lax.stop_gradient(params)
            selector_t = q_values(held, transition.next_observation, keys.selector_noise)
        best = td.masked_argmax(selector_t, types.action_mask(transition.next_observation))
        target = distributional.target_atoms(transition.reward, sample.discount, td.take_action(z_t, best))

        z_tm1 = quantiles(params, transition.observation, keys.noise, keys.dropout)
        chosen = td.take_action(z_tm1, transition.action)
        terms = distributional.quantile_huber_term(chosen, target, fractions, kappa)  # eq. 10
        priorities = abs(target.mean(axis=-1) - chosen.mean(axis=-1))
        value = td.take_action(z_tm1.mean(axis=-1), transition.action).mean()
        return (sample.weight * terms).mean(), (priorities, {"value": value})

    step = targets.gradient_step(shared.optimizer, loss, shared.tau, shared.target_interval)

    def update(key: Array, state: DQNState, trajectory: Transition) -> tuple[DQNState, Metrics]:
        learned = replaying.store_and_learn(key, step, spec, shared, state, trajectory)
        learner, steps, rewards, replay, metrics = learned
        progress = action_values.progress(shared, state, learner)
        return DQNState(*learner, steps, rewards, replay), {**metrics, **progress}

    return Agent(init, act, update)
