"""TIFF files as microscopes, ImageJ and other programs write them: compressions, distances, colours, damage, parts."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.effort import measured_effort
from tests.ome_files import save_positions_in_files

from napari_sam2._errors import FrameError
from napari_sam2.frames import open_frames
from napari_sam2.frames.files import open_path


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def read_all(path: Path, **options: object) -> np.ndarray:
    """(T, C, H, W) values."""
    frames = open_frames(path, **options)
    return np.stack([frames.raw(t) for t in range(len(frames))])


class TestCompressions:
    @pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "jpeg2000", "jpegxl", "lerc"])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_values_are_those_written(self, tmp_path, compression, dtype, byteorder):
        if dtype == "float32" and compression == "jpeg2000":
            pytest.skip("JPEG 2000 holds integers only")
        if byteorder == ">" and compression in ("jpeg2000", "jpegxl", "lerc"):
            pytest.skip("tifffile writes these in the byte order of the machine only")
        stack = noise(3, 40, 56, dtype=dtype)
        options = {"compressionargs": {"lossless": True}} if compression == "jpegxl" else {}
        tifffile.imwrite(
            tmp_path / "a.tif", stack, compression=compression, byteorder=byteorder, photometric="minisblack", **options
        )
        np.testing.assert_array_equal(read_all(tmp_path / "a.tif")[:, 0], stack)

    @pytest.mark.parametrize("compression", ["lzw", "zlib"])
    @pytest.mark.parametrize("dtype", ["uint16", "float64"])
    def test_predictors_in_tiles(self, tmp_path, compression, dtype):
        stack = noise(3, 70, 90, dtype=dtype)
        tifffile.imwrite(
            tmp_path / "a.tif", stack, compression=compression, predictor=True, tile=(32, 32), photometric="minisblack"
        )
        np.testing.assert_array_equal(read_all(tmp_path / "a.tif")[:, 0], stack)

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_colours(self, tmp_path, planar):
        picture = noise(40, 56, 3, dtype="uint8")
        data = picture if planar == "contig" else np.moveaxis(picture, -1, 0)
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, compression="lzw")
        np.testing.assert_array_equal(open_frames(tmp_path / "a.tif")[0], picture)

    def test_effort_grows_with_the_number_of_pages(self, tmp_path):
        def calls(count: int) -> int:
            pages = [Image.fromarray(np.full((32, 32), k % 200, np.uint8)) for k in range(count)]
            path = tmp_path / f"{count}.tif"
            pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
            frames = open_frames(path, contrast=(0, 255))
            frames[0]
            with measured_effort() as effort:
                for t in range(count):
                    frames.raw(t)
            return effort.calls

        assert calls(400) < 5 * calls(100)


class TestParts:
    """A part of a large page decodes only the strips or tiles that it touches."""

    @pytest.mark.parametrize("samples", [1, 3])
    @pytest.mark.parametrize("layout", [{"tile": (256, 256)}, {"rowsperstrip": 100}])
    @pytest.mark.parametrize("compression", ["zlib", "jpeg"])
    def test_equal_the_whole(self, tmp_path, layout, compression, samples):
        h, w = 3100, 4000
        y, x = np.mgrid[:h, :w]
        plane = (y // 7 + x // 5).astype(np.uint16 if compression == "zlib" else np.uint8)
        picture = plane if samples == 1 else np.stack([plane, plane // 2, 255 - plane], axis=-1)
        if compression == "jpeg" and samples == 1:
            pytest.skip("below the size at which parts are decoded")
        tifffile.imwrite(
            tmp_path / "a.tif",
            picture,
            compression=compression,
            photometric="minisblack" if samples == 1 else "rgb",
            **layout,
        )
        frames = open_frames(tmp_path / "a.tif", contrast=(0, 1500))
        whole = frames[0]
        for rows, columns in (
            (slice(0, 300), slice(0, 300)),
            (slice(90, 701), slice(3500, 4000)),
            (slice(3050, 3100), slice(255, 257)),
        ):
            np.testing.assert_array_equal(frames.region(0, rows, columns), whole[rows, columns])

    def test_rows_of_an_uncompressed_plane(self, tmp_path):
        stack = noise(3, 40, 56)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        frames = open_frames(tmp_path / "a.tif", contrast=(0, 255))
        np.testing.assert_array_equal(frames.region(1, slice(7, 20), slice(3, 9))[..., 0], stack[1, 7:20, 3:9])


class TestDistances:
    stack = np.arange(5 * 24 * 32, dtype=np.uint16).reshape(5, 24, 32)

    def imagej(self, folder: Path, text: str, **options: object) -> Path:
        path = folder / "a.tif"
        head = "ImageJ=1.54f\nimages=5\nslices=5\n"
        options = {"resolution": (10, 10), **options}
        tifffile.imwrite(path, self.stack, description=head + text, metadata=None, photometric="minisblack", **options)
        return path

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("unit=micron\nspacing=0.5\n", (0.5, "micrometer"), id="plain"),
            pytest.param("unit=micron\nspacing=0,5\n", (0.5, "micrometer"), id="decimal-comma"),
            pytest.param("unit=micron\nspacing=-0.5\n", (0.5, "micrometer"), id="downwards"),
            pytest.param("unit=micron\nzunit=nm\nspacing=300\n", (300.0, "nanometer"), id="own-unit"),
            pytest.param("unit=micron\nspacing=null\n", None, id="null"),
            pytest.param("unit=micron\nspacing=\n", None, id="empty"),
            pytest.param("unit=micron\nspacing=0\n", None, id="zero"),
        ],
    )
    def test_imagej(self, tmp_path, text, expected):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frames = open_frames(self.imagej(tmp_path, text))
        assert frames.shape == (5, 24, 32)
        assert frames.voxel_size.get("Z") == expected
        assert frames.voxel_size["X"] == (0.1, "micrometer")

    @pytest.mark.parametrize("given", ["Infinity", "nan", "-inf", "about 3", "1,234.5"])
    def test_an_odd_number_is_an_unknown_distance(self, tmp_path, given):
        with pytest.warns(UserWarning, match=r"the distance along Z of .*a\.tif is not known"):
            frames = open_frames(self.imagej(tmp_path, f"unit=micron\nspacing={given}\n"))
        assert set(frames.voxel_size) == {"X", "Y"}

    @pytest.mark.parametrize("given", ["INF", "NaN", "-0.5", "x"])
    def test_in_ome_xml_too(self, tmp_path, given):
        metadata = {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 7.125}
        tifffile.imwrite(tmp_path / "a.ome.tif", self.stack, metadata=metadata)
        data = (tmp_path / "a.ome.tif").read_bytes()
        (tmp_path / "a.ome.tif").write_bytes(data.replace(b'"7.125"', f'"{given:<5}"'.encode()))
        with pytest.warns(UserWarning, match="distance along Z"):
            frames = open_frames(tmp_path / "a.ome.tif")
        assert frames.voxel_size == {"X": (0.1, "micrometer"), "Y": (0.1, "micrometer")}

    @pytest.mark.parametrize(
        ("resolution", "unit", "expected"),
        [
            pytest.param(20_000, "CENTIMETER", 0.5, id="centimetre"),
            pytest.param(25_400, "INCH", 1.0, id="inch"),
            pytest.param(300, "INCH", None, id="print"),
            pytest.param(118.11, "CENTIMETER", None, id="300-dpi-in-cm"),
            pytest.param(1, "CENTIMETER", None, id="unset"),
            pytest.param(20_000, "NONE", None, id="no-unit"),
        ],
    )
    def test_resolution_tags_of_a_plain_tiff(self, tmp_path, resolution, unit, expected):
        tifffile.imwrite(
            tmp_path / "a.tif",
            self.stack[0],
            metadata=None,
            photometric="minisblack",
            resolution=(resolution, resolution),
            resolutionunit=unit,
        )
        size = open_frames(tmp_path / "a.tif").voxel_size
        if expected is None:
            assert size is None
        else:
            assert size["X"] == size["Y"] == (pytest.approx(expected), "micrometer")


class TestColours:
    def test_four_channels_at_the_end_are_channels(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise(5, 24, 32, 4), metadata={"axes": "TYXC"}, photometric="minisblack")
        with pytest.warns(UserWarning, match="4 channels; the first three"):
            frames = open_frames(tmp_path / "a.tif")
        assert len(set(frames.contrast_limits)) > 1 or frames.channels == (0, 1, 2)
        np.testing.assert_array_equal(
            open_frames(tmp_path / "a.tif", channels=3).raw(2)[0], noise(5, 24, 32, 4)[2, ..., 3]
        )

    def test_samples_of_a_grey_image_are_channels(self, tmp_path):
        picture = noise(24, 32, 3, dtype="uint8")
        picture[..., 1] //= 4
        tifffile.imwrite(tmp_path / "a.tif", picture, photometric="minisblack", planarconfig="contig")
        assert len(set(open_frames(tmp_path / "a.tif").contrast_limits)) > 1


class TestTruncated:
    @pytest.mark.parametrize("share", [0.2, 0.8])
    def test_imagej(self, tmp_path, share):
        stack = noise(12, 96, 112)
        tifffile.imwrite(tmp_path / "whole.tif", stack, imagej=True, metadata={"axes": "TYX"})
        data = (tmp_path / "whole.tif").read_bytes()
        (tmp_path / "part.tif").write_bytes(data[: int(len(data) * share)])
        count = int(12 * share)
        with pytest.warns(UserWarning, match=f"truncated: {count} of 12 frames can be read"):
            frames = open_frames(tmp_path / "part.tif")
        assert (frames.shape, frames.axes) == ((12, 96, 112), "TYX")
        np.testing.assert_array_equal(frames.raw(count - 1)[0], stack[count - 1])
        with pytest.raises(FrameError, match=f"truncated: {count} of 12 frames can be read"):
            frames.raw(11)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_ome(self, tmp_path, compression):
        options = {"metadata": {"axes": "ZYX"}, "compression": compression}
        tifffile.imwrite(tmp_path / "whole.ome.tif", noise(12, 96, 112), **options)
        data = (tmp_path / "whole.ome.tif").read_bytes()
        (tmp_path / "part.ome.tif").write_bytes(data[: len(data) // 2])
        with pytest.raises(FrameError, match=r"part\.ome\.tif is truncated: \d+ frames? can be read"):
            open_frames(tmp_path / "part.ome.tif")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"fixed": {"T": 1}}, r"frame 2 of .*a\.tif at T=1 cannot be read"),
            ({"frame_axis": "T", "fixed": {"Z": 2}}, r"frame 1 of .*a\.tif at Z=2 cannot be read"),
            ({"fixed": {"T": 1, "Z": 2}}, r"a\.tif at T=1, Z=2 cannot be read"),
        ],
    )
    def test_a_damaged_plane_is_named_by_its_place_along_all_axes(self, tmp_path, options, words):
        tifffile.imwrite(
            tmp_path / "a.tif",
            noise(2, 3, 20, 30),
            compression="zlib",
            photometric="minisblack",
            metadata={"axes": "TZYX"},
        )
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            start, length = tif.pages[5].dataoffsets[0], tif.pages[5].databytecounts[0]
        content = bytearray((tmp_path / "a.tif").read_bytes())
        content[start : start + length] = b"\xff" * length
        (tmp_path / "a.tif").write_bytes(content)
        frames = open_frames(tmp_path / "a.tif", contrast="dtype", **options)
        with pytest.raises(FrameError, match=words):
            frames[len(frames) - 1]

    def test_a_damaged_frame_in_the_sample_fails_only_when_it_is_read(self, tmp_path):
        stack = noise(12, 64, 64)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", compression="zlib")
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            at, size = tif.pages[9].dataoffsets[0], tif.pages[9].databytecounts[0]
        data = bytearray((tmp_path / "a.tif").read_bytes())
        data[at : at + size] = bytes(size)
        (tmp_path / "a.tif").write_bytes(data)
        frames = open_frames(tmp_path / "a.tif")
        np.testing.assert_array_equal(frames.raw(8)[0], stack[8])
        with pytest.raises(FrameError, match="frame 9 of"):
            frames.raw(9)


def ome(pixels: str, extra: str = "") -> str:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" {pixels}>{extra}</Pixels>'
        "</Image></OME>"
    )


class TestBombs:
    """Files that claim more than they hold end in one line, at once."""

    def refused(self, path: Path, match: str) -> None:
        with measured_effort() as effort, pytest.raises(FrameError, match=match) as caught:
            open_frames(path)[0]
        assert "\n" not in str(caught.value)
        assert effort.calls < 20_000
        assert effort.peak_bytes < 200_000_000

    @pytest.mark.parametrize("count", [10**8, 10**12])
    def test_ome_xml_that_announces_millions_of_planes(self, tmp_path, count):
        xml = ome(f'SizeZ="{count}" SizeC="1" SizeT="1"', "<TiffData/>")
        tifffile.imwrite(tmp_path / "a.tif", noise(20, 30), description=xml, metadata=None)
        self.refused(tmp_path / "a.tif", f"declares {count:,} planes")

    @pytest.mark.parametrize("name", ["../b.tif", "/etc/passwd", "pipe.tif"])
    def test_ome_xml_that_names_files_elsewhere(self, tmp_path, name):
        folder = tmp_path / "images"
        folder.mkdir()
        tifffile.imwrite(tmp_path / "b.tif", noise(20, 30))
        if hasattr(os, "mkfifo"):
            os.mkfifo(folder / "pipe.tif")
        extra = f'<TiffData><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
        xml = ome('SizeZ="1" SizeC="1" SizeT="1"', extra)
        tifffile.imwrite(folder / "a.tif", noise(20, 30), description=xml, metadata=None)
        self.refused(folder / "a.tif", "expected files in the same folder")

    def test_entities_within_entities(self, tmp_path):
        entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
        xml = ome('SizeZ="1" SizeC="1" SizeT="1"', "<TiffData/>&l11;").replace(
            "<OME", f'<!DOCTYPE OME [<!ENTITY l0 "lol">{entities}]><OME'
        )
        tifffile.imwrite(tmp_path / "a.tif", noise(20, 30), description=xml, metadata=None)
        self.refused(tmp_path / "a.tif", "OME-XML of .* cannot be read")

    def test_external_entities(self, tmp_path):
        xml = ome('SizeZ="1" SizeC="1" SizeT="1"', "<TiffData/>&x;").replace(
            "<OME", '<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]><OME'
        )
        tifffile.imwrite(tmp_path / "a.tif", noise(20, 30), description=xml, metadata=None)
        self.refused(tmp_path / "a.tif", "OME-XML of .* cannot be read")

    def test_a_strip_of_four_gigabytes(self, tmp_path):
        import zlib

        packer, side = zlib.compressobj(9), 60_000
        zeros = bytes(2**24)
        strip = b"".join([packer.compress(zeros) for _ in range(8)] + [packer.flush()])  # the rest never matters

        def write(path: Path) -> None:
            with tifffile.TiffWriter(path) as writer:
                writer.write(
                    iter([strip]),
                    shape=(side, side),
                    dtype="uint8",
                    compression="zlib",
                    rowsperstrip=side,
                    photometric="minisblack",
                )

        write(tmp_path / "a.tif")
        self.refused(tmp_path / "a.tif", "claims 3,600,000,000 bytes in a strip")

    def test_a_large_picture_is_not_read_as_a_whole(self, tmp_path):
        side = 40_000
        tile = np.full((4096, 4096), 7, np.uint8)
        count = (-(-side // 4096)) ** 2
        tifffile.imwrite(
            tmp_path / "a.tif",
            (tile for _ in range(count)),
            shape=(side, side),
            dtype="uint8",
            tile=tile.shape,
            compression="zlib",
            photometric="minisblack",
        )
        frames = open_frames(tmp_path / "a.tif", contrast=(0, 7))
        assert (frames.region(0, slice(39_000, 39_900), slice(100, 200)) == 255).all()
        with pytest.raises(FrameError, match="too many to read at once"):
            frames[0]


class TestPositions:
    """The position of the first pixel, as microscopes and this package's label files have it."""

    def test_ome(self, tmp_path):
        planes = {"PositionX": [2.0] * 3, "PositionXUnit": ["µm"] * 3, "PositionZ": [5000, 5500, 6000.0]}
        planes["PositionZUnit"] = ["nm"] * 3
        metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 0.5, "Plane": planes}
        tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 20, 30), np.uint8), metadata=metadata)
        assert open_frames(tmp_path / "a.ome.tif", contrast=(0, 9)).translation == pytest.approx({"Z": 5, "X": 2})

    def test_units_of_a_stage_are_not_taken_for_lengths(self, tmp_path):
        planes = {"PositionX": [2.0] * 3, "PositionXUnit": ["reference frame"] * 3}
        metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "Plane": planes}
        tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 20, 30), np.uint8), metadata=metadata)
        assert open_frames(tmp_path / "a.ome.tif", contrast=(0, 9)).translation == {}

    def test_imagej(self, tmp_path):
        metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0, "xorigin": -4.0, "zorigin": 1.5}
        stack = np.zeros((3, 20, 30), np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata=metadata, resolution=(2, 2))
        assert open_frames(tmp_path / "a.tif", contrast=(0, 9)).translation == pytest.approx({"X": 2, "Z": -3})


def test_pages_of_one_size_are_a_stack_however_each_is_stored(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4000, (5, 20, 30), np.uint16)
    stored = [{}, {"compression": "zlib"}, {"rowsperstrip": 3}, {"tile": (16, 16)}, {"compression": "zlib"}]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane, options in zip(stack, stored, strict=True):
            tif.write(plane, metadata=None, **options)
    frames = open_frames(tmp_path / "a.tif")
    assert frames.axes == "ZYX"
    np.testing.assert_array_equal([frames.raw(z)[0] for z in range(5)], stack)
    np.testing.assert_array_equal(frames.region(3, slice(2, 9), slice(1, 5)), frames[3][2:9, 1:5])


def test_pages_that_differ_in_more_than_how_they_are_stored_are_several_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.ones((20, 30), np.uint16), metadata=None)
        tif.write(np.ones((20, 30), np.uint8), metadata=None)
    with pytest.warns(UserWarning, match="holds 2 images; the first is read"):
        assert len(open_frames(tmp_path / "a.tif")) == 1


def test_pages_among_others_are_named(tmp_path):
    stack = noise(4, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for number, plane in enumerate(stack):
            tif.write(plane[:10] if number == 2 else plane, metadata=None, contiguous=False)
    with pytest.warns(UserWarning, match=r"the frames are pages 0, 1, 3 of 4; the others differ in size or type"):
        frames = open_frames(tmp_path / "a.tif")
    assert np.array_equal(frames.raw(2)[0], stack[3])


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_images_of_one_size_in_an_ome_tiff_are_positions(tmp_path, compression, levels):
    images = noise(3, 4, 64, 80)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for number, image in enumerate(images):
            metadata = {"axes": "ZYX", "Plane": {"PositionX": [number] * 4, "PositionXUnit": ["µm"] * 4}}
            options = {"metadata": metadata, "compression": compression, "photometric": "minisblack"}
            tif.write(image, subifds=levels - 1, **options)
            if levels > 1:
                tif.write(image[:, ::2, ::2], subfiletype=1, compression=compression, photometric="minisblack")
    frames = open_frames(tmp_path / "a.ome.tif", fixed={"P": 2}, level=levels - 1)
    assert frames.axes == "PZYX"
    assert np.array_equal(frames.raw(1)[0], images[2, 1, ::levels, ::levels])
    assert frames.full_hw == (64, 80)
    assert set(frames.translation) <= {"Y", "X"}
    assert "X" not in frames.translation or levels > 1


def test_positions_in_files_that_name_each_other(tmp_path):
    images = noise(2, 4, 20, 30)
    files = save_positions_in_files(tmp_path, images)
    for path in (tmp_path, *files):
        frames = open_frames(path, fixed={"P": 1})
        assert frames.axes == "PZYX"
        assert np.array_equal(frames.raw(3)[0], images[1, 3])


@pytest.mark.filterwarnings("ignore:.*are stored as RGB")
class TestChannels:
    def opened(self, path, *channels, planes=None):
        """An OME-TIFF with the attributes of each channel as given."""
        image = noise(len(channels), 20, 30) if planes is None else planes
        text = "".join(f'<Channel ID="Channel:0:{n}" {given}/>' for n, given in enumerate(channels))
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" '
            f'SizeC="{len(channels)}" SizeZ="1" SizeT="1">{text}<TiffData/></Pixels></Image></OME>'
        )
        tifffile.imwrite(path, image, description=xml.encode(), metadata=None, photometric="minisblack")
        return image

    def test_names_and_colours(self, tmp_path):
        image = self.opened(
            tmp_path / "a.ome.tif",
            'Name="DAPI" Color="65535"',
            'Name=" Alexa\n 488" Color="16711935"',
            'Color="-16776961"',
        )
        stack = open_path(tmp_path / "a.ome.tif")
        assert stack.channel_names == ("DAPI", "Alexa 488", "")
        assert stack.channel_colours == ("#0000ff", "#00ff00", "#ff0000")
        frames = open_frames(tmp_path / "a.ome.tif", channels=["alexa 488", 0])
        assert (frames.channels, frames.channel_names) == ((1, 0), ("Alexa 488", "DAPI"))
        np.testing.assert_array_equal(frames.raw(0), image[[1, 0]])

    @pytest.mark.parametrize(
        ("channels", "words"),
        [
            ("GFP", r"several channels have this name: give a number out of 0 \(405\), 1 \(gfp\), 2 \(Gfp\)"),
            ("Cy5", r"'Cy5' was given; the image has 3 channels, expected one of 0 \(405\), 1 \(gfp\), 2 \(Gfp\)"),
            (3, r"channel 3 was given; the image has 3 channels, expected one of"),
            (True, r"True"),
        ],
    )
    def test_a_name_that_is_not_there_or_not_unique_is_refused(self, tmp_path, channels, words):
        self.opened(tmp_path / "a.ome.tif", 'Name="405"', 'Name="gfp"', 'Name="Gfp"')
        with pytest.raises(FrameError, match=words):
            open_frames(tmp_path / "a.ome.tif", channels=channels)

    def test_a_wavelength_is_a_name_and_capitals_tell_names_apart(self, tmp_path):
        self.opened(tmp_path / "a.ome.tif", 'Name="405"', 'Name="gfp"', 'Name="Gfp"')
        assert open_frames(tmp_path / "a.ome.tif", channels=[405, "Gfp", "gfp"]).channels == (0, 2, 1)

    def test_names_of_a_file_without_names(self, tmp_path):
        self.opened(tmp_path / "a.ome.tif", "", 'Color="65535"')
        stack = open_path(tmp_path / "a.ome.tif")
        assert (stack.channel_names, stack.channel_colours) == ((), ())
        with pytest.raises(FrameError, match=r"2 channels without names, expected 0 to 1"):
            open_frames(tmp_path / "a.ome.tif", channels="DAPI")

    def test_numbers_count_before_names(self, tmp_path):
        self.opened(tmp_path / "a.ome.tif", 'Name="1"', 'Name="2"')
        assert open_frames(tmp_path / "a.ome.tif", channels=1).channel_names == ("2",)
        assert open_frames(tmp_path / "a.ome.tif", channels="1").channel_names == ("1",)


@pytest.mark.parametrize("kind", ["without planes", "thumbnail"])
def test_pixel_size_and_channels_are_those_of_the_image_that_is_read(tmp_path, kind):
    def image(number: int, shape: tuple[int, ...], size: float, data: str) -> str:
        return (
            f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="{shape[1]}" SizeY="{shape[0]}" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="{size}" '
            f'PhysicalSizeY="{size}"><Channel ID="Channel:{number}:0" Name="of {number}"/>{data}</Pixels></Image>'
        )

    is_there = kind == "thumbnail"
    planes = [noise(15, 20), noise(30, 40)]
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        + image(0, (15, 20), 9, '<TiffData IFD="0" PlaneCount="1"/>' * is_there)
        + image(1, (30, 40), 0.25, f'<TiffData IFD="{int(is_there)}" PlaneCount="1"/>')
        + "</OME>"
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for number, plane in enumerate(planes if is_there else planes[1:]):
            is_small = is_there and number == 0
            tif.write(plane, description="" if number else text.encode(), metadata=None, subfiletype=int(is_small))
    stack = open_path(tmp_path / "a.ome.tif")
    assert tuple(stack.array.shape) == (30, 40)
    assert stack.voxel_size["X"].value == 0.25
    assert stack.channel_names == ("of 1",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state.acq.numberOfChannelsSave=2\rstate.acq.numberOfZSlices=1\r", "2 channels"),
        ("state.acq.numberOfChannelsSave=2\rstate.acq.numberOfZSlices=3\r", "2 channels and 3 slices"),
        ("state.acq.numberOfChannelsSave=1\rstate.acq.numberOfZSlices=6\r", None),
        ("scanimage.SI4.channelsSave = [1;4]\n", "2 channels"),
        ("scanimage.SI.hChannels.channelSave = 1\nscanimage.SI.hStackManager.numSlices = 1\n", None),
    ],
)
def test_all_pages_of_scanimage_are_read_and_interleaved_channels_are_told(tmp_path, text, words):
    stack = noise(6, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in stack:
            tif.write(plane, description=text, metadata=None, contiguous=False, software="", photometric="minisblack")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read_all(tmp_path / "a.tif")
    np.testing.assert_array_equal(found[:, 0], stack)
    texts = [str(each.message) for each in told if "ScanImage" in str(each.message)]
    assert len(texts) == (words is not None)
    assert all(f"ScanImage with {words}, whose planes are in the order of acquisition" in text for text in texts)


def test_planes_that_a_file_calls_colours_are_told(tmp_path):
    stack = noise(4, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", stack)
    with pytest.warns(UserWarning, match="its 4 planes are the colours .* give axes='ZYX'"):
        open_frames(tmp_path / "a.tif")
    frames = open_frames(tmp_path / "a.tif", axes="ZYX")
    assert np.array_equal(frames.raw(3)[0], stack[3])


def test_pixel_size_of_a_slide(tmp_path):
    description = "Aperio Image Library v11\n64x64 [0,0 64x64] |AppMag = 20|MPP = 0.4990"
    pixels = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.svs", pixels, tile=(64, 64), description=description, metadata=None)
    assert open_frames(tmp_path / "a.svs").voxel_size == dict.fromkeys("XY", (0.499, "micrometer"))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_alpha_beside_grey_is_left_out(tmp_path, compression):
    pixels = np.random.default_rng(0).integers(0, 4000, (20, 30, 2), np.uint16)
    alpha = {"extrasamples": ["unassalpha"], "planarconfig": "contig", "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", **alpha)
    frames = open_frames(tmp_path / "a.tif")
    assert frames.axes == "YX"
    np.testing.assert_array_equal(frames.raw(0)[0], pixels[..., 0])
    assert frames.region(0, slice(2, 9), slice(1, 5)).shape == (7, 4, 3)


def test_an_array_with_axes_of_one_that_were_saved_without_names(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4000, (1, 1, 1, 3, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    frames = open_frames(tmp_path / "a.tif")
    assert frames.frame_axis == "Z"
    np.testing.assert_array_equal([frames.raw(z)[0] for z in range(3)], stack[0, 0, 0])


@pytest.mark.parametrize(
    ("text", "words", "frames"),
    [
        ("ImageJ=1.53t\nimages=4\nchannels=2\nslices=4\nhyperstack=true\n", "declares 8 images, and the file has 4", 4),
        ('SizeX="15" SizeY="20" SizeZ="4"', "does not fit its pages, which are read as one stack", 4),
        ('SizeX="30" SizeY="20" SizeZ="2"', "holds 4 pages, of which its OME-XML describes 2", 2),
    ],
    ids=["ImageJ", "size", "planes"],
)
def test_metadata_that_do_not_fit_the_pages_are_told(tmp_path, text, words, frames):
    if text.startswith("Size"):
        text = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" {text} SizeC="1" SizeT="1">'
            '<Channel ID="c"/><TiffData/></Pixels></Image></OME>'
        )
    stack = noise(4, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for number, plane in enumerate(stack):
            options = {"metadata": None, "contiguous": False, "software": None, "photometric": "minisblack"}
            tif.write(plane, description=None if number else text, **options)
    with pytest.warns(UserWarning, match=words):
        found = open_frames(tmp_path / "a.tif")
    assert np.array_equal(np.stack([found.raw(z)[0] for z in range(len(found))]), stack[:frames])
