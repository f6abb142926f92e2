"""Labels inside the OME-Zarr image they belong to: version, levels, chunks, transformations, and what is kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr
from ngff_tools import make_image
from zarr.storage import LocalStore

from napari_sam2._errors import OutputError
from napari_sam2.frames import open_frames
from napari_sam2.labels.colours import object_colour
from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.reading import read_labels


def make_labels(shape: tuple[int, ...] = (4, 32, 40)) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    labels[..., 4:20, 6:24] = 3
    labels[..., 22:30, 4:38] = 70_000
    return labels


def write(path: Path, labels: np.ndarray, **options) -> None:
    with LabelWriter(path, labels.shape, **options) as writer:
        for frame, plane in enumerate(labels.reshape(-1, *labels.shape[-2:])):
            writer.write(frame, plane)


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_labels_take_version_levels_chunks_and_transformations_of_the_image(tmp_path, version):
    image, labels = make_image(tmp_path / "a.ome.zarr", version), make_labels()
    write(image / "labels" / "cells", labels)
    group = zarr.open_group(image / "labels" / "cells", mode="r")
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)
    attributes = group.attrs.asdict()
    ome = attributes if version == "0.4" else attributes["ome"]
    multiscale = ome["multiscales"][0]
    assert (multiscale if version == "0.4" else ome)["version"] == version
    axes = multiscale["coordinateSystems"][0]["axes"] if version == "0.6" else multiscale["axes"]
    assert [axis["name"] for axis in axes] == ["z", "y", "x"]
    assert axes[1]["unit"] == "micrometer"
    assert np.array_equal(group["0"][:], labels)
    assert np.array_equal(group["1"][:], labels[:, 1::2, 1::2])
    assert group["0"].chunks == (1, 16, 20)
    steps = multiscale["datasets"][1]["coordinateTransformations"]
    if version == "0.6":
        assert steps[0]["input"] == {"path": "1"}
        steps = steps[0]["transformations"]
    assert steps[0] == {"type": "scale", "scale": [2.0, 1.0, 1.0]}
    assert steps[1] == {"type": "translation", "translation": [10.0, 70.0, 0.0]}
    label = ome["image-label"]
    assert label["source"] == {"image": "../../"}
    assert label["colors"] == [{"label-value": i, "rgba": [*object_colour(i), 255]} for i in (3, 70_000)]
    listed = zarr.open_group(image / "labels", mode="r").attrs.asdict()
    assert (listed if version == "0.4" else listed["ome"])["labels"] == ["cells"]
    assert np.array_equal(read_labels(image / "labels" / "cells"), labels)
    assert np.array_equal(read_labels(image), labels)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_chunks_of_several_planes_are_written_once(tmp_path, version, monkeypatch):
    image, labels = make_image(tmp_path / "a.ome.zarr", version, depth=3), make_labels()
    labels[2:] = 0
    written = []
    original = LocalStore.set

    async def spy(self, key, value, *args):
        written.append(key)
        await original(self, key, value, *args)

    monkeypatch.setattr(LocalStore, "set", spy)
    write(image / "labels" / "cells", labels)
    group = zarr.open_group(image / "labels" / "cells", mode="r")
    assert group["0"].chunks == (3, 16, 20)
    chunks = [key for key in written if re.fullmatch(r"([^.].*/)?0/(c/)?\d+/\d+/\d+", key)]
    assert len(chunks) == len(set(chunks)) == 4, "all four of the first planes, none of the last, which are empty"
    assert np.array_equal(group["0"][:], labels)
    assert np.array_equal(group["1"][:], labels[:, 1::2, 1::2])
    assert sorted(path.name for path in (image / "labels" / "cells").iterdir() if path.is_dir()) == ["0", "1"]
    assert sorted(group.array_keys()) == ["0", "1"]


def test_other_labels_and_the_image_stay(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.5")
    before = zarr.open_group(image, mode="r")["0"][:]
    write(image / "labels" / "cells", make_labels())
    write(image / "labels" / "nuclei", make_labels() * 2)
    with pytest.raises(OutputError, match="already exists"):
        LabelWriter(image / "labels" / "cells", (4, 32, 40))
    write(image / "labels" / "cells", make_labels() * 3, overwrite=True)
    assert zarr.open_group(image / "labels", mode="r").attrs["ome"]["labels"] == ["cells", "nuclei"]
    assert read_labels(image / "labels" / "cells").max() == 210_000
    assert read_labels(image / "labels" / "nuclei").max() == 140_000
    assert np.array_equal(zarr.open_group(image, mode="r")["0"][:], before)
    assert sorted(p.name for p in (image / "labels").iterdir()) == ["cells", "nuclei", "zarr.json"]


@pytest.mark.parametrize("level", [0, 1])
def test_labels_of_any_level_fill_all_levels(tmp_path, level):
    image = make_image(tmp_path / "a.zarr", "0.5")
    frames = open_frames(image, level=level, channels=0)
    assert frames.translation == {"Z": 10.0, "Y": 70.0}
    labels = make_labels(frames.shape)
    with LabelWriter.for_frames(image / "labels" / "cells", frames) as writer:
        for frame, plane in enumerate(labels):
            writer.write(frame, plane)
    group = zarr.open_group(image / "labels" / "cells", mode="r")
    full = labels if level == 0 else labels.repeat(2, 1).repeat(2, 2)
    assert np.array_equal(group["0"][:], full)
    assert np.array_equal(group["1"][:], full[:, 1::2, 1::2])


def test_all_time_points_are_written_where_their_number_is_given(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.4", "tczyx", (3, 2, 4, 32, 40))
    frames = open_frames(image, frame_axis="Z", fixed={"T": 0}, channels=0)
    labels = make_labels((12, 32, 40))
    with LabelWriter.for_frames(image / "labels" / "cells", frames, num_times=3) as writer:
        for number, plane in enumerate(labels):
            writer.write(number, plane)
    found = zarr.open_group(image / "labels" / "cells", mode="r")["0"][:]
    assert np.array_equal(found, labels.reshape(3, 4, 32, 40))


def test_one_time_point_goes_where_it_belongs(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.4", "tczyx", (3, 2, 4, 32, 40))
    frames = open_frames(image, frame_axis="Z", fixed={"T": 2}, channels=0)
    labels = make_labels(frames.shape)
    with LabelWriter.for_frames(image / "labels" / "cells", frames) as writer:
        for frame, plane in enumerate(labels):
            writer.write(frame, plane)
    found = zarr.open_group(image / "labels" / "cells", mode="r")["0"][:]
    assert found.shape == (3, 4, 32, 40)
    assert np.array_equal(found[2], labels)
    assert not found[:2].any()
    with LabelWriter.for_frames(image / "labels" / "one", frames, frame=3) as writer:
        writer.write(0, labels[0])
    found = zarr.open_group(image / "labels" / "one", mode="r")["0"][:]
    assert np.array_equal(found[2, 3], labels[0])
    assert np.count_nonzero(found.any((2, 3))) == 1


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_consolidated_metadata_knows_the_labels(tmp_path, version):
    image = make_image(tmp_path / "a.zarr", version)
    zarr.consolidate_metadata(image)
    write(image / "labels" / "cells", make_labels())
    group = zarr.open_consolidated(image)
    assert np.array_equal(group["labels/cells/0"][:], make_labels())


def test_an_error_leaves_the_image_as_it_was(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.5")
    before = sorted(image.rglob("*"))

    def fail() -> None:
        with LabelWriter(image / "labels" / "cells", (4, 32, 40)) as writer:
            writer.write(0, make_labels()[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(image.rglob("*")) == before


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((4, 32, 41), "ZYX", r"whose levels have \(4, 32, 40\), \(4, 16, 20\)"),
        ((4, 32, 40), "TYX", "which has the axes CZYX"),
        ((32, 40), "YX", "4 planes along Z, and the labels have no position there"),
    ],
)
def test_labels_that_do_not_fit_the_image_are_refused(tmp_path, shape, axes, message):
    image = make_image(tmp_path / "a.zarr", "0.5")
    with pytest.raises(OutputError, match=message):
        LabelWriter(image / "labels" / "cells", shape, axes=axes)
    assert not (image / "labels").exists()


def test_unknown_versions_are_refused(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.5")
    group = zarr.open_group(image, mode="a")
    group.attrs["ome"] = {**group.attrs["ome"], "version": "0.9"}
    with pytest.raises(OutputError, match=r"version 0\.9 on zarr 3"):
        LabelWriter(image / "labels" / "cells", (4, 32, 40))


@pytest.mark.parametrize("names", [("time", "row", "col"), ("frame", "height", "width")], ids=str)
def test_axes_that_are_named_in_words_are_those_of_the_labels(tmp_path, names):
    image = make_image(tmp_path / "a.zarr", "0.4", "zyx", (4, 32, 40))
    group = zarr.open_group(image)
    multiscales = group.attrs["multiscales"]
    multiscales[0]["axes"] = [{"name": name} for name in names]
    group.attrs["multiscales"] = multiscales
    frames = open_frames(image)
    with LabelWriter.for_frames(image / "labels" / "cells", frames) as writer:
        for t, plane in enumerate(make_labels()):
            writer.write(t, plane)
    assert frames.axes == "TYX"
    assert np.array_equal(read_labels(image / "labels" / "cells"), make_labels())


@pytest.mark.parametrize("name", [".zattrs", ".hidden", "__store", "zarr.json"])
def test_names_that_zarr_keeps_for_itself_are_refused(tmp_path, name):
    image = make_image(tmp_path / "a.zarr", "0.4", "zyx", (4, 32, 40))
    with pytest.raises(OutputError, match="reserved by zarr; choose another"):
        write(image / "labels" / name, make_labels(), axes="ZYX")
    assert not (image / "labels").exists()
