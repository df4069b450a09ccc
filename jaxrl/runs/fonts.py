"""Text in pictures: fonts for characters that matplotlib's own font lacks, and no interpretation as markup."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import matplotlib
from matplotlib import font_manager

PLACEHOLDERS = "Last Resort"
"""Fonts with this name have a box for every character, which a reader can't use."""


def plain(text: str) -> str:
    """Text as matplotlib draws it as written: ``$`` starts no formula, ``_`` at the start hides nothing in a legend."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def replace(text: str, missing: Collection[str], by: str) -> str:
    """Replaces characters that can't be drawn by other words.

    >>> replace("ppo: 实验-2", "实验", "run 3")
    'ppo: run 3-2'
    """
    pieces = itertools.groupby(text, lambda character: character in missing)
    return "".join(by if is_missing else "".join(piece) for is_missing, piece in pieces)


def families_for(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """Chooses fonts for some texts.

    Returns:
      ``(families, missing)``: values for matplotlib's ``font.family``, the usual ones first and then as few installed
      ones as have the other characters; and the characters that no font here has.
    """
    families = list(matplotlib.rcParams["font.family"])
    missing = {character for text in texts for character in text if character.isprintable()}
    for family in families:
        missing -= _characters(font_manager.findfont(font_manager.FontProperties(family=[family])))
    while missing:
        covered = {
            entry.name: missing & _characters(entry.fname)
            for entry in font_manager.fontManager.ttflist
            if not entry.name.startswith(PLACEHOLDERS)
        }
        name = max(covered, key=lambda name: len(covered[name]))
        if not covered[name]:
            break
        families.append(name)
        missing -= covered[name]
    return families, missing


def _characters(path: str) -> set[str]:
    try:
        return set(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # a font file that can't be read has no characters
        return set()
