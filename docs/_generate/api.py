"""The reference of every public name: a page for each public package, written by mkdocstrings from the docstrings."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from types import ModuleType

import jaxrl

MORE = (
    "agents.combinators",
    "agents.parts.functions",
    "agents.players",
    "arguments",
    "hoist",
    "processes",
    "signature",
)
"""Public modules that ``jaxrl`` does not list."""


def public(module: ModuleType) -> list[str]:
    """The public names of a module: those of ``__all__``, or the functions and classes that are defined in it."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("_")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def modules() -> dict[str, ModuleType]:
    """All public modules by their dotted names."""
    found = {}
    for name in (f"jaxrl.{package}" for package in (*jaxrl._PACKAGES, *MORE)):
        module = import_module(name)
        found[name] = module
        for inner in public(module):
            if isinstance(value := getattr(module, inner), ModuleType) and value.__name__.startswith(f"{name}."):
                found[value.__name__] = value
    return found


def home(module: ModuleType, name: str) -> str:
    """Where mkdocstrings finds an object: in the module that defines it."""
    value = getattr(module, name)
    defined, known = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    ours = isinstance(defined, str) and defined.startswith("jaxrl.") and known == getattr(value, "__name__", None)
    return f"{defined}.{known}" if ours and known else f"{module.__name__}.{name}"


def names() -> dict[str, dict[str, str]]:
    """``names()[module][name]`` is the home of each public object; each has one page, that of the innermost module."""
    found: dict[str, dict[str, str]] = {}
    taken: set[str] = set()
    for dotted, module in sorted(modules().items(), key=lambda item: -item[0].count(".")):
        homes = {name: home(module, name) for name in public(module) if not is_module(module, name)}
        found[dotted] = {name: where for name, where in homes.items() if where not in taken}
        taken |= set(homes.values())
    return dict(sorted(found.items()))


def is_module(module: ModuleType, name: str) -> bool:
    """Whether a public name is a module."""
    return isinstance(getattr(module, name), ModuleType)


def page_of(dotted: str) -> str:
    """The page of a module."""
    return f"api/{dotted.removeprefix('jaxrl.')}.md"


def pages() -> dict[str, str]:
    """The text of each page, and of the list of what ``import jaxrl`` gives."""
    found = {"api/index.md": index()}
    for dotted, homes in names().items():
        about = (inspect.getdoc(import_module(dotted)) or "").strip().replace("``", "`")
        parts = [f"# {dotted}", re.sub(r"^ +(?=\S)", "- ", about, flags=re.MULTILINE)]  # legends are indented
        for name, where in homes.items():
            parts.append(f"::: {where}\n    options:\n      heading: {name}\n      toc_label: {name}")
        found[page_of(dotted)] = "\n\n".join(parts) + "\n"
    return found


def index() -> str:
    """Everything that ``import jaxrl`` gives, with a link each."""
    lines = ["# jaxrl", "", "What `import jaxrl` gives; everything loads on first use.", ""]
    for name in jaxrl.__all__:
        value = getattr(jaxrl, name)
        link = f"{name}.md" if isinstance(value, ModuleType) else ""
        first = (inspect.getdoc(value) or "").split("\n")[0].replace("``", "`")
        lines.append(f"- [`jaxrl.{name}`]{f'({link})' if link else f'[{home(jaxrl, name)}]'}: {first}")
    return "\n".join(lines) + "\n"
