"""The subject of the conformance suite: an agent, its environment, and the programs that all properties share.

A check costs mostly compilation. Two programs contain ``update``: ``Subject.update``, and ``Subject.together``, which
has all three functions over seeds and floats at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import arguments
from jaxrl.rollout import reset, rollout, stored, with_memory
from jaxrl.training.loop import strong_type
from jaxrl.training.options import float_options, other_float
from jaxrl.types import Agent, Array, Metrics, PyTree, Remembered, Spec, Transition


class ConformanceError(AssertionError):
    """An agent breaks a promise of the contract; the message starts with the property."""


require = partial(arguments.require, ConformanceError)
"""``(holds, promise, message)``: raises ``ConformanceError("promise: message")`` unless ``holds``."""


class Run(NamedTuple):
    """A run between two updates.

    Attributes:
      agent: the agent's state.
      env_state: states of the B environments.
      observation: ``[B, ...]`` the last observations.
    """

    agent: PyTree
    env_state: PyTree
    observation: Any


class Experience(NamedTuple):
    """A rollout with the agent's initial state and two updates on it, computed once for all properties.

    Attributes:
      states: the agent's states after no, one and two updates.
      env_state: ``[B, ...]`` at the end of the rollout.
      observation: ``[B, ...]`` at the end of the rollout.
      trajectory: ``[T, B, ...]``.
      metrics: metrics of the first update.
    """

    states: tuple[PyTree, PyTree, PyTree]
    env_state: PyTree
    observation: Any
    trajectory: Transition
    metrics: Metrics


def opaque(agent: Agent) -> Agent:
    """The agent wrapped in plain lambdas, so that code that inspects its functions fails."""
    return Agent(
        init=lambda *args, **options: agent.init(*args, **options),
        act=lambda *args, **options: agent.act(*args, **options),
        update=lambda *args, **options: agent.update(*args, **options),
    )


def run_once(agent: Agent, num_envs: int, key: Array, observation: Any, trajectory: Transition) -> dict[str, PyTree]:
    """Calls all three functions once, as one function to be vmapped."""
    state = agent.init(jax.random.fold_in(key, 0), num_envs)
    acted = agent.act(jax.random.fold_in(key, 1), state, observation)
    updated, metrics = agent.update(jax.random.fold_in(key, 2), state, trajectory)
    return {"init": state, "act": acted, "update": updated, "metrics": metrics}


class Subject:
    """An agent under test; programs are compiled when a property first asks for them, and shared.

    The agent is wrapped by ``opaque``.

    Args:
      make_agent: ``(spec, **options) -> Agent``; a ``functools.partial`` of a recipe is one.
      env, params: an environment that the agent can act in.
      spec: the environment's spec, ``jaxrl.spec(env, params)``.
      options: alternative values by option, where they can't be derived (see ``options.alternative``).
      contexts: values of other options that an option needs in order to matter; added to ``options.CONTEXTS``.
      key: a PRNG key for all random numbers; None for ``jax.random.key(0)``.
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
        self.floats = float_options(make_agent)
        self.agent = self.make(spec)

    def make(self, spec: Spec, **options: Any) -> Agent:
        """The agent with these options, opaque."""
        agent = self.make_agent(spec, **options)
        kind = type(agent).__name__
        require(isinstance(agent, Agent), "speaks_contract", f"make_agent returned a {kind}, not an Agent")
        return opaque(agent)

    def fold(self, number: int) -> Array:
        """A separate key for each use."""
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
    def collect(self) -> Callable[[Array, Run, Any], tuple[Run, Transition]]:
        """Jitted ``(key, run, params) -> (run, trajectory)``: a rollout without an update."""

        @jax.jit
        def collect(key: Array, run: Run, params: Any) -> tuple[Run, Transition]:
            env_state, observation, trajectory = rollout(
                key, self.agent, run.agent, self.env, params, run.env_state, run.observation, self.rollout_length
            )
            return Run(run.agent, *jax.tree.map(strong_type, (env_state, observation))), trajectory

        return collect

    def advance(self, number: int, run: Run) -> Run:
        """A rollout and an update with the shared programs."""
        run, trajectory = self.collect(self.fold(number), run, self.params)
        return run._replace(agent=self.update(self.fold(number + 1), run.agent, trajectory)[0])

    @cached_property
    def experience(self) -> Experience:
        """The first rollout and two updates on it."""

        @jax.jit
        def begin(key: Array, state: PyTree, params: Any) -> Run:
            observation, env_state = reset(key, self.env, params, self.num_envs)
            return Run(state, *jax.tree.map(strong_type, (env_state, observation)))

        first = self.init(self.fold(0))
        reset_key, rollout_key = jax.random.split(self.fold(1))
        run = begin(reset_key, first, self.params)
        (_, env_state, observation), trajectory = self.collect(rollout_key, run, self.params)
        second, metrics = self.update(self.fold(2), first, trajectory)
        third, _ = self.update(self.fold(3), second, trajectory)
        return Experience((first, second, third), env_state, observation, trajectory, metrics)

    def run_once(self, key: Array) -> dict[str, PyTree]:
        """``run_once`` of the agent on the experience, with the shared programs."""
        state = self.init(jax.random.fold_in(key, 0))
        acted = self.act(jax.random.fold_in(key, 1), state, self.experience.observation)
        updated, metrics = self.update(jax.random.fold_in(key, 2), state, self.experience.trajectory)
        return {"init": state, "act": acted, "update": updated, "metrics": metrics}

    @property
    def seeds(self) -> Array:
        """``[2]`` keys, of the rows of ``together``."""
        return jax.random.split(self.fold(20), 2)

    def over_floats(self, key: Array, floats: dict[str, Array], observation: Any, trajectory: Transition) -> PyTree:
        """``run_once`` of an agent with these floats, to be vmapped."""
        return run_once(self.make(self.spec, **floats), self.num_envs, key, observation, trajectory)

    @cached_property
    def together(self) -> PyTree:
        """``run_once`` for three rows in one vmapped program, as numpy arrays.

        The rows are both seeds with the agent's floats, which are traced here, and the first seed with other floats.

        Raises:
          jax.errors.JAXTypeError: a float can't be a tracer.
        """
        # In the third row floats differ, so that a mix-up of rows shows.
        keys = jnp.concatenate([self.seeds, self.seeds[:1]])
        floats = {name: jnp.array([value, value, other_float(value)]) for name, value in self.floats.items()}
        over = jax.jit(jax.vmap(self.over_floats, in_axes=(0, 0, None, None)))
        # Data are arguments, because the compiler would spend time on folding constants.
        return jax.tree.map(to_numpy, over(keys, floats, self.experience.observation, self.experience.trajectory))

    @cached_property
    def shapes(self) -> tuple[PyTree, Any, Transition]:
        """``abstract`` of the agent under test."""
        return self.abstract(self.agent, self.spec)

    def abstract(self, agent: Agent, spec: Spec) -> tuple[PyTree, Any, Transition]:
        """State, observation and trajectory of an agent as shapes and dtypes, without computing them."""
        observation = self.observed(spec)
        state = jax.eval_shape(lambda key: agent.init(key, self.num_envs), self.key)
        action, extras = jax.eval_shape(lambda key, *args: agent.act(key, *args), self.key, state, observation)
        return state, observation, self.travelled(observation, action, extras)

    def observed(self, spec: Spec) -> Any:
        """A batch of observations as shapes and dtypes."""
        return _lead((self.num_envs,), spec.observation)

    def travelled(self, observation: Any, action: Any, extras: Any) -> Transition:
        """A trajectory as shapes and dtypes, from those of a step."""
        number: Any = jax.ShapeDtypeStruct((self.num_envs,), jnp.float32)
        flag: Any = jax.ShapeDtypeStruct((self.num_envs,), jnp.bool_)
        seen = stored(observation)
        step = Transition(seen, without_memory(action), number, number, flag, flag, seen, extras)
        # From shapes only, with the function that rollouts use for arrays.
        return jax.eval_shape(with_memory, _lead((self.rollout_length,), step), observation)

    @cached_property
    def updated_shapes(self) -> tuple[PyTree, Metrics]:
        """The results of ``update``, jitted, as shapes and dtypes."""
        state, _, trajectory = self.shapes
        return jax.eval_shape(jax.jit(self.agent.update), self.key, state, trajectory)


def _lead(shape: tuple[int, ...], tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*shape, *x.shape), x.dtype), tree)


def without_memory(action: Any) -> Any:
    """The environment's part of an action, without memory."""
    return action.value if isinstance(action, Remembered) else action


def leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a tree with their names."""
    return [(jax.tree_util.keystr(path) or "it", leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def to_numpy(leaf: Any) -> np.ndarray[Any, Any]:
    """The numbers of a leaf, which for a PRNG key are its data."""
    if isinstance(leaf, np.ndarray):
        return leaf
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def describe(leaf: Any) -> str:
    """Shape, dtype and weak type of a leaf, for messages."""
    return f"{leaf.dtype}{list(leaf.shape)}{' (weak type)' if getattr(leaf, 'weak_type', False) else ''}"


def require_equal(promise: str, what: str, expected: PyTree, actual: PyTree) -> None:
    """Raises unless two trees of the same structure are equal bit for bit (NaN equals NaN)."""
    for (name, x), y in zip(leaves(expected), jax.tree.leaves(actual), strict=True):
        same = to_numpy(x).tobytes() == to_numpy(y).tobytes()
        require(same, promise, f"{what}: leaf {name} differs")


def require_close(promise: str, what: str, expected: PyTree, actual: PyTree, rtol: float, atol: float) -> None:
    """Raises unless two trees of the same structure are equal within float tolerance; integers must be equal."""
    for (name, x), y in zip(leaves(expected), jax.tree.leaves(actual), strict=True):
        a, b = to_numpy(x), to_numpy(y)
        exact = not np.issubdtype(a.dtype, np.floating)
        same = np.array_equal(a, b) if exact else np.allclose(a, b, rtol, atol, equal_nan=True)
        worst = "" if exact or same else f" by up to {np.nanmax(np.abs(a - b)):.2g}"
        require(same, promise, f"{what}: leaf {name} differs{worst}")
