"""OME-Zarr of all versions, plates, wells and labels; and zarr folders that claim more than they hold."""

from __future__ import annotations

import gzip
import json
import os
import struct
import warnings
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from tests.effort import measured_effort
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from napari_sam2._errors import FrameError, OutputError, PlanesLeftOutWarning
from napari_sam2.frames import open_frames
from napari_sam2.frames.zarr_files import plate_fields
from napari_sam2.labels.ngff import plan_for_image

UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def described(axes: str) -> list[dict[str, str]]:
    return [{"name": a, "type": TYPES[a], **({"unit": UNITS[a]} if a in UNITS else {})} for a in axes]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.uint16)


def write_image(group: zarr.Group, array: np.ndarray, version: str | None, axes: str = "zyx", **more: object) -> None:
    """An image of one level as a version of NGFF writes it, with 2 along the first axis and 0.5 along the others."""
    group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=(1,) * (array.ndim - 2) + array.shape[-2:])[
        :
    ] = array
    scale = {"type": "scale", "scale": [2.0] + [0.5] * (array.ndim - 1)}
    dataset: dict[str, object] = {"path": "0"}
    image: dict[str, object] = {"name": "image"}
    if version in ("0.1", "0.2"):
        pass
    elif version == "0.3":
        image["axes"] = list(axes)
    elif version == "0.6":
        image["coordinateSystems"] = [
            {"name": "other", "axes": described("yx")},
            {"name": "physical", "axes": described(axes)},
        ]
        dataset["coordinateTransformations"] = [{**scale, "input": {"path": "0"}, "output": {"name": "physical"}}]
    else:
        image["axes"] = described(axes)
        dataset["coordinateTransformations"] = [scale]
    image["datasets"] = [dataset]
    if version is None or version >= "0.5":
        group.attrs["ome"] = {**({} if version is None else {"version": version}), "multiscales": [image], **more}
    else:
        group.attrs.update({"multiscales": [{"version": version, **image}], **more})


def open_group(path: Path, version: str | None = "0.5") -> zarr.Group:
    return zarr.open_group(path, mode="w", zarr_format=3 if version is None or version >= "0.5" else 2)


class TestVersions:
    @pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.5.2", "0.6.dev1", None])
    def test_axes_and_distances(self, tmp_path, version):
        stack = noise(6, 20, 30)
        write_image(open_group(tmp_path / "a.zarr", version), stack, version if version is None else version[:3])
        frames = open_frames(tmp_path / "a.zarr")
        assert frames.axes == "ZYX"
        np.testing.assert_array_equal(frames.raw(4)[0], stack[4])
        if version not in ("0.1", "0.2", "0.3"):
            assert frames.voxel_size == {"Z": (2, "micrometer"), "Y": (0.5, "micrometer"), "X": (0.5, "micrometer")}

    @pytest.mark.parametrize("version", ["0.5", "0.6"])
    @pytest.mark.parametrize("axes", ["tyx", "cyx", "zyx"])
    def test_time_and_channels_are_told_from_z(self, tmp_path, version, axes):
        write_image(open_group(tmp_path / "a.zarr"), noise(2, 20, 30), version, axes)
        assert open_frames(tmp_path / "a.zarr").axes == axes.upper()

    @pytest.mark.parametrize("version", ["0.7", "1.0", "0.10", 2, "latest"])
    def test_an_unknown_version_is_refused(self, tmp_path, version):
        group = open_group(tmp_path / "a.zarr")
        write_image(group, noise(3, 20, 30), "0.5")
        group.attrs["ome"] = {**group.attrs["ome"], "version": version}
        with pytest.raises(FrameError, match=f"version {version!r}; versions 0.1 to 0.6"):
            open_frames(tmp_path / "a.zarr")

    def test_five_axes_before_axes_had_names(self, tmp_path):
        write_image(open_group(tmp_path / "a.zarr", "0.2"), noise(1, 2, 6, 20, 30), "0.2")
        assert open_frames(tmp_path / "a.zarr").axes == "TCZYX"


class TestTransformations:
    def opened(self, path: Path, *steps: object, version: str = "0.6"):
        group = open_group(path)
        write_image(group, noise(3, 20, 30), version)
        ome = json.loads(json.dumps(group.attrs["ome"]))
        ome["multiscales"][0]["datasets"][0]["coordinateTransformations"] = list(steps)
        group.attrs["ome"] = ome
        return open_frames(path, contrast=(0, 900))

    def test_sequence(self, tmp_path):
        steps = [{"type": "scale", "scale": [2, 0.5, 0.5]}, {"type": "translation", "translation": [10, 70, 30]}]
        step = {"type": "sequence", "transformations": steps, "input": {"path": "0"}, "output": {"name": "physical"}}
        frames = self.opened(tmp_path / "a.zarr", step)
        assert frames.voxel_size["Z"] == (2, "micrometer")
        assert frames.translation == {"Z": 10, "Y": 70, "X": 30}

    def test_affine_without_rotation(self, tmp_path):
        step = {"type": "affine", "affine": [[2, 0, 0, 5], [0, 0.5, 0, 0], [0, 0, 0.25, 1]], "output": "physical"}
        frames = self.opened(tmp_path / "a.zarr", step)
        assert [frames.voxel_size[a].value for a in "ZYX"] == [2, 0.5, 0.25]
        assert frames.translation == {"Z": 5, "X": 1}

    @pytest.mark.parametrize(
        "step",
        [
            {"type": "rotation", "rotation": [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]},
            {"type": "coordinates", "path": "field"},
            {"type": "mapAxis", "mapAxis": [0, 1, 1]},
            {"type": "mapAxis", "mapAxis": {"z": "x", "y": "y", "x": "z"}},
            {"type": "byDimension", "transformations": [{"inputAxes": [0], "outputAxes": [0]}]},
            {"type": "affine", "affine": [[2, 0, 0, 5], [0, 0.5, 0.1, 0], [0, 0, 0.25, 1]]},
            {"type": "affine", "affine": "matrix"},
            {"type": "scale", "path": "scales/0"},
            {"type": "scale", "scale": 2},
            {"type": "translation", "translation": [1, 2]},
        ],
    )
    def test_more_than_a_scale_is_an_unknown_distance(self, tmp_path, step):
        with pytest.warns(UserWarning, match="pixel size .*is not known"):
            assert self.opened(tmp_path / "a.zarr", {**step, "output": "physical"}).voxel_size is None

    @pytest.mark.parametrize(
        ("steps", "axes", "scale"),
        [
            ([{"type": "mapAxis", "mapAxis": [2, 1, 0]}], "XYZ", (1, 1, 1)),
            ([{"type": "mapAxis", "mapAxis": [1, 2, 0]}, {"type": "scale", "scale": [5, 6, 7]}], "XZY", (5, 6, 7)),
            ([{"type": "affine", "affine": [[2, 0, 0, 5], [0, 0, 3, 0], [0, 4, 0, 0]]}], "ZXY", (2, 3, 4)),
            ([{"type": "rotation", "rotation": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}], "YZX", (1, 1, 1)),
            (
                [
                    {
                        "type": "byDimension",
                        "transformations": [
                            {"inputAxes": [0], "outputAxes": [0], "transformation": {"type": "scale", "scale": [9]}},
                            {
                                "inputAxes": [2, 1],
                                "outputAxes": [1, 2],
                                "transformation": {"type": "scale", "scale": [2, 3]},
                            },
                        ],
                    }
                ],
                "ZXY",
                (9, 2, 3),
            ),
        ],
        ids=["mapAxis", "mapAxis and scale", "affine", "rotation", "byDimension"],
    )
    def test_an_order_of_axes(self, tmp_path, steps, axes, scale):
        step = {"type": "sequence", "transformations": steps, "output": "physical"}
        frames = self.opened(tmp_path / "a.zarr", step)
        stored = noise(3, 20, 30).transpose([axes.index(axis) for axis in "ZYX"])
        assert frames.axes == axes
        assert np.array_equal(np.stack([frames.raw(z)[0] for z in range(len(frames))]), stored)
        assert tuple(frames.voxel_size[axis].value for axis in "ZYX") == scale

    def test_labels_are_not_written_over_axes_in_another_order(self, tmp_path):
        self.opened(tmp_path / "a.zarr", {"type": "mapAxis", "mapAxis": [2, 1, 0], "output": "physical"})
        with pytest.raises(OutputError, match="stores its axes in the order XYZ"):
            plan_for_image(tmp_path / "a.zarr", "cells", "ZYX", (3, 20, 30))

    @pytest.mark.parametrize("value", ["inf", "nan", -1])
    def test_an_odd_number_is_an_unknown_distance(self, tmp_path, value):
        step = {"type": "scale", "scale": [value, 0.5, 0.5]}
        with pytest.warns(UserWarning, match="distance along Z"):
            assert set(self.opened(tmp_path / "a.zarr", step, version="0.5").voxel_size) == {"Y", "X"}


class TestGroups:
    def test_channel_names(self, tmp_path):
        omero = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]}
        write_image(open_group(tmp_path / "a.zarr"), noise(2, 20, 30), "0.5", "cyx", omero=omero)
        assert open_frames(tmp_path / "a.zarr").channel_names == ("DAPI", "GFP")
        assert open_frames(tmp_path / "a.zarr", channels=1).channel_names == ("GFP",)

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_a_field_of_a_plate(self, tmp_path, version):
        plate = open_group(tmp_path / "p.zarr", version)
        wells = [{"path": f"A/{n}", "rowIndex": 0, "columnIndex": n - 1} for n in (1, 2)]
        fields = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}

        def put(group: zarr.Group, content: dict[str, object]) -> None:
            group.attrs.update(content if version == "0.4" else {"ome": {"version": version, **content}})

        put(plate, {"plate": {"wells": wells, "rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": "2"}]}})
        stacks = noise(4, 3, 20, 30)
        for n in range(4):
            well = plate.require_group(f"A/{n // 2 + 1}")
            put(well, fields)
            write_image(well.create_group(str(n % 2)), stacks[n], version)
        with pytest.warns(PlanesLeftOutWarning) as told:
            frames = open_frames(tmp_path / "p.zarr")
        texts = [str(w.message) for w in told]
        assert any("a plate of 2 wells; A/1 is read" in text for text in texts)
        assert any("a well of 2 fields; 0 is read" in text for text in texts)
        np.testing.assert_array_equal(frames.raw(1)[0], stacks[0, 1])
        np.testing.assert_array_equal(open_frames(tmp_path / "p.zarr" / "A" / "2" / "1").raw(1)[0], stacks[3, 1])

    def test_labels(self, tmp_path):
        group = open_group(tmp_path / "a.zarr")
        write_image(group, noise(3, 20, 30), "0.5")
        labels = group.create_group("labels")
        labels.attrs["ome"] = {"version": "0.5", "labels": ["cells", "nuclei"]}
        for n, name in enumerate(("cells", "nuclei")):
            write_image(labels.create_group(name), np.full((3, 20, 30), n + 5, np.uint16), "0.5")
        with pytest.warns(PlanesLeftOutWarning, match="2 label images; cells is read"):
            assert open_frames(tmp_path / "a.zarr" / "labels").raw(0).max() == 5
        assert open_frames(tmp_path / "a.zarr" / "labels" / "nuclei").raw(0).max() == 6

    def test_a_converted_file_of_several_images(self, tmp_path):
        group = open_group(tmp_path / "a.zarr", "0.4")
        group.attrs["bioformats2raw.layout"] = 3
        for n in range(2):
            write_image(group.create_group(str(n)), noise(3, 20, 30) + n, "0.4")
        group.create_group("OME")
        (tmp_path / "a.zarr" / "notes").mkdir()  # which zarr does not know
        with pytest.warns(PlanesLeftOutWarning, match="a file of 2 images; 0 is read") as told:
            frames = open_frames(tmp_path / "a.zarr")
        assert len(told) == 1
        np.testing.assert_array_equal(frames.raw(0)[0], noise(3, 20, 30)[0])

    def test_a_converted_file_that_lists_its_images(self, tmp_path):
        group = open_group(tmp_path / "a.zarr")
        group.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
        for n, name in enumerate(("0", "1", "overview")):
            write_image(group.create_group(name), noise(3, 20, 30) + n, "0.5")
        group.create_group("OME").attrs["ome"] = {"version": "0.5", "series": ["overview", "1", "0"]}
        with pytest.warns(PlanesLeftOutWarning, match="a file of 3 images; overview is read"):
            frames = open_frames(tmp_path / "a.zarr")
        np.testing.assert_array_equal(frames.raw(0)[0], noise(3, 20, 30)[0] + 2)
        assert [path.name for path in plate_fields(tmp_path / "a.zarr")] == ["overview", "1", "0"]

    def test_wells_and_fields_that_are_not_there_are_passed_over(self, tmp_path):
        plate = open_group(tmp_path / "p.zarr")
        plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}, {"path": "A/2"}]}}
        well = plate.create_group("A/2")
        well.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
        write_image(well.create_group("1"), noise(3, 20, 30), "0.5")
        with pytest.warns(PlanesLeftOutWarning) as told:
            frames = open_frames(tmp_path / "p.zarr")
        assert ["A/2 is read, because A/1 does not exist" in str(w.message) for w in told] == [True, False]
        np.testing.assert_array_equal(frames.raw(1)[0], noise(3, 20, 30)[1])
        with pytest.warns(UserWarning, match="skipped: A/1, A/2/0"):
            assert plate_fields(tmp_path / "p.zarr") == (tmp_path / "p.zarr" / "A" / "2" / "1",)

    def test_a_field_that_is_not_there(self, tmp_path):
        group = open_group(tmp_path / "a.zarr")
        group.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "7"}]}}
        with pytest.raises(FrameError, match="names '7', which does not exist"):
            open_frames(tmp_path / "a.zarr")

    @pytest.mark.parametrize(
        ("names", "axes"),
        [
            (["time", "y", "x"], "TYX"),
            (["channel", "row", "column"], "CYX"),
            (["position", "y", "x"], "PYX"),
            (["depth", "height", "width"], "ZYX"),
            (["Z", "Y", "X"], "ZYX"),
            (["something", "y", "x"], "ZYX"),
        ],
    )
    def test_dimension_names_in_words(self, tmp_path, names, axes):
        zarr.create_array(tmp_path / "a.zarr", shape=(3, 24, 32), dtype="uint16", dimension_names=names)[:] = 5
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PlanesLeftOutWarning)
            assert open_frames(tmp_path / "a.zarr").axes == axes

    def test_shards(self, tmp_path):
        array = zarr.create_array(
            tmp_path / "a.zarr", shape=(4, 64, 64), chunks=(1, 16, 16), shards=(2, 64, 64), dtype="u2"
        )
        array[:] = noise(4, 64, 64)
        np.testing.assert_array_equal(open_frames(tmp_path / "a.zarr").raw(3)[0], noise(4, 64, 64)[3])


class TestBombs:
    def refused(self, path: Path, match: str) -> None:
        with measured_effort() as effort, pytest.raises(FrameError, match=match) as caught:
            open_frames(path)[0]
        assert "\n" not in str(caught.value)
        assert effort.calls < 20_000
        assert effort.peak_bytes < 200_000_000

    @pytest.mark.parametrize("chunks", [(1000, 1000, 1000), (1, 1000, 1000), (100, 100, 100)], ids=str)
    def test_a_cube_of_a_million(self, tmp_path, chunks):
        zarr.create_array(tmp_path / "a.zarr", shape=(10**6,) * 3, chunks=chunks, dtype="uint16")
        self.refused(tmp_path / "a.zarr", "claims planes|chunks of")

    @pytest.mark.parametrize("side", [100_000, 10_000])
    def test_missing_chunks_by_the_million(self, tmp_path, side):
        zarr.create_array(tmp_path / "a.zarr", shape=(side, side), chunks=(10, 10), dtype="uint8")
        self.refused(tmp_path / "a.zarr", "claims planes of")

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_a_chunk_that_decodes_to_a_gigabyte(self, tmp_path, zarr_format):
        codec = {"id": "gzip", "level": 1} if zarr_format == 2 else {"name": "gzip", "configuration": {"level": 1}}
        zarr.create_array(
            tmp_path / "a.zarr", shape=(64, 64), chunks=(64, 64), dtype="uint8", zarr_format=zarr_format,
            compressors=[zarr.codecs.GzipCodec(level=1)] if zarr_format == 3 else None,
        )  # fmt: skip
        if zarr_format == 2:
            meta = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
            (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps({**meta, "compressor": codec}))
        chunk = tmp_path / "a.zarr" / ("0.0" if zarr_format == 2 else "c/0/0")
        chunk.parent.mkdir(parents=True, exist_ok=True)
        part = gzip.compress(bytes(2**24), 9)
        chunk.write_bytes(part * 64)
        self.refused(tmp_path / "a.zarr", "more than the .* that it can hold")

    @pytest.mark.parametrize("is_sharded", [True, False])
    @pytest.mark.parametrize("codec", ["gzip", "zstd", "blosc"])
    def test_a_small_chunk_that_claims_more_than_it_holds(self, tmp_path, codec, is_sharded):
        codecs = {"gzip": GzipCodec(), "zstd": ZstdCodec(), "blosc": BloscCodec(cname="zstd")}
        shards = (512, 512) if is_sharded else None
        for name, side in (("a.zarr", 512), ("bomb.zarr", 16_384)):
            folder = zarr.open_group(tmp_path / name, mode="w")
            folder.create_array("a", shape=(side, side), chunks=(side, side) if side > 512 else (256, 256),
                                shards=shards if side == 512 else None, dtype="uint8", compressors=codecs[codec],
                                fill_value=7)[:] = 0  # fmt: skip
        array = tmp_path / "a.zarr" / "a"
        bomb = (tmp_path / "bomb.zarr" / "a" / "c" / "0" / "0").read_bytes()
        chunk = array / "c" / "0" / "0"
        if is_sharded:  # the first chunk of the shard becomes the bomb
            content = chunk.read_bytes()
            end = len(content) - 4 * 16 - 4
            index = np.frombuffer(content[end:-4], "<u8").reshape(-1, 2).copy()
            index[0] = end, len(bomb)
            content = content[:end] + bomb + index.tobytes()
            chunk.write_bytes(content + struct.pack("<I", google_crc32c.value(index.tobytes())))
        else:
            chunk.write_bytes(bomb)
        with measured_effort() as effort, pytest.raises(FrameError, match=r"decodes to|that it can hold"):
            open_frames(array)
        assert effort.calls < 20_000
        assert effort.peak_bytes < 200_000_000

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    @pytest.mark.parametrize("kind", ["device", "pipe"])
    @pytest.mark.parametrize("name", ["c/0/0", "zarr.json"])
    def test_a_file_that_never_ends(self, tmp_path, kind, name):
        array = zarr.create_array(tmp_path / "a.zarr", shape=(64, 64), chunks=(64, 64), dtype="uint8")
        array[:] = 1
        (tmp_path / "a.zarr" / name).unlink()
        if kind == "pipe":
            os.mkfifo(tmp_path / "a.zarr" / name)
        else:
            (tmp_path / "a.zarr" / name).symlink_to("/dev/zero")
        self.refused(tmp_path / "a.zarr", "not a regular file")


class TestAddresses:
    def test_the_address_is_kept_in_the_message(self):
        with pytest.raises(FrameError, match=r"http://127\.0\.0\.1:9/x\.zarr cannot be read"):
            open_frames("http://127.0.0.1:9/x.zarr")

    def test_a_single_file_is_not_read_over_the_network(self):
        with pytest.raises(FrameError, match=r"https://example\.org/a\.tif is a single file.*download it"):
            open_frames("https://example.org/a.tif")

    def test_a_file_address_is_a_path(self, tmp_path):
        write_image(open_group(tmp_path / "a b.zarr"), noise(3, 20, 30), "0.5")
        assert open_frames((tmp_path / "a b.zarr").as_uri()).shape == (3, 20, 30)

    def test_an_image_is_read_through_fsspec(self, tmp_path):
        write_image(open_group(tmp_path / "a.zarr"), noise(3, 20, 30), "0.5")
        frames = open_frames(f"local://{tmp_path / 'a.zarr'}")
        np.testing.assert_array_equal(frames.raw(2)[0], noise(3, 20, 30)[2])


def test_fields_of_a_plate_are_listed_and_open(tmp_path):
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    wells = [{"path": "B/2", "rowIndex": 1, "columnIndex": 1}, {"path": "B/3", "rowIndex": 1, "columnIndex": 2}]
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [*wells, {"path": "C/9"}]}}
    for well in wells:
        fields = {"images": [{"path": "0"}, {"path": "1"}]}
        plate.create_group(well["path"]).attrs["ome"] = {"version": "0.5", "well": fields}
        for name in ("0", "1"):
            field = plate.create_group(f"{well['path']}/{name}")
            field.create_array("0", data=np.ones((8, 9), np.uint8))
            axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
            field.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    with pytest.warns(UserWarning, match="that do not exist; they are skipped: C/9"):
        found = plate_fields(tmp_path / "plate.zarr")
    assert [str(f.relative_to(tmp_path)) for f in found] == [f"plate.zarr/B/{w}/{f}" for w in (2, 3) for f in (0, 1)]
    assert all(open_frames(field).shape == (1, 8, 9) for field in found)
    assert plate_fields(found[0]) == ()
    assert plate_fields(tmp_path / "plate.zarr" / "B" / "2") == found[:2]


@pytest.mark.parametrize(
    ("datasets", "words"),
    [
        (None, "lists no levels"),
        ([{"path": "9"}], "names '9' as an image level, which is not an array or does not exist"),
    ],
)
def test_levels_that_are_not_there_are_named(tmp_path, datasets, words):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", data=noise(3, 8, 9))
    axes = described("zyx")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    with pytest.raises(FrameError, match=words):
        open_frames(tmp_path / "a.zarr")


def test_a_scale_of_too_few_numbers_is_an_unknown_distance(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", data=noise(3, 8, 9))
    steps = [{"type": "scale", "scale": [2.0, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": described("zyx"), "datasets": datasets}]}
    with pytest.warns(UserWarning, match="not have one number for each of the axes ZYX"):
        assert open_frames(tmp_path / "a.zarr").voxel_size is None


@pytest.mark.parametrize(("word", "letter"), [("tau", "P"), ("condition", "P"), ("lambda", "E"), ("replicate", "R")])
def test_an_axis_with_an_unknown_name_is_no_time_and_no_channel(tmp_path, word, letter):
    group = open_group(tmp_path / "a.zarr")
    write_image(group, noise(3, 20, 30), "0.5")
    ome = group.attrs["ome"]
    ome["multiscales"][0]["axes"][0] = {"name": word}
    group.attrs["ome"] = ome
    with pytest.warns(PlanesLeftOutWarning, match=rf"several [a-z ]+; {letter}=0 is read"):
        frames = open_frames(tmp_path / "a.zarr")
    assert (frames.axes, len(frames)) == (f"{letter}YX", 1)


@pytest.mark.parametrize("missing", [1, 4, 500])
def test_a_chunk_of_blosc_that_was_cut_is_no_image(tmp_path, missing):
    group = open_group(tmp_path / "a.zarr")
    write_image(group, np.arange(6000, dtype=np.uint16).reshape(3, 40, 50), "0.5")
    group.create_array("0", data=noise(3, 40, 50), chunks=(1, 40, 50), compressors=BloscCodec(), overwrite=True)
    chunk = tmp_path / "a.zarr" / "0" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-missing])
    frames = open_frames(tmp_path / "a.zarr", contrast="dtype")
    np.testing.assert_array_equal(frames.raw(0)[0], noise(3, 40, 50)[0])
    with pytest.raises(FrameError, match=r"0/c/1/0/0 is truncated: it holds [\d,]+ of [\d,]+ bytes"):
        frames[1]


def test_a_pyramid_that_begins_with_its_coarsest_level(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    pixels, datasets = noise(3, 20, 30), []
    for path, factor in (("small", 2), ("large", 1)):
        part = pixels[:, ::factor, ::factor]
        group.create_array(path, shape=part.shape, dtype=part.dtype)[...] = part
        scale = {"type": "scale", "scale": [1, factor, factor]}
        datasets.append({"path": path, "coordinateTransformations": [scale]})
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    assert np.array_equal(open_frames(tmp_path / "a.zarr").raw(1)[0], pixels[1])
    assert np.array_equal(open_frames(tmp_path / "a.zarr", level=1).raw(1)[0], pixels[1, ::2, ::2])
    plan = plan_for_image(tmp_path / "a.zarr", "cells", "ZYX", (3, 20, 30))
    assert [level.path for level in plan.levels] == ["large", "small"]


def test_a_pyramid_whose_distances_are_the_wrong_way_round_keeps_its_order(tmp_path):
    group = open_group(tmp_path / "a.zarr", "0.4")
    write_image(group, noise(3, 20, 30), "0.4", "zyx")
    group.create_array("half", data=noise(3, 20, 30)[:, ::2, ::2])
    multiscale = dict(group.attrs["multiscales"][0])
    scales = [{"type": "scale", "scale": [1, factor, factor]} for factor in (2, 1)]
    paths = [str(multiscale["datasets"][0]["path"]), "half"]
    multiscale["datasets"] = [
        {"path": path, "coordinateTransformations": [scale]} for path, scale in zip(paths, scales, strict=True)
    ]
    group.attrs["multiscales"] = [multiscale]
    assert np.array_equal(open_frames(tmp_path / "a.zarr").raw(1)[0], noise(3, 20, 30)[1])


def test_chunks_in_folders_that_the_metadata_does_not_name(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(3, 20, 30), chunks=(1, 16, 16), dtype="uint16",
                              zarr_format=2, chunk_key_encoding={"name": "v2", "separator": "/"})  # fmt: skip
    array[...] = noise(3, 20, 30)
    metadata = tmp_path / "a.zarr" / ".zarray"
    stated = json.loads(metadata.read_text())
    del stated["dimension_separator"]
    metadata.write_text(json.dumps(stated))
    assert np.array_equal(open_frames(tmp_path / "a.zarr").raw(2)[0], noise(3, 20, 30)[2])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_image_of_which_no_chunk_was_copied_is_told(tmp_path, zarr_format):
    zarr.create_array(tmp_path / "a.zarr", shape=(3, 20, 30), dtype="uint16", zarr_format=zarr_format, fill_value=5)
    with pytest.warns(UserWarning, match="holds no chunk, so that all its pixels are the fill value 5"):
        assert (open_frames(tmp_path / "a.zarr").raw(0) == 5).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:.*onsolidated metadata")
def test_consolidated_metadata_may_be_out_of_date(tmp_path, zarr_format):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("other", shape=(2, 2), dtype="uint8")
    zarr.consolidate_metadata(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+", use_consolidated=False)
    group.create_array("0", shape=(3, 20, 30), dtype="uint16")[...] = noise(3, 20, 30)
    multiscale = {"axes": [{"name": name} for name in "zyx"], "datasets": [{"path": "0"}]}
    group.attrs["multiscales"] = [{**multiscale, "version": "0.4"}]
    assert np.array_equal(open_frames(tmp_path / "a.zarr").raw(1)[0], noise(3, 20, 30)[1])


@pytest.mark.parametrize("omero", ["x", {"channels": ["a", "b"]}, [1]], ids=["text", "texts", "list"])
def test_damaged_notes_about_channels_cost_no_image(tmp_path, omero):
    write_image(open_group(tmp_path / "a.zarr"), noise(2, 20, 30), "0.5", "cyx", omero=omero)
    with pytest.warns(UserWarning, match=r"names and colours of the channels of .*a\.zarr are not known"):
        frames = open_frames(tmp_path / "a.zarr", channels=0)
    np.testing.assert_array_equal(frames.raw(0)[0], noise(2, 20, 30)[0])
