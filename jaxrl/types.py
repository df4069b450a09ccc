"""The contract: the types of agents, of their inputs and of their outputs. Read this first.

Legend of shapes, here and everywhere: T time, B environments, A discrete actions, D features, S seeds.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
PyTree = Any
Metrics = dict[str, Array]


class Observation(NamedTuple):
    """An observation with named parts; a plain array is the same as ``Observation(features=array)``.

    Absent parts are None. Environments that have only features return the bare array.

    Attributes:
      features: ``[B, ...]``, the input of a torso.
      action_mask: ``[B, A]`` bool, True where a discrete action is legal.
      goal: ``[B, G]``, the desired goal.
      achieved_goal: ``[B, G]``, the goal achieved so far.
      memory: the agent's memory after its last step, fed back by ``envs.remember``, zero where an episode starts. A
        trajectory has the memory of its first step only, leaves ``[1, B, ...]``.
      env_state: the true simulator state, for planners; dropped before storage.
    """

    features: Any
    action_mask: Any = None
    goal: Any = None
    achieved_goal: Any = None
    memory: Any = None
    env_state: Any = None


def features(observation: Any) -> Any:
    """The features of an observation, or the array itself: the input of a torso."""
    return observation.features if isinstance(observation, Observation) else observation


def action_mask(observation: Any) -> Array | None:
    """The legal actions ``[..., A]`` of an observation, or None where every action is legal."""
    return observation.action_mask if isinstance(observation, Observation) else None


class Remembered(NamedTuple):
    """An action together with the memory of the agent, for ``envs.remember``.

    Attributes:
      value: ``[B, ...]`` the action itself.
      memory: leaves ``[B, ...]``, with the structure and the shapes of ``Observation.memory``.
    """

    value: Any
    memory: Any


def memory(observation: Any) -> Any:
    """The agent's memory in an observation, or None where the environment feeds none back."""
    return observation.memory if isinstance(observation, Observation) else None


class Transition(NamedTuple):
    """One step, leaves ``[B, ...]``; a trajectory is the same tuple, time-major, leaves ``[T, B, ...]``.

    Bootstrap by ``discount``; cut the recursion on ``terminated | truncated``.

    Attributes:
      observation: the observation before the action.
      action: the environment's action, without the agent's memory.
      reward: float32.
      discount: the environment's discount, without gamma: 0 where terminated, -1 where the player to move changes in a
        two-player game, else 1.
      terminated: bool, the task ended.
      truncated: bool, the episode ended (at a time limit, say) though the task continues.
      next_observation: the true next observation: at the end of an episode the final one, not that of the reset.
      extras: the extra data that ``act`` returned for ``update``.
    """

    observation: Any
    action: Array
    reward: Array
    discount: Array
    terminated: Array
    truncated: Array
    next_observation: Any
    extras: Any = ()


class Discrete(NamedTuple):
    """``num_actions`` actions, the integers from 0."""

    num_actions: int


class Box(NamedTuple):
    """Continuous actions of ``shape``, each between ``low`` and ``high`` (broadcast to ``shape``)."""

    shape: tuple[int, ...]
    low: Any
    high: Any

    def from_unit(self, action: Array) -> Array:
        """Rescales actions from ``[-1, 1]`` to the bounds and clips them to the bounds.

        An axis with an infinite bound is not rescaled, only clipped. A bound that the dtype of the action can't hold
        counts as infinite.
        """
        with np.errstate(over="ignore"):
            low, high = (jnp.broadcast_to(jnp.asarray(x, action.dtype), action.shape) for x in (self.low, self.high))
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        low_or_0, high_or_0 = jnp.where(bounded, low, 0.0), jnp.where(bounded, high, 0.0)
        share = 0.5 * (jnp.clip(action, -1.0, 1.0) + 1.0)
        span = high_or_0 - low_or_0
        # The span of bounds near the ends of the dtype overflows; the weighted mean of the bounds doesn't.
        fits = jnp.isfinite(span)
        between = jnp.where(
            fits, low_or_0 + share * jnp.where(fits, span, 0.0), (1.0 - share) * low_or_0 + share * high_or_0
        )
        return jnp.where(bounded, jnp.clip(between, low_or_0, high_or_0), jnp.clip(action, low, high))


class Text(NamedTuple):
    """Texts as tokens: a prompt, or an answer, which is one action.

    Attributes:
      tokens: ``[..., N]`` int32; what stands at padding has no meaning.
      mask: ``[..., N]`` bool, True for the text's own tokens, up to and including the token that ends it. An answer
        that is True throughout and has no end was cut.
    """

    tokens: Any
    mask: Any


class Texts(NamedTuple):
    """Actions that are whole texts, each a ``Text`` of ``length`` tokens with its mask.

    Attributes:
      num_tokens: size of the vocabulary, of prompts and answers.
      length: N, the most tokens of an answer, with its end.
      end: the token that ends an answer; it is no padding.
    """

    num_tokens: int
    length: int
    end: int


class Spec(NamedTuple):
    """The description of an environment, from which agents are made. ``jaxrl.spec(env, params)`` makes it.

    Attributes:
      observation: one observation (no batch axis) with a ``jax.ShapeDtypeStruct`` for each leaf.
      action: ``Discrete``, ``Box``, or ``Texts``, which only recipes of language models take.
      num_observations: the number of possible observations, where they are single integers from 0 on; else None.
      flags: bool, in the shape of the features: True for binary features, which are not normalised (``envs.window``);
        None without any. A NumPy array, so that it is static.
    """

    observation: Any
    action: Any
    num_observations: int | None = None
    flags: Any = None

    def zeros(self, *batch: int) -> Any:
        """An observation of zeros with the leading axes ``batch``, for the initialisation of networks."""
        return jax.tree.map(lambda leaf: jnp.zeros((*batch, *leaf.shape), leaf.dtype), self.observation)


class InitFn(Protocol):
    """``init`` of an agent."""

    def __call__(self, key: Array, num_envs: int = 1) -> PyTree:
        """Makes the state.

        Args:
          key: a PRNG key, consumed.
          num_envs: B, the number of environments.

        Returns:
          One immutable pytree. Leaves with an environment axis lie under a field ``per_env``, of the state or of a
          state inside it, such as a reward model's.
        """
        ...


class ActFn(Protocol):
    """``act`` of an agent."""

    def __call__(self, key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        """Chooses actions.

        Args:
          key: a PRNG key, consumed.
          state: from ``init`` or ``update``.
          observation: ``[B, ...]``.
          explore: Python bool; False for the greedy policy.

        Returns:
          ``(action [B, ...], extras)``: the action for the environment, and extra data for ``update``, such as
          log-probabilities. An agent with a memory returns ``Remembered(action, memory)``.
        """
        ...


class UpdateFn(Protocol):
    """``update`` of an agent."""

    def __call__(self, key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        """Learns from a trajectory ``[T, B]``.

        Returns:
          ``(state, metrics)``: metrics is a flat dict of scalars for people, never fed back.
        """
        ...


class Agent(NamedTuple):
    """The three functions. It is not a pytree of arrays: close over it, do not pass it through ``jit`` or ``vmap``."""

    init: InitFn
    act: ActFn
    update: UpdateFn

    def __repr__(self) -> str:
        name = getattr(self.update, "__qualname__", type(self.update).__name__).split(".")[0]
        return f"<Agent of {name}: init, act, update>"


class Simulated(NamedTuple):
    """One step of a ``Model``, for one state.

    Attributes:
      state: the next state. Where the episode ended it may belong to the next episode.
      observation: the true next observation; the final one where the episode ended.
      reward: the reward of the step, to the player that moved; float32.
      discount: the discount without gamma: 0 where terminated, -1 where the player to move changes, else 1.
      truncated: bool, the episode was truncated: returns bootstrap from the value of ``observation``, and ``state``
        must not be searched, because it belongs to another episode.
    """

    state: PyTree
    observation: Any
    reward: Array
    discount: Array
    truncated: Array


class ModelInitFn(Protocol):
    """``init`` of a model."""

    def __call__(self, key: Array, /) -> PyTree:
        """Makes the parameters: ``()`` for the true simulator.

        Args:
          key: a PRNG key, consumed.
        """
        ...


class ModelStepFn(Protocol):
    """``step`` of a model."""

    def __call__(self, params: PyTree, key: Array, state: PyTree, action: Array, /) -> Simulated:
        """Steps one state; ``vmap`` it for a batch.

        Args:
          params: from ``init``, or learned.
          key: a PRNG key, consumed; a stochastic model samples the outcome with it.
          state: a state of the model: the state of a simulator, or a hidden state.
          action: one action.
        """
        ...


class StepsTakenFn(Protocol):
    """``steps_taken`` of a model."""

    def __call__(self, state: PyTree, /) -> Array:
        """The number of steps in the episode before a state, int32."""
        ...


class Model(NamedTuple):
    """A model for search, planners and dreams: the true simulator (``envs.simulator``) or a learned one.

    Attributes:
      init: makes the parameters.
      step: steps one state.
      num_players: 2 where two players move in turn, else 1.
      steps_taken: the steps of the episode before a state; None for a model that does not count them.
    """

    init: ModelInitFn
    step: ModelStepFn
    num_players: int = 1
    steps_taken: StepsTakenFn | None = None


class RewardInitFn(Protocol):
    """``init`` of a reward model."""

    def __call__(self, key: Array, num_envs: int = 1) -> PyTree:
        """Makes the state.

        Args:
          key: a PRNG key, consumed.
          num_envs: B, the number of environments.

        Returns:
          One immutable pytree. Leaves with an environment axis lie under the field ``per_env``.
        """
        ...


class RewardFn(Protocol):
    """``reward`` of a reward model."""

    def __call__(self, key: Array, state: PyTree, trajectory: Transition) -> Array:
        """Computes the rewards ``[T, B]`` of a trajectory.

        Args:
          key: a PRNG key, consumed.
          state: from ``init`` or ``update``.
          trajectory: ``[T, B]``, with the reward of the environment.
        """
        ...


class RewardUpdateFn(Protocol):
    """``update`` of a reward model."""

    def __call__(self, key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        """Learns from a trajectory ``[T, B]``.

        Args:
          key: a PRNG key, consumed.
          state: from ``init`` or ``update``.
          trajectory: ``[T, B]``, with the reward of the environment.

        Returns:
          ``(state, metrics)``, as for an agent.
        """
        ...


class RewardModel(NamedTuple):
    """A computed and possibly learned reward: curiosity, preferences, feedback, a judge.

    Like an ``Agent`` it is not a pytree: close over it.
    """

    init: RewardInitFn
    reward: RewardFn
    update: RewardUpdateFn


__all__ = [
    "ActFn",
    "Agent",
    "Array",
    "Box",
    "Discrete",
    "InitFn",
    "Metrics",
    "Model",
    "ModelInitFn",
    "ModelStepFn",
    "Observation",
    "PyTree",
    "Remembered",
    "RewardFn",
    "RewardInitFn",
    "RewardModel",
    "RewardUpdateFn",
    "Simulated",
    "Spec",
    "StepsTakenFn",
    "Text",
    "Texts",
    "Transition",
    "UpdateFn",
    "action_mask",
    "features",
    "memory",
]


def __dir__() -> list[str]:
    return sorted(__all__)
