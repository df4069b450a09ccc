"""The command for accelerators: what hangs or crashes costs one row, every result is kept, and rows run on a CPU."""

import json
import sys
import time

import jax.numpy as jnp
import pytest
from rich.console import Console

from benchmarks.gpu import agreement, memory, training, trees, writing
from benchmarks.gpu.row import Skipped, require_memory, timed
from benchmarks.gpu.supervisor import append, lines_of, measured
from benchmarks.gpu.table import all_rows, as_table
from benchmarks.gpu.worker import result
from jaxrl.cli.flags import parse

FAKE = """
import json, os, sys, time
rows = [["sound", 9, 0, "10"], ["hangs", 0.5, 0, ""], ["dies", 9, 0, ""], ["last", 9, 0, ""], ["long", 9, 1e6, ""]]
print(json.dumps({"device": "none", "small": True, "rows": rows}), flush=True)
for line in sys.stdin:
    if line == "hangs\\n":
        time.sleep(60)
    if line == "dies\\n":
        print("out of memory", file=sys.stderr)
        os._exit(7)
    print(json.dumps({"status": "done", "figures": {"pid": os.getpid()}, "reason": "", "seconds": 0.0}), flush=True)
"""


(TABULAR,) = agreement.rows(agreement.equality, ("q_learning",), limit=60)


def run(path, chosen=lambda name: True, seconds=30.0):
    return measured([sys.executable, "-S", "-c", FAKE], seconds, path, chosen, lambda text: None)[1]


def test_a_row_that_hangs_or_dies_costs_itself_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    begin = time.monotonic()
    lines = run(path)
    assert time.monotonic() - begin < 20
    assert [line["status"] for line in lines] == ["done", "stopped", "crashed", "done", "not started"]
    assert "7: out of memory" in lines[2]["reason"] and lines[0]["published"] == "10"
    assert [line["row"] for line in lines_of(path)] == ["sound", "hangs", "dies", "last"]
    assert lines[0]["figures"]["pid"] != lines[3]["figures"]["pid"]


def test_an_interrupted_run_goes_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    (first,) = run(path, lambda name: name == "sound")
    path.write_text(path.read_text() + '{"row": "last", "sta')  # killed while it wrote
    again = run(path, lambda name: name in ("sound", "last"))
    assert again[0] == first and again[1]["status"] == "done"
    assert [line["row"] for line in lines_of(path)] == ["sound", "last"]


def test_no_row_begins_when_the_time_is_over(tmp_path):
    lines = run(tmp_path / "rows.jsonl", seconds=0.0)
    assert {line["status"] for line in lines} == {"not started"} and not (tmp_path / "rows.jsonl").exists()


def test_the_table_shows_figures_and_reasons(tmp_path):
    for status, reason in (("done", ""), ("skipped", "no mctx"), ("crashed", "out of memory")):
        line = {"row": status, "status": status, "figures": {"steps/s": 12345.6}, "reason": reason}
        append(tmp_path / "rows.jsonl", {**line, "published": "10M", "seconds": 3.4})
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(as_table(lines_of(tmp_path / "rows.jsonl"), "a device"))
    text = console.export_text()
    assert all(word in text for word in ("steps/s 12,346", "no mctx", "out of memory", "10M", "a device"))


def test_names_are_unique_and_cover_the_conformance_table():
    names = [row.name for row in all_rows()]
    assert len({*names}) == len(names)
    found = {name.removeprefix("equality/") for name in names if name.startswith("equality/")}
    assert found == {*agreement.table().RECIPES}


def test_commands_of_learning_rows_are_understood():
    rows = [row for row in all_rows() if getattr(row.measure, "func", None) is training.learned]
    assert len(rows) >= 8
    for row in rows:
        config, _ = parse(row.measure.args[0].command.split())
        assert config.environment.endswith("-MinAtar") and config.num_steps >= 5_000_000


def test_timing_leaves_out_the_first_call_if_there_are_others():
    pauses = iter([0.2, 0.0, 0.0, 0.0])
    assert timed(lambda: time.sleep(next(pauses)) or jnp.zeros(())) < 0.1
    assert timed(lambda: time.sleep(0.05) or jnp.zeros(()), enough=0.01) > 0.04


def test_what_is_too_large_is_skipped(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 10**9}

    monkeypatch.setattr("jax.devices", lambda: [Device()])
    require_memory(8e8)
    with pytest.raises(Skipped, match=r"2\.0 GB.*1\.0 GB"):
        require_memory(2e9)


@pytest.mark.parametrize(
    "row",
    [training.CARTPOLE[0], trees.ROWS[0], memory.ROWS[1], writing.ROWS[-1], TABULAR],
    ids=lambda row: row.name,
)
def test_a_row_runs_on_a_cpu(row):
    found = result(row, small=True)
    assert found["status"] == "done", found["reason"]
    json.dumps(found)
    numbers = [value for value in found["figures"].values() if isinstance(value, (int, float))]
    assert all(value > 0 for value in numbers)
    if row is TABULAR:
        assert found["figures"]["equal"] == found["figures"]["equal by default"] == "100%"


def test_a_difference_between_devices_is_reported():
    expected = {"a": jnp.zeros(3), "b": jnp.arange(4)}
    share, worst, where = agreement.difference(expected, {"a": jnp.array([0.0, 1e-6, 0.5]), "b": jnp.arange(4)})
    assert (share, worst, where) == (pytest.approx(6 / 7), 0.5, "['a']")
