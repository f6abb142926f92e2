"""Arrays of numpy files, among them Cellpose's ``_seg.npy``, read without running code that a file may contain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import FrameError
from napari_sam2.frames.stack import READ_ERRORS, one_line

__all__ = ["read_npy"]

_ALLOWED = {
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "scalar": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
    "ndarray": ("numpy",),
    "dtype": ("numpy",),
    "encode": ("_codecs",),
}
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
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            form = np.lib.format
            read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
            shape, _, dtype = read_header(file)
            if not dtype.hasobject:
                file.seek(0)
                array: NDArray[Any] = np.load(file, allow_pickle=False)
                return array
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


class _ArraysOnly(pickle.Unpickler):
    """Loads numpy arrays, numbers, text and containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ALLOWED.get(name, ()) or (module == "numpy.dtypes" and name.endswith("DType")):
            return super().find_class(module, name)
        if name in _TEXTS.get(module, ()):
            return _as_text
        raise FrameError(
            f"the file holds an object of type {module}.{name}, which is not read for safety; save the masks as TIFF"
        )


def _as_text(*parts: object) -> str:
    return "/".join(str(part) for part in parts)
