"""``check`` tests whether an environment, built in or custom, keeps the protocol.

It first checks abstract values (structures, shapes, dtypes) and then a short random run, which ``jaxrl.envs.episodes``
judges.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.abstract import (
    SIGNATURES,
    ProtocolError,
    check_environment,
    check_reset,
    check_step,
    is_host,
    require,
    require_arrays,
    require_same,
)
from jaxrl.envs.episodes import Run, check_run
from jaxrl.envs.protocol import Environment
from jaxrl.envs.registry import DOWNLOADS
from jaxrl.envs.specs import SpecError, spec
from jaxrl.types import Array, Box, Discrete, PyTree, Remembered, Spec, Text, Texts, action_mask, memory

KNOWN_EXCEPTIONS: dict[str, str] = dict.fromkeys(DOWNLOADS, "downloads its data set when it is made")
"""Environments of ``available()`` that are not known to pass ``check``, with the reason."""


class Report(NamedTuple):
    """The result of a check. Rules about an end of episodes that did not occur were not tested.

    Attributes:
      steps: the number of steps, over all environments.
      episodes: the number of episodes that ended.
      terminated: the number of these that were terminated.
      truncated: the number of these that were truncated (an episode can be both).
      weak_types: leaves whose weak type differs between ``reset`` and ``step``. This is not an error, because
        ``lax.scan`` promotes them, but a ``jit`` of a single step traces twice unless the weak types are stripped.
    """

    steps: int
    episodes: int
    terminated: int
    truncated: int
    weak_types: tuple[str, ...]


def check(
    env: Environment, params: PyTree = None, *, num_steps: int = 64, num_envs: int = 32, key: Array | None = None
) -> Report:
    """Checks that an environment keeps the protocol of ``jaxrl.envs.protocol``.

    Resets and ends of episodes can only be judged by their observations, so a few have to occur. If the report counts
    none, give ``params`` with a short time limit, or more steps.

    Args:
      env: an environment.
      params: its parameters, ``env.default_params`` if None.
      num_steps: T, the number of steps of each of two runs; the second continues the first.
      num_envs: B, the number of environments. With fewer than 8, resets are not compared with each other.
      key: the key of the run, ``jax.random.key(0)`` if None.

    Raises:
      ProtocolError: a rule is broken; the message names it, what was found and what is expected.
    """
    check_environment(env, *SIGNATURES)
    if params is None:
        require(hasattr(env, "default_params"), "members", f"{type(env).__name__} has no default_params; define it")
    params = env.default_params if params is None else params
    key = jax.random.key(0) if key is None else key
    # Some environments rely on rank promotion; a strict session is about jaxrl's code, not about theirs.
    with jax.numpy_rank_promotion("allow"):
        observation, state = _check_reset(env, params)
        described = _check_spec(env, params)
        weak_types = _check_step(env, params, described, observation, state)
        run = _record(env, params, described, num_steps, num_envs, key)
        _check_padding(env, params, described, num_envs, key)
    check_run(run)
    terminated, truncated = int(run.terminated.sum()), int(run.truncated.sum())
    episodes = int((run.terminated | run.truncated).sum())
    return Report(run.reward.size, episodes, terminated, truncated, weak_types)


def _abstract(what: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return jax.eval_shape(function, *args)
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"jit: {what} cannot be traced: {type(error).__name__}: {error}") from error


def _check_reset(env: Environment, params: PyTree) -> tuple[Any, PyTree]:
    def reset(key: Array) -> tuple[Any, PyTree]:
        observation, state = check_reset(env.reset(key, params))
        require_arrays("observation", observation)
        return observation, state

    return _abstract("reset", reset, jax.random.key(0))


def _check_spec(env: Environment, params: PyTree) -> Spec:
    try:
        return spec(env, params)
    except SpecError as error:
        raise ProtocolError(f"spec: {error}") from error


def _check_step(env: Environment, params: PyTree, described: Spec, observation: Any, state: PyTree) -> tuple[str, ...]:
    """Checks the abstract result of one step and returns the names of the leaves whose weak type changes."""

    def step(key: Array, state: PyTree, action: Any) -> tuple[Any, ...]:
        result = check_step(env.step(key, state, action, params))
        observation, _, *outcome, info = result
        for name, value in zip(
            ("observation", "reward", "terminated", "truncated"), (observation, *outcome), strict=True
        ):
            require_arrays(name, value)
        require_arrays("final_observation", info["final_observation"])
        return result

    arguments = (jax.random.key(0), state, _with_memory(_action_struct(described.action), described.observation))
    observed, stepped, *_, info = _abstract("step", step, *arguments)
    require_same("observation", observation, observed)
    require_same("final_observation", observation, info["final_observation"])
    require_same("state", state, stepped)
    require(
        _trace(step, arguments) == _trace(step, arguments),
        "determinism",
        "tracing step twice gives two different programs: it reads something besides its arguments, such as "
        "numpy.random or a counter in the object; draw from key and keep it in the state",
    )
    return _weak_types("observation", observation, observed) + _weak_types("state", state, stepped)


def _action_struct(action: Discrete | Box | Texts) -> Any:
    """One action as shapes and dtypes."""
    if isinstance(action, Texts):
        return Text(*(jax.ShapeDtypeStruct((action.length,), dtype) for dtype in (jnp.int32, jnp.bool_)))
    if isinstance(action, Discrete):
        return jax.ShapeDtypeStruct((), jnp.int32)
    return jax.ShapeDtypeStruct(action.shape, jnp.float32)


def _weak_types(name: str, at_reset: PyTree, at_step: PyTree) -> tuple[str, ...]:
    pairs = zip(jax.tree_util.tree_leaves_with_path(at_reset), jax.tree.leaves(at_step), strict=True)
    return tuple(name + jax.tree_util.keystr(path) for (path, x), y in pairs if x.weak_type != y.weak_type)


def _trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, list[bytes]]:
    # A new function object, because JAX would return a cached trace.
    closed = jax.make_jaxpr(lambda *args: function(*args))(*arguments)
    # The addresses of callbacks and custom derivatives are printed too, and differ.
    text = re.sub(r"0x[0-9a-f]+", "", str(closed))
    return text, [np.asarray(_data(const)).tobytes() for const in closed.consts]


def _data(leaf: Any) -> Any:
    is_key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _strong(leaf: Array) -> Array:
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, leaf.dtype)


def _draw(key: Array, action: Discrete | Box | Texts, num_steps: int, num_envs: int) -> Any:
    """Random actions ``[T, B, *shape]`` of a Box, random texts, or random scores ``[T, B, A]`` of discrete actions."""
    # On the host, because compiling JAX's generator takes longer than the rest of a check.
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    if isinstance(action, Discrete):
        return generator.random((num_steps, num_envs, action.num_actions), np.float32)
    if isinstance(action, Texts):
        return _draw_texts(generator, action, num_steps, num_envs)
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), action.shape) for bound in (action.low, action.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    shape = (num_steps, num_envs, *action.shape)
    uniform = generator.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 1.0), shape)
    actions = np.where(bounded, uniform, generator.normal(size=shape)).astype(np.float32)
    return np.clip(actions, low, high)


def _draw_texts(generator: np.random.Generator, action: Texts, num_steps: int, num_envs: int) -> Text:
    """Random texts ``[T, B, N]`` of all lengths; those of full length have no end in half of the cases."""
    shape = (num_steps, num_envs, action.length)
    tokens = generator.integers(0, action.num_tokens, shape)
    last = generator.integers(0, action.length, shape[:2])[..., None]
    position = np.arange(action.length)
    tokens = np.where(tokens == action.end, (action.end + 1) % action.num_tokens, tokens)
    is_cut = (last == action.length - 1) & (generator.random(last.shape) < 0.5)
    tokens = np.where((position == last) & ~is_cut, action.end, tokens)
    return Text(np.where(position <= last, tokens, 0).astype(np.int32), position <= last)


def _check_padding(env: Environment, params: PyTree, described: Spec, num_envs: int, key: Array) -> None:
    """Checks that what stands at the padding of an answer changes no reward."""
    if not isinstance(described.action, Texts):
        return
    drawn: Text = jax.tree.map(lambda x: x[0], _draw(key, described.action, 1, num_envs))
    other = drawn._replace(tokens=np.where(drawn.mask, drawn.tokens, 10**9).astype(np.int32))

    @jax.jit
    def rewards(keys: Array, answers: Text) -> Array:
        def pay(key: Array, answer: Text) -> Any:
            observation, state = env.reset(key, params)
            return env.step(key, state, _with_memory(answer, observation), params)[2]

        return jax.vmap(pay)(keys, answers)

    keys = jax.random.split(key, num_envs)
    same = np.array_equal(rewards(keys, drawn), rewards(keys, other))
    require(same, "padding", "the reward changed with the tokens at padding, must not; use them where the mask is True")


def _choose(drawn: Array, action: Discrete | Box | Texts, observation: Any) -> Any:
    """The action of one environment: the legal one with the highest score, or the one drawn from a Box."""
    if not isinstance(action, Discrete):
        return _with_memory(drawn, observation)
    mask = action_mask(observation)
    return _with_memory(jnp.argmax(drawn if mask is None else jnp.where(mask, drawn, -1.0)), observation)


def _with_memory(action: Any, observation: Any) -> Any:
    """The action, with the observation's memory if the environment feeds one back."""
    return action if memory(observation) is None else Remembered(action, memory(observation))


def _record(env: Environment, params: PyTree, described: Spec, num_steps: int, num_envs: int, key: Array) -> Run:
    """Runs random actions under ``jit``, ``vmap`` and ``lax.scan``: twice with one key, then on with another."""

    def step(carry: tuple[Any, PyTree], key: Array, drawn: Array) -> tuple[tuple[Any, PyTree], Any]:
        action = _choose(drawn, described.action, carry[0])
        observation, state, *outcome = env.step(key, carry[1], action, params)
        return (observation, state), (observation, *outcome)

    @jax.jit
    def start(keys: Array) -> tuple[Any, PyTree]:
        return jax.tree.map(_strong, jax.vmap(lambda key: env.reset(key, params))(keys))

    @jax.jit
    def run(carry: tuple[Any, PyTree], keys: Array, drawn: Array) -> Any:
        return jax.lax.scan(lambda carry, inputs: jax.vmap(step)(carry, *inputs), carry, (keys, drawn))

    reset_key, *run_keys = jax.random.split(key, 5)
    keys = [jax.random.split(key, (num_steps, num_envs)) for key in run_keys[:2]]
    drawn = [_draw(key, described.action, num_steps, num_envs) for key in run_keys[2:]]
    try:
        first = start(jax.random.split(reset_key, num_envs))
        carry, recorded = run(first, keys[0], drawn[0])
        _, further = run(carry, keys[1], drawn[1])
        # The state of an environment outside JAX can be left once; equal keys reset it to an equal one.
        replayed = start(jax.random.split(reset_key, num_envs)) if is_host(env) else first
        carry_again, recorded_again = run(replayed, keys[0], drawn[0])
    except Exception as error:
        raise ProtocolError(
            f"vmap: reset or step fails under jit, vmap and lax.scan: {type(error).__name__}: {error}"
        ) from error
    compared = (recorded, recorded_again) if is_host(env) else ((carry, recorded), (carry_again, recorded_again))
    for x, y in zip(*map(jax.tree.leaves, compared), strict=True):
        nan_is_equal = jnp.issubdtype(x.dtype, jnp.inexact)
        same = np.array_equal(np.asarray(_data(x)), np.asarray(_data(y)), equal_nan=nan_is_equal)
        require(
            same, "determinism", "the same key gave two different runs, must give equal ones; use no other randomness"
        )
    observation, reward, terminated, truncated, info = jax.tree.map(
        lambda x, y: np.concatenate([_data(x), _data(y)]), recorded, further
    )
    return Run(jax.tree.map(_data, first[0]), observation, reward, terminated, truncated, info)
