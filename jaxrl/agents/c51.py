"""C51: the distribution of the return on fixed atoms. Bellemare, Dabney and Munos 2017, arXiv:1707.06887."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.agents.dqn import DQNState
from jaxrl.agents.parts import action_values, replaying, targets
from jaxrl.agents.parts.action_values import default_torso as default_torso
from jaxrl.agents.parts.functions import Functions
from jaxrl.arguments import AtLeast, Real
from jaxrl.ops import distributional, td
from jaxrl.replay import Sample
from jaxrl.signature import Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


def make_support(v_min: Any, v_max: Any, num_atoms: int) -> Array:
    """The atoms ``z_i`` ``[K]``, evenly spaced from ``v_min`` to ``v_max``.

    Raises:
      ValueError: ``v_min`` is not below ``v_max``.
    """
    if not isinstance(v_min - v_max, jax.core.Tracer) and v_min >= v_max:
        raise ValueError(f"v_max: got {v_max}, must be above v_min={v_min}")
    return v_min + (v_max - v_min) * jnp.linspace(0.0, 1.0, num_atoms, dtype=jnp.float32)


def mean(logits: Array, support: Array) -> Array:
    """``Q(s, a) = sum_i p_i(s, a) z_i``: from logits ``[..., K]`` to ``[...]``."""
    return distributional.categorical_mean(jax.nn.softmax(logits), support)


def functions(
    spec: Spec,
    *,
    torso: Torso | None = None,
    dueling: bool = False,
    noisy: bool = False,
    v_min: float = -10.0,
    v_max: float = 10.0,
    num_atoms: int = 51,
) -> Functions:
    """The greedy policy and the action values of a state; give it the arguments that the agent was made with."""
    network = action_values.make_network(spec, torso, num_atoms, dueling=dueling, noisy=noisy)
    support = make_support(v_min, v_max, num_atoms)
    return action_values.functions(
        lambda params, observation: mean(action_values.outputs(network, params, observation), support)
    )


@recipe(extends=action_values.shared)
def c51(
    spec: Spec, *, v_min: Real = -10.0, v_max: Real = 10.0, num_atoms: Annotated[int, AtLeast(2)] = 51, **options: Any
) -> Agent:
    """Categorical DQN: the distribution of each action's return on fixed atoms, by cross-entropy.

    ``L = E w (-sum_i (Phi(r + gamma Z'(s', a*)))_i log p_i(s, a))``, ``a* = argmax sum_i p'_i z_i``. Bellemare et al.
    2017, "A distributional perspective on reinforcement learning". Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      v_min: the lowest atom, in units of the discounted return; smaller returns are clipped to it.
      v_max: the highest atom; larger returns are clipped to it.
      num_atoms: number of atoms, evenly spaced.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    shared = action_values.shared(spec, **options)
    network = action_values.make_network(
        spec, shared.torso, num_atoms, dueling=shared.dueling, noisy=shared.noisy, sigma=shared.noisy_sigma
    )
    support = make_support(v_min, v_max, num_atoms)

    def logits(params: PyTree, observation: Any, noise: Any = None, dropout: Any = None) -> Array:
        return action_values.outputs(network, params, observation, noise=noise, dropout=dropout)

    def q_values(params: PyTree, observation: Any, noise: Any = None) -> Array:
        return mean(logits(params, observation, noise), support)

    def init(key: Array, num_envs: int = 1) -> DQNState:
        learner = targets.init(network.init(key, spec.zeros(1)), shared.optimizer)
        return DQNState(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: DQNState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        return action_values.act(shared, q_values, key, state.params, state.steps, observation, explore), ()

    def loss(params: PyTree, target_params: PyTree, key: Array, sample: Sample) -> tuple[Array, tuple[Array, Metrics]]:
        keys, transition = action_values.loss_keys(key, shared.noisy), sample.transition
        # The next distribution p'(s', a*): Q' chooses a*, or Q with double.
        logits_t = logits(target_params, transition.next_observation, keys.target_noise)
        selector_t = mean(logits_t, support)
        if shared.double:
            held = jax.lax.stop_gradient(params)
            selector_t = q_values(held, transition.next_observation, keys.selector_noise)
        best = td.masked_argmax(selector_t, types.action_mask(transition.next_observation))
        probs_t = jax.nn.softmax(td.take_action(logits_t, best))
        # Its atoms r + gamma z, projected onto the support: Phi, eq. 7.
        atoms = distributional.target_atoms(transition.reward, sample.discount, support)
        target = distributional.project(atoms, probs_t, support)

        logits_tm1 = logits(params, transition.observation, keys.noise, keys.dropout)
        chosen = td.take_action(logits_tm1, transition.action)
        terms = distributional.categorical_cross_entropy_term(chosen, target)
        # KL(q || p), as in Rainbow (Hessel et al. 2018): zero where prediction and target agree.
        priorities = terms - jax.scipy.special.entr(target).sum(axis=-1)
        value = td.take_action(mean(logits_tm1, support), transition.action).mean()
        return (sample.weight * terms).mean(), (priorities, {"value": value})

    step = targets.gradient_step(shared.optimizer, loss, shared.tau, shared.target_interval)

    def update(key: Array, state: DQNState, trajectory: Transition) -> tuple[DQNState, Metrics]:
        learned = replaying.store_and_learn(key, step, spec, shared, state, trajectory)
        learner, steps, rewards, replay, metrics = learned
        progress = action_values.progress(shared, state, learner)
        return DQNState(*learner, steps, rewards, replay), {**metrics, **progress}

    return Agent(init, act, update)
