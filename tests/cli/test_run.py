"""``napari-sam2 run``: a saved session, replayed in the shell."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import run, save_random_model
from factories import make_movie
from napari_sam2 import FrameError
from napari_sam2.labels.reading import read_labels
from napari_sam2.session.session import Session


@pytest.fixture
def saved(tmp_path):
    tifffile.imwrite(tmp_path / "movie.tif", make_movie(4), photometric="minisblack")
    weights = save_random_model(tmp_path / "weights.safetensors")
    with Session(tmp_path / "movie.tif", model=str(weights)) as session:
        session.add_points([[0, 20, 15]])
        session.propagate()
        session.add_mask(np.pad(np.ones((6, 6), bool), ((30, 12), (40, 18))), frame=2)
        session.save(tmp_path / "a.sam2")
        return tmp_path, np.array(session.labels), session.to_command_line(tmp_path / "a.sam2")


def test_run_gives_the_labels_of_the_session(saved, capsys):
    folder, labels, command = saved
    assert command == f"napari-sam2 run {folder / 'a.sam2'} -o labels.tif"
    code = run("run", folder / "a.sam2", "-o", folder / "labels.tif", "--scores", folder / "s.csv", "--device", "cpu")
    assert code == 0
    assert labels.any()
    assert np.array_equal(read_labels(folder / "labels.tif"), labels)
    assert (folder / "s.csv").read_text().startswith("object,name,frame,iou")
    out = capsys.readouterr().out
    assert "3 of 3 calls replayed" in out
    assert "object 2" in out


def test_errors_are_one_line(saved, capsys):
    folder, _, _ = saved
    (folder / "movie.tif").unlink()
    assert run("run", folder / "a.sam2", "-o", folder / "labels.tif") == 3
    error = capsys.readouterr().err
    assert error.startswith("error: the image")
    assert error.count("\n") == 1
    assert run("run", folder / "weights.safetensors", "-o", folder / "labels.tif") == 3
    assert not (folder / "labels.tif").exists()


def test_the_image_that_the_session_names_is_not_written_over(saved, capsys):
    folder, _, _ = saved
    before = (folder / "movie.tif").read_bytes()
    assert run("run", folder / "a.sam2", "-o", folder / "movie.tif", "--overwrite", "--device", "cpu") == 6
    said = capsys.readouterr()
    assert "movie.tif is the input" in said.err
    assert "replayed" not in said.out
    assert (folder / "movie.tif").read_bytes() == before


def test_an_interrupted_run_counts_only_complete_calls(saved, capsys, monkeypatch):
    folder, _, _ = saved
    propagate = Session.propagate

    def interrupted(session, *arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return propagate(session, *arguments, **options)

    monkeypatch.setattr(Session, "propagate", interrupted)
    assert run("run", folder / "a.sam2", "-o", folder / "labels.tif", "--device", "cpu", "-q") == 130
    printed = capsys.readouterr()
    assert printed.err.endswith("interrupted: 1 of 3 calls were replayed completely\n")
    assert "1 of 3 calls replayed" in printed.out
    assert (folder / "labels.tif").exists()


def test_a_run_whose_image_cannot_be_read_keeps_what_was_made(saved, capsys, monkeypatch):
    folder, _, _ = saved

    def unreadable(session, *arguments, **options):
        raise FrameError("frame 2 cannot be read")

    monkeypatch.setattr(Session, "propagate", unreadable)
    assert run("run", folder / "a.sam2", "-o", folder / "labels.tif", "--device", "cpu", "-q") == 3
    error = capsys.readouterr().err
    assert error == f"error: frame 2 cannot be read; the labels made so far are in {folder / 'labels.tif'}\n"
    assert read_labels(folder / "labels.tif").any()


def test_a_second_run_to_the_same_output_is_refused_at_the_start(saved, capsys, monkeypatch):
    folder, _, _ = saved
    output = folder / "labels.tif"
    code = f"import sys\nfrom napari_sam2._files import reserved\nwith reserved({str(output)!r}):\n"
    code += "    print('reserved', flush=True)\n    sys.stdin.read()\n"
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()
    monkeypatch.setattr(Session, "propagate", lambda *_, **__: pytest.fail("began to work"))
    try:
        assert run("run", folder / "a.sam2", "-o", output, "--device", "cpu") == 6
    finally:
        first.communicate(timeout=60)
    assert f"being written by another process ({first.pid})" in capsys.readouterr().err


def test_paths_that_begin_with_a_dash_are_not_taken_for_options(saved, monkeypatch):
    folder, labels, _ = saved
    monkeypatch.chdir(folder)
    Path("a.sam2").rename("-o.sam2")
    with Session("movie.tif", model=str(folder / "weights.safetensors")) as session:
        command = session.to_command_line("-o.sam2", "--labels.tif")
    assert command == "napari-sam2 run ./-o.sam2 -o ./--labels.tif"
    assert run(*shlex.split(command)[1:], "--device", "cpu") == 0
    assert np.array_equal(read_labels("--labels.tif"), labels)
