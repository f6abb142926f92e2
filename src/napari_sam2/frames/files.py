"""Paths as lazily read stacks: which reader a path needs, single pictures, and folders of pictures."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2._messages import counted, is_or_are, one_line
from napari_sam2.frames.axes import guess_axes, name_unnamed
from napari_sam2.frames.bioio_files import PLUGINS, open_bioio
from napari_sam2.frames.czi_files import CZI_SUFFIX, open_czi_file
from napari_sam2.frames.file_contents import content_hint
from napari_sam2.frames.file_names import by_numbers, grid_of_names
from napari_sam2.frames.micro_manager import INDEX_NAME, folder_channels, read_ndtiff
from napari_sam2.frames.pictures import PICTURE_SUFFIXES, describe_picture, read_picture
from napari_sam2.frames.stack import READ_ERRORS, RawStack
from napari_sam2.frames.tiff import TIFF_SUFFIXES, ome_members, open_companion, open_tiff
from napari_sam2.frames.zarr_files import is_zarr_folder, open_zarr
from napari_sam2.frames.zarr_zip import zipped_zarr

__all__ = [
    "IMAGE_SUFFIXES",
    "check_array_header",
    "existing_path",
    "holds_images",
    "in_order",
    "open_path",
    "plain_stem",
    "without_label_files",
]

IMAGE_SUFFIXES = TIFF_SUFFIXES + PICTURE_SUFFIXES
_SAME_FORMAT = (TIFF_SUFFIXES, (".jpg", ".jpeg"), (".pbm", ".pgm", ".ppm", ".pnm"))  # endings of one format
_MAX_HEADER_BYTES = 2**16  # of a numpy file
_SHOWN = 8  # names in a message
_ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_EXPORT = "export it as OME-TIFF or OME-Zarr"
_UNPACK = "unpack it, and open what it holds"
_HDF5 = ("an HDF5 file", f"{_EXPORT}, or pass a dataset of it: open_frames(h5py.File(...)[NAME])")
_VOLUME = f"{_EXPORT}, or pass the array that a library for this format reads"
_NIFTI = f"{_EXPORT}, or pass its array, whose axes are XYZ: open_frames(nibabel.load(...).dataobj, axes='XYZ')"
_OTHERS = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".ilp"), _HDF5),
    ".npz": ("an archive of numpy arrays", "save one array as .npy, or pass it: open_frames(numpy.load(...)[NAME])"),
    ".zip": ("an archive", f"{_UNPACK} (if it is a set of ImageJ ROIs, give it as labels)"),
    **dict.fromkeys((".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar"), ("an archive", _UNPACK)),
    **dict.fromkeys((".nii", ".nii.gz"), ("a NIfTI file", _NIFTI)),
    **dict.fromkeys((".mrc", ".rec", ".map", ".st", ".ali"), ("an MRC file", _VOLUME)),
    **dict.fromkeys((".nrrd", ".nhdr"), ("an NRRD file", _VOLUME)),
    **dict.fromkeys((".mhd", ".mha"), ("a MetaImage file", _VOLUME)),
    **dict.fromkeys((".dcm", ".dicom"), ("a DICOM file", _VOLUME)),
    ".spe": ("an SPE file", _VOLUME),
    **dict.fromkeys((".dm3", ".dm4", ".ser", ".emd"), ("a file of an electron microscope", _VOLUME)),
    ".fits": ("a FITS file", _VOLUME),
    ".mat": ("a MATLAB file", _VOLUME),
    ".klb": ("a KLB file", _VOLUME),
    ".raw": ("raw data without a size", f"{_VOLUME} (numpy.memmap)"),
    **dict.fromkeys(
        (".oif", ".zvi", ".flex", ".sld", ".lof", ".xlef", ".lei", ".ics", ".ids", ".cxd", ".mvd2"),
        ("a file of a microscope", _EXPORT),
    ),
    **dict.fromkeys((".wmv", ".m4v", ".webm", ".mpg", ".mpeg"), ("a video", "save it as MP4, AVI or TIFF")),
    **dict.fromkeys((".ndpi", ".mrxs", ".bif", ".vms"), ("a file of a slide scanner", _EXPORT)),
    **dict.fromkeys((".heic", ".avif", ".jxl", ".apng", ".exr", ".psd"), ("a picture", "save it as PNG or TIFF")),
    **dict.fromkeys((".pdf", ".svg", ".eps"), ("a drawing", "save the image itself as PNG or TIFF")),
    **dict.fromkeys((".geojson", ".roi"), ("a file of outlines", "give it as labels")),
}
"""Endings of files that are not read: what they are, and what to do."""
# that MetaXpress writes of each image
_PREVIEW = re.compile(r".+_w\d_thumb([0-9A-F]{8}-[0-9A-F-]{27})?", re.IGNORECASE)
_LABEL_FILE = re.compile(r"(?P<image>.+?)[_-](cp_masks|cp_output|masks?|seg|labels?)", re.IGNORECASE)


def open_path(
    path: Path, level: int | None = None, *, checks_all: bool = True, position: int | str | None = None
) -> RawStack:
    """Describe what lies under a path without reading more than one picture of it.

    Parameters
    ----------
    path : Path
        TIFF, picture, zarr folder, zarr in a zip file, or folder of pictures.
    level : int, optional
        Level of a pyramid. Default: 0, the full resolution.
    checks_all : bool, default True
        Open all images of a folder to see that they have one size and type; else only the first one is opened.
    position : int or str, optional
        Number or name of the image, where those of a file differ in size. Default: the first, with a warning.

    Returns
    -------
    RawStack
        The pixels, read lazily.

    Raises
    ------
    FrameError
        If nothing is there, it is of no known kind, or it is damaged.
    """
    path = existing_path(path)
    if is_zarr_folder(path) or (not path.is_dir() and zipped_zarr(path) is not None):
        return open_zarr(path, level or 0)
    if path.is_dir() and (path / INDEX_NAME).exists():
        stack = _open_file(read_ndtiff(path).first)
    else:
        stack = (
            _open_folder(path, checks_all=checks_all, position=position)
            if path.is_dir()
            else _open_file(path, level or 0, position=position)
        )
    if level and path.suffix.lower() not in (*TIFF_SUFFIXES, ".ome"):
        raise FrameError(f"level {level} of {path} was requested; it has one level, 0")
    return replace(stack, path=path)


def existing_path(path: Path, wanted: str = "an image file, a folder of images or a .zarr folder") -> Path:
    """The path of a file or folder with "~" expanded; raises FrameError if there is none."""
    try:
        path = path.expanduser()
        is_there = path.exists() or zipped_zarr(path) is not None
    except PermissionError as error:
        raise FrameError(
            f"{path} cannot be accessed (permission denied); change the permissions of its folder"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, an unknown user, a null byte
        raise FrameError(f"{str(path)[:80]} is not a valid file name ({one_line(error)})") from error
    if not is_there and path.is_symlink():
        raise FrameError(f"{path} is a link to {path.readlink()}, which does not exist; give {wanted}")
    if not is_there:
        raise FrameError(f"{path} does not exist; give {wanted}")
    if path.exists():  # and is not inside a zip file
        _check_may_be_read(path)
    return path


def in_order(files: Iterable[Path], folder: Path) -> list[Path]:
    """Files of a folder by the numbers in their names, masks like their images; warns if the order is in doubt."""
    listed = sorted(files)
    names = []
    for file in listed:
        match = _LABEL_FILE.fullmatch(plain_stem(file))
        names.append(plain_stem(file) if match is None else match["image"])
    return [listed[at] for at in by_numbers(names, str(folder))]


def plain_stem(file: Path) -> str:
    """The name of a file without its ending, also where that is ``.ome.tif``."""
    return file.stem.removesuffix(".ome")


def _open_file(path: Path, level: int = 0, *, is_dataset: bool = False, position: int | str | None = None) -> RawStack:
    suffix = path.suffix.lower()
    _check_regular(path)
    stat = path.stat()
    if suffix in TIFF_SUFFIXES:
        if (path.parent / INDEX_NAME).exists():
            read_ndtiff(path.parent)
        stack = open_tiff(path, level, is_dataset=is_dataset, position=position)
    elif suffix in PICTURE_SUFFIXES:
        array = read_picture(path)
        axes = "YXC" if array.ndim == 3 else "YX"
        stack = RawStack(array, str(path), "picture", axes, is_rgb=array.ndim == 3)
    elif suffix == ".npy":
        stack = RawStack(_read_array(path), str(path), "picture")
    elif suffix == CZI_SUFFIX:
        stack = open_czi_file(path, position)
    elif suffix in PLUGINS:
        stack = open_bioio(path, position)
    elif suffix == ".ome":
        stack = open_companion(path, level, position)
    else:
        raise FrameError(_other_file(path))
    key = f"{stack.key}:{path.resolve()}:{stat.st_mtime_ns}:{stat.st_size}"
    return replace(stack, key=key, size_and_time=(stat.st_size, stat.st_mtime_ns))


def _check_regular(path: Path) -> None:
    if not path.is_file():
        raise FrameError(f"{path} is not a regular file (a pipe, a device or a broken link); give an image file")
    _check_may_be_read(path)


def _check_may_be_read(path: Path) -> None:
    """Raise FrameError if the permissions of a file or folder forbid to read it."""
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise FrameError(f"{path} cannot be read (permission denied); change its permissions")


def _other_file(path: Path) -> str:
    """What is said of a file of no kind that is read: what it is, where that is known, and what to do."""
    name = path.name.lower()
    ending = next((ending for ending in sorted(_OTHERS, key=len, reverse=True) if name.endswith(ending)), "")
    if ending:
        kind, advice = _OTHERS[ending]
        return f"{path} is {kind}, which is not read; {advice}"
    if name in _ZARR_METADATA or is_zarr_folder(path.parent):
        return f"{path} is a file within a zarr; give its folder, {path.parent}"
    return (
        f"{path} is of an unknown kind ({path.suffix or 'no suffix'}); expected {' '.join(IMAGE_SUFFIXES)} .npy, "
        "folders of images, and zarr folders or zip files with one (.ozx, .zarr.zip)"
    )


def _read_array(path: Path) -> NDArray[np.generic]:
    """The array of a numpy file, of which only the pages that are needed are read."""
    check_array_header(path)
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except READ_ERRORS as error:
        hint = content_hint(path, (".npy",)) or f"{one_line(error)}; save it as TIFF"
        raise FrameError(f"{path} cannot be read as an array: {hint}") from error
    return array


def check_array_header(path: Path) -> None:
    """Refuse a numpy file whose header claims to be longer than numpy reads."""
    with path.open("rb") as file:
        start = file.read(12)
    is_long = start[6:7] in (b"\2", b"\3")  # versions with a length of four bytes instead of two
    length = int.from_bytes(start[8:12] if is_long else start[8:10], "little")
    if length > _MAX_HEADER_BYTES:
        raise FrameError(f"{path} cannot be read as an array (a header of {length:,} bytes); save it as TIFF")


def _open_folder(path: Path, *, checks_all: bool, position: int | str | None = None) -> RawStack:
    files = [p for p in path.iterdir() if not p.is_dir() and not p.name.startswith(".")]  # also links to nothing
    files = without_label_files(path, sorted(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES))
    if not files:
        raise FrameError(_without_images(path))
    _check_names(path, files)
    _check_one_format(path, files)
    files = in_order(files, path)
    _check_regular(files[0])
    if _is_one_image(path, files):
        return _open_file(files[0], is_dataset=True, position=position)
    first = _open_file(files[0])
    inner = _inner_axes(first)
    channels = folder_channels(path)
    grid = grid_of_names([plain_stem(file) for file in files], str(path), channels)
    if grid is None:
        outer, lengths = _outer_axis(inner), [len(files)]
        if outer is None:
            raise FrameError(f"{files[0]} already has the axes {inner}; open this file instead of the folder")
    else:
        outer, lengths = grid.axes, list(grid.shape)
        if set(outer) & set(inner):
            raise FrameError(
                f"the files of {path} are numbered along {' and '.join(outer)}, and each of them has the axes {inner}; "
                "move those of one number to a folder of their own"
            )
        files = [files[at] for at in grid.order]
    kind = _kind(first)
    for file in files[1:] if checks_all else ():
        _check_kind(file, _kind(_describe_file(file)), files[0], kind)
    stats = [(p.name, p.stat()) for p in files]
    stamp = hashlib.sha256(repr([(name, s.st_mtime_ns, s.st_size) for name, s in stats]).encode()).hexdigest()
    voxel_size = {axis: spacing for axis, spacing in first.voxel_size.items() if axis in inner}
    array = FolderOfImages(files, lengths, *kind)
    key = f"folder:{path.resolve()}:{stamp}"
    channels = channels or (() if grid is None else grid.channels)
    names = channels if grid is not None and "C" in outer and len(channels) == lengths[outer.index("C")] else ()
    return RawStack(array, str(path), key, outer + inner, voxel_size, first.is_rgb, channel_names=names)


def _without_images(path: Path) -> str:
    """What is said of a folder without images."""
    if path.suffix.lower() == ".n5" or (path / "attributes.json").is_file():
        return f"{path} is N5, which is not read; {_EXPORT}"
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and is_zarr_folder(p))
    if inside:
        inside = [inside[at] for at in by_numbers(inside)]
        shown = ", ".join(inside[:_SHOWN]) + ", ..." * (len(inside) > _SHOWN)
        return f"the folder {path} holds no image but the zarr folders {shown}; open one of these"
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and holds_images(p))
    if inside:
        shown = ", ".join(inside[:_SHOWN]) + ", ..." * (len(inside) > _SHOWN)
        return f"the folder {path} holds no image but folders with images, {shown}; open one of these"
    others = sorted({p.suffix.lower() for p in path.iterdir() if p.is_file() and p.suffix.lower() in _OTHERS})
    held = f" but files ending in {' '.join(others)}" if others else ""
    return f"the folder {path} holds no image{held}; expected {' '.join(IMAGE_SUFFIXES)} or zarr folders"


def holds_images(folder: Path) -> bool:
    """Whether images lie directly inside a folder; False if it cannot be read."""
    try:
        return any(p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") for p in folder.iterdir())
    except OSError:  # a folder without permission to read it
        return False


def _is_one_image(path: Path, files: list[Path]) -> bool:
    """Whether the files of a folder are those of one OME-TIFF, each of which opens as the whole image."""
    members = ome_members(files[0]) if files[0].suffix.lower() in TIFF_SUFFIXES else frozenset()
    if len(members) < 2:
        return False
    others = [file.name for file in files if file.name not in members]
    if others:
        raise FrameError(
            f"{files[0].name} in {path} is one of {len(members)} files of an OME-TIFF, to which {others[0]} does not "
            f"belong; open {files[0]} itself"
        )
    return True


def _check_names(path: Path, files: list[Path]) -> None:
    """Refuse a folder that holds one image in two formats, which would be two planes."""
    seen: dict[str, Path] = {}
    for file in files:
        twin = seen.setdefault(file.stem.lower(), file)
        if twin is not file:
            raise FrameError(
                f"{path} holds {twin.name} and {file.name}, which differ in their ending or in capitals only; move the "
                "images of one kind to a folder of their own"
            )


def _check_one_format(path: Path, files: list[Path]) -> None:
    """Refuse images of several formats: the planes of a stack have one, and others are pictures or results of them."""
    first: dict[tuple[str, ...], Path] = {}
    for file in files:
        ending = file.suffix.lower()
        first.setdefault(next((endings for endings in _SAME_FORMAT if ending in endings), (ending,)), file)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise FrameError(
            f"{path} holds images of several formats, such as {one.name} and {other.name}; move those that are no "
            "frames to a folder of their own, or save all of them in one format"
        )


def without_label_files(path: Path, files: list[Path]) -> list[Path]:
    """The images of a folder, without masks and previews that lie beside them, with a warning.

    Masks are named like their image (``a.tif`` and ``a_cp_masks.tif``), previews as MetaXpress names them.
    """
    previews = [file for file in files if _PREVIEW.fullmatch(plain_stem(file))]
    if 0 < len(previews) < len(files):
        files = [file for file in files if not _PREVIEW.fullmatch(plain_stem(file))]
        warn_caller(
            f"{counted(len(previews), 'file')} of {path} {is_or_are(len(previews))} named like previews of MetaXpress "
            f"and left out, such as {previews[0].name}"
        )
    stems = {plain_stem(file) for file in files}
    images = []
    for file in files:
        match = _LABEL_FILE.fullmatch(plain_stem(file))
        if match is None or match["image"] not in stems:
            images.append(file)
    if len(images) < len(files):
        example = next(file.name for file in files if file not in images)
        count = len(files) - len(images)
        warn_caller(
            f"{counted(count, 'file')} of {path} {is_or_are(count)} named like masks of the images beside them and "
            f"left out, such as {example}"
        )
    return images


def _outer_axis(inner: str) -> str | None:
    """The axis that the files of a folder run along: planes of a stack, volumes over time, positions of movies."""
    if "T" in inner:
        return None if "P" in inner else "P"
    return "T" if "Z" in inner else "Z"


_Kind = tuple[tuple[int, ...], np.dtype[np.generic]]


def _kind(stack: RawStack) -> _Kind:
    return tuple(int(n) for n in stack.array.shape), stack.dtype.newbyteorder("=")


def _describe_file(path: Path) -> RawStack:
    """As `_open_file`, but pixels of a picture are not decoded."""
    _check_regular(path)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff(path)
    shape, dtype = describe_picture(path)
    return RawStack(np.broadcast_to(np.zeros((), dtype), shape), str(path), "picture")


def _check_kind(path: Path, found: _Kind, first: Path, expected: _Kind) -> None:
    if found != expected:
        raise FrameError(
            f"{path} has shape {found[0]} and type {found[1]}, but {first.name} has {expected[0]} and {expected[1]}; "
            "the images of a folder must have one size and type: move the others to a folder of their own"
        )


def _inner_axes(stack: RawStack) -> str:
    shape = stack.array.shape
    return guess_axes(shape, stack.dtype) if stack.axes is None else name_unnamed(stack.axes, shape)


class FolderOfImages:
    """Images of one size in a folder, along one or several axes; each is opened when its frame is read."""

    def __init__(
        self, files: list[Path], lengths: Sequence[int], inner_shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        self.files, self.dtype = files, dtype
        self.shape = (*lengths, *inner_shape)
        self._places = np.arange(len(files)).reshape(lengths)

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        outer, inner = index[: self._places.ndim], index[self._places.ndim :]
        chosen = np.asarray(self._places[outer])
        images = [self._read(self.files[at], inner) for at in chosen.reshape(-1).tolist()]
        if not images:
            return np.zeros((*chosen.shape, *np.empty(self.shape[self._places.ndim :], bool)[inner].shape), self.dtype)
        return np.stack(images).reshape(*chosen.shape, *images[0].shape)

    def _read(self, path: Path, inner: tuple[int | slice, ...]) -> NDArray[np.generic]:
        stack = _open_file(path)
        _check_kind(path, _kind(stack), self.files[0], (self.shape[self._places.ndim :], self.dtype))
        return np.asarray(stack.array[inner])
