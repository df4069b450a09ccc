"""Speed: environment steps a second of the whole of ``train``, and its compile time.

    python benchmarks/speed.py                  # jaxrl alone
    python -m benchmarks.speed --row host       # an environment outside JAX, beside envpool alone
    python benchmarks/speed.py --row dqn --peer "peer/bin/python benchmarks/rejax_peer.py dqn {envs} {batch} {steps}"

PPO runs at CleanRL's settings for CartPole, which PureJaxRL publishes its figures for: two 64 x 64 tanh networks, 4
epochs of 4 minibatches, annealed learning rate, clipped value loss. DQN and TD3 have two layers of 64, as rejax has
them. ``--peer`` names a command that trains at the settings of a row: it prints ``ready`` once it has compiled, then
``steps/s N`` of one run for each line on its standard input. jaxrl and the peer then take turns, call by call, A B A B,
and the ratio of the medians is printed. The peer runs in a process, and so in an environment, of its own.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from benchmarks.environments import random_agent
from benchmarks.learning import describe_machine
from jaxrl.rollout import reset, rollout
from jaxrl.training import Program, fit


class Work(NamedTuple):
    """One row: what is trained, at which sizes, with how many steps of each seed."""

    recipe: str
    environment: str
    num_envs: int
    rollout_length: int
    num_seeds: int
    num_steps: int
    batch_size: int = 0

    def __str__(self) -> str:
        sizes = f"batch {self.batch_size}" if self.batch_size else f"{self.rollout_length} steps"
        return f"{self.recipe}, {self.environment}, {self.num_envs} envs, {sizes}, {self.num_seeds} seed(s)"


ROWS = {
    "ppo": Work("ppo", "CartPole-v1", 4, 128, 1, 500_000),
    "ppo_seeds": Work("ppo", "CartPole-v1", 4, 128, 8, 250_000),
    "ppo_wide": Work("ppo", "CartPole-v1", 256, 32, 1, 1_000_000),
    "dqn": Work("dqn", "CartPole-v1", 10, 1, 1, 200_000, batch_size=128),
    "td3": Work("td3", "Pendulum-v1", 1, 1, 1, 10_000, batch_size=256),
}


def make_agent(work: Work, spec: Any) -> jaxrl.Agent:
    """The agent of a row."""
    recipe = getattr(jaxrl.agents, work.recipe)
    if work.recipe == "ppo":
        num_updates = work.num_steps // (work.num_envs * work.rollout_length)
        return recipe(spec, clip_value_epsilon=0.2, anneal_learning_rate=True, num_updates=num_updates)
    torso = jaxrl.networks.MLP(hidden=(64, 64), activation="relu")
    return recipe(spec, torso=torso, batch_size=work.batch_size, replay_capacity=100_000, learning_starts=1_000)


def compile_run(work: Work) -> tuple[Callable[[], Any], float]:
    """The whole training as one compiled call, and the seconds it took to compile."""
    env, params = jaxrl.make(work.environment)
    agent = make_agent(work, jaxrl.spec(env, params))

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
    # One seed is not vmapped, as nobody would.
    return compiled_call(run, keys[0]) if work.num_seeds == 1 else compiled_call(jax.vmap(run), keys)


def compiled_call(function: Callable[[Any], Any], argument: Any) -> tuple[Callable[[], Any], float]:
    """The compiled call of a function of one argument, and the seconds it took to compile."""
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(argument).compile()
    return lambda: compiled(argument), time.perf_counter() - begin


def steps_a_second(work: Work, call: Callable[[], Any]) -> float:
    """Of one call that trains all seeds of a row."""
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return work.num_steps * work.num_seeds / (time.perf_counter() - begin)


class Peer:
    """A peer in a process of its own, compiled and waiting."""

    def __init__(self, command: str, work: Work) -> None:
        filled = command.format(
            envs=work.num_envs,
            length=work.rollout_length,
            seeds=work.num_seeds,
            steps=work.num_steps,
            batch=work.batch_size,
        )
        self.process = subprocess.Popen(
            shlex.split(filled), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._read("ready")

    def _read(self, start: str) -> str:
        for line in self.process.stdout or ():
            if line.startswith(start):
                return line
        raise RuntimeError(f"--peer: the command ended before it printed a line that starts with {start!r}")

    def measure(self) -> float:
        """Steps a second of one run, as the peer prints them."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        return float(self._read("steps/s").split()[1])

    def close(self) -> None:
        """Lets the peer end."""
        self.process.communicate()


def measure_row(work: Work, peer_command: str | None, repeats: int) -> str:
    """A row of the table."""
    call, compile_seconds = compile_run(work)
    peer = Peer(peer_command, work) if peer_command else None
    ours, theirs = [], []
    for turn in range(repeats):
        print(f"{work}: turn {turn + 1} of {repeats}", file=sys.stderr)
        ours.append(steps_a_second(work, call))
        theirs += [peer.measure()] if peer else []
    if peer:
        peer.close()
    mine = statistics.median(ours)
    compared = f"{statistics.median(theirs):,.0f} | {mine / statistics.median(theirs):.2f}x" if theirs else "- | -"
    return f"| {work} | {mine:,.0f} | {compile_seconds:.1f} s | {compared} |"


def compare_chunks(work: Work, chunk: int, repeats: int) -> float:
    """Speed on the host, ``chunk`` updates at a time, over the speed of the single scan; they take turns."""
    env, params = jaxrl.make(work.environment)
    agent = make_agent(work, jaxrl.spec(env, params))
    num_updates = work.num_steps // (work.num_envs * work.rollout_length)
    keys = jax.random.split(jax.random.key(0), work.num_seeds)
    program = Program(lambda: agent, env, params, keys, num_envs=work.num_envs, rollout_length=work.rollout_length)
    program.compile(chunk)

    def chunked() -> Any:
        return fit(program, num_updates=num_updates, updates_per_chunk=chunk, state=program.start())

    whole, _ = compile_run(work)
    jax.block_until_ready(chunked())  # makes the program of the first state
    pairs = [(steps_a_second(work, chunked), steps_a_second(work, whole)) for _ in range(repeats)]
    chunks, scans = zip(*pairs, strict=True)
    return statistics.median(chunks) / statistics.median(scans)


def compare_host(repeats: int, task: str = "BipedalWalker-v3", num_envs: int = 16, steps: int = 1000) -> str:
    """Steps a second of ``rollout`` in envpool with random actions, beside envpool alone; they take turns.

    envpool alone steps with actions drawn before, resets by itself, and nothing is kept of what it returns.
    """
    import envpool

    env, params = jaxrl.make(f"envpool/{task}")
    agent = random_agent(jaxrl.spec(env, params))
    play = jax.jit(lambda key, *now: rollout(key, agent, (), env, params, *now, steps))
    pool = envpool.make(task, env_type="gymnasium", num_envs=num_envs)
    low, high = pool.action_space.low, pool.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (steps, num_envs, *low.shape)).astype(low.dtype)
    observation, state = jax.jit(lambda key: reset(key, env, params, num_envs))(jax.random.key(0))
    pool.reset()
    ours, bare = [], []
    for turn in range(repeats + 1):
        begin = time.perf_counter()
        state, observation, trajectory = jax.block_until_ready(play(jax.random.key(turn), state, observation))
        middle = time.perf_counter()
        for action in actions:
            pool.step(action)
        end = time.perf_counter()
        if turn:  # the first one compiles
            ours.append(steps * num_envs / (middle - begin))
            bare.append(steps * num_envs / (end - middle))
    env.close()
    mine, alone = statistics.median(ours), statistics.median(bare)
    return (
        f"envpool/{task}, {num_envs} environments: {mine:,.0f} steps/s, {mine / alone:.2f} of {alone:,.0f} of envpool"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--row",
        action="append",
        choices=[*ROWS, "chunks", "host"],
        help="a row, any number of them; default: all but host",
    )
    parser.add_argument("--peer", help="a command with {envs}, {length}, {seeds}, {steps}, {batch}")
    parser.add_argument("--repeats", type=int, default=6, help="timed calls of each library")
    arguments = parser.parse_args()
    rows = arguments.row or [*ROWS, "chunks"]
    print(f"Measured on {describe_machine()}\n")
    print("| work | jaxrl steps/s | compile | peer steps/s | ratio |")
    print("|---|---|---|---|---|")
    for name in rows:
        if name in ROWS:
            print(measure_row(ROWS[name], arguments.peer, arguments.repeats), flush=True)
    if "chunks" in rows:
        ratio = compare_chunks(ROWS["ppo"], 128, 5 * arguments.repeats)  # a difference of a few percent
        print(f"\nThe ppo row on the host in chunks of 128 updates: {ratio:.3f} of the speed of the single scan.")
    if "host" in rows:
        print(compare_host(arguments.repeats))


if __name__ == "__main__":
    main()
