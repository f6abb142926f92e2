"""What a file that cannot be read holds by its first bytes, and what to do about it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["content_hint"]

_AGAIN = "copy or download it again"
_STARTS = (
    (b"\x89PNG", "a PNG", "give it the ending .png"),
    (b"\xff\xd8\xff", "a JPEG", "give it the ending .jpg"),
    (b"GIF8", "a GIF", "give it the ending .gif"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000", "give it the ending .jp2"),
    (b"II*\0", "a TIFF", "give it the ending .tif"),
    (b"MM\0*", "a TIFF", "give it the ending .tif"),
    (b"II+\0", "a BigTIFF", "give it the ending .tif"),
    (b"MM\0+", "a BigTIFF", "give it the ending .tif"),
    (b"\x93NUMPY", "a numpy array", "give it the ending .npy"),
    (b"\x89HDF", "an HDF5 file", "export it as OME-TIFF or OME-Zarr"),
    (b"ZISRAWFILE", "a Zeiss CZI file", "give it the ending .czi"),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file", "give it the ending .nd2"),
    (b"PK\x03\x04", "a zip file", "unpack it, and open what it holds"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it, and open what it holds"),
    (b"%PDF", "a PDF", "save the image itself as PNG or TIFF"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with 'git lfs pull'"),
    (b"<!doctype html", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
)
_BYTES = 64
_LETTERS = (b"<", b"version")  # texts, in which capitals do not matter


def content_hint(path: Path, endings: tuple[str, ...]) -> str:
    """What a file is and what to do, as in "it is a PNG; give it the ending .png"; empty if nothing is known.

    Parameters
    ----------
    path : Path
        A file that could not be read.
    endings : tuple of str
        Of the files that were expected; a file whose content is one of these is damaged, and has no hint.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_BYTES)
    except OSError:
        return ""
    if not start:
        return f"it is empty; {_AGAIN}"
    if not any(start):
        return f"it begins with zeros, like a file that was copied incompletely; {_AGAIN}"
    text = start.lstrip().lower()
    for begin, kind, advice in _STARTS:
        if (text if begin.startswith(_LETTERS) else start).startswith(begin):
            return "" if advice.endswith(endings) else f"it is {kind}; {advice}"
    return ""
