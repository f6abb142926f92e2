"""How well tracks agree with ground truth: the measures of the Cell Tracking Challenge, by ``py-ctcmetrics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, OutputError
from napari_sam2._messages import Message, given
from napari_sam2.labels.ctc_files import relabelled, without_gaps
from napari_sam2.labels.track_files import LabelledTracks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TrackAgreement", "evaluate_tracks"]


@dataclass(frozen=True)
class TrackAgreement:
    """Agreement of tracks with ground truth; every score is from 0 to 1, the higher the better.

    Attributes
    ----------
    seg : float
        Mean IoU of the objects of the truth, 0 for those that are not found.
    det : float
        Objects found on each frame, regardless of their track.
    lnk : float
        Links from frame to frame and from parents to daughters; NaN if the truth has none.
    tra : float
        Objects and links together.
    idf1 : float
        Object-frames with the right identity.
    num_divisions : int
        Divisions of the truth.
    division_f1 : float
        F1 of divisions, at most ``tolerance`` frames early or late; NaN if neither side has any.
    tolerance : int
        In frames.
    """

    seg: float
    det: float
    lnk: float
    tra: float
    idf1: float
    num_divisions: int
    division_f1: float
    tolerance: int


@checked(FrameError)
def evaluate_tracks(truth: LabelledTracks, found: LabelledTracks, *, tolerance: int = 1) -> TrackAgreement:
    """Compare tracks with ground truth as the Cell Tracking Challenge does.

    Parameters
    ----------
    truth, found : LabelledTracks
        Labels of one shape, with their tracks. An object is found if it covers more than half of one of the truth.
    tolerance : int, default 1
        How many frames a division may be early or late.

    Returns
    -------
    TrackAgreement
        The scores.

    Raises
    ------
    FrameError
        If the shapes differ, the truth is empty, there are more than 65,535 tracks, or the library is missing.

    References
    ----------
    .. [1] Maska et al., The Cell Tracking Challenge: 10 years of objective benchmarking, Nature Methods 20, 2023.
    """
    calculate, identity = _import_metrics()
    if truth.labels.shape != found.labels.shape:
        raise FrameError(f"labels of shape {found.labels.shape} were given for a truth of shape {truth.labels.shape}")
    if not len(truth.tracks):
        raise FrameError("a truth without any object was given; expected at least one object to compare with")
    if tolerance < 0:
        raise FrameError(Message(given("tolerance", tolerance), " was given; expected 0 or more frames"))
    if not len(found.tracks):
        num = sum(len(daughters) > 1 for daughters in truth.tracks.daughters().values())
        lnk = 0.0 if len(truth.tracks.edges()) else float("nan")
        return TrackAgreement(0, 0, lnk, 0, 0, num, 0.0 if num else float("nan"), tolerance)
    tables, images = zip(*(_numbered(each) for each in (truth, found)), strict=True)
    matches = [_match(a, b) for a, b in zip(*images, strict=True)]
    names = ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp", "ious")
    if len(matches) == 1:  # the library needs a second frame
        matches.append([np.zeros(0, each.dtype) for each in matches[0]])
    matched = {name: [match[at].tolist() for match in matches] for at, name in enumerate(names)}
    links = ["LNK"] if len(truth.tracks.edges()) else []
    most = min(tolerance, len(matches))  # more makes no difference, and the library takes every number up to it
    scores = calculate(
        tables[1], tables[0], dict(matched), dict(matched),
        ["DET", "SEG", "TRA", *links, "BC", f"BC({most})"], True,
    )  # fmt: skip
    counts = [int(scores[f"{kind}_div({most})"]) for kind in ("tp", "fp", "fn")]
    return TrackAgreement(
        seg=float(scores["SEG"]),
        det=float(scores["DET"]),
        lnk=float(scores["LNK"]) if links else float("nan"),
        tra=float(scores["TRA"]),
        idf1=identity(tables, matches),
        num_divisions=counts[0] + counts[2],
        division_f1=2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]) if any(counts) else float("nan"),
        tolerance=tolerance,
    )


def _import_metrics() -> tuple[Callable[..., dict[str, Any]], Callable[..., float]]:
    """The scores of the library, and IDF1: its own way to that fails where a frame of the truth is empty."""
    try:
        from ctc_metrics.metrics import idf1
        from ctc_metrics.scripts.evaluate import calculate_metrics
        from ctc_metrics.utils.representations import merge_tracks
    except ImportError as error:
        raise FrameError(
            "scores of tracks need the library py-ctcmetrics: pip install 'napari-sam2[metrics]'"
        ) from error

    def identity(tables: Sequence[NDArray[np.int64]], matches: Sequence[Sequence[NDArray[Any]]]) -> float:
        sides = [
            merge_tracks(table, [match[at] for match in matches], [match[at + 2] for match in matches])
            for at, table in enumerate(tables)
        ]
        whole = [[[np.array(ids, np.int64) for ids in frames] for frames in side[1:]] for side in sides]
        (truth, of_truth), (found, of_found) = whole
        return float(idf1(truth, found, of_truth, of_found)["IDF1"])

    return calculate_metrics, identity


def _numbered(given: LabelledTracks) -> tuple[NDArray[np.int64], list[NDArray[np.uint16]]]:
    """Rows (number from 1, first frame, last frame, parent), and the labels of each frame with these numbers."""
    try:
        found = without_gaps(given.tracks)
    except OutputError as error:
        raise FrameError(str(error)) from error
    numbers = {p.number: at for at, p in enumerate(found, 1)}  # large ones would take as large tables
    tracks = [p._replace(number=numbers[p.number], parent=numbers.get(p.parent, 0)) for p in found]
    table = np.array([(p.number, p.begin, p.end, p.parent) for p in tracks], np.int64)
    return table, [relabelled(image, tracks, frame) for frame, image in enumerate(given.labels)]


def _match(truth: NDArray[np.uint16], found: NDArray[np.uint16]) -> Sequence[NDArray[Any]]:
    """Labels of both, and those that belong together with their IoU: more than half of the truth is covered."""
    ids, areas = _areas(truth)
    other_ids, other_areas = _areas(found)
    both = (truth > 0) & (found > 0)
    pairs, shared = np.unique(np.stack((truth[both], found[both])).astype(np.int64), axis=1, return_counts=True)
    first, second = pairs.reshape(2, -1)
    of_truth, of_found = areas[np.searchsorted(ids, first)], other_areas[np.searchsorted(other_ids, second)]
    is_match = 2 * shared > of_truth
    iou = shared / (of_truth + of_found - shared)
    return ids, other_ids, first[is_match], second[is_match], iou[is_match]


def _areas(labels: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    return ids.astype(np.int64), areas.astype(np.int64)
