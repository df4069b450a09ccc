"""Compiled programs are kept in the user's cache folder by default, and taken from there."""

import json
import os
import subprocess
import sys

RUN = """
import json, sys
from jaxrl.cli import main as cli

def compiling(command, arguments):
    import jax, jax.numpy as jnp
    events = []
    jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rpartition("/")[2]))
    jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.ones((3, 3)))
    print(json.dumps([arguments, events.count("cache_hits"), events.count("cache_misses")]))
    return 0

cli._dispatch = compiling
sys.exit(cli.main(sys.argv[1:]))
"""
"""The command line, with a small program in the place of a command's."""


def start(home, *flags):
    """The arguments that a command gets, and the hits and misses of its programs in a cache folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    environment |= {"XDG_CACHE_HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", RUN, "train", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kept(home):
    return sorted(path.name for path in (home / "jaxrl" / "programs").rglob("*-cache"))


def test_a_second_start_compiles_nothing_and_no_cache_keeps_nothing(tmp_path):
    arguments, hits, _ = start(tmp_path / "off", "ppo", "--no-cache")
    assert arguments == ["ppo"] and hits == 0 and not (tmp_path / "off" / "jaxrl").exists()
    _, hits, misses = start(tmp_path / "on", "ppo")
    programs = kept(tmp_path / "on")
    assert hits == 0 and misses >= 1 and len(programs) == misses
    assert start(tmp_path / "on", "ppo") == [["ppo"], misses, 0]
    assert kept(tmp_path / "on") == programs
