"""How runs end before their budget: signals at any budget, folders that are taken, names and disks that won't do."""

import resource
import signal
import subprocess
import sys

import jax
import psutil

from jaxrl.runs.folder import RunFolder

from .conftest import TINY


def command(*arguments):
    return [sys.executable, "-u", "-m", "jaxrl", *map(str, arguments)]


def test_a_huge_run_stops_soon_and_keeps_its_folder_to_itself(jaxrl, tmp_path):
    """A chunk of this run is 122,000 updates by its budget, and a few seconds by the clock, which config.json keeps."""
    folder = tmp_path / "run"
    arguments = ("train", "ppo", "CartPole-v1", "--steps", "500M", "--eval-episodes", 0, *TINY, "--out", folder)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while "steps in all" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        refused = jaxrl(*arguments)
        assert refused.code == 2 and "is a run already" in refused.error
        refused = jaxrl("resume", folder)
        assert refused.code == 2 and "another process trains in" in refused.error
        before = sum(psutil.Process(process.pid).cpu_times()[:2])
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and f"go on with: jaxrl resume {folder}" in error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime - before
    assert spent < 8.0, "CPU seconds, so that a busy machine does not count"
    config = RunFolder(folder).read_config()
    (start, length), *_ = config.chunks
    assert start == 0 and 0 < length < 122_000 and not (folder / "lock").exists()


def test_a_name_that_storage_changes_is_refused_before_training(jaxrl, tmp_path):
    refused = jaxrl("train", "ppo", "CartPole-v1", *TINY, "--out", tmp_path / "runsA\\win\\path")
    assert refused.code == 2 and "can't hold checkpoints" in refused.error and "choose another --out" in refused.error
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_checkpoint_is_said_and_nothing_is_lost(jaxrl, tmp_path, short_chunks):
    folder = tmp_path / "run"
    assert jaxrl("train", "ppo", "CartPole-v1", "--steps", 256, "--eval-episodes", 0, *TINY, "--out", folder).code == 0
    before, kept = resource.getrlimit(resource.RLIMIT_FSIZE), jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)  # a program that is cut off would be kept
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))  # the checkpoint's data are larger
    try:
        full = jaxrl("resume", folder, "--steps", 512, "--eval-episodes", 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", kept)
    assert full.code == 1 and "can't be written" in full.error and "File too large" in full.error
    assert "the last good checkpoint is update 4 of 8" in full.error and f"jaxrl resume {folder}" in full.error
    assert jaxrl("resume", folder, "--steps", 512, "--eval-episodes", 0).code == 0
    assert RunFolder(folder).checkpoints(RunFolder(folder).read_config()).readable()[-1] == 8
