"""Speed: environment steps a second of the whole of ``train``, and its compile time.

    python benchmarks/speed.py                                    # jaxrl alone
    python benchmarks/speed.py --peer "python peer.py {envs} {length} {seeds} {steps}"

The settings are CleanRL's for CartPole, which PureJaxRL publishes its figures for: two 64 x 64 tanh networks, 4 epochs
of 4 minibatches, annealed learning rate, clipped value loss. ``--peer`` names a command that trains at the same
settings and prints lines ``steps/s N``; jaxrl and the peer are then measured in turn, A B A B, and the ratio of the
medians is printed. The peer runs in a process, and so in an environment, of its own.
"""

from __future__ import annotations

import argparse
import re
import shlex
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import jax

import jaxrl
from benchmarks.learning import describe_machine
from jaxrl.training import Program, fit


class Work(NamedTuple):
    """One row: environments, rollout length, vmapped seeds, steps of each seed."""

    num_envs: int
    rollout_length: int
    num_seeds: int
    num_steps: int


ROWS = (Work(4, 128, 1, 500_000), Work(4, 128, 8, 250_000), Work(256, 32, 1, 1_000_000))


def measure(work: Work, repeats: int) -> tuple[float, list[float]]:
    """Compile time in seconds, and steps a second of each repeat."""
    env, params = jaxrl.make("CartPole-v1")
    num_updates = work.num_steps // (work.num_envs * work.rollout_length)
    agent = jaxrl.ppo(
        jaxrl.spec(env, params), clip_value_epsilon=0.2, anneal_learning_rate=True, num_updates=num_updates
    )

    def run(key: jax.Array) -> tuple:
        return jaxrl.train(
            key,
            agent,
            env,
            params,
            num_steps=work.num_steps,
            num_envs=work.num_envs,
            rollout_length=work.rollout_length,
        )

    keys = jax.random.split(jax.random.key(0), work.num_seeds)
    begin = time.perf_counter()
    # One seed is not vmapped, as nobody would.
    function, argument = (run, keys[0]) if work.num_seeds == 1 else (jax.vmap(run), keys)
    compiled = jax.jit(function).lower(argument).compile()
    compile_seconds = time.perf_counter() - begin
    speeds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(argument))
        steps = num_updates * work.num_envs * work.rollout_length * work.num_seeds
        speeds.append(steps / (time.perf_counter() - begin))
    return compile_seconds, speeds


def measure_chunked(work: Work, chunk: int, repeats: int) -> list[float]:
    """Steps a second of the same run on the host, ``chunk`` updates at a time, metrics fetched after each."""
    env, params = jaxrl.make("CartPole-v1")
    num_updates = work.num_steps // (work.num_envs * work.rollout_length)
    agent = jaxrl.ppo(
        jaxrl.spec(env, params), clip_value_epsilon=0.2, anneal_learning_rate=True, num_updates=num_updates
    )
    keys = jax.random.split(jax.random.key(0), work.num_seeds)
    program = Program(lambda: agent, env, params, keys, num_envs=work.num_envs, rollout_length=work.rollout_length)
    program.compile(chunk)
    speeds = []
    for _ in range(repeats):
        state = program.start()
        begin = time.perf_counter()
        fit(program, num_updates=num_updates, updates_per_chunk=chunk, state=state)
        steps = num_updates * work.num_envs * work.rollout_length * work.num_seeds
        speeds.append(steps / (time.perf_counter() - begin))
    return speeds


def measure_peer(command: str, work: Work) -> list[float]:
    """Steps a second, as the peer prints them."""
    filled = command.format(envs=work.num_envs, length=work.rollout_length, seeds=work.num_seeds, steps=work.num_steps)
    output = subprocess.run(shlex.split(filled), capture_output=True, text=True, check=True).stdout
    return [float(number) for number in re.findall(r"steps/s (\d+)", output)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a command with {envs}, {length}, {seeds}, {steps}")
    parser.add_argument("--rounds", type=int, default=2, help="how often jaxrl and the peer take turns")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls a turn")
    arguments = parser.parse_args()
    print(f"Measured on {describe_machine()}\n")
    print("| ppo, CartPole-v1: envs x length, seeds | jaxrl steps/s | compile | peer steps/s | ratio |")
    print("|---|---|---|---|---|")
    for work in ROWS:
        ours, theirs, compile_seconds = [], [], []
        for turn in range(arguments.rounds):
            print(f"{work}, turn {turn + 1} of {arguments.rounds}", file=sys.stderr)
            seconds, speeds = measure(work, arguments.repeats)
            compile_seconds.append(seconds)
            ours += speeds
            theirs += measure_peer(arguments.peer, work) if arguments.peer else []
        mine = statistics.median(ours)
        peer = f"{statistics.median(theirs):,.0f} | {mine / statistics.median(theirs):.2f}x" if theirs else "- | -"
        name = f"{work.num_envs} x {work.rollout_length}, {work.num_seeds}"
        print(f"| {name} | {mine:,.0f} | {min(compile_seconds):.1f} s | {peer} |", flush=True)
    work, chunk = ROWS[0], 128
    scan = [speed for _ in range(arguments.rounds) for speed in measure(work, arguments.repeats)[1]]
    chunked = measure_chunked(work, chunk, arguments.rounds * arguments.repeats)
    ratio = statistics.median(chunked) / statistics.median(scan)
    print(f"\nThe first row on the host in chunks of {chunk} updates: {ratio:.3f} of the speed of the single scan.")


if __name__ == "__main__":
    main()
