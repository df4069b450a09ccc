"""What completion shows of a public module: the names in its ``__all__``, and no imports."""

import inspect
from types import ModuleType

import pytest

import jaxrl


def public_modules(module):
    """A module, and the modules of the library in its ``__all__``, at any depth."""
    yield module
    for name in module.__all__:
        member = getattr(module, name)
        if isinstance(member, ModuleType) and member.__name__.startswith("jaxrl."):
            yield from public_modules(member)


MODULES = {module.__name__: module for module in public_modules(jaxrl)}


@pytest.mark.parametrize("name", MODULES)
def test_completion_shows_public_names(name):
    module = MODULES[name]
    shown = {name for name in dir(module) if not name.startswith("_")}
    folders = {"combinators", "parts", "players", "presets"} if name == "jaxrl.agents" else set()
    assert shown == set(module.__all__) | folders and len(module.__all__) == len(set(module.__all__))


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_lists_its_functions_and_classes(name):
    module = MODULES[name]
    made_here = {
        name
        for name, member in vars(module).items()
        if name[0] != "_"
        and (inspect.isfunction(member) or inspect.isclass(member))
        and member.__module__ == module.__name__
    }
    assert made_here <= set(module.__all__)
