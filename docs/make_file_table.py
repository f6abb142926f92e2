"""Write docs/reference/files.md: one file of each format is made and opened, and what was found becomes a row.

python docs/make_file_table.py            # writes the page
python docs/make_file_table.py --check    # exits 1 if the page differs
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import zarr
from PIL import Image

from napari_sam2 import open_frames
from napari_sam2.frames.files import open_path
from napari_sam2.labels.files import LabelWriter

PAGE = Path(__file__).parent / "reference" / "files.md"
HEAD = """# Files that open

`napari_sam2.open_frames`, the commands and `Session` read the same files. This page is made by
`docs/make_file_table.py`, which writes one file of each kind and opens it.

- **Axes** are read from the file; if it does not name them, three dimensions are ZYX. `axes=` (in the shell `--axes`)
  overrides them. Along axes that are not shown (time points, positions P, angles A, ...) one index is read:
  `fixed={"P": 2}`, `--fix P=2`.
- **Pixel size** is read where the column says yes. An impossible number is ignored with a warning.
- **Read at a time** is what is held in memory: a *part* is only the rows, tiles or chunks that are needed.
- **Colours** are shown as they are; anything else is shown with one contrast for the whole stack, except a
  frame that is far brighter as a whole than the others.

"""
TAIL = """
Further compressions of TIFF (fax and others) open as those in the table. `https://`, `s3://` and
`gs://` addresses of OME-Zarr images open with `pip install 'napari-sam2[remote]'`.

Nikon ND2, DeltaVision and videos (MP4, AVI, MOV, MKV) open with `pip install 'napari-sam2[formats]'`, Zeiss CZI with
`pip install 'napari-sam2[czi]'`, and other formats with their plugin of
[bioio](https://bioio-devs.github.io/bioio/), which the message names.

Scenes, and images of an OME-TIFF, are positions (P), also if they differ in size, axes or type: `fixed={"P": 1}` or
`fixed={"P": "Scene 2"}`, in the shell `--fix P=1` or `--fix P='Scene 2'`. Without it the first one opens, and a warning
lists all of them. The label and overview of a slide are left out.

In a folder of images, masks beside them (`_masks`, `_cp_masks`, `_seg`) and previews of MetaXpress (`_thumb`) are left
out; images of another size, type or format are refused by name. A folder of z-stacks is a series of time points (TZYX),
a folder of movies a series of positions (PTYX).

Microscopes write one file per plane. Numbers in the names after words for axes are taken as such: `t`, `time`; `z`;
`c`, `ch`, `channel`, `w`; `p`, `pos`, `position`, `s`, `scene`, `series`, `f`, `field`, `fov`, `xy` (positions); `m`
(mosaic tiles), as in `img_t003_z01_ch0.tif`, and those of Opera (`r01c01f01p01-ch1sk1`), MetaXpress (`plate_A01_s1_w1`
and a GUID), NIS-Elements (`cellsxy01z02c1`), EVOS (`scan_A01f00d0`), scan^R
(`img--W00001--P00001--Z00000--T00000--DAPI`), IN Cell Analyzer (`A - 1(fld 1 wv DAPI - DAPI z 1)`), Incucyte
(`exp_Phase_A1_1_00d02h00m`), Gen5 of BioTek (`A1_01_1_1_GFP_001`), Acquifer (`-A001--PO01--LO001--CO1--SL001--PX...`)
and Micro-Manager 1.4 (`img_000000000_DAPI_000`), whose channels keep their names. Several of their wells in one folder
are refused. A folder `exp_z00_ch00.tif`, `exp_z00_ch01.tif`, ... is CZYX, and one with missing files is refused by the
name of the first. If only one axis varies, its word has to be unambiguous (`t`, `ch`, `pos`); other names are planes in
the order of their numbers: `z-2`, `z0`, `z0.5`, `z2`, `z10`. A hyphen is a minus only where other names have no hyphen
there, and a point is a decimal point unless the digits after it count (`1.9`, `1.10`). A warning names files whose
order is in doubt, and files that seem to belong to several series (`DAPI_1`, `GFP_1`) or have two numbers that are
counted independently (`a_1_1` to `a_3_4`). Dates are in the order of time (`2026-01-02`, `28-01-2026`, `2 Jan 2026`,
`Jan 2`; also hours with am and pm); where the order depends on whether the day or the month comes first, the day is,
and a warning says so.

Names of channels are those of OME-TIFF, OME-Zarr, Micro-Manager and bioio; they choose channels (`channels="DAPI"`,
`--channels DAPI,GFP`; a number is the place in the file, unless only a name fits), and name layers and columns.

A folder of Micro-Manager that holds `NDTiff.index` opens as one image with the axes, positions (P) and channel names of
this list; a list that is damaged, or names files that are not there, is refused. In folders with one file for each
plane, channels have the names and order of `metadata.txt`.

A TIFF with a palette opens as its colours or greys, unless the palette is a scale for intensities (grey, green, fire):
then the values of the file are the intensities. As labels, the values are always read as they are.

Arrays of xarray have the axes that they name. A masked array is refused if its mask hides values:
`array.filled(value)` says what these are.

Pictures and TIFFs that are marked as rotated (EXIF) are read as they are stored, with a warning, as napari and ImageJ
show them. If a TIFF has a thumbnail, the image itself opens.

Any file of an OME-TIFF in several files, their folder, and its `.companion.ome` open as the whole image. If each
position lies in files of its own, as Micro-Manager writes them, a file opens as its position (`--fix P=INDEX` chooses
another one). Pages of a plain TIFF that differ in size or type are left out, with their numbers. Three or four planes
that a TIFF calls red, green and blue open as colours, with a warning that says how to read them as slices. Slides of
scanners that are TIFF inside (SVS, SCN, QPTIFF) open as their finest level; `level=` (`--level`) chooses another.

Of a plate, a well or a `labels` group, the first image opens, and a message shows how to choose another one:
`plate.zarr/B/3/0`.

An OME-Zarr or zarr in a zip file (`.ozx`, `.zarr.zip`, or a `.zip` that holds one) opens like its folder, read-only;
`plate.ozx/B/3/0` and `image.ozx/labels/cells` name what is inside.

Channels and slices of ScanImage are distinguished where the file states their order; where it does not, a warning
says that its planes are in the order of acquisition.

Pixel sizes and plane distances of LSM and STK files are read from the tags of Zeiss and MetaMorph. If these tags are
damaged, the planes are read with a warning.

In OME-Zarr, level 0 is the finest, even if the file lists the coarsest first. Transformations that order the axes
(`mapAxis`, `byDimension`, an `affine` or `rotation` that only exchanges axes) give the axes and distances; any other
is named in a warning, and the image is read as it is stored. Consolidated metadata are not used, as they may be out of
date.

Refused, with the reason: OME-Zarr versions after 0.6, truncated files (with the number of frames that are left), and
files that claim more than they hold. HDF5, NIfTI, MRC, NRRD, DICOM, N5 and others are refused with a message
that names the format and says what to do.
"""


@dataclass(frozen=True)
class Kind:
    """One row: what is written, and how."""

    name: str
    write: Callable[[Path], Path]


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def tiff(name: str, array: np.ndarray, **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / name, array, **{"photometric": "minisblack", **options})
        return folder / name

    return write


def picture(name: str, mode: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        image = Image.fromarray(noise(40, 50)) if mode == "I;16" else Image.new(mode, (50, 40))
        image.save(folder / name)
        return folder / name

    return write


def wide_png(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(imagecodecs.png_encode(noise(40, 50, 3)))
        return folder / name

    return write


def numpy_file(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / name, noise(4, 40, 50))
        return folder / name

    return write


def ngff(version: str, axes: str) -> Callable[[Path], Path]:
    types, units = {"t": "time", "c": "channel"}, {"t": {"unit": "second"}, "c": {}}
    described = [{"name": a, "type": types.get(a, "space"), **units.get(a, {"unit": "micrometer"})} for a in axes]

    def write(folder: Path) -> Path:
        group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3 if version >= "0.5" else 2)
        array = noise(*({"t": 3, "c": 2, "z": 4, "y": 40, "x": 50}[a] for a in axes))
        group.create_array("0", shape=array.shape, dtype=array.dtype)[:] = array
        scale: dict[str, object] = {"type": "scale", "scale": [1.0 if a == "c" else 0.5 for a in axes]}
        dataset: dict[str, object] = {"path": "0", "coordinateTransformations": [scale]}
        image: dict[str, object] = {"axes": described, "datasets": [dataset]}
        if version == "0.6":
            scale.update(input={"path": "0"}, output={"name": "physical"})
            image = {"coordinateSystems": [{"name": "physical", "axes": described}], "datasets": [dataset]}
        if version in ("0.1", "0.2", "0.3"):
            image = {"datasets": [{"path": "0"}], **({"axes": list(axes)} if version == "0.3" else {})}
        if version >= "0.5":
            group.attrs["ome"] = {"version": version, "multiscales": [image]}
        else:
            group.attrs["multiscales"] = [{"version": version, **image}]
        return folder / "a.zarr"

    return write


def plain_zarr(names: list[str] | None, **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        array, place = noise(4, 40, 50), folder / "a.zarr"
        zarr.create_array(place, shape=array.shape, dtype=array.dtype, dimension_names=names, **options)[:] = array
        return place

    return write


def zipped(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        packed = shutil.make_archive(str(folder / "packed"), "zip", make(folder))
        return Path(packed).rename(folder / "a.ozx")

    return write


def plate(folder: Path) -> Path:
    """A plate of one well with one field."""
    field = ngff("0.4", "zyx")(folder)
    (folder / "plate.zarr" / "A" / "1").mkdir(parents=True)
    field.rename(folder / "plate.zarr" / "A" / "1" / "0")
    wells = {"rows": [{"name": "A"}], "columns": [{"name": "1"}], "wells": [{"path": "A/1"}], "version": "0.4"}
    zarr.open_group(folder / "plate.zarr", mode="a", zarr_format=2).attrs["plate"] = wells
    zarr.open_group(folder / "plate.zarr" / "A" / "1", mode="a", zarr_format=2).attrs["well"] = {
        "images": [{"path": "0"}]
    }
    return folder / "plate.zarr"


def labels_in_an_image(folder: Path) -> Path:
    """The labels of an OME-Zarr image."""
    image = ngff("0.5", "zyx")(folder)
    with LabelWriter(image / "labels" / "cells", (4, 40, 50)) as writer:
        writer.write(0, noise(40, 50))
    return image / "labels" / "cells"


def several_files(folder: Path) -> Path:
    """An OME-TIFF whose time points are in files of their own."""
    stack = noise(2, 40, 50)
    pixels = '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" SizeZ="1" SizeC="1" '
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">{pixels}SizeT="2" '
    xml += 'PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    for t in range(2):
        file = f'<UUID FileName="t{t}.ome.tif">urn:uuid:{t}</UUID>'
        xml += f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1">{file}</TiffData>'
    xml += "</Pixels></Image></OME>"
    for t in range(2):
        own = xml.replace("<OME ", f'<OME UUID="urn:uuid:{t}" ')
        tifffile.imwrite(folder / f"t{t}.ome.tif", stack[t], description=own, metadata=None, ome=False)
    return folder / "t0.ome.tif"


def folder_of(suffix: str, array: np.ndarray, **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for n, item in enumerate(array):
            if suffix == ".tif":
                tifffile.imwrite(folder / f"{n}.tif", item, photometric="minisblack", **options)
            else:
                Image.fromarray(item).save(folder / f"{n}{suffix}")
        return folder

    return write


OME = {"axes": "TCYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
IMAGEJ = {"imagej": True, "resolution": (2, 2), "metadata": {"axes": "TZYX", "spacing": 0.5, "unit": "um"}}
CM = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "metadata": None}
KINDS = (
    Kind("TIFF, one page, resolution in cm or inch", tiff("a.tif", noise(40, 50), **CM)),
    Kind("TIFF of several pages", tiff("a.tif", noise(4, 40, 50))),
    Kind("TIFF, colours", tiff("a.tif", noise(40, 50, 3, dtype="uint8"), photometric="rgb")),
    Kind("TIFF, positions (P)", tiff("a.tif", noise(2, 3, 4, 40, 50), metadata={"axes": "PTZYX"})),
    Kind("TIFF, LZW", tiff("a.tif", noise(4, 40, 50), compression="lzw")),
    Kind("TIFF, deflate with predictor", tiff("a.tif", noise(4, 40, 50), compression="zlib", predictor=True)),
    Kind("TIFF, zstd, float", tiff("a.tif", noise(4, 40, 50, dtype="float32"), compression="zstd")),
    Kind("TIFF, JPEG 2000", tiff("a.tif", noise(4, 40, 50), compression="jpeg2000")),
    Kind("TIFF, PackBits", tiff("a.tif", noise(4, 40, 50, dtype="uint8"), compression="packbits")),
    Kind("TIFF, LERC", tiff("a.tif", noise(4, 40, 50), compression="lerc")),
    Kind("TIFF, JPEG XL", tiff("a.tif", noise(4, 40, 50, dtype="uint8"), compression="jpegxl")),
    Kind("TIFF, JPEG XR", tiff("a.tif", noise(4, 40, 50), compression="jpegxr")),
    Kind("TIFF, JPEG, colours", tiff("a.tif", noise(48, 64, 3, dtype="uint8"), photometric="rgb", compression="jpeg")),
    Kind("TIFF, tiles", tiff("a.tif", noise(64, 64), tile=(32, 32), compression="zlib")),
    Kind("ImageJ TIFF", tiff("a.tif", noise(3, 4, 40, 50), **IMAGEJ)),
    Kind("OME-TIFF", tiff("a.ome.tif", noise(3, 2, 40, 50), metadata=OME)),
    Kind("OME-TIFF in several files", several_files),
    Kind("OME-Zarr 0.1", ngff("0.1", "tczyx")),
    Kind("OME-Zarr 0.2", ngff("0.2", "tczyx")),
    Kind("OME-Zarr 0.3", ngff("0.3", "zyx")),
    Kind("OME-Zarr 0.4 (zarr 2)", ngff("0.4", "tczyx")),
    Kind("OME-Zarr 0.5 (zarr 3)", ngff("0.5", "czyx")),
    Kind("OME-Zarr 0.6", ngff("0.6", "tyx")),
    Kind("OME-Zarr, plate (first field)", plate),
    Kind("OME-Zarr, labels of an image", labels_in_an_image),
    Kind("OME-Zarr in a zip file (.ozx)", zipped(ngff("0.5", "czyx"))),
    Kind("zarr array", plain_zarr(None)),
    Kind("zarr array, sharded", plain_zarr(None, chunks=(1, 20, 25), shards=(1, 40, 50))),
    Kind("zarr array, dimension names in words", plain_zarr(["time", "row", "column"])),
    Kind("PNG, 8 bit", picture("a.png", "L")),
    Kind("PNG, 16 bit", picture("a.png", "I;16")),
    Kind("PNG, colours", picture("a.png", "RGB")),
    Kind("PNG, colours of 16 bit", wide_png("a.png")),
    Kind("PNG, palette", picture("a.png", "P")),
    Kind("JPEG", picture("a.jpg", "RGB")),
    Kind("BMP", picture("a.bmp", "RGB")),
    Kind("GIF (first picture)", picture("a.gif", "P")),
    Kind("WebP", picture("a.webp", "RGB")),
    Kind("PGM, PPM", picture("a.pgm", "L")),
    Kind("numpy array (.npy)", numpy_file("a.npy")),
    Kind("folder of planes", folder_of(".png", noise(4, 40, 50, dtype="uint8"))),
    Kind("folder of z-stacks", folder_of(".tif", noise(3, 4, 40, 50), imagej=True, metadata={"axes": "ZYX"})),
    Kind("folder of movies", folder_of(".tif", noise(2, 4, 40, 50), imagej=True, metadata={"axes": "TYX"})),
)
AMOUNTS = {
    "ContiguousPlanes": "part",
    "PagedPlanes": "plane; part of large planes",
    "Array": "part",
    "FolderOfImages": "file",
    "memmap": "part",
    "ndarray": "whole picture",
}


def row(kind: Kind) -> str:
    """The line of the table for one kind of file."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = kind.write(Path(folder))
        frames = open_frames(path)
        frames[len(frames) - 1]
        amount = AMOUNTS[type(open_path(path).array).__name__]
    num = len(frames)
    is_rgb = frames.axes.endswith("C") and len(frames.channels) == 3
    size = " x ".join(map(str, frames.source_shape))
    along = f"{num} along {frames.frame_axis}" if frames.frame_axis else "1"
    cells = (
        kind.name,
        frames.axes,
        size,
        str(frames.dtype),
        along,
        "yes" if is_rgb else "no",
        "yes" if frames.voxel_size else "no",
        amount,
    )
    return "| " + " | ".join(cells) + " |"


def page() -> str:
    """The whole page."""
    columns = ("format", "axes", "size of the example", "type", "frames", "colours", "pixel size", "read at a time")
    table = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|", *(row(kind) for kind in KINDS)]
    return HEAD + "\n".join(table) + "\n" + TAIL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is right")
    text = page()
    if parser.parse_args().check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
