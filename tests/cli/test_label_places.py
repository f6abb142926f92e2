"""Labels may go into the image that they belong to, and nowhere else inside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zarr
from ngff_tools import make_image

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import open_frames
from napari_sam2._errors import OutputError
from napari_sam2.cli._outputs import check_outputs
from napari_sam2.labels.reading import read_labels
from napari_sam2.session.session import Session


def test_labels_may_go_into_their_image_before_its_labels_folder_exists(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.5")
    check_outputs([image], image / "labels" / "cells", [], overwrite=False)
    (image / "labels" / "cells").mkdir(parents=True)
    with pytest.raises(OutputError, match="already exists"):
        check_outputs([image], image / "labels" / "cells", [], overwrite=False)
    for other in (image / "cells.zarr", image / "labels" / "deep" / "cells.zarr", image / "0" / "cells.tif"):
        with pytest.raises(OutputError, match="is inside the input"):
            check_outputs([image], other, [], overwrite=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


def test_labels_of_ome_zarr_go_back_into_the_image_by_default(tmp_path, weights, capsys):
    image = make_image(tmp_path / "a.ome.zarr", "0.5", "zyx", (3, 32, 40))
    arguments = ("track", image, "--point", "1,14,14", "--model", weights, "--device", "cpu", "-q")
    assert run(*arguments) == 0
    place = image / "labels" / "napari_sam2"
    assert str(place) in capsys.readouterr().out
    assert zarr.open_group(image / "labels", mode="r").attrs["ome"]["labels"] == ["napari_sam2"]
    assert read_labels(place).shape == (3, 32, 40)
    before = (place / "zarr.json").read_bytes()
    assert run(*arguments) == 6
    assert "--overwrite" in capsys.readouterr().err
    assert (place / "zarr.json").read_bytes() == before
    assert run(*arguments, "--overwrite") == 0


@pytest.mark.parametrize("command", ["track", "segment"])
def test_labels_of_a_coarser_level_are_written_at_full_resolution_in_the_image(tmp_path, weights, capsys, command):
    image = make_image(tmp_path / "a.ome.zarr", "0.5", "zyx", (3, 32, 40))
    place = ("--point", "1,7,7") if command == "track" else ("--frame", "1", "--point", "7,7")
    arguments = (command, image, "--level", "1", *place, "--model", weights, "--device", "cpu")
    assert run(*arguments) == 0
    assert "at full resolution: " in capsys.readouterr().out
    found = zarr.open_group(image / "labels" / "napari_sam2", mode="r")
    assert found["0"].shape == (3, 32, 40)
    assert run(*arguments, "-o", tmp_path / "same.tif") == 0
    assert "at full resolution" not in capsys.readouterr().out
    assert read_labels(tmp_path / "same.tif").shape[-2:] == (16, 20)
    assert run(*arguments, "-o", tmp_path / "full.tif", "--full-resolution") == 0
    assert read_labels(tmp_path / "full.tif").shape[-2:] == (32, 40)
    assert run(*arguments[:2], *arguments[4:], "-o", tmp_path / "no.tif", "--full-resolution") == 2


def test_labels_of_a_plate_go_into_the_field_that_was_read(tmp_path, weights, capsys):
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "B/2", "rowIndex": 1, "columnIndex": 1}]}}
    plate.create_group("B/2").attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}]}}
    make_image(tmp_path / "plate.zarr" / "B" / "2" / "0", "0.5", "yx", (32, 40))
    assert run("segment", tmp_path / "plate.zarr", "--point", "14,14", "--model", weights, "--device", "cpu") == 0
    assert read_labels(tmp_path / "plate.zarr" / "B" / "2" / "0" / "labels" / "napari_sam2").shape == (32, 40)


@pytest.mark.parametrize("kind", ["tiff", "read_only"])
def test_without_a_default_place_an_output_is_required(kind, tmp_path, monkeypatch, capsys):
    if kind == "tiff":
        image = save_stack(tmp_path / "a.ome.tif", make_disks()[0])
    else:
        image = make_image(tmp_path / "a.zarr", "0.4", "zyx", (3, 32, 40))
        monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    assert run("track", image, "--point", "1,14,14") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "give a file, such as -o labels.ome.tif" in message
    assert ("labels cannot be written into" in message) == (kind == "read_only")


def test_a_replayed_session_writes_into_its_image_with_the_size_of_its_pixels(tmp_path, weights):
    image = make_image(tmp_path / "a.ome.zarr", "0.4", "zyx", (3, 32, 40))
    with Session(image, model=str(weights)) as session:
        session.add_points([[0, 20, 15]])
        session.save(tmp_path / "a.sam2")
    assert run("run", tmp_path / "a.sam2", "--device", "cpu") == 0
    assert read_labels(image / "labels" / "napari_sam2").shape == (3, 32, 40)
    assert run("run", tmp_path / "a.sam2", "--device", "cpu", "-o", tmp_path / "o.ome.zarr") == 0
    frames = open_frames(tmp_path / "o.ome.zarr")
    assert frames.voxel_size["Y"] == (0.5, "micrometer")
    assert frames.translation == {"Z": 10.0, "Y": 70.0}
