"""Outputs of commands other than labels, pictures and tables, and the checks of all outputs before work begins."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from napari_sam2._checks import check_not_input
from napari_sam2._errors import DeviceError, FrameError, NapariSAM2Error, OutputError
from napari_sam2._files import (
    check_folder,
    check_new,
    check_not_in_use,
    check_writable,
    expand,
    write_error,
    write_whole,
)
from napari_sam2._messages import Message, message_of
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.cli._option_groups import ModelOptions
    from napari_sam2.frames import Frames
    from napari_sam2.inference.prompts.full_resolution import FullResolutionWriter
    from napari_sam2.labels.files import LabelWriter

    AnyWriter = LabelWriter | FullResolutionWriter

__all__ = [
    "check_outputs",
    "choose_labels",
    "finished_frames_kept",
    "open_labels",
    "save_picture",
    "save_table",
    "say_refined",
    "tracks_outputs",
]


def choose_labels(output: Path | None, image: Path | None) -> Path:
    """The label file of a command: the one that was given, or a place inside an OME-Zarr image.

    Parameters
    ----------
    output : Path or None
        As given with ``-o``.
    image : Path or None
        File or folder of the image, as `Frames.path`.

    Raises
    ------
    typer.BadParameter
        If no output was given and the image is no OME-Zarr folder that can be written to.
    """
    if output is not None:
        return output
    from napari_sam2.frames.zarr_files import is_zarr_folder
    from napari_sam2.labels.ngff import default_labels_path

    place = None if image is None else default_labels_path(image)
    if place is None:
        reason = "only labels of an OME-Zarr image that can be written to have a default place"
        if image is not None and is_zarr_folder(image):
            reason = f"labels cannot be written into {image}"
        raise typer.BadParameter(
            f"no output was given, and {reason}; give a file, such as -o labels.ome.tif",
            param_hint="'-o' / '--output'",
        )
    return place


def check_outputs(
    sources: Sequence[Path],
    labels: Path,
    others: Sequence[tuple[Path | None, str]],
    *,
    image: Path | None = None,
    overwrite: bool,
) -> None:
    """Raise OutputError unless every output can be written without touching an input or another output.

    Parameters
    ----------
    sources : sequence of Path
        The inputs, which are never overwritten or written into.
    labels : Path
        The label file; `LabelWriter` checks its suffix and folder.
    others : sequence of (Path or None, str)
        Other outputs with the suffix each must have; None for those that were not requested.
    image : Path, optional
        Folder of the image within the first source, such as a field of a plate; labels may go into its ``labels``.
    overwrite : bool
        Whether existing files may be replaced.
    """
    from napari_sam2.labels.files import LABEL_SUFFIXES
    from napari_sam2.labels.ngff import image_of_labels
    from napari_sam2.labels.track_files import check_tracks_folder

    wanted = [(path, suffix) for path, suffix in others if path is not None]
    places = [_resolve(path) for path in (labels, *(path for path, _ in wanted))]
    if len(set(places)) != len(places):
        raise OutputError("two outputs were given the same name; give each its own")
    is_in_image = image is not None and places[0].parent == image.resolve() / "labels"
    for source in sources:
        for output in (labels, *(path for path, _ in wanted)):
            if output is not labels or not is_in_image:
                check_not_input(output, source)
    is_inside = image_of_labels(places[0]) is not None
    if not labels.name.lower().endswith(LABEL_SUFFIXES) and not is_inside:
        raise OutputError(f"labels cannot be written to {labels}; allowed suffixes are {', '.join(LABEL_SUFFIXES)}")
    if not is_inside:
        check_folder(places[0])
    check_not_in_use(places[0])
    if not is_inside or places[0].exists():
        check_new(labels, overwrite=overwrite)
    if not is_inside:
        check_writable(expand(labels))
    for path, suffix in wanted:
        if path.suffix.lower() != suffix:
            raise OutputError(f"{path} was given; its name must end in {suffix}")
        place = check_new(path, overwrite=overwrite)
        if place.is_dir() and suffix not in ("", ".geff"):
            raise OutputError(f"{path} is a folder; give the name of a file")
        check_tracks_folder(place)
        check_not_in_use(place)
        check_writable(place)


def tracks_outputs(tracks: Path | None) -> list[tuple[Path | None, str]]:
    """What ``--tracks`` adds to the outputs of `check_outputs`.

    Raises
    ------
    OutputError
        If tracks cannot be written to a file of that suffix.
    """
    from napari_sam2.labels.track_files import TRACK_SUFFIXES

    if tracks is None:
        return []
    suffix = tracks.suffix.lower()
    if suffix and suffix not in TRACK_SUFFIXES:
        raise OutputError(
            f"--tracks {tracks} was given; expected {', '.join(TRACK_SUFFIXES)}, or a folder without suffix"
        )
    return [(tracks, suffix)]


def open_labels(
    path: Path,
    frames: Frames,
    network: ModelOptions,
    *,
    full_resolution: bool | None,
    frame: int | None = None,
    overwrite: bool,
) -> AnyWriter:
    """A writer for labels of frames, which refines those of a coarser level at full resolution where that is wanted.

    Parameters
    ----------
    path : Path
        The label file.
    frames : Frames
        What the labels belong to.
    network : ModelOptions
        The model that refines.
    full_resolution : bool or None
        As given with ``--full-resolution``; None: for labels that go into an OME-Zarr image.
    frame : int, optional
        For this frame alone, as YX.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputError
        As `LabelWriter`.
    typer.BadParameter
        If the full resolution was requested and the image has no coarser level than the one that was opened.
    """
    from napari_sam2.inference.prompts.full_resolution import FullResolutionWriter, is_coarser_level
    from napari_sam2.labels.files import LabelWriter
    from napari_sam2.labels.ngff import image_of_labels

    is_coarser = is_coarser_level(frames)
    if full_resolution and not is_coarser:
        raise typer.BadParameter(
            "the labels already have the full resolution; prompt on a coarser level with --level 1 or more",
            param_hint="'--full-resolution'",
        )
    is_wanted = image_of_labels(expand(path)) is not None if full_resolution is None else full_resolution
    if is_coarser and is_wanted:
        return FullResolutionWriter(path, frames, load_model=network.load, frame=frame, overwrite=overwrite)
    return LabelWriter.for_frames(path, frames, frame=frame, overwrite=overwrite)


def say_refined(writer: AnyWriter) -> None:
    """Say how many masks were refined at full resolution, if that was wanted."""
    from napari_sam2.inference.prompts.full_resolution import FullResolutionWriter

    if isinstance(writer, FullResolutionWriter):
        say(str(writer.report))


def _resolve(path: Path) -> Path:
    """The absolute path, looked up once so that a name the file system refuses shows here; raises OutputError."""
    place = expand(path)
    try:
        place.exists()
        return place.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise write_error(place, error) from error


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a PNG, whole or not at all; raises OutputError."""
    from PIL import Image

    picture = Image.fromarray(image)
    write_whole(path, lambda part: picture.save(part, format="PNG", optimize=True))


def save_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all; raises OutputError."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            _write_rows(file, header, rows)

    write_whole(path, write)


@contextmanager
def finished_frames_kept(
    writer: AnyWriter, errors: tuple[type[NapariSAM2Error], ...] = (FrameError, DeviceError)
) -> Iterator[None]:
    """Within it, an unreadable frame or a failing device ends the work, but the finished frames are kept, as on Ctrl-C.

    The error is raised again, with where they are.
    """
    try:
        yield
    except errors as error:
        written = writer.close(complete=False)
        if written is None:
            raise
        raise type(error)(Message(message_of(error), f"; the finished frames are in {written}")) from error


def _write_rows(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)
