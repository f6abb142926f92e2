"""One SQLite file that holds a session: written whole or piece by piece, and read with every error in plain words."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from napari_sam2._errors import OutputError, PromptError
from napari_sam2.session.files.meta import FORMAT, SessionMeta
from napari_sam2.session.files.operation_text import operation_from_text, operation_to_text
from napari_sam2.session.files.rows import (
    SCHEMA,
    mask_from_row,
    mask_row,
    object_from_row,
    object_row,
    prompt_from_row,
    prompt_row,
)
from napari_sam2.session.state.snapshot import SessionContent

if TYPE_CHECKING:
    from napari_sam2.session.state.history import Operation
    from napari_sam2.session.state.records import ObjectMask, PromptEntry, SessionObject

__all__ = [
    "StoredSession",
    "fill",
    "is_session_file",
    "read_meta",
    "read_session",
    "settle",
    "side_files",
    "write_masks",
    "write_meta",
    "write_objects",
    "write_operations",
    "write_prompts",
]

_APPLICATION = 0x53414D32  # "SAM2", told by file(1) and by other programs
_MAGIC = b"SQLite format 3\x00"
_DAMAGED = (sqlite3.DatabaseError, ValueError, TypeError, KeyError, EOFError, zlib.error, BadZipFile)
Key = tuple[int, int]


@dataclass(frozen=True, eq=False)
class StoredSession:
    """What a session file holds."""

    meta: SessionMeta
    content: SessionContent


# ---------------------------------------------------------------------- writing
def fill(connection: sqlite3.Connection, content: SessionContent, meta: SessionMeta) -> None:
    """Write everything into an empty database, in one transaction."""
    connection.executescript(SCHEMA)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    with connection:
        write_meta(connection, meta)
        write_objects(connection, content.objects)
        write_prompts(connection, content.prompts)
        write_masks(connection, content.masks)
        write_operations(connection, content.operations, first=0)


def write_meta(connection: sqlite3.Connection, meta: SessionMeta) -> None:
    """Replace the description."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('session', ?)", (meta.to_text(),))


def write_objects(connection: sqlite3.Connection, objects: Sequence[SessionObject]) -> None:
    """Replace all objects; their order is kept."""
    connection.execute("DELETE FROM objects")
    connection.executemany(
        "INSERT INTO objects VALUES (?, ?, ?, ?, ?)", [object_row(i, item) for i, item in enumerate(objects)]
    )


def write_prompts(connection: sqlite3.Connection, prompts: Mapping[Key, PromptEntry | None]) -> None:
    """Write or (None) remove prompts."""
    rows = [prompt_row(key, entry) for key, entry in prompts.items() if entry is not None]
    connection.executemany("INSERT OR REPLACE INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    gone = [key for key, entry in prompts.items() if entry is None]
    connection.executemany("DELETE FROM prompts WHERE object_id = ? AND plane = ?", gone)


def write_masks(connection: sqlite3.Connection, masks: Mapping[Key, ObjectMask | None]) -> None:
    """Write or (None) remove masks."""
    rows = [mask_row(key, mask) for key, mask in masks.items() if mask is not None]
    connection.executemany("INSERT OR REPLACE INTO masks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    gone = [key for key, mask in masks.items() if mask is None]
    connection.executemany("DELETE FROM masks WHERE object_id = ? AND plane = ?", gone)


def write_operations(connection: sqlite3.Connection, operations: Sequence[Operation], *, first: int) -> None:
    """Replace the operations from position ``first`` on."""
    connection.execute("DELETE FROM operations WHERE position >= ?", (first,))
    rows = [(i, operation_to_text(operations[i])) for i in range(first, len(operations))]
    connection.executemany("INSERT INTO operations VALUES (?, ?)", rows)


# ---------------------------------------------------------------------- files
def side_files(path: Path) -> list[Path]:
    """What SQLite may keep beside a file that is being written."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def is_session_file(path: Path) -> bool:
    """Whether a file may be replaced by a session: it is one, or empty."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(72)
    return not head or (head.startswith(_MAGIC) and head[68:72] == _APPLICATION.to_bytes(4, "big"))


def settle(path: Path) -> None:
    """Take what lies beside a file into it, so that the file can be replaced.

    Raises
    ------
    OutputError
        If a running session saves itself there.
    """
    if not any(side.exists() for side in side_files(path)):
        return
    try:
        connection = sqlite3.connect(path, timeout=0.5)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutputError(f"{path} is in use by a running session; choose another name") from error
    except sqlite3.DatabaseError:
        pass  # damaged: what lies beside it belongs to nothing
    for side in side_files(path):
        side.unlink(missing_ok=True)


# ---------------------------------------------------------------------- reading
@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading; every failure becomes an OutputError."""
    if not path.is_file():
        raise OutputError(f"{path} does not exist; give a session file (.sam2)")
    try:
        if not is_session_file(path) or not path.stat().st_size:
            raise OutputError(f"{path} is not a napari-sam2 session; give a file that Session.save wrote")
        connection = _connect(path)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path} cannot be read ({error}); check the file and its permissions") from error
    try:
        connection.execute("BEGIN")  # one state, even if a session goes on writing
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        if number > FORMAT:
            raise OutputError(
                f"{path} was written by a newer napari-sam2 (format {number}; this one reads up to {FORMAT}); update it"
            )
        yield connection
    except _DAMAGED as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path} is damaged ({error}); take an older copy or an autosave") from error
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Also where nothing may be written."""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=5)
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    return connection


def read_meta(path: Path) -> tuple[SessionMeta, int]:
    """What a session file says about itself, and its number of objects.

    Raises
    ------
    OutputError
        If the file is missing, damaged or no session.
    """
    with _opened(path) as connection:
        return _meta(connection), int(connection.execute("SELECT count(*) FROM objects").fetchone()[0])


def _meta(connection: sqlite3.Connection) -> SessionMeta:
    found = connection.execute("SELECT value FROM meta WHERE key = 'session'").fetchone()
    if found is None:
        raise ValueError("it says nothing about itself")
    return SessionMeta.from_text(found[0])


def read_session(path: Path) -> StoredSession:
    """All that a session file holds.

    Raises
    ------
    OutputError
        If the file is missing, damaged or no session.
    """
    with _opened(path) as connection:
        meta = _meta(connection)
        try:
            content = SessionContent(
                objects=tuple(map(object_from_row, connection.execute("SELECT * FROM objects ORDER BY position"))),
                prompts=dict(map(prompt_from_row, connection.execute("SELECT * FROM prompts ORDER BY stamp"))),
                masks=dict(map(mask_from_row, connection.execute("SELECT * FROM masks"))),
                operations=tuple(
                    operation_from_text(text)
                    for (text,) in connection.execute("SELECT call FROM operations ORDER BY position")
                ),
                settings=meta.settings,
            )
        except PromptError as error:
            raise ValueError(str(error)) from error
        return StoredSession(meta, content)
