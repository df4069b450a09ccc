"""Hindsight at the command line."""

import jax
import numpy as np

from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore


def test_hindsight_goes_into_a_run_by_name_and_is_resumed(jaxrl, tmp_path):
    """Where goals are; the run that goes on equals the one at once, its episodes and their places included."""
    arguments = ["train", "td3", "PointReach", "--replay", "hindsight", "--replay.strategy", "episode", "--replay.k", 2]
    arguments += ["--learning-starts", 32, "--batch-size", 4, "--num-envs", 4, "--rollout-length", 4]
    arguments += ["--torso.hidden", 8, "--eval-episodes", 0, "--replay-capacity", 256]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 512), (cut, 256)):
        assert jaxrl(*arguments, "--steps", steps, "--out", folder).code == 0
    chosen = RunFolder(whole).read_config().parts["replay"]
    assert (chosen.name, chosen.settings["strategy"], chosen.settings["k"]) == ("hindsight", "episode", 2)
    assert jaxrl("resume", cut, "--steps", 512, "--eval-episodes", 0).code == 0
    states = [restore(folder)[2].agent for folder in (whole, cut)]
    assert states[0].per_env.coming.step.shape[-1] == 4
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
