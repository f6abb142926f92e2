"""Objects over time with their lineage: where each one is on each frame, and which one descends from which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Tracks", "ids_of_graph", "tracks_of_graph", "tracks_of_labels"]


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracks as rows, one for each object and frame, sorted by object and frame.

    Attributes
    ----------
    ids : (N,) int64 array
        Object of each row, at least 1.
    frames : (N,) int64 array
        Time point of each row, from 0.
    centres : (N, 2) or (N, 3) float64 array
        y, x or z, y, x of the centre, in pixels.
    areas : (N,) int64 array
        Pixels or voxels.
    parents : mapping of int to int
        Daughter -> the object that divided into it.

    Raises
    ------
    FrameError
        If the arrays do not fit each other, an object has two rows on a frame, a parent is not among the objects, or
        is still there when its daughter begins.
    """

    ids: NDArray[np.int64]
    frames: NDArray[np.int64]
    centres: NDArray[np.float64]
    areas: NDArray[np.int64]
    parents: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.ids)
        if self.centres.shape not in ((count, 2), (count, 3)) or not len(self.frames) == len(self.areas) == count:
            raise FrameError(
                f"{count} ids, {len(self.frames)} frames, {len(self.areas)} areas and centres of shape "
                f"{self.centres.shape} were given; expected one row of each per object and frame"
            )
        if count and (self.ids.min() < 1 or self.frames.min() < 0):
            raise FrameError(
                "an object below 1 or a frame below 0 was given; allowed are objects from 1, frames from 0"
            )
        order = np.lexsort((self.frames, self.ids))
        for name in ("ids", "frames", "centres", "areas"):
            object.__setattr__(self, name, getattr(self, name)[order])
        same = (np.diff(self.ids) == 0) & (np.diff(self.frames) == 0)
        if same.any():
            row = int(np.flatnonzero(same)[0])
            raise FrameError(f"object {self.ids[row]} has two positions on frame {self.frames[row]}; one is allowed")
        spans = self.spans()
        object.__setattr__(self, "parents", dict(sorted(self.parents.items())))
        for daughter, parent in self.parents.items():
            if daughter not in spans or parent not in spans:
                raise FrameError(f"object {daughter} descends from {parent}, and one of them is on no frame")
            if spans[parent][1] >= spans[daughter][0]:
                raise FrameError(
                    f"object {parent} is on frame {spans[parent][1]}, and its daughter {daughter} begins on frame "
                    f"{spans[daughter][0]}; a parent ends before its daughters begin"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def spans(self) -> dict[int, tuple[int, int]]:
        """First and last frame of each object."""
        if not len(self.ids):
            return {}
        ids, first = np.unique(self.ids, return_index=True)
        last = np.append(first[1:], len(self.ids)) - 1
        return {int(i): (int(self.frames[a]), int(self.frames[b])) for i, a, b in zip(ids, first, last, strict=True)}

    def daughters(self) -> dict[int, tuple[int, ...]]:
        """Parent -> daughters, ascending."""
        found: dict[int, list[int]] = defaultdict(list)
        for daughter, parent in self.parents.items():
            found[parent].append(daughter)
        return {parent: tuple(sorted(daughters)) for parent, daughters in sorted(found.items())}

    def edges(self) -> NDArray[np.int64]:
        """(M, 2) rows that follow each other in time, in one object and from parent to daughter."""
        if not len(self.ids):
            return np.zeros((0, 2), np.int64)
        inside = np.flatnonzero(np.diff(self.ids) == 0)
        ids, first = np.unique(self.ids, return_index=True)
        begins = dict(zip(ids.tolist(), first.tolist(), strict=True))
        ends = dict(zip(ids.tolist(), (np.append(first[1:], len(self.ids)) - 1).tolist(), strict=True))
        births = [(ends[parent], begins[daughter]) for daughter, parent in self.parents.items()]
        return np.concatenate(
            (np.stack((inside, inside + 1), axis=1), np.array(births, np.int64).reshape(-1, 2))
        ).astype(np.int64)

    def table(self) -> NDArray[np.float64]:
        """(N, 4) or (N, 5) object, frame and centre, as a napari Tracks layer takes them."""
        return np.column_stack((self.ids, self.frames, self.centres)).astype(np.float64)

    def graph(self) -> dict[int, list[int]]:
        """Daughter -> its parent in a list, as a napari Tracks layer takes it."""
        return {daughter: [parent] for daughter, parent in self.parents.items()}


@checked(FrameError)
def tracks_of_labels(labels: Iterable[ArrayLike], parents: Mapping[int, int] | None = None) -> Tracks:
    """Measure tracks in labels over time.

    Parameters
    ----------
    labels : iterable of (H, W) or (Z, H, W) integer array-like
        Labels of each time point, 0 is background; an object has the same number on all of them.
    parents : mapping of int to int, optional
        Daughter -> parent.

    Returns
    -------
    Tracks
        A row for each object and time point.

    Raises
    ------
    FrameError
        If the labels are not integers of two or three axes, or the parents do not fit them.
    """
    rows: list[tuple[NDArray[np.int64], int, NDArray[np.float64], NDArray[np.int64]]] = []
    num_axes = 2
    for frame, plane in enumerate(labels):
        image = np.asarray(plane)
        if image.ndim not in (2, 3) or image.dtype.kind not in "iub":
            raise FrameError(
                f"labels of shape {image.shape} and type {image.dtype} were given for frame {frame}; expected "
                "integers, (H, W) or (Z, H, W)"
            )
        num_axes = image.ndim
        places = np.nonzero(image > 0)
        if not len(places[0]):
            continue
        ids, inverse, areas = np.unique(image[places], return_inverse=True, return_counts=True)
        centres = np.stack([np.bincount(inverse, axis) / areas for axis in places], axis=1)
        rows.append((ids.astype(np.int64), frame, centres, areas.astype(np.int64)))
    if not rows:
        return Tracks(*_empty(num_axes), parents or {})
    return Tracks(
        np.concatenate([ids for ids, *_ in rows]),
        np.concatenate([np.full(len(ids), frame, np.int64) for ids, frame, *_ in rows]),
        np.concatenate([centres for *_, centres, _ in rows]),
        np.concatenate([areas for *_, areas in rows]),
        parents or {},
    )


def _empty(num_axes: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    none = np.zeros(0, np.int64)
    return none, none, np.zeros((0, num_axes)), none


def tracks_of_graph(
    frames: NDArray[np.int64],
    centres: NDArray[np.float64],
    areas: NDArray[np.int64],
    edges: Sequence[tuple[int, int]],
    names: Sequence[int] | None = None,
) -> Tracks:
    """Build tracks from spots and the links between them, as other programs keep them.

    Parameters
    ----------
    frames, centres, areas : arrays
        One row per spot, as in `Tracks`.
    edges : sequence of (int, int)
        Rows of spots that are linked, in either order.
    names : sequence of int, optional
        Object of each spot, used if every unbranched run of spots has one of its own. Default: 1, 2 and so on in the
        order of their first spots.

    Returns
    -------
    Tracks
        A spot with several links to later spots is the last one of its track.

    Raises
    ------
    FrameError
        If a link joins spots of one frame, or a spot is linked to several earlier ones: merges are not supported.
    """
    ids, parents = ids_of_graph(frames, edges, names)
    return Tracks(ids, frames.astype(np.int64), centres.astype(np.float64), areas.astype(np.int64), parents)


def ids_of_graph(
    frames: NDArray[np.int64], edges: Sequence[tuple[int, int]], names: Sequence[int] | None = None
) -> tuple[NDArray[np.int64], dict[int, int]]:
    """The object of each spot, and daughter -> parent; arguments and errors as for `tracks_of_graph`."""
    later: dict[int, list[int]] = defaultdict(list)
    earlier: dict[int, int] = {}
    for a, b in edges:
        source, target = (a, b) if frames[a] < frames[b] else (b, a)
        if frames[source] == frames[target]:
            raise FrameError(f"two spots on frame {frames[source]} are linked; links go from frame to frame")
        if target in earlier:
            raise FrameError(
                f"a spot on frame {frames[target]} is linked to two earlier ones; tracks that merge cannot be read: "
                "remove one of the links"
            )
        earlier[target] = source
        later[source].append(target)
    runs: list[list[int]] = []
    run_of: dict[int, int] = {}
    for spot in np.lexsort((np.arange(len(frames)), frames)).tolist():
        before = earlier.get(spot)
        if before is not None and len(later[before]) == 1:
            run_of[spot] = run_of[before]
            runs[run_of[spot]].append(spot)
        else:
            run_of[spot] = len(runs)
            runs.append([spot])
    found = _run_names(runs, names) or list(range(1, len(runs) + 1))
    parents = {found[number]: found[run_of[earlier[run[0]]]] for number, run in enumerate(runs) if run[0] in earlier}
    return np.array([found[run_of[spot]] for spot in range(len(frames))], np.int64), parents


def _run_names(runs: Sequence[Sequence[int]], names: Sequence[int] | None) -> list[int] | None:
    """The name of each run, if all spots of a run have the same one and no two runs share it."""
    if names is None:
        return None
    found = [{names[spot] for spot in run} for run in runs]
    if any(len(each) != 1 or min(each) < 1 for each in found):
        return None
    single = [each.pop() for each in found]
    return single if len(set(single)) == len(single) else None
