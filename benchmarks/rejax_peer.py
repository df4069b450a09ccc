"""rejax's DQN and TD3 at the settings of ``benchmarks/speed.py``, as a peer for its ``--peer``.

Runs in an environment of its own, since rejax wants an older gymnax: ``pip install rejax==0.1.3 gymnax==0.0.9``.

    python benchmarks/rejax_peer.py dqn 10 128 200000

Arguments: algorithm, environments, batch size, steps. Prints ``ready`` once compiled, then ``steps/s N`` of one more
run for each line on its standard input.
"""

import sys
import time

import jax
import rejax

COMMON = {"learning_rate": 5e-4, "gamma": 0.99, "buffer_size": 100_000, "fill_buffer": 1_000}
RELU = {"activation": "relu"}  # rejax changes what it is given; its networks have two layers of 64
ALGORITHMS = {
    "dqn": (rejax.DQN, {"env": "CartPole-v1", "target_update_freq": 2_000, "ddqn": False, "agent_kwargs": RELU}),
    "td3": (
        rejax.TD3,
        {"env": "Pendulum-v1", "policy_delay": 2, "actor_kwargs": dict(RELU), "critic_kwargs": dict(RELU)},
    ),
}


def main() -> None:
    name, num_envs, batch_size, steps = sys.argv[1], *map(int, sys.argv[2:5])
    kind, options = ALGORITHMS[name]
    algorithm = kind.create(
        **COMMON,
        **options,
        num_envs=num_envs,
        num_epochs=1,
        batch_size=batch_size,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda *arguments: ())  # training alone is measured
    key = jax.random.PRNGKey(0)
    compiled = jax.jit(kind.train).lower(algorithm, key).compile()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        jax.block_until_ready(compiled(algorithm, key))
        print(f"steps/s {steps / (time.perf_counter() - begin):.0f}", flush=True)


if __name__ == "__main__":
    main()
