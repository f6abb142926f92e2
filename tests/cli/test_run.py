"""``napari-sam2 run``: a saved session, replayed in the shell."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cli_tools import run, save_random_model
from factories import make_movie
from napari_sam2.labels.files import read_labels
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
    assert run("run", folder / "weights.safetensors", "-o", folder / "labels.tif") == 6
    assert not (folder / "labels.tif").exists()


def test_the_image_that_the_session_names_is_not_written_over(saved, capsys):
    folder, _, _ = saved
    before = (folder / "movie.tif").read_bytes()
    assert run("run", folder / "a.sam2", "-o", folder / "movie.tif", "--overwrite", "--device", "cpu") == 6
    said = capsys.readouterr()
    assert "movie.tif is the input" in said.err
    assert "replayed" not in said.out
    assert (folder / "movie.tif").read_bytes() == before
