"""The page of the search is true: its blocks run, one after the other."""

import re
from pathlib import Path

from jaxrl.search import Tree

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text()


def test_the_blocks_run():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 3
    exec(compile("\n".join(blocks), "docs/search.md", "exec"), {})


def test_the_page_shows_every_field_of_a_tree():
    assert [name for name in Tree._fields if name not in PAGE] == []
