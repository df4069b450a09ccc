"""Recipes check their arguments; a recipe and what it extends have one signature and one docstring."""

import inspect
import typing

import docstring_parser
import jax
import pytest

import jaxrl
from jaxrl import agents
from jaxrl.arguments import Count, NonNegative, Positive, Unit
from jaxrl.runs.recipes import filled_in
from jaxrl.signature import Torso, recipe
from jaxrl.types import Spec


def base(spec: str, *, size: Count = 3, rate: NonNegative = 0.5, kind: str) -> tuple:
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


@recipe(extends=base, without=("kind",))
def coloured(spec: str, *, colour: str | None = None, rate: Unit = 0.25, **options: typing.Any) -> tuple:
    """Makes a coloured thing.

    Args:
      spec: what it is for.
      colour: of the thing.
      rate: how fast, slower here.

    Returns:
      A tuple and a colour.
    """
    return (*base(spec, rate=rate, kind="coloured", **options), colour)


@recipe(extends=coloured)
def variant(spec: str, *, colour: str = "red", **options: typing.Any) -> tuple:
    """Makes a red thing.

    Args:
      spec: what it is for.
      colour: red.
    """
    return coloured(spec, colour=colour, **options)


@recipe
def plain(
    spec: str, *, rate: NonNegative = 0.5, limit: Positive | None = None, torso: Torso | None = None, fast: bool = False
) -> tuple:
    """Makes a plain thing.

    Args:
      spec: what it is for.
      rate: how fast.
      limit: of the rate.
      torso: a network.
      fast: at once.
    """
    return spec, rate, limit, torso, fast


def test_calls_go_through():
    assert plain("x", fast=True) == plain(spec="x", fast=True) == ("x", 0.5, None, None, True)
    assert coloured("x") == ("x", 3, 0.25, "coloured", None)
    assert coloured("x", size=4, colour="blue") == ("x", 4, 0.25, "coloured", "blue")
    assert variant("x", size=4, rate=1.0) == ("x", 4, 1.0, "coloured", "red")


def test_signature_holds_both_the_own_first():
    parameters = inspect.signature(coloured).parameters
    assert list(parameters) == ["spec", "colour", "rate", "size"]
    assert {name: parameters[name].default for name in ("colour", "rate", "size")} == {
        "colour": None,
        "rate": 0.25,
        "size": 3,
    }
    hints = {"spec": str, "colour": str | None, "rate": float, "size": int, "return": tuple}
    assert typing.get_type_hints(coloured) == hints
    assert {name: parameter.annotation for name, parameter in parameters.items()} | {"return": tuple} == hints
    assert (coloured.__name__, coloured.__module__) == ("coloured", __name__)
    assert list(inspect.signature(variant).parameters) == ["spec", "colour", "rate", "size"]
    assert inspect.signature(variant).parameters["colour"].default == "red"


def test_hints_hold_the_ranges_on_request():
    assert typing.get_type_hints(coloured, include_extras=True)["rate"] == Unit, "its own"
    assert typing.get_type_hints(variant, include_extras=True)["size"] == Count
    assert typing.get_type_hints(plain, include_extras=True)["limit"] == Positive | None
    assert typing.get_type_hints(plain)["limit"] == float | None


def test_docstring_holds_both():
    lines = coloured.__doc__.splitlines()
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


@pytest.mark.parametrize("indent", ["", "    ", "        "], ids=len)
def test_docstrings_are_joined_whatever_their_indentation(indent):
    """Python 3.13 strips it, older ones keep it."""

    def indented(function):
        lines = inspect.cleandoc(function.__doc__).splitlines()
        return lines[0] + "".join(f"\n{indent}{line}" if line else "\n" for line in lines[1:]) + f"\n{indent}"

    def stem(spec: str, *, size: int = 3) -> None: ...

    def own(spec: str, **options: typing.Any) -> None: ...

    stem.__doc__, own.__doc__ = indented(base), "Makes it.\n\nArgs:\n  spec: own.\n\nReturns:\n  It."
    own.__doc__ = indented(own)
    joined = recipe(extends=stem)(own).__doc__
    assert joined == (
        "Makes it.\n\nArgs:\n  spec: own.\n  size: how many, and that\n    in two lines.\n\nReturns:\n  It."
    )
    documented = {entry.arg_name: entry.description for entry in docstring_parser.parse(joined).params}
    assert documented == {"spec": "own.", "size": "how many, and that\nin two lines."}


def test_undocumented_functions_can_be_extended():
    def stem(spec: str, *, size: int = 3) -> None: ...

    def own(spec: str, **options: typing.Any) -> None: ...

    assert recipe(extends=stem)(own).__doc__ == ""
    parsed = docstring_parser.parse(recipe(extends=base)(own).__doc__)
    assert {"size", "rate", "kind"} <= {entry.arg_name for entry in parsed.params}


def test_unknown_options_are_refused_by_name_with_the_nearest():
    for name in ("kind", "colours"):
        with pytest.raises(TypeError, match=f"coloured: unknown option '{name}'.*it takes spec, colour, rate, size"):
            coloured("x", **{name: "y"})
    with pytest.raises(TypeError, match="coloured.*'sise'.*'size'"):
        coloured("x", sise=3)
    with pytest.raises(TypeError, match="plain.*'limits'.*'limit'"):
        plain("x", limits=3.0)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: plain("x", rate=-1.0), ValueError, "rate.*-1"),
        (lambda: plain("x", rate="fast"), TypeError, "rate.*'fast'"),
        (lambda: plain("x", limit=0), ValueError, "limit.*0"),
        (lambda: plain("x", torso=3), TypeError, r"torso.*3.*MLP\(\)"),
        (lambda: plain("x", fast=1), TypeError, "fast.*1"),
        (lambda: plain(3), TypeError, "spec.*3"),
        (lambda: coloured("x", size=0), ValueError, "size.*0"),
        (lambda: variant("x", rate=2.0), ValueError, "rate.*2"),
        (lambda: plain(), TypeError, "spec"),
        (lambda: plain("x", 0.5), TypeError, "positional"),
    ],
)
def test_arguments_are_checked_by_their_annotations(call, error, named):
    with pytest.raises(error, match=named):
        call()


def test_floats_may_be_tracers():
    assert float(jax.jit(lambda rate: plain("x", rate=rate, limit=rate)[1])(0.5)) == 0.5


def test_a_spec_is_checked_with_its_actions():
    @recipe
    def own(spec: Spec) -> Spec:
        return spec

    spec = jaxrl.spec(*jaxrl.make("CartPole-v1"))
    assert own(spec) is spec
    for wrong in (3, spec._replace(action=None)):
        with pytest.raises(TypeError, match=r"^spec.*jaxrl\.spec"):
            own(wrong)


@pytest.mark.parametrize("name", agents.__all__)
def test_every_argument_of_a_recipe_is_documented_once(name):
    made = getattr(agents, name)
    documented = [entry.arg_name for entry in docstring_parser.parse(made.__doc__).params]
    assert sorted(documented) == sorted(inspect.signature(made).parameters)


def test_recipes_of_recipes_keep_what_differs():
    assert inspect.signature(agents.rainbow).parameters["n_step"].default == 3
    assert set(inspect.signature(agents.c51).parameters) <= set(inspect.signature(agents.rainbow).parameters)


def test_a_run_fills_in_what_a_recipe_says():
    """The simulator by its declaration alone: an argument called ``model`` may be any other model."""

    @recipe(extends=agents.alphazero, without=("symmetries",))
    def forked(spec, **options):
        return agents.alphazero(spec, **options)

    @recipe
    def dreamer(spec, *, model=None, num_updates=1):
        return model, num_updates

    assert agents.alphazero.fills == {
        "num_updates": "num_updates",
        "model": "simulator",
        "symmetries": "symmetries",
    }
    assert forked.fills == {"num_updates": "num_updates", "model": "simulator"}
    assert dreamer.fills == filled_in(dreamer) == {"num_updates": "num_updates"}
    assert filled_in(lambda spec, model: None) == {}


def test_an_agent_prints_as_one_line():
    spec = jaxrl.spec(jaxrl.make("CartPole-v1")[0])
    assert repr(jaxrl.ppo(spec)) == "<Agent of ppo: init, act, update>"
