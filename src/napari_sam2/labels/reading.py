"""Label images from files: TIFF, OME-Zarr, pictures, folders, and what other programs save."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError
from napari_sam2._messages import Message, Option, one_line
from napari_sam2.frames.file_names import grid_of_names
from napari_sam2.frames.files import IMAGE_SUFFIXES, existing_path, in_order, open_path, plain_stem
from napari_sam2.frames.pictures import opened_picture
from napari_sam2.frames.stack import READ_ERRORS, RawStack, check_fits_memory
from napari_sam2.frames.tiff import TIFF_SUFFIXES, is_lossy_tiff
from napari_sam2.frames.zarr_files import is_zarr_folder, labels_inside
from napari_sam2.frames.zarr_zip import zipped_zarr
from napari_sam2.labels.conversion import ConvertedLabels, convert_labels
from napari_sam2.labels.seg_npy import read_npy
from napari_sam2.labels.shapes.reading import SHAPE_SUFFIXES, read_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_lossy", "label_image_of", "read_label_file", "read_labels", "without_single_planes"]

_PALETTE_SUFFIXES = (".png", ".gif", ".bmp", ".tga")
_LOSSY_SUFFIXES = (".jpg", ".jpeg")
_HEADER_BYTES = 4096
_CHANNEL = Option(
    "channel",
    "give its number, as channel=0",
    "save it as a file of its own (in ImageJ: Image > Color > Split Channels)",
)


@checked(FrameError)
def read_labels(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, ...] | None = None,
    fixed: Mapping[str, int] | None = None,
    channel: int | None = None,
) -> NDArray[np.int32]:
    """Read a label image or stack.

    Parameters
    ----------
    path : path-like
        TIFF, zarr folder or zip file with one, PNG or other picture, folder of pictures; Cellpose's ``_seg.npy`` or any
        ``.npy`` of integers; ImageJ ROIs (``.roi``, ``.zip``), GeoJSON (``.geojson``, ``.json``), COCO (``.json``).
        Pictures with a palette are read as indices. JPEG is refused, as it changes the values.
    shape : tuple of int, optional
        (T, H, W) or (H, W) of the image that the labels belong to, or (T, Z, H, W) of volumes over time; ROIs and
        GeoJSON need it.
    fixed : mapping of str to int, optional
        Where the image is one stack out of several: its index along T (of a z-stack) or Z (of a movie), as
        ``Frames.fixed``. ROIs and GeoJSON objects of the other stacks are left out, with a warning.
    channel : int, optional
        Number of the channel that holds the labels, in a TIFF, OME-Zarr or picture with several. Default: the file must
        have one channel.

    Returns
    -------
    numpy.ndarray
        int32 in the file's own axes, (T, H, W) or (H, W); (T, Z, Y, X) for volumes over time. A channel axis and
        leading axes of length one beyond three are dropped; TIFF files drop all axes of length one.

    Raises
    ------
    FrameError
        If the file is missing, damaged, or does not hold labels; if it has several channels and none was chosen, or
        no such channel.

    Warns
    -----
    UserWarning
        If labels above 2**31 - 1 were renumbered, or a binary mask was split into components.
    """
    found = read_label_file(path, shape=shape, fixed=fixed, channel=channel)
    found.warn(str(path))
    return found.labels


def read_label_file(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, ...] | None = None,
    fixed: Mapping[str, int] | None = None,
    channel: int | None = None,
) -> ConvertedLabels:
    """As `read_labels`, with the table of renumbered labels in place of a warning."""
    place = existing_path(Path(path))
    if not place.is_dir() and zipped_zarr(place) is not None:
        return convert_labels(_pixels(place, channel), str(path))
    if not place.is_dir() and not place.is_file():
        raise FrameError(f"{place} is not a regular file (a pipe, a device or a broken link); give a file of labels")
    if channel is not None and place.suffix.lower() in (".npy", *SHAPE_SUFFIXES):
        raise FrameError(f"channel={channel} was given for {path}, which has no channels; leave it out")
    if place.suffix.lower() == ".npy":
        return convert_labels(read_npy(place), str(path))
    if place.suffix.lower() in SHAPE_SUFFIXES:
        return ConvertedLabels(read_shapes(place, shape, fixed))
    return convert_labels(_pixels(place, channel), str(path))


def _pixels(path: Path, channel: int | None = None) -> NDArray[Any]:
    if path.is_dir() and not is_zarr_folder(path):
        return _folder(path, channel)
    if channel is None and path.is_file() and path.suffix.lower() in _PALETTE_SUFFIXES:
        indices = _palette_indices(path)
        if indices is not None:
            return indices
    lossy = _lossy_kind(path) if path.is_file() else ""
    if lossy:
        raise FrameError(f"{path} is {lossy}, which does not keep the values of labels; save the labels as PNG or TIFF")
    stack = open_path(label_image_of(path))
    stack = stack.at_position() if stack.has_several_sizes else stack
    stack = stack.indices or stack
    axes = stack.axes or ""
    if channel is not None:
        return _without_short_axes(_one_channel(path, stack, channel))
    if stack.is_rgb and axes[:1] in ("C", "S") and len(axes) == 3:
        return _read(path, stack.array)  # three or four planes that were saved without saying so
    array = _read(path, stack.array, axes)
    if stack.is_rgb:
        grey = _grey(array) if axes.endswith(("C", "S")) else None
        if grey is None:
            raise FrameError(
                Message(
                    f"{path} is a colour picture; expected one number per pixel, as in a grey or indexed picture: if "
                    "each colour is an object, number the colours (numpy.unique(..., axis=0, return_inverse=True)); if "
                    "one of the channels holds the labels, ",
                    _CHANNEL,
                )
            )
        array, axes = grey, axes[:-1]
    if len(axes) == array.ndim and "C" in axes:
        at = axes.index("C")
        if array.shape[at] != 1:
            raise FrameError(
                Message(
                    f"{path} has {array.shape[at]} channels; a label image has one: if one of them holds the labels, ",
                    _CHANNEL,
                )
            )
        array = array.squeeze(at)
    return _without_short_axes(array)


def _one_channel(path: Path, stack: RawStack, channel: int) -> NDArray[Any]:
    """The values of one channel, where the file says which axis channels have."""
    axes = (stack.axes or "").replace("S", "C")
    if len(axes) != len(stack.array.shape) or "C" not in axes:
        raise FrameError(f"channel={channel} was given for {path}, which has no channels; leave it out")
    at = axes.index("C")
    number = int(stack.array.shape[at])
    if not 0 <= channel < number:
        raise FrameError(f"channel={channel} was given for {path}, which has {number}, 0 to {number - 1}")
    values: NDArray[Any] = _read(path, stack.array, axes).take(channel, axis=at)
    return values


def _without_short_axes(array: NDArray[Any]) -> NDArray[Any]:
    """Without leading axes of length one beyond those of a stack, or of volumes over time."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 4 and array.shape[1] == 1:  # a movie of volumes of one plane
        array = array[:, 0]
    return array


def is_lossy(path: Path) -> bool:
    """Whether a file is compressed in a way that changes the values of labels."""
    return path.is_file() and bool(_lossy_kind(path))


def _lossy_kind(path: Path) -> str:
    """What a picture is whose compression changes values; empty for all others."""
    suffix = path.suffix.lower()
    if suffix in _LOSSY_SUFFIXES:
        return "a JPEG"
    if suffix in TIFF_SUFFIXES:
        return "a TIFF compressed as JPEG" if is_lossy_tiff(path) else ""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        raise FrameError(f"{path} cannot be read: {error.strerror}") from error
    if suffix == ".webp" and b"VP8 " in head:
        return "a lossy WebP"
    coding = head.find(b"\xff\x52")  # of JPEG 2000: how it was coded, at the end whether it can be reversed
    if suffix == ".jp2" and coding >= 0 and head[coding + 13 : coding + 14] == b"\0":
        return "a lossy JPEG 2000"
    return ""


def _grey(colours: NDArray[Any]) -> NDArray[Any] | None:
    """(..., H, W) of a picture (..., H, W, 3 or 4) whose red, green and blue are the same, and not all 0; else None."""
    grey: NDArray[Any] = colours[..., 0]
    is_grey = colours.shape[-1] in (3, 4) and all(np.array_equal(grey, colours[..., i]) for i in (1, 2))
    return grey if is_grey and grey.any() else None


def label_image_of(path: Path) -> Path:
    """The label image of an OME-Zarr image that has one; any other path itself."""
    labels = path / "labels"
    if not path.is_dir() and zipped_zarr(path) is not None:
        names = sorted(place.name for place in labels_inside(path))
    elif path.is_dir() and is_zarr_folder(labels):
        names = sorted(p.name for p in labels.iterdir() if not p.name.startswith(".") and is_zarr_folder(p))
    else:
        return path
    if len(names) == 1:
        return labels / names[0]
    if names:
        raise FrameError(f"{path} holds the labels {', '.join(names)}; give one of them, as {labels / names[0]}")
    return path


def _read(path: Path, array: Any, axes: str = "") -> NDArray[Any]:
    """The whole array, in blocks of planes where these come last: what holds no object takes no memory."""
    shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
    check_fits_memory(path, shape, dtype)
    num_leading = len(shape) - 2 if axes.upper().endswith("YX") else 0
    steps = getattr(array, "chunks", (1,) * len(shape))[:num_leading]
    starts = (range(0, size, step) for size, step in zip(shape, steps, strict=False))
    try:
        whole = np.zeros(shape, dtype.newbyteorder("="))
        for first in itertools.product(*starts):
            leading = (slice(start, start + step) for start, step in zip(first, steps, strict=True))
            index = (*leading, *(slice(None),) * (len(shape) - num_leading))
            block = np.asarray(array[index])
            if block.any():
                whole[index] = block
    except FrameError:
        raise
    except READ_ERRORS as error:
        raise FrameError(f"{path} cannot be read ({one_line(error)}); the file may be damaged") from error
    return whole


def _folder(path: Path, channel: int | None) -> NDArray[Any]:
    """Pictures of a folder, along the axes of a folder of images with the same names."""
    found = (p for p in path.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != ".")
    files = in_order(found, path)
    if not files:
        raise FrameError(f"the folder {path} holds no label image; expected {' '.join(IMAGE_SUFFIXES)}")
    planes = [_pixels(file, channel) for file in files]
    for file, plane in zip(files, planes, strict=True):
        if plane.shape != planes[0].shape or plane.ndim != 2:
            raise FrameError(f"{file} has shape {plane.shape}; the label images of a folder are planes of one size")
    grid = grid_of_names([plain_stem(file) for file in files], str(path))
    if grid is None or grid.axes not in ("T", "Z", "TZ"):
        return np.stack(planes)
    return np.stack([planes[at] for at in grid.order]).reshape(*grid.shape, *planes[0].shape)


def _palette_indices(path: Path) -> NDArray[Any] | None:
    """The indices of a picture with a palette; None if it has none.

    A GIF always has one: where its palette is grey, the grey values are the labels.
    """
    with opened_picture(path) as image:
        if image.mode != "P":
            return None
        palette = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
        indices: NDArray[Any] = np.asarray(image)
        if image.format == "GIF" and int(indices.max()) < len(palette) and (palette == palette[:, :1]).all():
            indices = palette[indices, 0]
        return indices


def without_single_planes(labels: NDArray[np.int32], num_frames: int) -> NDArray[np.int32]:
    """(H, W) labels of one plane of a stack, which some files store with further axes of length one.

    Parameters
    ----------
    labels : numpy.ndarray
        (..., H, W), as read.
    num_frames : int
        Frames of the image; labels of a single image are left as they are.
    """
    if labels.ndim > 2 and num_frames > 1 and max(labels.shape[:-2]) == 1:
        return labels.reshape(labels.shape[-2:])
    return labels
