"""World Models: an autoencoder, a sequence model of its latents, and a controller evolved in their dreams."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import models, optim, types
from jaxrl.agents.parts import dreaming, evolution, replaying
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.when import when
from jaxrl.arguments import Count, CountOrZero, NonNegative, Positive, Unit
from jaxrl.models import VAE, Latent, ModelEnv, SequenceModel
from jaxrl.replay import ring as rings
from jaxrl.replay.base import num_rows
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, PyTree, Remembered, Spec, Transition


class Learned(NamedTuple):
    """The part of the state that a round changes.

    Attributes:
      vision: parameters of V, the autoencoder.
      sequence: parameters of M, the sequence model of latents.
      controller: ``[P]`` parameters of C, linear on [z, h]: the mean of the last population.
      first: ``[K, L]`` posteriors of real first frames, where dreams start.
      report: numbers of the last round, for people.
    """

    vision: PyTree
    sequence: PyTree
    controller: Array
    first: Latent
    report: Metrics


class WorldModelsState(NamedTuple):
    """The state of the agent.

    Attributes:
      learned: V, M and C.
      steps: int32, environment steps seen, all environments together.
      rounds: int32, rounds done.
      per_env: the replay, leaves ``[rows, B, ...]``.
    """

    learned: Learned
    steps: Array
    rounds: Array
    per_env: PyTree

    @property
    def params(self) -> tuple[PyTree, PyTree, Array]:
        """Those of V, M and C."""
        return self.learned.vision, self.learned.sequence, self.learned.controller


REPORT = ("vision_held_out_before", "vision_held_out", "model_held_out_before", "model_held_out", "dream_return")
NUM_STARTS = 256
"""First frames that are kept."""


def make_models(
    spec: Spec,
    *,
    latent_size: int = 16,
    hidden_size: int = 64,
    kl_weight: Any = 0.02,
    free_nats: Any = 0.0,
    model: str = "mdn_rnn",
    num_layers: int = 2,
    context: int = 16,
    num_components: int = 5,
    chain_size: int = 16,
    termination_coef: Any = 5.0,
    terminal_weight: Any = 10.0,
) -> tuple[VAE, SequenceModel]:
    """V and M, of the arguments of the recipe."""
    vision = models.vae(spec, latent_size=latent_size, kl_weight=kl_weight, free_nats=free_nats)
    shared = {
        "latent_size": latent_size,
        "num_components": num_components,
        "chain_size": chain_size,
        "termination_coef": termination_coef,
        "terminal_weight": terminal_weight,
    }
    if model == "transformer":
        return vision, models.transformer(spec, width=hidden_size, num_layers=num_layers, context=context, **shared)
    return vision, models.mdn_rnn(spec, hidden_size=hidden_size, **shared)


MODEL_OPTIONS = ("latent_size", "hidden_size", "model", "num_layers", "context")


def memory_of(spec: Spec, options: Mapping[str, Any]) -> PyTree:
    """The memory of M, for ``envs.remember``; the options are those of the recipe."""
    given = {name: options[name] for name in MODEL_OPTIONS if name in options}
    return make_models(spec, **given)[1].memory


@recipe(remembers=memory_of)
def world_models(
    spec: Spec,
    *,
    latent_size: Count = 16,
    hidden_size: Count = 64,
    kl_weight: NonNegative = 0.02,
    free_nats: NonNegative = 0.0,
    model: Literal["mdn_rnn", "transformer"] = "mdn_rnn",
    num_layers: Count = 2,
    context: Count = 16,
    num_components: Count = 5,
    chain_size: CountOrZero = 16,
    termination_coef: NonNegative = 5.0,
    terminal_weight: Positive = 10.0,
    num_rounds: Count = 1,
    steps_per_round: Count = 20_000,
    replay_capacity: Count = 20_000,
    held_out: Unit = 0.1,
    vision_epochs: Count = 12,
    vision_batch_size: Count = 128,
    vision_learning_rate: Positive = 1e-3,
    sequence_length: Count = 32,
    model_epochs: Count = 150,
    model_batch_size: Count = 32,
    model_learning_rate: Positive = 5e-3,
    temperature: NonNegative = 1.15,
    strategy: Literal["cma_es", "sep_cma_es"] = "cma_es",
    population: Count = 64,
    num_generations: Count = 60,
    num_dreams: Count = 8,
    dream_length: Count = 500,
    sigma: Positive = 0.1,
) -> Agent:
    """World Models: V compresses what is seen, M predicts what comes, C is evolved inside the dream and never outside.

    V: ``z ~ q(z | x)``. M: ``p(z', r, end | z, a, h)``. C: ``a = argmax(W [z, h] + b)``, or a tanh for continuous
    actions. A round is: collect ``steps_per_round`` steps (at random in the first one, by C in later ones), fit V and M
    until their held-out likelihood stops rising, evolve C in dreams of M by CMA-ES. Ha and Schmidhuber 2018, "Recurrent
    world models facilitate policy evolution", arXiv:1809.01999. Every float may be a tracer.

    Args:
      spec: spec of the environment ``envs.remember(env, memory)`` with the memory of M, ``memory_of(spec, options)``.
        Its features are numbers in [0, 1]. The command line wraps the environment by itself.
      latent_size: L, the size of z.
      hidden_size: H, the size of the LSTM, or the width of the transformer.
      kl_weight: weight of the KL in V's loss; below 1, objects of few pixels are kept.
      free_nats: free nats of V's loss.
      model: M is an LSTM with a mixture of Gaussians for each latent number, or a transformer with the same heads.
      num_layers: layers of the transformer.
      context: steps that the transformer looks back.
      num_components: components of each mixture.
      chain_size: hidden units through which the mixture of a latent number depends on the numbers before it; 0 for
        independent numbers, as in the paper.
      termination_coef: weight of the termination in M's loss.
      terminal_weight: w, weight of terminal steps, which are rare, in the termination's loss. A dream ends where the
        probability of the end is above ``1 / (1 + w)``.
      num_rounds: rounds of collecting, fitting and evolving; the paper has one.
      steps_per_round: environment steps before each round, over all environments.
      replay_capacity: steps kept.
      held_out: share of frames and of sequences that are held out.
      vision_epochs: maximum number of epochs of V.
      vision_batch_size: frames per minibatch.
      vision_learning_rate: step size of Adam for V.
      sequence_length: steps of the sequences that M is fitted to.
      model_epochs: maximum number of epochs of M.
      model_batch_size: sequences per minibatch.
      model_learning_rate: step size of Adam for M.
      temperature: temperature of the dream; above 1 the dream is more random than the environment.
      strategy: "cma_es", or "sep_cma_es" with a diagonal covariance for thousands of parameters.
      population: candidates per generation.
      num_generations: generations per round.
      num_dreams: dreams per candidate.
      dream_length: dreams are truncated after so many steps.
      sigma: initial standard deviation of the parameters of C.

    Returns:
      An ``Agent`` with a memory.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    vision, sequence = make_models(
        spec,
        latent_size=latent_size,
        hidden_size=hidden_size,
        kl_weight=kl_weight,
        free_nats=free_nats,
        model=model,
        num_layers=num_layers,
        context=context,
        num_components=num_components,
        chain_size=chain_size,
        termination_coef=termination_coef,
        terminal_weight=terminal_weight,
    )
    dreaming.check_memory(types.memory(spec.observation), sequence)
    controller = dreaming.linear_controller(spec.action, latent_size + hidden_size)
    dream = models.dream(sequence, temperature)
    vision_adam, model_adam = (
        optim.clipped(optim.ADAM, rate, 1.0) for rate in (vision_learning_rate, model_learning_rate)
    )
    example = dreaming.example(spec)
    spec = spec._replace(observation=example.observation)

    def init(key: Array, num_envs: int = 1) -> WorldModelsState:
        vision_key, model_key = jax.random.split(key)
        latents = jnp.zeros((NUM_STARTS, latent_size), jnp.float32)
        learned = Learned(
            vision.init(vision_key),
            sequence.init(model_key),
            jnp.zeros((controller.size,), jnp.float32),
            Latent(latents, jnp.zeros_like(latents)),
            {name: jnp.zeros((), jnp.float32) for name in REPORT},
        )
        ring = rings.init(example, num_rows(replay_capacity, num_envs, sequence_length), num_envs)
        zero = jnp.zeros((), jnp.int32)
        return WorldModelsState(learned, zero, zero, ring)

    def act(key: Array, state: WorldModelsState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        random_key, key = jax.random.split(key)
        learned, memory = state.learned, types.memory(observation)
        posterior = vision.encode(learned.vision, observation)
        z = posterior.sample(key) if explore else posterior.mean
        action = jax.vmap(controller.act, (None, 0))(learned.controller, jnp.concatenate([z, memory.features], -1))
        if explore:
            uniform = dreaming.random_actions(random_key, spec, z.shape[0])
            action = jnp.where(state.rounds == 0, uniform, action)
        memory, _ = jax.vmap(sequence.step, (None, 0, 0, 0))(learned.sequence, memory, z, action)
        return Remembered(action, memory), ()

    def round_(key: Array, ring: rings.Ring, old: Learned) -> Learned:
        """Fits V, then M, then evolves C."""
        vision_key, model_key, key = jax.random.split(key, 3)
        frames = ring.transitions.observation.reshape(-1, *ring.transitions.observation.shape[2:])
        seen = models.fit(
            vision_key,
            old.vision,
            frames,
            vision.loss,
            size=ring.filled * ring.num_envs,
            optimizer=vision_adam,
            batch_size=vision_batch_size,
            max_epochs=vision_epochs,
            held_out=held_out,
        )
        data = dreaming.encoded(ring, partial(vision.encode, seen.params), sequence_length, NUM_STARTS)
        known = models.fit(
            model_key,
            old.sequence,
            data.sequences,
            sequence.loss,
            size=data.size,
            optimizer=model_adam,
            batch_size=model_batch_size,
            max_epochs=model_epochs,
            held_out=held_out,
        )

        def fitness(key: Array, candidates: Array) -> Array:
            start = partial(dreaming.start_of, sequence, data.first)
            arguments = (dream, known.params, start, controller.act, candidates, num_dreams, dream_length)
            return dreaming.dream_returns(key, *arguments)

        sizes = {"population": population, "num_generations": num_generations}
        evolved, curve = evolution.evolve(key, old.controller, fitness, sigma=sigma, strategy=strategy, **sizes)
        numbers = (seen.held_out[0], seen.best, known.held_out[0], known.best, curve[-1])
        return Learned(seen.params, known.params, evolved, data.first, dict(zip(REPORT, numbers, strict=True)))

    def update(key: Array, state: WorldModelsState, trajectory: Transition) -> tuple[WorldModelsState, Metrics]:
        ring = rings.add(state.per_env, dreaming.features_only(trajectory))
        steps = state.steps + replaying.num_steps(trajectory)
        due = (state.rounds < num_rounds) & (steps >= (state.rounds + 1) * steps_per_round)
        learned = when(due, partial(round_, key, ring), lambda old: old, state.learned)
        rounds = state.rounds + due
        return WorldModelsState(learned, steps, rounds, ring), {**learned.report, "rounds": rounds}

    return Agent(init, act, update)


def dream_env(
    spec: Spec, learned: Learned, *, temperature: Any = 1.0, max_steps: int = 500, **options: Any
) -> ModelEnv:
    """The dream that C was evolved in, as an environment whose observation is [z, h].

    Args:
      spec: the environment's spec.
      learned: the field of the agent's state.
      temperature, max_steps: see ``models.as_env``.
      **options: of the recipe, those that V and M are made of.
    """
    _, sequence = make_models(spec, **options)

    def start(key: Array, params: PyTree) -> tuple[Array, PyTree]:
        del params
        return dreaming.start_of(sequence, learned.first, key)

    make = partial(models.dream, sequence)
    return models.as_env(make, learned.sequence, start, spec.action, temperature=temperature, max_steps=max_steps)


def functions(
    spec: Spec,
    *,
    latent_size: int = 16,
    hidden_size: int = 64,
    model: Literal["mdn_rnn", "transformer"] = "mdn_rnn",
    num_layers: int = 2,
    context: int = 16,
) -> Functions:
    """The actions of C at the mean of z, for observations with the memory of M; see ``jaxrl.functions``."""
    options = {"latent_size": latent_size, "hidden_size": hidden_size, "num_layers": num_layers, "context": context}
    vision, _ = make_models(spec, model=model, **options)
    controller = dreaming.linear_controller(spec.action, latent_size + hidden_size)

    def policy(state: Any, observation: Any) -> Array:
        z = vision.encode(state.learned.vision, observation).mean
        seen = jnp.concatenate([z, types.memory(observation).features], -1)
        return jax.vmap(controller.act, (None, 0))(state.learned.controller, seen)

    return Functions(policy)
