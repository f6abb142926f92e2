"""Labels over time with their lineage, from label files and folders of the Cell Tracking Challenge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from napari_sam2.labels.track_files import LabelledTracks

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
    from napari_sam2.labels.reading import read_labels
    from napari_sam2.labels.track_files import LabelledTracks, read_ctc, read_tracks
    from napari_sam2.labels.tracks import tracks_of_labels

    place = path.expanduser()
    if place.is_dir() and (any(place.glob("*_track.txt")) or (place / "TRA" / "man_track.txt").is_file()):
        if tracks is not None:
            raise FrameError(f"{path} has a lineage of its own; leave out {tracks}")
        return read_ctc(place)
    labels = read_labels(place)
    if labels.ndim == 2:
        labels = labels[None]
    parents = {} if tracks is None else read_tracks(tracks).parents
    return LabelledTracks(labels, tracks_of_labels(labels, parents))
