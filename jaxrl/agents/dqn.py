"""DQN: Q-learning with a network, a replay and a target network. Mnih et al. 2015, Nature 518."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax

from jaxrl import types
from jaxrl.agents.parts import action_values, replaying, targets
from jaxrl.agents.parts.action_values import default_torso as default_torso
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.targets import Learner
from jaxrl.arguments import Positive
from jaxrl.ops import td, value
from jaxrl.replay import Sample
from jaxrl.signature import Torso, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class DQNState(NamedTuple):
    """The state of DQN and of its distributional variants.

    Attributes:
      params, target_params, optimizer_state, gradient_steps: see ``targets.Learner``.
      steps: int32, environment steps seen, all environments together.
      reward_model: the state of the reward model; () without one.
      per_env: the replay, leaves ``[rows, B, ...]``.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array
    steps: Array
    reward_model: PyTree
    per_env: PyTree

    @property
    def learner(self) -> Learner:
        """The fields that gradient steps change."""
        return Learner(self.params, self.target_params, self.optimizer_state, self.gradient_steps)


def functions(spec: Spec, *, torso: Torso | None = None, dueling: bool = False, noisy: bool = False) -> Functions:
    """The greedy policy and the action values of a state; give it the arguments that the agent was made with."""
    network = action_values.make_network(spec, torso, dueling=dueling, noisy=noisy)
    return action_values.functions(partial(action_values.outputs, network))


@recipe(extends=action_values.shared)
def dqn(spec: Spec, *, huber_delta: Positive | None = 1.0, **options: Any) -> Agent:
    """Deep Q-network: action values regressed on ``r + gamma max_a' Q_target(s', a')`` from replayed transitions.

    ``L = E w huber(r + gamma Q'(s', a*) - Q(s, a))``, ``a* = argmax Q'(s', .)``, or ``argmax Q(s', .)`` with double.
    Mnih et al. 2015, "Human-level control through deep reinforcement learning". Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      huber_delta: error beyond which the loss is linear (Huber loss); None for the squared error.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    shared = action_values.shared(spec, **options)
    network = action_values.make_network(
        spec, shared.torso, dueling=shared.dueling, noisy=shared.noisy, sigma=shared.noisy_sigma
    )

    def q_values(params: PyTree, observation: Any, noise: Any = None, dropout: Any = None) -> Array:
        return action_values.outputs(network, params, observation, noise=noise, dropout=dropout)

    def init(key: Array, num_envs: int = 1) -> DQNState:
        learner = targets.init(network.init(key, spec.zeros(1)), shared.optimizer)
        return DQNState(*learner, *replaying.init(key, spec, shared, num_envs))

    def act(key: Array, state: DQNState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        return action_values.act(shared, q_values, key, state.params, state.steps, observation, explore), ()

    def loss(params: PyTree, target_params: PyTree, key: Array, sample: Sample) -> tuple[Array, tuple[Array, Metrics]]:
        keys, transition = action_values.loss_keys(key, shared.noisy), sample.transition
        # y = r + gamma Q'(s', a*): Q' chooses a*, or Q with double.
        q_t = selector_t = q_values(target_params, transition.next_observation, keys.target_noise)
        if shared.double:
            held = jax.lax.stop_gradient(params)
            selector_t = q_values(held, transition.next_observation, keys.selector_noise)
        mask_t = types.action_mask(transition.next_observation)
        target = td.double_q_learning_target(transition.reward, sample.discount, q_t, selector_t, mask_t)

        q_tm1 = q_values(params, transition.observation, keys.noise, keys.dropout)
        chosen = td.take_action(q_tm1, transition.action)
        if huber_delta is None:
            terms = value.squared_error_term(chosen, target)
        else:
            terms = value.huber_term(chosen, target, huber_delta)
        return (sample.weight * terms).mean(), (abs(target - chosen), {"value": chosen.mean()})

    step = targets.gradient_step(shared.optimizer, loss, shared.tau, shared.target_interval)

    def update(key: Array, state: DQNState, trajectory: Transition) -> tuple[DQNState, Metrics]:
        learned = replaying.store_and_learn(key, step, spec, shared, state, trajectory)
        learner, steps, rewards, replay, metrics = learned
        progress = action_values.progress(shared, state, learner)
        return DQNState(*learner, steps, rewards, replay), {**metrics, **progress}

    return Agent(init, act, update)
