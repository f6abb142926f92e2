"""The call of a session that splits an object along a line."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
from scipy import ndimage

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import as_numbers
from napari_sam2._errors import PromptError
from napari_sam2.session.calls.lineage import LineageCalls

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ShapeCalls"]


@checked_calls(PromptError)
class ShapeCalls(LineageCalls):
    """The calls of a session that change the shapes of objects."""

    def split_along(self, object_id: int, line: ArrayLike) -> int:
        """Cut an object in two along a line on one plane; the smaller part becomes a new object.

        Both parts are corrections on that plane: propagate again to split the other planes.

        Parameters
        ----------
        object_id : int
            The object to cut.
        line : (N, ndim) array-like
            At least two points of a line across the object, data coordinates in axis order, all on one plane.

        Returns
        -------
        int
            The new object.

        Raises
        ------
        PromptError
            If the line does not cut the object, its points lie on several planes, or the object is locked there.
        """
        found = self.store.object(object_id)
        rows = as_numbers(line, "line")
        if rows.ndim != 2 or len(rows) < 2:
            raise PromptError(f"a line of shape {rows.shape} was given; expected at least two points")
        plane, xy = self.geometry.locate(np.asarray(rows))
        if plane in found.locked:
            raise PromptError(f"{found.name} is locked on frame {plane}; unlock it there to split it")
        self.wait_for_answers()
        mask = self.store.masks.get((object_id, plane))
        pixels = None if mask is None else mask.to_image(self.geometry.hw)
        part = None if pixels is None else _cut(pixels, xy)
        if part is None:
            raise PromptError(
                f"the line does not cut {found.name} on frame {plane}; draw it from one side of the object to the other"
            )
        return self.split(object_id, plane, part)


def _cut(mask: NDArray[np.bool_], line_xy: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The smaller part of an (H, W) mask beside a line; None if the line does not cut it.

    Pieces apart from the one that is cut belong to the larger part.
    """
    steps = [np.linspace(start, stop, 2 * int(np.abs(stop - start).max()) + 2) for start, stop in pairwise(line_xy)]
    columns, rows = np.rint(np.concatenate(steps)).astype(int).T
    h, w = mask.shape
    is_inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    cut = np.zeros_like(mask)
    cut[rows[is_inside], columns[is_inside]] = True
    cut &= mask
    # pieces of the rest touch by edges only: a line of pixels that touch by corners separates them
    before, num_before = cast("tuple[NDArray[np.int32], int]", ndimage.label(mask, np.ones((3, 3), bool)))
    for piece in range(1, num_before + 1):
        is_piece = before == piece
        if not (is_piece & cut).any():
            continue
        labels, count = cast("tuple[NDArray[np.int32], int]", ndimage.label(is_piece & ~cut))
        if count < 2:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        second = int(np.argsort(-sizes, kind="stable")[1]) + 1
        # each pixel of the line, and each crumb, goes to the nearer of the two parts
        first = int(sizes.argmax()) + 1
        markers = np.where(np.isin(labels, (first, second)), labels, 0)
        nearest = ndimage.distance_transform_edt(markers == 0, return_distances=False, return_indices=True)
        return np.asarray(is_piece & (markers[tuple(nearest)] == second))
    return None
