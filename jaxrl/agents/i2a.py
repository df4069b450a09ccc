"""I2A: an agent that reads imagined rollouts beside what it sees. Weber et al. 2017, arXiv:1707.06203.

Legend of shapes: T steps, B environments, N observations, A actions, D steps of an imagined rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import optim, types
from jaxrl.agents.parts import actor_critic
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import Learned, gradient_step
from jaxrl.agents.parts.imagination import Parts, make_mind, next_rollouts, with_rollouts
from jaxrl.agents.parts.minibatches import check_minibatches, epochs
from jaxrl.agents.ppo import PPOState, ppo
from jaxrl.arguments import Count, NonNegative
from jaxrl.networks.imagination import Imagined
from jaxrl.networks.inputs import as_float
from jaxrl.signature import Heads, Torso, recipe
from jaxrl.types import Agent, Array, Metrics, Model, PyTree, Spec, Transition


class I2AState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of policy and value, of the model, and of the distilled policy.
      optimizer_state: states of the optax optimizers, one for each.
      statistics: statistics that normalise rewards.
      updates: int32, calls of ``update`` so far.
      per_env: ``[B]`` the running discounted return of each environment; () without reward normalisation.
    """

    params: Parts
    optimizer_state: Parts
    statistics: Any
    updates: Array
    per_env: Any


class Extras(NamedTuple):
    """The extras of a step, which ``update`` reads: those of PPO, and the imagined rollouts."""

    policy: actor_critic.Extras
    imagined: Imagined


def functions(
    spec: Spec,
    *,
    torso: nn.Module | None = None,
    heads: Mapping[str, nn.Module] | None = None,
    model: Model | None = None,
    depth: int = 3,
    model_channels: int = 32,
    model_hidden: int = 64,
    encoder_channels: int = 16,
    encoder_size: int = 32,
    joint_size: int = 128,
) -> Functions:
    """Policy and value of an agent's state, rollouts by the distilled policy's most probable actions."""
    mind = make_mind(
        spec, torso, model, depth, model_channels, model_hidden, encoder_channels, encoder_size, joint_size
    )
    inner = actor_critic.functions(mind.spec, torso=mind.torso, share_torso=True, heads=heads)

    def thinking(function: Any) -> Callable[[I2AState, Any], Any]:
        def of_observation(state: I2AState, observation: Any) -> Any:
            seen = with_rollouts(observation, mind.imagine(None, state.params, observation))
            return function(policy_state(state), seen)

        return of_observation

    return Functions(policy=thinking(inner.policy), value=thinking(inner.value))


def policy_state(state: I2AState) -> PPOState:
    """The part of the state that is PPO's."""
    return PPOState(state.params.policy, state.optimizer_state.policy, state.statistics, state.updates, state.per_env)


@recipe(
    extends=ppo,
    without=(
        "share_torso",
        "normalize_observation",
        "clip_observation",
        "squash",
        "state_dependent_std",
        "initial_log_std",
    ),
)
def i2a(
    spec: Spec,
    *,
    torso: Torso | None = None,
    heads: Heads | None = None,
    model: Annotated[Model, "a types.Model whose states are images"] | None = None,
    depth: Count = 3,
    model_learning_rate: NonNegative = 1e-3,
    model_channels: Count = 32,
    model_hidden: Count = 64,
    model_epochs: Count = 1,
    model_minibatches: Count = 4,
    distillation_learning_rate: NonNegative = 1e-3,
    encoder_channels: Count = 16,
    encoder_size: Count = 32,
    joint_size: Count = 128,
    num_epochs: Count = 4,
    num_minibatches: Count = 4,
    **options: Any,
) -> Agent:
    """Imagination-augmented agent: PPO whose network reads, for each action, a rollout in a learned model.

    ``pi, V = head[model_free(x), e_1, ..., e_A]``, ``e_a`` the encoding of a rollout that begins with action a and
    goes on by a distilled policy ``pi_hat``, which follows the agent's own: ``min E KL(pi || pi_hat)``. The model is
    fitted to what the agent sees: ``min E -log p(x'|x, a) + (r - r_hat)^2 / 2``. Weber et al. 2017,
    "Imagination-augmented agents for deep reinforcement learning". Every float may be a tracer.

    Args:
      spec: the environment's spec; observations are images ``[H, W, C]`` between 0 and 1, actions are discrete.
      torso: the model-free path, from ``[N, H, W, C]`` to features ``[N, D]``; None for Conv.
      heads: extra modules on the joined features, for auxiliary losses.
      model: a given ``Model`` whose state is the image, with the parameters of its ``init``; None for a learned one.
      depth: D, steps of an imagined rollout.
      model_learning_rate: step size of the learned model.
      model_channels: channels of each of the learned model's two convolutions.
      model_hidden: width of the learned model's reward layers.
      model_epochs: passes of the learned model over each rollout.
      model_minibatches: gradient steps of the learned model per pass; divides rollout_length x num_envs.
      distillation_learning_rate: step size of the distilled policy.
      encoder_channels: channels of the convolution that sees imagined images.
      encoder_size: size of the encoding of an imagined image, and of a rollout.
      joint_size: the width of the layer that joins both paths.
      num_epochs: passes of PPO over each rollout.
      num_minibatches: gradient steps per pass; divides rollout_length x num_envs.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    mind = make_mind(
        spec, torso, model, depth, model_channels, model_hidden, encoder_channels, encoder_size, joint_size
    )
    inner: dict[str, Any] = {"torso": mind.torso, "share_torso": True, "heads": heads}
    agent = ppo(mind.spec, **inner, num_epochs=num_epochs, num_minibatches=num_minibatches, **options)
    thought: Any = actor_critic.functions(mind.spec, **inner).policy
    model_adam = optim.clipped(optim.ADAM, model_learning_rate, 10.0)
    distillation_adam = optim.clipped(optim.ADAM, distillation_learning_rate, 1.0)

    def init(key: Array, num_envs: int = 1) -> I2AState:
        policy_key, model_key, distilled_key = jax.random.split(key, 3)
        policy = agent.init(policy_key, num_envs)
        image = types.features(spec.zeros(1))
        params = Parts(policy.params, mind.model.init(model_key), mind.distilled.init(distilled_key, as_float(image)))
        fitted = model_adam.init(params.model) if mind.network is not None else ()
        optimizers = Parts(policy.optimizer_state, fitted, distillation_adam.init(params.distilled))
        return I2AState(params, optimizers, policy.statistics, policy.updates, policy.per_env)

    def act(key: Array, state: I2AState, observation: Any, *, explore: bool = True) -> tuple[Any, Extras]:
        imagination_key, policy_key = jax.random.split(key)
        imagined = mind.imagine(imagination_key if explore else None, state.params, observation)
        seen = with_rollouts(observation, imagined)
        action, extras = agent.act(policy_key, policy_state(state), seen, explore=explore)
        return action, Extras(extras, imagined)

    def model_loss(params: PyTree, batch: Transition, key: Array) -> tuple[Array, Metrics]:
        """Cross-entropy, summed over pixels, and half the squared error of the reward, read from the true images."""
        del key
        assert mind.network is not None
        image, after = (types.features(x) for x in (batch.observation, batch.next_observation))
        predicted: Any = mind.network.apply(params, image, batch.action, after)
        logits, reward = predicted
        pixels = optax.sigmoid_binary_cross_entropy(logits, as_float(after)).sum((1, 2, 3)).mean()
        errors = jnp.square(reward - batch.reward).mean()
        return pixels + 0.5 * errors, {"model_loss": pixels, "reward_error": errors}

    def distillation_loss(params: PyTree, batch: tuple[Array, Array], key: Array) -> tuple[Array, Metrics]:
        """``KL(pi || pi_hat)``; pi is what it was, so that no gradient goes there."""
        del key
        image, logits = batch
        apart = optax.losses.kl_divergence_with_log_targets(
            jax.nn.log_softmax(mind.follow(params, image)), jax.nn.log_softmax(logits)
        )
        return apart.mean(), {"distillation_kl": apart.mean()}

    def update(key: Array, state: I2AState, trajectory: Transition) -> tuple[I2AState, Metrics]:
        check_minibatches(model_minibatches, trajectory.reward.shape, "model_minibatches")
        imagination_key, policy_key, model_key, distillation_key = jax.random.split(key, 4)
        flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)  # noqa: E731
        unflat = lambda tree: jax.tree.map(lambda x: x.reshape(*trajectory.reward.shape, *x.shape[1:]), tree)  # noqa: E731
        # These rollouts were imagined at acting; those of the next observations a step later, except at ends.
        seen = flat(trajectory.observation)
        thinking = with_rollouts(seen, flat(trajectory.extras.imagined))
        imagine = lambda key, observation: mind.imagine(key, state.params, observation)  # noqa: E731
        ahead = next_rollouts(imagination_key, imagine, trajectory)
        next_thinking = with_rollouts(flat(trajectory.next_observation), flat(ahead))
        augmented = trajectory._replace(
            observation=unflat(thinking), next_observation=unflat(next_thinking), extras=trajectory.extras.policy
        )
        policy, metrics = agent.update(policy_key, policy_state(state), augmented)

        # The distilled policy follows the new one, in what was seen.
        logits = jax.lax.stop_gradient(thought(policy, thinking).logits)
        step = gradient_step(distillation_adam, distillation_loss)
        learned = Learned(state.params.distilled, state.optimizer_state.distilled)
        batch = (types.features(seen), logits)
        follower, distillation = epochs(distillation_key, step, learned, batch, 1, num_minibatches)
        metrics["distillation_kl"] = distillation["distillation_kl"]

        fitted = Learned(state.params.model, state.optimizer_state.model)
        if mind.network is not None:
            rows = flat(trajectory._replace(extras=()))
            fit = gradient_step(model_adam, model_loss)
            fitted, modelled = epochs(model_key, fit, fitted, rows, model_epochs, model_minibatches)
            metrics |= {name: modelled[name] for name in ("model_loss", "reward_error")}
            # The model has never been fitted to this rollout.
            metrics["model_held_out"] = model_loss(state.params.model, rows, model_key)[1]["model_loss"]
        params = Parts(policy.params, fitted.params, follower.params)
        optimizers = Parts(policy.optimizer_state, fitted.optimizer_state, follower.optimizer_state)
        return I2AState(params, optimizers, policy.statistics, policy.updates, policy.per_env), metrics

    return Agent(init, act, update)
