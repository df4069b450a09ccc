"""A run whose teacher answers from outside: what it asks, when it waits, and what it takes up again after a kill."""

import dataclasses
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxrl.cli import flags
from jaxrl.envs import spec
from jaxrl.envs.probes import ObservationActionProbe
from jaxrl.feedback import preferences
from jaxrl.networks import MLP
from jaxrl.runs import outside_answers, session
from jaxrl.runs.building import build
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore
from jaxrl.runs.outside_answers import OutsideAnswers
from jaxrl.runs.questions import Questions
from jaxrl.runs.starting import continue_run, start

PROBE = ObservationActionProbe()
MODEL = preferences(
    spec(PROBE, PROBE.default_params), teacher="person", torso=MLP(hidden=(2,)), labels=3, queries=1, query_interval=4,
    segment_length=2, num_members=1, memory=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def fresh():
    """The state of two members, which have asked two questions each."""
    state = jax.vmap(lambda key: MODEL.init(key, 1))(jax.random.split(jax.random.key(0)))
    asked = state.comparisons._replace(
        asked=jnp.array([2, 2]), observation=jnp.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2, 1)
    )
    return {"agent": state._replace(comparisons=asked)}  # it is found at any depth


def answers_of(state):
    model = state["agent"]
    return model.comparisons.label.tolist(), model.comparisons.given.tolist(), model.heard.tolist()


@pytest.fixture
def outside(tmp_path):
    said = []
    made = OutsideAnswers(RunFolder(tmp_path), said.append, lambda: False)
    return made, said


def test_queries_become_questions_and_answers_become_labels_of_their_member(fresh, outside):
    made, said = outside
    state = made.exchange(fresh, 4, wait=False)
    assert state["agent"] is fresh["agent"] or not state["agent"].heard.any()
    assert [made.questions.get(number)[1:3] for number in (1, 2, 3, 4)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    segments = made.questions.get(3).segments
    np.testing.assert_array_equal(segments[".observation"], fresh["agent"].comparisons.observation[1, 0])
    made.questions.answer(2, 1.0, "a"), made.questions.answer(3, None, "a")
    label, given, heard = answers_of(made.exchange(state, 5, wait=False))
    assert label[0][1] == 1.0 and given == [[False, True, False], [False] * 3] and heard == [True, False]
    assert not said and made.questions.last_event() == 5


def test_an_answer_that_was_undone_is_forgotten(fresh, outside):
    made, _ = outside
    made.exchange(fresh, 4, wait=False)
    made.questions.answer(1, 0.0, "a")
    state = made.exchange(fresh, 5, wait=False)
    made.questions.undo("a")
    state = {"agent": state["agent"]._replace(heard=jnp.array([False, False]))}
    label, given, heard = answers_of(made.exchange(state, 6, wait=False))
    assert label[0][0] == 0.5 and not given[0][0] and heard == [True, False]


def test_it_waits_for_earlier_sessions_only_and_says_so(fresh, outside, monkeypatch):
    monkeypatch.setattr(outside_answers, "POLL_SECONDS", 0.01)
    made, said = outside
    made.exchange(fresh, 4, wait=True)  # what was just asked is not waited for
    assert not said
    giving = threading.Timer(0.2, lambda: [made.questions.answer(number, 1.0, "a") for number in made.questions.open()])
    giving.start()
    state = made.exchange(fresh, 8, wait=True)
    giving.join()
    assert answers_of(state)[1] == [[True, True, False]] * 2
    assert said == [f"waiting for 4 answers; give them with: jaxrl label {made.questions.path.parent}",
                    "going on with 4 more answers"]  # fmt: skip


def test_an_interrupt_ends_the_wait_with_the_answers_so_far(fresh, tmp_path):
    said = []
    made = OutsideAnswers(RunFolder(tmp_path), said.append, lambda: bool(said))
    made.exchange(fresh, 4, wait=False)
    made.questions.answer(1, 1.0, "a")
    assert answers_of(made.exchange(fresh, 8, wait=True))[1][0] == [True, False, False]
    assert len(said) == 1


def test_after_a_resume_answers_are_taken_up_at_the_same_updates_and_questions_stand(fresh, outside, tmp_path):
    made, _ = outside
    made.exchange(fresh, 4, wait=False)
    made.questions.answer(1, 1.0, "a")
    made.exchange(fresh, 8, wait=False)
    made.questions.answer(2, 1.0, "a")  # while the run is dead
    again = OutsideAnswers(RunFolder(tmp_path), lambda text: None, lambda: False)
    model = fresh["agent"]
    moved = model._replace(comparisons=model.comparisons._replace(observation=model.comparisons.observation + 100.0))
    state = again.exchange({"agent": moved}, 4, wait=True)
    assert answers_of(state)[1][0] == [False, False, False], "taken up at update 8, not before"
    kept = state["agent"].comparisons.observation
    np.testing.assert_array_equal(kept[:, :2], model.comparisons.observation[:, :2])
    np.testing.assert_array_equal(kept[:, 2], moved.comparisons.observation[:, 2])
    assert answers_of(again.exchange(state, 8, wait=False))[1][0] == [True, True, False]


def test_sessions_begin_where_chunks_end():
    config = flags.parse(["ppo", "CartPole-v1", "--feedback", "preferences", "--teacher", "person", "--num-envs", "4",
                          "--rollout-length", "16", "--feedback.query-interval", "100"])[0]  # fmt: skip
    sessions = [outside_answers.next_session(config, done) for done in range(7)]
    assert sessions == [2, 2, 4, 4, 5, 7, 7]  # updates of 64 steps that reach 100, 200, 300, 400
    feedback = dataclasses.replace(
        config.parts["feedback"], settings={**config.parts["feedback"].settings, "pretraining": 250}
    )
    later = dataclasses.replace(config, parts={**config.parts, "feedback": feedback})
    assert [outside_answers.next_session(later, done) for done in (0, 3, 4)] == [4, 4, 6]  # 250, 350
    assert outside_answers.next_session(flags.parse(["ppo", "CartPole-v1"])[0], 0) is None
    for name, value in (("devices", 2), ("workers", 2)):
        with pytest.raises(ConfigError, match=f"{name}: got 2"):
            outside_answers.check(dataclasses.replace(config, **{name: value}))


RUN = ["a2c", "CartPole-v1", "--feedback", "preferences", "--teacher", "person", "--labels", "4", "--feedback.queries",
       "2", "--feedback.query-interval", "32", "--feedback.segment-length", "3", "--feedback.num-gradient-steps", "10",
       "--feedback.num-members", "1", "--feedback.choose", "uniform", "--feedback.memory", "64", "--num-envs", "2",
       "--rollout-length", "8", "--torso.hidden", "4", "--steps", "160", "--eval-episodes", "0"]  # fmt: skip


def test_a_run_learns_from_a_person_and_repeats_itself_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(outside_answers, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(session, "MIN_STEPS", 1)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    console, ended = Console(record=True, width=200), threading.Event()

    def person():
        questions = Questions(whole.labels_file)
        while not ended.wait(0.05):
            if "waiting for 2 answers" in console.export_text(clear=False):
                for number in questions.open():
                    questions.answer(number, number % 2, "a")

    answering = threading.Thread(target=person)
    answering.start()
    try:
        run = start(whole, flags.parse(RUN)[0], console=console)
    finally:
        ended.set()
        answering.join()
    model = outside_answers.reward_model(run.state)
    assert model.comparisons.label[0].tolist() == [1.0, 0.0, 1.0, 0.0] and model.comparisons.given.all()
    assert model.fits[0] >= 1 and not model.heard[0] and "going on with 2 more" in console.export_text()
    assert model.comparisons.observation.env_state.theta.shape == (1, 4, 2, 3), "which can be drawn"
    np.testing.assert_array_equal(
        model.comparisons.observation.env_state.theta, model.comparisons.observation.features[..., 2]
    )

    shutil.copytree(whole.path, cut.path)
    config = cut.read_config()
    shutil.rmtree(cut.checkpoint_folder / str(cut.checkpoints(config).updates()[-1]))
    assert cut.checkpoints(config).updates() == [0]
    begin = time.monotonic()
    continue_run(cut, config, config, console=console)
    assert time.monotonic() - begin < 100, "nobody answers, and nothing is waited for"
    for one, other in zip(*(jax.tree.leaves(restore(folder.path)[2].agent) for folder in (whole, cut)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert Questions(cut.labels_file).counts() == Questions(whole.labels_file).counts() == (4, 4, 0)


def test_recipes_with_a_replay_keep_no_states_in_it():
    sizes = ["--replay-capacity", "64", "--batch-size", "4", "--num-envs", "2", "--torso.hidden", "4"]
    config = flags.parse(["dqn", "CartPole-v1", "--feedback", "preferences", "--teacher", "person", *sizes])[0]
    built = build(config)
    state = jax.eval_shape(lambda key: built.agent(0).init(key, 2), jax.random.key(0))
    assert state.per_env.transitions.observation.env_state is None
    assert state.reward_model.per_env.transitions.observation.env_state.theta.shape[1] == 2
