"""RLOO: REINFORCE on whole texts, with the other answers' mean as baseline. Ahmadian et al. 2024, arXiv:2402.14740."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl import optim, text
from jaxrl.agents.parts import writing
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.minibatches import epochs
from jaxrl.arguments import Count, NonNegative, Positive
from jaxrl.ops import groups, tokens
from jaxrl.ops import policy_gradient as pg
from jaxrl.signature import Optimizer, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class RLOOState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the language model.
      reference: its parameters at the start, which the KL divergence is from.
      optimizer_state: state of the optax optimizer.
      updates: int32, number of calls of ``update`` so far.
    """

    params: PyTree
    reference: PyTree
    optimizer_state: PyTree
    updates: Array

    @property
    def policy(self) -> PyTree:
        """Parameters of the language model."""
        return self.params


@recipe(writes=True, groups=True)
def rloo(
    spec: Spec,
    *,
    network: writing.Network | None = None,
    start: writing.Start | None = None,
    optimizer: Optimizer = optim.ADAM,
    learning_rate: NonNegative = 1e-4,
    temperature: Positive = 1.0,
    kl_coef: NonNegative = 0.05,
    max_grad_norm: Positive | None = 1.0,
    num_minibatches: Count = 1,
) -> Agent:
    """REINFORCE leave-one-out: the gradient of ``E R - beta KL`` by whole texts, without clip and without critic.

    ``L = -E log pi(y | x) (R - mean of R of the others)``, ``R = score - beta (log pi(y | x) - log pi_ref(y | x))``.
    Ahmadian et al. 2024, "Back to basics", eq. 6 and 7. Every float may be a tracer.

    An action is a whole text. The rollout's steps are the group: wrap the environment in ``envs.repeat(env,
    rollout_length)``, as the command line does; an answer without others to its prompt teaches nothing.

    Args:
      spec: the spec of a text task, from ``jaxrl.spec``.
      network: the language model; None for GPT-2's architecture of 4 layers of width 128.
      start: makes its first parameters, which are the reference too; None for random ones.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      temperature: divides the logits where texts are sampled, and in the loss alike.
      kl_coef: beta, the weight of the KL divergence from the reference, in the score.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      num_minibatches: gradient steps per rollout, on a part of it each; divides rollout_length x num_envs. From the
        second on, texts are of a slightly older policy, which the gradient does not correct for.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    model = writing.make_model(spec, network)
    adam = optim.clipped(optimizer, learning_rate, max_grad_norm)

    def init(key: Array, num_envs: int = 1) -> RLOOState:
        params = writing.first_params(key, model, start)
        return RLOOState(params, params, adam.init(params), jnp.zeros((), jnp.int32))

    def act(key: Array, state: RLOOState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        return writing.write(key, state.params, model, spec, observation, temperature, explore)

    def update(key: Array, state: RLOOState, trajectory: Transition) -> tuple[RLOOState, Metrics]:
        batch = writing.make_batch(trajectory, state.params, state.reference, model, temperature, num_minibatches)

        # R with the divergence in it, and the mean of the others' as baseline, eq. 6.
        penalty = kl_coef * writing.text_kl(batch).reshape(trajectory.reward.shape)
        advantage = groups.leave_one_out(trajectory.reward - penalty, writing.groups_of(trajectory))
        batch = batch._replace(advantage=advantage.reshape(-1))

        # The policy gradient of whole texts: their log-probability is the sum over their tokens.
        def objective(params: PyTree, batch: writing.Batch, key: Array) -> tuple[Array, Metrics]:
            log_prob = text.log_probs(params, model, *batch.prompt, *batch.answer, temperature=temperature)
            of_text = tokens.masked_sum(log_prob, batch.answer.mask, axis=-1)
            loss = pg.policy_gradient_term(of_text, batch.advantage).mean()
            return loss, {"policy_loss": loss}

        learned = Learned(state.params, state.optimizer_state)
        learned, metrics = epochs(key, gradient_step(adam, objective), learned, batch, 1, num_minibatches)
        metrics |= writing.metrics_of(trajectory, batch)
        params, optimizer_state = learned
        return RLOOState(params, state.reference, optimizer_state, state.updates + 1), metrics

    return Agent(init, act, update)
