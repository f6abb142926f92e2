"""Label stacks on disk: every format round trips, and nothing half-written is ever left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam2._errors import OutputError
from napari_sam2.frames import open_frames
from napari_sam2.labels import files as label_files
from napari_sam2.labels.files import LABEL_SUFFIXES, LabelWriter
from napari_sam2.labels.reading import read_labels
from napari_sam2.labels.shapes.reading import SHAPE_SUFFIXES

VOXEL = {
    "T": (30.0, "second"),
    "Z": (0.5, "micrometer"),
    "C": (1.0, ""),
    "Y": (0.11, "micrometer"),
    "X": (0.13, "micrometer"),
}
ONES = np.ones((20, 30), np.int32)
ONE_OF_EACH = [".tif", ".ome.tif", ".zarr"]

IMAGE_SUFFIXES = [suffix for suffix in LABEL_SUFFIXES if suffix not in SHAPE_SUFFIXES]
"""Outlines are round-tripped in test_shape_files."""


def make_labels(num_frames: int = 4, hw: tuple[int, int] = (20, 30), *, max_id: int = 9) -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, max_id, (num_frames, *hw))
    labels[0, 0, 0] = max_id
    return labels.astype(np.int32)


def write_all(path: Path, labels: np.ndarray, **options) -> None:
    with LabelWriter(path, labels.shape, **options) as writer:
        for t, plane in enumerate(labels):
            writer.write(t, plane)


def write_and_close(writer: LabelWriter, frame: int, labels: np.ndarray) -> None:
    with writer:
        writer.write(frame, labels)


def write_and_raise(path: Path, frames: dict[int, np.ndarray], error: type[BaseException], **options) -> None:
    """Write some of four frames, then leave the block by an error."""

    def run() -> None:
        with LabelWriter(path, (4, 20, 30), **options) as writer:
            for t, plane in frames.items():
                writer.write(t, plane)
            raise error

    with pytest.raises(error):
        run()


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("max_id", [9, 65_535, 65_536, 2**31 - 1])
@pytest.mark.parametrize("axes", ["ZYX", "TYX", "YX"])
@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_labels_axes_and_voxel_size_round_trip(tmp_path, suffix, axes, max_id):
    labels = make_labels(1 if axes == "YX" else 4, max_id=max_id)
    path = tmp_path / f"labels{suffix}"
    write_all(path, labels, axes=axes, voxel_size=VOXEL)
    assert names_in(tmp_path) == [path.name]
    back = read_labels(path)
    assert back.dtype == np.int32
    assert np.array_equal(back, labels[0] if axes == "YX" else labels)
    frames = open_frames(path)
    assert frames.axes == axes
    assert set(frames.voxel_size) == set(axes)
    for axis, (value, unit) in frames.voxel_size.items():
        assert value == pytest.approx(VOXEL[axis][0], rel=1e-6)
        assert unit == VOXEL[axis][1]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_unknown_voxel_size_stays_unknown(tmp_path, suffix):
    write_all(tmp_path / f"a{suffix}", make_labels())
    assert open_frames(tmp_path / f"a{suffix}").voxel_size is None


def test_tiff_is_an_imagej_hyperstack_of_uint16_where_ids_fit(tmp_path):
    write_all(tmp_path / "a.tif", make_labels(max_id=500), axes="TYX", voxel_size=VOXEL)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_imagej
        assert tif.series[0].dtype == np.uint16
        assert tif.imagej_metadata["frames"] == 4
        assert tif.imagej_metadata["finterval"] == 30


def test_imagej_has_one_unit_and_others_are_converted(tmp_path):
    sizes = {"Z": (500.0, "nanometer"), "Y": (0.1, "micrometer"), "X": (0.1, "micrometer")}
    write_all(tmp_path / "a.tif", make_labels(), voxel_size=sizes)
    assert open_frames(tmp_path / "a.tif").voxel_size["Z"] == pytest.approx((0.5, "micrometer"))


def test_ome_tiff_says_axes_sizes_and_units(tmp_path):
    write_all(tmp_path / "a.ome.tif", make_labels(), voxel_size=VOXEL)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "ZYX"
        for text in ('PhysicalSizeZ="0.5"', 'SizeZ="4"', 'Type="int32"'):
            assert text in tif.ome_metadata


@pytest.mark.parametrize("suffix", [".zarr", ".ome.zarr"])
def test_zarr_follows_ngff(tmp_path, suffix):
    write_all(tmp_path / f"a{suffix}", make_labels(max_id=3), axes="TYX", voxel_size=VOXEL)
    group = zarr.open_group(str(tmp_path / f"a{suffix}"), mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    image = ome["multiscales"][0]
    assert image["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    assert image["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [30.0, 0.11, 0.13]}]}
    ]
    assert ome["image-label"]["properties"] == [{"label-value": 1}, {"label-value": 2}, {"label-value": 3}]
    assert group["0"].chunks == (1, 20, 30)
    assert group["0"].metadata.dimension_names == ("t", "y", "x")
    assert group.metadata.zarr_format == 3


@pytest.mark.parametrize("suffix", ONE_OF_EACH)
def test_frames_come_in_any_order_and_may_be_written_again(tmp_path, suffix):
    labels = make_labels(5)
    with LabelWriter(tmp_path / f"a{suffix}", labels.shape) as writer:
        for t in (3, 0, 4, 3, 1):
            writer.write(t, np.zeros((20, 30), bool))
            writer.write(t, labels[t].astype(np.uint8))
        assert writer.frames_written == (0, 1, 3, 4)
        assert not (tmp_path / f"a{suffix}").exists()
    labels[2] = 0
    assert np.array_equal(read_labels(tmp_path / f"a{suffix}"), labels)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_volumes_over_time_keep_their_axes(tmp_path, suffix):
    labels = make_labels(6).reshape(2, 3, 20, 30)
    path = tmp_path / f"volumes{suffix}"
    size = {"T": (2.0, "second"), "Z": (0.5, "micrometer"), "Y": (0.25, "micrometer"), "X": (0.25, "micrometer")}
    with LabelWriter(path, labels.shape, axes="TZYX", voxel_size=size) as writer:
        for frame in (5, 0, 1, 2, 3, 4):
            writer.write(frame, labels[frame // 3, frame % 3])
        np.testing.assert_array_equal(writer[4], labels[1, 1])
    np.testing.assert_array_equal(read_labels(path), labels)
    frames = open_frames(path, frame_axis="Z", fixed={"T": 1})
    assert frames.axes == "TZYX"
    assert frames.voxel_size["Z"] == pytest.approx(0.5) or frames.voxel_size["Z"][0] == pytest.approx(0.5)


def test_a_zarr_frame_is_written_in_parts(tmp_path):
    path = tmp_path / "a.ome.zarr"
    with LabelWriter(path, (1, 20, 30), axes="YX") as writer:
        parts = writer.parts()
        assert parts is not None
        parts[slice(0, 10), slice(0, 15)] = np.full((10, 15), 4, np.int32)
        assert parts[slice(8, 12), slice(0, 2)].tolist() == [[4, 4], [4, 4], [0, 0], [0, 0]]
        assert parts.finish() == 1
        assert writer.frames_written == (0,)
    assert np.unique(read_labels(path)).tolist() == [0, 4]
    with LabelWriter(tmp_path / "b.tif", (1, 20, 30), axes="YX") as writer:
        assert writer.parts() is None


@pytest.mark.parametrize("suffix", ONE_OF_EACH)
class TestInterruption:
    def test_ctrl_c_leaves_the_finished_frames_readable(self, tmp_path, suffix):
        labels = make_labels()
        write_and_raise(tmp_path / f"a{suffix}", {1: labels[1], 0: labels[0]}, KeyboardInterrupt)
        assert names_in(tmp_path) == [f"a{suffix}"]
        labels[2:] = 0
        assert np.array_equal(read_labels(tmp_path / f"a{suffix}"), labels)

    def test_ctrl_c_before_the_first_frame_leaves_nothing(self, tmp_path, suffix):
        write_and_raise(tmp_path / f"a{suffix}", {}, KeyboardInterrupt)
        assert names_in(tmp_path) == []

    def test_an_error_leaves_nothing(self, tmp_path, suffix):
        write_and_raise(tmp_path / f"a{suffix}", {0: ONES}, ZeroDivisionError)
        assert names_in(tmp_path) == []

    def test_an_error_leaves_the_file_that_was_there(self, tmp_path, suffix):
        write_all(tmp_path / f"a{suffix}", make_labels(max_id=7))
        write_and_raise(tmp_path / f"a{suffix}", {0: ONES}, ZeroDivisionError, overwrite=True)
        assert names_in(tmp_path) == [f"a{suffix}"]
        assert np.array_equal(read_labels(tmp_path / f"a{suffix}"), make_labels(max_id=7))

    @pytest.mark.parametrize("when", ["write", "close"])
    def test_full_disk_is_one_clear_line_and_leaves_nothing(self, tmp_path, suffix, when, monkeypatch):
        def fail(*_args, **_kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        target = label_files.ZarrTarget if suffix == ".zarr" else label_files.TiffTarget
        writer = LabelWriter(tmp_path / f"a{suffix}", (4, 20, 30))
        writer.write(0, ONES)
        if when == "write":
            monkeypatch.setattr(target, "write", fail)
        elif suffix == ".zarr":
            monkeypatch.setattr(label_files, "put_in_place", fail)
        else:
            monkeypatch.setattr(tifffile, "imwrite", fail)
        with pytest.raises(OutputError, match=r"No space left on device.*free space") as caught:
            write_and_close(writer, 1, ONES)
        assert "\n" not in str(caught.value)
        assert f"a{suffix}" in str(caught.value)
        assert names_in(tmp_path) == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is one of Linux")
    def test_a_disk_that_fills_up_while_frames_are_kept_leaves_nothing(self, tmp_path, suffix):
        writer = LabelWriter(tmp_path / f"a{suffix}", (4, 20, 30))
        if suffix == ".zarr":
            pytest.skip("zarr keeps no frames aside")
        writer._target._scratch._file.close()
        writer._target._scratch._file = Path("/dev/full").open("wb+")  # noqa: SIM115 - the writer closes it
        with pytest.raises(OutputError, match=r"No space left on device.*free space"):
            writer.write(0, ONES)
        assert names_in(tmp_path) == []

    def test_second_ctrl_c_while_finishing_leaves_nothing(self, tmp_path, suffix, monkeypatch):
        def interrupt(*_args):
            raise KeyboardInterrupt

        monkeypatch.setattr(label_files, "put_in_place", interrupt)
        write_and_raise(tmp_path / f"a{suffix}", {0: ONES}, KeyboardInterrupt)
        assert names_in(tmp_path) == []


@pytest.mark.parametrize("suffix", ONE_OF_EACH)
class TestExisting:
    def test_file_is_kept_unless_overwriting_is_asked_for(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        write_all(path, make_labels(max_id=5))
        with pytest.raises(OutputError, match="already exists"):
            LabelWriter(path, (4, 20, 30))
        assert np.array_equal(read_labels(path), make_labels(max_id=5))
        write_all(path, make_labels(2, max_id=8), overwrite=True)
        assert np.array_equal(read_labels(path), make_labels(2, max_id=8))
        assert names_in(tmp_path) == [path.name]

    def test_folder_with_something_else_is_never_replaced(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        path.mkdir()
        (path / "thesis.docx").write_text("five years")
        with pytest.raises(OutputError, match="something else"):
            LabelWriter(path, (4, 20, 30), overwrite=True)
        assert (path / "thesis.docx").exists()


@pytest.mark.parametrize("suffix", ONE_OF_EACH)
def test_missing_folder_is_an_error(tmp_path, suffix):
    with pytest.raises(OutputError, match="does not exist; create it first"):
        LabelWriter(tmp_path / "nowhere" / f"a{suffix}", (4, 20, 30))


@pytest.mark.parametrize("suffix", ONE_OF_EACH)
def test_folder_that_takes_no_files_is_an_error(tmp_path, suffix, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir" if suffix == ".zarr" else "open", refuse)  # root may write anywhere
    with pytest.raises(OutputError, match="Permission denied"):
        LabelWriter(tmp_path / f"a{suffix}", (4, 20, 30))
    assert names_in(tmp_path) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("suffix", ONE_OF_EACH)
def test_read_only_folder_is_an_error(tmp_path, suffix):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        LabelWriter(tmp_path / f"a{suffix}", (4, 20, 30))


@pytest.mark.parametrize("name", ["a.png", "a", "a.tif.gz", ".tif", "a.npy"])
def test_unknown_suffix_is_an_error(tmp_path, name):
    with pytest.raises(OutputError, match=r"allowed suffixes are \.ome\.tif"):
        LabelWriter(tmp_path / name, (4, 20, 30))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 20, 30), "YX"), ((4, 20, 30), "CXY"), ((0, 20, 30), "ZYX"), ((4, 20, 30), "TZYX"), ((20, 30), "ZYX")],
    ids=str,
)
def test_shape_and_axes_must_fit(tmp_path, shape, axes):
    with pytest.raises(OutputError, match="given"):
        LabelWriter(tmp_path / "a.tif", shape, axes=axes)


@pytest.mark.parametrize(
    ("frame", "labels", "message"),
    [
        pytest.param(4, np.zeros((20, 30), int), "4 frames", id="frame-too-large"),
        pytest.param(-1, np.zeros((20, 30), int), "4 frames", id="frame-negative"),
        pytest.param(0, np.zeros((30, 20), int), "expected integers", id="transposed"),
        pytest.param(0, np.zeros((20, 30)), "expected integers", id="floats"),
        pytest.param(0, np.full((20, 30), -1), "from -1", id="negative-id"),
        pytest.param(0, np.full((20, 30), 2**31), "expected 0 to", id="id-too-large"),
    ],
)
@pytest.mark.parametrize("suffix", ONE_OF_EACH)
def test_labels_that_do_not_fit_are_errors_and_leave_nothing(tmp_path, suffix, frame, labels, message):
    writer = LabelWriter(tmp_path / f"a{suffix}", (4, 20, 30))
    writer.write(1, ONES)
    with pytest.raises(OutputError, match=message):
        write_and_close(writer, frame, labels)
    assert names_in(tmp_path) == []


def test_closed_writer_takes_no_frames(tmp_path):
    writer = LabelWriter(tmp_path / "a.tif", (1, 20, 30))
    assert writer.close() == tmp_path / "a.tif"
    assert writer.close() is None
    with pytest.raises(OutputError, match="closed"):
        writer.write(0, np.zeros((20, 30), int))


def test_interrupted_files_say_so(tmp_path):
    for suffix in ONE_OF_EACH:
        writer = LabelWriter(tmp_path / f"a{suffix}", (4, 20, 30))
        writer.write(2, ONES)
        assert writer.close(complete=False) == tmp_path / f"a{suffix}"
    note = "interrupted: 1 of 4 frames were finished, from 2 to 2"
    assert zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs["napari_sam2"] == {"note": note}
    with tifffile.TiffFile(tmp_path / "a.tif") as tif, tifffile.TiffFile(tmp_path / "a.ome.tif") as ome:
        assert tif.imagej_metadata["Info"] == note
        assert note in ome.ome_metadata


def test_name_with_glob_letters_removes_only_its_own_leftovers(tmp_path):
    (tmp_path / "ab.tif").write_bytes(b"mine")
    writer = LabelWriter(tmp_path / "a[b]*.tif", (1, 20, 30))
    writer.discard()
    assert names_in(tmp_path) == ["ab.tif"]


def test_a_file_that_another_process_writes_is_refused_at_the_start(tmp_path, monkeypatch):
    script = (
        "import sys, time\nfrom napari_sam2.labels.files import LabelWriter\n"
        f"writer = LabelWriter({str(tmp_path / 'a.tif')!r}, (1, 4, 4))\nprint('open', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OutputError, match="written by another process"):
            LabelWriter(tmp_path / "a.tif", (1, 4, 4))
        other.kill()
    assert len(names_in(tmp_path)) == 1  # what the killed process left
    write_all(tmp_path / "a.tif", np.ones((1, 4, 4), np.int32))
    assert names_in(tmp_path) == ["a.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_tiff_files_are_compressed(tmp_path, suffix):
    write_all(tmp_path / f"a{suffix}", np.ones((4, 200, 200), np.int32))
    with tifffile.TiffFile(tmp_path / f"a{suffix}") as tif:
        assert tif.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    assert (tmp_path / f"a{suffix}").stat().st_size < 20_000


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_five_axes_keep_their_order(tmp_path, suffix):
    labels = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.int32).reshape(2, 3, 4, 5, 6)
    with LabelWriter(tmp_path / f"a{suffix}", labels.shape, axes="TCZYX") as writer:
        for frame, plane in enumerate(labels.reshape(-1, 5, 6)):
            writer.write(frame, plane)
    if suffix.endswith("zarr"):
        assert np.array_equal(zarr.open_group(tmp_path / f"a{suffix}", mode="r")["0"][:], labels)
        return
    with tifffile.TiffFile(tmp_path / f"a{suffix}") as tif:
        series = tif.series[0]
        order = ["TCZYX".index(axis) for axis in series.axes]
        assert np.array_equal(series.asarray(), labels.transpose(order))


def test_positions_are_kept_in_every_format(tmp_path):
    size = {axis: (2.0 if axis == "Z" else 0.5, "micrometer") for axis in "ZYX"}
    origin = {"Z": 10.0, "Y": 70.0, "X": -30.0}
    for suffix in ONE_OF_EACH:
        write_all(tmp_path / f"a{suffix}", make_labels(), voxel_size=size, translation=origin)
    assert open_frames(tmp_path / "a.zarr").translation == origin
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        found = tif.imagej_metadata
        assert (found["zorigin"], found["yorigin"], found["xorigin"]) == (-5, -140, 60)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        planes = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"]
        assert [plane["PositionZ"] for plane in planes] == [10, 12, 14, 16]
        assert {(plane["PositionY"], plane["PositionX"], plane["PositionXUnit"]) for plane in planes} == {
            (70, -30, "µm")
        }


def test_large_planes_get_coarser_levels(tmp_path):
    labels = np.zeros((1, 5000, 2100), np.int32)
    labels[0, 1000:3000, 100:300] = 7
    size = {"Y": (0.5, "micrometer"), "X": (0.5, "micrometer")}
    write_all(tmp_path / "a.zarr", labels, axes="YX", voxel_size=size)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [group[d["path"]].shape for d in datasets] == [(5000, 2100), (2500, 1050), (1250, 525)]
    coarse = group["2"][:]
    assert np.array_equal(coarse, labels[0, 2::4, 2::4])
    scale, shift = datasets[2]["coordinateTransformations"]
    assert (scale["scale"], shift["translation"]) == ([2.0, 2.0], [0.75, 0.75])


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".zarr/labels/x"])
def test_a_name_that_is_too_long_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="too long"):
        LabelWriter("a" * 300 + suffix, (2, 3, 4))
    assert list(tmp_path.iterdir()) == []
