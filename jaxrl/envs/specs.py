"""``spec`` describes an environment to agents, from its behaviour and not from its declarations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.abstract import ProtocolError, check_environment, check_reset, show
from jaxrl.envs.protocol import Environment
from jaxrl.types import Box, Discrete, Observation, PyTree, Spec, Text, Texts, features


class SpecError(ValueError):
    """An observation or action space that agents do not support."""


def spec(env: Environment, params: PyTree = None) -> Spec:
    """Describes the observations and actions of an environment.

    The observation is that of an abstract ``env.reset`` (nothing is computed), because some declared observation spaces
    have the wrong shape or dtype. Only the number of observations is read from the declaration, if it is ``Discrete``
    and a reset returns a single integer.

    Args:
      env: an environment.
      params: its parameters, ``env.default_params`` if None.

    Raises:
      SpecError: the object is not an environment of the protocol (a Gymnasium environment, say), or its observation or
        action space is not supported; the message names it and the fix.
    """
    try:
        check_environment(env, "reset", "action_space")
    except ProtocolError as error:
        raise SpecError(str(error)) from None
    if params is None and not hasattr(env, "default_params"):
        raise SpecError(f"members: {type(env).__name__} has no default_params; define it, or give params")
    params = env.default_params if params is None else params
    # Some environments rely on rank promotion, and a strict session is no reason to refuse them.
    with jax.numpy_rank_promotion("allow"):
        observation = _abstract_observation(env, params)
        # Spaces are often built by jnp calls, whose bounds would be tracers inside a caller's jit.
        with jax.ensure_compile_time_eval():
            action = action_spec(env.action_space(params))
            seen = observation_spec(observation, action)
            number = num_observations(env, params, seen)
            flags = env.flags(params) if hasattr(env, "flags") else None
    return Spec(observation=seen, action=action, num_observations=number, flags=flags)


def _abstract_observation(env: Environment, params: PyTree) -> Any:
    """The observation of an abstract reset."""
    found: list[Any] = []

    def reset() -> Any:
        found[:] = [check_reset(env.reset(jax.random.key(0), params))[0]]
        return found[0]

    try:
        return jax.eval_shape(reset)
    except ProtocolError as error:
        raise SpecError(str(error)) from None
    except TypeError:
        # JAX's own message for a value that is not an array is unclear.
        if not found:
            raise
        return found[0]


def num_observations(env: Environment, params: PyTree, observation: Any) -> int | None:
    """The number of observations that an environment declares.

    Args:
      env: an environment; its ``observation_space(params)`` is read if it has one.
      params: its parameters.
      observation: the result of ``observation_spec``.

    Returns:
      The ``n`` of a ``Discrete`` space that starts at 0, including one for the features of a ``Dict``. None if the
      observation is not a single integer or the space declares no number.
    """
    seen = features(observation)
    if (
        isinstance(seen, Text)
        or seen.shape != ()
        or not jnp.issubdtype(seen.dtype, jnp.integer)
        or not hasattr(env, "observation_space")
    ):
        return None
    space: Any = env.observation_space(params)
    if isinstance(observation, Observation):
        space = getattr(space, "spaces", {}).get("features")
    if isinstance(space, Discrete):
        return space.num_actions
    kinds = {cls.__name__ for cls in type(space).__mro__}
    return int(space.n) if "Discrete" in kinds and int(getattr(space, "start", 0)) == 0 else None


def observation_spec(observation: Any, action: Discrete | Box | Texts) -> Any:
    """Checks an abstract observation and reduces its leaves to ``jax.ShapeDtypeStruct``.

    Args:
      observation: an array, a ``Text`` or an ``Observation``, of arrays or of ``jax.ShapeDtypeStruct``.
      action: the action spec, which the mask has to fit.

    Raises:
      SpecError: the observation is not an array or an ``Observation``, a dtype is not numeric, or a mask does not fit.
    """
    if isinstance(observation, Text):
        return _text_spec(observation)
    if not isinstance(observation, Observation):
        return _array_spec("observation", observation)
    parts = {
        name: _array_spec(f"Observation.{name}", part)
        for name in ("features", "action_mask", "goal", "achieved_goal")
        if (part := getattr(observation, name)) is not None or name == "features"
    }
    mask = parts.get("action_mask")
    if mask is not None and not isinstance(action, Discrete):
        raise SpecError("Observation.action_mask: only Discrete actions can be masked, and these are a Box")
    if mask is not None and isinstance(action, Discrete) and mask != jax.ShapeDtypeStruct((action.num_actions,), bool):
        raise SpecError(
            f"Observation.action_mask: got {show(mask)}, must be bool[{action.num_actions}], one entry per action"
        )
    # Memory and simulator states are any pytrees of their owners; keys and weak types are left unchanged.
    free = {name: jax.tree.map(_struct, getattr(observation, name)) for name in ("memory", "env_state")}
    return Observation(**parts, **free)


def action_spec(space: Any) -> Discrete | Box | Texts:
    """Converts an action space.

    Args:
      space: ``Discrete`` or ``Box`` of gymnax, of Gymnasium (by the name of the class), or of ``jaxrl.types``, or
        ``jaxrl.types.Texts``.

    Raises:
      SpecError: the space is of another kind, or looks supported but is not (a Box of integers).
    """
    if isinstance(space, Discrete):
        return _discrete_spec(space.num_actions)
    if isinstance(space, Box):
        return _box_spec(space) and space
    if isinstance(space, Texts):
        return _texts_spec(space)
    kinds = {cls.__name__ for cls in type(space).__mro__}
    if "Discrete" in kinds:
        if int(getattr(space, "start", 0)) != 0:
            raise SpecError(
                f"action space {space!r}: got a start other than 0, must be 0; shift actions in the environment"
            )
        return _discrete_spec(space.n)
    if "Box" in kinds:
        return _box_spec(space)
    name = type(space).__name__
    raise SpecError(
        f"action space: got {name}, must be Discrete or Box. Flatten a MultiDiscrete or a Tuple of Discrete into one "
        "Discrete of all combinations, and a Dict or Tuple of Boxes into one Box, in a wrapper"
    )


def _discrete_spec(num: Any) -> Discrete:
    if isinstance(num, bool) or not np.issubdtype(np.asarray(num).dtype, np.integer) or np.shape(num) != ():
        raise SpecError(f"action space: got Discrete({num!r}), must have an integer number of actions, at least 1")
    if num < 1:
        raise SpecError(f"action space: got Discrete({num}), must have at least 1 action")
    return Discrete(int(num))


def _box_spec(space: Any) -> Box:
    if hasattr(space, "dtype") and not jnp.issubdtype(space.dtype, jnp.floating):
        raise SpecError(
            f"action space: got a Box of dtype {np.dtype(space.dtype).name}, must be a Box of floats; use one "
            "Discrete of all combinations for a multi-discrete space"
        )
    shape = tuple(int(size) for size in np.atleast_1d(np.asarray(space.shape, dtype=int)))
    if 0 in shape:
        raise SpecError(f"action space: got a Box of shape {shape}, must have at least one entry")
    low, high = (_bound(space, name, shape) for name in ("low", "high"))
    # Bounds that depend on traced parameters have no values to compare.
    if not isinstance(low, jax.core.Tracer) and not isinstance(high, jax.core.Tracer):
        if np.isnan(low).any() or np.isnan(high).any():
            raise SpecError(
                f"action space: got Box bounds low={low} high={high}, must not be NaN; use inf for no bound"
            )
        if not np.all((low <= high) & (low < np.inf) & (high > -np.inf)):
            raise SpecError(f"action space: got Box bounds low={low} high={high}, low must be at most high")
    return Box(shape, low, high)


def _texts_spec(space: Texts) -> Texts:
    for name, least in (("num_tokens", 2), ("length", 1), ("end", 0)):
        value = getattr(space, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise SpecError(f"action space: got {name}={value!r} in {space}, must be an integer of at least {least}")
    if space.end >= space.num_tokens:
        raise SpecError(f"action space: got end={space.end} in {space}, must be a token, below {space.num_tokens}")
    return space


def _text_spec(text: Text) -> Text:
    """A prompt ``[P]``: int32 tokens and their mask."""
    for name, dtype in (("tokens", jnp.int32), ("mask", jnp.bool_)):
        leaf = getattr(text, name)
        if not hasattr(leaf, "shape") or len(leaf.shape) != 1 or leaf.dtype != dtype or leaf.shape != text.mask.shape:
            shown = show(leaf)
            raise SpecError(f"Text.{name}: got {shown}, must be {jnp.dtype(dtype).name}[P], one for each token")
    return Text(_struct(text.tokens), _struct(text.mask))


def _bound(space: Any, name: str, shape: tuple[int, ...]) -> Any:
    bound = getattr(space, name)
    try:
        if isinstance(bound, jax.core.Tracer):
            return jnp.broadcast_to(bound, shape)
        # A copy, because a broadcast view is read-only and keeps its base alive.
        return np.array(np.broadcast_to(np.asarray(bound, np.float32), shape))
    except ValueError as error:
        raise SpecError(f"action space: got {name} of shape {np.shape(bound)}, must fit the Box's {shape}") from error


def _struct(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _array_spec(name: str, value: Any) -> jax.ShapeDtypeStruct:
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise SpecError(
            f"{name}: got a {type(value).__name__}, must be one array. Concatenate its parts, or build "
            "jaxrl.types.Observation(features=..., action_mask=..., goal=...) in a wrapper around the environment"
        )
    leaf = _struct(value)
    if 0 in leaf.shape:
        raise SpecError(
            f"{name}: got {show(leaf)}, must have at least one entry. An environment without observations can return a "
            "constant, jnp.zeros(1)"
        )
    if not (jnp.issubdtype(leaf.dtype, jnp.bool_) or jnp.issubdtype(leaf.dtype, jnp.integer)) and not jnp.issubdtype(
        leaf.dtype, jnp.floating
    ):
        raise SpecError(f"{name}: got dtype {leaf.dtype}, must be a float, an integer, an unsigned integer or a bool")
    return leaf
