"""Pieces of a batch: one input, the name of its result, and what became of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from napari_sam2._errors import FrameError
from napari_sam2.frames.zarr_files import is_zarr_folder
from napari_sam2.frames.zarr_zip import zipped_zarr

__all__ = [
    "DONE",
    "FAILED",
    "NOT_RUN",
    "OTHER",
    "RUNNING",
    "InputStates",
    "Outcome",
    "Piece",
    "PieceRecord",
    "Source",
    "Unchanged",
]

_OF_DESKTOPS = (".DS_Store", "Thumbs.db", "desktop.ini")  # written into folders at which somebody looks
DONE, FAILED, NOT_RUN, RUNNING = "done", "failed", "not run", "running"
OTHER = "not in this run"
"""State, in the table of a batch, of a result of an earlier run whose input is not given any more."""


class InputStates:
    """Size and time of input files, each looked up once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Digest of the size and time of a file, or of the files in a folder; empty if there is nothing.

        Of a zarr folder these are all files but labels, as chunks lie in folders of their own. What cannot be looked
        up counts as that: the error is raised when the input is read.
        """
        if path not in self._known:
            found = _state(path)
            self._known[path] = _digest(found) if found else ""
        return self._known[path]


@dataclass(frozen=True)
class Source:
    """One input, or one position in it, with what belongs to it alone.

    Attributes
    ----------
    path : Path
        Image file, zarr folder or folder of images; absolute.
    axes : str or None
        Axes of this file, in place of those of the job.
    channels : tuple of int or str, or None
        Channels of this file, in place of those of the job.
    labels : Path or None
        Labels of some of its frames, from which objects are tracked.
    frames : tuple of int
        Frames of these labels, or of an image the frame that is read.
    prompts : tuple of (str, str)
        Prompts as on the command line of ``napari-sam2 track``: ``("--point", "10,84,120")``.
    parts : tuple of Path
        Other files over which the image is spread.
    position : int or None
        Which of several positions (axis P) in the file is read; None if it has one, or the job says which.
    """

    path: Path
    axes: str | None = None
    channels: tuple[int | str, ...] | None = None
    labels: Path | None = None
    frames: tuple[int, ...] = ()
    prompts: tuple[tuple[str, str], ...] = ()
    parts: tuple[Path, ...] = ()
    position: int | None = None

    @property
    def key(self) -> tuple[Path, int | None]:
        """File and position: inputs in which both are equal are one."""
        return self.path, self.position

    @property
    def title(self) -> str:
        """The name of the file, and the position in it."""
        return self.path.name if self.position is None else f"{self.path.name}, position {self.position}"

    @property
    def absent(self) -> Path | None:
        """The first of its files that is not there, as seen from this computer."""
        return next((file for file in self.files if not _is_there(file)), None)

    @property
    def files(self) -> list[Path]:
        """The image, its labels, the files of masks, and other parts of the image."""
        masks = [_mask(value)[1] for option, value in self.prompts if option == "--mask"]
        return [self.path, *([] if self.labels is None else [self.labels]), *masks, *self.parts]

    def fingerprint(self, states: InputStates | None = None) -> str:
        """Digest of what can change the result, apart from the job: size and time of the files, prompts, axes.

        Names are no part of it, so that a folder can be moved together with its results.

        Parameters
        ----------
        states : InputStates, optional
            Shared by the pieces of a plan, so that an input of many pieces is looked up once.

        Returns
        -------
        str
            32 hexadecimal digits.
        """
        states = states or InputStates()
        parts: dict[str, object] = {
            "files": [states.of(file) for file in self.files],
            "axes": self.axes,
            "channels": self.channels,
            "frames": self.frames,
            "prompts": [
                (option, f"{_mask(value)[0]}{_mask(value)[1].name}" if option == "--mask" else value)
                for option, value in self.prompts
            ],
        }
        if self.position is not None:
            parts["position"] = self.position
        return _digest(parts)


class Unchanged:
    """Raises if the files of an input change within ``with``: their result would be of old and new content.

    It is entered after the writer of the result, which then discards it.

    Parameters
    ----------
    source : Source
        The input, which is opened after this was made.

    Raises
    ------
    FrameError
        At the end, if a file was changed, or removed.
    """

    def __init__(self, source: Source) -> None:
        self._files = source.files
        self._before = self._states()

    def _states(self) -> list[str]:
        states = InputStates()
        return [states.of(file) for file in self._files]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return
        for file, before, now in zip(self._files, self._before, self._states(), strict=True):
            if before != now:
                raise FrameError(f"{file} changed while it was being processed; wait until it is complete")


@dataclass(frozen=True)
class Piece:
    """One input and its result.

    Attributes
    ----------
    name : str
        Name of the result within the output folder, with ``/`` between folders; unique in a plan.
    source : Source
        The input.
    output : Path
        Where the result is written; absolute.
    """

    name: str
    source: Source
    output: Path


@dataclass(frozen=True)
class Outcome:
    """What a worker reports of a piece.

    Attributes
    ----------
    objects : int
        Number of objects found.
    frames : int
        Number of frames of the input.
    seconds : float
        Time of reading, computing and writing.
    worker : str
        Address of the worker process.
    warnings : tuple of str
        Warnings, each once.
    """

    objects: int
    frames: int
    seconds: float = 0.0
    worker: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PieceRecord:
    """State of a piece, as in the journal and the report.

    Attributes
    ----------
    name : str
        As in `Piece`.
    state : {"done", "failed", "not run", "running"}
        Whether its result is there; "running" is never stored.
    fingerprint : str
        Of its input at that time.
    outcome : Outcome or None
        Of a piece that is done.
    reason : str
        Why a piece failed.
    kind : str
        Class of the error, such as "FrameError".
    """

    name: str
    state: str
    fingerprint: str = ""
    outcome: Outcome | None = None
    reason: str = ""
    kind: str = ""


def _mask(value: str) -> tuple[str, Path]:
    """The frame of a mask with its colon, if it has one, and the file, whose name may hold colons too."""
    index, colon, name = value.partition(":")
    return (f"{index}:", Path(name)) if colon and index.isdecimal() else ("", Path(value))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _is_there(path: Path) -> bool:
    try:
        place = zipped_zarr(path)
        return (path if place is None else place.archive).exists()
    except OSError:  # whoever reads it says what is wrong with it
        return True


def _state(path: Path) -> Sequence[object]:
    try:
        if not path.is_dir():
            place = zipped_zarr(path)
            return _size_and_time(path if place is None else place.archive)
        if is_zarr_folder(path):
            files = hashlib.sha256()
            _add_files(path, files, ())
            return [files.hexdigest()]
        with os.scandir(path) as entries:
            return sorted([entry.name, *_size_and_time(entry)] for entry in entries if entry.name not in _OF_DESKTOPS)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [_why(error)]


def _size_and_time(path: Path | os.DirEntry[str]) -> list[object]:
    """Of a file, or why they cannot be looked up, such as of a link to itself; raises FileNotFoundError for a path."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if isinstance(path, Path):
            raise
        return [_why(error)]  # an entry of a folder: a link to nothing
    except OSError as error:
        return [_why(error)]
    return [found.st_size, found.st_mtime_ns]


def _add_files(folder: Path | str, found: hashlib._Hash, above: tuple[tuple[int, int], ...]) -> None:
    """Add all files below a folder; one at a time, as there may be millions of chunks.

    ``above`` are device and number of the folders in which it lies: a link back to one of them is not followed.
    """
    status = os.stat(folder)  # noqa: PTH116 - of an entry
    own = status.st_dev, status.st_ino
    if own in above:
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in _OF_DESKTOPS:
                continue
            if not _is_folder(entry):
                state = "\0".join(map(str, _size_and_time(entry)))
                found.update(f"{entry.name}\0{state}\n".encode(errors="surrogateescape"))
            elif entry.name != "labels":  # of an OME-Zarr image: results may be written there
                found.update(f"{entry.name}/\n".encode(errors="surrogateescape"))
                try:
                    _add_files(entry.path, found, (*above, own))
                except OSError as error:
                    found.update(f"{_why(error)}\n".encode(errors="surrogateescape"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _why(error: OSError) -> str:
    """In the same words in every process."""
    return errno.errorcode.get(error.errno or 0, "unknown")
