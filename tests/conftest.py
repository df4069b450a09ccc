"""The strict session: rank promotion raises, warnings of jaxrl's own modules are errors, programs compile fast."""

import atexit
import os
import shutil
import tempfile

# All of this is read when jax is imported, and by the subprocesses of tests too.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    # Tests compile far more than they run, and this halves their time.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxrl-test-programs-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def pytest_configure(config):
    config.addinivalue_line("markers", "learning: trains an agent to a score, for seconds to minutes")
    if not any("jaxrl" in line for line in config.getini("filterwarnings")):
        config.addinivalue_line("filterwarnings", "error:::jaxrl")
