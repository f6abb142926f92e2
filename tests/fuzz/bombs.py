"""Files that claim or decode to far more than they hold: each is a small file made by a function of its own."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zarr

__all__ = ["IMAGES", "LABELS", "Build"]

Build = Callable[[Path], Path]
GIGABYTE = 2**30


PIECE = bytes(2**24)


def deflate_of_zeros(size: int) -> bytes:
    """Raw deflate of a multiple of 16 MB of zeros: one block, again and again."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = press.compress(PIECE) + press.flush(zlib.Z_FULL_FLUSH)
    return block * (size // len(PIECE)) + b"\x03\x00"


def zlib_of_zeros(size: int) -> bytes:
    checksum = (size % 65521) << 16 | 1  # Adler-32
    return b"\x78\xda" + deflate_of_zeros(size) + struct.pack(">I", checksum)


def gzip_of_zeros(size: int) -> bytes:
    checksum = 0
    for _ in range(size // len(PIECE)):
        checksum = zlib.crc32(PIECE, checksum)
    return b"\x1f\x8b\x08" + bytes(7) + deflate_of_zeros(size) + struct.pack("<II", checksum, size % 2**32)


def zstd_of_zeros(size: int) -> bytes:
    """One frame of blocks of 128 kB, each of one byte that is repeated."""
    count = size // 2**17
    blocks = [struct.pack("<I", 2**17 << 3 | 2 | (number == count - 1))[:3] + b"\0" for number in range(count)]
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", size) + b"".join(blocks)


def repeated(compress: Callable[[bytes], bytes], size: int) -> bytes:
    """Streams one after the other, which decoders join."""
    return compress(PIECE) * (size // len(PIECE))


# ---------------------------------------------------------------------- TIFF
def tiff(tags: list[tuple[int, int, int, int | bytes]], body: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of one page: (tag, type, count, value or bytes), and what comes after the directory.

    The value "BODY" of a tag is written as an offset by passing -1.
    """
    count = len(tags)
    end = 8 + 2 + 12 * count + 4
    extra, entries = b"", b""
    held = sum(len(v) for *_, v in tags if isinstance(v, bytes) and len(v) > 4)
    for tag, kind, num, value in sorted(tags, key=lambda entry: entry[0]):
        if isinstance(value, bytes):
            if len(value) > 4:
                field = struct.pack("<I", end + len(extra))
                extra += value
            else:
                field = value.ljust(4, b"\0")
        else:
            field = struct.pack("<I", end + held if value == -1 else value)
        entries += struct.pack("<HHI", tag, kind, num) + field
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", following) + extra + body


def page(width: int, height: int, compression: int, stored: int, *more: tuple[int, int, int, int | bytes]) -> Any:
    """Tags of a grey page of 8 bits in one strip."""
    return [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, -1),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, stored),
        *more,
    ]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def tiff_that_is_cut(folder: Path) -> Path:
    return write(folder / "a.tif", tiff(page(100_000, 100_000, 1, 10**9), bytes(1000)))


def tiff_sparse(folder: Path) -> Path:
    path = write(folder / "a.tif", tiff(page(60_000, 60_000, 1, 60_000**2), bytes(1000)))
    os.truncate(path, 60_000**2 + 1000)
    return path


def tiff_strip(compress: Callable[[], bytes], code: int, width: int, height: int) -> Build:
    """One strip whose stream holds far more than its width and height."""

    def build(folder: Path) -> Path:
        body = compress()
        return write(folder / "a.tif", tiff(page(width, height, code, len(body)), body))

    return build


def jpeg_of(side: int) -> bytes:
    small = imagecodecs.jpeg_encode(np.zeros((64, 64), np.uint8))
    at = small.index(b"\xff\xc0")
    return small[: at + 5] + struct.pack(">HH", side, side) + small[at + 9 :]


def tiff_many_pages(folder: Path) -> Path:
    """A directory that names itself as the next one."""
    return write(folder / "a.tif", tiff(page(16, 16, 1, 256), bytes(256), following=8))


def tiff_imagej(folder: Path) -> Path:
    text = b"ImageJ=1.53t\nimages=1000000000\nslices=1000000000\nhyperstack=true\n\0"
    return write(folder / "a.tif", tiff(page(16, 16, 1, 256, (270, 2, len(text), text)), bytes(256)))


def tiff_many_strips(folder: Path) -> Path:
    """A count of strips beyond the end of the file."""
    tags = [entry for entry in page(10_000, 10_000, 1, 100) if entry[0] not in (273, 279, 278)]
    tags += [(273, 4, 10**9, 8), (279, 4, 10**9, 8), (278, 4, 1, 1)]
    return write(folder / "a.tif", tiff(tags, bytes(100)))


def tiff_many_levels(folder: Path) -> Path:
    """A million coarser levels, which are all the page itself."""
    return write(
        folder / "a.tif", tiff(page(16, 16, 1, 256, (330, 4, 10**6, struct.pack("<I", 8) * 10**6)), bytes(256))
    )


def companion(folder: Path) -> Path:
    """OME-XML that lists half a million files."""
    begin, end = OME.format(before="", more="", x=16, y=16, z=1).split("<TiffData/>")
    listed = (
        f'<TiffData IFD="0"><UUID FileName="t{i}.tif">urn:uuid:{i:036d}</UUID></TiffData>' for i in range(500_000)
    )
    return write(folder / "a.companion.ome", (begin + "".join(listed) + end).encode())


def tiff_ome(xml: str) -> Build:
    def build(folder: Path) -> Path:
        text = xml.encode() + b"\0"
        return write(folder / "a.ome.tif", tiff(page(16, 16, 1, 256, (270, 2, len(text), text)), bytes(256)))

    return build


OME = (
    '<?xml version="1.0"?>{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{more}'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="{x}" SizeY="{y}" '
    'SizeZ="{z}" SizeC="1" SizeT="1"><TiffData/></Pixels></Image></OME>'
)
LAUGHS = "<!DOCTYPE OME [<!ENTITY a0 'ha'>{}]>".format(
    "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12))
)
DEEP = "<a>" * 200_000 + "</a>" * 200_000


# ---------------------------------------------------------------------- zarr
def array_folder(path: Path, shape: list[int], chunks: list[int], codecs: list[Any], chunk: bytes, **more: Any) -> Path:
    """A zarr 3 array of uint8 with one chunk as given."""
    described = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, *codecs],
        "attributes": {},
        **more,
    }
    place = path.joinpath("c", *["0"] * len(shape))
    place.parent.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(described))
    place.write_bytes(chunk)
    return path


def zarr_claims(shape: list[int], chunks: list[int]) -> Build:
    return lambda folder: array_folder(folder / "a.zarr", shape, chunks, [], b"")


def zarr2_chunk(compressor: dict[str, Any] | None, filters: list[Any] | None, make: Callable[[], bytes]) -> Build:
    def build(folder: Path) -> Path:
        path = folder / "a.zarr"
        path.mkdir()
        described = {
            "zarr_format": 2,
            "shape": [64, 64],
            "chunks": [64, 64],
            "dtype": "|u1",
            "fill_value": 0,
            "order": "C",
            "compressor": compressor,
            "filters": filters,
        }
        (path / ".zarray").write_text(json.dumps(described))
        (path / "0.0").write_bytes(make())
        return path

    return build


def zarr3_chunk(codec: dict[str, Any], make: Callable[[], bytes]) -> Build:
    return lambda folder: array_folder(folder / "a.zarr", [64, 64], [64, 64], [codec], make())


def blosc_of_zeros(size: int) -> bytes:
    import numcodecs

    return bytes(numcodecs.Blosc("zstd", 9).encode(np.zeros(size, np.uint8)))


def lz4_of_zeros(size: int) -> bytes:
    """A stream of numcodecs' LZ4: the size, and a literal with a match that repeats it."""
    length = size - 5 - 15 - 4
    extra = b"\xff" * (length // 255) + bytes([length % 255])
    body = b"\x1f\x00\x01\x00" + extra + b"\x50" + bytes(5)
    return struct.pack("<i", size) + body


def zarr_large_chunk(folder: Path) -> Path:
    """One chunk of 400 MB of zeros, in a few kilobytes."""
    return array_folder(
        folder / "a.zarr",
        [2**14, 2**14 + 2**13],
        [2**14, 2**14 + 2**13],
        [{"name": "gzip", "configuration": {"level": 9}}],
        gzip_of_zeros(2**14 * (2**14 + 2**13)),
    )


def zarr_deep(folder: Path) -> Path:
    path = folder / "a.zarr"
    path.mkdir()
    (path / "zarr.json").write_text(
        '{"zarr_format":3,"node_type":"group","attributes":' + "[" * 200_000 + "]" * 200_000 + "}"
    )
    return path


def zarr_huge_metadata(folder: Path) -> Path:
    path = folder / "a.zarr"
    path.mkdir()
    with (path / "zarr.json").open("wb") as file:
        file.truncate(4 * GIGABYTE)
    return path


def zarr_many_levels(folder: Path) -> Path:
    path = folder / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0"} for _ in range(10**6)]}],
    }
    return path


def zarr_consolidated(folder: Path) -> Path:
    """An array whose group lists the metadata of forty thousand others."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=np.ones((8, 8), np.uint8))
    array = json.loads((folder / "a.zarr" / "0" / "zarr.json").read_text())
    place = folder / "a.zarr" / "zarr.json"
    metadata = {"0": array, **{f"g{i}": array for i in range(40_000)}}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": metadata}
    place.write_text(json.dumps({**json.loads(place.read_text()), "consolidated_metadata": consolidated}))
    return folder / "a.zarr"


def zarr_many_wells(folder: Path) -> Path:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": f"A/{i}"} for i in range(300_000)]}
    return folder / "a.zarr"


def zarr_labels(folder: Path) -> Path:
    """A label image that claims 3 TB and holds nothing."""
    path = folder / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "image-label": {},
        "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}],
    }
    group.create_array("0", shape=(100_000, 3000, 3000), chunks=(1, 1024, 1024), dtype="int32")
    return path


def zarr_labels_that_fit(folder: Path) -> Path:
    """A label image that claims 3 GB and holds nothing."""
    path = zarr_labels(folder)
    described = json.loads((path / "0" / "zarr.json").read_text())
    described["shape"] = [80, 3000, 3000]
    (path / "0" / "zarr.json").write_text(json.dumps(described))
    return path


# ---------------------------------------------------------------------- pictures and arrays
def png(width: int, height: int, depth: int, colours: int, packed: bytes, before: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def picture(name: str, make: Callable[[], bytes]) -> Build:
    return lambda folder: write(folder / name, make())


def png_text() -> bytes:
    data = b"Comment\0\0" + zlib_of_zeros(GIGABYTE)
    text = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return png(16, 16, 8, 0, zlib.compress(bytes(16 * 17)), text)


def npy(header: str, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    length = struct.pack("<H", len(text)) if version == b"\x01\x00" else struct.pack("<I", len(text))
    return b"\x93NUMPY" + version + length + text


def npy_of(shape: str) -> str:
    return f"{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}\n"


def npy_claims(folder: Path) -> Path:
    return write(folder / "a.npy", npy(npy_of("(100000, 100000, 100000)")))


def npy_sparse(folder: Path) -> Path:
    path = write(folder / "a.npy", npy(npy_of("(1000, 30000, 30000)")))
    os.truncate(path, 10_000 + 4 * 1000 * 30_000**2)
    return path


def npy_long_header(folder: Path) -> Path:
    path = write(folder / "a.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 4 * GIGABYTE - 1))
    os.truncate(path, 4 * GIGABYTE)
    return path


# ---------------------------------------------------------------------- what never ends
def link(name: str, target: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return build


def fifo(name: str) -> Build:
    def build(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return build


def inner(build: Build, replaced: str, by: Build) -> Build:
    """What ``build`` makes, with one of its files replaced."""

    def built(folder: Path) -> Path:
        path = build(folder)
        target = path / replaced
        target.unlink()
        made = by(target.parent)
        if made != target:
            made.rename(target)
        return path

    return built


def unix_socket(folder: Path) -> Path:
    path = folder / "a.png"
    here = Path.cwd()
    os.chdir(folder)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)
    return path


def small_zarr(folder: Path) -> Path:
    return array_folder(folder / "a.zarr", [64, 64], [64, 64], [], bytes(64 * 64))


def folder_of(build: Build) -> Build:
    def built(folder: Path) -> Path:
        inside = folder / "images"
        inside.mkdir()
        build(inside)
        return inside

    return built


# ---------------------------------------------------------------------- shapes and pickles
def roi_zip(make: Callable[[], bytes]) -> Build:
    def build(folder: Path) -> Path:
        with (
            zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("a.roi", "w", force_zip64=True) as file,
        ):
            head = make()
            file.write(head)
            for _ in range(128):
                file.write(bytes(2**23))
        return folder / "a.zip"

    return build


def roi_zip_many(folder: Path) -> Path:
    """Half a million members that are one and the same, as the directory lies about where they begin."""
    inside = folder / "a.zip"
    with zipfile.ZipFile(inside, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.roi", "w") as file:
            file.write(bytes(2**24))
        entry = archive.filelist[0]
        for number in range(500):
            twin = zipfile.ZipInfo(f"{number}.roi")
            for name in ("compress_type", "CRC", "compress_size", "file_size", "header_offset", "external_attr"):
                setattr(twin, name, getattr(entry, name))
            archive.filelist.append(twin)
    return inside


def roi(count: int, kind: int = 7) -> bytes:
    """A freehand ROI that claims a number of points."""
    head = b"Iout" + struct.pack(">hBBhhhhH", 228, kind, 0, 0, 0, 100, 100, count & 0xFFFF)
    head = head.ljust(64, b"\0")
    if count > 0xFFFF:
        head = head[:18] + struct.pack(">i", count) + head[22:]
    return head


def text_file(name: str, make: Callable[[], str]) -> Build:
    return lambda folder: write(folder / name, make().encode())


def sparse_file(name: str, start: bytes) -> Build:
    def build(folder: Path) -> Path:
        write(folder / name, start)
        os.truncate(folder / name, 4 * GIGABYTE)
        return folder / name

    return build


def coco(size: list[int], counts: object, images: int = 1) -> str:
    listed = [{"id": i, "height": size[0], "width": size[1]} for i in range(1, images + 1)]
    mask = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": size, "counts": counts}, "iscrowd": 1}
    return json.dumps({"images": listed, "annotations": [mask], "categories": [{"id": 1, "name": "a"}]})


def geojson(ring: object, **plane: int) -> str:
    geometry = {"type": "Polygon", "coordinates": [ring], **({"plane": plane} if plane else {})}
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": {}})


def collections_within_collections(depth: int) -> str:
    begin = '{"type":"GeometryCollection","geometries":['
    return begin * depth + "]}" * depth


def seg_npy(pickled: bytes) -> Build:
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"
    return lambda folder: write(folder / "a_seg.npy", npy(header) + pickled)


class _Huge:
    """Pickled as an array of a terabyte."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __reduce__(self) -> Any:
        return np.ndarray, (self.shape, np.dtype("i1"))


_PUT = b"\x80\x04N" + b"r" + struct.pack("<I", 200_000_000) + b"."
_LONG_BYTES = b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b"abc."
_FRAME = b"\x80\x04\x95" + struct.pack("<Q", 2**33) + b"N."

IMAGES: dict[str, Build] = {
    "TIFF, cut": tiff_that_is_cut,
    "TIFF, one plane of zeros on no disk": tiff_sparse,
    "TIFF, deflate of 4 GB": tiff_strip(lambda: zlib_of_zeros(4 * GIGABYTE), 8, 65_536, 65_536),
    "TIFF, deflate of 1 GB": tiff_strip(lambda: zlib_of_zeros(GIGABYTE), 8, 32_768, 32_768),
    "TIFF, deflate of 1 GB in a small strip": tiff_strip(lambda: zlib_of_zeros(GIGABYTE), 8, 64, 64),
    "TIFF, LZMA of 1 GB in a small strip": tiff_strip(
        lambda: repeated(lambda data: lzma.compress(data, preset=1), GIGABYTE), 34925, 64, 64
    ),
    "TIFF, zstd of 1 GB in a small strip": tiff_strip(lambda: zstd_of_zeros(GIGABYTE), 50000, 64, 64),
    "TIFF, JPEG of 65,500 pixels in a small strip": tiff_strip(lambda: jpeg_of(65_500), 7, 64, 64),
    "TIFF, PNG of 30,000 pixels in a small strip": tiff_strip(
        lambda: png(30_000, 30_000, 8, 0, zlib.compress(bytes(1000))), 34933, 64, 64
    ),
    "TIFF, a directory in a circle": tiff_many_pages,
    "TIFF, ImageJ of a thousand million planes": tiff_imagej,
    "TIFF, a thousand million strips": tiff_many_strips,
    "TIFF, a million levels": tiff_many_levels,
    "OME-XML that lists half a million files": companion,
    "OME-XML of a hundred million planes": tiff_ome(OME.format(before="", more="", x=16, y=16, z=10**8)),
    "OME-XML of a plane of 10^12 pixels": tiff_ome(OME.format(before="", more="", x=10**6, y=10**6, z=1)),
    "OME-XML, entities within entities": tiff_ome(OME.format(before=LAUGHS, more="&a11;", x=16, y=16, z=1)),
    "OME-XML, elements within elements": tiff_ome(OME.format(before="", more=DEEP, x=16, y=16, z=1)),
    "OME-XML, millions of elements within elements": tiff_ome(OME.format(before="", more=15 * DEEP, x=16, y=16, z=1)),
    "zarr, chunks of 10 x 10": zarr_claims([100_000, 100_000], [10, 10]),
    "zarr, chunks of 64 x 30": zarr_claims([30_000, 30_000], [64, 30]),
    "zarr, a million million frames": zarr_claims([2**40, 64, 64], [1, 64, 64]),
    "zarr, a cube of a million": zarr_claims([10**6] * 3, [1, 1024, 1024]),
    "zarr, one chunk of 400 MB": zarr_large_chunk,
    "zarr 3, gzip of 1 GB": zarr3_chunk(
        {"name": "gzip", "configuration": {"level": 5}}, lambda: gzip_of_zeros(GIGABYTE)
    ),
    "zarr 3, zstd of 1 GB": zarr3_chunk(
        {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
        lambda: zstd_of_zeros(GIGABYTE),
    ),
    "zarr 3, blosc of 1 GB": zarr3_chunk(
        {
            "name": "blosc",
            "configuration": {"cname": "zstd", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0},
        },
        lambda: blosc_of_zeros(GIGABYTE),
    ),
    "zarr 2, gzip of 1 GB": zarr2_chunk({"id": "gzip", "level": 1}, None, lambda: gzip_of_zeros(GIGABYTE)),
    "zarr 2, zlib of 1 GB": zarr2_chunk({"id": "zlib", "level": 1}, None, lambda: zlib_of_zeros(GIGABYTE)),
    "zarr 2, bz2 of 1 GB": zarr2_chunk({"id": "bz2", "level": 9}, None, lambda: repeated(bz2.compress, GIGABYTE)),
    "zarr 2, LZMA of 1 GB": zarr2_chunk(
        {"id": "lzma"}, None, lambda: repeated(lambda data: lzma.compress(data, preset=1), GIGABYTE)
    ),
    "zarr 2, LZ4 of 1 GB": zarr2_chunk({"id": "lz4", "acceleration": 1}, None, lambda: lz4_of_zeros(GIGABYTE)),
    "zarr 2, zlib of 1 GB as a filter": zarr2_chunk(
        None, [{"id": "zlib", "level": 1}], lambda: zlib_of_zeros(GIGABYTE)
    ),
    "zarr 2, gzip within zlib": zarr2_chunk(
        {"id": "gzip", "level": 1}, [{"id": "zlib", "level": 1}], lambda: gzip.compress(zlib_of_zeros(GIGABYTE))
    ),
    "zarr, metadata within metadata": zarr_deep,
    "zarr, metadata of 4 GB": zarr_huge_metadata,
    "zarr, a million levels": zarr_many_levels,
    "zarr, consolidated metadata of 40,000 arrays": zarr_consolidated,
    "zarr, a plate of 300,000 wells that are not there": zarr_many_wells,
    "zarr, a chunk that is /dev/zero": inner(small_zarr, "c/0/0", link("x", "/dev/zero")),
    "zarr, a chunk that is a pipe": inner(small_zarr, "c/0/0", fifo("x")),
    "zarr, metadata that are /dev/zero": inner(small_zarr, "zarr.json", link("x", "/dev/zero")),
    "zarr, metadata that are a pipe": inner(small_zarr, "zarr.json", fifo("x")),
    "PNG of 30,000 x 30,000": picture("a.png", lambda: png(30_000, 30_000, 8, 0, zlib.compress(bytes(1000)))),
    "PNG of 13,000 x 13,000 colours": picture("a.png", lambda: png(13_000, 13_000, 8, 6, zlib_of_zeros(41 * 2**24))),
    "PNG of 13,000 x 13,000 colours of 16 bits": picture(
        "a.png", lambda: png(13_000, 13_000, 16, 2, zlib_of_zeros(61 * 2**24))
    ),
    "PNG with a text of 1 GB": picture("a.png", png_text),
    "PGM with a comment of 10 MB": picture("a.pgm", lambda: b"P2 #" + bytes(10**7) + b"\n3 3 255\n" + b"1 " * 9),
    "PGM of 100,000 x 100,000": picture("a.pgm", lambda: b"P5 100000 100000 255\n" + bytes(1000)),
    "numpy array that is cut": npy_claims,
    "numpy array on no disk": npy_sparse,
    "numpy array with a header of 4 GB": npy_long_header,
    "PNG that is a pipe": fifo("a.png"),
    "PNG that is /dev/zero": link("a.png", "/dev/zero"),
    "PNG that is a socket": unix_socket,
    "PNG that is a link to itself": link("a.png", "a.png"),
    "TIFF that is /dev/zero": link("a.tif", "/dev/zero"),
    "TIFF that is a pipe": fifo("a.tif"),
    "numpy array that is a pipe": fifo("a.npy"),
    "folder with a pipe named PNG": folder_of(fifo("a.png")),
    "folder with /dev/zero named PNG": folder_of(link("a.png", "/dev/zero")),
}

LABELS: dict[str, Build] = {
    **{
        name: IMAGES[name]
        for name in (
            "TIFF, deflate of 1 GB",
            "TIFF, deflate of 1 GB in a small strip",
            "zarr, a cube of a million",
            "zarr 3, gzip of 1 GB",
            "PNG of 13,000 x 13,000 colours",
            "numpy array that is cut",
            "numpy array on no disk",
            "numpy array with a header of 4 GB",
            "PNG that is a pipe",
            "PNG that is /dev/zero",
            "numpy array that is a pipe",
            "folder with a pipe named PNG",
        )
    },
    "NGFF labels of 3 TB": zarr_labels,
    "NGFF labels of 3 GB without a chunk": zarr_labels_that_fit,
    "ROI set with a member of 1 GB": roi_zip(lambda: roi(100)),
    "ROI set of 500 members that are one": roi_zip_many,
    "ROI that claims 2,000 million points": picture("a.roi", lambda: roi(2_000_000_000)),
    "ROI set that is a pipe": fifo("a.zip"),
    "ROI that is /dev/zero": link("a.roi", "/dev/zero"),
    "JSON of 4 GB": sparse_file("a.json", b'{"type": "FeatureCollection", "features": ["'),
    "GeoJSON of 4 GB": sparse_file("a.geojson", b'["'),
    "GeoJSON that is /dev/zero": link("a.geojson", "/dev/zero"),
    "GeoJSON that is a pipe": fifo("a.geojson"),
    "JSON of brackets": text_file("a.json", lambda: "[" * 10**6),
    "GeoJSON of collections within collections": text_file("a.geojson", lambda: collections_within_collections(900)),
    "GeoJSON far outside": text_file("a.geojson", lambda: geojson([[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300]])),
    "GeoJSON on plane 10^12": text_file("a.geojson", lambda: geojson([[0, 0], [9, 0], [9, 9]], z=10**12)),
    "GeoJSON of NaN": text_file("a.geojson", lambda: geojson([[float("nan"), 0], [9, 0], [9, 9]])),
    "COCO of 10^12 pixels": text_file("a.json", lambda: coco([10**6, 10**6], [0, 10**12])),
    "COCO of 2^30 pixels": text_file("a.json", lambda: coco([32_768, 32_768], [0, 2**30])),
    "COCO of 2^28 pixels": text_file("a.json", lambda: coco([16_384, 16_384], [0, 2**28])),
    "COCO of 100,000 images": text_file("a.json", lambda: coco([4096, 4096], [0, 4096**2], 100_000)),
    "COCO whose runs overflow": text_file("a.json", lambda: coco([64, 64], [2**62, 2**62, 2**62, 2**62, 4096])),
    "COCO with a number without end": text_file("a.json", lambda: coco([64, 64], "o" * 10**6)),
    "COCO, a run of 300,000 digits": text_file(
        "a.json", lambda: coco([64, 64], [1]).replace("[1]", "[" + "9" * 300_000 + "]")
    ),
    "pickle with a place of 200 million": seg_npy(_PUT),
    "pickle with bytes of 8 GB": seg_npy(_LONG_BYTES),
    "pickle with a frame of 8 GB": seg_npy(_FRAME),
    "pickle with an array of a terabyte": seg_npy(pickle.dumps({"masks": _Huge((10**6, 10**6))})),
    "pickle with an array of 3 GB": seg_npy(pickle.dumps({"masks": _Huge((3 * 2**10, 2**20))})),
    "pickle of lists within lists": seg_npy(b"\x80\x04" + b"(" * 10**6 + b"l" * 10**6 + b"."),
}
