"""Text: tokens a second of generation, beside transformers, and next-token training.

    python -m benchmarks.text speed                            # jaxrl alone
    python -m benchmarks.text speed --peer peer/bin/python     # beside transformers: an interpreter that has torch
    python -m benchmarks.text pretrain --num-steps 1000        # Python's own prose, byte level

``speed`` generates completions of random prompts by GPT-2's architecture with random weights, the same for both
by a file. They take turns, call by call; the median of each and the median of the ratios are printed. Both sample at
temperature 1 and never stop early. jaxrl returns log-probabilities too, transformers only tokens.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.learning import describe_machine
from jaxrl import text

SIZES = {
    "0.9M": {"vocab_size": 257, "width": 128, "num_layers": 4, "num_heads": 4, "max_length": 256},
    "4.9M": {"vocab_size": 257, "width": 256, "num_layers": 6, "num_heads": 8, "max_length": 256},
    "124M": {"vocab_size": 50_257, "width": 768, "num_layers": 12, "num_heads": 12, "max_length": 1024},
}
PROMPT = 16

PEER = """
import json, sys, time, torch, transformers
folder, batch, prompt, num = sys.argv[1], *map(int, sys.argv[2:])
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
tokens = torch.randint(0, model.config.vocab_size, (batch, prompt))
options = dict(attention_mask=torch.ones_like(tokens), do_sample=True, top_k=0, max_new_tokens=num, min_new_tokens=num)
options |= dict(pad_token_id=0)
with torch.inference_mode():
    model.generate(tokens, **options)
    print("ready", torch.__version__, transformers.__version__, torch.get_num_threads(), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        model.generate(tokens, **options)
        print("seconds", time.perf_counter() - begin, flush=True)
"""
"""The peer's program: a line of standard input is a call."""


def make(size: str, dtype: str) -> text.LanguageModel:
    """A model with random weights."""
    fields = dict(SIZES[size])
    model = text.gpt2(fields.pop("vocab_size"), **fields, dtype=dtype)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 1), int), jnp.ones((1, 1), bool)))
    return text.LanguageModel(model, init(jax.random.key(0)))


def speed(size: str, batch_size: int, num_tokens: int, repeats: int, peer: str | None, dtype: str) -> dict[str, Any]:
    """One row: tokens a second of each side, in turn."""
    language_model = make(size, dtype)
    model, params = language_model.model, jax.device_put(language_model.params)
    shape = (batch_size, PROMPT)
    prompt, mask = jax.random.randint(jax.random.key(1), shape, 0, model.vocab_size), jnp.ones(shape, bool)

    def call(i: int) -> float:
        key = jax.random.key(i)
        begin = time.perf_counter()
        jax.block_until_ready(text.generate(key, params, model, prompt, mask, num_tokens=num_tokens, end=None))
        return time.perf_counter() - begin

    row: dict[str, Any] = {"size": size, "parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}
    row |= {"batch": batch_size, "tokens": num_tokens, "dtype": dtype, "compile and first call": round(call(0), 1)}
    ours, theirs = [], []
    process = None
    with tempfile.TemporaryDirectory() as folder:
        if peer is not None:
            text.save(folder, language_model)
            command = [*shlex.split(peer), "-c", PEER, folder, str(batch_size), str(PROMPT), str(num_tokens)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            row["peer"] = read(process, "ready")
        for i in range(repeats):
            ours.append(call(i + 1))
            if process is not None and process.stdin is not None:
                process.stdin.write("\n")
                theirs.append(float(read(process, "seconds")))
    total = batch_size * num_tokens
    row["tokens/s"] = round(total / statistics.median(ours))
    if process is not None and process.stdin is not None:
        process.stdin.close()
        process.wait(timeout=60)
        row["transformers' tokens/s"] = round(total / statistics.median(theirs))
        row["ratio"] = round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 2)
    return row


def read(process: subprocess.Popen, start: str) -> str:
    """The rest of the next line that begins with ``start``."""
    for line in process.stdout or ():
        if line.startswith(start):
            return line.removeprefix(start).strip()
    raise RuntimeError(f"--peer: the process ended before it printed a line that starts with {start!r}")


def pretrain(num_steps: int) -> None:
    """Bits a byte of the held-out tenth of Python's own prose, byte level, and a sample."""
    model = make("0.9M", "float32").model
    begin = time.perf_counter()

    def report(step: int, train: float, held_out: float) -> None:
        if not np.isnan(held_out):
            seconds = time.perf_counter() - begin
            print(f"step {step}: {train:.3f} bits a byte, held out {held_out:.3f}, {seconds:.0f} s", flush=True)

    tokenizer = text.Bytes()
    result = text.pretrain(jax.random.key(0), model, tokenizer=tokenizer, num_steps=num_steps, report=report)
    prompt, mask = text.pad([tokenizer.encode("The statement ")])
    options = {"num_tokens": 120, "end": tokenizer.end, "temperature": 0.7}
    sample = text.generate(jax.random.key(1), result.params, model, prompt, mask, **options)
    print(repr("The statement " + tokenizer.decode(np.asarray(sample.tokens)[0][np.asarray(sample.mask)[0]])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("--sizes", nargs="+", choices=SIZES, default=["0.9M", "4.9M"])
    fast.add_argument("--batch-size", type=int, default=32)
    fast.add_argument("--num-tokens", type=int, default=64)
    fast.add_argument("--repeats", type=int, default=7)
    fast.add_argument("--peer", help="an interpreter that has torch and transformers")
    fast.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    learn = commands.add_parser("pretrain")
    learn.add_argument("--num-steps", type=int, default=1000)
    given = parser.parse_args()
    print(describe_machine(), file=sys.stderr)
    if given.command == "pretrain":
        return pretrain(given.num_steps)
    for size in given.sizes:
        row = speed(size, given.batch_size, given.num_tokens, given.repeats, given.peer, given.dtype)
        print(json.dumps(row), flush=True)
    return None


if __name__ == "__main__":
    main()
