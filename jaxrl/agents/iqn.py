"""IQN: quantiles of the return at random fractions. Dabney et al. 2018, arXiv:1806.06923."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

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
    spec: Spec,
    *,
    torso: Torso | None = None,
    dueling: bool = False,
    noisy: bool = False,
    num_policy_fractions: int = 32,
    num_cosines: int = 64,
) -> Functions:
    """The greedy policy and the action values of a state; give it the arguments that the agent was made with."""
    network = action_values.make_network(spec, torso, num_cosines=num_cosines, dueling=dueling, noisy=noisy)
    tau = distributional.quantile_midpoints(num_policy_fractions)
    return action_values.functions(
        lambda params, observation: action_values.outputs(network, params, observation, tau).mean(axis=-1)
    )


@recipe(extends=action_values.shared)
def iqn(
    spec: Spec,
    *,
    num_fractions: Count = 8,
    num_target_fractions: Count = 8,
    num_policy_fractions: Count = 32,
    num_cosines: Count = 64,
    kappa: NonNegative = 1.0,
    **options: Any,
) -> Agent:
    """Implicit quantile network: the quantile function of the return, regressed at random fractions.

    ``L = E w sum_i mean_j |tau_i - 1[u_ij < 0]| huber(u_ij) / kappa``, ``u_ij = r + gamma Z'_tau'_j(s', a*) -
    Z_tau_i(s, a)``, ``tau, tau' ~ U(0, 1)``. Dabney et al. 2018, "Implicit quantile networks for distributional
    reinforcement learning". It deviates in one point: the paper chooses actions by the mean over K random fractions,
    here by the mean over K midpoints, so that the greedy policy is deterministic. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      num_fractions: N fractions drawn for the network in training; the paper uses up to 64 and finds 8 nearly as good.
      num_target_fractions: N' fractions drawn for the target network.
      num_policy_fractions: K fractions whose mean chooses actions.
      num_cosines: n, size of the cosine embedding of a fraction.
      kappa: error beyond which the loss is linear, in units of the return; 0 for plain quantile regression.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    shared = action_values.shared(spec, **options)
    network = action_values.make_network(
        spec,
        shared.torso,
        num_cosines=num_cosines,
        dueling=shared.dueling,
        noisy=shared.noisy,
        sigma=shared.noisy_sigma,
    )
    midpoints = distributional.quantile_midpoints(num_policy_fractions)

    def quantiles(params: PyTree, observation: Any, tau: Array, noise: Any = None, dropout: Any = None) -> Array:
        return action_values.outputs(network, params, observation, tau, noise=noise, dropout=dropout)

    def q_values(params: PyTree, observation: Any, noise: Any = None) -> Array:
        return quantiles(params, observation, midpoints, noise).mean(axis=-1)

    def init(key: Array, num_envs: int = 1) -> DQNState:
        params = network.init(key, spec.zeros(1), midpoints)
        learner = targets.init(params, shared.optimizer)
        return DQNState(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: DQNState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        return action_values.act(shared, q_values, key, state.params, state.steps, observation, explore), ()

    def loss(params: PyTree, target_params: PyTree, key: Array, sample: Sample) -> tuple[Array, tuple[Array, Metrics]]:
        keys, transition = action_values.loss_keys(key, shared.noisy), sample.transition
        num = transition.reward.shape[0]
        tau = jax.random.uniform(keys.fractions, (num, num_fractions), jnp.float32)
        tau_t = jax.random.uniform(keys.target_fractions, (num, num_target_fractions), jnp.float32)
        # The targets r + gamma Z'_tau'(s', a*): Q' chooses a*, or Q with double.
        z_t = quantiles(target_params, transition.next_observation, tau_t, keys.target_noise)
        selector = jax.lax.stop_gradient(params) if shared.double else target_params
        selector_t = q_values(selector, transition.next_observation, keys.selector_noise)
        best = td.masked_argmax(selector_t, types.action_mask(transition.next_observation))
        target = distributional.target_atoms(transition.reward, sample.discount, td.take_action(z_t, best))

        z_tm1 = quantiles(params, transition.observation, tau, keys.noise, keys.dropout)
        chosen = td.take_action(z_tm1, transition.action)
        terms = distributional.quantile_huber_term(chosen, target, tau, kappa)  # eq. 3
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
