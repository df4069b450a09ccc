"""What the likelihood of "State: ..., Action: ..." under a language model teaches, beside what comparisons teach.

``python -m benchmarks.likelihood`` trains a small language model on the bytes of Python's own prose (``pydoc_data``),
pays CartPole's decisions by it, and asks whether good decisions (a push towards the side to which the pole falls) are
paid more than bad ones in the same state. Then ``ppo`` is trained on that reward. ``--judged RUN`` names a run of
``benchmarks.feedback --row judge`` whose curve is drawn beside. Writes ``--figure``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization

import jaxrl
from jaxrl import text
from jaxrl.agents.presets import LOOP
from jaxrl.feedback import judge
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import read_curves
from jaxrl.types import RewardModel, Transition

WINDOW, BATCH, START = 128, 16, 256
"""Bytes of a text in training, texts of a batch, and the token before every text."""


def language_model(key: jax.Array, num_steps: int, file: Path | None) -> tuple[text.Transformer, Any, float]:
    """A small model of bytes, its parameters, and its bits a byte on a held-out tenth.

    Args:
      key: consumed.
      num_steps: gradient steps.
      file: where parameters are kept; they are read from there, and not trained, where it exists.
    """
    prose = np.frombuffer("\n\n".join(topics[name] for name in sorted(topics)).encode(), np.uint8).astype(np.int32)
    train, held_out = prose[: len(prose) * 9 // 10], prose[len(prose) * 9 // 10 :]
    model = text.llama(START + 1, width=64, num_layers=2, num_heads=4, max_length=256)
    everything = jnp.ones((BATCH, WINDOW), bool)
    params = model.init(key, jnp.zeros((BATCH, WINDOW), jnp.int32), everything)
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, num_steps))

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        given = jnp.concatenate([jnp.full((BATCH, 1), START, jnp.int32), tokens[:, :-1]], axis=1)
        logits, _ = model.apply(params, given, everything)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()

    def windows(source: np.ndarray, key: jax.Array) -> jax.Array:
        begins = jax.random.randint(key, (BATCH, 1), 0, len(source) - WINDOW)
        return jnp.asarray(source)[begins + jnp.arange(WINDOW)[None]]

    @jax.jit
    def fitted(params: Any, key: jax.Array) -> Any:
        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            params, state = carry
            updates, state = adam.update(jax.grad(loss)(params, windows(train, key)), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, adam.init(params)), jax.random.split(key, num_steps))[0][0]

    if file is not None and file.exists():
        params = serialization.from_bytes(params, file.read_bytes())
    else:
        params = fitted(params, jax.random.fold_in(key, 1))
        if file is not None:
            file.write_bytes(serialization.to_bytes(params))
    keys = jax.random.split(jax.random.fold_in(key, 2), 16)
    bits = jax.jit(lambda params: jax.lax.map(lambda key: loss(params, windows(held_out, key)), keys).mean())(params)
    return model, params, float(bits) / np.log(2.0)


def paid_by(model: text.Transformer, params: Any, spec: Any, names: judge.Names) -> RewardModel:
    """The likelihood of a step's text as its reward."""

    def of_text(tokens: jax.Array, mask: jax.Array) -> jax.Array:
        start = jnp.full((1, 1), START, jnp.int32)
        return text.log_probs(params, model, start, start > 0, tokens[None], mask[None])[0]

    def log_probs(tokens: jax.Array, mask: jax.Array) -> jax.Array:
        return jax.lax.map(lambda row: of_text(*row), (tokens, mask), batch_size=64)  # all at once would fill memory

    return judge.likelihood(log_probs, judge.byte_writer(spec, names))


def of_both_actions(reward: RewardModel, states: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The rewards ``[N]`` of the good decision in each state, and of the bad one."""
    right = (states[:, 2] + 0.5 * states[:, 3] > 0.0).astype(jnp.int32)

    def paid(action: jax.Array) -> jax.Array:
        zero = jnp.zeros((len(states), 1))
        steps = Transition(states[:, None], action[:, None], zero, zero, zero > 0, zero > 0, states[:, None])
        return reward.reward(jax.random.key(0), reward.init(jax.random.key(0), 1), steps)[:, 0]

    good, bad = jax.jit(lambda: (paid(right), paid(1 - right)))()
    return np.asarray(good), np.asarray(bad)


def main(
    num_steps: int, env_steps: int, num_seeds: int, file: Path | None, judged: str | None, figure: str | None
) -> None:
    begin = time.perf_counter()
    model, params, bits = language_model(jax.random.key(0), num_steps, file)
    print(
        f"language model: {bits:.2f} bits a byte held out after {num_steps} steps, {time.perf_counter() - begin:.0f} s"
    )
    env, env_params = jaxrl.make("CartPole-v1")
    spec, names = jaxrl.spec(env, env_params), judge.names_of(env)
    reward = paid_by(model, params, spec, names)
    states = jax.random.uniform(jax.random.key(1), (512, 4), minval=-1.0) * jnp.array([[1.0, 1.0, 0.2, 1.0]])
    good, bad = of_both_actions(reward, states)
    spread = np.concatenate([good, bad]).std()
    agree = (good > bad).mean()
    print(
        f"reward of good decisions {good.mean():.4f}, of bad ones {bad.mean():.4f}, standard deviation {spread:.4f}; "
        f"the good one of the two is paid more in {agree:.1%} of 512 states",
        flush=True,
    )
    if figure is not None:
        draw(good, bad, agree, None, {}, judged, figure)
    if not env_steps:
        return
    preset = jaxrl.preset("ppo", "CartPole-v1")
    size = {name: preset.pop(name) for name in LOOP} | {"num_steps": env_steps}
    preset["num_updates"] = size["num_steps"] // (size["num_envs"] * size["rollout_length"])
    agent = jaxrl.with_reward(jaxrl.ppo(spec, **preset), reward)
    run = jax.jit(jax.vmap(lambda key: jaxrl.train(key, agent, env, env_params, **size)[1]))
    metrics = jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(1), num_seeds)))
    returns, learned = metrics["episode_return"], metrics["learned_reward"]
    tail = max(returns.shape[1] // 10, 1)
    print(
        f"ppo paid by it, {env_steps} steps: likelihood {learned[:, :tail].mean():.4f} at first, "
        f"{learned[:, -tail:].mean():.4f} at last; true return {np.nanmean(returns[:, :tail]):.1f} at first, "
        f"{np.nanmean(returns[:, -tail:], axis=1).round(1).tolist()} at last; {time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    if figure is not None:
        draw(good, bad, agree, returns, size, judged, figure)


def draw(
    good: np.ndarray, bad: np.ndarray, agree: float, returns: Any, size: dict[str, int], judged: Any, figure: str
) -> None:
    """Two panels: the rewards of good and bad decisions, and true returns in training."""
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    edges = np.histogram_bin_edges(np.concatenate([good, bad]), 40)
    for values, name, color in ((good, "good decisions", "C2"), (bad, "bad decisions", "C3")):
        left.hist(values, edges, alpha=0.5, label=name, color=color)
    left.set_xlabel("log-likelihood of a byte of the step's text")
    left.set_ylabel("states")
    left.set_title(f"the good one is likelier in {agree:.0%}", fontsize="medium")
    left.legend(edgecolor="none")
    if returns is not None:
        steps = (1 + np.arange(returns.shape[1])) * size["num_envs"] * size["rollout_length"] / 1_000
        right.plot(steps, np.nanmean(returns, axis=0), color="C3", label="paid by the likelihood")
    if judged is not None:
        folder = RunFolder(judged)
        curve = read_curves(folder.metrics_file, "episode_return", folder.peek_config().num_members)
        right.plot(curve.env_steps / 1_000, np.nanmean(curve.values, axis=0), color="C0", label="paid by comparisons")
    right.set_xlabel("thousand environment steps")
    right.set_ylabel("true return")
    right.legend(edgecolor="none")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    plt.savefig(figure, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=400, help="of the language model")
    parser.add_argument("--env-steps", type=int, default=60_000, help="of ppo; 0 for none")
    parser.add_argument("--num-seeds", type=int, default=2)
    parser.add_argument("--params", type=Path, help="a file that keeps the parameters of the language model")
    parser.add_argument("--judged", help="a run of benchmarks.feedback --row judge")
    parser.add_argument("--figure", help="a PNG file; it is drawn before ppo is trained, and again after")
    arguments = parser.parse_args()
    size = arguments.num_steps, arguments.env_steps, arguments.num_seeds
    main(*size, arguments.params, arguments.judged, arguments.figure)
