"""A2C against A3C: return over steps and over wall time, with threads that overtake each other and with fixed delays.

Where threads overtake each other differs from run to run. A delay of k updates is what k + 1 workers that take turns do
to each other; it is reproducible, and all delays and seeds train in one program.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np

import jaxrl
from jaxrl.training import asynchronous

POINTS = 40
SIZE: dict[str, int] = {"num_envs": 8, "rollout_length": 8}


def options(num_steps: int) -> dict[str, Any]:
    """Those of the preset."""
    annealed = {"anneal_learning_rate": True, "num_updates": num_steps // (SIZE["num_envs"] * SIZE["rollout_length"])}
    return {"gamma": 0.98, "gae_lambda": 0.95, "entropy_coef": 0.0, **annealed}


def curve(metrics: dict[str, np.ndarray]) -> np.ndarray:
    """Mean return of the episodes that ended in each of ``POINTS`` parts of a run, ``[POINTS]``; NaN where none did."""
    episodes = np.array_split(metrics["episodes"], POINTS)
    totals = np.array_split(np.nan_to_num(metrics["episode_return"]) * metrics["episodes"], POINTS)
    means = [t.sum() / e.sum() if e.sum() else np.nan for t, e in zip(totals, episodes, strict=True)]
    return np.array(means)


def by_threads(workers: int, num_steps: int, num_seeds: int) -> dict[str, np.ndarray]:
    """Seeds one after the other: ``return`` and ``seconds`` ``[seeds, POINTS]``, ``staleness`` ``[seeds]``."""
    env, params = jaxrl.make("CartPole-v1")
    agent = jaxrl.a2c(jaxrl.spec(env, params), **options(num_steps))
    found: dict[str, list[Any]] = {"return": [], "seconds": [], "staleness": []}
    for key in jax.random.split(jax.random.key(1), num_seeds):
        _, metrics = asynchronous.train(key, agent, env, params, num_steps=num_steps, num_workers=workers, **SIZE)
        found["return"].append(curve(metrics))
        found["seconds"].append([part[-1] for part in np.array_split(metrics["seconds"], POINTS)])
        found["staleness"].append(metrics["staleness"].mean())
    return {name: np.array(values) for name, values in found.items()}


def by_delays(delays: Sequence[int], num_steps: int, num_seeds: int) -> np.ndarray:
    """All at once: mean returns ``[delays, seeds, POINTS]``."""
    env, params = jaxrl.make("CartPole-v1")
    described, most = jaxrl.spec(env, params), max(*delays, 1)

    def run(key, delay):
        agent = jaxrl.a3c(described, delay=delay, max_delay=most, **options(num_steps))
        return jaxrl.train(key, agent, env, params, num_steps=num_steps, **SIZE)[1]

    keys = jax.random.split(jax.random.key(1), num_seeds)
    metrics = jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))(keys, jnp.array(delays))
    names = ("episodes", "episode_return")
    host = {name: np.asarray(metrics[name]) for name in names}
    return np.array(
        [
            [curve({name: host[name][i, seed] for name in names}) for seed in range(num_seeds)]
            for i in range(len(delays))
        ]
    )


def synchronous(num_steps: int) -> float:
    """Seconds of one A2C, compiled whole, for the same steps."""
    env, params = jaxrl.make("CartPole-v1")
    agent = jaxrl.a2c(jaxrl.spec(env, params), **options(num_steps))
    run = jax.jit(lambda key: jaxrl.train(key, agent, env, params, num_steps=num_steps, **SIZE)[1])
    compiled = run.lower(jax.random.key(1)).compile()
    begin = time.perf_counter()
    jax.block_until_ready(compiled(jax.random.key(1)))
    return time.perf_counter() - begin


def finished(returns: np.ndarray) -> np.ndarray:
    """The mean over seeds of episodes that ended; NaN, which is not drawn, where none did."""
    return np.ma.masked_invalid(returns).mean(axis=0).filled(np.nan)


def draw(threads: dict[int, Any], delays: dict[int, np.ndarray], seconds: float, num_steps: int, out: str) -> None:
    """Three panels: threads over steps, threads over wall time, delays over steps."""
    steps = (np.arange(POINTS) + 1) * num_steps / POINTS
    figure, (of_steps, of_time, of_delays) = plt.subplots(1, 3, figsize=(13, 5), sharey=True, layout="constrained")
    colors = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, max(len(threads), len(delays))))
    for color, (workers, found) in zip(colors, threads.items(), strict=False):
        mean = finished(found["return"])
        label = f"{workers} worker{'s' if workers > 1 else ''}, staleness {found['staleness'].mean():.1f}"
        of_steps.plot(steps, mean, color=color, label=label)
        taken = found["seconds"].mean(0)
        of_time.plot(taken, mean, color=color, label=f"{workers} in {taken[-1]:.0f} s")
    of_time.axvline(seconds, color="gray", linestyle=":", label=f"A2C in one program, {seconds:.0f} s")
    for color, (delay, returns) in zip(colors, delays.items(), strict=False):
        of_delays.plot(steps, finished(returns), color=color, label=f"{delay} late" if delay else "A2C")
    of_steps.set(xlabel="environment steps", ylabel="return of finished episodes", title="threads")
    of_time.set(xlabel="seconds", title="threads, wall time")
    of_delays.set(xlabel="environment steps", title="delays, in updates")
    for axes in (of_steps, of_delays):
        axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    for axes in (of_steps, of_time, of_delays):
        axes.set_ylim(0.0, 510.0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False)
    figure.savefig(Path(out), dpi=120)
    plt.close(figure)
    print(f"drawn to {out}")


def main(
    num_steps: int = 200_000,
    num_seeds: int = 3,
    workers: Sequence[int] = (1, 2, 4, 8),
    delays: Sequence[int] = (0, 1, 2, 4, 8, 16),
    out: str | None = None,
) -> dict[str, float]:
    """Mean return over the last quarter of each."""
    threads = {count: by_threads(count, num_steps, num_seeds) for count in workers}
    late = dict(zip(delays, by_delays(delays, num_steps, num_seeds), strict=True))
    seconds = synchronous(num_steps)
    last = lambda returns: float(np.nanmean(returns[:, -POINTS // 4 :]))  # noqa: E731
    found = {f"{count} workers": last(runs["return"]) for count, runs in threads.items()}
    found |= {f"delay {delay}": last(returns) for delay, returns in late.items()}
    for count, runs in threads.items():
        speed = num_steps / runs["seconds"][:, -1].mean()
        print(
            f"{count} workers: return {found[f'{count} workers']:.0f} in the last quarter, staleness "
            f"{runs['staleness'].mean():.2f}, {speed:,.0f} steps/s"
        )
    print(f"A2C in one program: {num_steps / seconds:,.0f} steps/s")
    for delay in late:
        print(f"delay {delay}: return {found[f'delay {delay}']:.0f} in the last quarter")
    if out is not None:
        draw(threads, late, seconds, num_steps, out)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=200_000)
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--out", default="a3c.png")
    arguments = parser.parse_args()
    main(arguments.num_steps, arguments.num_seeds, out=arguments.out)
