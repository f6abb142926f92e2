"""Paths as lazily read stacks: which reader a path needs, single pictures, and folders of pictures."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_sam2._errors import FrameError
from napari_sam2.frames.axes import guess_axes, name_unnamed
from napari_sam2.frames.intensity import pillow_to_array
from napari_sam2.frames.stack import READ_ERRORS, RawStack, one_line
from napari_sam2.frames.tiff import TIFF_SUFFIXES, open_tiff
from napari_sam2.frames.zarr_files import is_zarr_folder, open_zarr

__all__ = ["IMAGE_SUFFIXES", "natural_order", "open_path"]

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm", ".jp2", ".tga")
_PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "TGA")  # not TIFF: tifffile reads it
IMAGE_SUFFIXES = TIFF_SUFFIXES + _PICTURE_SUFFIXES


def open_path(path: Path, level: int | None = None) -> RawStack:
    """Describe what lies under a path without reading more than one picture of it.

    Parameters
    ----------
    path : Path
        TIFF, picture, zarr folder, or folder of pictures.
    level : int, optional
        Level of a pyramid. Default: 0, the full resolution.

    Returns
    -------
    RawStack
        The pixels, read lazily.

    Raises
    ------
    FrameError
        If nothing is there, it is of no known kind, or it is damaged.
    """
    path = path.expanduser()
    if not path.exists():
        raise FrameError(f"{path} does not exist; give an image file, a folder of images or a .zarr folder")
    if path.is_dir():
        if is_zarr_folder(path):
            return open_zarr(path, level or 0)
        stack = _open_folder(path)
    else:
        stack = _open_file(path, level or 0)
    if level and path.suffix.lower() not in TIFF_SUFFIXES:
        raise FrameError(f"level {level} of {path} was asked for; it has one level, 0")
    return stack


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which ``img2.png`` comes before ``img10.png``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name) if part]


def _open_file(path: Path, level: int = 0) -> RawStack:
    suffix = path.suffix.lower()
    stat = path.stat()
    if suffix in TIFF_SUFFIXES:
        stack = open_tiff(path, level)
    elif suffix in _PICTURE_SUFFIXES:
        array = _read_picture(path)
        axes = "YXC" if array.ndim == 3 else "YX"
        stack = RawStack(array, str(path), "picture", axes, is_rgb=array.ndim == 3)
    else:
        raise FrameError(
            f"{path} is of an unknown kind ({suffix or 'no suffix'}); allowed are {' '.join(IMAGE_SUFFIXES)}, "
            "folders of these, and zarr folders"
        )
    key = f"{stack.key}:{path.resolve()}:{stat.st_mtime_ns}:{stat.st_size}"
    return replace(stack, key=key)


def _read_picture(path: Path) -> NDArray[np.generic]:
    Image.init()
    formats = [name for name in _PICTURE_FORMATS if name in Image.OPEN]  # some are optional parts of Pillow
    try:
        with Image.open(path, formats=formats) as image:
            if getattr(image, "n_frames", 1) > 1:
                warnings.warn(f"{path} holds {image.n_frames} pictures; the first is read", stacklevel=5)  # type: ignore[attr-defined]
            if image.format == "PNG" and _has_16_bit_colours(path):
                warnings.warn(f"{path} has 16-bit colours; they are read as 8 bit (save it as TIFF)", stacklevel=5)
            return pillow_to_array(image)
    except (*READ_ERRORS, Image.DecompressionBombError) as error:
        raise FrameError(
            f"{path} cannot be read as an image ({one_line(error)}); check or copy the file again"
        ) from error


def _has_16_bit_colours(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(26)
    bit_depth, colour_type = header[24], header[25]  # of the IHDR chunk, which comes first
    return bit_depth == 16 and colour_type in (2, 6)


def _open_folder(path: Path) -> RawStack:
    files = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    files = sorted((p for p in files if p.suffix.lower() in IMAGE_SUFFIXES), key=lambda p: natural_order(p.name))
    if not files:
        raise FrameError(f"the folder {path} holds no image; allowed are {' '.join(IMAGE_SUFFIXES)}, and zarr folders")
    first = _open_file(files[0])
    inner = _inner_axes(first)
    outer = "Z" if "Z" not in inner else "T"
    if outer in inner:
        raise FrameError(f"{files[0]} already has the axes {inner}; open it by itself")
    stats = [(p.name, p.stat()) for p in files]
    stamp = hashlib.sha256(repr([(name, s.st_mtime_ns, s.st_size) for name, s in stats]).encode()).hexdigest()
    voxel_size = {axis: spacing for axis, spacing in first.voxel_size.items() if axis in inner}
    array = FolderOfImages(files, tuple(first.array.shape), first.dtype)
    return RawStack(array, str(path), f"folder:{path.resolve()}:{stamp}", outer + inner, voxel_size, first.is_rgb)


def _inner_axes(stack: RawStack) -> str:
    shape = stack.array.shape
    return guess_axes(shape, stack.dtype) if stack.axes is None else name_unnamed(stack.axes, shape)


class FolderOfImages:
    """Images of one size in a folder; each is opened when its frame is asked for."""

    def __init__(self, files: list[Path], inner_shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self.files, self.dtype = files, dtype
        self.shape = (len(files), *inner_shape)

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        outer, inner = index[0], index[1:]
        if isinstance(outer, slice):
            return np.stack([self[i, *inner] for i in range(len(self.files))[outer]])
        path = self.files[outer]
        array = _open_file(path).array
        if tuple(array.shape) != self.shape[1:]:
            raise FrameError(
                f"{path} has shape {tuple(array.shape)}, but {self.files[0].name} has {self.shape[1:]}; "
                "the images of a folder must have one size and kind"
            )
        return np.asarray(array[inner])
