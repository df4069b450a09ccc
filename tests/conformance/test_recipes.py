"""Every recipe x every property. A new recipe joins by a line of ``RECIPES``."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import pytest

from jaxrl.agents import a2c, ppo, reinforce
from jaxrl.envs import probes, spec
from jaxrl.networks import MLP, Conv
from jaxrl.training.check import PROPERTIES, Subject


class Recipe(NamedTuple):
    """A recipe, and what it is given.

    Attributes:
      make: the recipe, its structural options bound.
      full: options that are off by default, switched on in the continuous case; its floats are vmapped over too.
      exempt: properties that it does not promise.
    """

    make: Any
    full: dict[str, Any]
    exempt: tuple[str, ...] = ()


NORMALIZED = {"normalize_observation": True, "normalize_reward": True}

RECIPES = {
    "reinforce": Recipe(reinforce, {**NORMALIZED, "max_grad_norm": 0.5, "state_dependent_std": True}),
    "reinforce_plain": Recipe(partial(reinforce, baseline=False), {**NORMALIZED, "entropy_coef": 0.01}),
    "a2c": Recipe(a2c, {**NORMALIZED, "huber_delta": 1.0, "squash": True, "share_torso": True}),
    "ppo": Recipe(ppo, {**NORMALIZED, "clip_value_epsilon": 0.2, "target_kl": 0.02, "anneal_clip": True}),
}

ENVIRONMENTS = {
    "discrete": (probes.DiscountProbe(), MLP(hidden=(8,))),
    "continuous": (probes.DiscountProbe(continuous=True), MLP(hidden=(8,))),
    "image": (probes.ImageProbe(), Conv(channels=(2,), hidden=(8,))),
}

CASES = [
    (recipe, environment, property_)
    for recipe in RECIPES
    for environment in ENVIRONMENTS
    for property_ in PROPERTIES
    # Options that matter for continuous actions alone are tried with those in every environment.
    if (environment == "discrete" or property_ != "options_matter") and property_ not in RECIPES[recipe].exempt
]


@lru_cache(maxsize=1)  # tests of one case follow each other and share its programs
def subject(recipe, environment):
    env, torso = ENVIRONMENTS[environment]
    options = dict(RECIPES[recipe].full) if environment == "continuous" else {}
    if options.get("anneal_clip"):
        options["num_updates"] = 10
    make = partial(RECIPES[recipe].make, torso=torso, **options)
    return Subject(make, env, env.default_params, spec=spec(env, env.default_params))


@pytest.mark.parametrize(("recipe", "environment", "property_"), CASES)
def test_conformance(recipe, environment, property_):
    PROPERTIES[property_](subject(recipe, environment))
