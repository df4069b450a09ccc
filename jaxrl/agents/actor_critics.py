"""The actor-critic family: critics regress on slower copies of themselves, an actor climbs them. See ``Rule``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim
from jaxrl.agents import off_policy
from jaxrl.agents.action_values import make_replay
from jaxrl.agents.off_policy import Learner, Method, OffPolicy, PolicyFn
from jaxrl.agents.torsos import default_torso
from jaxrl.agents.validation import check_arguments
from jaxrl.agents.when import when
from jaxrl.networks import inputs
from jaxrl.ops import td, value
from jaxrl.replay import MakeReplay, Sample
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec


class Roles(NamedTuple):
    """One thing for each role: parameters, their targets, optimizers, their states.

    Attributes:
      actor: of the policy.
      critics: of all critics, parameters with a leading axis E.
      temperature: of the logarithm of the temperature, a scalar.
    """

    actor: Any = ()
    critics: Any = ()
    temperature: Any = ()


class Networks(NamedTuple):
    """The two networks, each a function of ``Roles`` of parameters.

    Attributes:
      actor_network: of the policy.
      critic_ensemble: of all critics.
      dropout: the rng "dropout" of the torsos; None outside of gradients.
    """

    actor_network: nn.Module
    critic_ensemble: networks.Ensemble
    dropout: Array | None = None

    def _rngs(self) -> dict[str, Array]:
        return {} if self.dropout is None else {"dropout": self.dropout}

    def policy(self, params: Roles, observation: Any) -> Any:
        """What the actor's network gives: actions ``[N, D]``, or a distribution."""
        return self.actor_network.apply(params.actor, observation, rngs=self._rngs())

    def values(self, params: Roles, observation: Any, *action: Array) -> Array:
        """``[E, N]`` by all critics of given actions ``[N, D]``; where actions are discrete ``[E, N, A]`` of all."""
        values: Any = self.critic_ensemble.apply(params.critics, observation, *action, rngs=self._rngs())
        return values

    def first_values(self, params: Roles, observation: Any, *action: Array) -> Array:
        """The same by the first critic alone, ``[N]`` or ``[N, A]``."""
        first = jax.tree.map(lambda x: x[:1], params.critics)
        values: Any = self.critic_ensemble.clone(size=1).apply(first, observation, *action, rngs=self._rngs())
        return values[0]


class Temperature(NamedTuple):
    """A temperature that is learned.

    Attributes:
      initial: where it starts, above 0.
      target_entropy: ``observation -> [N]`` or a scalar, what the policy's entropy is to be, in nats.
    """

    initial: Any
    target_entropy: Callable[[Any], Any]


class Rule(NamedTuple):
    """What the recipes differ in.

    Attributes:
      actor: ``(torso, event_rank) -> network`` of the policy.
      next_value: ``(key, networks, params, target_params, observation) -> [N]``, which targets bootstrap from.
      policy_value: ``(key, networks, params, observation) -> (value [N], entropy [N] or None)``: what the actor climbs,
        differentiable in ``params.actor``.
      explore: ``(key, policy) -> action``, of what ``Networks.policy`` gives.
      exploit: ``policy -> action``.
      num_critics: E.
      target_actor: whether ``next_value`` reads a target of the actor.
      temperature: None for none that is learned.
      policy_delay: gradient steps of the critics for one of the actor and of the targets.
    """

    actor: Callable[[nn.Module, int], nn.Module]
    next_value: Callable[[Array, Networks, Roles, Roles, Any], Array]
    policy_value: Callable[[Array, Networks, Roles, Any], tuple[Array, Array | None]]
    explore: Callable[[Array, Any], Array]
    exploit: Callable[[Any], Array]
    num_critics: int
    target_actor: bool
    temperature: Temperature | None = None
    policy_delay: int = 1


class ActorCritics(NamedTuple):
    """The family's parts under one roof; the functions below are functions of it.

    Attributes:
      spec: of the environment.
      networks: see ``Networks``.
      rule: see ``Rule``.
      optimizers: one for each role.
      tau: how far the targets move towards the online networks when they move.
    """

    spec: Spec
    networks: Networks
    rule: Rule
    optimizers: Roles
    tau: Any


def init(parts: ActorCritics, key: Array) -> Learner:
    """The first parameters of all roles, their targets, their optimizers' states."""
    actor_key, critic_key = jax.random.split(key)
    observation = parts.spec.zeros(1)
    shape = off_policy.example(parts.spec).action
    action = (jnp.zeros((1, *shape.shape)),) if shape.shape else ()
    params = Roles(
        parts.networks.actor_network.init(actor_key, observation),
        parts.networks.critic_ensemble.init(critic_key, observation, *action),
        () if parts.rule.temperature is None else jnp.log(jnp.asarray(parts.rule.temperature.initial, jnp.float32)),
    )
    states = (
        optimizer.init(part) if jax.tree.leaves(part) else ()
        for optimizer, part in zip(parts.optimizers, params, strict=True)
    )
    target_params = jax.tree.map(jnp.copy, with_target(parts, params))
    return Learner(params, target_params, Roles(*states), jnp.zeros((), jnp.int32))


def with_target(parts: ActorCritics, params: Roles) -> Roles:
    """Those parameters that targets follow."""
    return Roles(params.actor if parts.rule.target_actor else (), params.critics)


def critic_loss(
    parts: ActorCritics, critics: PyTree, target: Array, sample: Sample
) -> tuple[Array, tuple[Array, Array]]:
    """``sum_e E w (Q_e(s, a) - y)^2 / 2``: every critic regressed on the same target ``[N]``.

    Returns:
      ``(loss, (|error| [N], mean over the critics, mean value))``.
    """
    observation, action = sample.transition.observation, sample.transition.action
    if jnp.issubdtype(action.dtype, jnp.integer):
        taken = jax.vmap(td.take_action, in_axes=(0, None))
        values = taken(parts.networks.values(Roles(critics=critics), observation), action)
    else:
        values = parts.networks.values(Roles(critics=critics), observation, action)
    terms = value.squared_error_term(values, jnp.broadcast_to(target, values.shape)).sum(axis=0)
    return (sample.weight * terms).mean(), (abs(values - target[None]).mean(axis=0), values.mean())


def dropping_out(parts: ActorCritics, key: Array) -> ActorCritics:
    """The parts whose networks are given the rng "dropout"."""
    return parts._replace(networks=parts.networks._replace(dropout=jax.random.fold_in(key, off_policy.DROPOUT)))


def critic_step(parts: ActorCritics, key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
    """One gradient step of the critics; see ``off_policy.Method.learn``."""
    transition = sample.transition
    next_value = parts.rule.next_value(
        key, parts.networks, learner.params, learner.target_params, transition.next_observation
    )
    target = td.one_step_target(transition.reward, sample.discount, next_value)
    gradient = jax.value_and_grad(partial(critic_loss, dropping_out(parts, key)), has_aux=True)
    (loss, (errors, mean)), grads = gradient(learner.params.critics, target, sample)
    metrics = {"loss": loss, "value": mean, "gradient_norm": off_policy.gradient_norm(grads)}
    return role_step(parts, learner, "critics", grads), errors, metrics


def role_step(parts: ActorCritics, learner: Learner, role: str, grads: PyTree) -> Learner:
    """One step of the optimizer of a role."""
    params, state = getattr(learner.params, role), getattr(learner.optimizer_state, role)
    updates, state = getattr(parts.optimizers, role).update(grads, state, params)
    return learner._replace(
        params=learner.params._replace(**{role: optax.apply_updates(params, updates)}),
        optimizer_state=learner.optimizer_state._replace(**{role: state}),
    )


def actor_step(parts: ActorCritics, key: Array, learner: Learner, observation: Any) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up ``policy_value``, one of the temperature, and a move of the targets.

    The temperature goes down ``J(log alpha) = log alpha E[H(pi(s)) - target]``: up while the entropy is too small.
    """
    rule = parts.rule

    def loss(actor: PyTree) -> tuple[Array, Array | None]:
        nets = dropping_out(parts, key).networks
        values, entropy = rule.policy_value(key, nets, learner.params._replace(actor=actor), observation)
        return -values.mean(), entropy

    grads, entropy = jax.grad(loss, has_aux=True)(learner.params.actor)
    metrics = {"actor_gradient_norm": off_policy.gradient_norm(grads)}
    stepped = role_step(parts, learner, "actor", grads)
    if entropy is not None:
        metrics["entropy"] = entropy.mean()
    if rule.temperature is not None:
        slope = (entropy - rule.temperature.target_entropy(observation)).mean()
        stepped = role_step(parts, stepped, "temperature", slope)
        metrics["temperature"] = jnp.exp(stepped.params.temperature)
    moved = optax.incremental_update(with_target(parts, stepped.params), learner.target_params, parts.tau)
    return stepped._replace(target_params=moved), metrics


def learn(parts: ActorCritics, key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
    """A gradient step: of the critics, then, where it is due, of the actor; see ``off_policy.Method.learn``."""
    critic_key, actor_key = jax.random.split(key)
    learner, priorities, metrics = critic_step(parts, critic_key, learner, sample)
    learner = learner._replace(gradient_steps=learner.gradient_steps + 1)
    observation = sample.transition.observation
    if parts.rule.policy_delay == 1:
        learner, more = actor_step(parts, actor_key, learner, observation)
        return learner, priorities, {**metrics, **more}
    due = learner.gradient_steps % parts.rule.policy_delay == 0
    shapes = jax.eval_shape(partial(actor_step, parts), actor_key, learner, observation)[1]
    waiting = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)  # 0 where the actor waits
    step = lambda carry: actor_step(parts, actor_key, carry[0], observation)  # noqa: E731
    learner, more = when(due, step, (learner, waiting))
    return learner, priorities, {**metrics, **more}


def explore(parts: ActorCritics, key: Array, params: Roles, observation: Any, steps: Array) -> Array:
    """Actions with noise."""
    return parts.rule.explore(key, parts.networks.policy(params, observation))


def exploit(parts: ActorCritics, params: Roles, observation: Any) -> Array:
    """Actions without noise."""
    return parts.rule.exploit(parts.networks.policy(params, observation))


def parts_of(agent: Agent) -> ActorCritics:
    """The parts of an agent of this family.

    Raises:
      TypeError: an agent of another family.
    """
    parts = getattr(off_policy.config_of(agent).method.policy.exploit, "args", (None,))[0]
    if not isinstance(parts, ActorCritics):
        raise TypeError(f"agent: got {agent!r}, must be one of ddpg, td3 and sac")
    return parts


def actor_critics(
    spec: Spec,
    *,
    make_rule: Callable[[Spec], Rule],
    name: str,
    torso: nn.Module | None = None,
    prioritized: bool = False,
    replay: MakeReplay | None = None,
    replay_capacity: int = 100_000,
    n_step: int = 1,
    batch_size: int = 256,
    num_gradient_steps: int = 1,
    learning_starts: int = 1_000,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam,
    learning_rate: float = 1e-3,
    actor_learning_rate: float | None = None,
    max_grad_norm: float | None = None,
    gamma: float = 0.99,
    tau: float = 0.005,
) -> Agent:
    """An agent whose critics regress on slower copies of themselves, and whose actor climbs the critics.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      make_rule: what is bootstrapped from and what is climbed.
      name: of the recipe, for its default torso.
      torso: Flax module from ``[N, ...]`` to features ``[N, D]``, for the actor and each critic; None chooses MLP or
        Conv by the observation.
      prioritized: sample by priority, the mean error of the critics; short for replay=replay.prioritized (Schaul et
        al. 2016).
      replay: makes the replay, see ``jaxrl.replay``; None for the uniform one, or the prioritised one.
      replay_capacity: transitions kept, of all environments together.
      n_step: rewards summed before the bootstrap (Watkins 1989).
      batch_size: samples of a gradient step.
      num_gradient_steps: gradient steps for each rollout_length x num_envs environment steps.
      learning_starts: environment steps, taken at random, before the first gradient step.
      optimizer: makes an optax optimizer from a learning rate or a schedule.
      learning_rate: step size of the optimizers.
      actor_learning_rate: step size of the actor's; None for the same.
      max_grad_norm: the global norm of each role's gradient is clipped to it; None for no clip.
      gamma: discount of the future, a step.
      tau: how far the targets move towards the online networks when they move.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_arguments(locals())
    rule = make_rule(spec)
    torso = default_torso(name, spec.observation) if torso is None else torso
    rank = inputs.event_rank(spec.observation)
    nets = Networks(rule.actor(torso, rank), networks.critic_ensemble(spec.action, torso, rank, rule.num_critics))
    make = partial(optim.clipped, optimizer, max_grad_norm=max_grad_norm)
    actor_rate = learning_rate if actor_learning_rate is None else actor_learning_rate
    parts = ActorCritics(spec, nets, rule, Roles(make(actor_rate), make(learning_rate), make(learning_rate)), tau)
    method = Method(
        partial(init, parts), PolicyFn(partial(explore, parts), partial(exploit, parts)), partial(learn, parts)
    )
    made = make_replay(replay, prioritized)(replay_capacity, n_step=n_step, gamma=gamma)
    return off_policy.bind(OffPolicy(spec, method, made, batch_size, num_gradient_steps, learning_starts))
