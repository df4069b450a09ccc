"""Presets of the recipes of language models. A rollout of T steps has T answers to each of its prompts."""

from __future__ import annotations

from typing import Any

FALLBACK: dict[str, dict[str, Any]] = {
    "grpo": {"num_steps": 64_000, "num_envs": 32, "rollout_length": 8},
    "rloo": {"num_steps": 64_000, "num_envs": 64, "rollout_length": 4},
    "rlhf": {"num_steps": 64_000, "num_envs": 128, "rollout_length": 1},
}

_START = {"start": {"name": "demonstrations", "num_batches": 300}}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    recipe: {f"{task}-N": _START for task in ("Add", "Brackets", "Reverse", "Sort", "Vowels")} for recipe in FALLBACK
}
# As measured in benchmarks/RESULTS.md.
PRESETS["grpo"]["Reverse-N"] = {
    "num_steps": 51_200,
    "learning_rate": 5e-4,
    "network": {"name": "gpt2", "width": 64, "num_layers": 2},
    "start": {"name": "demonstrations", "num_batches": 220},
}
