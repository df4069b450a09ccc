"""Speed of the search: simulations a second beside mctx's, of the same model, to the same visit counts.

    python benchmarks/search.py                 # the table: B trees, A actions, N simulations
    python benchmarks/search.py --policy puct --size 64,9,128
    python benchmarks/search.py --grow          # how time grows with B, A, N and depth; jaxrl alone
    python benchmarks/search.py --seeds         # the cost of vmap over seeds

The model is a hash, so that next to nothing of the time is its: logits in [-2, 2], values in [-1, 1], rewards in
[0, 0.1], the players alternate. Both run in one process and take turns, A B A B; the figure is the median of the calls,
compile time apart. Root noise is off in PUCT, and the Gumbel noise is the same, so that visit counts can be compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from benchmarks.learning import describe_machine
from jaxrl import search

SIZES = [(32, 9, 64), (64, 9, 128), (64, 82, 128), (16, 362, 256), (256, 9, 256)]
OURS = {"puct": search.puct, "gumbel": search.gumbel}
THEIRS = {"puct": mctx.muzero_policy, "gumbel": mctx.gumbel_muzero_policy}
OPTIONS: dict[str, dict[str, Any]] = {"puct": {"dirichlet_fraction": 0.0}, "gumbel": {}}


def mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def unit(x: jax.Array) -> jax.Array:
    return (mix(x) >> 8).astype(jnp.float32) * 2.0**-24


def evaluate(state: jax.Array, num_actions: int) -> tuple[jax.Array, jax.Array]:
    """Logits and values of states ``[B]``."""
    actions = jnp.arange(1, num_actions + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1)
    return 2.0 * (2.0 * unit(state[:, None] + actions[None]) - 1.0), 2.0 * unit(state ^ jnp.uint32(0x51)) - 1.0


def make_root(batch: int, num_actions: int, seed: int = 0) -> mctx.RootFnOutput:
    state = jax.random.bits(jax.random.key(seed), (batch,), jnp.uint32)
    logits, value = evaluate(state, num_actions)
    return mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)


def make_model(num_actions: int, discount: float = -1.0) -> Callable[..., Any]:
    def model(params: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> tuple[Any, jax.Array]:
        del params, key
        state = mix(state * jnp.uint32(31) + action.astype(jnp.uint32) + jnp.uint32(1))
        logits, value = evaluate(state, num_actions)
        reward, discounts = 0.1 * unit(state ^ jnp.uint32(0x77)), jnp.full(state.shape, discount)
        return mctx.RecurrentFnOutput(reward=reward, discount=discounts, prior_logits=logits, value=value), state

    return model


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], float]:
    """A call without arguments, and the seconds it took to compile."""
    begin = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments)), time.perf_counter() - begin


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ours_of(policy: str, num_actions: int, num_simulations: int, **options: Any) -> Callable[..., Any]:
    model, options = make_model(num_actions), OPTIONS[policy] | options
    return lambda key, root: OURS[policy](key, (), root, model, num_simulations, **options)


class Compared(NamedTuple):
    """One policy at one size, and mctx at the same work: simulations a second, compile seconds, and what was found."""

    ours: float
    theirs: float
    our_compile: float
    their_compile: float
    paths: str
    equal: float

    @property
    def ratio(self) -> float:
        """How many times as fast."""
        return self.ours / self.theirs


def measure(policy: str, size: tuple[int, int, int], repeats: int) -> Compared:
    """Both libraries on one problem, in turn."""
    batch, num_actions, num_simulations = size
    key, root, model = jax.random.key(1), make_root(batch, num_actions), make_model(num_actions)
    ours, our_compile = compiled(ours_of(policy, num_actions, num_simulations), key, root)
    theirs, their_compile = compiled(
        lambda key, root: THEIRS[policy]((), key, root, model, num_simulations, **OPTIONS[policy]), key, root
    )
    mine, peer = ours().search_tree, theirs().search_tree
    equal = np.mean(np.asarray(mine.children_visits[:, 0] == peer.children_visits[:, 0]).all(axis=-1))
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    fast, slow = (statistics.median(times) for times in zip(*pairs, strict=True))
    # Node s + 1 of a tree was made by simulation s, at the end of its path.
    depths = np.asarray(mine.depths())[:, 1:]
    paths = f"{depths.mean():.1f}, {depths.max(axis=0).mean():.1f}, {depths.max()}"
    total = batch * num_simulations
    return Compared(total / fast, total / slow, our_compile, their_compile, paths, float(equal))


def compare(policy: str, size: tuple[int, int, int], repeats: int) -> tuple[str, float]:
    """A row of the table, and the ratio."""
    found = measure(policy, size, repeats)
    row = (
        f"| {policy} | {', '.join(map(str, size))} | {found.ours:,.0f} | {found.theirs:,.0f} | {found.ratio:.1f}x "
        f"| {found.our_compile:.1f} s, {found.their_compile:.1f} s | {found.paths} | {found.equal:.0%} |"
    )
    return row, found.ratio


def compare_all(policies: list[str], sizes: list[tuple[int, int, int]], repeats: int) -> None:
    print(
        "| policy | B, A, N | jaxrl sims/s | mctx sims/s | ratio | compile, each "
        "| path: mean, longest of the batch, longest of all | roots with equal visits |"
    )
    print("|---|---|---|---|---|---|---|---|")
    means = []
    for policy in policies:
        ratios = []
        for size in sizes:
            row, ratio = compare(policy, size, repeats)
            print(row, flush=True)
            ratios.append(ratio)
        means.append(f"{policy}: {statistics.geometric_mean(ratios):.1f}x in the geometric mean")
    print("\n" + ", ".join(means))


def grow(repeats: int) -> None:
    """How the time of a simulation of the whole batch grows, one number at a time."""
    middle = {"B": 64, "A": 9, "N": 128}
    values: dict[str, list[int]] = {"B": [1, 8, 64, 512], "A": [3, 9, 82, 362], "N": [32, 128, 512]}
    print("| B, A, N, depth limit | microseconds a simulation of the batch: puct | gumbel |")
    print("|---|---|---|")
    for name in values:
        for value in values[name]:
            print(grow_row(**middle | {name: value}, max_depth=None, repeats=repeats), flush=True)
    for max_depth in (2, 4, 8, 16):
        print(grow_row(**middle, max_depth=max_depth, repeats=repeats), flush=True)


def grow_row(B: int, A: int, N: int, max_depth: int | None, repeats: int) -> str:
    times = []
    for policy in OURS:
        call, _ = compiled(ours_of(policy, A, N, max_depth=max_depth), jax.random.key(1), make_root(B, A))
        call()
        times.append(statistics.median(seconds(call) for _ in range(repeats)) / N * 1e6)
    return f"| {B}, {A}, {N}, {max_depth or 'none'} | {times[0]:.0f} | {times[1]:.0f} |"


def seeds(repeats: int) -> None:
    """S vmapped searches of B trees against one of S B trees, in turn."""
    print("| policy | S, B, A, N | vmapped sims/s | one batch sims/s | ratio |")
    print("|---|---|---|---|---|")
    num_seeds, batch, num_actions, num_simulations = 8, 16, 9, 64
    key = jax.random.key(1)
    flat = make_root(num_seeds * batch, num_actions)
    roots = jax.tree.map(lambda x: x.reshape(num_seeds, batch, *x.shape[1:]), flat)
    for policy in OURS:
        function = ours_of(policy, num_actions, num_simulations)
        vmapped, _ = compiled(jax.vmap(function), jax.random.split(key, num_seeds), roots)
        whole, _ = compiled(function, key, flat)
        vmapped(), whole()
        pairs = [(seconds(vmapped), seconds(whole)) for _ in range(3 * repeats)]
        slow, fast = (statistics.median(times) for times in zip(*pairs, strict=True))
        total = num_seeds * batch * num_simulations
        sizes = f"{num_seeds}, {batch}, {num_actions}, {num_simulations}"
        print(f"| {policy} | {sizes} | {total / slow:,.0f} | {total / fast:,.0f} | {fast / slow:.2f}x |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", choices=list(OURS), help="a policy; may be repeated; default: all")
    parser.add_argument("--size", action="append", help="a size B,A,N; may be repeated; default: those of the table")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each library")
    parser.add_argument("--grow", action="store_true", help="measure how time grows with B, A, N and depth")
    parser.add_argument("--seeds", action="store_true", help="measure the cost of vmap over seeds")
    arguments = parser.parse_args()
    if arguments.grow + arguments.seeds + bool(arguments.policy or arguments.size) > 1:
        parser.error("--grow, --seeds, and --policy with --size: one at a time; the first two have sizes of their own")
    print(f"Measured on {describe_machine()}\n")
    if arguments.grow:
        grow(arguments.repeats)
    elif arguments.seeds:
        seeds(arguments.repeats)
    else:
        sizes = [tuple(int(part) for part in text.split(",")) for text in arguments.size or []] or SIZES
        compare_all(arguments.policy or list(OURS), sizes, arguments.repeats)


if __name__ == "__main__":
    main()
