"""Nothing holds the main thread for long, and chunks end by the clock whatever an update costs."""

import os
import signal
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

from jaxrl.training import host
from jaxrl.training.interrupt import GivenUp, in_a_thread, interrupts_wait, termination_interrupts


def terminate_soon(seconds=0.2):
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()


def test_a_call_in_a_thread_gives_its_result_or_its_error():
    assert in_a_thread(lambda: threading.current_thread() is threading.main_thread()) is False
    with pytest.raises(ZeroDivisionError):
        in_a_thread(lambda: 1 / 0)


def test_a_call_in_a_thread_is_given_up():
    begin = time.monotonic()
    with pytest.raises(GivenUp):
        in_a_thread(lambda: time.sleep(30), seconds=0.1)
    with pytest.raises(GivenUp):
        in_a_thread(lambda: time.sleep(30), until=lambda: time.monotonic() > begin + 0.3)
    with termination_interrupts(), pytest.raises(KeyboardInterrupt):
        terminate_soon()
        in_a_thread(lambda: time.sleep(30))
    assert time.monotonic() - begin < 5


def test_one_inside_of_another_notes_for_both():
    before = signal.getsignal(signal.SIGTERM)
    with interrupts_wait() as outer:
        with interrupts_wait() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert inner() and outer()
        signal.raise_signal(signal.SIGTERM)
        assert outer(), "a second one, after the inner one has ended, is noted too"
    assert signal.getsignal(signal.SIGTERM) is before


class State(NamedTuple):
    updates: np.ndarray
    stopped: np.ndarray


class Clocked:
    """A program whose updates take as long as they are told to, by a clock of its own."""

    num_envs = rollout_length = 1

    def __init__(self, cost):
        self.cost, self.now = cost, 0.0

    def start(self):
        return State(np.zeros(1, np.int32), np.zeros(1, bool))

    def compile(self, num_updates):
        return 0.0

    def require_agreement(self, state):
        pass

    def advance(self, state, count):
        done = int(state.updates[0])
        self.now += sum(self.cost(update) for update in range(done, done + count)) + 1e-4
        return state._replace(updates=state.updates + count), {"episodes": np.zeros((1, count))}


@pytest.mark.parametrize("seconds", [1e-6, 1e-4, 3e-3, 0.05, 0.4])
@pytest.mark.parametrize("later", [1, 1000])
def test_chunks_end_by_the_clock_whatever_an_update_costs(monkeypatch, seconds, later):
    """Even where updates become a thousand times slower, as at the end of a warm-up."""
    program = Clocked(lambda update: seconds * (later if update >= 3000 else 1) if seconds * later <= 3 else seconds)
    monkeypatch.setattr(host.time, "perf_counter", lambda: program.now)
    chunks = []
    host.fit(
        program,
        num_updates=6000,
        updates_per_chunk=10**6,
        seconds_per_chunk=2.0,
        slower_from=[3000],
        on_chunk=lambda chunk: chunks.append(chunk.seconds) or len(chunks) > 200,
    )
    longest = program.cost(5999)
    assert max(chunks) <= 2.0 + host.CALL_SECONDS + longest + 1e-3
