"""Label images corrected where they are: only what changed is written, at every level."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import zarr
from ngff_tools import make_image

from napari_sam2._errors import DiskFullError, FrameError, OutputError
from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.in_place import LabelEditor
from napari_sam2.labels.reading import read_labels


def make_labels() -> np.ndarray:
    labels = np.zeros((4, 32, 40), np.int32)
    labels[:, 4:20, 6:24] = 3
    return labels


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Time of change and size of every chunk."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json" and p.name[0] != ".")
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in files}


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_only_chunks_that_changed_are_written(tmp_path, version):
    place = make_image(tmp_path / "a.zarr", version) / "labels" / "cells"
    labels = make_labels()
    with LabelWriter(place, labels.shape) as writer:
        for frame, plane in enumerate(labels):
            writer.write(frame, plane)
    before = stamps(place)
    labels[2, 2:5, 3:8] = 9
    with LabelEditor(place) as editor:
        assert np.array_equal(editor[2], make_labels()[2])
        for frame, plane in enumerate(labels):
            editor[frame] = plane
        assert editor.num_written == 1
    after = stamps(place)
    changed = sorted(name for name in after if after[name] != before.get(name))
    assert [name.replace("c/", "") for name in changed] == ["0/2/0/0", "1/2/0/0"]
    assert np.array_equal(read_labels(place), labels)
    group = zarr.open_group(place, mode="r")
    assert np.array_equal(group["1"][:], labels[:, 1::2, 1::2])
    attributes = group.attrs.asdict()
    label = attributes.get("ome", attributes)["image-label"]
    assert [entry["label-value"] for entry in label["properties"]] == [3, 9]
    assert [entry["label-value"] for entry in label["colors"]] == [3, 9]
    assert label["source"] == {"image": "../../"}


@pytest.mark.parametrize(("dtype", "largest"), [("uint64", 2**33 + 5), ("uint32", 2**31 + 9), ("int64", -(2**40))])
def test_ids_that_are_no_int32_are_refused_and_stay(tmp_path, dtype, largest):
    place = make_image(tmp_path / "a.zarr", "0.5") / "labels" / "cells"
    with LabelWriter(place, (4, 32, 40)) as writer:
        writer.write(0, make_labels()[0])
    array = zarr.open_group(place, mode="r+").create_array("0", shape=(4, 32, 40), dtype=dtype, overwrite=True)
    array[1, 3:6, 3:6] = largest
    with LabelEditor(place) as editor, pytest.raises(FrameError, match=rf"{largest}.* renumbers them"):
        editor[1]
    assert set(np.unique(zarr.open_group(place, mode="r")["0"][:])) == {0, largest}


def test_levels_agree_after_many_corrections(tmp_path):
    place = tmp_path / "a.zarr"
    labels = np.zeros((1, 2300, 2500), np.int32)
    with LabelWriter(place, labels.shape, axes="YX") as writer:
        writer.write(0, labels[0])
    rng = np.random.default_rng(0)
    with LabelEditor(place) as editor:
        for i in range(1, 6):
            y, x = rng.integers(0, 2200, 2)
            labels[0, y : y + 151, x : x + 77] = i
            editor[0] = labels[0]
    group = zarr.open_group(place, mode="r")
    assert np.array_equal(group["0"][:], labels[0])
    assert np.array_equal(group["1"][:], labels[0, 1::2, 1::2])


def test_what_does_not_fit_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(4, 5), dtype="uint8")
    with pytest.raises(OutputError, match="cannot be opened as an OME-Zarr label image"):
        LabelEditor(tmp_path / "a.zarr")
    group.attrs["multiscales"] = [{"version": "0.4", "datasets": [{"path": "0"}]}]
    with pytest.raises(OutputError, match="is not a label image"):
        LabelEditor(tmp_path / "a.zarr")
    group.attrs["image-label"] = {}
    editor = LabelEditor(tmp_path / "a.zarr")
    for frame, labels, message in (
        (0, np.full((4, 5), 256), "holds 0 to 255"),
        (0, np.full((4, 5), -1), "from -1"),
        (0, np.zeros((5, 4), int), "expected integers"),
        (1, np.zeros((4, 5), int), "of 1 frames"),
    ):
        with pytest.raises(OutputError, match=message):
            editor[frame] = labels
    with pytest.raises(OutputError, match="cannot be opened"):
        LabelEditor(tmp_path / "b.zarr")


def test_a_full_disk_does_not_say_that_nothing_was_changed(tmp_path, monkeypatch):
    place = make_image(tmp_path / "a.zarr", "0.5") / "labels" / "cells"
    with LabelWriter(place, make_labels().shape) as writer:
        writer.write(0, make_labels()[0])
    editor = LabelEditor(place)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(editor, "_write", fail)
    with pytest.raises(DiskFullError, match=r"Chunks that were written before are kept\.$"):
        editor[1] = make_labels()[1]


def test_a_correction_that_was_cut_off_is_completed_at_all_levels_when_it_is_made_again(tmp_path, monkeypatch):
    place = make_image(tmp_path / "a.zarr", "0.5") / "labels" / "cells"
    with LabelWriter(place, make_labels().shape) as writer:
        for frame, plane in enumerate(make_labels()):
            writer.write(frame, plane)
    corrected = make_labels()
    corrected[1, 2:20, 3:30] = 9

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("napari_sam2.labels.in_place.resample_labels", stop)
        LabelEditor(place)[1] = corrected[1]
    with LabelEditor(place) as editor:
        editor[1] = corrected[1]
    group = zarr.open_group(place, mode="r")
    assert np.array_equal(group["0"][:], corrected)
    assert np.array_equal(group["1"][:], corrected[:, 1::2, 1::2])
