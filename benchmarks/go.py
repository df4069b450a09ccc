"""Simulations per second of ``alphazero`` on the boards of Go: ``python -m benchmarks.go``.

It times ``act``, which includes the network and the rules of the game, without compilation. A second column has a
network of almost no cost, so that only the search and the rules are timed.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import jax

import jaxrl
from jaxrl import envs, networks
from jaxrl.rollout import reset

NETWORKS: dict[str, Any] = {
    "residual, 32 channels, 3 blocks": networks.Residual(),
    "transformer, width 32, 1 layer": networks.Transformer(),
    "mlp, 8 units": networks.MLP(hidden=(8,)),
}


def measure(name: str, torso: Any, batch: int, num_simulations: int, seconds: float) -> tuple[float, float]:
    """``(compile seconds, simulations per second)`` of searches from the first position of many games."""
    game, params = envs.make(name)
    env = envs.expose_state(game)
    agent = jaxrl.alphazero(
        envs.spec(env, params),
        model=envs.simulator(env, params),
        torso=torso,
        num_simulations=num_simulations,
        replay_capacity=batch,
        learning_starts=1,
    )
    state = jax.jit(partial(agent.init, num_envs=batch))(jax.random.key(0))
    observation, _ = reset(jax.random.key(1), env, params, batch)
    begin = time.perf_counter()
    act = jax.jit(agent.act).lower(jax.random.key(2), state, observation).compile()
    compiled = time.perf_counter() - begin
    jax.block_until_ready(act(jax.random.key(2), state, observation))
    calls, begin = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - begin < seconds:
        jax.block_until_ready(act(jax.random.key(3 + calls), state, observation))
        calls += 1
    return compiled, calls * batch * num_simulations / (time.perf_counter() - begin)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16, help="games in parallel")
    parser.add_argument("--num-simulations", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds per row")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    flags = parser.parse_args()
    print("| game | network | games x simulations | compile | simulations/s |\n|---|---|---|---|---|")
    for name in ("pgx/go_9x9", "pgx/go_19x19"):
        for label in flags.networks:
            compiled, speed = measure(name, NETWORKS[label], flags.batch, flags.num_simulations, flags.seconds)
            size = f"{flags.batch} x {flags.num_simulations}"
            print(f"| {name} | {label} | {size} | {compiled:.0f} s | {speed:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
