"""Where sessions save themselves unless told otherwise, and which of them were left behind by a crash."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from napari_sam2._errors import OutputError
from napari_sam2.session.files.database import read_meta, side_files
from napari_sam2.session.files.meta import ImageReference

__all__ = [
    "FOLDER_VARIABLE",
    "OwnerMark",
    "RecoverableSession",
    "autosave_folder",
    "default_autosave_path",
    "recoverable_sessions",
    "remove_session",
]

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "NAPARI_SAM2_SESSIONS"


@dataclass(frozen=True)
class RecoverableSession:
    """A session that was not closed.

    Attributes
    ----------
    path : Path
        Its file, for ``Session.load``.
    image : ImageReference
        What it was made on.
    saved_at : float
        When it was written last, in seconds since 1970.
    num_objects : int
        How many objects it has.
    """

    path: Path
    image: ImageReference
    saved_at: float
    num_objects: int


def autosave_folder() -> Path:
    """The folder of sessions that save themselves: ``NAPARI_SAM2_SESSIONS`` if set, else in the user's data folder."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    import platformdirs

    return platformdirs.user_data_path("napari-sam2", appauthor=False) / "sessions"


def default_autosave_path(reference: str | Path | None = None) -> Path:
    """A file name that is not in use, in a folder that exists.

    Parameters
    ----------
    reference : str or Path, optional
        The image's path or name, for the file's name.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """
    folder = autosave_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be made ({error.strerror}); set {FOLDER_VARIABLE} to one that can be written"
        ) from error
    stem = Path(str(reference or "image")).name.partition(".")[0] or "image"
    name = re.sub(r"[^\w-]+", "_", stem)[:40]
    return folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.sam2"


def recoverable_sessions() -> list[RecoverableSession]:
    """Sessions in the autosave folder that hold objects and belong to no running program, the newest first."""
    found = []
    for path in sorted(autosave_folder().glob("*.sam2")):
        mark = OwnerMark(path)
        if not mark.take():
            continue
        try:
            meta, num_objects = read_meta(path)
        except OutputError as error:
            logger.warning("an automatically saved session cannot be restored: %s", error)
            continue
        finally:
            mark.release()
        if num_objects:
            found.append(RecoverableSession(path, meta.image, meta.saved_at, num_objects))
    return sorted(found, key=lambda session: -session.saved_at)


def remove_session(path: Path) -> None:
    """Remove a session file with all that lies beside it."""
    for part in (path, *side_files(path)):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


class OwnerMark:
    """Tells other programs that a session file is in use; it goes with the program, however that ends.

    Parameters
    ----------
    path : Path
        The session's file; the mark is a locked file beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.owner")
        self._connection: sqlite3.Connection | None = None

    def take(self) -> bool:
        """Whether nobody else holds it; also True where it cannot be made, such as in a read-only folder."""
        try:
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error:
            return True
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            return "locked" not in str(error)
        self._connection = connection
        return True

    def release(self) -> None:
        """Let others use the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
