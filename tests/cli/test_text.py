"""Language models from the command line: train, and start from a run."""

import jax
import numpy as np

from jaxrl.runs import load

SMALL = [
    *("--network.width", "8", "--network.num-layers", "1", "--network.num-heads", "1", "--start.num-batches", "2"),
    *("--steps", "32", "--num-envs", "4", "--num-minibatches", "1", "--eval-episodes", "4"),
]


def test_grpo_answers_a_prompt_several_times_and_a_run_can_start_from_it(jaxrl, tmp_path):
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    outcome = jaxrl("train", "grpo", "Reverse-2", *SMALL, "--rollout-length", "4", "--out", first)
    assert outcome.code == 0, outcome.error
    outcome = jaxrl(
        "train", "rloo", "Reverse-2", *SMALL, "--rollout-length", "4", "--init-from", first, "--out", second
    )
    assert outcome.code == 0, outcome.error
    policy, reference = load(first)[1].policy, load(second)[1].reference
    assert jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), policy, reference))


def test_one_answer_to_a_prompt_is_refused(jaxrl):
    outcome = jaxrl("train", "grpo", "Reverse-2", *SMALL, "--rollout-length", "1")
    assert outcome.code == 2 and "rollout_length: got 1" in outcome.error
