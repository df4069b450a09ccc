"""World models on TakeCover: steps survived by a controller that never saw the real game, and its controls.

    python -m benchmarks.world_models                                      # 4 seeds of split(key(1), 4)
    python -m benchmarks.world_models --model transformer --cue-delay 8
    python -m benchmarks.world_models --tune --temperatures 1.15 --no-controls

V and M are fitted to 20,000 frames of a random player, once a seed, and C is evolved in each dream anew. Controls: a
random player; the same C evolved in the real game on the same V and M; C in the dream of an M that was never fitted.
Scores are means of 100 greedy episodes of at most 500 steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrl
from benchmarks.learning import describe_machine
from jaxrl import envs, models
from jaxrl.agents.parts import dreaming, evolution
from jaxrl.agents.world_models import make_models, memory_of

EPISODES = 100
TEMPERATURES = (0.1, 0.5, 1.0, 1.15, 1.3)


class Bench:
    """The agent in TakeCover, and everything that is compiled once for all seeds."""

    def __init__(self, cue_delay: int, options: dict[str, Any], search: dict[str, int]) -> None:
        game, self.params = jaxrl.make(f"TakeCover-{cue_delay}" if cue_delay else "TakeCover")
        spec = jaxrl.spec(game, self.params)
        self.env = envs.remember(game, memory_of(spec, options))
        # Only V and M are fitted in the run itself: one generation of the smallest population.
        alone = {"num_generations": 1, "population": 4, "num_dreams": 1, "dream_length": 1}
        self.agent = jaxrl.world_models(jaxrl.spec(self.env, self.params), **options, **alone)
        _, self.sequence = make_models(spec, **options)
        self.controller = dreaming.linear_controller(
            spec.action, self.sequence.latent_size + self.sequence.feature_size
        )
        self.search = search
        play = partial(jaxrl.evaluate, agent=self.agent, env=self.env, params=self.params)
        self.play = jax.jit(play, static_argnames=("num_episodes", "explore"))
        self.dream = jax.jit(self._dream)
        self.awake = jax.jit(self._awake)

    def fitted(self, key: Any) -> Any:
        """The state of the agent after 20,000 random steps and the fits."""
        loop = jaxrl.preset("world_models", "TakeCover")
        state, _ = jaxrl.train(key, self.agent, self.env, self.params, **loop)
        return state.agent

    def _evolve(self, key: Any, fitness: Callable[..., Any]) -> tuple[Any, Any]:
        start = jax.numpy.zeros((self.controller.size,), jax.numpy.float32)
        sizes = {"population": self.search["population"], "num_generations": self.search["num_generations"]}
        mean, curve = evolution.evolve(key, start, fitness, sigma=0.1, **sizes)
        return mean, curve[-1]

    def _dream(self, key: Any, state: Any, temperature: Any) -> tuple[Any, Any]:
        """A controller evolved in the dream, and what the last population got there."""
        start = partial(dreaming.start_of, self.sequence, state.learned.first)
        model = models.dream(self.sequence, temperature)
        sizes = (self.search["num_dreams"], 500)

        def fitness(key: Any, candidates: Any) -> Any:
            arguments = (model, state.learned.sequence, start, self.controller.act, candidates)
            return dreaming.dream_returns(key, *arguments, *sizes)

        return self._evolve(key, fitness)

    def _awake(self, key: Any, state: Any) -> tuple[Any, Any]:
        """A controller evolved in the real game."""

        def fitness(key: Any, candidates: Any) -> Any:
            def score(candidate: Any) -> Any:
                mind = with_controller(state, candidate)
                return self.play(key, state=mind, num_episodes=self.search["num_dreams"]).returns.mean()

            return jax.vmap(score)(candidates)

        return self._evolve(key, fitness)

    def score(self, state: Any, explore: bool = False) -> float:
        """Mean steps survived."""
        episodes = self.play(jax.random.key(2), state=state, num_episodes=EPISODES, explore=explore)
        return float(episodes.returns.mean())


def with_controller(state: Any, controller: Any) -> Any:
    return state._replace(learned=state.learned._replace(controller=controller))


def measure(bench: Bench, key: Any, temperatures: list[float], controls: bool) -> dict[str, float]:
    """All numbers of a seed."""
    key, evolve_key, other_key = jax.random.split(key, 3)
    state = bench.fitted(key)
    # The replay has done its work; without it a state is small.
    report = {name: float(value) for name, value in state.learned.report.items()}
    found = {"V, held-out loss": report["vision_held_out"], "M, held-out loss": report["model_held_out"]}
    if controls:
        found["random"] = bench.score(state._replace(rounds=jax.numpy.int32(0)), explore=True)
    for temperature in temperatures:
        controller, dreamt = bench.dream(evolve_key, state, temperature)
        found[f"dream {temperature}, in the dream"] = float(dreamt)
        found[f"dream {temperature}, real"] = bench.score(with_controller(state, controller))
    if controls:
        controller, _ = bench.awake(evolve_key, state)
        found["evolved in the real game"] = bench.score(with_controller(state, controller))
        untrained = state._replace(learned=state.learned._replace(sequence=bench.sequence.init(other_key)))
        controller, _ = bench.dream(evolve_key, untrained, 1.0)
        found["untrained M"] = bench.score(with_controller(untrained, controller))
    return found


def draw(results: list[dict[str, float]], temperatures: list[float], out: Path) -> None:
    """Scores over the temperature, in the dream and in the real game."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for where in ("in the dream", "real"):
        values = np.array([[found[f"dream {t}, {where}"] for t in temperatures] for found in results])
        (line,) = axes.plot(temperatures, values.mean(0), marker="o", label=where)
        axes.plot(temperatures, values.T, ".", color=line.get_color(), alpha=0.4)
    for name, style in (("random", ":"), ("evolved in the real game", "--")):
        axes.axhline(np.mean([found[name] for found in results]), linestyle=style, color="gray", label=name)
    axes.set(xlabel="temperature of the dream", ylabel="steps survived, of 500", title="TakeCover, evolved in dreams")
    axes.legend()
    figure.savefig(out, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mdn_rnn", "transformer"), default="mdn_rnn")
    parser.add_argument("--context", type=int, default=16, help="of the transformer; 1 is the control without a memory")
    parser.add_argument("--cue-delay", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--tune", action="store_true", help="key(0) in place of split(key(1), seeds)")
    parser.add_argument("--temperatures", type=float, nargs="+", default=list(TEMPERATURES))
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--generations", type=int, default=60)
    parser.add_argument("--population", type=int, default=64)
    parser.add_argument("--dreams", type=int, default=8, help="for each candidate")
    parser.add_argument("--out", type=Path, help="of the drawing over temperatures")
    given = parser.parse_args()
    print(f"Measured on {describe_machine()}\n", flush=True)
    search = {"num_generations": given.generations, "population": given.population, "num_dreams": given.dreams}
    bench = Bench(given.cue_delay, {"model": given.model, "context": given.context}, search)
    keys = [jax.random.key(0)] if given.tune else list(jax.random.split(jax.random.key(1), given.seeds))
    results = []
    for number, key in enumerate(keys):
        begin = time.perf_counter()
        results.append(measure(bench, key, given.temperatures, not given.no_controls))
        numbers = ", ".join(f"{name}: {value:.1f}" for name, value in results[-1].items())
        print(f"seed {number} ({time.perf_counter() - begin:.0f} s): {numbers}", flush=True)
    print("\n| | mean ± standard error over seeds | worst seed |\n|---|---|---|")
    for name in results[0]:
        values = np.array([found[name] for found in results])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        print(f"| {name} | {values.mean():.1f} ± {error:.1f} | {values.min():.1f} |")
    if given.out is not None:
        draw(results, given.temperatures, given.out)


if __name__ == "__main__":
    main()
