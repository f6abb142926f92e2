"""A session that saves itself: each change reaches the file soon after it is made, on a thread of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._errors import OutputError
from napari_sam2.session.files.autosave_folder import OwnerMark, remove_session
from napari_sam2.session.files.database import (
    write_masks,
    write_meta,
    write_objects,
    write_operations,
    write_prompts,
)
from napari_sam2.session.files.meta import describe

if TYPE_CHECKING:
    from napari_sam2.session.calls.base import SessionBase
    from napari_sam2.session.state.history import Operation
    from napari_sam2.session.state.records import ObjectMask, PromptEntry, SessionObject
    from napari_sam2.session.state.snapshot import SessionSnapshot
    from napari_sam2.session.state.store import StoreDelta

__all__ = ["Autosave"]

_RETRY = 10.0  # s until saving is tried again after it failed
Key = tuple[int, int]


@dataclass(eq=False)
class _Unwritten:
    """What changed since the file was written; later values take the place of earlier ones."""

    prompts: dict[Key, PromptEntry | None] = field(default_factory=dict)
    masks: dict[Key, ObjectMask | None] = field(default_factory=dict)
    objects: Sequence[SessionObject] | None = None
    operations: Sequence[Operation] | None = None

    def add(self, delta: StoreDelta, session: SessionBase) -> None:
        for edit in delta.edits:
            if edit.table == "prompts":
                self.prompts[edit.key] = edit.after  # type: ignore[index, assignment]
            elif edit.table == "masks":
                self.masks[edit.key] = edit.after  # type: ignore[index, assignment]
            elif edit.table == "objects":
                self.objects = session.objects
        self.operations = session.operations


class Autosave:
    """Keeps a file equal to a session.

    First everything is written, then each change in a transaction of its own or, where several wait, together. After
    a crash nothing is missing that was written, and no change is there by half.

    Parameters
    ----------
    session : Session
        Its errors of saving are told by ``session.failed``, once until saving works again.
    path : str or Path
        File; a session file of that name is replaced.
    retry_after : float, default 10
        Seconds until saving is tried again after it failed.

    Raises
    ------
    OutputError
        If the folder does not exist, or another session saves itself there.
    """

    def __init__(self, session: SessionBase, path: str | Path, *, retry_after: float = _RETRY) -> None:
        self.path = Path(path).expanduser()
        if not self.path.parent.is_dir():
            raise OutputError(f"the folder {self.path.parent} does not exist; make it first, or save elsewhere")
        self._mark = OwnerMark(self.path)
        if not self._mark.take():
            raise OutputError(f"{self.path} is in use by a running session; choose another name")
        self._session = session
        self._retry_after = retry_after
        self._whole: SessionSnapshot | None = session.snapshot()
        self._unwritten = _Unwritten()
        self._written: list[Operation] = []
        self._connection: sqlite3.Connection | None = None
        self._wake = threading.Condition()
        self._noted, self._saved = 1, 0  # the first is the session as it is now
        self._is_closing = False
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name="napari-sam2-autosave", daemon=True)
        self._thread.start()

    def note(self, delta: StoreDelta) -> None:
        """Write a change soon; returns at once. To be called in the order of the changes."""
        with self._wake:
            self._unwritten.add(delta, self._session)
            self._noted += 1
            self._wake.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was noted is written; whether it is. False at once where saving fails."""
        with self._wake:
            wanted = self._noted
            self._wake.wait_for(lambda: self._saved >= wanted or self._has_failed, timeout)
            return self._saved >= wanted

    def close(self, *, keep: bool = True) -> None:
        """Write what waits and end the thread; with ``keep=False`` the file is removed."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        self._thread.join()
        self._mark.release()
        if not keep:
            remove_session(self.path)

    # ------------------------------------------------------------------ writer thread
    def _run(self) -> None:
        try:
            self._keep_writing()
        finally:
            self._disconnect(settled=True)
            with self._wake:
                self._has_failed = self._saved < self._noted
                self._wake.notify_all()

    def _keep_writing(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._noted > self._saved or self._is_closing)
                if self._noted == self._saved:
                    break
                number, unwritten = self._noted, self._unwritten
                self._unwritten = _Unwritten()
            try:
                if self._connection is None:
                    self._write_all()
                if self._connection is not None:  # after a full one: what came since its snapshot
                    self._write(self._connection, unwritten)
            except (sqlite3.Error, OSError) as error:
                self._fail(error)
                with self._wake:
                    if self._is_closing:
                        break
                    self._wake.wait_for(lambda: self._is_closing, self._retry_after)
                continue
            with self._wake:
                self._saved = number
                self._has_failed = False
                self._wake.notify_all()

    def _write_all(self) -> None:
        from napari_sam2.session.files.document import write_session

        state = self._whole or self._session.snapshot()
        meta = describe(self._session)
        write_session(self.path, state, meta)
        connection = sqlite3.connect(self.path, timeout=5, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        self._connection = connection
        self._written = list(state.operations)
        self._whole = None

    def _write(self, connection: sqlite3.Connection, unwritten: _Unwritten) -> None:
        meta = replace(describe(self._session), saved_at=time.time())
        with connection:
            if unwritten.objects is not None:
                write_objects(connection, unwritten.objects)
            write_prompts(connection, unwritten.prompts)
            write_masks(connection, unwritten.masks)
            operations = self._written if unwritten.operations is None else list(unwritten.operations)
            first = _first_difference(self._written, operations)
            write_operations(connection, operations, first=first)
            write_meta(connection, meta)
        self._written = operations

    def _fail(self, error: Exception) -> None:
        """Say it once; the next attempt writes everything anew."""
        self._whole = None
        self._disconnect(settled=False)
        with self._wake:
            is_first, self._has_failed = not self._has_failed, True
            self._wake.notify_all()
        if is_first:
            told = error if isinstance(error, OutputError) else OutputError(
                f"the session cannot be saved to {self.path} ({error}); it goes on in memory and saving is tried "
                "again: free space, or save it elsewhere"
            )  # fmt: skip
            self._session.report_failure(told)

    def _disconnect(self, *, settled: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if settled:
                    connection.execute("PRAGMA journal_mode = DELETE")  # one file again
            connection.close()


def _first_difference(old: Sequence[Operation], new: Sequence[Operation]) -> int:
    pairs = zip(old, new, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a is not b), min(len(old), len(new)))
