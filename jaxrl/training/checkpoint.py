"""Checkpoints: the whole training state on disk, written by Orbax and restored bit for bit.

A checkpoint is a directory named by its update. Orbax stores the arrays as a flat table, leaf name -> array. Beside it
is a record of the format's version, the identity of the run, and each leaf's shape, dtype and checksum. The table is
flat because Orbax's trees support neither zero-size arrays nor error messages that name the differing leaf. Checksums
are needed because a damaged file can still be read, as other numbers.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import processes
from jaxrl.arguments import check_count
from jaxrl.types import PyTree

FORMAT_VERSION = 1
"""The version of the record and the table; it increases when older versions of jaxrl can't read them."""


class CheckpointError(Exception):
    """A checkpoint does not exist, is damaged, does not fit, or can't be written; the message says which."""


def _named_leaves(tree: PyTree, under: str = "") -> dict[str, Any]:
    """The leaves of a tree by dotted names such as "agent.params.torso.Dense_0.kernel"."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
    names = [".".join(part for part in (under, name) if part) for name in names]
    if len(set(names)) < len(names) or "" in names:
        raise CheckpointError(f"state: got leaves named {sorted(names)}, must have different names")
    leaves = [leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for _, leaf in flat]
    for name, leaf in zip(names, leaves, strict=True):
        if leaf.dtype == object:
            raise CheckpointError(f"state: got {name!r}, which can't be saved, must be an array")
    return dict(zip(names, leaves, strict=True))


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _describe(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _text(described: Mapping[str, Any]) -> str:
    return f"{described['dtype']}{described['shape']}"


def _check_leaves(where: str, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raises CheckpointError naming the first leaf that differs."""
    for problem, names in (
        ("{} is expected, but was not saved", [name for name in asked if name not in saved]),
        ("{} was saved, but is not expected", [name for name in saved if name not in asked]),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise CheckpointError(f"{where} has another structure: {problem.format(repr(names[0]))}{more}")
    for name, leaf in asked.items():
        if _text(saved[name]) != _text(_describe(leaf)):
            raise CheckpointError(
                f"{where} has other shapes or dtypes: {name!r} was saved as {_text(saved[name])}, "
                f"expected {_text(_describe(leaf))}"
            )


def _placed(array: np.ndarray, like: Any, impl: str | None) -> Any:
    """The array on the device of ``like``, or as NumPy if ``like`` is NumPy."""
    if isinstance(like, np.ndarray | np.generic):
        return array
    # An array that was not placed on a device is restored unplaced, so that it can follow others to their device.
    sharding = getattr(like, "sharding", None) if getattr(like, "committed", True) else None
    value = jax.device_put(array) if sharding is None else processes.place(array, sharding)
    return value if impl is None else jax.random.wrap_key_data(value, impl=impl)


def _reason(error: BaseException) -> str:
    """The reason of a storage failure in a few words: the system's, or the start of the storage layer's message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    return os.strerror(int(code.group(1))) if code else f"{type(error).__name__}: {text[:120]}"


@contextlib.contextmanager
def _storage() -> Iterator[None]:
    """Stops Orbax from logging tracebacks of errors that are also raised, and summarised in one sentence here."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _of_this_process() -> Any:
    """Orbax's options for work of one process, which would otherwise wait for the others at every step."""
    from orbax.checkpoint.options import MultiprocessingOptions

    this = jax.process_index()
    if not processes.are_many():
        return MultiprocessingOptions()
    return MultiprocessingOptions(this, active_processes={this}, barrier_sync_key_prefix=f"process-{this}")


def _reader() -> Any:
    from orbax import checkpoint

    alone = _of_this_process()
    options = checkpoint.CompositeOptions(multiprocessing_options=alone)
    handler = checkpoint.CompositeCheckpointHandler(composite_options=options)
    return checkpoint.Checkpointer(handler, multiprocessing_options=alone)


class Checkpoints:
    """The checkpoints of one run, in one directory.

    A save is complete or invisible; the remains of an interrupted one are ignored, and deleted by the next save.
    Several processes save and restore together: the first one writes, and all read.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, keep: int = 3, identity: Mapping[str, Any] | None = None
    ) -> None:
        """Sets the directory and the identity.

        Args:
          directory: the directory for the checkpoints of this run only; the first save makes it.
          keep: the number of last checkpoints that are kept.
          identity: facts that JSON can represent, such as ``{"recipe": "ppo"}``, saved with each checkpoint; a
            restored one must have the same. None saves and checks none.

        Raises:
          ValueError: ``keep`` is less than 1.
          TypeError: JSON cannot represent the identity.
        """
        check_count("keep", keep)
        self.directory, self.keep = Path(directory).absolute(), keep
        self.identity: dict[str, Any] = json.loads(json.dumps(dict(identity or {})))
        self._manager: Any = None
        self._lists_others = True

    def updates(self) -> list[int]:
        """The updates of the existing checkpoints, in order."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal() and path.is_dir())

    def save(self, update: int, state: PyTree) -> None:
        """Writes a checkpoint and returns when it is on disk; deletes all but the last ``keep``.

        Args:
          update: the number of updates so far, which names it; larger than those of existing checkpoints (see
            ``rewind``).
          state: any pytree of arrays, typed PRNG keys and numbers.

        Raises:
          ValueError: ``update`` is not larger than the last one.
          CheckpointError: a leaf is not an array, or the checkpoint can't be written (disk full, no permission);
            earlier checkpoints are kept.
        """
        if processes.is_first() and update <= max(self.updates(), default=-1):
            raise ValueError(
                f"update: got {update}, must be above those in {self.directory}, {self.updates()}; "
                "Checkpoints.rewind deletes later ones"
            )
        leaves = _named_leaves(state)
        record = {name: _describe(leaf) for name, leaf in leaves.items()}
        for name, leaf in leaves.items():
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                record[name]["impl"] = str(jax.random.key_impl(leaf))
                leaves[name] = jax.random.key_data(leaf)
        arrays: dict[str, np.ndarray] = processes.fetch(leaves)
        if not processes.is_first():
            return
        for name, array in arrays.items():
            record[name] |= {"stored": _describe(array), "checksum": _checksum(array)}
        from orbax.checkpoint import args

        try:
            with _storage():
                self._writer().save(
                    update,
                    args=args.Composite(
                        state=args.PyTreeSave({name: array for name, array in arrays.items() if array.size}),
                        record=args.JsonSave({"format": FORMAT_VERSION, "identity": self.identity, "leaves": record}),
                    ),
                    force=True,
                )
        except Exception as error:
            self._clear(update)
            raise CheckpointError(
                f"checkpoint {update} can't be written to {self.directory} ({_reason(error)})"
            ) from error

    def _clear(self, update: int) -> None:
        """Deletes the remains of a failed save."""
        self._manager = None
        for path in self.directory.glob(f"{update}.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def verify(self, update: int) -> None:
        """Reads a whole checkpoint and compares its checksums.

        Raises:
          CheckpointError: it is damaged, or belongs to another run.
        """
        path = self._find(update)
        where = f"checkpoint {path.name} in {self.directory}"
        self._read(path, where, self._record(path, where)["leaves"])

    def readable(self, updates: Sequence[int] | None = None) -> list[int]:
        """The updates, of all or the given ones, whose checkpoints pass ``verify``; the files are read."""
        reader, good = Checkpoints(self.directory, identity=self.identity), []
        reader._lists_others = False
        for update in self.updates() if updates is None else updates:
            with contextlib.suppress(CheckpointError):
                reader.verify(update)
                good.append(update)
        return good

    def try_out(self) -> None:
        """Writes and reads a small checkpoint in this directory, because the storage layer changes some names.

        Raises:
          CheckpointError: the directory can't hold checkpoints.
        """
        if os.sep != "\\" and "\\" in str(self.directory):
            raise CheckpointError(f"{self.directory} can't hold checkpoints: storage takes a backslash for a slash")
        beside = Checkpoints(self.directory.with_name(f"{self.directory.name}-trial"))
        numbers = {"x": np.arange(3)}
        try:
            beside.save(0, numbers)
            beside.verify(0)
        except CheckpointError as error:
            why = f"{_reason(error.__cause__)}" if error.__cause__ else str(error)
            raise CheckpointError(f"{self.directory} can't hold checkpoints ({why})") from error
        finally:
            shutil.rmtree(beside.directory, ignore_errors=True)

    def rewind(self, update: int) -> None:
        """Deletes the checkpoints after ``update``, so that a run can continue from it."""
        for later in [found for found in self.updates() if found > update and processes.is_first()]:
            self._writer().delete(later)

    def restore(self, template: PyTree, update: int | None = None, *, under: str = "") -> PyTree:
        """Reads a state, or a part of one.

        Args:
          template: the expected state: arrays, or ``jax.ShapeDtypeStruct``s as from ``jax.eval_shape``. Arrays are
            restored to their devices or the default one, and to NumPy if the template has NumPy arrays.
          update: the update of the checkpoint; None takes the last one. It never falls back to an earlier one.
          under: the part of the saved state that the template describes, such as "agent.params"; "" is the whole state.

        Returns:
          The template's structure with the saved arrays, bit for bit.

        Raises:
          CheckpointError: it does not exist or is damaged; or its format version, identity, structure, shapes or dtypes
            differ, with the name of the leaf.
        """
        path = self._find(update)
        where = f"checkpoint {path.name} in {self.directory}"
        record = self._record(path, where)
        asked = _named_leaves(template, under)
        inside = lambda name: not under or name == under or name.startswith(f"{under}.")  # noqa: E731
        saved = {name: leaf for name, leaf in record["leaves"].items() if inside(name)}
        if not saved and asked:
            parts = sorted({name.split(".")[0] for name in record["leaves"]})
            raise CheckpointError(f"{where} has nothing under {under!r}; its parts are {', '.join(parts)}")
        _check_leaves(where, saved, asked)
        arrays = self._read(path, where, saved)
        values = [_placed(arrays[name], leaf, saved[name].get("impl")) for name, leaf in asked.items()]
        return jax.tree.unflatten(jax.tree.structure(template), values)

    def _writer(self) -> Any:
        """Orbax's manager, which writes to a temporary directory, renames it, and deletes old ones; made when used."""
        from orbax import checkpoint

        if self._manager is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            options = checkpoint.CheckpointManagerOptions(
                max_to_keep=self.keep,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                create=False,  # Orbax refuses to create it for one of several processes
                multiprocessing_options=_of_this_process(),
            )
            self._manager = checkpoint.CheckpointManager(self.directory, options=options)
        return self._manager

    def _find(self, update: int | None) -> Path:
        updates = self.updates()
        if not updates:
            unfinished = len(list(self.directory.iterdir())) if self.directory.is_dir() else 0
            ignored = f" ({unfinished} entries there are no finished checkpoints)" if unfinished else ""
            raise CheckpointError(f"no checkpoint in {self.directory}{ignored}")
        if update is not None and update not in updates:
            raise CheckpointError(f"no checkpoint {update} in {self.directory}, which has {updates}")
        return self.directory / str(updates[-1] if update is None else update)

    def _torn(self, path: Path, where: str, reason: str) -> CheckpointError:
        problem = f"{where} is torn: {reason}"
        if not self._lists_others:
            return CheckpointError(problem)
        good = self.readable([update for update in self.updates() if update != int(path.name)])
        instead = f"choose one of the updates {good}" if good else "no other checkpoint there can be read"
        return CheckpointError(f"{problem}; {instead}")

    def _record(self, path: Path, where: str) -> dict[str, Any]:
        """The record of a checkpoint, with its format version and identity checked."""
        from orbax import checkpoint

        try:
            with _storage():
                reader = _reader()
                record = reader.restore(path, checkpoint.args.Composite(record=checkpoint.args.JsonRestore())).record
            version, identity, _ = record["format"], record["identity"], record["leaves"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._torn(path, where, "its record can't be read") from error
        if version != FORMAT_VERSION:
            raise CheckpointError(f"{where} is of format version {version}, this jaxrl reads version {FORMAT_VERSION}")
        for name, asked in self.identity.items():
            if name not in identity or identity[name] != asked:
                saved = repr(identity[name]) if name in identity else "none"
                raise CheckpointError(f"{where} is of another run: {name} is {saved}, expected {asked!r}")
        return record

    def _read(self, path: Path, where: str, leaves: dict[str, Any]) -> dict[str, np.ndarray]:
        from orbax import checkpoint

        reader = _reader()
        as_numpy = checkpoint.RestoreArgs(restore_type=np.ndarray)
        arrays = {}
        for name, leaf in leaves.items():
            if 0 in leaf["stored"]["shape"]:
                arrays[name] = np.zeros(leaf["stored"]["shape"], jnp.dtype(leaf["stored"]["dtype"]))
                continue
            # One at a time: of many reads under way, all that outlive the first failure print a traceback.
            table = checkpoint.args.PyTreeRestore({name: 0}, restore_args={name: as_numpy}, partial_restore=True)
            try:
                with _storage():
                    arrays[name] = reader.restore(path, checkpoint.args.Composite(state=table)).state[name]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise self._torn(path, where, f"{name!r} can't be read") from error
            if _checksum(arrays[name]) != leaf["checksum"]:
                raise self._torn(path, where, f"{name!r} is not what was saved (its checksum differs)")
        return arrays
