"""Rows that train: speed of whole runs beside published figures, and scores."""

from __future__ import annotations

import os
import subprocess
from functools import partial

import jax
import numpy as np
from rich.console import Console

from benchmarks import learning, speed
from benchmarks.gpu.row import Figures, Row, Skipped, timed
from jaxrl.cli.flags import parse
from jaxrl.runs.building import build
from jaxrl.training import train

PEER = "JAXRL_REJAX_PYTHON"
"""The environment variable with the Python that has rejax, which the command line sets from ``--rejax``."""

PUREJAXRL = {2048: "about 10M steps/s (PureJaxRL, A100)"}
SMALL_SEEDS = {1: 1, 64: 2, 2048: 3}


def ppo_cartpole(seeds: int, small: bool) -> Figures:
    """Steps a second of all seeds, and the seconds of compilation."""
    steps = 128 * 4 * (4 if small else 128 if seeds > 64 else 512)
    work = speed.Work("ppo", "CartPole-v1", 4, 128, SMALL_SEEDS[seeds] if small else seeds, steps)
    call, compile_seconds = speed.compile_run(work)
    steps_a_second = work.num_steps * work.num_seeds / timed(call)
    return {"steps/s": steps_a_second, "compile s": compile_seconds, "seeds": work.num_seeds}


def beside_rejax(name: str, small: bool) -> Figures:
    """Steps a second of one seed, and rejax's in turn where there is a Python that has it."""
    work = speed.ROWS[name]._replace(num_steps=2_000) if small else speed.ROWS[name]
    peer = start_peer(name, work)
    call, compile_seconds = speed.compile_run(work)
    figures = {"compile s": compile_seconds}
    if peer is None:
        return {"steps/s": work.num_steps / timed(call), **figures, "rejax steps/s": "not installed, see --rejax"}
    pairs = [(speed.steps_a_second(work, call), peer.measure()) for _ in range(2 if small else 4)]
    peer.close()
    ours, theirs = (float(np.median(side)) for side in zip(*pairs, strict=True))
    return {"steps/s": ours, **figures, "rejax steps/s": theirs, "times rejax": ours / theirs}


def start_peer(name: str, work: speed.Work) -> speed.Peer | None:
    """rejax, compiled and waiting in an environment of its own."""
    python = os.environ.get(PEER)
    if python is None:
        return None
    if subprocess.run([python, "-c", "import rejax"], capture_output=True, timeout=60).returncode:
        raise Skipped(f"--rejax: {python} can't import rejax: pip install rejax==0.1.3 gymnax==0.0.9 there")
    return speed.Peer(f"{python} benchmarks/rejax_peer.py {name} {{envs}} {{batch}} {{steps}}", work)


def many_seeds(seeds: int, small: bool) -> Figures:
    """Steps a second of ``ppo`` in MinAtar's Breakout, all seeds together."""
    seeds = 2 if small else seeds
    config, _ = parse(f"ppo Breakout-MinAtar --seeds {seeds}".split())
    built = build(config)
    batch = config.num_envs * config.rollout_length
    steps = batch * (1 if small else max(1, 400_000 // batch))

    def run(key: jax.Array) -> tuple:
        return train(
            key,
            built.make_agent(),
            built.env,
            built.params,
            num_steps=steps,
            num_envs=config.num_envs,
            rollout_length=config.rollout_length,
        )

    call, compile_seconds = speed.compiled_call(jax.vmap(run), built.keys)
    return {"steps/s": seeds * steps / timed(call), "compile s": compile_seconds, "seeds": seeds}


def learned(row: learning.Row, small: bool) -> Figures:
    """Scores of a row of ``benchmarks/learning.py``: mean and worst of the seeds, seconds with compilation."""
    if small:
        row = row._replace(command=f"{row.command} --num-steps 8192", episodes=2)
    command = f"{row.command} --seed 1"
    config, _ = parse(command.split())
    built, state, seconds = learning.trained(command, Console(stderr=True))
    figures: Figures = {"seconds": seconds, "steps/s": config.num_steps * config.seeds / seconds}
    for policy in row.policies:
        scores = row.score(row, built, state, policy == "sampled")
        error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else float("nan")
        figures[f"{policy} mean"] = f"{scores.mean():.1f} ± {error:.1f}"
        figures[f"{policy} worst"] = float(scores.min())
    figures["target"] = "none" if row.reach is None else f">= {row.reach:g}"
    return figures


CARTPOLE = tuple(
    Row(f"ppo/cartpole_{seeds}", partial(ppo_cartpole, seeds), limit=120, needs=20, published=PUREJAXRL.get(seeds, ""))
    for seeds in (1, 64, 2048)
)
OFF_POLICY = tuple(
    Row(f"{name}/beside_rejax", partial(beside_rejax, name), limit=90, needs=20) for name in ("dqn", "td3")
)
BREAKOUT = (
    Row(
        "ppo/breakout_256",
        partial(many_seeds, 256),
        limit=120,
        needs=45,
        published="7.9M steps/s, 256 seeds (PureJaxRL, A100)",
    ),
    Row(
        "ppo/breakout_10M",
        partial(learned, learning.Row("ppo Breakout-MinAtar --seeds 1", 45, policies=learning.SAMPLED)),
        limit=180,
        needs=60,
        published="34 to 48 s a seed (PureJaxRL, A100)",
    ),
)
MINATAR = tuple(
    Row(f"ppo/{row.command.split()[1]}", partial(learned, row), limit=300, needs=90) for row in learning.ROWS if row.gpu
)
VALUES = tuple(
    Row(
        f"{name}/SpaceInvaders-MinAtar",
        partial(
            learned,
            learning.Row(f"{name} SpaceInvaders-MinAtar --seeds 4 --num-steps 5000000", None, policies=learning.BOTH),
        ),
        limit=600,
        needs=150,
    )
    for name in ("dqn", "c51", "qr_dqn")
)
