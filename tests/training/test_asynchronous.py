"""Threads that share one state: against the synchronous loop, and after a failure or a stop."""

import os
import signal
import threading
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import a2c, dqn, ppo
from jaxrl.agents.players import random_player
from jaxrl.envs import make, probes, spec
from jaxrl.feedback import rnd
from jaxrl.networks import MLP
from jaxrl.training import Interrupted, asynchronous, fit, train
from jaxrl.training.asynchronous import Asynchronous
from jaxrl.training.workers import Failures, ParameterServer, WorkerFailed, supervise
from jaxrl.types import Agent

KEY = jax.random.key(3)
LEAVES = 5


def no_thread_is_left():
    return not [thread for thread in threading.enumerate() if thread.name.startswith("jaxrl worker")]


class Counted(NamedTuple):
    """A state whose parameters all equal the count of updates: torn where two of them differ."""

    params: Any
    updates: Any


class Toy:
    """An agent whose update says which parameters it was given, and which fails in the calls it is told to."""

    def __init__(self, fails=lambda call: False):
        self.calls, self.fails, self.lock = 0, fails, threading.Lock()
        self.agent = Agent(
            init=lambda key, num_envs=1: Counted(tuple(jnp.zeros(1000) for _ in range(LEAVES)), jnp.int32(0)),
            act=lambda key, state, observation, *, explore=True: (jnp.zeros(observation.shape[0], jnp.int32), ()),
            update=self.update,
        )
        self.env = probes.DiscountProbe()

    def _host(self, x):
        with self.lock:
            self.calls += 1
            call = self.calls
        if self.fails(call):
            raise RuntimeError(f"broken in call {call}")
        return x

    def update(self, key, state, trajectory):
        read = jnp.stack([leaf.max() for leaf in state.params] + [leaf.min() for leaf in state.params])
        read = jax.pure_callback(self._host, jax.ShapeDtypeStruct(read.shape, read.dtype), read)
        new = Counted(tuple(leaf + 1.0 for leaf in state.params), state.updates + 1)
        return new, {"read_at": read[0], "torn": read.max() - read.min()}

    def train(self, num_updates=200, num_workers=4, **options):
        return asynchronous.train(
            KEY,
            self.agent,
            self.env,
            self.env.default_params,
            num_steps=num_updates * 2,
            num_workers=num_workers,
            num_envs=1,
            rollout_length=2,
            **options,
        )


@pytest.fixture(scope="module")
def a2c_run():
    env, params = make("CartPole-v1")
    agent = a2c(spec(env, params), torso=MLP(hidden=(8,)), learning_rate=0.01)
    size = {"num_envs": 3, "rollout_length": 4}
    state, metrics = jax.jit(lambda: train(KEY, agent, env, params, num_steps=12 * 12, **size))()
    return agent, env, params, size, state, metrics


def test_one_worker_is_the_synchronous_loop(a2c_run):
    """Update for update: the same random numbers, rollouts and steps; by an agent wrapped in lambdas."""
    agent, env, params, size, state, metrics = a2c_run
    wrapped = Agent(*(lambda *args, f=f, **options: f(*args, **options) for f in agent))
    found, of_workers = asynchronous.train(KEY, wrapped, env, params, num_steps=12 * 12, num_workers=1, **size)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found.agent, state.agent)
    for name, expected in metrics.items():
        np.testing.assert_allclose(of_workers[name], expected, rtol=1e-3, atol=1e-5)
    assert (of_workers["staleness"] == 0).all() and (of_workers["worker"] == 0).all()
    np.testing.assert_array_equal(found.episode_length[0], state.episode_length)
    assert int(found.updates) == 12 and no_thread_is_left()


def test_fit_takes_it_in_chunks(a2c_run):
    """With one worker a pause changes nothing."""
    agent, env, params, size, state, _ = a2c_run
    run = Asynchronous(agent, env, params, KEY, num_workers=1, **size)
    found, metrics = fit(run, num_updates=12, updates_per_chunk=5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[0], y, rtol=1e-4, atol=1e-6), found.agent, state.agent)
    assert metrics["loss"].shape == (1, 12)


def test_several_workers_never_read_a_torn_state_and_count_their_staleness():
    """Update i says how many updates its worker had read; the rest came between."""
    state, metrics = Toy().train(num_updates=300)
    assert (metrics["torn"] == 0.0).all()
    np.testing.assert_array_equal(metrics["staleness"], np.arange(300) - metrics["read_at"])
    assert metrics["staleness"].max() >= 1 and (metrics["staleness_max"] == metrics["staleness"].max()).all()
    assert len(np.unique(metrics["worker"])) > 1
    assert all((leaf == 300.0).all() for leaf in state.agent.params) and int(state.updates) == 300
    assert (np.diff(metrics["seconds"]) >= 0.0).all() and no_thread_is_left()


def test_workers_draw_different_numbers(a2c_run):
    agent, env, params, size, _, _ = a2c_run
    run = Asynchronous(agent, env, params, KEY, num_workers=3, **size)
    observation = run.start().observation[0]
    assert observation.shape == (3, 3, 4) and len(np.unique(observation[..., 0])) == 9


def test_a_worker_that_dies_is_reported_and_started_again():
    toy, seen = Toy(fails=lambda call: call in (5, 40)), []
    state, metrics = toy.train(num_updates=100, on_failure=lambda *report: seen.append(report))
    assert len(seen) == 2 and all("broken in call" in str(error) for _, error, _ in seen)
    assert int(state.updates) == 100 and (metrics["torn"] == 0.0).all() and no_thread_is_left()


def test_a_failure_is_logged_where_nobody_asks_for_it(caplog):
    Toy(fails=lambda call: call == 3).train(num_updates=20, num_workers=1)
    assert "worker 0 failed" in caplog.text and "broken in call 3" in caplog.text


def test_one_that_fails_again_and_again_ends_the_run():
    with pytest.raises(WorkerFailed, match=r"(?s)worker 0 failed 3 times in a row, .*broken in call 13"):
        Toy(fails=lambda call: call > 10).train(num_workers=1, on_failure=lambda *report: None)
    assert no_thread_is_left()


def server_of(num_workers, num_updates, failures=None):
    """A server whose state sums up what workers hand over; they keep a number to themselves."""
    return ParameterServer(
        0, [0] * num_workers, lambda state, read, experience, late: (state + experience, {}), num_updates, failures
    )


def test_a_restart_that_fails_is_a_failure_of_its_worker_and_the_others_go_on():
    seen, server = [], server_of(2, 50)

    def work(worker, state, own):
        if worker == 0 and own == 0:
            raise SystemExit("left")  # no Exception, and nobody else would notice
        time.sleep(0.001)
        return 1, own, {}

    def fresh(worker, failures, own):
        if failures == 1:
            raise OSError("no environment today")
        return failures

    supervise(server, work, fresh, lambda *failure: seen.append(failure))
    assert [(worker, type(error), in_a_row) for worker, error, in_a_row in seen] == [
        (0, SystemExit, 1),
        (0, OSError, 2),
    ]
    assert server.state == 50 and {row["worker"] for row in server.rows} == {0, 1} and no_thread_is_left()


def test_failures_in_a_row_are_counted_from_call_to_call_and_forgotten_after_a_gradient():
    failures = Failures(2)
    for call in range(1, 3):
        server = server_of(2, 10, failures)
        server.report(0, OSError())
        assert (failures.in_a_row, failures.in_all) == ([call, 0], [call, 0])
        server.hand_over(1, 0, 1, 0, {}, 0)
    server.hand_over(0, 0, 1, 0, {}, 0)
    assert (failures.in_a_row, failures.in_all) == ([0, 0], [2, 0])

    def work(worker, state, own):
        raise OSError

    failures.in_a_row[0] = 2
    with pytest.raises(WorkerFailed, match="worker 0 failed 3 times in a row"):
        supervise(server_of(1, 10, failures), work, lambda *given: 0, lambda *failure: None)


def test_it_stops_when_asked():
    start = time.monotonic()
    state, metrics = Toy().train(num_updates=10**7, stop=lambda: time.monotonic() > start + 1.0)
    assert time.monotonic() < start + 60.0 and no_thread_is_left()
    assert int(state.updates) == len(metrics["staleness"]) < 10**7


@pytest.fixture
def heeds_ctrl_c():
    """A session in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_keeps_what_was_done():
    timer = threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(Interrupted) as caught:
        Toy().train(num_updates=10**7)
    assert int(caught.value.state.updates) == len(caught.value.metrics["worker"]) and no_thread_is_left()


def test_a_late_update_adds_the_change_made_where_it_was_read():
    """``theta + (update(read) - read)``, and all else of the state is that of now."""
    toy = Toy()
    run = Asynchronous(toy.agent, toy.env, toy.env.default_params, KEY, num_workers=2, num_envs=1, rollout_length=2)
    now, read = Counted((jnp.full(3, 7.0),) * LEAVES, jnp.int32(7)), (jnp.full(3, 5.0),) * LEAVES
    new, metrics = run._late_update(KEY, now, read, None)
    assert metrics["read_at"] == 5.0 and int(new.updates) == 8
    assert all((leaf == 8.0).all() for leaf in new.params)


@pytest.mark.parametrize("make_agent", [partial(dqn, replay_capacity=64), partial(ppo, normalize_reward=True)])
def test_agents_with_something_of_each_environment_are_refused(make_agent):
    env = probes.DiscountProbe()
    agent = make_agent(spec(env, env.default_params))
    with pytest.raises(ValueError, match="agent: .*per_env"):
        Asynchronous(agent, env, env.default_params, KEY, num_workers=2, num_envs=1, rollout_length=2)


def test_what_a_part_keeps_of_each_environment_is_refused():
    """A reward model's state inside of the agent's."""

    class State(NamedTuple):
        params: Any
        reward_model: Any

    env = probes.DiscountProbe()
    described = spec(env, env.default_params)
    model = rnd(described, torso=MLP(hidden=(4,)), embedding_size=4)
    agent = random_player(described)._replace(init=lambda key, num_envs=1: State((), model.init(key, num_envs)))
    with pytest.raises(ValueError, match="agent: .*per_env.* reward model"):
        Asynchronous(agent, env, env.default_params, KEY, num_workers=2, num_envs=1, rollout_length=2)


def test_an_agent_without_parameters_is_refused():
    env = probes.DiscountProbe()
    agent = random_player(spec(env, env.default_params))
    with pytest.raises(TypeError, match="agent: .*params"):
        Asynchronous(agent, env, env.default_params, KEY, num_workers=2, num_envs=1, rollout_length=2)


def test_counts_below_one_are_refused_by_name():
    with pytest.raises(ValueError, match="workers: got 0, must be at least 1"):
        Toy().train(num_workers=0)
