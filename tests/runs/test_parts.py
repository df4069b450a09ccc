"""Parts by name: what they are made of, and how a default is named."""

from functools import partial
from typing import Any, Literal

import pytest

from jaxrl import envs, networks
from jaxrl.runs import parts, recipes
from jaxrl.runs.parts import PARTS, Part, default_part, described, make_part, maker, parts_of, settings_of
from jaxrl.runs.recipes import RECIPES, UnknownName

SETTINGS = [(part, choice) for part in PARTS for choice in PARTS[part].choices]


@pytest.mark.parametrize(("part", "choice"), SETTINGS)
def test_settings_are_documented_arguments(part, choice):
    settings = settings_of(part, choice)
    assert not {"parent", "name", "num_updates"} & set(settings)
    assert all(setting.help for setting in settings.values())
    # PointReach has goals, which hindsight needs.
    env, params = envs.make("Reverse-2" if part in ("network", "start") else "PointReach")
    assert make_part(part, choice, {name: setting.default for name, setting in settings.items()}, env, params)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("environment", ["CartPole-v1", "Breakout-MinAtar"])
def test_the_default_of_every_recipe_has_a_name(recipe, environment):
    spec = envs.spec(*envs.make(environment))
    for part in parts_of(recipe):
        name, settings = default_part(recipe, part, spec) or (None, None)
        if name is None:  # left to the recipe
            continue
        assert set(settings) == set(settings_of(part, name))
        if part == "torso":
            of_images = "residual" if recipe in ("alphazero", "muzero") else "conv"
            assert name == (of_images if "MinAtar" in environment else "mlp")


def test_a_torso_is_made_of_its_sizes():
    settings = {"hidden": (8,), "activation": "relu", "layer_norm": True}
    assert make_part("torso", "mlp", settings, None, None) == networks.MLP((8,), "relu", True)
    with pytest.raises(ValueError, match="torso.hidden: got 8 0, sizes must be at least 1"):
        make_part("torso", "mlp", {"hidden": (8, 0)}, None, None)
    with pytest.raises(ValueError, match="torso.num_heads: got 3, must divide width=32"):
        make_part("torso", "transformer", {"num_heads": 3}, None, None)
    with pytest.raises(UnknownName, match="unknown torso 'mpl', did you mean 'mlp'"):
        make_part("torso", "mpl", {}, None, None)


def plain(capacity, *, gamma):
    """Keeps all."""
    return ("plain", capacity, gamma)


def skewed(capacity, *, gamma, alpha: Any = 0.6, mode: Literal["sum", "max"] = "sum", until: Any = None, inner=plain):
    """Keeps some.

    Args:
      capacity: how many.
      gamma: discount.
      alpha: how skewed.
      mode: which way.
      until: a number, perhaps.
      inner: an object.
    """
    return ("skewed", capacity, gamma, alpha, mode)


def test_a_maker_is_left_to_the_recipe_with_its_settings_bound(monkeypatch):
    monkeypatch.setitem(PARTS, "memory", Part("Where it is kept.", {"plain": maker(plain), "skewed": maker(skewed)}))
    assert settings_of("memory", "plain") == {}, "what has no default is the recipe's to give"
    assert {name: setting.default for name, setting in settings_of("memory", "skewed").items()} == {
        "alpha": 0.6,
        "mode": "sum",
    }
    assert make_part("memory", "plain", {}, None, None)(3, gamma=1) == ("plain", 3, 1)
    made = make_part("memory", "skewed", {"alpha": 0.5, "mode": "max"}, None, None)
    assert made(3, gamma=1) == ("skewed", 3, 1, 0.5, "max")


@pytest.mark.parametrize(
    ("default", "named"),
    [
        (None, None),
        (plain, ("plain", {})),
        (skewed, ("skewed", {"alpha": 0.6, "mode": "sum"})),
        (partial(skewed, alpha=0.1), ("skewed", {"alpha": 0.1, "mode": "sum"})),
    ],
)
def test_a_default_is_found_by_what_it_is(monkeypatch, default, named):
    def recipe(spec, *, memory=default):
        """A recipe."""

    monkeypatch.setitem(recipes.RECIPES, "recipe", recipe)
    monkeypatch.setitem(PARTS, "memory", Part("Where it is kept.", {"plain": maker(plain), "skewed": maker(skewed)}))
    assert parts_of("recipe") == ["memory", "feedback"]
    assert parts.default_part("recipe", "memory", None) == named
    monkeypatch.setitem(PARTS, "memory", Part("Where it is kept.", {}))
    if default is None:
        return
    name, _ = parts.default_part("recipe", "memory", None)
    assert name == f"{__name__}:{named[0]}", "by its import, where it is in no table"
    monkeypatch.setattr(plain, "__qualname__", "<lambda>")
    monkeypatch.setattr(skewed, "__qualname__", "<lambda>")
    with pytest.raises(LookupError, match="memory: got .*, must be in the table of parts or importable"):
        parts.default_part("recipe", "memory", None)


@pytest.mark.parametrize(("recipe", "part", "name"), [("mpc", "planner", "cem"), ("muzero", "search", "gumbel")])
def test_a_default_may_be_a_name_of_the_table(recipe, part, name):
    spec = envs.spec(*envs.make("CartPole-v1"))
    found, settings = default_part(recipe, part, spec)
    assert found == name and settings == {key: each.default for key, each in settings_of(part, name).items()}
    assert described(part, name) == (found, settings)
