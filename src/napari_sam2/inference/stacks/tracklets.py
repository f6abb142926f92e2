"""Merge tracks from different key frames into the objects of a stack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from napari_sam2._checks import check_fraction
from napari_sam2.labels.overlaps import Overlaps, PlaneOverlaps, best_matches, label_areas

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from napari_sam2.labels.protocols import LabelStack

__all__ = ["JoinRules", "TrackletJoiner"]


@dataclass(frozen=True)
class JoinRules:
    """When two tracks are merged.

    Attributes
    ----------
    min_iou : float
        IoU, above 0 and up to 1, over the frames between the two key frames on which they were detected; over their
        common frames if the object was not detected on the first of these but reached it.
    min_containment : float
        Fraction of the new track, on common frames, that lies inside one object for the track to be part of it. An
        object that contains several such tracks and matches none of them is a merge error.
    max_claimed : float
        A new track of which more than this fraction is covered by objects is dropped.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    min_iou: float = 0.5
    min_containment: float = 0.8
    max_claimed: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_iou", "min_containment", "max_claimed"):
            check_fraction(name, getattr(self, name))


class TrackletJoiner:
    """Merges the tracks of one key frame after another into a label stack.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W), initially zero.
    rules : JoinRules
        When two tracks are merged.

    Attributes
    ----------
    seed_frames : dict of int to list of int
        Objects and the key frames on which they were detected.
    num_joined : int
        Number of tracks merged into an existing object.
    """

    def __init__(self, labels: LabelStack, rules: JoinRules) -> None:
        self.labels = labels
        self.rules = rules
        self.seed_frames: dict[int, list[int]] = {}
        self.num_joined = 0
        self._next_id = 1
        self._last_key: int | None = None

    def join(self, tracklets: LabelStack, window: range, key: int) -> dict[int, int]:
        """Add the tracks of a key frame.

        Parameters
        ----------
        tracklets : LabelStack
            Labels of the tracks, indexed by frame.
        window : range
            Frames on which they were tracked, ascending.
        key : int
            The key frame; later than all previous ones.

        Returns
        -------
        dict of int to int
            Track -> object, for all tracks that were not dropped.
        """
        compared = _Compared.read(self.labels, tracklets, window, self._last_key, key)
        num_before = self._next_id
        object_of = self._objects_of(compared)
        self.num_joined += sum(object_id < num_before for object_id in object_of.values())
        for object_id in object_of.values():
            self.seed_frames.setdefault(object_id, [])
            if key not in self.seed_frames[object_id]:
                self.seed_frames[object_id].append(key)
        lookup = np.zeros(max(compared.areas, default=0) + 1, np.int32)
        for track, object_id in object_of.items():
            lookup[track] = object_id
        # the new track takes precedence on frames closer to this key frame than to the last one
        middle = -1 if self._last_key is None else (self._last_key + key) / 2
        for frame in window:
            new = lookup[tracklets[frame]]
            if new.any():
                old = np.asarray(self.labels[frame])
                self.labels[frame] = _combine(new, old) if frame > middle else _combine(old, new)
        self._last_key = key
        return object_of

    def _objects_of(self, compared: _Compared) -> dict[int, int]:
        """The object of each track; tracks mostly covered by several objects have none."""
        pairs, areas = compared.pairs, compared.areas
        was_detected = {i for i, keys in self.seed_frames.items() if self._last_key in keys}
        object_of = {
            match.second: match.first
            for match in best_matches(
                pairs.first_ids, pairs.second_ids, compared.similarity(was_detected), self.rules.min_iou
            )
        }
        contained = {t: i for t, i in _contained(compared, self.rules.min_containment).items() if t not in object_of}
        # an object that matches no track and contains several is a merge error: the tracks are separate objects
        held = Counter(contained.values())
        merge_errors = {i for i, count in held.items() if count > 1} - set(object_of.values())
        object_of |= {track: object_id for track, object_id in contained.items() if object_id not in merge_errors}
        claimed = dict.fromkeys(areas, 0)
        for object_id, track, shared in zip(
            pairs.first_ids.tolist(), pairs.second_ids.tolist(), pairs.intersection.tolist(), strict=True
        ):
            if object_id not in merge_errors:
                claimed[track] += shared
        for track, area in areas.items():
            if track not in object_of and claimed[track] <= self.rules.max_claimed * area:
                object_of[track] = self._next_id
                self._next_id += 1
        return object_of


@dataclass(frozen=True, eq=False)
class _Compared:
    """Overlaps of objects with the tracks of a key frame, over the window of that key frame.

    Attributes
    ----------
    areas : dict of int to int
        Area of each track in pixels.
    pairs : Overlaps
        P overlapping pairs of an object and a track, with their areas on the frames on which both are present.
    meets : (P,) bool array
        Whether they overlap on this key frame or the previous one. If neither reaches the other's key frame, both end
        in between: they are two objects stacked in z, however similar they are there.
    between : (P,) float array
        IoU over all frames from the previous key frame to this one.
    """

    areas: dict[int, int]
    pairs: Overlaps
    meets: NDArray[np.bool_]
    between: NDArray[np.float64]

    @classmethod
    def read(cls, labels: LabelStack, tracklets: LabelStack, window: range, last_key: int | None, key: int) -> Self:
        everywhere, at_keys, between = PlaneOverlaps(), PlaneOverlaps(), PlaneOverlaps()
        for frame in window:
            old, new = np.asarray(labels[frame]), tracklets[frame]
            everywhere.add(old, new)
            if frame in (last_key, key):
                at_keys.add(old, new)
            if last_key is not None and last_key <= frame <= key:
                between.add(old, new)
        pairs, stretch = everywhere.overlaps(common_planes=True), between.overlaps()
        met = set(_ids_of(at_keys.overlaps()))
        alike = dict(zip(_ids_of(stretch), stretch.iou.tolist(), strict=True))
        return cls(
            everywhere.areas()[1],
            pairs,
            np.array([ids in met for ids in _ids_of(pairs)], bool),
            np.array([alike.get(ids, 0.0) for ids in _ids_of(pairs)], float),
        )

    def similarity(self, was_detected: Collection[int]) -> NDArray[np.float64]:
        """(P,) similarity of each pair, 0 to 1.

        An object detected on the previous key frame was tracked to this one, and the track to that one: they are
        compared on all frames in between. Of other objects only the end may be present, so common frames count.
        """
        is_detected = np.isin(self.pairs.first_ids, list(was_detected))
        return np.where(is_detected, self.between, self.pairs.iou * self.meets)


def _ids_of(pairs: Overlaps) -> list[tuple[int, int]]:
    return list(zip(pairs.first_ids.tolist(), pairs.second_ids.tolist(), strict=True))


def _contained(compared: _Compared, min_containment: float) -> dict[int, int]:
    """Tracks that lie mostly inside one object that they meet -> that object."""
    pairs = compared.pairs
    within = pairs.second_within_first * compared.meets
    order = np.argsort(within, kind="stable")  # the last one, with the highest fraction, is kept
    return {int(pairs.second_ids[i]): int(pairs.first_ids[i]) for i in order if within[i] >= min_containment}


def _combine(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """The first labels, and on unlabelled pixels objects of the second that the first do not contain."""
    has = label_areas(first)[:, 0]
    rest = np.where(np.isin(second, has), 0, second)
    return np.where(first > 0, first, rest).astype(np.int32)
