"""Hashes of every recipe's state after five updates: the same before and after a change that should change nothing.

``python tests/conformance/state_hashes.py > before.txt``, change the code, run it again, ``diff``. Both runs need the
same machine and the same jax. Every case is trained alone and as a vmapped population of two seeds, whose programs
differ. A hash covers the leaves of the state and of the metrics as a multiset, so that a leaf may move to another
place in its tree, and greedy and sampled actions of the last state. Names of recipes as arguments limit the run.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np

from jaxrl.training import train

UPDATES = 5


def digest(tree) -> str:
    """A short hash of the leaves of a tree, whatever their order."""
    leaves = []
    for leaf in jax.tree.leaves(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        leaves.append(hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest())
    return hashlib.sha256("".join(sorted(leaves)).encode()).hexdigest()[:16]


def outcome(subject, key):
    """The agent's state and the metrics after five updates, and two actions in that state."""
    state, metrics = train(
        key,
        subject.agent,
        subject.env,
        subject.params,
        num_steps=UPDATES * subject.num_envs * subject.rollout_length,
        num_envs=subject.num_envs,
        rollout_length=subject.rollout_length,
    )
    greedy = subject.agent.act(key, state.agent, state.observation, explore=False)
    return state.agent, metrics, greedy, subject.agent.act(key, state.agent, state.observation)


def main(names) -> None:
    """Prints a line for each recipe and environment."""
    spec = importlib.util.spec_from_file_location("cases", Path(__file__).with_name("test_recipes.py"))
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    for name, recipe in cases.RECIPES.items():
        for environment in recipe.environments:
            if names and name not in names:
                continue
            subject = cases.subject(name, environment)
            run = jax.jit(lambda key, subject=subject: outcome(subject, key))
            alone = digest(run(jax.random.key(7)))
            together = digest(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(8), 2)))
            print(f"{name:16} {environment:12} {alone} {together}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
