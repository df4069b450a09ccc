"""Drawings of search trees: size shows visits, colour shows values."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxrl.arguments import check_count
from jaxrl.search.tree import ROOT, UNVISITED, Tree
from jaxrl.search.validation import check_tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")
LEAST_SPAN = 0.05
"""The smallest range of the colour scale, so that values closer together than this look alike."""


def draw(
    tree: Tree,
    path: str | PathLike[str] | None = None,
    *,
    index: int = 0,
    min_visits: int = 1,
    max_depth: int = 4,
    action_names: list[str] | None = None,
) -> Figure:
    """Draws one of the trees. Area and line width show visits, colour shows the value for the player to move.

    A step of discount 0 ends the episode: its node shows the step's reward for the player who made it instead of a
    value. Nodes after the end are not drawn.

    Args:
      tree: the tree of a finished search.
      path: the file to write, ending in ``.svg`` or ``.png``; None writes no file.
      index: which of the B trees to draw.
      min_visits: nodes with fewer visits are left out.
      max_depth: deeper nodes are left out.
      action_names: labels of the edges, one per action; by default the numbers of the actions.

    Returns:
      The figure.

    Raises:
      TypeError, ValueError: an argument is invalid; the message names it.
    """
    check_tree(tree)
    check_count("min_visits", min_visits)
    check_count("max_depth", max_depth)
    batch = tree.node_visits.shape[0]
    if not 0 <= index < batch:
        raise ValueError(f"index: got {index}, must be in [0, {batch})")
    if action_names is not None and len(action_names) != tree.num_actions:
        raise ValueError(f"action_names: got {len(action_names)}, must be {tree.num_actions}, one for each action")
    if path is not None and Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"path: got {str(path)!r}, must end in {' or '.join(FORMATS)}")
    from matplotlib.figure import Figure

    arrays = {
        name: np.asarray(jax.device_get(getattr(tree, name))[index])
        for name in ("node_visits", "node_values", "node_rewards", "node_discounts", "children_index")
    }
    arrays["ended"] = (arrays["node_discounts"] == 0.0) & (np.arange(tree.capacity) != ROOT)
    drawn = (arrays["node_visits"] >= min_visits) & (arrays["node_visits"] > 0)
    places, edges = _layout(arrays["children_index"], drawn, arrays["ended"], max_depth)
    width = max(6.0, 0.55 * (1 + max(x for x, _ in places.values())))
    height = 1.6 + 1.3 * max(depth for _, depth in places.values())
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    names = action_names or [str(action) for action in range(tree.num_actions)]
    _paint(axes, arrays, places, edges, names)
    if path is not None:
        figure.savefig(path, dpi=130)
    return figure


def _layout(
    children: np.ndarray, drawn: np.ndarray, ended: np.ndarray, max_depth: int
) -> tuple[dict[int, tuple[float, int]], list[tuple[int, int, int]]]:
    """Positions of the nodes (leaves side by side, parents centred above their children) and the edges with actions."""
    places: dict[int, tuple[float, int]] = {}
    edges: list[tuple[int, int, int]] = []
    column = 0.0

    def put(node: int, depth: int) -> float:
        nonlocal column
        below = []
        for action, child in enumerate(children[node].tolist()):
            if child != UNVISITED and drawn[child] and not ended[node] and depth < max_depth:
                below.append(put(child, depth + 1))
                edges.append((node, child, action))
        if not below:
            column += 1.0
            below = [column - 1.0]
        places[node] = (sum(below) / len(below), depth)
        return places[node][0]

    put(ROOT, 0)
    return places, edges


def _paint(
    axes: Any,
    arrays: dict[str, np.ndarray],
    places: dict[int, tuple[float, int]],
    edges: list[tuple[int, int, int]],
    names: list[str],
) -> None:
    visits, values, rewards, ended = (arrays[name] for name in ("node_visits", "node_values", "node_rewards", "ended"))
    most = visits[ROOT]
    for node, child, action in edges:
        (x0, y0), (x1, y1) = places[node], places[child]
        share = visits[child] / most
        axes.plot([x0, x1], [-y0, -y1], color="0.55", linewidth=0.6 + 5.0 * share, zorder=1)
        axes.text(x0 + 0.55 * (x1 - x0), -(y0 + 0.55 * (y1 - y0)), names[action], fontsize=7, ha="center", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6}, zorder=2)  # fmt: skip
    nodes = list(places)
    x, y = np.array([places[node] for node in nodes]).T
    shown = np.where(ended[nodes], np.nan, values[nodes])
    limit = max(float(np.nanmax(np.abs(shown))), LEAST_SPAN)
    sizes = 330 + 900 * np.sqrt(visits[nodes] / most)
    dots = axes.scatter(x, -y, s=sizes, c=shown, cmap=_colours(), vmin=-limit, vmax=limit, zorder=3,
                        edgecolors="0.3", linewidths=0.6, plotnonfinite=True)  # fmt: skip
    for node, left, down in zip(nodes, x, y, strict=True):
        value = f"end {rewards[node]:+.4g}" if ended[node] else f"{values[node]:+.2f}"
        axes.text(left, -down, f"{visits[node]}\n{value}", fontsize=6, ha="center", va="center", zorder=4)
    axes.figure.colorbar(dots, ax=axes, label="value for the player to move", shrink=0.8)
    axes.set_title(f"{most} visits, value {values[ROOT]:+.3f}", fontsize=9)
    axes.margins(0.06, 0.12)
    axes.set_axis_off()


def _colours() -> Any:
    """A red-to-green scale without its darkest ends, where text is unreadable; grey marks the end of an episode."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["RdYlGn"](np.linspace(0.15, 0.85, 256))).with_extremes(bad="0.85")
