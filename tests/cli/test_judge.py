"""A run whose teacher is a judge on a loopback server, which refuses half way."""

import json

import jax
import numpy as np

from jaxrl.feedback.judge import KEY_VARIABLE, Cache
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore
from tests.loopback import alternatives, reply, serving

KEY = "sk-of-this-test-5512"
SESSIONS = ["--feedback", "preferences", "--teacher", "judge", "--labels", 8, "--feedback.queries", 4]
SESSIONS += ["--feedback.query-interval", 128, "--feedback.segment-length", 5, "--feedback.num-gradient-steps", 10]
SMALL = ["--num-envs", 4, "--rollout-length", 16, "--num-epochs", 1, "--torso.hidden", 8, "--eval-episodes", 0]
SMALL += ["--no-anneal-learning-rate", "--no-anneal-clip", "--steps", 512]


def judged(body, number):
    """Prefers the text that comes first in the alphabet, by one token with its alternatives."""
    text = body["messages"][0]["content"]
    first, second = text.split("Attempt A:\n")[1].split("\n\nWhich")[0].split("\n\nAttempt B:\n")
    return reply("A" if first < second else "B", alternatives(**{"A" if first < second else "B": -0.01}), "length")


def test_a_run_pays_nothing_twice_when_its_judge_refuses_half_way(jaxrl, tmp_path, short_chunks, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["train", "ppo", "CartPole-v1", *SESSIONS, *SMALL, "--judge-model", "m"]
    with serving(judged) as server:
        outcome = jaxrl(*arguments, "--judge-url", server.url, "--out", whole)
        assert outcome.code == 0, outcome.error
        assert "the judge answers by logprobs" in outcome.out
        assert "judge: 8 of 8 questions answered, 0 of them skipped; 0% of" in outcome.out
        asked = [json.dumps(body, sort_keys=True) for _, _, body in server.requests]
        assert len(asked) == len(set(asked)) == Cache(whole / "judge.sqlite").calls <= 1 + 8 * 2
        server.requests.clear()
        server.script = lambda body, number: judged(body, number) if number < 9 else (401, {"error": f"key {KEY}?"})
        outcome = jaxrl(*arguments, "--judge-url", server.url, "--out", cut)
        assert outcome.code == 1 and "HTTP 401" in outcome.error and f"jaxrl resume {cut}" in outcome.error
        assert KEY not in outcome.error + outcome.out
        paid = {json.dumps(body, sort_keys=True) for _, _, body in server.requests[:9]}
    with serving(judged, server.server_address[1]) as server:
        outcome = jaxrl("resume", cut, "--eval-episodes", 0, "--judge-calls", 100)
        assert outcome.code == 0, outcome.error
        again = [json.dumps(body, sort_keys=True) for _, _, body in server.requests]
    assert not paid & set(again) and paid | set(again) == set(asked)
    states = [restore(folder)[2].agent for folder in (whole, cut)]
    comparisons = states[0].reward_model.comparisons
    assert comparisons.given.all() and set(np.unique(comparisons.label)) <= {0.0, 1.0}
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    refused = jaxrl("resume", whole, "--steps", 1024, "--judge-calls", 1, "--judge-url", "127.0.0.1")
    assert refused.code == 2 and "judge_url: got '127.0.0.1'" in refused.error
    files = [file for file in [*whole.rglob("*"), *cut.rglob("*")] if file.is_file()]
    assert len(files) > 10 and not any(KEY.encode() in file.read_bytes() for file in files)
    assert RunFolder(cut).peek_config().parts["feedback"].settings["judge_model"] == "m"
