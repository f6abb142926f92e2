"""Labels over time with their lineage, from label files and folders of the Cell Tracking Challenge."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from napari_sam2.labels.track_files import LabelledTracks
    from napari_sam2.labels.tracks import Tracks

__all__ = ["labels_over_time"]


def labels_over_time(path: Path, tracks: Path | None = None) -> LabelledTracks:
    """Read labels and the parents of their objects.

    Parameters
    ----------
    path : Path
        Label file, or folder of the Cell Tracking Challenge.
    tracks : Path or None
        File with parents (.geff, .xml, .csv) of a label file, whose objects have the same numbers.

    Returns
    -------
    LabelledTracks

    Raises
    ------
    FrameError
        If a file cannot be read, the labels are not over time, or the parents do not fit them.
    """
    from napari_sam2.labels.ctc_files import read_ctc
    from napari_sam2.labels.reading import read_labels
    from napari_sam2.labels.track_files import LabelledTracks, are_in_pixels, read_tracks
    from napari_sam2.labels.tracks import tracks_of_labels

    place = path.expanduser()
    if place.is_dir() and (any(place.glob("*_track.txt")) or (place / "TRA" / "man_track.txt").is_file()):
        if tracks is not None:
            raise FrameError(f"{path} has a lineage of its own; leave out {tracks}")
        return read_ctc(place)
    labels = read_labels(place)
    if labels.ndim == 2:
        labels = labels[None]
    shown = tracks_of_labels(labels)
    if tracks is None:
        return LabelledTracks(labels, shown)
    found = read_tracks(tracks)
    _check_same(found, shown, f"{tracks} does not fit {path}", with_places=are_in_pixels(tracks))
    return LabelledTracks(labels, tracks_of_labels(labels, found.parents))


def _check_same(found: Tracks, shown: Tracks, what: str, *, with_places: bool) -> None:
    """Raise FrameError unless objects have the same numbers in a file of tracks and in labels."""
    rows = [
        {key: row for row, key in enumerate(zip(each.ids.tolist(), each.frames.tolist(), strict=True))}
        for each in (found, shown)
    ]
    for object_id, frame in sorted(rows[0].keys() ^ rows[1].keys()):
        where = "the tracks" if (object_id, frame) in rows[0] else "the labels"
        raise FrameError(
            f"{what}: object {object_id} is on frame {frame} in {where} only; give the tracks that were written with "
            "these labels, in which objects have the same numbers"
        )
    for at, (object_id, frame) in enumerate(rows[0]):
        row = rows[1][object_id, frame]
        here, there = found.centres[at], shown.centres[row]
        size = (shown.areas[row] / math.pi) ** (1 / len(there))
        if with_places and (len(here) != len(there) or math.dist(here, there) > 1 + size):
            raise FrameError(
                f"{what}: object {object_id} is at {here.tolist()} on frame {frame} in the tracks, and at "
                f"{there.round(1).tolist()} in the labels; give the tracks that were written with these labels"
            )
