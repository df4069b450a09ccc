"""The part of the protocol that shapes and types can show. ``spec``, ``check`` and ``rollout`` check it while tracing.

A message names what was given, what is allowed and what to do. JAX would fail later, with an error about a scan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import arguments
from jaxrl.types import PyTree

SIGNATURES = {
    "reset": ("key", "params"),
    "step": ("key", "state", "action", "params"),
    "action_space": ("params",),
}
"""The methods of an environment and their arguments."""


class ProtocolError(AssertionError):
    """An environment breaks a rule of the protocol; the message starts with the rule."""


require = partial(arguments.require, ProtocolError)
"""``(holds, promise, message)``: raises ``ProtocolError("promise: message")`` unless ``holds``."""


def check_environment(env: Any, *methods: str) -> None:
    """Refuses an object that is not an environment, or whose methods take other arguments.

    Args:
      env: the object.
      *methods: the methods that will be called.

    Raises:
      ProtocolError: the message names the object or the method.
    """
    kind = type(env)
    misplaced: dict[Any, tuple[str, str]] = {
        str: (f"the name {env!r}", f"make it: env, params = jaxrl.make({env!r})"),
        tuple: ("a tuple", "jaxrl.make returns (env, params), so pass the two separately"),
    }
    if isinstance(env, type):
        misplaced[kind] = f"the class {env.__name__}", "make an instance of it"
    if kind in misplaced:
        found, fix = misplaced[kind]
        raise ProtocolError(f"environment: got {found}, must be an environment; {fix}")
    packages = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if packages & {"gymnasium", "gym"}:
        raise ProtocolError(f"environment: got a Gymnasium environment ({_gymnasium_name(env)}), {_gymnasium_fix(env)}")
    for name in methods:
        require(hasattr(env, name), "members", f"{kind.__name__} has no {name}; define {_declaration(name)}")
    for name in methods:
        _check_method(env, name)


def host_of(env: Any) -> Any:
    """The layer of an environment that lives outside JAX, such as a ``HostEnv`` in its wrappers; None without one."""
    while env is not None and not getattr(env, "is_host", False):
        env = getattr(env, "env", None)
    return env


def success_of(env: Any) -> Callable[[Any, Any], Any] | None:
    """The ``success_fn(achieved_goal [..., G], goal [..., G]) -> [...]`` bool of a goal environment, through wrappers.

    None for an environment without goals, or whose successes are not known.
    """
    while env is not None and not hasattr(env, "success_fn"):
        env = getattr(env, "env", None)
    return None if env is None else env.success_fn


def is_host(env: Any) -> bool:
    """Whether an environment lives outside JAX, so that its states can't be copied or saved."""
    return host_of(env) is not None


def _gymnasium_name(env: Any) -> str:
    return getattr(getattr(env, "spec", None), "id", None) or type(env).__name__


def _gymnasium_fix(env: Any) -> str:
    from jaxrl.envs.registry import available

    name = _gymnasium_name(env)
    known = f", and jaxrl.make({name!r}) makes this task in JAX" if name in available() else ""
    return (
        "must follow jaxrl.envs.protocol, with reset(key, params) and step(key, state, action, params) of arrays; "
        f"jaxrl.make('gymnasium/{name}') makes one of a registered environment{known}"
    )


def _declaration(name: str) -> str:
    return f"{name}({', '.join(('self', *SIGNATURES[name]))}=None)"


def _check_method(env: Any, name: str) -> None:
    kind, arguments, declaration = type(env).__name__, SIGNATURES[name], _declaration(name)
    method = getattr(env, name)
    found = f"{kind}.{name} is a {type(method).__name__}, must be a method; declare {declaration}"
    require(callable(method), name, found)
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return  # written in C
    try:
        signature.bind(*arguments)
    except TypeError:
        call = f"{name}({', '.join(arguments)})"
        message = f"{name}: {kind}.{name} takes {signature}, must be called as {call}; declare {declaration}"
        raise ProtocolError(message) from None


def _kind(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, (tuple, list)) else type(result).__name__


def check_reset(result: Any) -> tuple[Any, PyTree]:
    """Checks that a reset returned an observation and a state, and returns them.

    Raises:
      ProtocolError: it did not, or the observation is empty.
    """
    pair = isinstance(result, tuple) and len(result) == 2
    require(pair, "reset", f"got {_kind(result)}, must be (observation, state)")
    return result


def check_step(result: Any) -> tuple[Any, PyTree, Any, Any, Any, dict[Any, Any]]:
    """Checks that a step returned six values of the right kinds, and returns them.

    Raises:
      ProtocolError: a value is wrong; the message names it.
    """
    expected = "must be six values (observation, state, reward, terminated, truncated, info)"
    hint = " (the old protocol has one done); return terminated and truncated" if _is_old(result) else ""
    require(isinstance(result, tuple) and len(result) == 6, "step", f"got {_kind(result)}, {expected}{hint}")
    reward, terminated, truncated, info = result[2:]
    require(isinstance(info, dict), "info", f"got {type(info).__name__}, must be a dict")
    require("final_observation" in info, "final_observation", "missing in info, must be there at every step")
    for path, leaf in jax.tree_util.tree_leaves_with_path(info):
        where = f"info{jax.tree_util.keystr(path)}"
        require(_is_array(leaf), "info", f"{where}: got {type(leaf).__name__}, must be an array; leave it out")
    require(_is_real(reward), "reward", f"got {show(reward)}, must be a real scalar; {_fix_of_reward(reward)}")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        holds = _is_array(flag) and np.shape(flag) == () and _dtype(flag) == jnp.bool_
        require(holds, name, f"got {show(flag)}, must be a bool scalar")
    if "discount" in info:
        discount = info["discount"]
        require(_is_real(discount), "discount", f'info["discount"]: got {show(discount)}, must be a real scalar')
    return result


def _is_old(result: Any) -> bool:
    return isinstance(result, tuple) and len(result) == 5


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (bool, int, float, complex)) or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))


def _dtype(leaf: Any) -> Any:
    """The dtype of a leaf once it is a JAX array."""
    return leaf.dtype if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)) else jax.typeof(leaf).dtype


def _is_real(leaf: Any) -> bool:
    if not _is_array(leaf) or np.shape(leaf) != ():
        return False
    return jnp.issubdtype(_dtype(leaf), jnp.floating) or jnp.issubdtype(_dtype(leaf), jnp.integer)


def _fix_of_reward(reward: Any) -> str:
    if not _is_array(reward):
        return "return an array such as jnp.float32(1.0)"
    if np.shape(reward) != ():
        return "return its sum or its only entry"
    return "convert it: reward.astype(jnp.float32)"


def show(leaf: Any) -> str:
    """Type and shape of an array, such as ``float32[3]``, or the type of any other object."""
    return f"{_dtype(leaf)}{list(np.shape(leaf))}" if _is_array(leaf) else f"a {type(leaf).__name__}"


def require_same(promise: str, at_reset: PyTree, at_step: PyTree) -> None:
    """Refuses a tree whose structure, shapes or dtypes differ between ``reset`` and ``step``, which no scan allows.

    Raises:
      ProtocolError: a leaf differs; the message names it.
    """
    # Annotated because JAX leaves the type of a structure untyped.
    before: Any = jax.tree.structure(at_reset)
    after: Any = jax.tree.structure(at_step)
    message = f"got structure {before} at reset and {after} in step, must be the same"
    require(before == after, promise, message)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(at_reset), jax.tree.leaves(at_step), strict=True):
        where = f"{jax.tree_util.keystr(path)}: " if path else ""
        same = np.shape(x) == np.shape(y) and _dtype(x) == _dtype(y)
        require(
            same,
            promise,
            f"{where}got {show(x)} at reset and {show(y)} in step, must be the same",
        )


def require_arrays(promise: str, tree: PyTree) -> None:
    """Refuses Python numbers in place of arrays.

    They pass through ``vmap``. But code that calls ``step`` directly finds no ``.dtype`` and no ``.astype``, and a weak
    type makes the next step trace again.

    Raises:
      ProtocolError: a leaf is a Python number; the message names it.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = f"{jax.tree_util.keystr(path)}: " if path else ""
        found = f"{where}got the Python {type(leaf).__name__} {leaf!r}, must be an array: "
        fix = f"jnp.asarray({leaf!r}, jnp.float32)" if not isinstance(leaf, bool) else f"jnp.bool_({leaf!r})"
        require(not isinstance(leaf, (bool, int, float, complex)), promise, found + fix)
