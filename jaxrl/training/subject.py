"""What the conformance suite tests: an agent, its environment, and the programs that all properties share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.rollout import reset, rollout, stored, with_memory
from jaxrl.types import Agent, Array, Metrics, PyTree, Remembered, Spec, Transition


class ConformanceError(AssertionError):
    """An agent breaks a promise of the contract; the message starts with the property."""


def require(holds: Any, promise: str, message: str) -> None:
    """Raises ``ConformanceError("promise: message")`` unless ``holds``."""
    if not holds:
        raise ConformanceError(f"{promise}: {message}")


class Experience(NamedTuple):
    """A first rollout and two updates on it, computed once for all properties.

    Attributes:
      states: the agent's state at first, after one update, after two.
      observation: ``[B, ...]`` where the rollout ended.
      trajectory: ``[T, B, ...]`` of the first state.
      metrics: of the first update.
    """

    states: tuple[PyTree, PyTree, PyTree]
    observation: Any
    trajectory: Transition
    metrics: Metrics


class Subject:
    """An agent under test; programs are compiled when a property first asks for them, and shared.

    Args:
      make_agent: ``(spec, **options) -> Agent``; a ``functools.partial`` of a recipe is one.
      env, params: an environment that the agent can act in.
      spec: of the environment, ``jaxrl.spec(env, params)``.
      options: alternative values by option, where they can't be derived (see ``options.alternative``).
      contexts: what else has to be set for an option to matter, by option; joins ``options.CONTEXTS``.
      key: of all randomness, ``jax.random.key(0)`` if None.
      num_envs: B.
      rollout_length: T.
    """

    def __init__(
        self,
        make_agent: Callable[..., Agent],
        env: Any,
        params: Any,
        *,
        spec: Spec,
        options: Mapping[str, Any] | None = None,
        contexts: Mapping[str, Mapping[str, Any]] | None = None,
        key: Array | None = None,
        num_envs: int = 2,
        rollout_length: int = 8,
    ) -> None:
        if isinstance(make_agent, Agent):
            raise TypeError("make_agent: got an Agent, must be the function that makes one, spec -> Agent")
        self.make_agent, self.env, self.params, self.spec = make_agent, env, params, spec
        self.options, self.contexts = dict(options or {}), dict(contexts or {})
        self.key = jax.random.key(0) if key is None else key
        self.num_envs, self.rollout_length = num_envs, rollout_length
        self.num_traces = {"init": 0, "act": 0, "update": 0}
        self.agent = make_agent(spec)
        kind = type(self.agent).__name__
        require(isinstance(self.agent, Agent), "speaks_contract", f"make_agent returned a {kind}, not an Agent")

    def fold(self, number: int) -> Array:
        """A key of its own for each use."""
        return jax.random.fold_in(self.key, number)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*args: Any) -> Any:
            self.num_traces[name] += 1
            return function(*args)

        return jax.jit(traced)

    @cached_property
    def init(self) -> Callable[[Array], PyTree]:
        """Jitted ``key -> state``."""
        return self._counted("init", lambda key: self.agent.init(key, self.num_envs))

    @cached_property
    def act(self) -> Callable[[Array, PyTree, Any], tuple[Array, Any]]:
        """Jitted ``(key, state, observation) -> (action, extras)``, exploring."""
        return self._counted("act", lambda key, state, observation: self.agent.act(key, state, observation))

    @cached_property
    def act_greedily(self) -> Callable[[Array, PyTree, Any], tuple[Array, Any]]:
        """Jitted ``(key, state, observation) -> (action, extras)`` with ``explore=False``."""
        return jax.jit(partial(self.agent.act, explore=False))

    @cached_property
    def update(self) -> Callable[[Array, PyTree, Transition], tuple[PyTree, Metrics]]:
        """Jitted ``(key, state, trajectory) -> (state, metrics)``."""
        return self._counted("update", lambda key, state, trajectory: self.agent.update(key, state, trajectory))

    @cached_property
    def experience(self) -> Experience:
        """The first rollout and two updates on it."""

        @jax.jit
        def collect(key: Array, state: PyTree, params: Any) -> tuple[Any, Transition]:
            reset_key, rollout_key = jax.random.split(key)
            observation, env_state = reset(reset_key, self.env, params, self.num_envs)
            _, observation, trajectory = rollout(
                rollout_key, self.agent, state, self.env, params, env_state, observation, self.rollout_length
            )
            return observation, trajectory

        first = self.init(self.fold(0))
        observation, trajectory = collect(self.fold(1), first, self.params)
        second, metrics = self.update(self.fold(2), first, trajectory)
        third, _ = self.update(self.fold(3), second, trajectory)
        return Experience((first, second, third), observation, trajectory, metrics)

    def abstract(self, agent: Agent, spec: Spec) -> tuple[PyTree, Any, Transition]:
        """State, observation and trajectory of an agent as shapes and dtypes; nothing is computed."""
        batch = (self.num_envs,)

        def lead(shape: tuple[int, ...], tree: Any) -> Any:
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*shape, *x.shape), x.dtype), tree)

        observation = lead(batch, spec.observation)
        state = jax.eval_shape(lambda key: agent.init(key, self.num_envs), self.key)
        action, extras = jax.eval_shape(lambda key, *args: agent.act(key, *args), self.key, state, observation)
        number: Any = jax.ShapeDtypeStruct(batch, jnp.float32)
        flag: Any = jax.ShapeDtypeStruct(batch, jnp.bool_)
        seen = stored(observation)
        step = Transition(seen, without_memory(action), number, number, flag, flag, seen, extras)
        # Made of shapes alone, by the function that makes it of arrays in a rollout.
        trajectory = jax.eval_shape(with_memory, lead((self.rollout_length,), step), observation)
        return state, observation, trajectory


def without_memory(action: Any) -> Any:
    """What an environment is given of an action."""
    return action.value if isinstance(action, Remembered) else action


def leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a tree with their names."""
    return [(jax.tree_util.keystr(path) or "it", leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def to_numpy(leaf: Any) -> np.ndarray[Any, Any]:
    """The numbers of a leaf; of a PRNG key its data."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def describe(leaf: Any) -> str:
    """Shape, dtype and weak type of a leaf, for messages."""
    return f"{leaf.dtype}{list(leaf.shape)}{' (weak type)' if getattr(leaf, 'weak_type', False) else ''}"


def require_equal(promise: str, what: str, expected: PyTree, actual: PyTree) -> None:
    """Raises unless two trees of one structure are equal bit for bit (a NaN equals itself)."""
    for (name, x), y in zip(leaves(expected), jax.tree.leaves(actual), strict=True):
        same = to_numpy(x).tobytes() == to_numpy(y).tobytes()
        require(same, promise, f"{what}: leaf {name} differs")


def require_close(promise: str, what: str, expected: PyTree, actual: PyTree, rtol: float, atol: float) -> None:
    """Raises unless two trees of one structure are equal within float tolerance; integers have to be equal."""
    for (name, x), y in zip(leaves(expected), jax.tree.leaves(actual), strict=True):
        a, b = to_numpy(x), to_numpy(y)
        exact = not np.issubdtype(a.dtype, np.floating)
        same = np.array_equal(a, b) if exact else np.allclose(a, b, rtol, atol, equal_nan=True)
        worst = "" if exact or same else f" by up to {np.nanmax(np.abs(a - b)):.2g}"
        require(same, promise, f"{what}: leaf {name} differs{worst}")
