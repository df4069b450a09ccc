"""What runs are called in a legend: only that in which they differ."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder

MOST = 2
"""Settings in a label; of runs that differ in more, the folder's name says which is which."""


def labels(folders: Sequence[RunFolder]) -> list[str]:
    """A label for each run, none for a single one.

    What somebody called a folder stays. Of folders that were named by the command, which differ in the time of day,
    it is the settings that differ, where these tell the runs apart in a few words.
    """
    if len(folders) == 1:
        return [""]
    configs = [folder.read_config() for folder in folders]
    names = [folder.path.resolve().name for folder in folders]
    told = [_told(settings) for settings in differences([dict(_settings(config)) for config in configs])]
    called = [
        label if _by_default(name, config) and label and label.count("=") <= MOST else name
        for name, label, config in zip(names, told, configs, strict=True)
    ]
    if len(set(called)) == len(called):
        return called
    return names if len(set(names)) == len(names) else _short_paths([folder.path.resolve() for folder in folders])


def differences(settings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each dict what is not the same in all.

    >>> differences([{"gamma": 0.9, "seeds": 1}, {"gamma": 0.99, "seeds": 1}, {"seeds": 1}])
    [{'gamma': 0.9}, {'gamma': 0.99}, {}]
    """
    names = dict.fromkeys(name for known in settings for name in known)
    absent = object()
    differ = [name for name in names if len({repr(known.get(name, absent)) for known in settings}) > 1]
    return [{name: known[name] for name in differ if name in known} for known in settings]


def _by_default(name: str, config: RunConfig) -> bool:
    return name.startswith(f"{config.recipe}-{config.environment.replace('/', '-')}-2")


def _settings(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """All that a run was asked for, by names as flags have them. What follows from another difference is left out."""
    yield "recipe", config.recipe
    yield "environment", config.environment
    for name in ("seed", "seeds", "num_steps", "num_envs", "rollout_length", "init_from"):
        yield name, getattr(config, name)
    for part, chosen in config.parts.items():
        yield part, chosen.name
        for name, value in chosen.settings.items():
            yield f"{part}.{name}", value
    yield from config.hyperparameters.items()


def _told(settings: dict[str, Any]) -> str:
    """A recipe and an environment speak for themselves; that they have other settings goes without saying."""
    alone = [settings[name] for name in ("recipe", "environment") if name in settings]
    if alone:
        return " on ".join(alone)
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _short_paths(paths: Sequence[Path]) -> list[str]:
    """Paths below the folder that all have in common."""
    common = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(common)) for path in paths]
