"""The table of a batch."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_sam2.batch.pieces import DONE, FAILED, Outcome, Piece, PieceRecord, Source
from napari_sam2.batch.report import BatchReport, write_report


def test_names_of_any_bytes_are_text_that_spreadsheets_show(tmp_path: Path):
    names = ("=1+1.tif", "bad\udcff.tif", 'a,"b"\n.tif')
    pieces = tuple(Piece(name, Source(tmp_path / name), tmp_path / "out" / name) for name in names)
    records = (
        PieceRecord(names[0], DONE, outcome=Outcome(1, 2, 0.5, warnings=("@cmd",))),
        PieceRecord(names[1], FAILED, reason="-bad\udcff.tif"),
        PieceRecord(names[2], FAILED, reason="odd"),
    )
    write_report(tmp_path / "report.csv", BatchReport(pieces, records, 0, 1.0, others=("@a.tif",)))
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["result"] for row in rows] == ["'=1+1.tif", "bad\\udcff.tif", names[2], "'@a.tif"]
    assert rows[0]["warnings"] == "'@cmd"
    assert rows[1]["file"] == f"{tmp_path}/bad\\udcff.tif".replace("/", str(Path("/")))
    assert rows[1]["reason"] == "'-bad\\udcff.tif"
