"""How far a batch is, what became of its pieces, and the table of it."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from napari_sam2._files import spreadsheet_text, write_whole
from napari_sam2.batch.pieces import DONE, FAILED, NOT_RUN, OTHER, Piece, PieceRecord

__all__ = ["BatchProgress", "BatchReport", "write_report"]

_COLUMNS = ("file", "result", "state", "objects", "frames", "seconds", "reason", "warnings")


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes
    ----------
    done, failed, total : int
        Pieces; those that an earlier run has done count as done.
    before : int
        Pieces that an earlier run has done.
    workers : int
        Worker processes that are connected; 0 while they start or a cluster has none.
    dashboard : str
        Address of Dask's dashboard; empty before the connection, or if the scheduler has none.
    notice : str
        A sentence for the user, such as while the scheduler cannot be reached; else empty.
    """

    done: int
    failed: int
    total: int
    before: int
    workers: int = 0
    dashboard: str = ""
    notice: str = ""


@dataclass(frozen=True)
class BatchReport:
    """What became of the pieces of a batch.

    Attributes
    ----------
    pieces : tuple of Piece
        All inputs with their results, in the order in which they were given.
    records : tuple of PieceRecord
        State of each, in the same order.
    num_before : int
        How many were done in an earlier run and not done again.
    seconds : float
        Time of this run.
    others : tuple of str
        Names of results of earlier runs that are in the folder, and belong to none of these inputs: those were removed,
        renamed, or not given this time.
    """

    pieces: tuple[Piece, ...]
    records: tuple[PieceRecord, ...]
    num_before: int
    seconds: float
    others: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all pieces are done."""
        return self.num_done == len(self.pieces)

    @property
    def num_done(self) -> int:
        """How many pieces are done, in this run or before."""
        return self._count(DONE)

    @property
    def num_failed(self) -> int:
        """How many pieces failed."""
        return self._count(FAILED)

    @property
    def num_not_run(self) -> int:
        """How many pieces were not begun or not finished, as the run was stopped."""
        return self._count(NOT_RUN)

    @property
    def failed(self) -> dict[Path, str]:
        """The inputs that failed, each with the reason; of a file with several positions those of all, each once."""
        found: dict[Path, list[str]] = {}
        for piece, record in zip(self.pieces, self.records, strict=True):
            if record.state == FAILED:
                found.setdefault(piece.source.path, []).append(record.reason)
        return {path: "; ".join(dict.fromkeys(reasons)) for path, reasons in found.items()}

    @property
    def warnings(self) -> dict[str, list[Path]]:
        """The warnings of pieces that are done, each with the inputs that gave it."""
        found: dict[str, list[Path]] = {}
        for piece, record in zip(self.pieces, self.records, strict=True):
            for text in () if record.outcome is None else record.outcome.warnings:
                found.setdefault(text, []).append(piece.source.path)
        return {text: list(dict.fromkeys(paths)) for text, paths in found.items()}

    def _count(self, state: str) -> int:
        return Counter(record.state for record in self.records)[state]


def write_report(path: Path, report: BatchReport) -> None:
    """Write a CSV table with one line per piece, whole or not at all; raises OutputError.

    Results of other inputs have lines without a file at the end. Bytes of file names that are no text are written as
    escape sequences.
    """

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = csv.writer(file)
            rows.writerow(_COLUMNS)
            for piece, record in zip(report.pieces, report.records, strict=True):
                found = record.outcome
                counts = ("", "", "") if found is None else (found.objects, found.frames, f"{found.seconds:.2f}")
                warned = "" if found is None else " | ".join(found.warnings)
                names = spreadsheet_text(str(piece.source.path)), spreadsheet_text(piece.name)
                rows.writerow(
                    (*names, record.state, *counts, spreadsheet_text(record.reason), spreadsheet_text(warned))
                )
            for name in report.others:
                rows.writerow(("", spreadsheet_text(name), OTHER, *[""] * (len(_COLUMNS) - 3)))

    write_whole(path, write)
