"""``napari-sam2 measure``: sizes, shapes, places and intensities of labelled objects, as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam2._checks import check_not_input, numbers_in
from napari_sam2._errors import FrameError, OutputError
from napari_sam2._files import check_new, check_writable, expand
from napari_sam2._messages import counted
from napari_sam2.cli._options import (
    AxesOption,
    AxisOption,
    FixOption,
    LevelOption,
    OverwriteOption,
    QuietOption,
    open_input,
    parse_channels,
)
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames import Frames

__all__ = ["measure"]

_SUFFIXES = (".csv", ".parquet")


def measure(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="TIFF, OME-Zarr, or a folder of images.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Labels of the image, of any format that is read.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="TABLE", help="Table to write: .csv or .parquet.")],
    *,
    per_plane: Annotated[
        bool, typer.Option("--per-plane", help="One row per object and plane (or time point), not per object.")
    ] = False,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="Z,Y,X", help="Distances between planes, rows, columns; default: of the file."),
    ] = None,
    axes: AxesOption = None,
    axis: AxisOption = None,
    fix: FixOption = None,
    level: LevelOption = None,
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels",
            metavar="C[,C...]",
            help="Channels to measure: numbers from 0, or names in the file, such as DAPI; default: all.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure labelled objects: size, shape, position, and the intensities of each channel.

    Planes are read one at a time, so that a stack of any length fits into memory. Lengths, areas and volumes are in
    the unit of the file, or of --scale; bounding boxes in pixels. Objects of a z-stack have a volume and a surface,
    those of a movie a mean area.

    \b
    One row per object, then one per object and plane:
      napari-sam2 measure cells.ome.tif labels.ome.tif -o cells.csv
      napari-sam2 measure cells.ome.tif labels.ome.tif --per-plane -o planes.parquet
    """
    _check_output(output, (image, labels), overwrite=overwrite)
    _check_not_the_same(image, labels)
    chosen = None if channels is None else parse_channels(channels)
    # any channel: which of them are shown does not matter
    frames = open_input(image, axes=axes, axis=axis, fix=fix, level=level, channels="0", contrast="dtype", gamma=1.0)
    numbers, names = frames.find_channels(chosen)
    if len({name for name in names if name}) != len(numbers):
        names = tuple(f"c{number}" for number in numbers)
    sizes, unit = _sizes(frames, scale)
    read_labels = _open_labels(labels, frames)

    from tqdm import tqdm

    from napari_sam2.labels.measurements import measure_stack, write_table

    with tqdm(total=len(frames), desc="measuring", unit="plane", disable=quiet) as bar:
        table = measure_stack(
            range(len(frames)),
            read_labels,
            lambda frame: list(frames.raw(frame, numbers)),
            by="plane" if per_plane else "object",
            scale=sizes,
            is_volume=frames.frame_axis != "T" and len(frames) > 1,
            channel_names=names,
            on_plane=lambda number, _: bar.update(number - bar.n),
        )
        bar.update(len(frames) - bar.n)
    written = write_table(table, expand(output), overwrite=overwrite)
    num_objects = table["object"].nunique() if len(table) else 0
    say(f"{counted(len(table), 'row')}, {counted(num_objects, 'object')}; lengths in {unit}")
    say(f"wrote {written}")


def _check_not_the_same(image: Path, labels: Path) -> None:
    """Refuse to measure each intensity of a file as an object; a folder, such as OME-Zarr, may hold its labels."""
    first, second = expand(image), expand(labels)
    if first.is_file() and second.exists() and first.samefile(second):
        raise FrameError(f"{image} was given both as the image and as its labels; give the labels of the image")


def _check_output(output: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    from napari_sam2.labels.measurements import check_parquet

    for source in sources:
        check_not_input(output, source)
    place = expand(output)
    if place.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"{output} was given; its name must end in {' or '.join(_SUFFIXES)}")
    check_parquet(place)
    check_writable(check_new(output, overwrite=overwrite))


def _sizes(frames: Frames, scale: str | None) -> tuple[tuple[float, float, float], str]:
    """Distances of planes, rows and columns, and their unit."""
    if scale is not None:
        try:
            values = numbers_in(scale)
        except ValueError:
            values = []
        if len(values) not in (2, 3) or min(values) <= 0:
            raise FrameError(f"--scale {scale} was given; expected positive distances Z,Y,X or Y,X")
        z, y, x = values if len(values) == 3 else (1.0, *values)
        return (z, y, x), "the unit of --scale"
    found = frames.voxel_size or {}
    if not {"Y", "X"} <= found.keys():
        return (1.0, 1.0, 1.0), "pixels"
    axes = ("Z", "Y", "X") if frames.frame_axis == "Z" and "Z" in found else ("Y", "X")
    units = {found[letter][1] for letter in axes}
    if len(units) > 1:
        raise FrameError(f"the axes have different units ({', '.join(sorted(units))}); give --scale Z,Y,X in one unit")
    z = found["Z"][0] if "Z" in axes else 1.0
    return (z, found["Y"][0], found["X"][0]), units.pop() or "the unit of the file"


def _open_labels(path: Path, frames: Frames) -> Callable[[int], NDArray[Any]]:
    """Frame -> (H, W) labels; TIFF and zarr are read plane by plane."""
    import numpy as np

    from napari_sam2.frames import open_frames
    from napari_sam2.frames.files import existing_path, open_path
    from napari_sam2.frames.tiff import TIFF_SUFFIXES
    from napari_sam2.frames.zarr_files import is_zarr_folder
    from napari_sam2.labels.conversion import could_be_mask
    from napari_sam2.labels.reading import is_lossy, label_image_of

    shape = frames.shape
    path = label_image_of(existing_path(path, "a file of labels"))
    stack = open_path(path) if path.suffix.lower() in TIFF_SUFFIXES or is_zarr_folder(path) else None
    letters = (stack and stack.axes) or ""
    has_channels = stack is not None and "C" in letters and stack.array.shape[letters.index("C")] > 1
    if (
        stack is None or stack.is_rgb or stack.indices or has_channels or is_lossy(path)
    ):  # which are read or refused by name
        return _whole_labels(path, frames)
    fixed = {letter: index for letter, index in frames.fixed.items() if letter in letters and letter != "C"}
    planes = open_frames(
        path,
        frame_axis=frames.frame_axis if frames.frame_axis and frames.frame_axis in letters else None,
        fixed=fixed or None,
        channels=[0],
        contrast="dtype",
    )
    if planes.dtype.kind not in "iub":
        return _whole_labels(path, frames)
    _check_shape(path, planes.shape, shape)
    if planes.dtype.kind == "u":
        filled = (plane for plane in (planes.raw(frame)[0] for frame in range(len(planes))) if plane.any())
        if could_be_mask(next(filled, np.zeros((), np.uint8))):
            return _whole_labels(path, frames)

    def read(frame: int) -> NDArray[Any]:
        labels: NDArray[Any] = planes.raw(frame)[0]
        if labels.dtype.kind == "i" and int(labels.min()) < 0:  # which of -1 and 0 is background, the whole image tells
            raise FrameError(
                f"{path} holds {int(labels.min())} on frame {frame}; labels are 0 (background) and above: replace what "
                "is background by 0"
            )
        return labels

    return read


def _whole_labels(path: Path, frames: Frames) -> Callable[[int], NDArray[Any]]:
    """Frame -> (H, W) labels of a file that is read at once, with warnings of what was changed."""
    from napari_sam2.labels.reading import read_labels

    shape = frames.shape
    whole = read_labels(path, shape=shape if shape[0] > 1 else shape[1:], fixed=frames.fixed)
    whole = whole[None] if whole.ndim == 2 else whole
    _check_shape(path, tuple(whole.shape), shape)
    return lambda frame: whole[frame]


def _check_shape(path: Path, found: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    if found != expected:
        raise FrameError(
            f"{path} has shape {found}, and the image {expected}; give the labels of this image, or choose its axes "
            "with --axes, --axis and --fix"
        )
