"""The strict session: rank promotion raises, warnings of jaxrl's own modules are errors, programs compile fast."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

import pytest

# All of this is read when jax is imported, and by the subprocesses of tests too.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if "XLA_FLAGS" not in os.environ:
    # Tests compile far more than they run: these take the time of the whole session to a third.
    flags = ["--xla_backend_optimization_level=0"]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that XLA does not know ends the process
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxrl-test-programs-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # for tests of meshes; all else runs on the first
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share one GPU
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def pytest_configure(config):
    config.addinivalue_line("markers", "learning: trains an agent to a score, for seconds to minutes")
    if not any("jaxrl" in line for line in config.getini("filterwarnings")):
        config.addinivalue_line("filterwarnings", "error:::jaxrl")


def pytest_collection_modifyitems(items):
    """Tests that share compiled programs share a process: those of a file, or of a row of the conformance table."""
    for item in items:
        group = item.nodeid.partition("::")[0]
        if "conformance" in item.path.parts and hasattr(item, "callspec"):
            group += item.callspec.id.rpartition("-")[0]
        item.add_marker(pytest.mark.xdist_group(group))
