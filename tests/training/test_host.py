import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.training import Interrupted, Program, advance, first_bad, fit, host, start


def run(population, updates_per_chunk, **options):
    return fit(population.program, num_updates=population.num_updates, updates_per_chunk=updates_per_chunk, **options)


@pytest.mark.parametrize("length", [1, 2, 4, 5, 8, 9, 60])
def test_chunks_equal_the_unbroken_run(walkers, toys, length):
    chunks = []
    state, metrics = run(walkers, length, on_chunk=chunks.append)
    toys.assert_same(state, walkers.state)
    toys.assert_same(metrics, walkers.metrics)
    ends = [*range(length, 9, length), 9]
    assert [chunk.updates for chunk in chunks] == ends
    assert [chunk.env_steps for chunk in chunks] == [20 * end for end in ends]
    assert [chunk.metrics["loss"].shape for chunk in chunks] == [(3, n) for n in np.diff([0, *ends])]
    assert all(chunk.seconds > 0 for chunk in chunks)


def test_chunks_equal_the_single_scan_of_the_pure_loop(learners, cartpole, toys):
    program = learners.program

    @jax.jit
    def single(keys, rates, state):
        def one(key, rate, state):
            agent = cartpole.make_agent(learning_rate=rate)
            counts = {"num_updates": 6, "rollout_length": cartpole.rollout_length}
            return advance(key, agent, cartpole.env, cartpole.params, state, **counts)

        return jax.vmap(one)(keys, rates, state)

    keys = jax.random.split(jax.random.key(1), 2)
    state, metrics = single(keys, jnp.array([1e-3, 1e-2]), program.start())
    # Another program, so up to rounding.
    toys.assert_close(state, learners.state)
    toys.assert_close(dict(metrics), learners.metrics)


@pytest.mark.parametrize("length", [1, 4])
def test_ppo_in_chunks_equals_the_unbroken_run(learners, toys, length):
    state, metrics = run(learners, length)
    toys.assert_same(state, learners.state)
    toys.assert_same(metrics, learners.metrics)


def test_members_differ_by_key_and_by_hyper_parameter(learners, walkers):
    assert len(np.unique(learners.metrics["loss"][:, -1])) == 2
    spread = walkers.metrics["loss"].std(axis=1)
    assert spread[2] > 5 * spread[1] and spread[0] != spread[1]


def test_goes_on_from_a_state(walkers, toys):
    half, before = fit(walkers.program, num_updates=4, updates_per_chunk=3)
    state, after = run(walkers, 2, state=half)
    toys.assert_same(state, walkers.state)
    both = {name: np.concatenate([before[name], after[name]], axis=1) for name in before}
    toys.assert_same(both, walkers.metrics)
    assert run(walkers, 2, state=state)[1] == {}


def test_on_chunk_stops(walkers):
    state, metrics = run(walkers, 2, on_chunk=lambda chunk: chunk.updates >= 4)
    assert np.all(state.updates == 4) and metrics["loss"].shape == (3, 4)


def test_what_a_callback_keeps_as_numpy_survives_the_next_chunk(walkers):
    kept = []
    run(walkers, 3, on_chunk=lambda chunk: kept.append(np.asarray(chunk.state.agent.params)))
    assert len({array.tobytes() for array in kept}) == 3


def test_on_update_stops_members_for_good(toys, walkers):
    stops = jnp.array([2, 4, 5])

    def stop(state, metrics):
        chosen = state.updates == stops[jnp.clip(state.agent.target.argmax(), 0, 2)]
        return metrics, chosen | (state.updates == 6)

    program = Program(
        toys.make_agent,
        toys.env,
        toys.params,
        jax.random.split(jax.random.key(3), 6),
        num_envs=2,
        rollout_length=3,
        on_update=stop,
    )
    whole, metrics = fit(program, num_updates=8, updates_per_chunk=8)
    chunks = []
    state, cut = fit(program, num_updates=8, updates_per_chunk=2, on_chunk=chunks.append)
    toys.assert_same(state, whole)
    done = np.asarray(state.updates)
    early = done < 6
    np.testing.assert_array_equal(done[early], np.asarray(stops)[np.asarray(state.agent.target).argmax(1)][early])
    np.testing.assert_array_equal(metrics["ran"].sum(axis=1), done)
    assert done.max() <= 6 and len(set(done)) > 1 and cut["ran"].shape == (6, 2 * len(chunks))
    assert chunks[-1].updates < done.max() + 2, "a run whose members all stopped must end"
    assert first_bad(metrics) is None, "updates after a stop are no failure"


def test_one_compilation_serves_shorter_chunks_and_start_shares_no_buffer(toys):
    program = Program(
        toys.make_agent, toys.env, toys.params, jax.random.split(jax.random.key(0), 2), num_envs=2, rollout_length=2
    )
    assert program.compile(5) > 0.0 and program.compile(5) == 0.0
    state, first = program.advance(program.start(), 3)
    state, second = program.advance(state, 5)
    counts = [list(metrics["updates"][0, :n]) for metrics, n in ((first, 3), (second, 5))]
    assert counts == [[1, 2, 3], [4, 5, 6, 7, 8]] and list(program._compiled) == [64]
    assert np.all(state.updates == 8)


def test_metrics_that_nobody_keeps_reach_the_callback_alone(walkers, toys):
    """Else memory, and the time to join them at an interrupt, would grow with a run."""
    chunks = []
    state, metrics = run(walkers, 4, on_chunk=chunks.append, keep_metrics=False)
    toys.assert_same(state, walkers.state)
    assert metrics == {} and [chunk.metrics["loss"].shape[1] for chunk in chunks] == [4, 4, 1]


def test_chunks_that_take_too_long_end_early_and_nothing_changes(walkers, toys, monkeypatch):
    monkeypatch.setattr(host, "MAX_GROWTH", 2.0)
    chunks = []
    limits = {"seconds_per_chunk": 1e-9, "updates_per_call": 9}
    state, metrics = run(walkers, 9, on_chunk=chunks.append, **limits)
    toys.assert_same(state, walkers.state)
    toys.assert_same(metrics, walkers.metrics)
    # A call a chunk: 1 update, twice as many, again twice as many, and the rest.
    assert [chunk.updates for chunk in chunks] == [1, 3, 7, 9]
    chunks.clear()
    toys.assert_same(run(walkers, 9, on_chunk=chunks.append, slower_from=[4], **limits)[0], walkers.state)
    assert [chunk.updates for chunk in chunks] == [1, 3, 4, 5, 7, 9], "small steps again where updates get slower"
    chunks.clear()
    toys.assert_same(run(walkers, lambda done: 2 if done < 4 else 5, on_chunk=chunks.append)[0], walkers.state)
    assert [chunk.updates for chunk in chunks] == [2, 4, 9]


def test_sizes_are_told_before_anything_runs(learners):
    state = learners.program.start()
    keys_as_data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    exact = sum(keys_as_data(leaf).nbytes for leaf in jax.tree.leaves(state))
    assert learners.program.state_bytes() == exact
    memory = learners.program.memory_bytes(6)
    assert memory is None or memory >= exact
    abstract = learners.program.abstract_state()
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


def test_a_member_starts_as_train_would_start_it(walkers, toys):
    keys = jax.random.split(jax.random.key(0), 3)
    alone = start(keys[1], toys.make_agent(), toys.env, toys.params, 4)
    toys.assert_same(jax.tree.map(lambda x: x[1], walkers.program.start()), alone)


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def _ctrl_c_means_something(self):
        """A session in the background inherits that SIGINT is ignored, as ``interrupts_wait`` then leaves it."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_first_one_stops_after_the_chunk_with_the_live_state(self, walkers, toys):
        handler = signal.getsignal(signal.SIGINT)
        seen = []

        def on_chunk(chunk):
            seen.append(chunk.updates)
            if chunk.updates == 4:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted, match="interrupted after 4 updates") as caught:
            run(walkers, 2, on_chunk=on_chunk)
        assert seen == [2, 4] and signal.getsignal(signal.SIGINT) is handler
        before = caught.value.metrics
        state, after = run(walkers, 9, state=caught.value.state)
        toys.assert_same(state, walkers.state)
        both = {name: np.concatenate([before[name], after[name]], axis=1) for name in before}
        toys.assert_same(both, walkers.metrics)

    def test_second_one_is_a_keyboard_interrupt(self, walkers):
        handler = signal.getsignal(signal.SIGINT)

        def on_chunk(chunk):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            run(walkers, 2, on_chunk=on_chunk)
        assert signal.getsignal(signal.SIGINT) is handler

    def test_a_second_sigterm_changes_nothing(self, walkers):
        def on_chunk(chunk):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Interrupted, match="interrupted after 2 updates"):
            run(walkers, 2, on_chunk=on_chunk)

    def test_a_run_that_is_done_returns(self, walkers, toys):
        def on_chunk(chunk):
            if chunk.updates == 9:
                signal.raise_signal(signal.SIGINT)

        toys.assert_same(run(walkers, 3, on_chunk=on_chunk)[0], walkers.state)

    def test_is_told_once_while_the_chunk_runs(self):
        class Busy:
            def block_until_ready(self):
                time.sleep(0.35)  # a few times as long as one look at the signals

        told = []
        host._wait([Busy()], lambda: True, lambda: told.append(1))
        host._wait([Busy()], lambda: False, lambda: told.append(2))
        assert told == [1]

    def test_other_threads_leave_signals_alone(self, walkers, toys):
        results = []
        thread = threading.Thread(target=lambda: results.append(run(walkers, 4)))
        thread.start()
        thread.join()
        toys.assert_same(results[0][0], walkers.state)

    def test_stays_ignored_where_it_is(self, walkers, toys):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            state, _ = run(walkers, 3, on_chunk=lambda chunk: signal.raise_signal(signal.SIGINT))
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)
        toys.assert_same(state, walkers.state)


class TestFirstBad:
    def test_names_the_first_update_then_the_first_member(self, toys):
        program = Program(
            toys.make_agent,
            toys.env,
            toys.params,
            jax.random.split(jax.random.key(0), 3),
            hyper={"breaks_at": np.array([-1, 4, 2], np.float32)},
            num_envs=2,
            rollout_length=1,
        )
        _, metrics = fit(program, num_updates=6, updates_per_chunk=6)
        assert np.isnan(metrics["episode_return"]).any()
        assert first_bad(metrics) == (2, 2, "loss")
        assert first_bad({name: rows[:2] for name, rows in metrics.items()}) == (1, 4, "loss")
        assert first_bad({name: rows[:1] for name, rows in metrics.items()}) is None

    def test_infinities_and_ties(self):
        rows = np.zeros((2, 3), np.float32)
        early, late = rows.copy(), rows.copy()
        early[1, 0], late[0, 1] = -np.inf, np.nan
        assert first_bad({"b": late, "a": rows, "c": early}) == (1, 0, "c")
        assert first_bad({"a": rows, "count": np.zeros((2, 3), np.int32)}) is None
        assert first_bad({}) is None


def test_arguments_that_cannot_be_are_refused(toys, walkers):
    keys = jax.random.split(jax.random.key(0), 2)
    make = lambda keys=keys, **options: Program(  # noqa: E731
        toys.make_agent, toys.env, toys.params, keys, **{"num_envs": 1, "rollout_length": 1, **options}
    )
    for refused in (jax.random.key(0), jax.random.PRNGKey(0), keys[:0]):
        with pytest.raises(ValueError, match=r"keys: got .* must be typed keys \[S\]"):
            make(refused)
    with pytest.raises(ValueError, match=r"hyper: 'scale' has shape \[3\], must be \[2\]"):
        make(hyper={"scale": np.ones(3)})
    with pytest.raises(ValueError, match="num_envs: got 0"):
        make(num_envs=0)
    with pytest.raises(ValueError, match="rollout_length: got -1"):
        make(rollout_length=-1)
    with pytest.raises(ValueError, match="num_updates: got 0"):
        make().compile(0)
    with pytest.raises(ValueError, match="updates_per_chunk: got 0"):
        run(walkers, 0)
    with pytest.raises(ValueError, match="num_updates: got 5, must be at least 9"):
        fit(walkers.program, num_updates=5, updates_per_chunk=1, state=walkers.state)
