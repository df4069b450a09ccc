"""Objects by ``module:name``: the names of objects that are in no table, and the rules for importing them.

A name in ``config.json`` such as ``shutil:rmtree`` would run code that somebody else chose. A name from a run folder is
therefore imported only if this user trained with it on this machine before, from the same file, or explicitly allows
it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from jaxrl.arguments import nearest
from jaxrl.runs.errors import ConfigError, RunError


class Untrusted(RunError):
    """A run folder names code that this user has not trained with on this machine."""


def is_object(name: str) -> bool:
    """Whether a name is in no table: ``module:name``, or ``:name`` of an object that can't be imported."""
    return ":" in name


def name_of(thing: Any) -> str:
    """``module:name`` of a function or class that can be imported by it, else ``:name``."""
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or path is None:
        return f":{getattr(thing, '__name__', type(thing).__name__)}"
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    # An object of the main script has another name when it is imported.
    return f"{module}:{path}" if found is thing and module != "__main__" else f":{path.rpartition('.')[2]}"


def import_object(name: str, argument: str) -> Any:
    """Imports the object ``module:name``.

    Args:
      name: the name. It is trusted already: typed by the user, or checked by ``require_trust``.
      argument: the argument that it is used for, for messages.

    Raises:
      ConfigError: it can't be imported, or it was given as an object without a name.
    """
    module, _, path = name.partition(":")
    if not module:
        raise ConfigError(
            f"{argument}: '{path}' was given as an object by the program that trained this run; give it again from "
            f"Python: jaxrl.load(run, {argument}=...), jaxrl.runs.resume(run, {argument}=...)"
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as Python itself does for a script
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ConfigError(
            f"{argument}: '{name}' can't be imported ({type(error).__name__}: {error}); modules are looked for in "
            f"{here} and where Python finds packages (PYTHONPATH)"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            hint = nearest(part, [known for known in vars(found) if not known.startswith("_")])
            raise ConfigError(f"{argument}: '{name}': {module} has no '{part}'{hint}")
        found = getattr(found, part)
    return found


def _record() -> Path:
    """The file that stores what this user trained with."""
    home = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.local/state"
    return Path(home).expanduser() / "jaxrl" / "trained_with.json"


def _trained_with() -> dict[str, list[str]]:
    try:
        known = json.loads(_record().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _location(name: str) -> str | None:
    """The file or folder that the module of ``module:name`` would be imported from; nothing is imported."""
    top = name.partition(":")[0].rpartition("/")[2].partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is not None:
        places = [getattr(loaded, "__file__", None), *getattr(loaded, "__path__", ())]
    else:
        spec = PathFinder.find_spec(top, [os.getcwd(), *sys.path])
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    found = next((place for place in places if place), None)
    return None if found is None else str(Path(found).resolve())


def remember(names: Iterable[str]) -> None:
    """Records that this user trains with these names, so that their runs can be loaded again."""
    known = _trained_with()
    for name in names:
        where = _location(name)
        if where is not None and where not in known.setdefault(name, []):
            known[name].append(where)
    if known == _trained_with():
        return
    try:
        _record().parent.mkdir(parents=True, exist_ok=True)
        draft = _record().with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(known, indent=2) + "\n")
        draft.replace(_record())
    except OSError:  # such runs can then be loaded with trust=True only
        return


def require_trust(names: Iterable[str], run: str | Path, trust: bool = False) -> None:
    """Refuses names in a run folder that this user never trained with.

    Raises:
      Untrusted: the message names what would be imported.
    """
    known = _trained_with()
    strange = [name for name in names if _location(name) not in known.get(name, [])]
    if strange and not trust:
        raise Untrusted(
            f"{run} would import {', '.join(strange)}, which this user has not trained with on this machine; if you "
            "know what that code does: --trust, or trust=True in Python"
        )
