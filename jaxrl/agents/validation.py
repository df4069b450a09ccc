"""Checks of hyper-parameters on the host, before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxrl import networks
from jaxrl.arguments import ANY, INNER_UNIT, NON_NEGATIVE, POSITIVE, UNIT, check_callable, check_count, check_float
from jaxrl.types import Box, Discrete, Spec, memory

_FLOATS = {
    "learning_rate": NON_NEGATIVE,
    "actor_learning_rate": NON_NEGATIVE,
    "gamma": UNIT,
    "gae_lambda": UNIT,
    "clip_epsilon": NON_NEGATIVE,
    "clip_value_epsilon": NON_NEGATIVE,
    "huber_delta": POSITIVE,
    "value_coef": NON_NEGATIVE,
    "entropy_coef": ANY,
    "max_grad_norm": POSITIVE,
    "target_kl": POSITIVE,
    "initial_log_std": ANY,
    "tau": UNIT,
    "td_lambda": UNIT,
    "omega": UNIT,
    "initial_value": ANY,
    "epsilon_start": UNIT,
    "epsilon_end": UNIT,
    "noisy_sigma": NON_NEGATIVE,
    "max_kl": POSITIVE,
    "damping": NON_NEGATIVE,
    "backtrack_decay": INNER_UNIT,
}
_OPTIONAL = {"actor_learning_rate", "clip_value_epsilon", "huber_delta", "max_grad_norm", "target_kl"}
_SWITCHES = (
    "share_torso",
    "baseline",
    "normalize_advantage",
    "normalize_observation",
    "normalize_reward",
    "anneal_learning_rate",
    "anneal_clip",
    "squash",
    "state_dependent_std",
    "double",
    "dueling",
    "noisy",
    "prioritized",
)
_COUNTS = (
    "num_epochs",
    "num_minibatches",
    "replay_capacity",
    "n_step",
    "batch_size",
    "num_gradient_steps",
    "target_interval",
    "epsilon_steps",
    "num_cg_steps",
    "num_simulations",
    "num_backtracks",
)


_FUNCTIONS = {
    "loss": "a loss (outputs, batch, settings) -> (scalar, metrics)",
    "optimizer": "a function from a learning rate to an optax optimizer",
    "replay": "a function (capacity, *, n_step, gamma) -> Replay such as jaxrl.replay.uniform, or None",
}


def check_no_memory(spec: Spec, torso: Any) -> None:
    """Refuses a torso that remembers, and an environment that feeds a memory back.

    Raises:
      TypeError: naming it, and what there is instead.
    """
    instead = "reinforce, a2c, ppo and trpo do; or show this recipe the last steps, envs.window(env, k)"
    if networks.is_recurrent(torso):
        raise TypeError(
            f"torso: {type(torso).__name__} remembers, and this recipe does not learn from memories; {instead}"
        )
    if memory(spec.observation) is not None:
        raise TypeError(f"spec: the environment feeds a memory back, which this recipe does not have; {instead}")


def check_arguments(arguments: Mapping[str, Any], *, remembers: bool = False) -> None:
    """Checks the arguments of a recipe, those it has of the ones known here.

    Args:
      arguments: by name.
      remembers: whether the recipe takes torsos with a memory.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    spec, torso = arguments["spec"], arguments.get("torso")
    if not isinstance(spec, Spec) or not isinstance(spec.action, (Discrete, Box)):
        raise TypeError(f"spec: got {spec!r}, must be a Spec, from jaxrl.spec(env, params)")
    if torso is not None and not isinstance(torso, nn.Module):
        raise TypeError(f"torso: got {torso!r}, must be a Flax module such as MLP() or None")
    if not remembers:
        check_no_memory(spec, torso)
    heads = arguments.get("heads")
    if heads is not None and not isinstance(heads, Mapping):
        raise TypeError(f"heads: got {heads!r}, must be a dict from names to Flax modules, or None")
    for name, head in (heads or {}).items():
        if not isinstance(head, nn.Module):
            raise TypeError(f"heads[{name!r}]: got {head!r}, must be a Flax module")
    for name, takes in _FUNCTIONS.items():
        if name in arguments and not (name == "replay" and arguments[name] is None):
            check_callable(name, arguments[name], takes)
    for name, allowed in _FLOATS.items():
        if name in arguments:
            check_float(name, arguments[name], allowed, name in _OPTIONAL)
    for name in _COUNTS:
        if name in arguments:
            check_count(name, arguments[name])
    if "learning_starts" in arguments:
        check_count("learning_starts", arguments["learning_starts"], least=0)
    if arguments.get("clip_value_epsilon") is not None and arguments.get("huber_delta") is not None:
        raise ValueError("huber_delta: the clipped value loss is a square, set clip_value_epsilon to None to use it")
    annealed = [name for name in ("anneal_learning_rate", "anneal_clip") if arguments.get(name)]
    num_updates = arguments.get("num_updates")
    if annealed and num_updates is None:
        raise ValueError(f"num_updates: {annealed[0]} needs the number of updates to anneal over, got None")
    if num_updates is not None and not isinstance(num_updates, jax.core.Tracer):
        check_count("num_updates", num_updates)
    for name in _SWITCHES:
        if name in arguments and not isinstance(arguments[name], (bool, np.bool_)):
            raise TypeError(f"{name}: got {arguments[name]!r}, must be True or False")
