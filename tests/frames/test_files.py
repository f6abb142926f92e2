"""Frames of files: TIFF in its dialects, OME-Zarr on both zarr formats, pictures, folders, and damaged files."""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from tests.effort import measured_effort

from napari_sam2._errors import FrameError
from napari_sam2.frames import Spacing, open_frames
from napari_sam2.frames.spacing import convert, unit_name, unit_symbol
from places import SHARED

FILES = SHARED / "data" / "dev_files"
NM10 = Spacing(10.0, "nanometer")
needs_shared = pytest.mark.skipif(not FILES.is_dir(), reason="the shared data are not here")


def make_stack(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_ngff(path: Path, levels: list[np.ndarray], axes: str, *, zarr_format: int) -> None:
    types = {"t": "time", "c": "channel"}
    units = {"t": "second", "z": "micrometer", "y": "nanometer", "x": "nanometer"}
    entries = [
        {"name": a, "type": types.get(a, "space"), **({"unit": units[a]} if a in units else {})} for a in axes.lower()
    ]
    datasets = []
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    for n, level in enumerate(levels):
        chunks = tuple(1 if a not in "YX" else size for a, size in zip(axes, level.shape, strict=True))
        group.create_array(f"s{n}", shape=level.shape, chunks=chunks, dtype=level.dtype)[:] = level
        scale = [{"t": 1.0, "z": 0.5}.get(a, 100.0) * (2**n if a in "yx" else 1) for a in axes.lower()]
        datasets.append({"path": f"s{n}", "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    whole = [{"type": "scale", "scale": [3.0 if a == "t" else 1.0 for a in axes.lower()]}]
    image = {"axes": entries, "datasets": datasets, "coordinateTransformations": whole}
    if zarr_format == 2:
        group.attrs.put({"multiscales": [{"version": "0.4", **image}]})
    else:
        group.attrs.put({"ome": {"version": "0.5", "multiscales": [image]}})


@needs_shared
@pytest.mark.parametrize(
    ("name", "options", "shape", "frame_axis", "voxel_size"),
    [
        pytest.param("fib25_dev.ome.tif", {}, (50, 250, 250), "Z", dict.fromkeys("ZYX", NM10), id="ome-tiff"),
        pytest.param("fib25_dev.ome.zarr", {}, (50, 250, 250), "Z", dict.fromkeys("ZYX", NM10), id="ome-zarr"),
        pytest.param(
            "fib25_dev.ome.zarr",
            {"level": 1},
            (25, 125, 125),
            "Z",
            dict.fromkeys("ZYX", Spacing(20.0, "nanometer")),
            id="ome-zarr-level-1",
        ),
        pytest.param("stardist_2d.tif", {}, (1, 512, 512), None, None, id="tiff"),
        pytest.param("dsb_histology_0.png", {}, (1, 256, 320), None, None, id="png"),
        pytest.param("t98g_phase_10.tif", {}, (10, 400, 400), "T", None, id="imagej"),
    ],
)
def test_real_files_open(name, options, shape, frame_axis, voxel_size):
    frames = open_frames(FILES / name, **options)
    assert (frames.shape, frames.frame_axis, frames.voxel_size) == (shape, frame_axis, voxel_size)
    assert frames[-1].shape == (*shape[1:], 3)
    assert frames[0].std() > 10


@needs_shared
def test_the_same_pixels_as_tiff_and_zarr_are_the_same_frames():
    tiff, ngff = open_frames(FILES / "fib25_dev.ome.tif"), open_frames(FILES / "fib25_dev.ome.zarr")
    assert all(np.array_equal(tiff[t], ngff[t]) for t in (0, 7, 49))
    assert np.array_equal(tiff.raw(7)[0], tifffile.imread(FILES / "fib25_dev.ome.tif", key=7))


class TestTIFF:
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "ZCYX", "TCYX", "TZYX", "TZCYX"])
    @pytest.mark.parametrize("kind", ["ome", "imagej", "shaped"])
    def test_any_dialect_and_axes(self, tmp_path, kind, axes, compression):
        if kind == "imagej" and compression:
            pytest.skip("ImageJ files are not compressed")
        sizes = {"T": 3, "Z": 4, "C": 2, "Y": 20, "X": 32}
        stack = make_stack(*(sizes[a] for a in axes))
        options = {"ome": kind == "ome", "imagej": kind == "imagej", "metadata": {"axes": axes}}
        tifffile.imwrite(
            tmp_path / "a.tif", stack, photometric="minisblack", compression=compression, tile=None, **options
        )
        frames = open_frames(tmp_path / "a.tif", fixed={"T": 1} if {"T", "Z"} <= set(axes) else None)
        assert frames.axes == axes
        view = stack[1] if {"T", "Z"} <= set(axes) else stack
        for t in range(len(frames)):
            plane = view[t] if frames.frame_axis else view
            assert np.array_equal(frames.raw(t), plane if "C" in axes else plane[None])

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_any_type_and_byte_order(self, tmp_path, dtype, byteorder):
        stack = make_stack(3, 20, 30, dtype="uint8").astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", stack, byteorder=byteorder, photometric="minisblack")
        frames = open_frames(tmp_path / "a.tif")
        assert np.array_equal(frames.raw(2)[0], stack[2])
        assert frames[2].any()

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("samples", [3, 4])
    def test_rgb_is_untouched(self, tmp_path, planar, compression, samples):
        picture = make_stack(20, 30, samples, dtype="uint8")
        data = picture if planar == "contig" else np.moveaxis(picture, -1, 0)
        extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
        tifffile.imwrite(
            tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, compression=compression, **extra
        )
        frames = open_frames(tmp_path / "a.tif")
        assert frames.shape == (1, 20, 30)
        assert np.array_equal(frames[0], picture[..., :3])

    def test_rgb_stack(self, tmp_path):
        stack = make_stack(5, 20, 30, 3, dtype="uint8")
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb")
        frames = open_frames(tmp_path / "a.tif")
        assert frames.shape == (5, 20, 30)
        assert np.array_equal(frames[3], stack[3])

    def test_bilevel(self, tmp_path):
        picture = make_stack(20, 37) > 100
        tifffile.imwrite(tmp_path / "a.tif", picture, photometric="minisblack")
        assert np.array_equal(open_frames(tmp_path / "a.tif")[0][..., 0] > 0, picture)
        Image.fromarray(picture).save(tmp_path / "b.tif", compression=None)
        assert np.array_equal(open_frames(tmp_path / "b.tif")[0][..., 0] > 0, picture)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
    @pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32", "rgb"])
    def test_common_compressions_need_no_further_package(self, tmp_path, compression, dtype):
        stack = make_stack(4, 20, 30, 3, dtype="uint8") if dtype == "rgb" else make_stack(4, 20, 30).astype(dtype)
        pages = [Image.fromarray(plane) for plane in stack]
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
        frames = open_frames(tmp_path / "a.tif")
        raw = np.stack([frames.raw(t) for t in range(4)])
        assert np.array_equal(raw, np.moveaxis(stack, -1, 1) if dtype == "rgb" else stack[:, None])

    def test_planes_that_were_never_written_are_zeros_with_a_warning(self, tmp_path):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="3" SizeC="1" SizeT="1">'
            '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>'
            '<TiffData IFD="1" FirstZ="2" PlaneCount="1"/></Pixels></Image></OME>'
        )
        stack = make_stack(2, 20, 30)
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as writer:
            for n, plane in enumerate(stack):
                writer.write(plane, description=None if n else xml, metadata=None, contiguous=False)
        with pytest.warns(UserWarning, match="1 of 3 planes .* are missing"):
            frames = open_frames(tmp_path / "a.ome.tif")
        assert np.array_equal(frames.raw(2)[0], stack[1])
        assert not frames.raw(1).any()

    def test_tiles_and_pyramid_levels(self, tmp_path):
        stack = make_stack(3, 64, 96)
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
            options = {"tile": (32, 32), "compression": "zlib", "photometric": "minisblack"}
            writer.write(
                stack, subifds=1, metadata={"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeZ": 2}, **options
            )
            writer.write(stack[:, ::2, ::2], subfiletype=1, **options)
        fine, coarse = open_frames(tmp_path / "a.ome.tif"), open_frames(tmp_path / "a.ome.tif", level=1)
        assert np.array_equal(fine.raw(1)[0], stack[1])
        assert np.array_equal(coarse.raw(1)[0], stack[1, ::2, ::2])
        assert coarse.voxel_size == {"X": (0.2, "micrometer"), "Z": (2.0, "micrometer")}
        assert coarse.key != fine.key
        with pytest.raises(FrameError, match="it has 2, 0 is the finest"):
            open_frames(tmp_path / "a.ome.tif", level=2)

    def test_plain_pages_are_planes_along_z_unless_told(self, tmp_path):
        stack = make_stack(5, 20, 30)
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for plane in stack:
                writer.write(plane, contiguous=False, metadata=None)
        assert open_frames(tmp_path / "a.tif").axes == "ZYX"
        assert open_frames(tmp_path / "a.tif", axes="TYX").frame_axis == "T"
        with pytest.raises(FrameError, match=r"\(5, 20, 30\)"):
            open_frames(tmp_path / "a.tif", axes="TZYX")

    def test_imagej_voxel_size(self, tmp_path):
        metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um", "finterval": 2.0}
        tifffile.imwrite(tmp_path / "a.tif", make_stack(3, 20, 30), imagej=True, metadata=metadata, resolution=(10, 5))
        size = open_frames(tmp_path / "a.tif").voxel_size
        assert size == {"X": (0.1, "micrometer"), "Y": (0.2, "micrometer"), "Z": (0.5, "micrometer")}

    def test_dots_per_inch_are_no_voxel_size(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", make_stack(20, 30), resolution=(72, 72), resolutionunit="inch")
        assert open_frames(tmp_path / "a.tif").voxel_size is None

    def test_a_second_image_is_mentioned(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(make_stack(20, 30))
            writer.write(make_stack(9, 8))
        with pytest.warns(UserWarning, match="holds 2 images"):
            assert open_frames(tmp_path / "a.tif").shape == (1, 20, 30)

    def test_a_thumbnail_before_the_image_is_passed_over(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(make_stack(9, 8), subfiletype=1, metadata=None)
            writer.write(make_stack(20, 30), metadata=None)
        assert open_frames(tmp_path / "a.tif").shape == (1, 20, 30)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_memory_is_that_of_a_frame_not_of_the_stack(self, tmp_path, compression):
        stack = np.zeros((150, 256, 256), np.uint16)
        stack[:, ::3, ::5] = 7
        tifffile.imwrite(tmp_path / "a.tif", stack, compression=compression, photometric="minisblack")
        num_bytes = stack.nbytes
        del stack
        open_frames(tmp_path / "a.tif", contrast=(0, 9))[0]  # imports happen outside the measurement
        with measured_effort() as effort:
            frames = open_frames(tmp_path / "a.tif")
            for t in range(0, 150, 10):
                frames[t]
        peak = effort.peak_bytes
        assert peak < num_bytes / 2, f"{peak / 1e6:.1f} MB of {num_bytes / 1e6:.1f} MB"

    def test_threads_may_read_at_once(self, tmp_path):
        stack = make_stack(20, 64, 64)
        tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib", photometric="minisblack")
        frames = open_frames(tmp_path / "a.tif")
        wrong: list[int] = []

        def read(start: int) -> None:
            wrong.extend(
                t for t in range(start, 20, 2) for _ in range(5) if not np.array_equal(frames.raw(t)[0], stack[t])
            )

        threads = [threading.Thread(target=read, args=(n % 2,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_truncated_file_is_one_clear_line(self, tmp_path, compression):
        path = tmp_path / "a.tif"
        noise = np.random.default_rng(0).integers(0, 2**16, (20, 64, 64)).astype(np.uint16)
        tifffile.imwrite(path, noise, compression=compression, photometric="minisblack", metadata={"axes": "ZYX"})
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with warnings.catch_warnings(record=True) as told, pytest.raises(FrameError, match=r"a\.tif") as caught:
            warnings.simplefilter("always")
            open_frames(path)[19]
        assert "\n" not in str(caught.value)
        assert len(told) == (compression is None)

    def test_file_without_its_first_page_is_one_clear_line(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_bytes(b"II*\0not a tiff")
        with pytest.raises(FrameError, match=r"a\.tif is damaged or truncated: its first page is missing"):
            open_frames(path)

    def test_damaged_pixels_are_one_clear_line(self, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, make_stack(4, 64, 64), compression="zlib", photometric="minisblack")
        with tifffile.TiffFile(path) as tif:
            offset, count = tif.pages[2].dataoffsets[0], tif.pages[2].databytecounts[0]
        whole = bytearray(path.read_bytes())
        whole[offset : offset + count] = b"\x07" * count
        path.write_bytes(whole)
        frames = open_frames(path, contrast=(0, 255))
        assert frames[1].any()
        with pytest.raises(FrameError, match=r"frame 2 of .* cannot be read"):
            frames[2]


class TestZarr:
    @pytest.mark.parametrize("zarr_format", [2, 3], ids=["ngff-0.4", "ngff-0.5"])
    @pytest.mark.parametrize("axes", ["ZYX", "TCZYX", "CYX", "YX", "TZYX"])
    def test_ome_zarr(self, tmp_path, axes, zarr_format):
        sizes = {"T": 3, "C": 2, "Z": 4, "Y": 20, "X": 32}
        stack = make_stack(*(sizes[a] for a in axes))
        write_ngff(tmp_path / "a.zarr", [stack, stack[..., ::2, ::2]], axes, zarr_format=zarr_format)
        fixed = {"T": 2} if {"T", "Z"} <= set(axes) else None
        for level, expected in enumerate((stack, stack[..., ::2, ::2])):
            frames = open_frames(tmp_path / "a.zarr", level=level, fixed=fixed)
            assert frames.axes == axes
            view = expected[2] if fixed else expected
            view = np.moveaxis(view, axes.index("Z") - (fixed is not None), 0)[1] if "Z" in axes else view
            assert np.array_equal(frames.raw(1 if "Z" in axes else 0), view if "C" in axes else view[None])
            assert frames.voxel_size["X"] == (100.0 * 2**level, "nanometer")
            assert frames.voxel_size.get("Z", (0.5, "micrometer")) == (0.5, "micrometer")
            assert frames.voxel_size.get("T", (3.0, "second")) == (3.0, "second")
            assert "C" not in frames.voxel_size
        with pytest.raises(FrameError, match="has 2 level"):
            open_frames(tmp_path / "a.zarr", level=2, fixed=fixed)
        with pytest.raises(FrameError, match="has 2 level"):
            open_frames(tmp_path / "a.zarr", level=-1, fixed=fixed)

    def test_channels_in_ome_zarr_are_not_taken_for_colours(self, tmp_path):
        write_ngff(tmp_path / "a.zarr", [make_stack(3, 20, 32, dtype="uint8")], "CYX", zarr_format=3)
        assert open_frames(tmp_path / "a.zarr").contrast_limits[0] != (0, 255)

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_plain_array(self, tmp_path, zarr_format):
        stack = make_stack(5, 20, 30)
        array = zarr.create_array(str(tmp_path / "a"), shape=stack.shape, dtype="uint16", zarr_format=zarr_format)
        array[:] = stack
        for source in (tmp_path / "a", array):
            frames = open_frames(source)
            assert (frames.axes, frames.shape) == ("ZYX", (5, 20, 30))
            assert np.array_equal(frames.raw(3)[0], stack[3])
        with pytest.raises(FrameError, match="level 0 only"):
            open_frames(tmp_path / "a", level=1)

    def test_dimension_names_are_axes(self, tmp_path):
        names = ["t", "c", "y", "x"]
        zarr.create_array(str(tmp_path / "a"), shape=(5, 2, 20, 30), dtype="uint16", dimension_names=names)
        assert open_frames(tmp_path / "a").axes == "TCYX"

    def test_opened_group_is_a_source(self, tmp_path):
        write_ngff(tmp_path / "a.zarr", [make_stack(4, 20, 32)], "ZYX", zarr_format=3)
        assert open_frames(zarr.open_group(str(tmp_path / "a.zarr"), mode="r")).shape == (4, 20, 32)

    def test_group_with_one_array_is_opened_and_with_two_the_names_are_listed(self, tmp_path):
        group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
        group.create_array("left", shape=(4, 20, 30), dtype="uint8")
        assert open_frames(tmp_path / "a.zarr").shape == (4, 20, 30)
        group.create_array("right", shape=(4, 20, 30), dtype="uint8")
        with pytest.raises(FrameError, match="left, right"):
            open_frames(tmp_path / "a.zarr")

    def test_bioformats2raw_layout(self, tmp_path):
        zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2).attrs.put({"bioformats2raw.layout": 3})
        write_ngff(tmp_path / "a.zarr" / "0", [make_stack(4, 20, 32)], "ZYX", zarr_format=2)
        assert open_frames(tmp_path / "a.zarr").shape == (4, 20, 32)

    def test_only_the_chunks_of_a_frame_are_read(self, tmp_path):
        write_ngff(tmp_path / "a.zarr", [make_stack(20, 20, 32)], "ZYX", zarr_format=2)
        frames = open_frames(tmp_path / "a.zarr", contrast=(0, 200))
        for chunk in (tmp_path / "a.zarr" / "s0").glob("[0-9]*"):
            if not chunk.name.startswith("7"):
                chunk.write_bytes(b"broken") if chunk.is_file() else [
                    f.write_bytes(b"x") for f in chunk.rglob("*") if f.is_file()
                ]
        assert frames[7].any()
        with pytest.raises(FrameError, match=r"frame 8 of .* cannot be read"):
            frames[8]

    @pytest.mark.parametrize(
        "metadata",
        [
            "{",
            "[]",
            '{"multiscales": 3}',
            '{"multiscales": [{"datasets": [{"path": "nothing"}]}]}',
            '{"multiscales": [[]]}',
        ],
    )
    def test_damaged_metadata_is_one_clear_line(self, tmp_path, metadata):
        write_ngff(tmp_path / "a.zarr", [make_stack(4, 20, 32)], "ZYX", zarr_format=2)
        (tmp_path / "a.zarr" / ".zattrs").write_text(metadata)
        if metadata == '{"multiscales": 3}':  # reads as a group of one array
            assert open_frames(tmp_path / "a.zarr").axes == "ZYX"
            return
        with pytest.raises(FrameError, match=r"a\.zarr|metadata") as caught:
            open_frames(tmp_path / "a.zarr")
        assert "\n" not in str(caught.value)

    def test_axes_as_strings_and_no_axes(self, tmp_path):
        write_ngff(tmp_path / "a.zarr", [make_stack(2, 1, 4, 20, 32)], "TCZYX", zarr_format=2)
        attributes = json.loads((tmp_path / "a.zarr" / ".zattrs").read_text())
        for axes in (["t", "c", "z", "y", "x"], None):
            attributes["multiscales"][0]["axes"] = axes
            (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps(attributes))
            assert open_frames(tmp_path / "a.zarr", fixed={"T": 0}).axes == "TCZYX"


class TestPictures:
    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            ("1", ".png"), ("L", ".png"), ("LA", ".png"), ("P", ".png"), ("RGB", ".png"), ("RGBA", ".png"),
            ("I;16", ".png"), ("L", ".jpg"), ("RGB", ".jpg"), ("CMYK", ".jpg"), ("RGB", ".bmp"), ("P", ".gif"),
        ],
    )  # fmt: skip
    def test_modes(self, tmp_path, mode, suffix):
        grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (20, 1))
        picture = (
            Image.fromarray(grey.astype(np.uint16) * 100) if mode == "I;16" else Image.fromarray(grey).convert(mode)
        )
        picture.save(tmp_path / f"a{suffix}")
        frames = open_frames(tmp_path / f"a{suffix}")
        frame = frames[0]
        assert frame.shape == (20, 32, 3)
        assert frame[:, -1].mean() > frame[:, 0].mean() + 150
        assert frames.axes == ("YX" if mode in ("1", "L", "LA", "I;16") else "YXC")

    def test_palette_is_looked_up(self, tmp_path):
        picture = Image.new("P", (2, 1))
        picture.putpalette([10, 20, 30, 200, 100, 50])
        picture.putdata([0, 1])
        picture.save(tmp_path / "a.png")
        assert open_frames(tmp_path / "a.png")[0].tolist() == [[[10, 20, 30], [200, 100, 50]]]

    def test_sixteen_bits_are_kept(self, tmp_path):
        values = np.linspace(0, 60_000, 600).reshape(20, 30).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "a.png")
        assert np.array_equal(open_frames(tmp_path / "a.png").raw(0)[0], values)

    @pytest.mark.parametrize("samples", [2, 3, 4])
    def test_sixteen_bits_of_several_samples_are_kept(self, tmp_path, samples):
        import imagecodecs

        values = np.random.default_rng(0).integers(0, 60_000, (20, 30, samples)).astype(np.uint16)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
        expected = values[..., :1] if samples == 2 else values[..., :3]
        assert np.array_equal(open_frames(tmp_path / "a.png").raw(0), expected.transpose(2, 0, 1))

    def test_a_folder_of_pictures_with_sixteen_bits(self, tmp_path):
        import imagecodecs

        values = np.random.default_rng(0).integers(0, 60_000, (3, 20, 30, 2)).astype(np.uint16)
        for n, plane in enumerate(values):
            (tmp_path / f"{n}.png").write_bytes(imagecodecs.png_encode(plane))
        assert np.array_equal(open_frames(tmp_path).raw(2)[0], values[2, ..., 0])

    @pytest.mark.parametrize("suffix", [".jpg", ".tif"])
    def test_a_picture_marked_as_rotated_is_read_as_stored_with_a_warning(self, tmp_path, suffix):
        values = np.zeros((20, 30), np.uint8)
        values[:, :15] = 200
        exif = Image.Exif()
        exif[274] = 6
        if suffix == ".jpg":
            Image.fromarray(values).save(tmp_path / "a.jpg", exif=exif)
        else:
            tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(274, 3, 1, 6, True)], metadata=None)
        with pytest.warns(UserWarning, match="orientation 6"):
            frames = open_frames(tmp_path / f"a{suffix}")
        assert frames.shape == (1, 20, 30)

    def test_numpy_files(self, tmp_path):
        values = make_stack(20, 30)
        np.save(tmp_path / "a.npy", values)
        frames = open_frames(tmp_path / "a.npy")
        assert np.array_equal(np.stack([frames.raw(0)[0]]), values.reshape(1, 20, 30))
        np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(FrameError, match="cannot be read as an array"):
            open_frames(tmp_path / "b.npy")

    def test_animation_gives_its_first_picture_with_a_warning(self, tmp_path):
        pictures = [Image.new("L", (8, 8), v) for v in (50, 200)]
        pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
        with pytest.warns(UserWarning, match="holds 2 pictures"):
            open_frames(tmp_path / "a.gif")


class TestFolders:
    def test_images_come_in_natural_order(self, tmp_path):
        for n in (10, 9, 1, 2, 100):
            Image.fromarray(np.full((6, 7), n, np.uint8)).save(tmp_path / f"img{n}.png")
        (tmp_path / "notes.txt").write_text("not an image")
        (tmp_path / ".hidden.png").write_bytes(b"")
        frames = open_frames(tmp_path, axes="TYX")
        assert [int(frames.raw(t)[0, 0, 0]) for t in range(len(frames))] == [1, 2, 9, 10, 100]
        assert frames.frame_axis == "T"

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    def test_colour_images(self, tmp_path, suffix):
        for n in range(3):
            Image.new("RGB", (30, 20), (n * 50, 0, 99)).save(tmp_path / f"{n}{suffix}")
        frames = open_frames(tmp_path)
        assert (frames.axes, frames.shape) == ("ZYXC", (3, 20, 30))
        assert abs(int(frames[2][5, 5, 0]) - 100) < 4

    def test_stacks_become_time_points(self, tmp_path):
        stacks = make_stack(3, 4, 20, 30)
        for n, stack in enumerate(stacks):
            tifffile.imwrite(tmp_path / f"t{n}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
        frames = open_frames(tmp_path, fixed={"T": 2})
        assert frames.axes == "TZYX"
        assert np.array_equal(frames.raw(1)[0], stacks[2, 1])

    def test_image_of_another_size_is_named(self, tmp_path):
        for n, size in enumerate([(8, 8)] * 9 + [(8, 9)]):
            Image.new("L", size).save(tmp_path / f"{n}.png")
        with pytest.raises(FrameError, match=r"9\.png has shape \(9, 8\) and type uint8, but 0\.png has \(8, 8\)"):
            open_frames(tmp_path)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_image_of_another_type_is_named(self, tmp_path, suffix):
        for n, dtype in enumerate(["uint16", "uint16", "uint8", "uint16"]):
            image = Image.fromarray(make_stack(20, 30, dtype=dtype))
            image.save(tmp_path / f"{n}{suffix}")
        with pytest.raises(FrameError, match=rf"2\{suffix} has shape .* and type uint8"):
            open_frames(tmp_path)

    @pytest.mark.parametrize("other", ["preview.png", "t3.jpg", "1.bmp"])
    def test_an_image_of_another_format_is_named(self, tmp_path, other):
        for name in ("t0.tif", "t1.tiff", "t2.TIF", other):
            Image.new("L", (8, 9)).save(tmp_path / name, format=None if name == other else "TIFF")
        with pytest.raises(FrameError, match=rf"several formats, such as .*{other}.* move those that are no frames"):
            open_frames(tmp_path)

    def test_endings_of_one_format_are_one_stack(self, tmp_path):
        for name in ("0.jpg", "1.jpeg", "2.JPG"):
            Image.new("L", (8, 9)).save(tmp_path / name, format="JPEG")
        assert len(open_frames(tmp_path)) == 3

    def test_a_colour_among_grey_images_is_named(self, tmp_path):
        for n, mode in enumerate(["L", "L", "RGB"]):
            Image.new(mode, (8, 9)).save(tmp_path / f"{n}.png")
        with pytest.raises(FrameError, match=r"2\.png has shape \(9, 8, 3\)"):
            open_frames(tmp_path)

    def test_a_stack_among_planes_is_named(self, tmp_path):
        for n in range(3):
            tifffile.imwrite(tmp_path / f"{n}.tif", make_stack(*((4,) if n == 2 else ()), 20, 30))
        with pytest.raises(FrameError, match=r"2\.tif has shape \(4, 20, 30\)"):
            open_frames(tmp_path)

    @pytest.mark.parametrize("ending", ["_cp_masks", "_masks", "_mask", "_seg", "-labels"])
    def test_masks_beside_images_are_no_frames(self, tmp_path, ending):
        for n in range(4):
            tifffile.imwrite(tmp_path / f"t{n}.tif", make_stack(20, 30))
            tifffile.imwrite(tmp_path / f"t{n}{ending}.tif", make_stack(20, 30))
        with pytest.warns(UserWarning, match=f"4 files of .* are named like masks .* left out, such as t0{ending}"):
            assert len(open_frames(tmp_path)) == 4

    def test_a_folder_of_masks_alone_is_read(self, tmp_path):
        for n in range(4):
            tifffile.imwrite(tmp_path / f"t{n}_masks.tif", make_stack(20, 30))
        assert len(open_frames(tmp_path)) == 4

    def test_movies_are_positions(self, tmp_path):
        movies = make_stack(3, 4, 20, 30)
        for n, movie in enumerate(movies):
            tifffile.imwrite(tmp_path / f"p{n}.tif", movie, imagej=True, metadata={"axes": "TYX"})
        with pytest.warns(UserWarning, match="several positions"):
            assert (frames := open_frames(tmp_path)).axes == "PTYX"
        assert np.array_equal(frames.raw(1)[0], movies[0, 1])
        assert np.array_equal(open_frames(tmp_path, fixed={"P": 2}).raw(3)[0], movies[2, 3])

    def test_digits_of_other_scripts_are_no_numbers(self, tmp_path):
        for name in ("²1", "²2", "٣", "img２"):
            Image.new("L", (8, 9)).save(tmp_path / f"{name}.png")
        assert len(open_frames(tmp_path)) == 4

    def test_folder_without_images_is_an_error(self, tmp_path):
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(FrameError, match="holds no image"):
            open_frames(tmp_path)


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(FrameError, match="does not exist"):
            open_frames(tmp_path / "a.tif")

    def test_unknown_kind(self, tmp_path):
        (tmp_path / "a.docx").write_bytes(b"x")
        with pytest.raises(FrameError, match=r"\.docx.*expected \.tif"):
            open_frames(tmp_path / "a.docx")

    @pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".png", ".jpg"])
    @pytest.mark.parametrize(
        "content", [b"", b"not an image", b"II*\x00\xff\xff\xff\xff", b"\x89PNG\r\n\x1a\n" + b"x" * 40]
    )
    def test_corrupt(self, tmp_path, suffix, content):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(FrameError, match="a") as caught:
            open_frames(tmp_path / f"a{suffix}")
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)

    def test_truncated_png(self, tmp_path):
        Image.fromarray(make_stack(50, 60, dtype="uint8")).save(tmp_path / "a.png")
        whole = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FrameError, match="cannot be read as an image"):
            open_frames(tmp_path / "a.png")

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", make_stack(20, 30))
        (tmp_path / "a.tif").chmod(0)
        with pytest.raises(FrameError, match=r"cannot be read .permission denied.; change its permissions"):
            open_frames(tmp_path / "a.tif")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".gif"])
    def test_pipes_and_devices_are_refused(self, tmp_path, suffix):
        os.mkfifo(tmp_path / f"pipe{suffix}")
        (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
        for name in ("pipe", "zero"):
            with pytest.raises(FrameError, match="not a regular file"):
                open_frames(tmp_path / f"{name}{suffix}")
        with pytest.raises(FrameError, match="not a regular file"):
            open_frames(tmp_path)

    @pytest.mark.parametrize("name", ["a" * 5000, "a\0.tif"], ids=["long", "null"])
    def test_names_that_no_file_can_have(self, name):
        with pytest.raises(FrameError, match=r"is not a valid file name|does not exist"):
            open_frames(name)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_no_level_but_the_first(self, tmp_path, suffix):
        Image.new("L", (8, 8)).save(tmp_path / f"a{suffix}")
        with pytest.raises(FrameError, match="level 3"):
            open_frames(tmp_path / f"a{suffix}", level=3)


def test_key_follows_the_file(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make_stack(5, 20, 30))
    key = open_frames(path).key
    assert open_frames(str(path)).key == key
    assert open_frames(path, contrast=(0, 5)).key != key
    os.utime(path, ns=(1, 1))
    assert open_frames(path).key != key


@pytest.mark.parametrize(
    ("text", "name"),
    [("µm", "micrometer"), ("μm", "micrometer"), ("um", "micrometer"), ("micron", "micrometer"), ("nm", "nanometer"),
     ("Å", "angstrom"), ("\\u00B5m", "micrometer"), ("Micrometers", "micrometer"), ("micrometre", "micrometer"),
     ("Âµm", "micrometer"), ("Î¼m", "micrometer"), ("\ufffdm", "micrometer"), ("Âµs", "microsecond"),
     ("s", "second"),      ("sec", "second"), ("min", "minute"), ("pixel", ""), (None, ""), ("furlong", "furlong")],
)  # fmt: skip
def test_units_have_one_name(text, name):
    assert unit_name(text) == name
    assert unit_name(unit_symbol(name)) in (name, "")


def test_units_convert_only_within_a_kind():
    assert convert((500.0, "nanometer"), "micrometer") == pytest.approx(0.5)
    assert convert((2.0, "minute"), "second") == pytest.approx(120)
    assert convert((2.0, "minute"), "micrometer") is None
    assert convert((2.0, ""), "") == 2


def test_translations_of_a_level_and_of_the_image_add_up(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=(4, 8, 8), dtype="uint8")
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    of_level = [{"type": "scale", "scale": [2, 0.5, 0.5]}, {"type": "translation", "translation": [1, 0.25, 0]}]
    of_image = [{"type": "scale", "scale": [2, 2, 2]}, {"type": "translation", "translation": [0, 10, 0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": of_level}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{**image, "coordinateTransformations": of_image}]}
    frames = open_frames(tmp_path / "a.zarr", contrast=(0, 1))
    assert frames.voxel_size["Z"] == (4.0, "micrometer")
    assert frames.translation == {"Z": 2.0, "Y": 10.5}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("target", ["a.tif", "none.tif"], ids=["itself", "nothing"])
def test_a_link_that_leads_nowhere_is_said_to_be_a_link(target: str, tmp_path: Path):
    (tmp_path / "a.tif").symlink_to(target)
    with pytest.raises(FrameError, match=f"a.tif is a link to {target}, which does not exist"):
        open_frames(tmp_path / "a.tif")
