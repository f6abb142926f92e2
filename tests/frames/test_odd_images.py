"""Images that few programs write: odd orders of axes, types, strides, tags and names are read right, or refused."""

from __future__ import annotations

import json
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from scipy import sparse
from tests.effort import measured_effort

from napari_sam2 import FrameError, open_frames
from napari_sam2.cli import main
from napari_sam2.labels.reading import read_labels

STACK = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30)).astype(np.uint16)
"""T, C, Z, Y, X."""
VOLUME = STACK[0, 0]


def pixels(frames) -> np.ndarray:
    """(T, H, W) of the first channel."""
    return np.stack([frames.raw(t)[0] for t in range(len(frames))])


@pytest.mark.parametrize("order", ["ZYX", "ZXY", "XYZ", "XZY", "YXZ", "YZX"])
def test_any_order_of_three_axes(order):
    array = np.transpose(VOLUME, ["ZYX".index(axis) for axis in order])
    assert np.array_equal(pixels(open_frames(array, axes=order)), VOLUME)


@pytest.mark.parametrize("order", ["CXYT", "TCYX", "YXTC", "XYCT", "CTXY"])
def test_any_order_with_channels(order):
    array = np.transpose(STACK[:, :, 0], ["TCYX".index(axis) for axis in order])
    frames = open_frames(array, axes=order)
    assert all(np.array_equal(frames.raw(t), STACK[t, :, 0]) for t in range(2))


@pytest.mark.parametrize("order", ["TCZYX", "CTZYX", "ZTCYX", "TZCYX", "CZTYX"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_any_order_in_ome_xml(tmp_path, order, byteorder):
    array = np.transpose(STACK, ["TCZYX".index(axis) for axis in order])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, array, ome=True, byteorder=byteorder, photometric="minisblack", metadata={"axes": order})
    frames = open_frames(path, fixed={"T": 1})
    assert all(np.array_equal(frames.raw(z), STACK[1, :, z]) for z in range(4))


@pytest.mark.parametrize("turn", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[::2, ::3, ::-2]])
def test_strides_of_any_sign(turn):
    assert np.array_equal(pixels(open_frames(VOLUME[turn], axes="ZYX")), VOLUME[turn])


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint64", "int8", "bool", "f8"])
def test_types_in_zarr_and_tiff(tmp_path, dtype):
    values = VOLUME > 2000 if dtype == "bool" else (VOLUME // 40).astype(dtype)
    zarr.save_array(tmp_path / "a.zarr", values)
    assert np.array_equal(pixels(open_frames(tmp_path / "a.zarr")), values)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    assert np.array_equal(pixels(open_frames(tmp_path / "a.tif")), values)


@pytest.mark.parametrize("dtype", [complex, object, "U1", "M8[s]", [("a", "u1")]], ids=str)
def test_types_that_are_no_intensities(dtype):
    with pytest.raises(FrameError, match="expected booleans, integers or floats"):
        open_frames(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zarr_2_with_any_separator_and_order(tmp_path, separator, order):
    array = zarr.create_array(tmp_path / "a.zarr", shape=VOLUME.shape, chunks=(1, 16, 16), dtype="uint16", order=order,
                              zarr_format=2, chunk_key_encoding={"name": "v2", "separator": separator})  # fmt: skip
    array[:] = VOLUME
    assert np.array_equal(pixels(open_frames(tmp_path / "a.zarr")), VOLUME)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (5, 1, 30), (5, 30, 1), (1, 2, 1, 1, 5)])
def test_axes_of_one_pixel(tmp_path, shape):
    axes = "TCZYX"[-len(shape) :]
    tifffile.imwrite(tmp_path / "a.ome.tif", np.ones(shape, np.uint8), ome=True, photometric="minisblack",
                     metadata={"axes": axes})  # fmt: skip
    assert open_frames(tmp_path / "a.ome.tif").shape[1:] == shape[-2:]
    assert open_frames(np.ones(shape, np.uint8), axes=axes).shape[1:] == shape[-2:]


def test_an_imagej_stack_of_five_gigabytes_has_one_directory(tmp_path):
    side, count, path = 2048, 600, tmp_path / "a.tif"
    text = f"ImageJ=1.53t\nimages={count}\nslices={count}\nloop=false\n\0".encode()
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
            (270, 2, len(text), 8 + 2 + 10 * 12 + 4), (273, 4, 1, 8 + 2 + 10 * 12 + 4 + len(text)),
            (277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, side * side * 2)]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    begin = b"II*\0" + struct.pack("<I", 8) + directory + text
    with path.open("wb") as file:
        file.write(begin)
        file.seek(len(begin) + (count - 1) * side * side * 2)
        file.write(np.full(side * side, 7, np.uint16).tobytes())
    frames = open_frames(path, contrast=(0, 10))
    assert frames.shape == (count, side, side)
    assert (frames.raw(0).max(), frames.raw(count - 1).min()) == (0, 7)


@pytest.mark.parametrize("noted", [{"PixelSizeUm": 0.325}, {"PixelSizeUm": 0, "x": "y"}, "not JSON"], ids=str)
def test_pixel_size_of_a_plane_of_micro_manager(tmp_path, noted):
    text = noted if isinstance(noted, str) else json.dumps(noted)
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0], metadata=None, extratags=[(51123, 2, 0, text, True)])
    size = open_frames(tmp_path / "a.tif").voxel_size
    assert size == (dict.fromkeys("XY", (0.325, "micrometer")) if "0.325" in text else None)


@pytest.mark.parametrize(
    "name", ["spaces  ü é.tif", "日本.tif", "a%20b#c.tif", "UPPER.TIF", "[1] {2}.tif", "'quoted'.tif"]
)
def test_names(tmp_path, name):
    tifffile.imwrite(tmp_path / name, VOLUME, photometric="minisblack")
    assert np.array_equal(pixels(open_frames(tmp_path / name)), VOLUME)


def test_links(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack")
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    assert np.array_equal(pixels(open_frames(tmp_path / "b.tif")), VOLUME)


def test_a_folder_of_thousands_of_files(tmp_path):
    tifffile.imwrite(tmp_path / "0000.tif", VOLUME[0])
    for number in range(1, 2000):
        os.link(tmp_path / "0000.tif", tmp_path / f"{number:04d}.tif")
    with measured_effort() as effort:
        assert len(open_frames(tmp_path, contrast=(0, 10))) == 2000
    assert effort.calls < 5_000 * 2_000  # about 2,000 for each file, however many there are


@pytest.mark.parametrize(("name", "content"), [("a.tif", b"\x89PNG\r\n\x1a\n"), ("a.png", b"II*\0\x08\0\0\0")], ids=str)
def test_a_wrong_suffix(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError, match="cannot be read as"):
        open_frames(tmp_path / name)


def test_what_tifffile_logs_about_odd_tags_is_no_line_of_a_command(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0], metadata=None, extratags=[(51123, 2, 0, "{}", True)])
    with pytest.raises(SystemExit) as ended:
        main(["segment", str(tmp_path / "a.tif"), "--point", "900,900", "-o", str(tmp_path / "b.tif")])
    assert ended.value.code == 3
    assert len(capfd.readouterr().err.strip().splitlines()) == 1


OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{uuid}">{content}</OME>'
PLANE = '<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="m{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
PIXELS = (
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="4" '
    'SizeC="1" SizeT="1" PhysicalSizeX="0.2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    + "".join(PLANE.format(z=z) for z in range(4))
    + "</Pixels></Image>"
)


def write_planes(folder, content: str) -> None:
    """One OME-TIFF for each plane of the volume."""
    for z, plane in enumerate(VOLUME):
        text = OME.format(uuid=z, content=content)
        tifffile.imwrite(folder / f"m{z}.ome.tif", plane, description=text, metadata=None, photometric="minisblack")


def write_positions(folder, stacks) -> None:
    """One OME-TIFF for each position of a stage, all of which list the planes of all, as Micro-Manager writes them."""
    images = ""
    for p, stack in enumerate(stacks):
        planes = "".join(
            f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1">'
            f'<UUID FileName="Pos{p}.ome.tif">urn:uuid:{p}</UUID></TiffData>'
            for z in range(len(stack))
        )
        images += (
            f'<Image ID="Image:{p}" Name="Pos{p}"><Pixels ID="Pixels:{p}" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="30" SizeY="20" SizeZ="{len(stack)}" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:{p}:0" SamplesPerPixel="1"/>{planes}</Pixels></Image>'
        )
    for p, stack in enumerate(stacks):
        text = OME.format(uuid=p, content=images) + " " * 100 * p  # the pixels begin at a different place in each file
        tifffile.imwrite(folder / f"Pos{p}.ome.tif", stack, description=text, metadata=None, photometric="minisblack")


class TestOneImageInSeveralFiles:
    @pytest.mark.parametrize("opened", ["m0.ome.tif", "m2.ome.tif", ""])
    def test_each_file_and_the_folder_open_as_the_whole_image(self, tmp_path, opened):
        write_planes(tmp_path, PIXELS)
        frames = open_frames(tmp_path / opened)
        assert np.array_equal(pixels(frames), VOLUME)
        assert frames.frame_axis == "Z"

    @pytest.mark.parametrize(
        ("sizes", "stacks"), [((2, 2, 2), (VOLUME[:2], VOLUME[1:3], VOLUME[2:])), ((1, 3), (VOLUME[:1], VOLUME[1:]))]
    )
    def test_a_file_of_one_position_opens_as_this_position(self, tmp_path, sizes, stacks):
        write_positions(tmp_path, stacks)
        are_alike = len(set(sizes)) == 1
        for p, stack in enumerate(stacks):
            frames = open_frames(tmp_path / f"Pos{p}.ome.tif", axes=None)
            assert np.array_equal(pixels(frames), stack)
            assert frames.fixed == ({"P": p} if are_alike else {})
        if are_alike:
            frames = open_frames(tmp_path / "Pos1.ome.tif", fixed={"P": 2})
            assert np.array_equal(pixels(frames), stacks[2])
        with pytest.warns(UserWarning, match="several positions" if are_alike else f"holds {len(sizes)} images"):
            assert np.array_equal(pixels(open_frames(tmp_path)), stacks[0])

    def test_a_folder_with_another_image_is_refused(self, tmp_path):
        write_planes(tmp_path, PIXELS)
        tifffile.imwrite(tmp_path / "other.tif", VOLUME[0])
        with pytest.raises(FrameError, match=r"m0\.ome\.tif .* one of 4 files .* other\.tif does not belong"):
            open_frames(tmp_path)

    @pytest.mark.parametrize("opened", ["m1.ome.tif", "cells.companion.ome", ""])
    def test_a_companion_file_says_what_belongs_together(self, tmp_path, opened):
        write_planes(tmp_path, '<BinaryOnly MetadataFile="cells.companion.ome" UUID="urn:uuid:9"/>')
        (tmp_path / "cells.companion.ome").write_text(OME.format(uuid=9, content=PIXELS))
        frames = open_frames(tmp_path / opened)
        assert np.array_equal(pixels(frames), VOLUME)
        assert frames.voxel_size["X"] == (0.2, "micrometer")

    def test_a_missing_companion_file_is_named(self, tmp_path):
        write_planes(tmp_path, '<BinaryOnly MetadataFile="cells.companion.ome" UUID="urn:uuid:9"/>')
        with pytest.warns(UserWarning, match=r"cells\.companion\.ome describes, which is not beside it"):
            frames = open_frames(tmp_path / "m1.ome.tif")
        assert np.array_equal(pixels(frames), VOLUME[1:2])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            pytest.param(OME.format(uuid=9, content=PIXELS), "none of its 4 files is there, such as m0", id="alone"),
            pytest.param(OME.format(uuid=9, content=""), "lists no files of an OME-TIFF; export", id="no-image"),
            pytest.param("<OME", "cannot be read", id="cut"),
        ],
    )
    def test_a_companion_file_without_its_images_is_refused(self, tmp_path, text, words):
        (tmp_path / "cells.companion.ome").write_text(text)
        with pytest.raises(FrameError, match=words):
            open_frames(tmp_path / "cells.companion.ome")

    def test_a_damaged_companion_file_is_told_once(self, tmp_path):
        (tmp_path / "cells.companion.ome").write_text("abc")
        with pytest.raises(FrameError, match=r"^the OME-XML of .* cannot be read \(syntax error[^()]*\); export"):
            open_frames(tmp_path / "cells.companion.ome")

    def test_a_companion_file_elsewhere_is_refused(self, tmp_path):
        write_planes(tmp_path, '<BinaryOnly MetadataFile="../../etc/passwd" UUID="urn:uuid:9"/>')
        with pytest.raises(FrameError, match="expected files in the same folder"):
            open_frames(tmp_path / "m1.ome.tif")


def test_a_folder_with_an_image_in_two_formats_is_refused(tmp_path):
    for suffix in (".tif", ".tiff"):
        tifffile.imwrite(tmp_path / f"a0{suffix}", VOLUME[0])
    with pytest.raises(FrameError, match=r"a0\.tif and a0\.tiff, which differ in their ending or in"):
        open_frames(tmp_path)


@pytest.mark.parametrize("suffix", [".svs", ".scn", ".qptiff"])
def test_pyramids_of_slide_scanners_are_tiff(tmp_path, suffix):
    image = np.tile(VOLUME[0], (4, 3))
    path = tmp_path / f"slide{suffix}"
    with tifffile.TiffWriter(path) as file:
        file.write(image, subifds=1, tile=(16, 16))
        file.write(image[::2, ::2], subfiletype=1, tile=(16, 16))
    assert np.array_equal(open_frames(path).raw(0)[0], image)
    assert np.array_equal(open_frames(path, level=1).raw(0)[0], image[::2, ::2])


def test_values_that_are_no_intensities_are_read_with_a_warning(tmp_path):
    colours = (VOLUME[:, :, :4] % 256).astype(np.uint8)[0]
    tifffile.imwrite(tmp_path / "inks.tif", np.stack([colours] * 4, -1), photometric="separated")
    with pytest.warns(UserWarning, match="CMYK inks, which are read as channels"):
        open_frames(tmp_path / "inks.tif", channels=0)


def write_palette(path: Path, indices: np.ndarray, table: np.ndarray, **options: Any) -> None:
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, : len(table)] = table.T
    tifffile.imwrite(path, indices, photometric="palette", colormap=colormap, **options)


INDICES = (VOLUME % 256).astype(np.uint8)
COLOURS = np.random.default_rng(0).integers(0, 256, (256, 3))
RAMP = np.arange(256)


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "tile": (16, 16)}, {"metadata": {"axes": "TYX"}}],
    ids=["plain", "tiles", "axes"],
)
@pytest.mark.parametrize("factor", [1, 257], ids=["8 bits", "16 bits"])
def test_colours_of_a_palette_are_looked_up_and_its_indices_are_the_labels(tmp_path, recwarn, options, factor):
    write_palette(tmp_path / "palette.tif", INDICES, COLOURS * factor, **options)
    frames = open_frames(tmp_path / "palette.tif")
    assert frames.axes[1:] == "YXC"
    assert frames.shape == INDICES.shape
    for frame in (0, 2):
        assert np.array_equal(frames[frame], COLOURS[INDICES[frame]])
    part = (slice(3, 9), slice(5, 20))
    assert np.array_equal(frames.region(1, *part), COLOURS[INDICES[1]][part])
    assert np.array_equal(read_labels(tmp_path / "palette.tif"), INDICES)
    assert not recwarn


def test_greys_of_a_palette_are_looked_up(tmp_path):
    inverted = np.repeat(255 - RAMP[:, None], 3, 1)
    write_palette(tmp_path / "grey.tif", INDICES[0], inverted * 257)
    frames = open_frames(tmp_path / "grey.tif")
    assert frames.axes == "YX"
    assert np.array_equal(frames.raw(0)[0], 255 - INDICES[0])
    assert np.array_equal(read_labels(tmp_path / "grey.tif"), INDICES[0])


def test_pages_with_palettes_of_their_own_have_their_colours(tmp_path):
    tables = [COLOURS, COLOURS[::-1]]
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for indices, table in zip(INDICES[:2], tables, strict=True):
            colormap = (table.T * 257).astype(np.uint16)
            file.write(indices, photometric="palette", colormap=colormap, metadata=None, contiguous=False)
    frames = open_frames(tmp_path / "pages.tif")
    for frame in (0, 1):
        assert np.array_equal(frames[frame], tables[frame][INDICES[frame]])


def test_palettes_of_channels_are_told(tmp_path):
    write_palette(tmp_path / "channels.tif", INDICES[:2], COLOURS * 257, metadata={"axes": "CYX"})
    with pytest.warns(UserWarning, match="palettes that are not read; their indices are read as intensities"):
        assert np.array_equal(open_frames(tmp_path / "channels.tif").raw(0), INDICES[:2])


SCALES = {
    "grey": np.stack([RAMP] * 3, 1),
    "green": np.stack([0 * RAMP, RAMP, 0 * RAMP], 1),
    "rainbow": np.stack([np.clip(383 - abs(4 * RAMP - 4 * centre), 0, 255) for centre in (192, 128, 64)], 1),
    "HiLo": np.concatenate([[[0, 0, 255]], np.stack([RAMP] * 3, 1)[1:-1], [[255, 0, 0]]]),
}


@pytest.mark.parametrize("name", SCALES)
def test_indices_of_a_palette_that_is_a_scale_are_intensities(tmp_path, recwarn, name):
    write_palette(tmp_path / "scale.tif", INDICES[0], SCALES[name] * 257)
    assert np.array_equal(open_frames(tmp_path / "scale.tif").raw(0)[0], INDICES[0])
    assert not recwarn


def test_a_palette_that_is_a_scale_of_intensities_needs_no_warning(tmp_path, recwarn):
    scale = np.stack([np.arange(256) * 257, np.arange(256) ** 2, np.zeros(256)]).astype(np.uint16)
    values = (VOLUME[0] % 256).astype(np.uint8)
    tifffile.imwrite(tmp_path / "fire.tif", values, photometric="palette", colormap=scale)
    assert np.array_equal(open_frames(tmp_path / "fire.tif").raw(0)[0], values)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.h5", "is an HDF5 file, which is not read; export it as OME-TIFF or OME-Zarr, or pass a dataset"),
        ("a.NII.GZ", "is a NIfTI file.*axes='XYZ'"),
        ("a.tif.gz", "is an archive, which is not read; unpack it"),
        ("a.npz", "save one array as .npy"),
        ("a.zarr.zip", "cannot be read as a zip file"),
        ("a.zip", "is an archive, which is not read; unpack it"),
        ("a.dcm", "is a DICOM file"),
        ("a.svg", "is a drawing"),
        ("a.ics", "is a file of a microscope, which is not read; export it as OME-TIFF"),
        ("a.webm", "is a video, which is not read; save it as MP4"),
        ("a.geojson", "give it as labels"),
        ("a.xyz", r"is of an unknown kind \(.xyz\); expected"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(FrameError, match=words):
        open_frames(tmp_path / name)


def test_folders_of_other_kinds_are_named(tmp_path):
    (tmp_path / "a.n5").mkdir()
    with pytest.raises(FrameError, match="is N5, which is not read"):
        open_frames(tmp_path / "a.n5")
    for name in ("b10.zarr", "b2.zarr"):
        zarr.save_array(tmp_path / name, VOLUME)
    with pytest.raises(FrameError, match=r"holds no image but the zarr folders b2\.zarr, b10\.zarr; open one of these"):
        open_frames(tmp_path)
    with pytest.raises(FrameError, match=r"is a file within a zarr; give its folder, .*b2\.zarr$"):
        open_frames(tmp_path / "b2.zarr" / "zarr.json")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tif", b"\x89PNG\r\n", r"cannot be read as a TIFF: it is a PNG; give it the ending \.png"),
        ("a.png", b"II*\0\x08\0\0\0", r"cannot be read as an image: it is a TIFF; give it the ending \.tif"),
        ("a.npy", b"\x89HDF\r\n\x1a\n", "cannot be read as an array: it is an HDF5 file; export it"),
        ("a.tif", b"", "it is empty; copy or download it again"),
        ("a.jpg", bytes(100), "it begins with zeros, like a file that was copied incompletely"),
        ("a.tif", b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer; fetch the file itself"),
        ("a.tif", b"\n<!DOCTYPE HTML><html>", "it is a web page; download the file itself"),
        ("a.tif", b"II*\0\x08\0\0\0", "its first page is missing; copy the file again"),
        ("a.tif", b"?", r"cannot be read as a TIFF \("),
    ],
    ids=["PNG", "TIFF", "HDF5", "empty", "zeros", "pointer", "web page", "damaged", "unknown"],
)
def test_what_a_file_with_a_wrong_ending_holds_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError, match=words):
        open_frames(tmp_path / name)


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("nowhere"), os.mkfifo], ids=["link", "pipe"])
def test_a_link_to_nothing_among_the_planes_of_a_folder_is_refused(tmp_path, make):
    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", VOLUME[number])
    make(tmp_path / "3.tif")
    with pytest.raises(FrameError, match=r"3\.tif is not a regular file"):
        open_frames(tmp_path)


def test_bitmaps_are_pictures(tmp_path):
    mask = VOLUME[0] > np.median(VOLUME[0])
    Image.fromarray(mask).save(tmp_path / "a.pbm")
    assert np.array_equal(open_frames(tmp_path / "a.pbm").raw(0)[0], mask)


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [((3, 20, 30), "CYX", "axes='ZYX' or 'TYX'"), ((2, 3, 20, 30), "ZCYX", "3 planes of each .* give axes='TZYX'")],
)
def test_planes_that_may_be_no_colours_are_told(tmp_path, shape, axes, words):
    values = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate")
    with pytest.warns(UserWarning, match=words):
        assert open_frames(tmp_path / "a.tif").axes == axes
    given = "TZYX"[-len(shape) :]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_frames(tmp_path / "a.tif", axes=given, frame_axis="Z", fixed={"T": 1} if "T" in given else None)


def test_a_sparse_array_is_refused_with_the_way_to_make_it_dense():
    with pytest.raises(FrameError, match=r"a sparse array of shape \(24, 32\) was given; give array.toarray"):
        open_frames(sparse.csr_matrix(np.eye(24, 32)))
