"""One SQLite file that holds a session: written whole or piece by piece, and read without trusting it."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from napari_sam2._errors import OutputError, SessionFileError
from napari_sam2._messages import counted, one_line
from napari_sam2.session.files.file_header import FileHeader, RowCounts
from napari_sam2.session.files.operation_text import operation_from_text, operation_to_text
from napari_sam2.session.files.row_encoding import (
    TABLES,
    TABLES_2,
    TABLES_3,
    checked,
    condition_from_row,
    condition_row,
    mask_from_row,
    mask_row,
    object_from_row,
    object_row,
    prompt_from_row,
    prompt_row,
    with_checksum,
)
from napari_sam2.session.files.validation import check_content
from napari_sam2.session.state.snapshot import SessionContent

if TYPE_CHECKING:
    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.state.records import ObjectMask, PlaneCondition, PromptEntry, SessionObject

__all__ = [
    "fill",
    "is_session_file",
    "read_content",
    "read_header",
    "settle",
    "side_files",
    "write_conditions",
    "write_header",
    "write_masks",
    "write_objects",
    "write_operations",
    "write_prompts",
]

FORMAT = 5  # from 5 on, prompts hold the shapes that they were drawn with
_READABLE: Mapping[int, Mapping[str, str]] = MappingProxyType({2: TABLES_2, 3: TABLES_3, 4: TABLES, FORMAT: TABLES})
_APPLICATION = 0x53414D32  # "SAM2", shown by file(1)
_LARGEST_VALUE = 2**27  # bytes of one value; masks are compressed, so that those of huge planes are far smaller
_DAMAGED = (
    sqlite3.Error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    EOFError,
    zlib.error,
    SafetensorError,
)
Key = tuple[int, int]


@dataclass(frozen=True)
class _WorkLimit:
    """SQLite instructions that reading a file may take: more than any real file needs, so that none runs for ever."""

    base: int = 1_000_000
    per_byte: int = 4
    between_checks: int = 10_000


_WORK_LIMIT = _WorkLimit()


# ---------------------------------------------------------------------- writing
def fill(connection: sqlite3.Connection, content: SessionContent, header: FileHeader) -> None:
    """Write everything into an empty database."""
    connection.execute("PRAGMA journal_mode = OFF")  # the file is not the session's yet: after a failure it is removed
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    with connection:
        for definition in TABLES.values():
            connection.execute(definition)
        write_objects(connection, content.objects)
        write_prompts(connection, content.prompts)
        write_masks(connection, content.masks)
        write_conditions(connection, content.conditions)
        write_operations(connection, content.operations, first=0)
        write_header(connection, header, content)


def write_header(connection: sqlite3.Connection, header: FileHeader, content: SessionContent) -> None:
    """Replace the header; it counts the rows of the content."""
    counts = _count_rows(content)
    row = with_checksum((0, replace(header, counts=counts).to_text()))
    connection.execute("INSERT OR REPLACE INTO header VALUES (?, ?, ?)", row)


def write_objects(connection: sqlite3.Connection, objects: Sequence[SessionObject]) -> None:
    """Replace all objects; their order is kept."""
    connection.execute("DELETE FROM objects")
    _insert(connection, "objects", [object_row(i, item) for i, item in enumerate(objects)])


def write_prompts(connection: sqlite3.Connection, prompts: Mapping[Key, PromptEntry | None]) -> None:
    """Write or (None) remove prompts."""
    _insert(connection, "prompts", [prompt_row(key, entry) for key, entry in prompts.items() if entry is not None])
    gone = [key for key, entry in prompts.items() if entry is None]
    connection.executemany("DELETE FROM prompts WHERE object_id = ? AND plane = ?", gone)


def write_masks(connection: sqlite3.Connection, masks: Mapping[Key, ObjectMask | None]) -> None:
    """Write or (None) remove masks."""
    _insert(connection, "masks", [mask_row(key, mask) for key, mask in masks.items() if mask is not None])
    gone = [key for key, mask in masks.items() if mask is None]
    connection.executemany("DELETE FROM masks WHERE object_id = ? AND plane = ?", gone)


def write_conditions(connection: sqlite3.Connection, conditions: Mapping[int, PlaneCondition | None]) -> None:
    """Write or (None) remove conditions of planes."""
    rows = [condition_row(plane, found) for plane, found in conditions.items() if found is not None]
    _insert(connection, "conditions", rows)
    gone = [(plane,) for plane, found in conditions.items() if found is None]
    connection.executemany("DELETE FROM conditions WHERE plane = ?", gone)


def write_operations(connection: sqlite3.Connection, operations: Sequence[Operation], *, first: int) -> None:
    """Replace the operations from position ``first`` on."""
    connection.execute("DELETE FROM operations WHERE position >= ?", (first,))
    rows = [with_checksum((i, operation_to_text(operations[i]))) for i in range(first, len(operations))]
    _insert(connection, "operations", rows)


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        places = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows)


# ---------------------------------------------------------------------- files
def side_files(path: Path) -> list[Path]:
    """The files that SQLite may keep beside a database."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def is_session_file(path: Path) -> bool:
    """Whether a session may replace a file: it is a session or empty.

    The file is opened by SQLite only. On POSIX systems, closing a file drops all locks that the process holds on it;
    SQLite sees to its own, but a file that is read beside it would leave a running autosave without.

    Raises
    ------
    OSError, sqlite3.Error
        If the file cannot be read.
    """
    if not path.is_file():
        return False
    if not path.stat().st_size:
        return True
    try:
        connection = _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return False
    try:
        return bool(connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION)
    finally:
        connection.close()


def settle(path: Path) -> None:
    """Finish the writing that a crash cut off, so that the file can be replaced.

    Raises
    ------
    OutputError
        If another program is using the file.
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
            raise OutputError(f"{path} is in use by another program; choose another name") from error
    except sqlite3.DatabaseError:
        pass  # damaged: its journal is of no use
    for side in side_files(path):
        side.unlink(missing_ok=True)


# ---------------------------------------------------------------------- reading
def read_header(path: Path) -> FileHeader:
    """Read the header of a session file.

    Raises
    ------
    SessionFileError
        If the file does not exist, is damaged or is not a session.
    """
    with _opened(path) as connection:
        return _header(connection)


def read_content(path: Path, geometry: StackGeometry) -> SessionContent:
    """Read all of a session file whose header fits the image; every value is checked.

    Parameters
    ----------
    path : Path
        Session file.
    geometry : StackGeometry
        Of the image. No array of the file may be larger than a plane of it.

    Returns
    -------
    SessionContent

    Raises
    ------
    SessionFileError
        If the file does not exist, is damaged or is not a session of such an image.
    """
    with _opened(path) as connection:
        header = _header(connection)
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        prompts = (prompt_from_row(row, geometry.hw) for row in _rows(connection, "prompts", "stamp"))
        content = SessionContent(
            objects=tuple(map(object_from_row, _rows(connection, "objects", "position"))),
            prompts=dict(prompts),
            masks=dict(map(mask_from_row, _rows(connection, "masks", "object_id, plane"))),
            operations=tuple(
                operation_from_text(checked(row)[1], geometry.hw) for row in _rows(connection, "operations", "position")
            ),
            settings=header.settings,
            conditions={} if number < 4 else dict(map(condition_from_row, _rows(connection, "conditions", "plane"))),
        )
        found = _count_rows(content)
        if found != header.counts:
            pairs = [
                (each.name, getattr(found, each.name), getattr(header.counts, each.name)) for each in fields(found)
            ]
            lost = [
                f"{counted(number, name[:-1])} where {written} were written"
                for name, number, written in pairs
                if number != written
            ]
            raise ValueError(f"it holds {' and '.join(lost)}")
        check_content(content, geometry)
        return content


def _count_rows(content: SessionContent) -> RowCounts:
    return RowCounts(
        len(content.objects),
        len(content.prompts),
        len(content.masks),
        len(content.operations),
        len(content.conditions),
    )


def _rows(connection: sqlite3.Connection, table: str, order: str) -> sqlite3.Cursor:
    return connection.execute(f"SELECT * FROM {table} ORDER BY {order}")


class _Reader(sqlite3.Connection):
    """A connection that ends its queries when it is closed.

    From Python 3.12 on, a query that an error has left half read keeps the file locked as long as the traceback lives.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: list[sqlite3.Cursor] = []

    def execute(self, *args: Any) -> sqlite3.Cursor:
        cursor = super().execute(*args)
        self._cursors.append(cursor)
        return cursor

    def close(self) -> None:
        for cursor in self._cursors:
            cursor.close()
        super().close()


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading; every failure becomes a SessionFileError."""
    try:
        _check_kind(path)
        connection = _connect(path)
    except SessionFileError:
        raise
    except (sqlite3.Error, OSError, ValueError) as error:
        raise SessionFileError(f"{path} cannot be read ({error}); check the file and its permissions") from error
    try:
        _limit_work(connection, path.stat().st_size)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        connection.execute("BEGIN")  # one state, even if a session continues to write
        _check_tables(connection, _READABLE[_check_format(connection, path)])
        yield connection
    except SessionFileError:
        raise
    except _DAMAGED as error:
        raise SessionFileError(
            f"{path} is damaged ({one_line(error, 400)}); take an older copy or an autosave"
        ) from error
    except MemoryError as error:
        raise SessionFileError(
            f"{path} does not fit into memory ({path.stat().st_size / 2**20:,.0f} MiB in the file); close other "
            "programs, or take an older copy or an autosave if it is damaged"
        ) from error
    finally:
        connection.close()


def _check_kind(path: Path) -> None:
    if not path.is_file():
        raise SessionFileError(f"{path} does not exist or is not a file; give a session file (.sam2)")
    if not path.stat().st_size or not is_session_file(path):
        raise SessionFileError(f"{path} is not a napari-sam2 session, or damaged; give a saved session (.sam2)")


def _check_format(connection: sqlite3.Connection, path: Path) -> int:
    """The number of the format, which this version can read."""
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if number not in _READABLE:
        age = "a newer" if number > FORMAT else "an unreleased older"
        raise SessionFileError(
            f"{path} was written by {age} napari-sam2 (format {number}; this one reads formats {min(_READABLE)} to "
            f"{FORMAT})"
        )
    return number


def _connect(path: Path) -> sqlite3.Connection:
    """Connect for reading, also in a read-only folder; SQLite first undoes a change that a crash interrupted."""
    uri = path.resolve().as_uri()
    try:
        return _tested(f"{uri}?mode=rw")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
    try:
        return _tested(f"{uri}?mode=ro")
    except sqlite3.OperationalError:
        if any(side.exists() and side.stat().st_size for side in side_files(path)):
            raise
        return _tested(f"{uri}?mode=ro&immutable=1")


def _tested(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=30, factory=_Reader)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _limit_work(connection: sqlite3.Connection, size: int) -> None:
    """End reading with an error where it takes more instructions than a file of ``size`` bytes explains."""
    left = (_WORK_LIMIT.base + _WORK_LIMIT.per_byte * size) // _WORK_LIMIT.between_checks

    def is_over() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    connection.set_progress_handler(is_over, _WORK_LIMIT.between_checks)


def _check_tables(connection: sqlite3.Connection, expected: Mapping[str, str]) -> None:
    """Raise ValueError unless there are the tables of a session, as they were defined, and nothing else."""
    found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    tables = {name: sql for kind, name, sql in found if kind == "table"}
    others = [name for kind, name, sql in found if kind != "table" and (kind != "index" or sql is not None)]
    if tables != dict(expected) or others:
        wrong = {name for name in {*tables, *expected} if tables.get(name) != expected.get(name)}
        raise ValueError(f"these of its tables are not as in a session: {', '.join(sorted({*wrong, *others}))}")


def _header(connection: sqlite3.Connection) -> FileHeader:
    rows = connection.execute("SELECT * FROM header").fetchall()
    if len(rows) != 1:
        raise ValueError("it has no header")
    return FileHeader.from_text(checked(rows[0])[1])
