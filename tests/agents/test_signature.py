"""One signature and one docstring for a recipe and what it extends."""

import inspect
import typing

import pytest

from jaxrl.agents import c51, dqn, rainbow
from jaxrl.agents.action_values import action_values
from jaxrl.agents.signature import extends


def base(spec: str, *, size: int = 3, rate: float = 0.5, kind: str) -> tuple:
    """Makes a thing.

    Args:
      spec: what it is for.
      size: how many, and that
        in two lines.
      rate: how fast.
      kind: set by recipes.

    Returns:
      A tuple.
    """
    return spec, size, rate, kind


@extends(base, without=("kind",))
def recipe(spec: str, *, colour: str | None = None, rate: float = 0.25, **options: typing.Any) -> tuple:
    """Makes a coloured thing.

    Args:
      spec: what it is for.
      colour: of the thing.
      rate: how fast, slower here.

    Returns:
      A tuple and a colour.
    """
    return (*base(spec, rate=rate, kind="coloured", **options), colour)


@extends(recipe)
def variant(spec: str, *, colour: str = "red", **options: typing.Any) -> tuple:
    """Makes a red thing.

    Args:
      spec: what it is for.
      colour: red.
    """
    return recipe(spec, colour=colour, **options)


def test_calls_go_through():
    assert recipe("x") == ("x", 3, 0.25, "coloured", None)
    assert recipe("x", size=4, colour="blue") == ("x", 4, 0.25, "coloured", "blue")
    assert variant("x", size=4, rate=1.0) == ("x", 4, 1.0, "coloured", "red")


def test_signature_holds_both_the_own_first():
    parameters = inspect.signature(recipe).parameters
    assert list(parameters) == ["spec", "colour", "rate", "size"]
    assert {name: parameters[name].default for name in ("colour", "rate", "size")} == {
        "colour": None,
        "rate": 0.25,
        "size": 3,
    }
    assert typing.get_type_hints(recipe) == {
        "spec": str,
        "colour": str | None,
        "rate": float,
        "size": int,
        "return": tuple,
    }
    assert (recipe.__name__, recipe.__module__) == ("recipe", __name__)
    assert list(inspect.signature(variant).parameters) == ["spec", "colour", "rate", "size"]
    assert inspect.signature(variant).parameters["colour"].default == "red"


def test_docstring_holds_both():
    lines = inspect.cleandoc(recipe.__doc__).splitlines()
    start = lines.index("Args:")
    assert lines[start + 1 : lines.index("Returns:") - 1] == [
        "  spec: what it is for.",
        "  colour: of the thing.",
        "  rate: how fast, slower here.",
        "  size: how many, and that",
        "    in two lines.",
    ]
    assert lines[0] == "Makes a coloured thing." and lines[-1] == "  A tuple and a colour."
    assert variant.__doc__.count("colour: red.") == 1 and "in two lines." in variant.__doc__


def test_unknown_options_are_refused_by_name():
    for name in ("kind", "sise"):
        with pytest.raises(TypeError, match=f"recipe: unknown option '{name}'; it takes spec, colour, rate, size"):
            recipe("x", **{name: "y"})


@pytest.mark.parametrize("made", [dqn, c51, rainbow])
def test_recipes_of_action_values_take_all_its_options(made):
    own = set(inspect.signature(action_values).parameters) - {"criterion", "name"}
    assert own < set(inspect.signature(made).parameters)
    for name in inspect.signature(made).parameters:
        assert made.__doc__.count(f"\n      {name}: ") == 1
    assert inspect.signature(rainbow).parameters["n_step"].default == 3
