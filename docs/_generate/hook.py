"""The hook of mkdocs.yml: adds the pages that are made from code, and makes links between files links between pages."""

from __future__ import annotations

import ast
import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")  # the table of properties asks for two devices

import api
import properties
import recipes
from links import rewritten
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SECTIONS = recipes.Sections()
SOURCES: dict[str, str] = {}
"""The file of the repository that a generated page comes from, for its links."""


def examples() -> dict[str, str]:
    """A page for each example, and a list of them."""
    found, lines = (
        {},
        ["# Examples", "", "Short scripts, one idea each, and a notebook, `examples/quickstart.ipynb`.", ""],
    )
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text()
        summary = (ast.get_docstring(ast.parse(source)) or "").split("\n")[0].replace("``", "`")
        found[f"examples/{path.stem}.md"] = f'# {path.stem}\n\n```python title="examples/{path.name}"\n{source}```\n'
        lines.append(f"- [{path.stem}]({path.stem}.md): {summary}")
    return {"examples/index.md": "\n".join(lines) + "\n", **found}


def overview() -> str:
    """The first page of the recipes: what each of them is, and what it can do."""
    lines = [f"- [{name}]({name}.md): {recipes.one_line(name)}" for name in recipes.RECIPES]
    about = "The table is made by asking: a recipe has a property if it accepts an environment or a flag that needs it."
    wide = "---\nhide:\n  - toc\n---"
    return "\n\n".join([wide, "# Recipes", "\n".join(lines), "## What each can do", about, properties.table()])


def generated() -> dict[str, str]:
    """All pages that are made from code or from files outside of docs/."""
    found = {"recipes/index.md": overview(), **recipes.pages(SECTIONS), **api.pages(), **examples()}
    SOURCES.update({page: "docs/recipes.md" for page in SECTIONS.texts})
    for source in ("benchmarks/RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        page = "results.md" if "RESULTS" in source else source.lower()
        found[page] = (ROOT / source).read_text()
        SOURCES[page] = source
    return found


def extended(nav: list[Any], more: dict[str, list[Any]]) -> list[Any]:
    """The navigation with pages added at the end of its sections, at any depth."""
    return [
        {
            title: extended(entries, more) + more.get(title, []) if isinstance(entries, list) else entries
            for title, entries in entry.items()
        }
        if isinstance(entry, dict)
        else entry
        for entry in nav
    ]


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages and their entries in the navigation."""
    logging.getLogger("jax").setLevel(logging.ERROR)
    pages = generated()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    files.remove(files.src_uris["recipes.md"])
    own, shared = recipes.groups(SECTIONS)
    config.nav = extended(
        config.nav,
        {
            "Recipes": [*own, {"What recipes share": shared}],
            "Reference": [{dotted: api.page_of(dotted)} for dotted in api.names()],
            "Examples": sorted(page for page in pages if page.startswith("examples/") and "index" not in page),
        },
    )
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Links of a page that comes from the repository."""
    path = page.file.src_uri
    if path.startswith(("api/", "examples/")) or path == "recipes/index.md":
        return markdown
    return rewritten(markdown, SOURCES.get(path, f"docs/{path}"), path, SECTIONS.pages)


def on_post_build(config: Any) -> None:
    """Warns, and so fails a strict build, of a public name that the reference does not show."""
    for dotted, homes in api.names().items():
        html = Path(config.site_dir, api.page_of(dotted).removesuffix(".md"), "index.html").read_text()
        for name, where in homes.items():
            if f'id="{where}"' not in html:
                logging.getLogger("mkdocs").warning(f"{dotted}.{name} is not in the reference")
