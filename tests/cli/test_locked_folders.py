"""Outputs in folders that take no files are refused before any work; what fails at the end takes no labels with it."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import OutputError, Session
from napari_sam2._files import write_error
from napari_sam2.cli import _objects


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stack, labels = make_disks()
    save_stack(tmp_path / "stack.ome.tif", stack)
    save_stack(tmp_path / "movie.ome.tif", stack, "TYX")
    save_stack(tmp_path / "labels.ome.tif", labels)
    save_stack(tmp_path / "over_time.ome.tif", labels, "TYX")
    save_stack(tmp_path / "volumes.ome.tif", np.stack([stack] * 2), "TZYX")
    (tmp_path / "locked").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def locked(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without the permission to write, which root would have."""
    folder, touch = place / "locked", Path.touch

    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        if path.absolute().parent == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        touch(path, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", refuse)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        "measure stack.ome.tif labels.ome.tif -o locked/a.csv",
        "evaluate labels.ome.tif labels.ome.tif -o locked/a.csv",
        "link over_time.ome.tif -o a.tif --tracks locked/a.xml",
        "link over_time.ome.tif -o a.tif --tracks locked/ctc",
        "segment stack.ome.tif --frame 0 --point 20,20 -o a.tif --preview locked/a.png --model none.pt",
        "segment stack.ome.tif --frame 0 --point 20,20 -o locked/a.tif --model none.pt",
        "generate stack.ome.tif --frame 0 -o a.tif --csv locked/a.csv --model none.pt",
        "generate stack.ome.tif --frame 0 -o a.tif --candidates locked/a.npz --model none.pt",
        "auto stack.ome.tif -o a.tif --csv locked/a.csv --model none.pt",
        "track stack.ome.tif --point 0,20,20 -o a.tif --scores locked/a.csv --model none.pt",
        "track volumes.ome.tif --through-time --point 0,0,20,20 -o a.tif --session locked/a.sam2 --model none.pt",
        "propagate stack.ome.tif --labels labels.ome.tif --frame 0 -o a.tif --csv locked/a.csv --model none.pt",
    ],
)
def test_an_output_in_a_locked_folder_is_refused_before_any_work(
    locked: Path, capsys: pytest.CaptureFixture[str], arguments: str
):
    assert run(*arguments.split()) == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: locked/")
    assert line.endswith("cannot be written (Permission denied); change its permissions, or write elsewhere.")
    assert not (locked.parent / "a.tif").exists()


def test_labels_are_kept_if_the_table_of_objects_cannot_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_args: object) -> None:
        raise OutputError("no table")

    monkeypatch.setattr(_objects, "save_table", fail)
    model = save_random_model(place / "random.safetensors")
    thresholds = ["--iou", "0", "--stability", "0"]
    assert run("auto", "stack.ome.tif", "-o", "a.tif", "--csv", "a.csv", "--model", model, *thresholds) == 6
    assert "no table" in capsys.readouterr().err
    assert (place / "a.tif").exists()


def test_labels_are_kept_if_the_session_cannot_be_saved(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_args: object) -> None:
        raise OutputError("no session")

    monkeypatch.setattr(Session, "save", fail)
    model = save_random_model(place / "random.safetensors")
    options = ["--through-time", "--point", "0,0,20,20", "--session", "a.sam2", "--model", model]
    assert run("track", "volumes.ome.tif", *options, "-o", "a.tif") == 6
    assert "no session; the finished frames are in" in capsys.readouterr().err
    assert (place / "a.tif").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(OSError(errno.ENOSPC, "full"), "(full); free space, or write elsewhere", id="full"),
        pytest.param(OSError(errno.EROFS, "locked"), "(locked); write elsewhere", id="read-only-disk"),
        pytest.param(OSError(errno.ENAMETOOLONG, "long"), "(long); give a shorter name", id="long"),
        pytest.param(
            sqlite3.OperationalError("unable to open"), "(Permission denied); change its permissions", id="database"
        ),
    ],
)
def test_the_advice_fits_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str):
    monkeypatch.setattr(os, "access", lambda *_args: False)
    assert words in str(write_error(tmp_path / "a.sam2", error))
