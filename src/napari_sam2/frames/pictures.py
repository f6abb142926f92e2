"""Single pictures: PNG, JPEG and others that Pillow reads, with the values that the file holds."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2._messages import one_line
from napari_sam2.frames.file_contents import content_hint
from napari_sam2.frames.intensity import pillow_to_array
from napari_sam2.frames.stack import READ_ERRORS

__all__ = [
    "PICTURE_SUFFIXES",
    "describe_picture",
    "opened_picture",
    "picture_size",
    "read_picture",
    "warn_of_orientation",
]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".tga")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "TGA")  # not TIFF: tifffile reads it
_ORIENTATION = 274  # tag of EXIF and TIFF; 1 is upright
_MAX_BYTES = 2**28  # of a decoded picture; a larger one must hold a part of that in its file
_MAX_RATIO = 200
_PNG_GREY, _PNG_GREY_ALPHA, _PNG_RGB, _PNG_RGBA = 0, 4, 2, 6  # colour types
_NETPBM_SUFFIXES = (".pbm", ".pgm", ".ppm", ".pnm")
_NETPBM_KINDS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_MAX_NETPBM_HEADER = 2**16  # bytes, comments included
_NETPBM_BITS = re.compile(rb"P[14](?:\s+|#[^\n]*\n)*\d+(?:\s+|#[^\n]*\n)+\d+")
_NETPBM = re.compile(rb"P[2356](?:\s+|#[^\n]*\n)*\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)")


def read_picture(path: Path) -> NDArray[np.generic]:
    """The pixels of a picture as the file stores them.

    Parameters
    ----------
    path : Path
        An existing file; of an animation the first picture is read, with a warning.

    Returns
    -------
    numpy.ndarray
        (H, W) grey or bool, or (H, W, 3) colours. Alpha is dropped, palettes are looked up.

    Raises
    ------
    FrameError
        If the file is damaged, or claims to be larger than Pillow allows.
    """
    with opened_picture(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            warn_caller(f"{path} holds {image.n_frames} pictures; the first is read")  # type: ignore[attr-defined]
        warn_of_orientation(path, image.getexif().get(_ORIENTATION, 1))
        if _wide_png(path, image) is not None:
            return _decode_wide_png(path)
        largest = _announced_maximum(path, image)
        if largest is not None and largest > 255 and image.mode == "RGB":
            warn_caller(f"{path} has 16-bit colours; they are read as 8 bit (save it as TIFF or PNG)")
        return _unscaled(pillow_to_array(image), largest)


def describe_picture(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of what `read_picture` gives, without decoding the pixels; raises as that."""
    with opened_picture(path) as image:
        samples = _wide_png(path, image)
        if samples is not None:
            colours = (3,) if samples.num_colours == 3 else ()
            return (image.size[1], image.size[0], *colours), np.dtype(np.uint16)
        largest = _announced_maximum(path, image)
        pixel = _unscaled(pillow_to_array(Image.new(image.mode, (1, 1))), largest)
        return (image.size[1], image.size[0], *pixel.shape[2:]), pixel.dtype


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header at the beginning of a picture; None where it is not understood."""
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return image.size
    except Image.DecompressionBombError:
        return 2**31 - 1, 2**31 - 1
    except (*READ_ERRORS, SyntaxError):
        return None  # the decoder says what is wrong


@contextlib.contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """The picture of a file; errors of reading it, also within the block, become FrameError."""
    if path.suffix.lower() in _NETPBM_SUFFIXES:
        _check_netpbm(path)
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # some are optional parts of Pillow
    try:
        with Image.open(path, formats=formats) as image:
            _check_claims(path, image)
            yield image
    except FrameError:
        raise
    except (*READ_ERRORS, SyntaxError, Image.DecompressionBombError) as error:
        hint = content_hint(path, PICTURE_SUFFIXES)
        raise FrameError(
            f"{path} cannot be read as an image: {hint}"
            if hint
            else f"{path} cannot be read as an image ({one_line(error)}); check or copy the file again"
        ) from error


def _check_netpbm(path: Path) -> None:
    """Refuse a PBM, PGM or PPM whose header has no end, which is read byte by byte."""
    with path.open("rb") as file:
        start = file.read(_MAX_NETPBM_HEADER + 1)
    has_end = _NETPBM.match(start) or _NETPBM_BITS.match(start)
    if len(start) > _MAX_NETPBM_HEADER and start[:2] in _NETPBM_KINDS and not has_end:
        raise FrameError(f"{path} cannot be read as an image (its header is damaged or too long); copy the file again")


def _check_claims(path: Path, image: Image.Image) -> None:
    """Refuse a picture that claims to be far larger than its file."""
    bytes_per_sample = 4 if image.mode in ("I", "F") else 2  # at most 16 bits, of which Pillow may show 8
    claimed = image.size[0] * image.size[1] * len(image.getbands()) * bytes_per_sample
    held = path.stat().st_size
    if claimed > _MAX_BYTES and claimed > _MAX_RATIO * held:
        raise FrameError(
            f"{path} claims {image.size[0]:,} x {image.size[1]:,} pixels in a file of {held:,} bytes; save it as a "
            "tiled TIFF if that is right"
        )


def warn_of_orientation(path: Path, orientation: object) -> None:
    """Warn that a picture which cameras mark as rotated is read as it is stored, as napari and ImageJ do."""
    if isinstance(orientation, int) and 2 <= orientation <= 8:
        warn_caller(
            f"{path} is marked as rotated or mirrored (orientation {orientation}); it is read as it is stored, as "
            "napari and ImageJ show it"
        )


class _Samples(NamedTuple):
    """Samples of a pixel, and how many of them are colours."""

    num_samples: int
    num_colours: int


def _wide_png(path: Path, image: Image.Image) -> _Samples | None:
    """The samples of a PNG with 16 bits and more than one sample, which Pillow cuts to 8 bits; None for any other."""
    if image.format != "PNG":
        return None
    bit_depth, colour_type = _png_kind(path)
    samples = {_PNG_GREY_ALPHA: _Samples(2, 1), _PNG_RGB: _Samples(3, 3), _PNG_RGBA: _Samples(4, 3)}
    return samples.get(colour_type) if bit_depth == 16 else None


def _png_kind(path: Path) -> tuple[int, int]:
    """Bit depth and colour type of a PNG."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24], header[25]  # of the IHDR chunk, which comes first


def _decode_wide_png(path: Path) -> NDArray[np.generic]:
    import imagecodecs

    try:
        pixels: NDArray[np.generic] = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    except imagecodecs.PngError as error:
        raise FrameError(
            f"{path} cannot be read as an image ({one_line(error)}); check or copy the file again"
        ) from error
    return pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]


def _announced_maximum(path: Path, image: Image.Image) -> int | None:
    """The largest value that a picture can hold, where Pillow scales values from it to the whole range of a type."""
    if image.format == "PPM":
        return _netpbm_maximum(path)
    bit_depth, colour_type = _png_kind(path) if image.format == "PNG" else (8, _PNG_GREY)
    return 2**bit_depth - 1 if colour_type == _PNG_GREY and bit_depth in (2, 4) else None


def _netpbm_maximum(path: Path) -> int | None:
    """The largest value that a PGM or PPM file announces; None where it announces none, as in a bitmap."""
    with path.open("rb") as file:
        found = _NETPBM.match(file.read(1024))
    return None if found is None else int(found[1])


def _unscaled(pixels: NDArray[np.generic], largest: int | None) -> NDArray[np.generic]:
    """Values as they are in the file, where Pillow scaled them from ``largest`` to the whole range of 8 or 16 bits."""
    is_byte = pixels.dtype.itemsize == 1
    if largest is None or not 0 < largest <= 65535 or (is_byte and largest >= 255):
        return pixels
    full = 255 if is_byte else 65535
    values = np.rint(pixels.astype(np.float64) * (largest / full))
    return values.astype(np.uint8 if is_byte else np.uint16)
