"""The journal of a batch: which pieces are done, with which model, settings and version.

A text file of one JSON object per line beside the results. The first line describes the run; each further line is a
piece that ended. Every line is on disk before its piece is counted. A last line that was cut off is removed.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, cast

from filelock import BaseFileLock, FileLock, Timeout

from napari_sam2._errors import FrameError, OutputError, warn_caller
from napari_sam2._files import write_error, write_whole
from napari_sam2._messages import AGAIN, RESTART, Message, Option, shell_option
from napari_sam2.batch.pieces import DONE, FAILED, Outcome, PieceRecord, Source

__all__ = [
    "JOURNAL_NAME",
    "PROMPT_MASKS",
    "REPORT_NAME",
    "Journal",
    "RunIdentity",
    "reserved_folder",
    "without_results",
]

JOURNAL_NAME = "batch.jsonl"
REPORT_NAME = "report.csv"
PROMPT_MASKS = "prompt_masks"
"""Folder of label images beside the results, of prompts that are masks."""

_LOCK_NAME = ".batch.lock"
_MARKERS = ".batch.*.run"
_FORMAT = 1
_EARLIER = "earlier results"


_SHELL_GROUPS = ("finding", "shapes")
"""Of the settings of jobs: groups in which each has an option of its name in the shell."""
_SHELL_SETTINGS = {
    **dict.fromkeys(("every", "give_up_after", "min_area_px", "min_score", "overlap", "split_stacked", "tile")),
    **dict.fromkeys(("reading.channels", "reading.contrast", "reading.gamma", "reading.level", "reading.axes")),
    "reading.frame_axis": "--axis",
    "reading.fixed": "--fix",
    "key_frames": "--key-frame",
    "frame": "--frame",
    "frames": "--frame",
}
"""The other settings that the shell has an option for, which has the same name where none is given here."""


@dataclass(frozen=True)
class RunIdentity:
    """What must be equal for the results of two runs to belong together.

    Attributes
    ----------
    command : str
        Kind of work, such as "generate".
    model : str
        Name or file of the model.
    model_hash : str
        SHA-256 of its weights.
    version : str
        Version of napari-sam2.
    settings : mapping of str to object
        Settings of the job; values of JSON.
    """

    command: str
    model: str
    model_hash: str
    version: str
    settings: Mapping[str, object]

    def differences(self, other: RunIdentity) -> list[Message]:
        """What differs from another run, with both values; the name of the model does not count, its weights do."""
        if self.command != other.command:  # whose settings have other names
            return [Message(f"command: {other.command} before, {self.command} now")]
        mine, theirs = dict(self._compared()), dict(other._compared())
        differing = [
            Message(
                Option(name, name, _in_shell(name)),
                f": {_shown(theirs.get(name))} before, {_shown(mine.get(name))} now",
            )
            for name in dict.fromkeys([*theirs, *mine])
            if mine.get(name) != theirs.get(name)
        ]
        if self.model_hash != other.model_hash:
            before, now = (f"{run.model} ({run.model_hash[:12]})" for run in (other, self))
            differing.insert(0, Message(f"model: {before} before, {now} now"))
        return differing

    def _compared(self) -> Iterator[tuple[str, object]]:
        yield "version", self.version
        yield from _flat("", json.loads(json.dumps(self.settings)))


class Journal:
    """The journal of an output folder, which no other process may write to while it is open. Use in ``with``.

    Parameters
    ----------
    folder : Path
        Output folder; exists.
    identity : RunIdentity
        Of this run.
    restart : bool, default False
        Forget what an earlier run has done.

    Attributes
    ----------
    written : set of str
        Names of all pieces that were done at some time, also before a restart, and of inputs that are no longer given.
    marker : Path
        An empty file beside the results whose name no other run has, as long as this is open: who sees it sees the
        folder.

    Raises
    ------
    OutputError
        If another process uses the folder, the journal belongs to a run with other settings, is damaged, or cannot be
        written.
    """

    def __init__(self, folder: Path, identity: RunIdentity, *, restart: bool = False) -> None:
        self.path = folder / JOURNAL_NAME
        self._file: TextIO | None = None
        self._records: dict[str, PieceRecord] = {}
        self.is_new = restart
        self.written: set[str] = set()
        self._lock = _acquired(folder)
        self.marker = folder / f".batch.{uuid.uuid4().hex}.run"
        try:
            self._mark(folder)
            self._open(identity, restart=restart)
        except BaseException:
            self.close()
            raise

    @property
    def records(self) -> Mapping[str, PieceRecord]:
        """The last record of each piece, by its name."""
        return self._records

    def is_done(self, name: str) -> bool:
        """Whether the last record of a piece says that it is done, with any version of its input."""
        record = self._records.get(name)
        return record is not None and record.state == DONE

    def add(self, *records: PieceRecord) -> None:
        """Write records to disk; raises OutputError, such as on a full disk, or if the file is gone from its place."""
        assert self._file is not None, "the journal is closed"
        self._check_place(self._file)
        try:
            self._file.write("".join(json.dumps(_as_line(record)) + "\n" for record in records))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.path, error, kept="Files that are already listed in it are kept.") from error
        for record in records:
            self._note(record)

    def _check_place(self, file: TextIO) -> None:
        """Raise OutputError if what is written would be lost, as the file or its folder was removed or renamed."""
        try:
            is_there = os.path.samestat(self.path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            is_there = False
        except OSError as error:
            raise write_error(self.path, error, kept="") from error
        if not is_there:
            raise OutputError(
                Message(
                    f"{self.path} was removed, renamed or replaced while the batch ran, which cannot go on without it; "
                    "put the folder back, or ",
                    AGAIN,
                )
            )

    def close(self) -> None:
        """Close the file and let other processes use the folder."""
        file, self._file = self._file, None
        try:
            with suppress(OSError):  # the next run removes it
                self.marker.unlink(missing_ok=True)
            if file is not None:
                with suppress(OSError):  # of a record that a full disk refused, which `add` has reported
                    file.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mark(self, folder: Path) -> None:
        """Make the file of this run, and remove those of runs that were killed."""
        try:
            for left in folder.glob(_MARKERS):
                left.unlink(missing_ok=True)
            self.marker.touch()
        except OSError as error:
            raise write_error(self.marker, error, kept="") from error

    def _open(self, identity: RunIdentity, *, restart: bool) -> None:
        try:
            if restart or not self.path.exists() or not self.path.stat().st_size:
                self._begin(identity)
            else:
                self._read(identity)
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        except OutputError:
            raise
        except OSError as error:
            raise write_error(self.path, error, kept="Files that are already listed in it are kept.") from error

    def _begin(self, identity: RunIdentity) -> None:
        self.is_new = True
        self.written = _finished(self.path)
        header = {"napari-sam2 batch": _FORMAT, **asdict(identity)}
        if self.written:
            header[_EARLIER] = sorted(self.written)
        write_whole(self.path, lambda part: part.write_text(json.dumps(header) + "\n", encoding="utf-8"))

    def _read(self, identity: RunIdentity) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # the line that was being written when the process or the machine stopped
            os.truncate(self.path, len(whole))
        lines = whole.decode("utf-8", "replace").splitlines()
        before = self._header(lines[0] if lines else "")
        self.written.update(_earlier(lines[0]))
        differing = identity.differences(before)
        if differing and not any(record is not None and record.state == DONE for record in map(_as_record, lines[1:])):
            self._begin(identity)  # nothing was done with the other settings
            return
        if differing:
            raise OutputError(
                Message(
                    f"{self.path.parent} holds results that were computed with other settings: ",
                    *_in_a_list(differing),
                    ". Give the same settings, choose another folder, or start over with ",
                    RESTART,
                )
            )
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():  # left by an editor
                continue
            record = _as_record(line)
            if record is None:
                raise OutputError(
                    Message(
                        f"line {number} of {self.path} is damaged; remove the line (its file is processed again), or "
                        "start over with ",
                        RESTART,
                    )
                )
            self._note(record)

    def _note(self, record: PieceRecord) -> None:
        self._records[record.name] = record
        if record.state == DONE:
            self.written.add(record.name)

    def _header(self, line: str) -> RunIdentity:
        found = _parsed(line)
        if found is None or found.get("napari-sam2 batch") != _FORMAT or not isinstance(found.get("settings"), dict):
            raise OutputError(
                Message(
                    f"{self.path} is not a journal that this version reads; choose another folder, or start over with ",
                    RESTART,
                )
            )
        command, model, model_hash, version = (
            str(found.get(name, "")) for name in ("command", "model", "model_hash", "version")
        )
        return RunIdentity(command, model, model_hash, version, cast("dict[str, object]", found["settings"]))


def without_results(sources: Sequence[Source], folder: Path) -> list[Source]:
    """The inputs that are not results of an earlier batch into the same folder, with a warning if there are such.

    A folder of results may lie in that of the images, where a pattern such as ``**/*.tif`` finds them.

    Parameters
    ----------
    sources : sequence of Source
        The inputs.
    folder : Path
        Of the results; absolute.

    Returns
    -------
    list of Source
        In the same order.

    Raises
    ------
    FrameError
        If all are results.
    """
    if not any(folder in source.path.parents for source in sources):
        return list(sources)
    results = {folder / name for name in (*_finished(folder / JOURNAL_NAME), JOURNAL_NAME, REPORT_NAME)}
    found = [source for source in sources if source.path in results or folder / PROMPT_MASKS in source.path.parents]
    if not found:
        return list(sources)
    if len(found) == len(sources):
        raise FrameError(
            f"the inputs are results of an earlier batch in {folder}, such as {found[0].path}; give images, or choose "
            "another output folder"
        )
    warn_caller(
        f"{len(found)} of the inputs are results of an earlier batch in {folder} and are left out, such as "
        f"{found[0].path.name}"
    )
    left_out = {source.path for source in found}
    return [source for source in sources if source.path not in left_out]


def _finished(journal: Path) -> set[str]:
    """Names of the pieces that a journal says were done at some time; what cannot be read is left to `Journal`."""
    try:
        lines = journal.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    records = (_as_record(line) for line in lines[1:])
    done = {record.name for record in records if record is not None and record.state == DONE}
    return done.union(_earlier(lines[0])) if lines else done


def _earlier(header: str) -> Iterator[str]:
    """Names of results, in the first line of a journal, that runs before a restart have written."""
    names = (_parsed(header) or {}).get(_EARLIER)
    yield from (name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


@contextmanager
def reserved_folder(folder: Path) -> Iterator[None]:
    """Within it, no batch writes to the folder, which exists; raises OutputError if one does."""
    lock = _acquired(folder)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path) -> BaseFileLock:
    lock = FileLock(folder / _LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"another batch is writing to {folder}; wait until it has ended, or choose another folder"
        ) from None
    except OSError as error:
        raise write_error(folder, error, kept="") from error
    return lock


def _as_line(record: PieceRecord) -> dict[str, object]:
    line: dict[str, object] = {"piece": record.name, "state": record.state, "input": record.fingerprint}
    if record.outcome is not None:
        line |= asdict(record.outcome)
    if record.state == FAILED:
        line |= {"kind": record.kind, "reason": record.reason}
    return line


def _as_record(line: str) -> PieceRecord | None:
    """None if the line is no record."""
    found = _parsed(line)
    if found is None:
        return None
    name, state, fingerprint = (found.get(key) for key in ("piece", "state", "input"))
    if not isinstance(name, str) or not isinstance(fingerprint, str) or state not in (DONE, FAILED):
        return None
    if state == FAILED:
        return PieceRecord(name, FAILED, fingerprint, None, str(found.get("reason", "")), str(found.get("kind", "")))
    counts = [found.get(key) for key in ("objects", "frames", "seconds")]
    if not all(isinstance(count, int | float) for count in counts):
        return None
    objects, frames, seconds = cast("list[float]", counts)
    stored = found.get("warnings")
    warned = tuple(map(str, stored)) if isinstance(stored, list) else ()
    outcome = Outcome(int(objects), int(frames), float(seconds), str(found.get("worker", "")), warned)
    return PieceRecord(name, DONE, fingerprint, outcome)


def _parsed(line: str) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _in_a_list(messages: Sequence[Message]) -> Iterator[str | Option]:
    for number, message in enumerate(messages):
        if number:
            yield "; "
        yield message


def _in_shell(name: str) -> str:
    """What the shell calls a setting; those that it cannot set have the same name."""
    group, _, last = name.rpartition(".")
    if group in _SHELL_GROUPS:
        return shell_option(last)
    for setting, option in _SHELL_SETTINGS.items():
        if name == setting or name.startswith(f"{setting}."):
            return option or shell_option(setting.rpartition(".")[2])
    return name


def _flat(prefix: str, settings: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + name, value


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)
