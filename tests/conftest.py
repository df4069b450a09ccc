"""The strict session: rank promotion raises, warnings of jaxrl's own modules are errors, programs compile fast."""

import gc
import importlib.metadata
import itertools
import os
import runpy
import tempfile
from collections import Counter
from pathlib import Path

import pytest

# All of this is read when jax is imported, and by the subprocesses of tests too.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if "XLA_FLAGS" not in os.environ:
    # Tests compile far more than they run: these take the time of the whole session to a third. Programs of one part
    # compile in 0.6 of the time of up to 32 parts, the default, and take a third of the memory maps.
    flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that XLA does not know ends the process
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)


program_folder = runpy.run_path(str(Path(__file__).with_name("program_folder.py")))["program_folder"]
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(program_folder()))
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # for tests of meshes; all else runs on the first
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share one GPU
# Every program is kept, however fast it compiled: to read a small one takes a third of the time of compiling it.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA remarks on the processor at every program that it reads
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # where an operation stands takes time to write down
# The user's record of modules that he trained with is not for tests to touch.
STATE = tempfile.TemporaryDirectory(prefix="jaxrl-tests-state-")
os.environ["XDG_STATE_HOME"] = STATE.name


def pytest_configure(config):
    config.addinivalue_line("markers", "learning: trains an agent to a score for a minute and more: pytest -m learning")
    if not any("jaxrl" in line for line in config.getini("filterwarnings")):
        config.addinivalue_line("filterwarnings", "error:::jaxrl")


def group_of(nodeid):
    """Tests that share compiled programs share a process: those of a file, or of a recipe in an environment."""
    file, _, test = nodeid.partition("::")
    if file.endswith(("conformance/test_recipes.py", "agents/test_probes.py")):
        return file + "-".join(test.partition("[")[2].rstrip("]").split("-")[:2])
    return file


LONG = (
    "test_processes",
    "test_examples",
    "tests/learning",
    "tests/cli",
    "conformance",
    "tests/agents",
    "tests/training",
)
"""What takes longest begins first, so that no process ends with a long group while the others have none."""


def pytest_collection_modifyitems(items):
    sizes = Counter(group_of(item.nodeid) for item in items)

    def place(item):
        group = group_of(item.nodeid)
        rank = next((i for i, name in enumerate(LONG) if name in group), len(LONG))
        return rank, -sizes[group], group

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Groups by the names of tests: the marker of ``--dist=loadgroup`` has no effect with pytest 9.2 and xdist 3.8."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    if config.getvalue("dist") != "loadscope":
        return None
    config.option.loadscopereorder = False
    return Groups(config, log)


MAX_MAPS = {"between": 30_000, "within": 50_000}
"""Memory maps of a process at which compiled programs are dropped: Linux allows 65,530, and XLA crashes beyond that.

Between two groups of tests, which share few programs, and within a group only if it must be."""
TESTS = itertools.count(1)


def pytest_runtest_teardown(item, nextitem):
    maps = Path("/proc/self/maps")
    if nextitem is None or not maps.exists():
        return
    where = "within" if group_of(item.nodeid) == group_of(nextitem.nodeid) else "between"
    if where == "within" and next(TESTS) % 20:
        return  # to count 20,000 maps takes 20 ms
    if maps.read_bytes().count(b"\n") > MAX_MAPS[where]:
        import jax

        jax.clear_caches()
        gc.collect()


def package(nodeid):
    """The folder of tests that a test lies in, ``tests`` for those beside the folders."""
    parts = nodeid.partition("::")[0].split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def pytest_terminal_summary(terminalreporter):
    """Seconds per package, as the rows of the table in docs/design.md; setup and teardown included."""
    seconds, tests, processes = Counter(), Counter(), {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[package(report.nodeid)] += report.duration
            tests[package(report.nodeid)] += report.when == "call"
            processes.setdefault(group_of(report.nodeid), set()).add(getattr(report, "worker_id", None))
    if split := [group for group, ids in processes.items() if len(ids) > 1]:
        terminalreporter.write_line(f"built twice, since they ran in several processes: {', '.join(split)}", red=True)
    if len(seconds) > 1:
        terminalreporter.section("seconds per package")
        for name, total in seconds.most_common():
            terminalreporter.write_line(f"| {name} | {tests[name]} | {total:.0f} |")
        terminalreporter.write_line(f"| all | {tests.total()} | {seconds.total():.0f} |")
