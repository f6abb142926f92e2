"""The default folder of autosaves, and the sessions there that were not closed, such as after a crash."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from napari_sam2._errors import OutputError, SessionFileError
from napari_sam2.session.files.database import read_header, side_files
from napari_sam2.session.files.file_header import ImageReference

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
        Its image.
    saved_at : float
        When it was last written, in seconds since 1970.
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
    """A new file name in the folder of autosaves, which is created.

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
        If the folder cannot be created.
    """
    folder = autosave_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be created ({error.strerror}); set {FOLDER_VARIABLE} to a writable one"
        ) from error
    stem = Path(str(reference or "image")).name.partition(".")[0] or "image"
    name = re.sub(r"[^\w-]+", "_", stem)[:40]
    return folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.sam2"


def recoverable_sessions() -> list[RecoverableSession]:
    """List sessions in the autosave folder that hold objects and that no running program uses, the newest first."""
    found = []
    for path in sorted(autosave_folder().glob("*.sam2")):
        mark = OwnerMark(path)
        if not mark.take():
            continue
        try:
            header = read_header(path)
        except SessionFileError as error:
            logger.warning("an autosaved session cannot be restored: %s", error)
            continue
        finally:
            mark.release()
        if header.counts.objects:
            found.append(RecoverableSession(path, header.image, header.saved_at, header.counts.objects))
    return sorted(found, key=lambda session: -session.saved_at)


def remove_session(path: Path) -> None:
    """Remove a session file and the files that SQLite keeps beside it."""
    for part in (path, *side_files(path)):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


class OwnerMark:
    """Shows other programs that a session file is in use; the mark ends with the program, however that ends.

    A lock of its own, as the locks of SQLite are lost where the program opens the session file by other means: on POSIX
    systems, closing any descriptor of a file drops them.

    Parameters
    ----------
    path : Path
        The session file; the mark is a locked file beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.owner")
        self._lock = FileLock(self._path, thread_local=False)

    def take(self) -> bool:
        """Whether no other process holds it; also True where it cannot be created, such as in a read-only folder."""
        if not self._path.parent.is_dir():  # which acquire would make
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            logger.debug("no owner mark %s: %s", self._path, error)
        return True

    def release(self) -> None:
        """Let others use the file."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._lock.release()
