"""Arrays of numpy files, among them Cellpose's ``_seg.npy``, read without running code that a file may contain."""

from __future__ import annotations

import math
import pickle
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import FrameError
from napari_sam2._messages import one_line, shown
from napari_sam2.frames.files import check_array_header
from napari_sam2.frames.stack import READ_ERRORS, check_fits_memory

__all__ = ["read_npy"]

_ALLOWED = {
    "scalar": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
    "dtype": ("numpy",),
}
_RECONSTRUCT = ("numpy.core.multiarray", "numpy._core.multiarray")
_ENCODINGS = ("latin1", "latin-1")
_PLACES = ("PUT", "BINPUT", "LONG_BINPUT")  # of a table that grows to the number given
_TEXTS = {  # of paths and devices, which are not needed
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "torch": ("device",),
}


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, or the masks of Cellpose's ``_seg.npy``.

    Raises
    ------
    FrameError
        If the file is missing or damaged, holds no array or masks, or objects other than numpy arrays.
    """
    try:
        check_array_header(path)
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            form = np.lib.format
            read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
            shape, _, dtype = read_header(file)
            if not dtype.hasobject:
                _check_size(path, shape, dtype, path.stat().st_size - file.tell())
                file.seek(0)
                array: NDArray[Any] = np.load(file, allow_pickle=False)
                return array
            begin = file.tell()
            _check_places(file, path)
            file.seek(begin)
            content = _ArraysOnly(file).load()
    except FrameError:
        raise
    except (*READ_ERRORS, pickle.UnpicklingError) as error:
        raise FrameError(f"{path} cannot be read ({one_line(error)}); the file may be damaged") from error
    held = content.item() if isinstance(content, np.ndarray) and shape == () else content
    if isinstance(held, dict) and isinstance(held.get("masks"), np.ndarray):
        masks: NDArray[Any] = held["masks"]
        return masks
    raise FrameError(f"{path} holds neither an array nor the masks of Cellpose; save label images as TIFF")


def _check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], held: int) -> None:
    if math.prod(shape) * dtype.itemsize > held:
        raise FrameError(f"{path} is truncated: it claims the shape {shape} and holds {held:,} bytes of values")
    check_fits_memory(path, shape, dtype)


def _check_places(file: BinaryIO, path: Path) -> None:
    """Refuse a number that is stored at a place far beyond the end of the file, for which a table would be made."""
    num_bytes = path.stat().st_size
    for code, argument, _ in pickletools.genops(file):
        if code.name in _PLACES and isinstance(argument, int) and argument > num_bytes:
            raise FrameError(f"{path} claims {argument:,} objects in {num_bytes:,} bytes; save the masks as TIFF")


class _ArraysOnly(pickle.Unpickler):
    """Loads numpy arrays, numbers, text and containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in _RECONSTRUCT:
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return _ARRAY
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if module in _ALLOWED.get(name, ()) or (module == "numpy.dtypes" and name.endswith("DType")):
            return super().find_class(module, name)
        if name in _TEXTS.get(module, ()):
            return _as_text
        raise FrameError(
            f"the file holds an object of type {module}.{name}, which is not read for safety; save the masks as TIFF"
        )


_ARRAY = "an array"  # only named in a pickle; it is not called


def _empty_array(*_: object) -> NDArray[Any]:
    """What numpy's arrays are filled into; the size that a file gives here is not its content."""
    return np.ndarray((0,), "b")


def _encode(text: str, encoding: str) -> bytes:
    """Bytes in pickles of Python 2."""
    if encoding not in _ENCODINGS:
        raise FrameError(f"the file holds text in {shown(encoding)}, which no array needs; save the masks as TIFF")
    return text.encode(encoding)


def _as_text(*parts: object) -> str:
    return "/".join(str(part) for part in parts)
