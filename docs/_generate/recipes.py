"""A page for each section of ``docs/recipes.md``; that of a recipe has its code, flags and measurements too."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from jaxrl.agents.presets import FALLBACK, PRESETS
from jaxrl.runs.recipes import RECIPES, hyperparameters, summary

ROOT = Path(__file__).parents[2]


class Sections:
    """The sections of ``docs/recipes.md``: those of level 2, and those of level 3 that are named as a recipe.

    Attributes:
      texts: title and text by page.
      pages: page by anchor.
      introduction: what stands above the first section, without the title and the list of sections.
    """

    def __init__(self) -> None:
        from links import slug

        text = (ROOT / "docs" / "recipes.md").read_text()
        self.texts: dict[str, tuple[str, str]] = {}
        self.pages: dict[str, str] = {}
        parts = re.split(r"^(#{2,3} .*)$", text, flags=re.MULTILINE)
        self.introduction = parts[0].split("\n", 1)[1]
        page = title = ""
        for heading, body in zip(parts[1::2], parts[2::2], strict=True):
            level, name = heading.split(" ", 1)
            names = [part.strip() for part in name.split(",")]
            known = [part for part in names if part in RECIPES]
            if level == "##" or known:
                title, page = name, f"recipes/{known[0] if known else slug(name)}.md"
                self.texts[page] = (name, body)
                self.pages |= {slug(part): f"recipes/{part}.md" for part in known}
                for other in known[1:]:
                    self.texts[f"recipes/{other}.md"] = (name, body)
            else:
                self.texts[page] = (title, f"{self.texts[page][1]}{heading}{body}")
            self.pages[slug(name)] = page

    def missing(self) -> list[str]:
        """Recipes without a section."""
        return [name for name in RECIPES if name not in self.pages]


def measured(name: str) -> str:
    """The rows of the README's table that are about a recipe."""
    lines = (ROOT / "README.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| recipe | environment"))
    rows = [line for line in lines[start + 2 :] if re.match(rf"\| `{name}`[ ,|]", line)]
    if not rows:
        return ""
    picture = f"\n![Return over environment steps](curves/{name}.png)\n" if curve(name).exists() else ""
    return "\n".join(["## Measured", "", *lines[start : start + 2], *rows, picture, RESULTS, ""])


RESULTS = "Greedy actions unless said otherwise; commands are among the [results](../benchmarks/RESULTS.md)."


def curve(name: str) -> Path:
    """The picture of a recipe's learning curve."""
    return ROOT / "docs" / "curves" / f"{name}.png"


def flags(name: str) -> str:
    """The table of the flags of ``jaxrl train``, from the recipe's signature and docstring."""
    rows = [
        f"| `--{parameter.name.replace('_', '-')}` | `{shown(parameter.default)}` | {cell(parameter.help)} |"
        for parameter in hyperparameters(name).values()
    ]
    return "\n".join(["## Flags", "", "| flag | default | meaning |", "|---|---|---|", *rows, ""])


def shown(value: Any) -> str:
    """A default, as it is written in Python."""
    return getattr(value, "__name__", None) or repr(value)


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return re.sub(r"``([^`]*)``", r"`\1`", text).replace("|", "\\|")


def objects(name: str) -> str:
    """The arguments that only Python can give: functions and modules."""
    parameters = inspect.signature(RECIPES[name]).parameters
    names = [key for key in parameters if key not in hyperparameters(name) and key != "spec"]
    return f"In Python it also takes {', '.join(f'`{key}=`' for key in names)}.\n" if names else ""


def presets(name: str) -> str:
    """The table of what the presets set."""
    rows = {"elsewhere": FALLBACK.get(name, {}), **PRESETS.get(name, {})}
    lines = [
        f"| {environment} | {', '.join(f'`{key}={value!r}`' for key, value in row.items())} |"
        for environment, row in rows.items()
        if row
    ]
    heading = ["## Presets", "", "| environment | settings that differ from the defaults |", "|---|---|"]
    return "\n".join([*heading, *lines, ""]) if lines else ""


def equations(name: str) -> str:
    """The first paragraphs of the recipe's docstring: what it does, its equation, its paper."""
    text = inspect.cleandoc(RECIPES[name].__doc__ or "").split("\nArgs:")[0].strip()
    return re.sub(r"``([^`]*)``", r"`\1`", text)


def code(name: str) -> str:
    """The file of the recipe."""
    module = sys.modules[inspect.unwrap(RECIPES[name]).__module__]
    path = f"{module.__name__.replace('.', '/')}.py"
    source = inspect.getsource(module)
    return f'## Code\n\n```python title="{path}" linenums="1"\n{source}```\n'


def pages(sections: Sections) -> dict[str, str]:
    """The text of each page, links as in ``docs/recipes.md``."""
    if missing := sections.missing():
        sys.exit(f"docs/recipes.md: no section for {', '.join(missing)}")
    found = {}
    for page, (title, body) in sections.texts.items():
        name = page.removeprefix("recipes/").removesuffix(".md")
        if name not in RECIPES:
            found[page] = f"# {title}\n\n{body}"
            continue
        usage = f"```bash\njaxrl train {name} {next(iter(PRESETS.get(name, {})), 'CartPole-v1')}\n```\n"
        notes = f"## Paper and deviations\n\n{body.strip()}\n"
        parts = (f"# {name}", equations(name), usage, measured(name), notes, code(name), flags(name), objects(name))
        found[page] = "\n\n".join(part.strip() for part in (*parts, presets(name)) if part.strip()) + "\n"
    return found


def groups(sections: Sections) -> tuple[list[str], list[str]]:
    """Pages of recipes, and pages about what recipes share, in the order of ``docs/recipes.md``."""
    names = {f"recipes/{name}.md" for name in RECIPES}
    return [page for page in sections.texts if page in names], [page for page in sections.texts if page not in names]


def one_line(name: str) -> str:
    """What ``jaxrl list`` says of a recipe."""
    return summary(name)
