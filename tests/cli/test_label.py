"""``jaxrl label``: the page by its HTTP interface, clips, and the terminal."""

import io
import shutil
import socket
import threading
import types

import jax
import numpy as np
import pytest
import uvicorn
from PIL import Image
from rich.console import Console

from jaxrl import envs
from jaxrl.cli.label import terminal
from jaxrl.cli.label.page import Labelling, drawing_thread, make_app
from jaxrl.feedback.segments import example
from jaxrl.runs.clips import Clips
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.outside_answers import Pair, paths
from jaxrl.runs.questions import Questions

L = 4


def clips_of(name, exposed=True):
    """What draws the clips of an environment, and questions about states after its reset; the right one is shorter."""
    env, params = envs.make(name)
    env = envs.expose_state(env, innermost=True) if exposed else env
    observation, _ = env.reset(jax.random.key(0), params)
    seen = example(envs.spec(env, params), states=True)
    pair = Pair(observation, np.zeros(seen.action.shape, seen.action.dtype), ())
    segments = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (2, L, *np.shape(leaf))), pair)
    mask = np.array([[True] * L, [True] * (L - 1) + [False]])
    built = types.SimpleNamespace(env=env, params=params, spec=envs.spec(env, params))
    return Clips(built), {**paths(segments), ".mask": mask}


@pytest.fixture(scope="module")
def cartpole():
    return clips_of("CartPole-v1")


def asked(path, segments, count=3):
    questions = Questions(path)
    for row in range(count):
        questions.add(0, row, 2, segments)
    return questions


class Page:
    """The page of a folder, as its JavaScript calls it."""

    def __init__(self, tmp_path, drawn, labels=6):
        from starlette.testclient import TestClient

        folder = RunFolder(tmp_path)
        folder.peek_config = lambda: types.SimpleNamespace(num_members=1)
        self.questions = asked(folder.labels_file, drawn[1])
        self.app = make_app(Labelling(folder, self.questions, drawn[0], labels), "secret")
        self.client = TestClient(self.app, base_url="http://127.0.0.1")
        self.folder = folder

    def get(self, path):
        return self.client.get(f"/secret/{path}")

    def post(self, path, **body):
        return self.client.post(f"/secret/{path}", json=body)


@pytest.fixture
def page(tmp_path, cartpole):
    yield Page(tmp_path, cartpole)
    drawing_thread().submit(lambda: None).result()  # what was drawn ahead is done


def test_two_people_label_at_once_and_undo_their_own(page):
    first, second = (page.get(f"question?who={who}").json() for who in "ab")
    assert (first["question"], second["question"]) == (1, 2)
    assert first == {"question": 1, "asked": 3, "done": 0, "skipped": 0, "labels": 6, "accuracy": []}
    assert page.get("question?who=a").json()["question"] == 1, "a reload shows the same question"
    told = page.post("answer", who="a", question=1, answer="left").json()
    assert told["stored"] and (told["question"], told["done"]) == (3, 1)
    assert not page.post("answer", who="b", question=1, answer="right").json()["stored"], "the first answer stands"
    for question, answer, who in ((2, "equal", "b"), (3, "skip", "a")):
        page.post("answer", who=who, question=question, answer=answer)
    assert page.questions.take(9) == 3 and page.questions.taken(9) == {(0, 0): 1.0, (0, 1): 0.5, (0, 2): None}
    assert (
        page.get("question?who=a").json() | {"question": None, "skipped": 1, "done": 3}
        == page.get("question?who=b").json()
    )
    undone = page.post("undo", who="a").json()
    assert (undone["undone"], undone["question"], undone["done"]) == (3, 3, 2)
    assert page.post("undo", who="c").json()["undone"] is None


def test_clips_are_gifs_of_the_steps_that_a_segment_has(page):
    for side, length in (("left", L), ("right", L - 1)):
        reply = page.get(f"clip/1/{side}")
        assert reply.headers["content-type"] == "image/gif" and Image.open(io.BytesIO(reply.content)).n_frames == length
    assert page.get("clip/9/left").status_code == page.get("clip/1/up").status_code == 404


def test_only_who_knows_the_token_at_this_address_gets_anything(page):
    assert "better behaviour" in page.get("").text
    for path in ("/", "/other/", "/other/question", "/secre/clip/1/left"):
        assert page.client.get(path).status_code == 404
    assert page.client.post("/other/answer", json={"who": "a", "question": 1, "answer": "left"}).status_code == 404
    assert page.client.get("/secret/", headers={"host": "evil.example"}).status_code == 400
    assert make_app(None).state.token != make_app(None).state.token and len(make_app(None).state.token) > 20
    assert page.questions.counts().done == 0


@pytest.mark.parametrize(
    "body",
    [
        {"who": "a", "question": 1, "answer": "up"},
        {"who": "a", "question": "1", "answer": "left"},
        {"question": 1},
        [1],
    ],
)
def test_a_malformed_answer_is_refused_and_nothing_is_stored(page, body):
    assert page.client.post("/secret/answer", json=body).status_code == 400
    assert page.client.post("/secret/answer", content=b"{").status_code == 400
    assert page.questions.counts().done == 0


def test_the_accuracy_grows_with_the_answers(page):
    header = "update,env_steps,member,seed,reward_model_labels,reward_model_held_out_accuracy\n"
    page.folder.metrics_file.write_text(header + "1,8,0,0,0,0\n2,16,0,0,20,0.6\n3,24,0,0,20,0.7\n4,32,0,0,40,0.8\n")
    assert page.get("question?who=a").json()["accuracy"] == [[20, 0.7], [40, 0.8]]


def test_what_has_no_picture_is_plotted(tmp_path):
    drawn, segments = clips_of("Pendulum-v1", exposed=False)
    question = asked(tmp_path / "labels.sqlite", segments, 1).get(1)
    clip = drawn.draw(question, 0)
    assert clip.media == "image/png" and Image.open(io.BytesIO(clip.data)).size[0] > 300
    assert "can't be stored" in drawn.without
    text = drawn.text(question)
    assert text.startswith("left, 4 steps") and "right, 3 steps" in text and text.count("feature 2") == 2


def test_the_terminal_shows_text_and_takes_letters(tmp_path, monkeypatch):
    drawn, segments = clips_of("TakeCover")
    questions = asked(tmp_path / "labels.sqlite", segments)
    letters = ["left", "x", "e", "u", "r", "s"]

    def typed(*prompt):
        if not letters:
            raise EOFError
        return letters.pop(0)

    monkeypatch.setattr("builtins.input", typed)
    console = Console(file=io.StringIO(), width=200)
    assert terminal.ask(questions, drawn, console) == 0
    assert questions.take(5) == 3 and questions.taken(5) == {(0, 0): 1.0, (0, 1): 0.0, (0, 2): None}
    said = console.file.getvalue()
    assert "question 3 of 3" in said and "got 'x', must be one of l r e s u q" in said and "step 1" in said
    assert "3 of 3 questions are done" in said
    assert terminal.ask(asked(tmp_path / "more.sqlite", segments), drawn, console) == 0, "the end of the input is quit"


def test_a_run_without_a_person_is_refused(jaxrl, trained, tmp_path):
    outcome = jaxrl("label", trained)
    assert outcome.code == 2 and "no outside teacher" in outcome.error and "--teacher person" in outcome.error
    assert jaxrl("label", trained, "--port", 70_000).code == jaxrl("label", tmp_path / "nothing").code == 2


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1080,820",
    ):
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed")
def test_a_person_opens_the_page_answers_by_keys_reloads_and_finishes(tmp_path, cartpole, browser):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import WebDriverWait

    page = Page(tmp_path, cartpole, labels=3)
    server = uvicorn.Server(uvicorn.Config(page.app, log_level="warning"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()

        def wait(script):
            WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(f"return {script}"), script)

        def press(key, done, question):
            ActionChains(browser).send_keys(key).perform()
            wait(f"document.body.dataset.done == {done} && document.body.dataset.question == '{question}'")

        try:
            browser.get(f"http://127.0.0.1:{listening.getsockname()[1]}/secret/")
            wait("document.body.dataset.question == '1' && ['left', 'right'].every(i => get(i).naturalWidth > 100)")
            press(Keys.ARROW_LEFT, 1, 2)
            press("s", 2, 3)
            press("u", 1, 2)
            browser.refresh()
            wait("document.body.dataset.question == '2' && document.body.dataset.done == '1'")
            press(Keys.ARROW_DOWN, 2, 3)
            browser.find_element("css selector", "button[data-answer=right]").click()
            wait("get('empty').textContent.startsWith('All questions are answered')")
        finally:
            server.should_exit = True
            serving.join()
    assert page.questions.take(9) == 3 and page.questions.taken(9) == {(0, 0): 1.0, (0, 1): 0.5, (0, 2): 0.0}
