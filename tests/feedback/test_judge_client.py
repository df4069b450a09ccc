"""The client of a judge's server, on loopback servers that fail in every way that servers do."""

import asyncio
import email.utils
import threading
import time

import pytest

from jaxrl.feedback.judge import KEY_VARIABLE, Cache, Client, Limits
from tests.loopback import free_port, reply, serving

FAST = Limits(connect=10.0, read=10.0, total=60.0, tries=3, backoff=0.01)
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "?"}], "temperature": 0.0}


def numbered(*outcomes):
    """A script that gives its outcomes in turn, and the last one from then on."""
    return lambda body, number: outcomes[min(number, len(outcomes) - 1)]


@pytest.mark.parametrize(
    "failure",
    [
        (429, {"error": "slow down"}, {"retry-after": "0.05"}),
        (503, b"busy"),
        (408, b""),
        (409, b""),
        (500, b""),
        "reset",
        (200, b'{"choices": [', {}),
        (200, reply(), {"content-type": "text/html"}),
        (200, {"choices": []}),
    ],
    ids=["429", "503", "408", "409", "500", "reset", "broken JSON", "content type", "no choice"],
)
def test_one_failure_is_followed_by_the_answer(failure):
    with serving(numbered(failure, reply("B"))) as server:
        found = Client(server.url, limits=FAST).ask([QUESTION])
    assert found[0].status == "answered" and found[0].body["choices"][0]["message"]["content"] == "B"
    assert [body for _, _, body in server.requests] == [QUESTION] * 2
    assert server.requests[0][0] == "/v1/chat/completions"


def test_a_slow_answer_is_asked_for_again():
    limits = FAST._replace(read=0.5)
    with serving(lambda body, number: (200, reply(), {"sleep": 0.0 if number else 1.5})) as server:
        assert Client(server.url, limits=limits).ask([QUESTION])[0].status == "answered"
    assert len(server.requests) >= 2


@pytest.mark.parametrize(
    ("failure", "status", "requests"),
    [
        ((503, b"busy"), "unreachable", 3),
        ("reset", "unreachable", 3),
        ((200, b"<html>", {"content-type": "text/html"}), "unusable", 3),
        ((401, {"error": "no"}), "refused", 1),
        ((400, {"error": "no"}), "refused", 1),
        ((302, b"", {"location": "http://127.0.0.1:1/"}), "refused", 1),
    ],
)
def test_what_does_not_pass_is_given_up(failure, status, requests):
    with serving(numbered(failure)) as server:
        client = Client(server.url, limits=FAST)
        found = client.ask([QUESTION])[0]
    assert (found.status, found.body, len(server.requests)) == (status, None, requests)
    assert client.cache.calls == requests


@pytest.mark.parametrize("seconds", ["0.4", "date"])
def test_the_wait_is_as_long_as_the_server_asks_for(seconds):
    date = lambda: email.utils.formatdate(time.time() + 2.0, usegmt=True)  # noqa: E731  of whole seconds
    outcome = lambda: (429, b"", {"retry-after": date() if seconds == "date" else seconds})  # noqa: E731
    times = []

    def script(body, number):
        times.append(time.monotonic())
        return outcome() if number == 0 else reply()

    with serving(script) as server:
        assert Client(server.url, limits=FAST).ask([QUESTION])[0].status == "answered"
    assert (0.9 if seconds == "date" else 0.4) <= times[1] - times[0] < 20.0


def test_a_wait_beyond_the_time_limit_is_not_begun():
    with serving(numbered((429, b"", {"retry-after": "3600"}))) as server:
        begin = time.monotonic()
        assert Client(server.url, limits=FAST).ask([QUESTION])[0].status == "unreachable"
    assert time.monotonic() - begin < 30.0 and len(server.requests) == 1


def test_a_server_that_drips_is_left_after_the_total_time():
    limits = FAST._replace(total=0.4, tries=1)
    with serving(numbered((200, reply(), {"sleep": 1.0}))) as server:
        found = Client(server.url, limits=limits).ask([QUESTION])[0]
        assert found.status == "unreachable" and "0.4 s" in found.problem


def test_a_server_that_dies_and_comes_back_answers_the_rest(tmp_path):
    port = free_port()
    questions = [{**QUESTION, "seed": number} for number in range(6)]
    limits = FAST._replace(concurrency=1, tries=2)

    def dies(body, number):
        return reply(str(body["seed"])) if number < 3 else "reset"

    client = Client(f"http://127.0.0.1:{port}/v1", limits=limits, cache=Cache(tmp_path / "judge.sqlite"))
    with serving(dies, port):
        found = client.ask(questions)
    assert [each.status for each in found] == ["answered"] * 3 + ["unreachable"] * 3
    calls = client.cache.calls
    assert {each.status for each in client.ask(questions)[3:]} == {"unreachable"}  # nobody listens
    assert client.cache.calls == calls == 3 + 2  # the others were not begun, and what reached nobody costs nothing
    again = Client(f"http://127.0.0.1:{port}/v1", limits=limits, cache=Cache(tmp_path / "judge.sqlite"))
    with serving(lambda body, number: reply(str(body["seed"])), port) as server:
        found = again.ask(questions)
    assert [each.body["choices"][0]["message"]["content"] for each in found] == list("012345")
    assert [body["seed"] for _, _, body in server.requests] == [3, 4, 5]  # the first three were paid


def test_the_cache_knows_a_request_by_all_of_it(tmp_path):
    with serving(lambda body, number: reply(str(number))) as server:
        client = Client(server.url, limits=FAST._replace(concurrency=1), cache=Cache(tmp_path / "judge.sqlite"))
        asked = [QUESTION, QUESTION, {**QUESTION, "temperature": 0.5}, {**QUESTION, "model": "n"}, QUESTION]
        found = [each.body["choices"][0]["message"]["content"] for each in client.ask(asked)]
        assert found == ["0", "0", "1", "2", "0"] and client.cache.calls == 3
        other = Client(server.url + "/other", limits=FAST, cache=client.cache)
        assert other.ask([QUESTION])[0].status == "answered" and len(server.requests) == 4


def test_concurrency_and_budget_are_kept(tmp_path):
    questions = [{**QUESTION, "seed": number} for number in range(8)]
    limits = FAST._replace(concurrency=2, calls=5)
    with serving(lambda body, number: (200, reply(), {"sleep": 0.03})) as server:
        client = Client(server.url, limits=limits, cache=Cache(tmp_path / "judge.sqlite"))
        found = client.ask(questions)
        assert sorted(each.status for each in found) == ["answered"] * 5 + ["spent"] * 3
        again = Client(server.url, limits=limits, cache=Cache(tmp_path / "judge.sqlite"))
        assert [each.status for each in again.ask(questions)] == [each.status for each in found]
    assert server.most_at_once == 2 and len(server.requests) == 5


def test_the_key_is_sent_and_stands_in_no_message_and_no_file(tmp_path, monkeypatch):
    key = "sk-very-secret-8231"
    monkeypatch.setenv(KEY_VARIABLE, key)
    echo = reply(f"A {key}")
    with serving(numbered((401, {"error": f"wrong key {key}"}), echo)) as server:
        cache = Cache(tmp_path / "judge.sqlite")
        client = Client(server.url, limits=FAST, cache=cache)
        refused, answered = client.ask([QUESTION])[0], client.ask([{**QUESTION, "seed": 1}])[0]
    assert server.requests[0][1]["authorization"] == f"Bearer {key}"
    assert "[key]" in refused.problem and key not in repr((refused, answered, vars(client), vars(cache)))
    cache.close()
    assert all(key.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    monkeypatch.delenv(KEY_VARIABLE)
    with serving(numbered(reply())) as server:
        Client(server.url, limits=FAST).ask([QUESTION])
    assert "authorization" not in {name.lower() for name in server.requests[0][1]}


def test_it_works_where_an_event_loop_runs():
    async def in_a_notebook():
        return Client(server.url, limits=FAST).ask([QUESTION])[0].status

    with serving(numbered(reply())) as server:
        assert asyncio.run(in_a_notebook()) == "answered"


@pytest.mark.parametrize(
    ("url", "limits", "part"),
    [
        ("127.0.0.1:8000", {}, "127.0.0.1:8000"),
        ("ftp://127.0.0.1/v1", {}, "ftp://127.0.0.1/v1"),
        ("http://me:secret@127.0.0.1/v1", {}, "JAXRL_JUDGE_KEY"),
        ("http://127.0.0.1/v1?key=secret", {}, "JAXRL_JUDGE_KEY"),
        ("http://127.0.0.1:99999/v1", {}, "99999"),
        ("http://127.0.0.1/v1", {"tries": 0}, "tries: got 0"),
        ("http://127.0.0.1/v1", {"read": -1.0}, "read: got -1.0"),
        ("http://127.0.0.1/v1", {"calls": 0}, "calls: got 0"),
    ],
)
def test_what_can_not_be_asked_is_refused_by_name(url, limits, part):
    with pytest.raises(ValueError, match="url|tries|read|calls") as raised:
        Client(url, limits=Limits(**limits))
    assert part in str(raised.value) and "secret" not in str(raised.value)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "judge.sqlite").write_text("no database, but text that is long enough to be looked at" * 10)
    with pytest.raises(OSError, match=r"judge\.sqlite"):
        Cache(tmp_path / "judge.sqlite")


def test_threads_share_a_cache(tmp_path):
    cache = Cache(tmp_path / "judge.sqlite")

    def work(number):
        for index in range(4):
            cache.spend(10)
            cache.keep(f"{number} {index}", {"choices": []})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.calls == 10 and cache.reply("3 3") == {"choices": []} and cache.reply("4 0") is None
