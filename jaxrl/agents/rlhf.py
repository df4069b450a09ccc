"""RLHF by PPO on tokens: a score at the end of a text, a KL penalty on each token. Ziegler et al. 2019, Ouyang 2022."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import optim, text
from jaxrl.agents.parts import writing
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.minibatches import epochs
from jaxrl.arguments import Count, NonNegative, Positive, Unit
from jaxrl.ops import across, tokens, value
from jaxrl.ops import policy_gradient as pg
from jaxrl.signature import Optimizer, recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class RLHFState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: of the policy, a language model, and of the value, a linear head on its features: a dict.
      reference: parameters of the language model at the start, which the KL divergence is from.
      optimizer_state: state of the optax optimizer.
      kl_coef: the weight of the KL divergence; it changes with ``target_kl`` only.
      updates: int32, number of calls of ``update`` so far.
    """

    params: dict[str, PyTree]
    reference: PyTree
    optimizer_state: PyTree
    kl_coef: Array
    updates: Array

    @property
    def policy(self) -> PyTree:
        """Parameters of the language model."""
        return self.params["policy"]


@recipe(writes=True)
def rlhf(
    spec: Spec,
    *,
    network: writing.Network | None = None,
    start: writing.Start | None = None,
    optimizer: Optimizer = optim.ADAM,
    learning_rate: NonNegative = 1e-4,
    temperature: Positive = 1.0,
    gamma: Unit = 1.0,
    gae_lambda: Unit = 0.95,
    clip_epsilon: NonNegative = 0.2,
    clip_value_epsilon: NonNegative | None = 0.2,
    value_coef: NonNegative = 0.1,
    kl_coef: NonNegative = 0.05,
    target_kl: Positive | None = None,
    kl_rate: NonNegative = 0.1,
    whiten_advantage: bool = True,
    max_grad_norm: Positive | None = 1.0,
    num_epochs: Count = 2,
    num_minibatches: Count = 4,
) -> Agent:
    """PPO on the tokens of a text, with a learned value and the KL divergence from a reference in the reward.

    Each token is an action: ``r_t = -beta (log pi(y_t) - log pi_ref(y_t))``, and the score of the text at its last
    token. Advantages are ``gae`` over the tokens, the losses those of ``ppo``. Ziegler et al. 2019, "Fine-tuning
    language models from human preferences", arXiv:1909.08593, eq. 2; Ouyang et al. 2022, arXiv:2203.02155. Every float
    may be a tracer.

    Args:
      spec: the spec of a text task, from ``jaxrl.spec``.
      network: the language model; None for GPT-2's architecture of 4 layers of width 128.
      start: makes its first parameters, which are the reference too; None for random ones.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizer.
      temperature: divides the logits where texts are sampled, and in the loss alike.
      gamma: discount factor per token.
      gae_lambda: from 0 (one-step advantages: bias) to 1 (Monte-Carlo returns: variance).
      clip_epsilon: the ratio of each token is clipped to [1 - clip_epsilon, 1 + clip_epsilon].
      clip_value_epsilon: largest change of values from the old ones; None for no clipping of values.
      value_coef: weight of the value loss, whose gradient reaches the language model too.
      kl_coef: beta, the weight of the KL divergence from the reference; the first one with target_kl.
      target_kl: nats per text that beta is adapted to; None for a fixed beta.
      kl_rate: largest relative change of beta per update is a fifth of it.
      whiten_advantage: standardise advantages over the tokens of a rollout.
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

    def read(params: dict[str, PyTree], batch: writing.Batch) -> tuple[Array, Array]:
        """Log-probabilities ``[M, N]`` of the tokens, and the value before each."""
        found = text.score(params["policy"], model, *batch.prompt, *batch.answer, temperature=temperature)
        return found.log_probs, found.hidden @ params["value"]["kernel"] + params["value"]["bias"]

    def init(key: Array, num_envs: int = 1) -> RLHFState:
        policy = writing.first_params(key, model, start)
        head = {"kernel": jnp.zeros(model.width, jnp.float32), "bias": jnp.zeros((), jnp.float32)}
        params = {"policy": policy, "value": head}
        return RLHFState(params, policy, adam.init(params), jnp.float32(kl_coef), jnp.zeros((), jnp.int32))

    def act(key: Array, state: RLHFState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        return writing.write(key, state.policy, model, spec, observation, temperature, explore)

    def update(key: Array, state: RLHFState, trajectory: Transition) -> tuple[RLHFState, Metrics]:
        policy, reference = state.policy, state.reference
        batch = writing.make_batch(trajectory, policy, reference, model, temperature, num_minibatches)
        mask = batch.answer.mask

        # Rewards of tokens (Ziegler et al., eq. 2), then advantages and value targets by the parameters that wrote.
        kl = tokens.kl_k1(batch.reference - batch.log_prob)
        reward = tokens.token_rewards(trajectory.reward.reshape(-1), kl, mask, state.kl_coef)
        old_value = jax.lax.stop_gradient(read(state.params, batch)[1])
        advantage = tokens.token_gae(reward, old_value, mask, gamma, gae_lambda)
        target = jnp.where(mask, advantage + old_value, 0.0)
        advantage = tokens.whiten(advantage, mask) if whiten_advantage else advantage
        batch = batch._replace(advantage=advantage, target=target, value=old_value)

        # PPO's clipped surrogate and its value loss, means over the tokens there are.
        def objective(params: dict[str, PyTree], batch: writing.Batch, key: Array) -> tuple[Array, Metrics]:
            log_prob, now = read(params, batch)
            log_ratio = log_prob - batch.log_prob
            of_policy = pg.ppo_clip_term(log_ratio, batch.advantage, clip_epsilon)
            if clip_value_epsilon is None:
                of_value = value.squared_error_term(now, batch.target)
            else:
                of_value = value.clipped_value_term(now, batch.value, batch.target, clip_value_epsilon)
            policy_loss, value_loss = (
                writing.mean_of_texts(terms, batch.answer.mask, "tokens") for terms in (of_policy, of_value)
            )
            clipped = tokens.masked_mean(pg.clip_fraction(log_ratio, clip_epsilon), batch.answer.mask)
            metrics = {"policy_loss": policy_loss, "value_loss": value_loss, "clip_fraction": clipped}
            return policy_loss + value_coef * value_loss, metrics

        step = gradient_step(adam, objective)
        learned = Learned(state.params, state.optimizer_state)
        learned, metrics = epochs(key, step, learned, batch, num_epochs, num_minibatches)
        metrics |= writing.metrics_of(trajectory, batch) | {"kl_coef": state.kl_coef}

        # The adaptive coefficient, Ziegler et al., section 2.2.
        coefficient = state.kl_coef
        if target_kl is not None:
            error = across.mean(writing.text_kl(batch).mean()) / target_kl - 1.0
            coefficient = coefficient * (1.0 + kl_rate * jnp.clip(error, -0.2, 0.2))
        params, optimizer_state = learned
        return RLHFState(params, reference, optimizer_state, coefficient, state.updates + 1), metrics

    return Agent(init, act, update)
