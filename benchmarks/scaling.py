"""Scaling: one run split over 1, 2, 4, 8 devices, and on paper what its all-reduce costs on 8, 64 and 512 GPUs.

    python benchmarks/scaling.py                    # forced CPU devices: the overhead, not the speed-up
    python benchmarks/scaling.py --devices 1 2 4    # where there are GPUs, of those
    python benchmarks/scaling.py --paper 33         # on paper alone, for an update of 33 ms

Forced devices share the cores that one device has to itself, so that what is seen is what splitting costs: smaller
batches, and the exchange. All rows do the same work in turn, A B C A B C, and medians are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any, NamedTuple

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # read when jax is imported

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxrl
from benchmarks.learning import describe_machine
from jaxrl.training import Program, fit, make_mesh

NUM_ENVS, ROLLOUT_LENGTH, UPDATES = 256, 32, 20
GRADIENT_STEPS = 16
"""Of an update, and as many all-reduces: 4 epochs x 4 minibatches."""


OWN = "MLP 64 x 64"
"""Of PPO on CartPole."""


class Link(NamedTuple):
    """What joins GPUs: bytes a second out of each of them, and seconds a message takes however short it is."""

    name: str
    bandwidth: float
    latency: float


NODE = 8
"""GPUs of a node."""

NVLINK = Link("NVLink 4", 350e9, 3e-6)
NETWORK = Link("InfiniBand, one 400 Gb/s port a GPU", 45e9, 8e-6)
"""Assumed, not measured: some four fifths of the nominal rates, and latencies of the size that NCCL's tests print."""


def ring_seconds(size: float, members: int, link: Link) -> float:
    """An all-reduce round a ring: ``2 (D - 1) / D`` of the bytes through each link, in ``2 (D - 1)`` messages."""
    return 2 * (members - 1) / members * size / link.bandwidth + 2 * (members - 1) * link.latency


def tree_seconds(size: float, members: int, link: Link) -> float:
    """Up a tree and down again: ``2 log2 D`` messages, at twice the bytes a link, what NCCL takes for small arrays."""
    return 2 * size / link.bandwidth + 2 * np.log2(members) * link.latency


def all_reduce_seconds(size: float, gpus: int) -> tuple[float, float]:
    """By rings and by trees: within a node, and of an eighth of the array between nodes, where there are several."""
    nodes = gpus // NODE
    within = [seconds(size, NODE, NVLINK) for seconds in (ring_seconds, tree_seconds)]
    if nodes == 1:
        return within[0], within[1]
    between = [seconds(size / NODE, nodes, NETWORK) for seconds in (ring_seconds, tree_seconds)]
    return within[0] + between[0], within[1] + between[1]


def make_program(num_devices: int) -> Program:
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    return Program(
        lambda: jaxrl.ppo(spec),
        env,
        params,
        jax.random.split(jax.random.key(0), 1),
        num_envs=NUM_ENVS,
        rollout_length=ROLLOUT_LENGTH,
        mesh=None if num_devices == 1 else make_mesh(num_devices),
    )


def measure(counts: list[int], rounds: int) -> dict[int, float]:
    """Seconds an update with so many devices, medians over rounds in which all take turns."""
    programs = {count: make_program(count) for count in counts}
    states: dict[int, Any] = {}
    for count, program in programs.items():
        print(f"{count} devices: compiled in {program.compile(UPDATES):.1f} s", flush=True)
        states[count], _ = fit(program, num_updates=UPDATES, updates_per_chunk=UPDATES)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count, program in programs.items():
            begin = time.perf_counter()
            states[count], metrics = program.advance(states[count], UPDATES)
            jax.block_until_ready(metrics)
            seconds[count].append((time.perf_counter() - begin) / UPDATES)
    return {count: statistics.median(times) for count, times in seconds.items()}


def print_measured(seconds: dict[int, float]) -> None:
    first = next(iter(seconds.values()))
    print(f"\n{describe_machine()}; {jax.device_count()} devices of kind {jax.devices()[0].device_kind}")
    print(f"ppo, CartPole-v1, {NUM_ENVS} environments in all x {ROLLOUT_LENGTH} steps, 4 epochs x 4 minibatches\n")
    print("| devices | environments each | ms an update | steps/s | against one |\n|---|---|---|---|---|")
    for count, time_taken in seconds.items():
        speed = NUM_ENVS * ROLLOUT_LENGTH / time_taken
        print(f"| {count} | {NUM_ENVS // count} | {1e3 * time_taken:.1f} | {speed:,.0f} | {first / time_taken:.2f} |")


def print_paper(step: float) -> None:
    env, params = jaxrl.make("CartPole-v1")
    sizes = {OWN: parameter_bytes(jaxrl.ppo(jaxrl.spec(env, params)))}
    game = jaxrl.spec(*jaxrl.make("Breakout-MinAtar"))
    sizes["convolutional (MinAtar)"] = parameter_bytes(jaxrl.ppo(game))
    sizes["100M parameters"] = 4e8
    print(f"\nOn paper, in nodes of {NODE} GPUs:")
    for link in (NVLINK, NETWORK):
        print(f"{link.name}: {link.bandwidth / 1e9:.0f} GB/s, {1e6 * link.latency:.0f} us a message.")
    print(f"Share: of a gradient step of PPO's own network, {1e3 * step:.2f} ms as measured on one device, batch kept.")
    print("A tenth: the gradient step, without the exchange, beside which that is a tenth of the whole.\n")
    print("| network | gradient | GPUs | ring | tree | share, the faster | a tenth |\n|---|---|---|---|---|---|---|")
    for name, size in sizes.items():
        for gpus in (8, 64, 512):
            ring, tree = all_reduce_seconds(size, gpus)
            best = min(ring, tree)
            share = f"{best / (best + step):.1%}" if name == OWN else ""
            kind = f"{size / 1e3:,.0f} kB" if size < 1e7 else f"{size / 1e6:,.0f} MB"
            times = f"{1e6 * ring:,.0f} us | {1e6 * tree:,.0f} us"
            print(f"| {name} | {kind} | {gpus} | {times} | {share} | {9e3 * best:,.2f} ms |")


def parameter_bytes(agent: jaxrl.Agent) -> float:
    params = jax.eval_shape(lambda key: ravel_pytree(agent.init(key).params)[0], jax.random.key(0))
    return 4.0 * params.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--devices",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        help="numbers of devices; times are relative to the first",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--paper", type=float, metavar="MS", help="print what is on paper alone, for an update of so long"
    )
    arguments = parser.parse_args()
    if arguments.paper is not None:
        print_paper(1e-3 * arguments.paper / GRADIENT_STEPS)
        return
    seconds = measure(arguments.devices, arguments.rounds)
    print_measured(seconds)
    print_paper(next(iter(seconds.values())) / GRADIENT_STEPS)


if __name__ == "__main__":
    main()
