"""``jaxrl evaluate``: whole episodes with a trained run, as a table and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from jaxrl.cli.errors import UsageError
from jaxrl.cli.evaluation import evaluate_members, evaluation_keys, max_steps, print_table
from jaxrl.runs.loading import check_member, restore


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Play whole episodes with every seed of a run and print their returns."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    episodes: int = 128
    """Episodes of each seed."""
    explore: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample the policy; else take its most likely action."""
    seed: int = 0
    """Another one gives other episodes."""
    update: int | None = None
    """Evaluate the checkpoint of this update; by default the last."""
    gif: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw episodes of one seed into this file too."""
    gif_episodes: int = 1
    """How many episodes are drawn."""
    member: int = 0
    """Which member of the run is drawn, counted as in metrics.csv: the seed, where nothing is swept."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = tyro.cli(EvaluateFlags, prog="jaxrl evaluate", args=arguments)
    for name in ("episodes", "gif_episodes"):
        if getattr(flags, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(flags, name)}, must be at least 1")
    if flags.gif is not None and flags.gif.suffix.lower() != ".gif":
        raise UsageError(f"--gif: got {flags.gif}, must end in .gif")
    console = Console()
    config, built, state = restore(flags.run, flags.update)
    check_member(config, flags.run, flags.member)
    with console.status("evaluating"):
        episodes = evaluate_members(
            built, state.agent, num_episodes=flags.episodes, explore=flags.explore, seed=flags.seed
        )
    print_table(config, episodes, console, explore=flags.explore)
    if flags.gif is not None:
        from jaxrl.cli.render import draw_episodes, record_episodes

        agent_state = jax.tree.map(lambda leaf: leaf[flags.member], state.agent)
        with console.status("drawing"):
            recorded = record_episodes(
                evaluation_keys(built, flags.seed)[flags.member],
                built.agent(flags.member),
                agent_state,
                built.env,
                built.params,
                num_episodes=flags.gif_episodes,
                max_steps=max_steps(built),
                explore=flags.explore,
            )
            draw_episodes(flags.gif, built.env, built.params, recorded)
        returns = ", ".join(f"{episode.returns[-1]:.1f}" for episode in recorded)
        console.print(f"drawn: {flags.gif} (returns {returns})", soft_wrap=True, highlight=False)
    return 0
