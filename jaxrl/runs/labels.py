"""Labels of runs in a legend, which contain only the differences between the runs."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder

MOST = 2
"""The largest number of settings in a label; runs that differ in more are called by their folders' names."""


def labels(folders: Sequence[RunFolder]) -> list[str]:
    """Returns one label per run; a single run gets "".

    Where the recipes or the environments differ, every label starts with them. Then comes the name of a folder that the
    user has named, or the settings that tell a run from others of the same recipe and environment.
    """
    if len(folders) == 1:
        return [""]
    configs = [folder.peek_config() for folder in folders]
    paths = [folder.path.resolve() for folder in folders]
    subjects = [" on ".join(subject.values()) for subject in differences([_subject(config) for config in configs])]
    for details in (_details(paths, configs), [path.name for path in paths], _short_paths(paths)):
        called = [
            detail if _by_default(detail, config) else ": ".join(filter(None, (subject, detail)))
            for subject, detail, config in zip(subjects, details, configs, strict=True)
        ]
        if len(set(called)) == len(called) and all(called):
            break
    return called


def _details(paths: Sequence[Path], configs: Sequence[RunConfig]) -> list[str]:
    """The names of folders that the user has named; for others, the settings that differ from similar runs."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, config in enumerate(configs):
        groups.setdefault(tuple(_subject(config).values()), []).append(index)
    details = [path.name for path in paths]
    for group in groups.values():
        differing = differences([dict(_settings(configs[index])) for index in group])
        for index, settings in zip(group, differing, strict=True):
            if _by_default(details[index], configs[index]) and len(settings) <= MOST:
                details[index] = " ".join(f"{name}={value}" for name, value in settings.items())
    return details


def differences(settings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the entries of each dict that are not the same in all.

    >>> differences([{"gamma": 0.9, "seeds": 1}, {"gamma": 0.99, "seeds": 1}, {"seeds": 1}])
    [{'gamma': 0.9}, {'gamma': 0.99}, {}]
    """
    names = dict.fromkeys(name for known in settings for name in known)
    absent = object()
    differ = [name for name in names if len({repr(known.get(name, absent)) for known in settings}) > 1]
    return [{name: known[name] for name in differ if name in known} for known in settings]


def _by_default(name: str, config: RunConfig) -> bool:
    """Whether the command line chose the name of the folder."""
    return name.startswith(f"{config.recipe}-{config.environment.replace('/', '-')}-2")


def _subject(config: RunConfig) -> dict[str, str]:
    return {"recipe": config.recipe, "environment": config.environment}


def _settings(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """The settings of a run besides its recipe and environment, by the names of their flags."""
    for name in ("seed", "seeds", "num_steps", "num_envs", "rollout_length", "init_from"):
        yield name, getattr(config, name)
    for part, chosen in config.parts.items():
        yield part, chosen.name
        for name, value in chosen.settings.items():
            yield f"{part}.{name}", value
    yield from config.hyperparameters.items()


def _short_paths(paths: Sequence[Path]) -> list[str]:
    """The paths below their common folder."""
    common = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(common)) for path in paths]
