"""benchmarks/text.py: both sides take turns, and the ratio is that of their medians' seconds."""

import sys

from benchmarks import text as benchmark

PEER = """
import pathlib, sys
assert (pathlib.Path(sys.argv[1]) / "model.safetensors").exists() and sys.argv[2:] == ["2", "16", "3"]
print("ready", flush=True)
for _ in sys.stdin:
    print("seconds 6000", flush=True)
"""


def test_a_row_beside_a_peer(monkeypatch):
    tiny = {"vocab_size": 11, "width": 8, "num_layers": 1, "num_heads": 1, "max_length": 32}
    monkeypatch.setitem(benchmark.SIZES, "tiny", tiny)
    monkeypatch.setattr(benchmark, "PEER", PEER)
    row = benchmark.speed("tiny", 2, 3, 3, sys.executable, "float32")
    assert row["transformers' tokens/s"] == 0 and row["tokens/s"] > 0  # 6 tokens in 6,000 seconds
    assert row["ratio"] > 100
    assert row["parameters"] == 11 * 8 + 32 * 8 + 12 * 8 * 8 + 13 * 8 + 2 * 8
