"""Two processes of two devices each, on the loopback interface, against one process of four."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, processes
from jaxrl.networks import MLP
from jaxrl.runs.folder import RunFolder
from jaxrl.training import Program, fit, make_mesh

SECONDS = 120
"""For all that a pair of processes does; a quiet machine takes a tenth."""


def make_program(mesh):
    env, params = envs.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), 2)
    make_agent = lambda: jaxrl.ppo(  # noqa: E731
        envs.spec(env, params), torso=MLP((8,)), num_minibatches=1, normalize_observation=True, normalize_reward=True
    )
    return Program(make_agent, env, params, keys, num_envs=8, rollout_length=8, mesh=mesh)


WORKER = """
import importlib.util, pathlib, sys
from jaxrl import processes
port, number, out = sys.argv[1:4]
processes.connect(f"127.0.0.1:{port}", 2, int(number))
import jax, numpy as np
from jaxrl.training import Checkpoints, fit, make_mesh
spec = importlib.util.spec_from_file_location("here", sys.argv[4])
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)

assert (jax.process_count(), jax.device_count()) == (2, 4)
assert processes.is_first() == (number == "0")
assert processes.any_process(number == "1") and not processes.any_process(False)
program = here.make_program(make_mesh(4))
half, _ = fit(program, num_updates=2, updates_per_chunk=4)
checkpoints = Checkpoints(pathlib.Path(out) / f"checkpoints")
checkpoints.save(2, half)
assert processes.any_process(checkpoints.updates() == [2])  # which the first has written by now
restored = checkpoints.restore(program.abstract_state())
assert restored.observation.sharding.is_equivalent_to(half.observation.sharding, restored.observation.ndim)
for x, y in zip(*(jax.tree.leaves(processes.fetch(state)) for state in (half, restored))):
    np.testing.assert_array_equal(x, y)
state, metrics = fit(program, num_updates=4, updates_per_chunk=4, state=restored)
program.require_agreement(state)
params = [np.asarray(leaf.addressable_data(i)) for i in range(2) for leaf in jax.tree.leaves(state.agent.params)]
rest = jax.tree.leaves(processes.fetch((state.observation, state.agent.statistics.observation, metrics)))
np.savez(pathlib.Path(out) / f"{number}.npz", *params, *rest)

# Members on processes of their own, so that no process has all of them.
of_members = here.make_program(make_mesh(4, seeds=2))
_, metrics = fit(of_members, num_updates=1, updates_per_chunk=1)
assert metrics["loss"].shape == (2, 1) and len(np.unique(metrics["loss"])) == 2
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def started(commands, folder):
    """Processes, each with two devices, and the files that they say things into; all are gone at the end."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    logs = [folder / f"log-{number}.txt" for number in range(len(commands))]
    running = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("w") as file:
                running.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))
        yield running, logs
    finally:
        for process in running:
            process.kill()
            process.wait()


def said(logs):
    return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)


def finish(running, logs):
    codes = [process.wait(timeout=SECONDS) for process in running]
    assert codes == [0] * len(codes), said(logs)


@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices, see JAX_NUM_CPU_DEVICES")
def test_two_processes_equal_one(tmp_path):
    port = free_port()
    commands = [[sys.executable, "-c", WORKER, str(port), str(i), str(tmp_path), __file__] for i in range(2)]
    with started(commands, tmp_path) as (running, logs):
        state, metrics = fit(make_program(make_mesh(4)), num_updates=4, updates_per_chunk=4)
        finish(running, logs)
    params = [np.asarray(leaf) for leaf in jax.tree.leaves(state.agent.params)]
    later = {name: rows[:, 2:] for name, rows in metrics.items()}
    rest = jax.tree.leaves(processes.fetch((state.observation, state.agent.statistics.observation, later)))
    saved = [list(np.load(tmp_path / f"{number}.npz").values()) for number in range(2)]
    for first, second in zip(*saved, strict=True):
        np.testing.assert_array_equal(first, second)
    for ours, theirs in zip([*params, *params, *rest], saved[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def jaxrl_commands(*arguments):
    hosts = ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id"]
    return [[sys.executable, "-m", "jaxrl", *arguments, *hosts, str(number)] for number in range(2)]


def wait_until(condition, logs):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, said(logs)
        time.sleep(0.2)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_stops_the_others_and_the_run_resumes(killed, tmp_path):
    run = tmp_path / "run"
    few = ["--eval-episodes", "4", "--num-envs", "4", "--rollout-length", "16", "--torso.hidden", "8"]
    with started(
        jaxrl_commands("train", "ppo", "CartPole-v1", "--steps", "204800", "--out", str(run), *few), tmp_path
    ) as (
        running,
        logs,
    ):
        wait_until(lambda: (run / "metrics.csv").exists(), logs)
        running[killed].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        code = running[1 - killed].wait(timeout=60)
        assert time.monotonic() - begin < 60 and code != 0, said(logs)
    words = logs[1 - killed].read_text()
    assert "another process of this run has stopped" in words or "another task died" in words, words
    folder = RunFolder(run)
    saved = folder.checkpoints(folder.read_config()).updates()
    assert saved[0] == 0 and saved[-1] < 3200
    if killed == 1:
        steps = str(64 * (saved[-1] + 16))
        with started(jaxrl_commands("resume", str(run), "--steps", steps, "--eval-episodes", "4"), tmp_path) as (
            running,
            logs,
        ):
            finish(running, logs)
        assert folder.read_config().devices == 4
        assert folder.checkpoints(folder.read_config()).updates()[-1] == saved[-1] + 16
        assert folder.evaluation_file.exists() and folder.curve_file.exists()
        assert f"going on from update {saved[-1]}" in logs[0].read_text()
        assert "going on" not in logs[1].read_text()  # only the first one talks


def test_processes_that_nobody_announced_are_named(monkeypatch):
    refused = ValueError("coordinator_address should be defined.")
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: (_ for _ in ()).throw(refused))
    with pytest.raises(processes.ConnectionFailed, match="SLURM, Open MPI or Kubernetes, or give --coordinator"):
        processes.connect()
