"""Links between files of the repository become links between pages of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]*)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^(```.*?^```$|~~~.*?^~~~$)", re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def page_of(path: str, anchor: str, sections: Mapping[str, str]) -> tuple[str, str]:
    """The page of the site, and the anchor on it, of a file of the repository.

    Args:
      path: from the root of the repository.
      anchor: with its ``#``, or empty.
      sections: the page of each section of ``docs/recipes.md``, by its anchor.
    """
    if path == "docs/recipes.md":
        return (sections[anchor[1:]], "") if anchor else ("recipes/index.md", "")
    if path.startswith("docs/"):
        return path.removeprefix("docs/"), anchor
    if path == "benchmarks/RESULTS.md":
        return "results.md", anchor
    if path.startswith("examples"):
        name = posixpath.basename(path).removesuffix(".py")
        return ("examples/index.md" if path.rstrip("/") == "examples" else f"examples/{name}.md"), ""
    if match := re.fullmatch(r"jaxrl/agents/(\w+)\.py", path):
        return f"recipes/{match[1]}.md", ""
    if path in ("CHANGELOG.md", "CONTRIBUTING.md", "README.md"):
        return {"README.md": "index.md"}.get(path, path.lower()), anchor
    raise KeyError(path)


def rewritten(markdown: str, source: str, page: str, sections: Mapping[str, str]) -> str:
    """The text of ``source``, a file of the repository, with its links as they must be on ``page`` of the site."""

    def link(match: re.Match[str]) -> str:
        before, target, anchor, after = match[1], match[2], match[3] or "", match[4]
        if re.match(r"\w+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target)) if target else source
        found, anchor = page_of(path, anchor, sections)
        return f"{before}{posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor}{after}"

    return outside_code(markdown, lambda text: LINK.sub(link, text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Changes everything but fenced code."""
    parts = FENCE.split(markdown)
    return "".join(part if FENCE.fullmatch(part) else change(part) for part in parts)
