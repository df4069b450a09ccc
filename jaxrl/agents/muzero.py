"""MuZero: planning with a learned model that predicts rewards, values and policies, but no observations."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, optim, types
from jaxrl.agents.parts import gradients, planning, torsos
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.gradients import Learned, dropout_key, gradient_norm
from jaxrl.agents.parts.planning import SearchFn
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.agents.parts.replaying import gradient_steps, make_buffer, num_steps
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, TracedCount, Unit, check_steps
from jaxrl.networks import BoardDynamics, DenseDynamics, MuZero, inputs
from jaxrl.networks.heads import Categorical
from jaxrl.ops import distributional, numerics
from jaxrl.ops.distributional import Bins
from jaxrl.replay import MakeReplay, unrolls
from jaxrl.replay.unrolls import Searched, Unroll
from jaxrl.rollout import stored
from jaxrl.search import models
from jaxrl.signature import Optimizer, Torso, recipe
from jaxrl.types import Agent, Array, Discrete, Metrics, Model, PyTree, Simulated, Spec, Transition


class MuZeroState(NamedTuple):
    """The state of the agent.

    Attributes:
      params: parameters of the three networks h, g and f.
      optimizer_state: state of the optax optimizer.
      gradient_steps: int32, number of gradient steps so far.
      steps: int32, environment steps seen, all environments together.
      per_env: the replay, leaves ``[rows, B, ...]``.
    """

    params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array
    steps: Array
    per_env: PyTree


@recipe(fills={"num_players": "num_players"})
def muzero(
    spec: Spec,
    *,
    num_players: Literal[1, 2] = 1,
    torso: Torso | None = None,
    search: str | SearchFn = planning.gumbel,
    num_simulations: Count = 32,
    unroll_steps: Count = 5,
    n_step: Count = 10,
    reanalyze_values: bool = True,
    gamma: Unit = 0.997,
    support_size: Count = 20,
    value_coef: NonNegative = 0.25,
    optimizer: Optimizer = optax.adamw,
    learning_rate: NonNegative = 1e-3,
    anneal_learning_rate: bool = False,
    num_updates: TracedCount | None = None,
    max_grad_norm: Positive | None = 5.0,
    prioritized: bool = False,
    replay: MakeReplay | None = None,
    replay_capacity: Count = 100_000,
    batch_size: Count = 128,
    num_gradient_steps: Count = 4,
    learning_starts: CountOrZero = 1_000,
) -> Agent:
    """MuZero: every action is chosen by a search in a learned model; no simulator is needed.

    The networks ``s^0 = h(o)``, ``r^k, s^k = g(s^{k-1}, a^k)`` and ``p^k, v^k = f(s^k)`` are trained along K steps of
    real episodes with ``L = sum_k l^p(pi_{t+k}, p^k) + value_coef l^v(z_{t+k}, v^k) + l^r(u_{t+k}, r^k)``. The targets
    are the policies pi of the searches, n-step returns z that bootstrap from values nu, and rewards u. Schrittwieser et
    al. 2020, "Mastering Atari, Go, chess and shogi by planning with a learned model", arXiv:1911.08265; Danihelka et
    al. 2022, "Policy improvement by planning with Gumbel". It learns one-player environments, and two-player games by
    self-play. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete.
      num_players: 1, or 2 for a two-player game, where values change sign with every move and returns lie in [-1, 1].
      torso: h, Flax module from ``[N, ...]`` to hidden states ``[N, D]``; None chooses an MLP or, for boards, Residual.
        The dynamics g are residual too with Residual, and an MLP otherwise.
      search: "gumbel" (better with few simulations), "puct" (MuZero's), or a ``planning.SearchFn``.
      num_simulations: model steps of each search.
      unroll_steps: K, steps that the model is unrolled along an episode in training.
      n_step: number of rewards before the bootstrap; for games at least the number of moves, so that z is the outcome.
      reanalyze_values: whether nu is the network's present value of the observation n steps later, computed for each
        batch (appendix H); False uses the value that the search found at that step, which becomes outdated.
      gamma: discount factor per step; 1 for games.
      support_size: number of bins of values and rewards on each side of 0, see ``distributional.Bins``.
      value_coef: weight of the value loss.
      optimizer: makes an optax optimizer from a learning rate or a schedule; AdamW decays all weights by 1e-4.
      learning_rate: step size of the optimizer.
      anneal_learning_rate: lower the learning rate linearly to 0 over num_updates.
      num_updates: calls of update until an annealed value reaches 0.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
      prioritized: sample by priority, short for replay=replay.prioritized (Schaul et al. 2016).
      replay: makes the replay, uniform or prioritised; None for the uniform one.
      replay_capacity: number of steps kept, all environments together.
      batch_size: number of unrolls per gradient step.
      num_gradient_steps: gradient steps per call of update, so per rollout_length x num_envs environment steps.
      learning_starts: environment steps before the first gradient step.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    check_no_memory(spec, torso)
    if anneal_learning_rate and num_updates is None:
        raise ValueError("num_updates: anneal_learning_rate needs the number of updates to anneal over, got None")
    rate = optim.annealed(learning_rate, num_updates, num_gradient_steps) if anneal_learning_rate else learning_rate
    adam = optim.clipped(optimizer, rate, max_grad_norm)
    spec = spec._replace(observation=stored(spec.observation))
    bins = Bins.of_returns(support_size) if num_players == 1 else Bins.of_range(support_size)
    network = make_network(spec, torso, bins.size)
    model, search_fn = learned_model(network, spec.zeros(1), bins, num_players), planning.search_fn(search)
    buffer = make_buffer(replay, prioritized, replay_capacity, 1, gamma)
    steps = {"unroll_steps": unroll_steps, "n_step": n_step}
    buffer = unrolls.along(buffer, **steps, gamma=gamma, fresh=reanalyze_values)

    def predict(params: PyTree, hidden: Array) -> tuple[Array, Array]:
        outputs: Any = network.apply(params, hidden, method="predict")
        logits, v = outputs
        return logits, bins.decode(v)

    def init(key: Array, num_envs: int = 1) -> MuZeroState:
        params = model.init(key)
        ring = buffer.init(unrolls.example(spec.observation, network.num_actions), num_envs)
        zero = jnp.zeros((), jnp.int32)
        return MuZeroState(params, adam.init(params), zero, zero, ring)

    def act(key: Array, state: MuZeroState, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        hidden: Any = network.apply(state.params, observation, method="represent")  # s^0 = h(o)
        found = planning.plan(
            search_fn,
            key,
            models.Params(state.params, state.params),
            model,
            predict,
            hidden,
            hidden,
            models.invalid_actions(observation),
            num_simulations,
            gamma=gamma,
            explore=explore,
            bounded=num_players == 2,
        )
        if found.search_tree is None:
            raise TypeError(
                "search: returned no search_tree, must return one, since muzero learns from the value of its root"
            )
        # pi and nu; the value after the step is not known yet
        value = found.search_tree.summary().value
        return found.action, Searched(found.action_weights, value, jnp.zeros_like(value))

    def remember(state: MuZeroState, trajectory: Transition) -> PyTree:
        """Stores each step with pi, nu and the network's value after it, which truncated episodes bootstrap from."""
        check_steps(trajectory.reward.shape)
        hidden: Any = network.apply(state.params, trajectory.next_observation, method="represent")
        v_t = predict(state.params, hidden)[1]
        searched = trajectory.extras._replace(next_value=v_t)
        return buffer.add(state.per_env, trajectory._replace(next_observation=(), extras=searched))

    def loss(params: PyTree, unroll: Unroll, key: Array) -> tuple[Array, tuple[Array, Metrics]]:
        rngs = {"dropout": dropout_key(key)}
        first: Any = network.apply(params, unroll.observation, method="represent", rngs=rngs)

        def g(hidden: Array, action: Array) -> tuple[Array, tuple[Array, Array]]:
            stepped: Any = network.apply(params, optax.scale_gradient(hidden, 0.5), action, method="step", rngs=rngs)
            return stepped[0], stepped

        _, (hidden, r) = jax.lax.scan(g, first, unroll.action)
        predicted: Any = network.apply(params, jnp.concatenate([first[None], hidden]), method="predict", rngs=rngs)
        p, v = predicted

        # eq. 1, [K + 1, N] or [K, N]; the K steps of g together weigh as much as h
        share = jnp.full((unroll_steps + 1, 1), 1.0 / unroll_steps).at[0].set(1.0)
        cross_entropy = distributional.categorical_cross_entropy_term
        terms = {
            "policy_loss": share * unroll.inside * cross_entropy(p, unroll.policy),
            "value_loss": share * unroll.known * cross_entropy(v, bins.encode(unroll.value)),
            "reward_loss": share[1:] * unroll.known[:-1] * cross_entropy(r, bins.encode(unroll.reward)),
        }
        metrics = {name: (unroll.weight * term.sum(axis=0)).mean() for name, term in terms.items()}
        total = metrics["policy_loss"] + value_coef * metrics["value_loss"] + metrics["reward_loss"]
        v = bins.decode(v[0])
        return total, (jnp.abs(v - unroll.value[0]), {"loss": total, **metrics, "value": v.mean()})

    def step(key: Array, learned: Learned, unroll: Any) -> tuple[Learned, Array, Metrics]:
        if unroll.bootstrap is not None:  # z = u_1 + ... + gamma^n nu
            behind: Any = network.apply(learned.params, unroll.bootstrap.observation, method="represent")
            v = predict(learned.params, behind)[1]
            unroll = unroll._replace(value=unroll.value + unroll.bootstrap.weight * v)
        (_, (priorities, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(learned.params, unroll, key)
        stepped = gradients.apply(adam, learned, grads)
        return stepped, priorities, {**metrics, "gradient_norm": gradient_norm(grads)}

    def update(key: Array, state: MuZeroState, trajectory: Transition) -> tuple[MuZeroState, Metrics]:
        steps = numerics.count_up(state.steps, num_steps(trajectory))
        learned, ring, metrics = gradient_steps(
            key,
            step,
            Learned(state.params, state.optimizer_state),
            buffer,
            remember(state, trajectory),
            batch_size,
            num_gradient_steps,
            ready=steps >= learning_starts,
        )
        done = state.gradient_steps + jnp.where(steps >= learning_starts, num_gradient_steps, 0)
        metrics |= {
            "search_confidence": trajectory.extras.policy.max(axis=-1).mean(),
            "gradient_steps": done,
            "learning_rate": optim.rate_at(rate, done),
        }
        return MuZeroState(*learned, done, steps, ring), metrics

    return Agent(init, act, update)


def default_torso(spec: Spec) -> nn.Module:
    """``Residual`` for boards ``[H, W, C]``, else an ``MLP`` with two ReLU layers of 128."""
    if len(types.features(spec.observation).shape) == 3:
        return networks.Residual()
    return torsos.default_torso(spec, hidden=(128, 128), activation="relu")


def make_network(spec: Spec, torso: nn.Module | None, num_bins: int) -> MuZero:
    """The three functions h, g and f.

    Raises:
      TypeError: the actions are continuous.
    """
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: got actions {spec.action}, muzero takes discrete ones; see sac and mpc")
    torso = default_torso(spec) if torso is None else torso
    num_actions, shape = spec.action.num_actions, types.features(spec.observation).shape
    dynamics: nn.Module = DenseDynamics(num_actions)
    if isinstance(torso, networks.Residual):
        dynamics = BoardDynamics(num_actions, torso, shape[:2])
    return MuZero(torso, dynamics, num_actions, num_bins, inputs.event_rank(spec.observation))


def learned_model(network: MuZero, observation: Any, bins: Bins, num_players: int) -> Model:
    """The dynamics g as a ``types.Model`` of hidden states, whose observations are the hidden states themselves.

    It never ends an episode: the network learns rewards and values of 0 after the end of a real episode.

    Args:
      network: h, g and f.
      observation: a batch of one, for the initialisation of the parameters.
      bins: the bins of rewards.
      num_players: 2 where the players move in turn.
    """

    def init(key: Array) -> PyTree:
        return network.init(key, observation, jnp.zeros(1, jnp.int32))

    def step(params: PyTree, key: Array, state: PyTree, action: Array) -> Simulated:
        del key
        one = jax.tree.map(lambda x: x[None], (state, action))
        hidden, r = jax.tree.map(lambda x: x[0], network.apply(params, *one, method="step"))
        discount = jnp.float32(-1.0 if num_players == 2 else 1.0)
        return Simulated(hidden, hidden, bins.decode(r), discount, jnp.zeros((), bool))

    return Model(init, step, num_players)


def functions(spec: Spec, *, num_players: int = 1, torso: nn.Module | None = None, support_size: int = 20) -> Functions:
    """The policy and the value of the network alone, without a search; see ``jaxrl.functions``."""
    spec = spec._replace(observation=stored(spec.observation))
    bins = Bins.of_returns(support_size) if num_players == 1 else Bins.of_range(support_size)
    network = make_network(spec, torso, bins.size)

    def predict(state: Any, observation: Any) -> Any:
        hidden = network.apply(state.params, observation, method="represent")
        return network.apply(state.params, hidden, method="predict")

    def policy(state: Any, observation: Any) -> Any:
        logits, mask = predict(state, observation)[0], types.action_mask(observation)
        return Categorical(logits=logits if mask is None else jnp.where(mask, logits, -1e9), dtype=jnp.int32)

    def value(state: Any, observation: Any) -> Array:
        return bins.decode(predict(state, observation)[1])

    return Functions(policy, value)
