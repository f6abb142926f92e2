"""Outputs that appear whole or not at all: written under a temporary name beside the final one, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_sam2._errors import DiskFullError, OutputError
from napari_sam2._messages import OVERWRITE, Message, shown

__all__ = [
    "check_folder",
    "check_new",
    "check_not_in_use",
    "check_replaceable",
    "check_writable",
    "expand",
    "file_stamp",
    "is_there",
    "make_folder",
    "partial_path",
    "put_in_place",
    "remove_folder",
    "remove_partial",
    "reserved",
    "spreadsheet_text",
    "write_error",
    "write_whole",
]

_TAG = re.compile(
    r"\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-(?P<started>[0-9a-f]+)-[0-9a-f]{8}\.(?P<kind>partial|replaced)([.-].+)?$"
)
_LONGEST_NAME = 180  # bytes of the final name that go into the temporary one; file systems allow 255 in all
_FOREIGN_AGE_S = 7 * 24 * 3600.0  # age at which a partial file of another machine is taken for abandoned
_REMOVALS, _REMOVAL_S = 5, 0.05  # of a folder
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ALLOW = "change its permissions, or write elsewhere"
_ADVICE = {
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.EROFS: "write elsewhere",
    errno.ENAMETOOLONG: "give a shorter name",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # the file system has no such operation


def file_stamp(path: object) -> tuple[int, int] | None:
    """Size and time of the last change of a file, to see that it was replaced; None for what is no path of a file."""
    if not isinstance(path, (str, Path)):
        return None
    try:
        found = Path(path).expanduser().stat()
    except (OSError, RuntimeError, ValueError):  # none there; no such user; a name that no file has
        return None
    return found.st_size, found.st_mtime_ns


def write_whole(path: str | os.PathLike[str], write: Callable[[Path], object], *, overwrite: bool = True) -> Path:
    """Let ``write`` create a file or folder under a temporary name, then give it its final one.

    The temporary name is in the same folder. What was there before stays until the new content is complete and on
    disk; on any failure the temporary file is removed and the old one is kept. Temporary files that processes which
    have died left in that folder are removed first.

    Parameters
    ----------
    path : str or path-like
        Final name; "~" is expanded.
    write : callable
        Called with the temporary path, at which nothing exists yet.
    overwrite : bool, default True
        Whether an existing file, or a folder if ``write`` makes a folder, may be replaced.

    Returns
    -------
    Path
        The final name.

    Raises
    ------
    OutputError
        If the folder does not exist, the file exists and is not to be replaced, or it cannot be written. Errors of
        ``write`` other than OSError are passed on.
    """
    place = expand(path)
    try:
        check_new(path, overwrite=overwrite)
        check_replaceable(place)
        part = partial_path(place)
        try:
            write(part)
            if place.is_dir() and not part.is_dir():
                raise OutputError(f"{path} is a folder; give the name of a file")
            put_in_place(part, place)
        finally:
            remove_partial(part)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_error(place, error) from error
    return place


def check_folder(place: Path) -> None:
    """Raise OutputError if the folder of an output does not exist."""
    if not place.parent.is_dir():
        raise OutputError(f"the folder {place.parent} does not exist; create it first, or write elsewhere")


def check_new(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The place of an output, with "~" expanded.

    Raises
    ------
    OutputError
        If its folder does not exist, or something is there that may not be replaced.
    """
    place = expand(path)
    check_folder(place)
    if not overwrite and place.exists():
        raise OutputError(Message(f"{path} already exists; choose another name, or ", OVERWRITE))
    return place


def check_replaceable(path: Path) -> None:
    """Raise OutputError if something is there that is neither a file nor a folder, such as a device."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{path} is a device or pipe and is not replaced; give the name of a file")


def write_error(path: Path, error: BaseException, kept: str = "The previous file is unchanged.") -> OutputError:
    """The OutputError for a failed write to ``path``; a DiskFullError if that is the reason.

    ``kept`` is what is said of what was there before, if anything was.
    """
    if not isinstance(error, OSError) and path.parent.is_dir() and not os.access(path.parent, os.W_OK | os.X_OK):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # of which SQLite says no more than a failure
    reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[:160]
    try:
        said = f" {kept}" if kept and path.exists() else ""
    except OSError:  # the name itself is what is wrong
        said = ""
    kind = DiskFullError if isinstance(error, OSError) and error.errno in _FULL else OutputError
    advice = _ADVICE.get((isinstance(error, OSError) and error.errno) or 0, "free space, or write elsewhere")
    return kind(f"{path} cannot be written ({reason}); {advice}.{said}")


def expand(path: str | os.PathLike[str]) -> Path:
    """``path`` with "~" expanded; raises OutputError if there is no such user, or it is not a path."""
    try:
        place = Path(path).expanduser()
    except TypeError as error:
        raise OutputError(f"{shown(path)} was given as an output; expected a path") from error
    except RuntimeError as error:
        raise OutputError(
            f"{path} cannot be written ({error}); a name that begins with ~ is given as ./~..."
        ) from error
    text = str(place)
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise OutputError(f"{shown(text)} cannot be written ({error.reason}); give another name") from error
    if "\0" in text:
        raise OutputError(f"{shown(text)} cannot be written; a name cannot contain a null character")
    if not place.name:
        raise OutputError(f"{shown(str(path))} was given as an output; give the name of a file")
    try:
        place.exists()
    except OSError as error:  # a name that is too long, or a folder that may not be searched
        raise write_error(place, error) from error
    return place


def is_there(path: Path) -> bool:
    """Whether something is at a path; False for names that no file can have, on which writing then fails."""
    try:
        return path.exists()
    except OSError:
        return False


def make_folder(folder: Path) -> None:
    """Make a folder of results, with those above it, unless it is there; raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{folder} is a file; give the name of a folder") from error
    except OSError as error:
        raise write_error(folder, error, kept="") from error


def partial_path(path: Path) -> Path:
    """A temporary name beside ``path``, at which nothing exists, that tells which process is writing.

    Partial files that dead processes left in the folder are removed. Raises OSError if the folder cannot be read.
    """
    _remove_abandoned(path.parent)
    return path.with_name(f"{_prefix(path.name)}{_owner()}-{secrets.token_hex(4)}.partial")


def put_in_place(part: Path, path: Path) -> None:
    """Flush a finished file or folder to disk and give it its final name, replacing what is there; raises OSError."""
    check_replaceable(path)
    for file in (part, *part.rglob("*")) if part.is_dir() else (part,):
        _flush(file)
    if part.is_dir() or path.is_dir():
        _replace_folder(part, path)
    else:
        part.replace(path)
    _flush(path.parent)


def remove_partial(part: Path) -> None:
    """Remove a partial file or folder, and files whose names begin with its name, such as SQLite's journals."""
    for _ in range(_REMOVALS):
        leftovers = list(part.parent.glob(f"{_as_pattern(part.name)}*"))
        is_folder = any(leftover.is_dir() for leftover in leftovers)
        for leftover in leftovers:
            _remove(leftover)
        if not is_folder:
            break
        time.sleep(_REMOVAL_S)  # threads of zarr that were writing when an error came go on, and make the folder again


def remove_folder(folder: Path) -> None:
    """Remove a folder that is no longer needed; what is left after an interruption later writes beside it remove."""
    with suppress(OSError):
        part = partial_path(folder)
        folder.rename(part)
        _remove(part)


@contextmanager
def reserved(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, other processes that try to reserve the same output are refused.

    Used around work whose result is written at its end, so that a second run to the same output, a read-only folder
    or a full disk shows at the start. The reservation is an empty partial file, which does not outlive the process
    by more than one further write into the folder.

    Parameters
    ----------
    path : str or path-like
        The output; "~" is expanded.

    Raises
    ------
    OutputError
        If another process on this computer is writing this output, or the folder cannot be written to.
    """
    place = expand(path)
    try:
        check_folder(place)
        part = partial_path(place)
        part.touch(exist_ok=False)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_error(place, error) from error
    try:
        check_not_in_use(place)
        yield
    finally:
        remove_partial(part)


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be created in the folder of ``path``, by creating one."""
    try:
        part = partial_path(path)
        part.touch(exist_ok=False)
        remove_partial(part)
    except OSError as error:
        raise write_error(path, error) from error


def check_not_in_use(path: Path) -> None:
    """Raise OutputError if another running process on this computer is writing ``path``."""
    for other in path.parent.glob(f"{_as_pattern(_prefix(path.name))}*.partial*"):
        tag = _TAG.search(other.name)
        if tag is not None and tag["machine"] == _machine() and int(tag["process"]) != os.getpid() and _is_alive(tag):
            raise OutputError(
                f"{path} is being written by another process ({tag['process']}); wait for it, or choose another name"
            )


def spreadsheet_text(text: str) -> str:
    """A text that spreadsheets show instead of computing it: an apostrophe precedes what begins like a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _prefix(name: str) -> str:
    """What temporary names of an output begin with."""
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
    return f".{name}."


def _owner() -> str:
    """What tells this process from others: machine, number and start."""
    import psutil

    return f"{_machine()}-{os.getpid()}-{int(psutil.Process().create_time()):x}"


def _machine() -> str:
    """Eight digits for this machine; containers, which number their processes separately, count as machines."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        namespace = 0
    return hashlib.blake2b(f"{platform.node()} {namespace}".encode(), digest_size=4).hexdigest()


def _is_alive(tag: re.Match[str]) -> bool:
    """Whether the process of this machine that a temporary name belongs to is still running."""
    import psutil

    try:
        process = psutil.Process(int(tag["process"]))
        is_same = abs(process.create_time() - int(tag["started"], 16)) < 3  # the number may belong to another by now
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, OverflowError):
        return False


def _remove_abandoned(folder: Path) -> None:
    """Remove partial files of dead processes; put back a folder whose replacement was cut off half-way."""
    for leftover in folder.iterdir():
        tag = _TAG.search(leftover.name) if leftover.name.startswith(".") else None
        if tag is None:
            continue
        with suppress(FileNotFoundError):  # another process was faster
            is_ours = tag["machine"] == _machine()
            if _is_alive(tag) if is_ours else time.time() - leftover.stat().st_mtime < _FOREIGN_AGE_S:
                continue
            final = leftover.with_name(leftover.name[1 : tag.start()])
            if tag["kind"] == "replaced" and not final.exists():
                leftover.rename(final)
            else:
                _remove(leftover)


def _replace_folder(part: Path, path: Path) -> None:
    """Give a folder its final name; a folder cannot be replaced in one step."""
    if not path.exists():
        if path.is_symlink():  # to nothing: replaced, as a file replaces it
            path.unlink()
        part.rename(path)
        return
    aside = path.with_name(f".{path.name}.{_owner()}-{secrets.token_hex(4)}.replaced")
    path.rename(aside)
    try:
        part.rename(path)
    except OSError:
        aside.rename(path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # a leftover that cannot be removed harms nobody
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the operating system write a file, or the entries of a folder, to disk."""
    if path.is_dir() and os.name == "nt":  # Windows flushes no folders
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def _as_pattern(name: str) -> str:
    """A file name as a glob pattern that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
