"""Batched Monte-Carlo tree search in a model. ``base`` and ``tree`` define the data; docs/search.md explains the use.

``puct``, ``gumbel`` and ``uct`` are ready to use. They are built on ``search``, which takes a custom selection rule.
"""

from jaxrl.search import models, qtransforms, selection
from jaxrl.search.backup import mean_backup
from jaxrl.search.base import (
    Backup,
    NodeStats,
    PolicyOutput,
    QTransform,
    RecurrentFn,
    RecurrentFnOutput,
    RootFnOutput,
    Selection,
)
from jaxrl.search.drawing import draw
from jaxrl.search.loop import search
from jaxrl.search.policies import gumbel, in_proportion, puct, uct
from jaxrl.search.reuse import subtree
from jaxrl.search.rollouts import rollout_root, with_rollouts
from jaxrl.search.tree import NO_ACTION, NO_PARENT, ROOT, UNVISITED, Summary, Tree, size_bytes

__all__ = [
    "Backup",
    "NO_ACTION",
    "NO_PARENT",
    "NodeStats",
    "PolicyOutput",
    "QTransform",
    "ROOT",
    "RecurrentFn",
    "RecurrentFnOutput",
    "RootFnOutput",
    "Selection",
    "Summary",
    "Tree",
    "UNVISITED",
    "draw",
    "gumbel",
    "in_proportion",
    "mean_backup",
    "models",
    "puct",
    "qtransforms",
    "rollout_root",
    "search",
    "selection",
    "size_bytes",
    "subtree",
    "uct",
    "with_rollouts",
]


def __dir__() -> list[str]:
    return sorted(__all__)
