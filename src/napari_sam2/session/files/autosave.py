"""Autosave: each change of a session is written to its file soon after, by a separate thread."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_sam2._errors import OutputError
from napari_sam2._files import check_folder, expand, write_error
from napari_sam2.session.files.autosave_folder import OwnerMark, remove_session
from napari_sam2.session.files.database import (
    write_conditions,
    write_header,
    write_masks,
    write_objects,
    write_operations,
    write_prompts,
)
from napari_sam2.session.files.document import write_session
from napari_sam2.session.files.file_header import describe
from napari_sam2.session.state.snapshot import SessionContent, SessionSnapshot

if TYPE_CHECKING:
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.state.records import ObjectMask, PlaneCondition, PromptEntry, SessionObject
    from napari_sam2.session.state.settings import SessionSettings
    from napari_sam2.session.state.snapshot import SessionSetup
    from napari_sam2.session.state.store import StoreDelta

__all__ = ["Autosave"]

logger = logging.getLogger(__name__)

Key = tuple[int, int]
K = TypeVar("K")
T = TypeVar("T")


@dataclass(eq=False)
class _Changes:
    """Changes that are not in the file yet; later values replace earlier ones. The tables hold None for removals."""

    prompts: dict[Key, PromptEntry | None] = field(default_factory=dict)
    masks: dict[Key, ObjectMask | None] = field(default_factory=dict)
    conditions: dict[int, PlaneCondition | None] = field(default_factory=dict)
    objects: tuple[SessionObject, ...] | None = None
    operations: tuple[Operation, ...] | None = None
    settings: SessionSettings | None = None
    setup: SessionSetup | None = None

    def add(self, delta: StoreDelta) -> None:
        for edit in delta.edits:
            if edit.table == "prompts":
                self.prompts[edit.key] = edit.after  # type: ignore[index, assignment]
            elif edit.table == "masks":
                self.masks[edit.key] = edit.after  # type: ignore[index, assignment]
            elif edit.table == "conditions":
                self.conditions[edit.key] = edit.after  # type: ignore[index, assignment]


class _Mirror:
    """The session's state as of the changes taken over so far, so that the file can be written without the session."""

    def __init__(self, snapshot: SessionSnapshot) -> None:
        self.prompts = dict(snapshot.content.prompts)
        self.masks = dict(snapshot.content.masks)
        self.conditions = dict(snapshot.content.conditions)
        self.objects = snapshot.content.objects
        self.operations = snapshot.content.operations
        self.settings = snapshot.content.settings
        self.setup = snapshot.setup

    def take(self, changes: _Changes) -> None:
        _update(self.prompts, changes.prompts)
        _update(self.masks, changes.masks)
        _update(self.conditions, changes.conditions)
        self.objects = self.objects if changes.objects is None else changes.objects
        self.operations = self.operations if changes.operations is None else changes.operations
        self.settings = changes.settings or self.settings
        self.setup = changes.setup or self.setup

    def snapshot(self) -> SessionSnapshot:
        content = SessionContent(
            self.objects, self.prompts, self.masks, self.operations, self.settings, self.conditions
        )
        return SessionSnapshot(content, self.setup)


class Autosave:
    """Keeps a file equal to a session.

    The whole session is written first, then each change in a transaction, or several together if they come faster
    than they can be written. After a crash the file holds all changes that were written, and none of them in part.

    Parameters
    ----------
    path : str or Path
        File; an existing session file is replaced.
    snapshot : SessionSnapshot
        The session as it is now.
    fail : callable
        Called with the error when saving fails, once until it works again.
    retry_after : float, default 10
        Seconds until saving is tried again after it failed.

    Raises
    ------
    OutputError
        If the folder does not exist, or another session saves itself to this file.
    """

    def __init__(
        self,
        path: str | Path,
        snapshot: SessionSnapshot,
        fail: Callable[[Exception], None],
        *,
        retry_after: float = 10.0,
    ) -> None:
        self.path = expand(path)
        try:
            self.path.exists()  # raises where the name is too long
            check_folder(self.path)
        except OSError as error:
            raise error if isinstance(error, OutputError) else write_error(self.path, error) from error
        self._mark = OwnerMark(self.path)
        if not self._mark.take():
            raise OutputError(f"{self.path} is in use by a running session; choose another name")
        self._fail = fail
        self._retry_after = retry_after
        self._wake = threading.Condition()
        self._changes = _Changes()
        self._noted, self._saved = 1, 0  # the first change is the session as it is now
        self._is_closing = False
        self._has_failed = False
        # used by the writer thread only
        self._mirror = _Mirror(snapshot)
        self._written: tuple[Operation, ...] = ()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="napari-sam2-autosave", daemon=True)
        self._thread.start()

    def note(
        self,
        delta: StoreDelta,
        objects: Sequence[SessionObject],
        operations: Sequence[Operation],
        settings: SessionSettings,
        setup: SessionSetup,
    ) -> None:
        """Have a change written soon; returns at once. Call it in the order of the changes.

        Parameters
        ----------
        delta : StoreDelta
            The change.
        objects, operations, settings, setup
            As they are after it.
        """
        with self._wake:
            changes = self._changes
            changes.add(delta)
            changes.objects, changes.operations = tuple(objects), tuple(operations)
            changes.settings, changes.setup = settings, setup
            self._noted += 1
            self._wake.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every change so far is written; whether it is. Returns False at once while saving fails."""
        with self._wake:
            wanted = self._noted
            self._wake.wait_for(lambda: self._saved >= wanted or self._has_failed, timeout)
            return self._saved >= wanted

    def close(self, *, keep: bool = True) -> None:
        """Write the remaining changes and end the thread; with ``keep=False`` remove the file written here."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._mark.release()
        if not keep and self._file is not None and _identity(self.path) == self._file:
            remove_session(self.path)

    # ------------------------------------------------------------------ writer thread
    def _run(self) -> None:
        try:
            self._keep_writing()
        finally:
            self._disconnect()
            with self._wake:
                self._has_failed = self._saved < self._noted
                self._wake.notify_all()

    def _keep_writing(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._noted > self._saved or self._is_closing)
                if self._noted == self._saved:
                    return
                number, changes = self._noted, self._changes
                self._changes = _Changes()
            try:
                self._save(changes)
            except Exception as error:  # noqa: BLE001 reported, and tried again: the thread outlives any error
                self._disconnect()
                self._report(error)
                with self._wake:
                    if self._is_closing:
                        return
                    self._wake.wait_for(lambda: self._is_closing, self._retry_after)
                continue
            with self._wake:
                self._saved = number
                self._has_failed = False
                self._wake.notify_all()

    def _save(self, changes: _Changes) -> None:
        """Write the changes; the whole session where the file is not the one that was written before."""
        mirror = self._mirror
        mirror.take(changes)
        if self._connection is not None and _identity(self.path) != self._file:  # moved, removed or replaced
            self._disconnect()
        if self._connection is None:
            write_session(self.path, mirror.snapshot())
            # SQLite's default journal is used, as no lock is held between two changes: with a write-ahead log, a lock
            # that is lost when the program opens the file by other means lets other programs delete the log in use
            self._connection = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=rw", uri=True, timeout=30)
            self._file = _identity(self.path)
        else:
            with self._connection as connection:
                if changes.objects is not None:
                    write_objects(connection, changes.objects)
                write_prompts(connection, changes.prompts)
                write_masks(connection, changes.masks)
                write_conditions(connection, changes.conditions)
                first = _first_difference(self._written, mirror.operations)
                write_operations(connection, mirror.operations, first=first)
                write_header(connection, describe(mirror.setup, mirror.settings), mirror.snapshot().content)
        self._written = mirror.operations

    def _report(self, error: Exception) -> None:
        """Report a failure, unless the one before was reported already."""
        with self._wake:
            is_first, self._has_failed = not self._has_failed, True
            self._wake.notify_all()
        if not is_first:
            return
        try:
            self._fail(error if isinstance(error, OutputError) else OutputError(
                f"the session cannot be saved to {self.path} ({error}); it continues in memory and saving is retried: "
                "free space, or save it elsewhere"
            ))  # fmt: skip
        except Exception:
            logger.exception("a callback for a failed autosave failed")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, which differ if it was replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _update(table: dict[K, T], changes: dict[K, T | None]) -> None:
    for key, value in changes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _first_difference(old: Sequence[Operation], new: Sequence[Operation]) -> int:
    pairs = zip(old, new, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a is not b), min(len(old), len(new)))
