"""Prints where compiled programs are kept between sessions; .ci/run and conftest.py both ask here."""

import importlib.metadata
import os
import platform
import sys
import zlib
from pathlib import Path


def program_folder():
    """A folder of the user's cache, by version of jax and Python, and by processor."""
    versions = f"jax-{importlib.metadata.version('jaxlib')}-python-{sys.version_info[0]}.{sys.version_info[1]}"
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else platform.processor()
    flags = next((line for line in about.splitlines() if line.startswith(("flags", "Features"))), about)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "jaxrl-tests" / f"{versions}-{zlib.crc32(flags.encode())}"


if __name__ == "__main__":
    print(program_folder())
