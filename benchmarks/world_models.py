"""World models on TakeCover: steps survived by a controller that never saw the real game, and its controls.

    python -m benchmarks.world_models runs/take_cover                       # 4 seeds of split(key(1), 4)
    python -m benchmarks.world_models runs/cue --cue-delay 8 --model transformer
    python -m benchmarks.world_models runs/tuning --tune --temperatures 1.15 --no-controls

V and M are fitted to 20,000 frames of a random player, once a seed, and C is evolved in each dream anew. Controls: a
random player; C before it is evolved; the same C evolved in the real game on the same V and M; C in the dream of an M
that was never fitted. Scores are means of 100 greedy episodes of at most 500 steps. Numbers, models and controllers are
written to the folder as they come, and a command that is given again goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks.learning import describe_machine
from jaxrl import envs, models
from jaxrl.agents.parts import dreaming, evolution
from jaxrl.agents.world_models import WorldModelsState, make_models, memory_of

EPISODES = 100
LENGTH = 500
TEMPERATURES = (1.15, 0.1, 0.5, 1.0, 1.3)
REAL = "evolved in the real game"


class Bench:
    """The agent in TakeCover, and everything that is compiled once for all seeds."""

    def __init__(self, cue_delay: int, options: dict[str, Any], search: dict[str, int]) -> None:
        game, self.params = jaxrl.make(f"TakeCover-{cue_delay}" if cue_delay else "TakeCover")
        self.spec = spec = jaxrl.spec(game, self.params)
        self.env = envs.remember(game, memory_of(spec, options))
        # Only V and M are fitted in the run itself: one generation of the smallest population.
        alone = {"num_generations": 1, "population": 4, "num_dreams": 1, "dream_length": 1}
        self.agent = jaxrl.world_models(jaxrl.spec(self.env, self.params), **options, **alone)
        self.vision, self.sequence = make_models(spec, **options)
        num_inputs = self.sequence.latent_size + self.sequence.feature_size
        self.controller = dreaming.linear_controller(spec.action, num_inputs)
        self.search = search
        play = partial(jaxrl.evaluate, agent=self.agent, env=self.env, params=self.params)
        self.play = jax.jit(play, static_argnames=("num_episodes", "explore"))
        self.fit, self.dream, self.awake = jax.jit(self._fit), jax.jit(self._dream), jax.jit(self._awake)

    def _fit(self, key: Any) -> Any:
        """What the agent learned from 20,000 random steps."""
        loop = jaxrl.preset("world_models", "TakeCover")
        return jaxrl.train(key, self.agent, self.env, self.params, **loop)[0].agent.learned

    def _evolve(self, key: Any, fitness: Callable[..., Any]) -> tuple[Any, Any]:
        start = jnp.zeros((self.controller.size,), jnp.float32)
        sizes = {"population": self.search["population"], "num_generations": self.search["num_generations"]}
        mean, curve = evolution.evolve(key, start, fitness, sigma=0.1, **sizes)
        return mean, curve[-1]

    def _dream(self, key: Any, learned: Any, temperature: Any) -> tuple[Any, Any]:
        """A controller evolved in the dream, and its mean return in new dreams."""
        start = partial(dreaming.start_of, self.sequence, learned.first)
        model = models.dream(self.sequence, temperature)
        fitness = lambda key, candidates, num: dreaming.dream_returns(  # noqa: E731
            key, model, learned.sequence, start, self.controller.act, candidates, num, LENGTH
        )
        mean, _ = self._evolve(key, lambda key, candidates: fitness(key, candidates, self.search["num_dreams"]))
        return mean, fitness(jax.random.fold_in(key, 1), mean[None], EPISODES)[0]

    def _awake(self, key: Any, learned: Any) -> Any:
        """A controller evolved in the real game."""

        def fitness(key: Any, candidates: Any) -> Any:
            def score(candidate: Any) -> Any:
                state = acting(learned._replace(controller=candidate))
                return self.play(key, state=state, num_episodes=self.search["num_dreams"]).returns.mean()

            return jax.vmap(score)(candidates)

        return self._evolve(key, fitness)[0]

    def score(self, learned: Any, rounds: int = 1, explore: bool = False) -> float:
        """Mean steps survived; in round 0 an agent that explores is a random player."""
        state = acting(learned, rounds)
        return float(self.play(jax.random.key(2), state=state, num_episodes=EPISODES, explore=explore).returns.mean())

    def load(self, path: Path) -> Any:
        """What ``save`` wrote."""
        like = jax.eval_shape(lambda key: self.agent.init(key, 1).learned, jax.random.key(0))
        with np.load(path) as file:
            leaves = [jnp.asarray(file[name]) for name in sorted(file.files, key=lambda name: int(name[4:]))]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


def save(path: Path, learned: Any) -> None:
    """V, M and C."""
    np.savez(path, *[np.asarray(leaf) for leaf in jax.tree.leaves(learned)])


def acting(learned: Any, rounds: int = 1) -> WorldModelsState:
    """A state that acts; it has no replay."""
    return WorldModelsState(learned, jnp.int32(0), jnp.int32(rounds), ())


class Folder:
    """Numbers by name and seed, written to ``results.json`` after each; models and controllers beside it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.file = path, path / "results.json"
        self.numbers: dict[str, dict[str, float]] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def has(self, name: str, seed: int) -> bool:
        return str(seed) in self.numbers.get(name, {})

    def write(self, name: str, seed: int, value: float) -> None:
        self.numbers.setdefault(name, {})[str(seed)] = round(float(value), 3)
        self.file.write_text(json.dumps(self.numbers, indent=1))


def measure(bench: Bench, folder: Folder, seed: int, key: Any, part: str) -> None:
    """One part of the numbers of a seed."""
    key, evolve_key, other_key = jax.random.split(key, 3)
    fitted = folder.path / f"seed{seed}.npz"
    if not fitted.exists():
        save(fitted, bench.fit(key))
    learned = bench.load(fitted)
    if part == "fit":
        folder.write("V, held-out loss", seed, learned.report["vision_held_out"])
        folder.write("M, held-out loss", seed, learned.report["model_held_out"])
        folder.write("before it is evolved", seed, bench.score(unevolved(learned)))
        folder.write("random", seed, bench.score(learned, rounds=0, explore=True))
        return
    temperature = float(part) if part not in ("awake", "untrained") else 1.0
    if part == "untrained":
        learned = learned._replace(sequence=jax.jit(bench.sequence.init)(other_key))
    if part == "awake":
        evolved = learned._replace(controller=bench.awake(evolve_key, learned))
        folder.write(REAL, seed, bench.score(evolved))
        return
    controller, dreamt = bench.dream(evolve_key, learned, temperature)
    evolved = learned._replace(controller=controller)
    save(folder.path / f"seed{seed}_{part}.npz", evolved)
    name = "untrained M" if part == "untrained" else f"dream {temperature}"
    folder.write(f"{name}, in the dream", seed, dreamt)
    folder.write(f"{name}, real", seed, bench.score(evolved))


NAMES = {"fit": "random", "awake": REAL, "untrained": "untrained M, real"}
"""The number that says that a part is done."""


def unevolved(learned: Any) -> Any:
    return learned._replace(controller=jnp.zeros_like(learned.controller))


def draw(numbers: dict[str, dict[str, float]], temperatures: list[float], out: Path) -> None:
    """Scores over the temperature, in the dream and in the real game."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for where, label in (("in the dream", "in the dream"), ("real", "in the real game")):
        found = [list(numbers[f"dream {t}, {where}"].values()) for t in temperatures]
        (line,) = axes.plot(temperatures, [np.mean(values) for values in found], marker="o", label=label)
        for t, values in zip(temperatures, found, strict=True):
            axes.plot([t] * len(values), values, ".", color=line.get_color(), alpha=0.5)
    for name, style in (("random", ":"), (REAL, "--")):
        if name in numbers:
            axes.axhline(np.mean(list(numbers[name].values())), linestyle=style, color="gray", label=name)
    axes.set(xlabel="temperature of the dream", ylabel="steps survived, of 500", ylim=(0, LENGTH + 10))
    axes.set_title("TakeCover: controllers evolved in dreams")
    axes.legend()
    figure.savefig(out, dpi=120)
    plt.close(figure)


def table(numbers: dict[str, dict[str, float]]) -> str:
    """Mean and standard error over seeds, and the worst seed."""
    lines = ["| | mean ± standard error over seeds | worst seed | seeds |", "|---|---|---|---|"]
    for name, by_seed in numbers.items():
        values = np.array(list(by_seed.values()))
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        lines.append(f"| {name} | {values.mean():.1f} ± {error:.1f} | {values.min():.1f} | {len(values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of results; one for each setting")
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
    parser.add_argument("--draw", type=Path, help="a picture of the scores over temperatures, of what the folder holds")
    given = parser.parse_args()
    folder = Folder(given.folder)
    if given.draw is not None:
        draw(folder.numbers, sorted(given.temperatures), given.draw)
        return
    print(f"Measured on {describe_machine()}\n", flush=True)
    search = {"num_generations": given.generations, "population": given.population, "num_dreams": given.dreams}
    bench = Bench(given.cue_delay, {"model": given.model, "context": given.context}, search)
    keys = [jax.random.key(0)] if given.tune else list(jax.random.split(jax.random.key(1), given.seeds))
    first, *rest = (str(t) for t in given.temperatures)
    parts = ["fit", first, *([] if given.no_controls else ["awake", "untrained"]), *rest]
    for part in parts:
        for seed, key in enumerate(keys):
            begin = time.perf_counter()
            if not folder.has(NAMES.get(part, f"dream {part}, real"), seed):
                measure(bench, folder, seed, key, part)
                print(f"seed {seed}, {part}: {time.perf_counter() - begin:.0f} s", flush=True)
    print(f"\n{table(folder.numbers)}")


if __name__ == "__main__":
    main()
