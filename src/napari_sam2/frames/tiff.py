"""TIFF, OME-TIFF and ImageJ TIFF as lazily read stacks: one plane is fetched from the file at a time."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2._messages import AXES, Message, counted, one_line
from napari_sam2.frames.file_contents import content_hint
from napari_sam2.frames.micro_manager import positions_named, stack_channels, warn_of_order
from napari_sam2.frames.microscope_tags import has_damaged_lsm_notes, mend_stk_notes
from napari_sam2.frames.ome_xml import (
    channel_colours,
    channel_names,
    check_beside,
    companion_xml,
    files_of_images,
    named_files,
    parse_ome_xml,
    read_ome_xml,
    tag_of,
)
from napari_sam2.frames.palettes import LookedUp, is_scale, tables_of_pages
from napari_sam2.frames.pictures import warn_of_orientation
from napari_sam2.frames.positions import is_overview, one_of_several, position_number, warn_of_others
from napari_sam2.frames.scan_image import has_left_out_pages, warn_of_interleaved_pages
from napari_sam2.frames.spacing import Spacing
from napari_sam2.frames.stack import READ_ERRORS, LazyArray, RawStack
from napari_sam2.frames.tiff_planes import ContiguousPlanes, PagedPlanes, TiffLimits, TiffPages, WithoutAlpha
from napari_sam2.frames.tiff_scale import read_positions, read_voxel_size

__all__ = ["TIFF_SUFFIXES", "is_lossy_tiff", "ome_files", "ome_members", "open_companion", "open_tiff", "software_of"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk", ".svs", ".scn", ".qptiff")
_IMAGEJ_SIZES = ("frames", "slices", "channels")
_SHOWN = 8  # numbers of pages in a message
_INKS: dict[int, str] = {
    tifffile.PHOTOMETRIC.SEPARATED: "CMYK inks",
    tifffile.PHOTOMETRIC.CIELAB: "CIE L*a*b*",
    tifffile.PHOTOMETRIC.ICCLAB: "CIE L*a*b*",
    tifffile.PHOTOMETRIC.ITULAB: "CIE L*a*b*",
}
_COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR, tifffile.PHOTOMETRIC.PALETTE)


def open_tiff(
    path: Path,
    level: int = 0,
    limits: TiffLimits | None = None,
    *,
    is_dataset: bool = False,
    position: int | str | None = None,
) -> RawStack:
    """Describe an image of a TIFF file without reading its pixels.

    Parameters
    ----------
    path : Path
        An existing file.
    level : int, default 0
        Level of a pyramid; 0 is the full resolution.
    limits : TiffLimits, optional
        What the file may claim.
    is_dataset : bool, default False
        An OME-TIFF in several files is meant, and not the image or position that lies in this one.
    position : int or str, optional
        Number or name of the image that is opened, if those of an OME-TIFF differ in size. Default: the first, with a
        warning.

    Returns
    -------
    RawStack
        Holds no open file; each read opens and closes it.

    Raises
    ------
    FrameError
        If the file is not a TIFF, holds no image, is damaged, claims more than it can hold, or has no such level.
    """
    limits = limits or TiffLimits()
    with _opened(path) as tif:
        images = _ome_images(tif, path, limits)
        return _describe(tif, path, level, images, limits, is_dataset=is_dataset, position=position)


def open_companion(path: Path, level: int = 0, position: int | str | None = None) -> RawStack:
    """Describe the OME-TIFF that a ``.companion.ome`` file lists, without reading its pixels; as `open_tiff`."""
    try:
        files = [path.parent / name for name in named_files(parse_ome_xml(read_ome_xml(path), path))]
    except FrameError:
        raise
    except READ_ERRORS as error:
        raise FrameError(f"{path} cannot be read as OME-XML ({one_line(error)}); copy the file again") from error
    if not files:
        raise FrameError(f"{path} lists no files of an OME-TIFF; export the images again")
    there = [file for file in files if file.is_file()]
    if not there:
        raise FrameError(
            f"{path} describes an OME-TIFF, and none of its {len(files)} files is there, such as {files[0].name}; copy "
            "them beside it"
        )
    return open_tiff(there[0], level, is_dataset=True, position=position)


def ome_members(path: Path) -> frozenset[str]:
    """Names of the files over which the planes of an OME-TIFF are spread; raises as `open_tiff`."""
    return frozenset(name for names in ome_files(path) for name in names)


def ome_files(path: Path) -> list[tuple[str, ...]]:
    """Names of the files of an OME-TIFF, those of each of its images together; raises as `open_tiff`.

    Images that share a file are one entry. A file that names no files gives none.
    """
    with _opened(path) as tif:
        if not _ome_images(tif, path, TiffLimits()):
            return []
        return files_of_images(parse_ome_xml(tif.ome_metadata or "", path))


def is_lossy_tiff(path: Path) -> bool:
    """Whether the first page of a TIFF is a JPEG of 8 bits, which changes values; raises as `open_tiff`."""
    with _opened(path) as tif:
        page = tif.pages.first
        kinds = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
        return page.compression in kinds and page.bitspersample == 8


def software_of(path: Path) -> str:
    """The program that a TIFF says it was written by; raises as `open_tiff`."""
    with _opened(path) as tif:
        return str(tif.pages.first.software)


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """A file that is open within the context, with the OME-XML of its companion; errors are FrameErrors."""
    try:
        with _open(path) as tif, np.errstate(divide="ignore", invalid="ignore"):  # of fractions in the metadata
            mend_stk_notes(tif, path)
            yield tif
    except FrameError:
        raise
    except READ_ERRORS as error:
        hint = content_hint(path, TIFF_SUFFIXES)
        raise FrameError(
            f"{path} cannot be read as a TIFF: {hint}"
            if hint
            else f"{path} cannot be read as a TIFF ({one_line(error)}); check or export the file again"
        ) from error


def _open(path: Path) -> tifffile.TiffFile:
    tif = tifffile.TiffFile(path, omexml=companion_xml(path))
    with ExitStack() as otherwise:
        otherwise.callback(tif.close)
        try:
            _ = tif.pages.first
        except IndexError:
            raise FrameError(
                f"{path} is damaged or truncated: its first page is missing; copy the file again"
            ) from None
        if has_left_out_pages(tif):
            return tifffile.TiffFile(path, is_scanimage=False)
        if has_damaged_lsm_notes(tif):
            warn_caller(f"the Zeiss metadata of {path} is damaged; its pages are read as one stack without voxel size")
            return tifffile.TiffFile(path, is_lsm=False)
        otherwise.pop_all()
    return tif


_OmeImages = list[tuple[str, ET.Element]]  # names and Pixels elements


def _ome_images(tif: tifffile.TiffFile, path: Path, limits: TiffLimits) -> _OmeImages:
    """The images of OME-XML; checked before tifffile allocates what it announces."""
    if not (tif.is_ome and tif.ome_metadata):
        return []
    root = parse_ome_xml(tif.ome_metadata, path)
    found = [
        (image.get("Name") or "", pixels) for image in root.iter() for pixels in image if tag_of(pixels) == "Pixels"
    ]
    for _, pixels in found:
        announced = math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
        if announced > limits.max_planes:
            raise FrameError(
                f"the OME-XML of {path} declares {announced:,} planes, more than the {limits.max_planes:,} that are "
                "allowed; the file is damaged"
            )
    for name in named_files(root):
        check_beside(path, name)
    return found


def _pixels_of(
    series: tifffile.TiffPageSeries, every: Sequence[tifffile.TiffPageSeries], images: _OmeImages
) -> ET.Element | None:
    """The Pixels element of a series: tifffile passes over images without planes, which may come first."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    wanted = (sizes.get("X", 1), sizes.get("Y", 1), math.prod(sizes.values()))
    fitting = [(name, pixels) for name, pixels in images if _ome_sizes(pixels) == wanted] or images
    named = [pixels for name, pixels in fitting if name == series.name] or [pixels for _, pixels in fitting]
    twins = [each for each in every if each.shape == series.shape and each.name == series.name]
    return named[min(twins.index(series), len(named) - 1)] if named else None


def _ome_sizes(pixels: ET.Element) -> tuple[int, int, int]:
    """Columns, rows, and number of values of an image in OME-XML."""
    sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "XYZCT"}
    return sizes["X"], sizes["Y"], math.prod(sizes.values())


class _Chosen(NamedTuple):
    """What is read of a file.

    ``series`` is the image, or one of several: that in the file itself, else the first. ``positions`` are images that
    differ in their place on the stage, and ``one_size`` all pages of a plain TIFF, if these are one stack; else both
    are empty. ``position`` is the one in the file itself, if others lie in other files. ``several`` are images that
    differ in size or type, of which ``position`` is read; else it is empty.
    """

    series: tifffile.TiffPageSeries
    positions: Sequence[tifffile.TiffPageSeries]
    one_size: TiffPages
    num_images: int
    position: int | None = None
    several: Sequence[tifffile.TiffPageSeries] = ()

    def pages(self, level: int) -> TiffPages:
        """The pages of several series that are read as one stack; empty if one series is read."""
        if self.one_size and level == 0:
            return self.one_size
        return [page for each in self.positions for page in each.levels[level].pages]

    def axes_and_shape(self, level: int) -> tuple[str, tuple[int, ...]]:
        """Axes of the stack, and its shape at a level."""
        if self.one_size and level == 0:
            keyframe = self.series.keyframe
            return "I" + keyframe.axes, (len(self.one_size), *keyframe.shape)
        part = self.series.levels[level]
        axes, shape = positions_named(part.axes, self.series.kind), tuple(part.shape)
        return ("P" + axes, (len(self.positions), *shape)) if self.positions else (axes, shape)


def _describe(
    tif: tifffile.TiffFile,
    path: Path,
    level: int,
    images: _OmeImages,
    limits: TiffLimits,
    *,
    is_dataset: bool,
    position: int | str | None,
) -> RawStack:
    chosen = _choose(tif, path, level, limits, is_dataset=is_dataset, position=position)
    full = chosen.series
    pixels = _pixels_of(full, tif.series, images)
    _check_ome_planes(tif, path, full, pixels)
    truncated = _truncated_imagej(tif, path, full, limits)
    if truncated is not None and level == 0:
        return truncated
    _warn_of_what_is_not_read(tif, path, chosen)
    if not 0 <= level < len(full.levels):
        raise FrameError(f"level {level} of {path} was requested; it has {len(full.levels)}, 0 is the finest")
    warn_of_order(tif, full.kind, path)
    warn_of_interleaved_pages(tif, full, path)
    series = full.levels[level]
    axes, _ = chosen.axes_and_shape(level)
    array = _planes(tif, path, chosen, level, limits)
    voxel_size, translation = _place(tif, path, chosen, level, pixels)
    is_alike = "P" * bool(chosen.positions) + positions_named(full.axes, full.kind) == axes
    full_shape = (*([len(chosen.positions)] if chosen.positions else []), *full.shape) if level and is_alike else None
    is_rgb = "S" in axes and series.keyframe.photometric in _COLOURS
    if axes.endswith("S") and _has_alpha_only(series.keyframe):
        axes, array = axes[:-1], WithoutAlpha(array)
    stack = RawStack(
        array,
        str(path),
        f"tiff:{level}",
        axes,
        voxel_size,
        is_rgb,
        translation=translation,
        channel_names=stack_channels(tif, full.kind, path) or channel_names(pixels),
        channel_colours=channel_colours(pixels),
        full_shape=full_shape,
        default_fixed={} if chosen.position is None else {"P": chosen.position},
        num_levels=len(full.levels),
    )
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        stack = _without_palette(stack, chosen.pages(level) or [*series.pages])
    names = [each.name or "" for each in chosen.several or chosen.positions]
    if chosen.several:
        return one_of_several(stack, chosen.position or 0, names)
    return replace(stack, position_names=tuple(names) if any(names) else ())


def _choose(
    tif: tifffile.TiffFile,
    path: Path,
    level: int,
    limits: TiffLimits,
    *,
    is_dataset: bool,
    position: int | str | None,
) -> _Chosen:
    """The image of a file that is read: that at a position or in the file itself, the first, or all of one stack."""
    coarser = tif.pages.first.tags.get("SubIFDs")
    if coarser is not None and coarser.count > limits.max_levels:
        raise FrameError(
            f"{path} claims {coarser.count:,} levels; {limits.max_levels} are allowed: copy the file again"
        )
    if not tif.series:
        raise FrameError(f"{path} holds no image")
    shown = [series for series in tif.series if not series.keyframe.is_reduced]  # a thumbnail may come first
    one_size = _pages_of_one_size(shown)
    positions = _positions(shown[:1] if one_size and level == 0 else shown)
    first = positions[0] if positions else (shown or tif.series)[0]
    is_one = bool(positions) or (bool(one_size) and level == 0)
    own = None if is_dataset else _in_this_file(tif, positions or shown)
    several = [] if positions else _several(shown)
    if len(several) > 1 and (own is None or position is not None):
        names = [each.name or "" for each in several]
        number = 0 if position is None else position_number(position, names, len(several), path)
        if position is None:
            warn_of_others(path, names, [_size_of(each) for each in several], number)
        return _Chosen(several[number], [], [], 1, number, several)
    if own is None:
        return _Chosen(first, positions, one_size, 1 if is_one else len(shown))
    return _Chosen(first, positions, [], 1, own) if positions else _Chosen(shown[own], [], [], 1)


def _in_this_file(tif: tifffile.TiffFile, series: Sequence[tifffile.TiffPageSeries]) -> int | None:
    """Which image of an OME-TIFF in several files lies in the file that was opened; None if this is not one of them."""
    if len(series) < 2 or not tif.is_ome:
        return None
    own = [at for at, each in enumerate(series) if tif.filehandle.name in _files_of(each)]
    return own[0] if len(own) == 1 else None


def _files_of(series: tifffile.TiffPageSeries) -> set[str]:
    """Names of the files in which the planes of an image lie."""
    return {page.parent.filehandle.name for page in series.pages if page is not None}


def _warn_of_what_is_not_read(tif: tifffile.TiffFile, path: Path, chosen: _Chosen) -> None:
    """Warn of further images, of an orientation, and of values that are no intensities."""
    series = chosen.series
    if chosen.num_images > 1:
        warn_caller(f"{path} holds {chosen.num_images} images; the first is read{_pages_of(series, len(tif.pages))}")
    tags = series.keyframe.tags
    warn_of_orientation(path, tags["Orientation"].value if "Orientation" in tags else 1)
    _warn_of_colours(path, series.keyframe)


def _planes(tif: tifffile.TiffFile, path: Path, chosen: _Chosen, level: int, limits: TiffLimits) -> LazyArray:
    """The pixels of a level, read one plane at a time."""
    series, stacked = chosen.series.levels[level], chosen.pages(level)
    axes, shape = chosen.axes_and_shape(level)
    is_in_pages = bool(stacked) or (tif.is_ome and _files_of(chosen.series) != {tif.filehandle.name})
    if not is_in_pages and series.dataoffset is not None:
        num_leading = _first_of(axes, "YX")
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        planes = ContiguousPlanes(path, series.dataoffset, shape, dtype, num_leading=num_leading)
        planes.warn_if_truncated()
        if _is_cut(tif) and math.prod(shape[:num_leading]) == 1:
            raise FrameError(f"{path} is truncated: 1 frame can be read, and more follow; copy the file again")
        return planes
    if _is_cut(tif):
        raise FrameError(
            f"{path} is truncated: {counted(len(tif.pages), 'frame')} can be read, and more follow; copy the file again"
        )
    pages = stacked or [*series.pages]
    missing = sum(page is None for page in pages)  # OME-XML may announce planes that were never written
    if missing:
        warn_caller(f"{missing} of {len(pages)} planes of {path} are missing and are read as zeros")
    return PagedPlanes(pages, axes, shape, np.dtype(series.dtype), limits)


def _place(
    tif: tifffile.TiffFile, path: Path, chosen: _Chosen, level: int, pixels: ET.Element | None
) -> tuple[dict[str, Spacing], dict[str, float]]:
    """Voxel size and position of the first pixel of a level, by axis."""
    full, series = chosen.series, chosen.series.levels[level]
    axes, _ = chosen.axes_and_shape(level)
    voxel_size = {
        axis: Spacing(spacing.value * _zoom(axis, full, series), spacing.unit)
        for axis, spacing in read_voxel_size(tif, path, pixels).items()
        if axis in axes or axis in "YX"
    }
    # each of several positions lies at a place of its own
    placed = {} if chosen.positions else read_positions(tif, pixels, voxel_size)
    translation = {axis: place for axis, place in placed.items() if axis in axes}
    # the first pixel of a coarser level is the middle of the pixels that it stands for
    for axis in [axis for axis in "YX" if axis in voxel_size]:
        zoom = _zoom(axis, full, series)
        if zoom != 1:
            translation[axis] = translation.get(axis, 0.0) + (zoom - 1) / 2 * voxel_size[axis].value / zoom
    return voxel_size, translation


def _without_palette(stack: RawStack, pages: TiffPages) -> RawStack:
    """Colours or grey values in place of the indices of a palette, unless the indices are intensities."""
    axes = stack.axes or ""
    tables = tables_of_pages(pages) if axes.endswith("YX") and "C" not in axes else None
    if tables is None:
        warn_caller(
            f"{stack.name} has palettes that are not read; their indices are read as intensities (save it as RGB to "
            "read the colours)"
        )
        return stack
    if len(tables) == 1 and is_scale(tables[0]):
        return stack
    shown = LookedUp(stack.array, tables)
    is_grey = len(shown.shape) == len(axes)
    full = stack.full_shape
    return replace(
        stack,
        array=shown,
        key=f"{stack.key}:palette",
        axes=axes if is_grey else axes + "S",
        is_rgb=not is_grey,
        full_shape=full if full is None or is_grey else (*full, 3),
        indices=stack,
    )


def _positions(series: Sequence[tifffile.TiffPageSeries]) -> list[tifffile.TiffPageSeries]:
    """The images of an OME-TIFF that are alike, as positions of a stage are; empty if there are several kinds."""
    there = [each for each in series if any(page is not None for page in each.pages)]
    if len(there) < 2 or any(each.kind.lower() != "ome" or "P" in each.axes for each in there):
        return []
    alike = {(tuple(each.shape), each.axes, str(each.dtype), each.keyframe.photometric) for each in there}
    levels = [tuple((tuple(level.shape), len(level.pages)) for level in each.levels) for each in there]
    in_pages = all(
        math.prod(n) == pages for n, pages in ((n[: len(n) - there[0].keyframe.ndim], p) for n, p in levels[0])
    )
    return there if len(alike) == 1 and len(set(levels)) == 1 and in_pages else []


def _several(series: Sequence[tifffile.TiffPageSeries]) -> list[tifffile.TiffPageSeries]:
    """The images of an OME-TIFF, without the label and overview of a slide."""
    there = [each for each in series if each.kind.lower() == "ome" and any(page is not None for page in each.pages)]
    return [each for each in there if not is_overview(each.name or "")]


def _size_of(series: tifffile.TiffPageSeries) -> str:
    """Axes and sizes of an image, for a message."""
    return f"{series.axes} {' x '.join(map(str, series.shape))}"


def _pages_of(series: tifffile.TiffPageSeries, num_pages: int) -> str:
    """Which pages of a plain TIFF an image consists of, where these are some among others."""
    numbers = [page.index for page in series.pages if page is not None]
    if series.kind.lower() != "generic" or len(numbers) < 2:
        return ""
    shown = ", ".join(str(number) for number in numbers[:_SHOWN]) + ", ..." * (len(numbers) > _SHOWN)
    return f", of which the frames are pages {shown} of {num_pages}; the others differ in size or type and are left out"


def _pages_of_one_size(series: Sequence[tifffile.TiffPageSeries]) -> TiffPages:
    """All pages of a plain TIFF that differ in nothing but how they are stored; empty if they are no one stack."""
    if len(series) < 2 or any(each.kind.lower() != "generic" or len(each.levels) > 1 for each in series):
        return []
    pages = [page for each in series for page in each.pages if page is not None]
    kinds = {(each.keyframe.shape, each.keyframe.axes, str(each.dtype), each.keyframe.photometric) for each in series}
    if len(kinds) > 1 or any(each.keyframe.is_mask for each in series):
        return []
    pages.sort(key=lambda page: int(page.index))
    return [*pages]


def _has_alpha_only(page: tifffile.TiffPage) -> bool:
    """Whether the pixels of a page are one grey value and its opacity."""
    kinds = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    is_grey = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    return is_grey and page.samplesperpixel == 2 and bool(page.extrasamples) and page.extrasamples[0] in kinds


def _warn_of_colours(path: Path, page: tifffile.TiffPage) -> None:
    """Warn of values that are no intensities."""
    if page.photometric in _INKS and page.samplesperpixel > 1:
        warn_caller(f"{path} holds {_INKS[page.photometric]}, which are read as channels; save it as RGB")


def _is_cut(tif: tifffile.TiffFile) -> bool:
    """Whether the last page that is there names a next one beyond the end of the file."""
    layout, handle, last = tif.tiff, tif.filehandle, tif.pages[len(tif.pages) - 1]
    handle.seek(last.offset)
    (num_tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(last.offset + layout.tagnosize + num_tags * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    return bool(following >= handle.size)


def _check_ome_planes(
    tif: tifffile.TiffFile, path: Path, series: tifffile.TiffPageSeries, pixels: ET.Element | None
) -> None:
    """Refuse a file that ends before the planes that its OME-XML announces, and warn of other pages than announced."""
    held, kind = len(tif.pages), series.kind.lower()
    if kind == "ome":
        described = sum(page is not None for each in tif.series for page in each.pages)
        if described < held and all(len(each.pages) > 1 for each in tif.series):
            warn_caller(f"{path} holds {held} pages, of which its OME-XML describes {described}; others are left out")
    if pixels is None or kind == "ome":
        return
    announced = math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
    if held * tif.pages.first.samplesperpixel < announced:
        raise FrameError(f"{path} is truncated: {held} of {announced} frames can be read; copy the file again")
    warn_caller(
        Message(
            f"the OME-XML of {path} does not fit its pages, which are read as one stack (give ", AXES, " to name them)"
        )
    )


def _truncated_imagej(
    tif: tifffile.TiffFile, path: Path, series: tifffile.TiffPageSeries, limits: TiffLimits
) -> RawStack | None:
    """The stack that an ImageJ file announces, where the file ends before it; None for whole files."""
    if not tif.is_imagej or series.kind.lower() == "imagej":
        return None
    metadata = tif.imagej_metadata or {}
    sizes = tuple(int(metadata.get(name, 1)) for name in _IMAGEJ_SIZES)
    num_images = int(metadata.get("images", 1))
    if max(num_images, math.prod(sizes)) > limits.max_planes:
        raise FrameError(
            f"the ImageJ metadata of {path} declares {max(num_images, math.prod(sizes)):,} planes, more than the "
            f"{limits.max_planes:,} that are allowed; the file is damaged"
        )
    if math.prod(sizes) != num_images:
        sizes = (1, num_images, 1)
    page = tif.pages.first
    num_pages = len(tif.pages)
    if num_images <= num_pages:
        if (announced := math.prod(int(metadata.get(name, 1)) for name in _IMAGEJ_SIZES)) != num_images:
            warn_caller(
                Message(
                    f"the ImageJ metadata of {path} declares {announced} images, and the file has {num_pages}; "
                    "they are read as one stack (give ",
                    AXES,
                    " if that is wrong)",
                )
            )
        return None
    if not page.is_final or num_pages > 1:
        raise FrameError(f"{path} is truncated: {num_pages} of {num_images} frames can be read; copy the file again")
    kept = [(letter, size) for letter, size in zip("TZC", sizes, strict=True) if size > 1]
    axes = "".join(letter for letter, _ in kept) + page.axes
    shape = (*(size for _, size in kept), *page.shape)
    dtype = np.dtype(page.dtype).newbyteorder(tif.byteorder)
    array = ContiguousPlanes(path, page.dataoffsets[0], shape, dtype, num_leading=len(kept))
    array.warn_if_truncated()
    voxel_size = {a: s for a, s in read_voxel_size(tif, path, None).items() if a in axes}
    return RawStack(array, str(path), "tiff:0", axes, voxel_size, "S" in axes and page.photometric in _COLOURS)


def _first_of(axes: str, letters: str) -> int:
    return min(axes.index(letter) for letter in letters if letter in axes)


def _zoom(axis: str, full: tifffile.TiffPageSeries, level: tifffile.TiffPageSeries) -> float:
    """How many pixels of the finest level lie in one of this level, along one axis."""
    if axis not in full.axes or axis not in level.axes:
        return 1.0
    return full.shape[full.axes.index(axis)] / level.shape[level.axes.index(axis)]
