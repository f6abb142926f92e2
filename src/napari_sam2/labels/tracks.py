"""Objects over time with their lineage: where each one is on each frame, and which one descends from which."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._arguments import checked, checked_calls
from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Tracks", "ids_of_graph", "tracks_of_graph", "tracks_of_labels"]


@checked_calls(FrameError)
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
        If the arrays do not fit each other or hold other numbers, an object has two rows on a frame, a parent is not
        among the objects, or is still there when its daughter begins.
    """

    ids: NDArray[np.int64]
    frames: NDArray[np.int64]
    centres: NDArray[np.float64]
    areas: NDArray[np.int64]
    parents: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("ids", "frames", "areas"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
        object.__setattr__(self, "centres", self.centres.astype(np.float64))
        count = len(self.ids)
        if self.centres.shape not in ((count, 2), (count, 3)) or not len(self.frames) == len(self.areas) == count:
            raise FrameError(
                f"{count} ids, {len(self.frames)} frames, {len(self.areas)} areas and centres of shape "
                f"{self.centres.shape} were given; expected one row of each per object and frame"
            )
        if count and (self.ids.min() < 1 or self.frames.min() < 0):
            raise FrameError("an object below 1 or a frame below 0 was given; expected objects from 1, frames from 0")
        if not np.isfinite(self.centres).all():
            row = int(np.flatnonzero(~np.isfinite(self.centres).all(axis=1))[0])
            raise FrameError(
                f"object {self.ids[row]} is at {self.centres[row].tolist()} on frame {self.frames[row]}; expected "
                "finite positions"
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
            if daughter == parent:
                raise FrameError(f"object {daughter} was given as its own parent; give another one, or none")
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
    num_axes = 0
    for frame, plane in enumerate(labels):
        image = np.asarray(plane)
        if image.ndim not in (2, 3) or image.dtype.kind not in "iub" or num_axes not in (0, image.ndim):
            raise FrameError(
                f"labels of shape {image.shape} and type {image.dtype} were given for frame {frame}; expected "
                "integers, (H, W) or (Z, H, W), the same on all frames"
            )
        num_axes = image.ndim
        places = np.nonzero(image > 0)
        if not len(places[0]):
            continue
        ids, inverse, areas = np.unique(image[places], return_inverse=True, return_counts=True)
        centres = np.stack([np.bincount(inverse, axis) / areas for axis in places], axis=1)
        rows.append((ids.astype(np.int64), frame, centres, areas.astype(np.int64)))
    if not rows:
        return Tracks(*_empty(num_axes or 2), parents or {})
    return Tracks(
        np.concatenate([ids for ids, *_ in rows]),
        np.concatenate([np.full(len(ids), frame, np.int64) for ids, frame, *_ in rows]),
        np.concatenate([centres for *_, centres, _ in rows]),
        np.concatenate([areas for *_, areas in rows]),
        parents or {},
    )


def _whole_numbers(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers of one axis as int64; raises FrameError for others."""
    array = np.asarray(values)
    is_whole = array.dtype.kind in "iub" or bool((np.isfinite(array) & (array == np.round(array))).all())
    if array.ndim != 1 or not is_whole or (array.size and abs(array).max() > np.iinfo(np.int64).max):
        raise FrameError(
            f"{name} of shape {array.shape} and type {array.dtype} were given; expected whole numbers of 64 bits, one "
            "per object and frame"
        )
    return array.astype(np.int64)


def _empty(num_axes: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    none = np.zeros(0, np.int64)
    return none, none, np.zeros((0, num_axes)), none


def tracks_of_graph(
    frames: NDArray[np.int64],
    centres: NDArray[np.float64],
    areas: NDArray[np.int64],
    edges: Sequence[tuple[int, int]],
    names: Sequence[int] | None = None,
    *,
    are_objects: bool = False,
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
    are_objects : bool, default False
        The names are those of `write_tracks`: a link between two names goes from parent to daughter, 0 is a spot
        without a name, and runs whose name is taken or missing get numbers above all others.

    Returns
    -------
    Tracks
        A spot with several links to later spots is the last one of its track.

    Raises
    ------
    FrameError
        If a link joins spots of one frame, or a spot is linked to several earlier ones: merges are not supported.
    """
    ids, parents = ids_of_graph(frames, edges, names, are_objects=are_objects)
    return Tracks(ids, frames.astype(np.int64), centres.astype(np.float64), areas.astype(np.int64), parents)


def ids_of_graph(
    frames: NDArray[np.int64],
    edges: Sequence[tuple[int, int]],
    names: Sequence[int] | None = None,
    *,
    are_objects: bool = False,
) -> tuple[NDArray[np.int64], dict[int, int]]:
    """The object of each spot, and daughter -> parent; arguments and errors as for `tracks_of_graph`."""
    later: dict[int, list[int]] = defaultdict(list)
    earlier: dict[int, int] = {}
    for a, b in edges:
        source, target = (a, b) if frames[a] < frames[b] else (b, a)
        if frames[source] == frames[target]:
            raise FrameError(f"two spots on frame {frames[source]} are linked; links go from frame to frame")
        if earlier.get(target) == source:  # the same link again
            continue
        if target in earlier:
            raise FrameError(
                f"a spot on frame {frames[target]} is linked to two earlier ones; tracks that merge cannot be read: "
                "remove one of the links"
            )
        earlier[target] = source
        later[source].append(target)
    objects = names if are_objects else None
    runs: list[list[int]] = []
    run_of: dict[int, int] = {}
    name_of: list[int] = []  # of each run, 0: none of its spots has one yet
    for spot in np.lexsort((np.arange(len(frames)), frames)).tolist():
        before, name = earlier.get(spot), objects[spot] if objects is not None else 0
        run = run_of[before] if before is not None and len(later[before]) == 1 else None
        if run is not None and (not name or name_of[run] in (0, name)):
            run_of[spot] = run
            runs[run].append(spot)
            name_of[run] = name_of[run] or name
        else:
            run_of[spot] = len(runs)
            runs.append([spot])
            name_of.append(name)
    found = _free_names(name_of) if are_objects else _run_names(runs, names) or list(range(1, len(runs) + 1))
    parents = {found[number]: found[run_of[earlier[run[0]]]] for number, run in enumerate(runs) if run[0] in earlier}
    return np.array([found[run_of[spot]] for spot in range(len(frames))], np.int64), parents


def _free_names(names: Sequence[int]) -> list[int]:
    """The names of runs; those without one, and the later ones of equal names, get numbers above all others."""
    taken: set[int] = set()
    free = itertools.count(max(names, default=0) + 1)
    found = []
    for name in names:
        found.append(name if name > 0 and name not in taken else next(free))
        taken.add(found[-1])
    return found


def _run_names(runs: Sequence[Sequence[int]], names: Sequence[int] | None) -> list[int] | None:
    """The name of each run, if all spots of a run have the same one and no two runs share it."""
    if names is None:
        return None
    found = [{names[spot] for spot in run} for run in runs]
    if any(len(each) != 1 or min(each) < 1 for each in found):
        return None
    single = [each.pop() for each in found]
    return single if len(set(single)) == len(single) else None
