"""GRPO: PPO's clip on texts, with other answers to the prompt as baseline. Shao et al. 2024, arXiv:2402.03300."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

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


class GRPOState(NamedTuple):
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
def grpo(
    spec: Spec,
    *,
    network: writing.Network | None = None,
    start: writing.Start | None = None,
    optimizer: Optimizer = optim.ADAM,
    learning_rate: NonNegative = 1e-4,
    temperature: Positive = 1.0,
    clip_epsilon: NonNegative = 0.2,
    kl_coef: NonNegative = 0.0,
    kl_in: Literal["loss", "reward"] = "loss",
    normalize_std: bool = True,
    denominator: writing.Denominator = "constant",
    mask_cut: bool = False,
    max_grad_norm: Positive | None = 1.0,
    num_epochs: Count = 1,
    num_minibatches: Count = 4,
) -> Agent:
    """Group-relative policy optimisation: a text's advantage is its score beside other answers to the same prompt.

    ``L = -E_t min(r_t A, clip(r_t, 1 - eps, 1 + eps) A) + beta (pi_ref / pi - 1 - log(pi_ref / pi))`` with
    ``r_t = pi(y_t | x, y_<t) / pi_old(y_t | x, y_<t)`` and ``A = (R - mean R) / std R`` over the answers to x. Shao et
    al. 2024, "DeepSeekMath", eq. 3 and 4. Every float may be a tracer.

    An action is a whole text. The rollout's steps are the group: wrap the environment in ``envs.repeat(env,
    rollout_length)``, as the command line does; an answer without others to its prompt teaches nothing.

    Args:
      spec: the spec of a text task, from ``jaxrl.spec``.
      network: the language model; None for GPT-2's architecture of 4 layers of width 128.
      start: makes its first parameters, which are the reference too; None for random ones.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      temperature: divides the logits where texts are sampled, and in the loss alike.
      clip_epsilon: the ratio of each token is clipped to [1 - clip_epsilon, 1 + clip_epsilon].
      kl_coef: beta, the weight of the KL divergence from the reference.
      kl_in: "loss" adds the estimator k3 of each token to the loss, as in the paper; "reward" subtracts the sampled
        divergence of the text from its score. They have different optima: only the second maximises E R - beta KL.
      normalize_std: divide advantages by the standard deviation of the group.
      denominator: what sums over tokens are divided by: "constant" the most tokens there could be, so that length is no
        bias; "tokens" those that there are; "texts" the text's own number, as in the paper.
      mask_cut: leave answers without an end out of the loss, above and below.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      num_epochs: number of passes over each rollout.
      num_minibatches: minibatches per pass, one gradient step each; divides rollout_length x num_envs.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    model = writing.make_model(spec, network)
    adam = optim.clipped(optimizer, learning_rate, max_grad_norm)

    def init(key: Array, num_envs: int = 1) -> GRPOState:
        params = writing.first_params(key, model, start)
        return GRPOState(params, params, adam.init(params), jnp.zeros((), jnp.int32))

    def act(key: Array, state: GRPOState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        return writing.write(key, state.params, model, spec, observation, temperature, explore)

    def update(key: Array, state: GRPOState, trajectory: Transition) -> tuple[GRPOState, Metrics]:
        batch = writing.make_batch(trajectory, state.params, state.reference, model, temperature, num_minibatches)

        # Advantages: the score beside that of the group.
        score = trajectory.reward
        if kl_in == "reward":
            score = score - kl_coef * writing.text_kl(batch).reshape(score.shape)
        same = writing.groups_of(trajectory)
        advantage = groups.group_advantage(score, same, normalize_std=normalize_std)
        batch = batch._replace(advantage=advantage.reshape(-1))
        kept = trajectory.extras.ended.reshape(-1) | (not mask_cut)

        # The clipped surrogate of each token, and the KL divergence from the reference, eq. 3 and 4.
        def objective(params: PyTree, minibatch: Any, key: Array) -> tuple[Array, Metrics]:
            batch, kept = minibatch
            log_prob = text.log_probs(params, model, *batch.prompt, *batch.answer, temperature=temperature)
            log_ratio = log_prob - batch.log_prob
            terms = pg.ppo_clip_term(log_ratio, batch.advantage[:, None], clip_epsilon)
            if kl_in == "loss":
                terms = terms + kl_coef * tokens.kl_k3(batch.reference - log_prob)
            mask = batch.answer.mask & kept[:, None]
            loss = writing.mean_of_texts(terms, mask, denominator)
            clipped = tokens.masked_mean(pg.clip_fraction(log_ratio, clip_epsilon), mask)
            return loss, {"clip_fraction": clipped}

        step = gradient_step(adam, objective)
        learned = Learned(state.params, state.optimizer_state)
        learned, metrics = epochs(key, step, learned, (batch, kept), num_epochs, num_minibatches)
        metrics |= writing.metrics_of(trajectory, batch)
        metrics["informative"] = (jnp.abs(advantage) > 0).mean(dtype=jnp.float32)
        params, optimizer_state = learned
        return GRPOState(params, state.reference, optimizer_state, state.updates + 1), metrics

    return Agent(init, act, update)
