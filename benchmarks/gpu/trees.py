"""Rows of the search: simulations a second, beside mctx's in turn."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu.row import Figures, Row, Skipped

SIZES = ((32, 9, 64), (64, 9, 128), (64, 82, 128), (16, 362, 256), (256, 9, 256), (1024, 82, 64))
"""B trees, A actions, N simulations: those of ``benchmarks/search.py``, and a batch that fills a GPU."""


def beside_mctx(policy: str, size: tuple[int, int, int], small: bool) -> Figures:
    """Simulations a second of both, and the share of roots with equal visit counts."""
    try:
        from benchmarks import search
    except ModuleNotFoundError as error:
        if error.name != "mctx":
            raise
        raise Skipped('mctx is not installed: pip install "mctx>=0.0.71"') from None
    found = search.measure(policy, (4, size[1], 8) if small else size, repeats=2 if small else 7)
    return {
        "sims/s": found.ours,
        "compile s": found.our_compile,
        "mctx sims/s": found.theirs,
        "times mctx": found.ratio,
        "equal roots": f"{found.equal:.0%}",
    }


ROWS = tuple(
    Row(f"search/{policy}_{'_'.join(map(str, size))}", partial(beside_mctx, policy, size), limit=60, needs=15)
    for size in SIZES
    for policy in ("gumbel", "puct")
)
