"""Labels over time with their lineage as folders of the Cell Tracking Challenge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._checks import LARGEST_ID
from napari_sam2._errors import FrameError, OutputError
from napari_sam2._files import expand, write_whole
from napari_sam2._messages import one_line, shown
from napari_sam2.frames.files import existing_path
from napari_sam2.frames.stack import READ_ERRORS
from napari_sam2.labels.track_files import LabelledTracks, check_tracks_folder
from napari_sam2.labels.tracks import Tracks, tracks_of_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CTCTrack", "read_ctc", "relabelled", "without_gaps", "write_ctc"]

_LARGEST = 65535  # masks of the challenge have 16 bits
_MASK = re.compile(r"(?P<kind>\D*?)(?P<frame>[0-9]+)\.tiff?", re.IGNORECASE)


@checked(OutputError)
def write_ctc(
    folder: str | Path,
    labels: Iterable[ArrayLike],
    tracks: Tracks,
    *,
    is_truth: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write labels and lineage as the Cell Tracking Challenge has them, whole or not at all.

    Objects that are missing on some frames in between are written as several tracks, each the parent of the next: the
    challenge allows no gaps. An only daughter that begins after a gap looks the same, and is read as its parent.
    Numbers above 65,535 are replaced by free ones.

    Parameters
    ----------
    folder : str or Path
        Created: ``mask000.tif``, ... and ``res_track.txt``.
    labels : iterable of (H, W) or (Z, H, W) integer array-like
        Labels of each time point.
    tracks : Tracks
        Of these labels, as `tracks_of_labels` measures them.
    is_truth : bool, default False
        Write the names of ground truth: ``man_track000.tif``, ... and ``man_track.txt``.
    overwrite : bool, default False
        Replace an existing folder, if it holds nothing but such files.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FrameError
        If the labels are not integers of one shape, or the tracks are not theirs.
    OutputError
        If there are more than 65,535 tracks, or the folder exists, holds something else or cannot be written.

    References
    ----------
    .. [1] Ulman et al., An objective comparison of cell-tracking algorithms, Nature Methods 14, 2017.
    """
    place = expand(folder)
    check_tracks_folder(place)
    pieces = without_gaps(tracks)
    mask, table = ("man_track", "man_track.txt") if is_truth else ("mask", "res_track.txt")
    frames = [np.asarray(image) for image in labels]
    for frame, image in enumerate(frames):
        if image.dtype.kind not in "iub" or image.ndim not in (2, 3) or image.shape != frames[0].shape:
            raise FrameError(
                f"labels of shape {image.shape} and type {image.dtype} were given for frame {frame}; expected "
                "integers, (H, W) or (Z, H, W), the same on all frames"
            )
    if len(tracks) and tracks.frames.max() >= len(frames):
        raise FrameError(f"tracks up to frame {tracks.frames.max()} were given with labels of {len(frames)} frames")
    digits = max(3, len(str(len(frames) - 1)))

    def write(part: Path) -> None:
        import tifffile

        part.mkdir()
        for frame, image in enumerate(frames):
            tifffile.imwrite(
                part / f"{mask}{frame:0{digits}d}.tif",
                relabelled(image, pieces, frame),
                photometric="minisblack",  # three or four planes are no colours
                compression="zlib",
            )
        lines = [f"{p.number} {p.begin} {p.end} {p.parent}\n" for p in pieces]
        (part / table).write_text("".join(lines), encoding="ascii")

    return write_whole(folder, write, overwrite=overwrite)


def relabelled(image: ArrayLike, tracks: Iterable[CTCTrack], frame: int) -> NDArray[np.uint16]:
    """The labels of a frame with the numbers of the challenge; raises FrameError if they show other objects."""
    source = np.asarray(image)
    present = {p.object_id: p.number for p in tracks if p.begin <= frame <= p.end}
    found, places = np.unique(source, return_inverse=True)
    shown = {int(i) for i in found.tolist() if i > 0}
    if shown != present.keys():
        wrong = min(shown ^ present.keys())
        where = "the labels, but not" if wrong in shown else "no label, but"
        raise FrameError(f"object {wrong} is in {where} in the tracks of frame {frame}; measure them: tracks_of_labels")
    numbers = np.array([present.get(int(i), 0) for i in found.tolist()], np.uint16)
    return numbers[places].reshape(source.shape)


class CTCTrack(NamedTuple):
    """A track without gaps: its number in the file, the object, first and last frame, and number of the parent."""

    number: int
    object_id: int
    begin: int
    end: int
    parent: int


def without_gaps(tracks: Tracks) -> list[CTCTrack]:
    """The tracks of a file, ascending; raises OutputError if there are too many."""
    found: dict[int, list[tuple[int, int]]] = {}
    is_end = (np.diff(tracks.ids) != 0) | (np.diff(tracks.frames) > 1)
    for first, last in zip(
        np.append(0, np.flatnonzero(is_end) + 1)[: len(tracks)].tolist(),
        np.append(np.flatnonzero(is_end), len(tracks) - 1).tolist(),
        strict=False,
    ):
        found.setdefault(int(tracks.ids[first]), []).append((int(tracks.frames[first]), int(tracks.frames[last])))
    taken = {i for i in found if i <= _LARGEST}
    highest = max(taken, default=0)
    free = (i for i in (*range(highest + 1, _LARGEST + 1), *range(1, highest)) if i not in taken)
    wanted = [(object_id, at) for object_id, spans in found.items() for at in range(len(spans))]
    if len(wanted) > _LARGEST:
        raise OutputError(f"{len(wanted)} tracks were given; masks of the challenge hold {_LARGEST} at most")
    numbers = {(i, at): i if at == 0 and i in taken else next(free) for i, at in wanted}
    pieces = []
    for object_id, spans in found.items():
        for at, (begin, end) in enumerate(spans):
            above = tracks.parents.get(object_id)
            parent = 0
            if at:
                parent = numbers[object_id, at - 1]
            elif above is not None:
                parent = numbers[above, len(found[above]) - 1]
            pieces.append(CTCTrack(numbers[object_id, at], object_id, begin, end, parent))
    return sorted(pieces)


@checked(FrameError)
def read_ctc(folder: str | Path) -> LabelledTracks:
    """Read labels and lineage of the Cell Tracking Challenge.

    Parameters
    ----------
    folder : str or Path
        Holds ``man_track.txt`` or ``res_track.txt`` and the masks; or a folder with the folder ``TRA`` in it.

    Returns
    -------
    LabelledTracks
        A track that is the only daughter of another one, and begins after a gap, is read as the same object.

    Raises
    ------
    FrameError
        If files are missing or damaged, or the table does not fit the masks.
    """
    place = existing_path(Path(folder), "a folder with man_track.txt or res_track.txt and masks")
    if not place.is_dir():
        raise FrameError(f"{folder} is not a folder; give one with man_track.txt or res_track.txt and masks")
    if (place / "TRA" / "man_track.txt").is_file():
        place /= "TRA"
    table = next((place / name for name in ("man_track.txt", "res_track.txt") if (place / name).is_file()), None)
    if table is None:
        raise FrameError(f"{folder} holds neither man_track.txt nor res_track.txt; give the folder of the masks")
    masks = _find_masks(place, "man_track" if table.name == "man_track.txt" else "mask")
    labels = _read_masks(list(masks.values()))
    rows = _read_table(table)
    start = min(masks)  # frame of the first mask
    _check_table(table, rows, tracks_of_labels(labels).spans(), start)
    parents, same = _parents_of(rows)
    for number, first in same.items():
        part = labels[rows[number].begin - start : rows[number].end - start + 1]
        part[part == number] = first
    try:
        return LabelledTracks(labels, tracks_of_labels(labels, parents))
    except FrameError as error:
        raise FrameError(f"{table} does not fit its masks: {error}") from error


def _find_masks(folder: Path, kind: str) -> dict[int, Path]:
    """Frame -> file, ascending: those named as the challenge does, or others that end in a number."""
    files = [(m, p) for p in sorted(folder.iterdir()) if (m := _MASK.fullmatch(p.name))]
    named = [(m, p) for m, p in files if m["kind"].lower() == kind] or files
    masks = {int(m["frame"]): p for m, p in sorted(named, key=lambda each: int(each[0]["frame"]))}
    if len(masks) < len(named):
        raise FrameError(f"{folder} holds two masks of one frame; name those of the table {kind}000.tif, ...")
    if not masks or list(masks) != list(range(min(masks), max(masks) + 1)):
        raise FrameError(f"{folder} holds the masks of frames {list(masks)[:5]}...; expected one for each frame")
    return masks


def _read_masks(paths: list[Path]) -> NDArray[np.int32]:
    import tifffile

    planes: list[NDArray[np.int32]] = []
    for path in paths:
        try:
            plane = np.asarray(tifffile.imread(path))
        except READ_ERRORS as error:
            raise FrameError(f"{path} cannot be read ({one_line(error)}); copy the file again") from error
        if plane.dtype.kind not in "iu" or plane.ndim not in (2, 3) or (planes and plane.shape != planes[0].shape):
            raise FrameError(
                f"{path} has shape {plane.shape} and type {plane.dtype}; expected integers, (H, W) or (Z, H, W), "
                "of the same shape on all frames"
            )
        if plane.size and not 0 <= int(plane.min()) <= int(plane.max()) <= LARGEST_ID:
            raise FrameError(f"{path} holds labels from {plane.min()} to {plane.max()}; expected 0 to {LARGEST_ID}")
        planes.append(plane.astype(np.int32))
    return np.stack(planes)


class _Row(NamedTuple):
    """A row of the table: first and last frame, and the parent or 0."""

    begin: int
    end: int
    parent: int


def _read_table(path: Path) -> dict[int, _Row]:
    rows: dict[int, _Row] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise FrameError(f"{path} cannot be read ({one_line(error)}); copy the file again") from error
    for line in lines:
        words = line.split()
        if not words:
            continue
        if len(words) != 4 or not all(word.isascii() and word.isdecimal() for word in words):
            raise FrameError(
                f"{path} has the line {shown(line[:40])}; expected track, first frame, last frame and parent"
            )
        number, row = int(words[0]), _Row(*map(int, words[1:]))
        if number in rows or not number or row.end < row.begin:
            raise FrameError(
                f"{path} has the line {shown(line[:40])}; expected each track once, from 1, with its first "
                "and last frame"
            )
        rows[number] = row
    return rows


def _check_table(path: Path, rows: Mapping[int, _Row], spans: Mapping[int, tuple[int, int]], start: int) -> None:
    """Raise FrameError unless the masks show each track from its first to its last frame, and no other objects."""
    for number in sorted(rows.keys() | spans.keys()):
        shown = tuple(frame + start for frame in spans[number]) if number in spans else None
        row = rows.get(number)
        if row is None or shown != row[:2]:
            raise FrameError(
                f"{path} does not fit its masks: track {number} is "
                + (f"on frames {row.begin} to {row.end}" if row else "not in it")
                + ", and in the masks "
                + (f"on frames {shown[0]} to {shown[1]}" if shown else "nowhere")
                + "; correct the table, or open only the masks, as labels"
            )
        if row.parent and row.parent not in rows:
            raise FrameError(f"{path} has no track {row.parent}, from which track {number} descends")


def _parents_of(rows: Mapping[int, _Row]) -> tuple[dict[int, int], dict[int, int]]:
    """Daughter -> parent, and (for tracks cut by gaps) track -> the first track of the same object."""
    above = {number: row.parent for number, row in rows.items() if row.parent}
    counts = Counter(above.values())
    gaps = {number: p for number, p in above.items() if counts[p] == 1 and rows[number].begin > rows[p].end + 1}

    def first(number: int) -> int:
        while number in gaps:  # each begins after the one before: there is no circle
            number = gaps[number]
        return number

    parents = {number: first(parent) for number, parent in above.items() if number not in gaps}
    return parents, {number: first(number) for number in gaps}
