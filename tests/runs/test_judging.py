"""Who answers for teacher "judge": what it reads, what it stores, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.cli import flags
from jaxrl.feedback.judge import Judge, function, opinions, template
from jaxrl.runs import judging, python
from jaxrl.runs.config import Chosen
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.questions import Questions

ENV, PARAMS = jaxrl.make("CartPole-v1")
SPEC = jaxrl.spec(ENV, PARAMS)
SERVER = ["--judge-url", "http://127.0.0.1:1/v1", "--judge-model", "m"]


def config_of(*words):
    return flags.parse(["ppo", "CartPole-v1", "--feedback", "preferences", *words])[0]


def segments(*lengths, rows=5):
    """A question about two segments of these lengths."""
    observation = np.arange(2 * rows * 4, dtype=np.float32).reshape(2, rows, 4)
    mask = np.arange(rows)[None] < np.array(lengths)[:, None]
    return {".observation": observation, ".action": np.zeros((2, rows), np.int32), ".mask": mask}


def test_answers_are_stored_once_and_reported_over_all_sittings(tmp_path):
    folder = RunFolder(tmp_path)
    questions, said, read = Questions(folder.labels_file), [], []
    for row, lengths in enumerate([(5, 2), (1, 3), (4, 4)]):
        questions.add(0, row, 1, segments(*lengths))
    questions.answer(3, 0.5, "somebody else")

    def longer(first, second):
        read.append(first)
        if first.endswith("after step 1."):
            return None
        return float(first.count("Step") > second.count("Step"))

    config = config_of("--teacher", "judge", "--judge-every", "2")
    for _ in range(2):  # the second one finds nothing to do
        judge = judging.make(folder, config, function(longer), ENV, SPEC)
        judge.try_out(said.append)
        judge.answer(questions, said.append)
    assert questions.taken(9) == {} and questions.take(5) == 3
    assert questions.taken(9) == {(0, 0): 1.0, (0, 1): None, (0, 2): 0.5}
    assert len(read) == 4 and read[0].count("\n") == 2 and "push left" in read[0]
    assert said == ["judge: 3 of 3 questions answered, 1 of them skipped; 0% of 1 pairs flip with their order"]


def test_a_judge_with_texts_of_its_own_reads_observations_with_parts(tmp_path):
    told = segments(3, 2)
    told[".observation.features"] = told.pop(".observation")
    told[".observation.env_state.time"] = np.zeros((2, 5))
    questions = Questions(RunFolder(tmp_path).labels_file)
    questions.add(0, 0, 1, told)
    judged = judging.Judged(function(score=lambda text: -len(text)), template(SPEC)._replace(state=lambda x: "?"))
    config = config_of("--teacher", "judge", "--judge-asks", "scores")
    judging.make(RunFolder(tmp_path), config, judged, ENV, SPEC).answer(questions, lambda text: None)
    questions.take(1)
    assert questions.taken(1) == {(0, 0): 0.0}


def test_questions_wait_for_a_judge_that_is_away_and_it_is_said_once(tmp_path):
    questions, said = Questions(RunFolder(tmp_path).labels_file), []
    questions.add(0, 0, 1, segments(3, 2))
    away = Judge(lambda pairs: opinions([None] * len(pairs), [True] * len(pairs)), len)
    judge = judging.make(RunFolder(tmp_path), config_of("--teacher", "judge"), away, ENV, SPEC)
    judge.answer(questions, said.append), judge.answer(questions, said.append)
    assert len(said) == 1 and "1 questions wait" in said[0] and questions.open() == [1]


@pytest.mark.parametrize(
    ("words", "own", "parts"),
    [
        (["--teacher", "judge"], None, ["judge_url: got none"]),
        (["--teacher", "judge", *SERVER[:2]], None, ["judge_model: got none"]),
        (["--teacher", "oracle", *SERVER], None, ["judge_url: got http://127.0.0.1:1/v1", "teacher 'judge'"]),
        (["--teacher", "oracle"], function(max), ["judge: got Judge", "teacher 'judge'"]),
        (["--teacher", "judge"], max, ["judge: got builtin_function_or_method"]),
    ],
)
def test_a_judge_that_is_missing_or_not_asked_for_is_refused_by_name(words, own, parts):
    with pytest.raises(ConfigError) as raised:
        judging.check(config_of(*words), own, ENV, SPEC)
    assert all(part in str(raised.value) for part in parts)


def test_an_environment_without_a_task_and_a_wrong_address_are_refused_by_name():
    config = config_of("--teacher", "judge", *SERVER)
    judging.check(config, None, ENV, SPEC)
    unknown = type("Unknown", (), {"name": "Unknown"})()
    with pytest.raises(ConfigError, match="judge_task: none is known"):
        judging.check(config, None, unknown, SPEC)
    settings = {**config.parts["feedback"].settings, "judge_url": "127.0.0.1"}
    wrong = dataclasses.replace(config, parts={**config.parts, "feedback": Chosen("preferences", settings)})
    with pytest.raises(ConfigError, match=r"judge_url: got '127\.0\.0\.1'"):
        judging.check(wrong, None, ENV, SPEC)
    image = SPEC._replace(observation=jax.ShapeDtypeStruct((8, 8, 1), np.float32))
    with pytest.raises(ConfigError, match=r"\[8, 8, 1\]"):
        judging.check(config, None, ENV, image)


def test_a_part_is_given_by_name_with_settings_in_python():
    given = {"feedback": {"name": "preferences", "teacher": "judge", "labels": 7}}
    chosen, thing = python._part(jaxrl.ppo, "feedback", given, {}, SPEC)
    assert chosen.name == "preferences" and thing is None
    assert (chosen.settings["labels"], chosen.settings["queries"], chosen.settings["judge_asks"]) == (7, 20, "pairs")
    with pytest.raises(ConfigError, match="'name'"):
        python._part(jaxrl.ppo, "feedback", {"feedback": {"labels": 7}}, {}, SPEC)
