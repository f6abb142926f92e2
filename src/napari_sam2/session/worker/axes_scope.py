"""The scope of tracking along several axes: which objects, from which points, to which planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam2._errors import PromptError
from napari_sam2.inference.requests import AxesRequest
from napari_sam2.inference.tracking.plan import plan_tracking

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.session.state.records import PromptEntry
    from napari_sam2.session.state.store import SessionStore

__all__ = ["axes_requests", "num_axes_steps"]


def axes_requests(
    store: SessionStore, ids: Sequence[int], axes: tuple[str, ...], voxel_size: tuple[float, float, float]
) -> list[AxesRequest]:
    """One request for each volume that holds prompts.

    Points on an object are its positive clicks; where it was prompted by a box or a mask, the innermost pixel of the
    mask.

    Raises
    ------
    PromptError
        If the stack has no volumes, or no object has a mask of any prompt.
    """
    geometry = store.geometry
    if geometry.ndim < 3 or geometry.num_frames < 2:
        raise PromptError(f"an image of shape {geometry.shape} has no volume to track in; open a z-stack")
    requests = []
    for first in range(0, geometry.num_planes, geometry.num_frames):
        clip = range(first, first + geometry.num_frames)
        clicks = {i: points for i in ids if len(points := _points(store, i, clip))}
        wanted = {i: _wanted(store, i, clip) for i in clicks}
        if clicks:
            requests.append(AxesRequest(clip, clicks, axes, voxel_size, wanted))
    if not requests:
        raise PromptError("no prompt has a mask that shows an object; click on one first")
    return requests


def num_axes_steps(request: AxesRequest, hw: tuple[int, int]) -> int:
    """How many planes the engine yields for a request."""
    return len(request.clip) + sum(
        _count_steps(request.clicks, "ZYX".index(axis), (len(request.clip), *hw)) for axis in request.axes
    )


def _count_steps(clicks: Mapping[int, NDArray[np.float64]], axis: int, shape: tuple[int, ...]) -> int:
    """Frames to track along one axis, as ``track_along_axis`` does."""
    prompted = {i: sorted({int(plane) for plane in np.rint(rows[:, axis])}) for i, rows in clicks.items()}
    return plan_tracking(prompted, range(shape[axis])).num_steps


def _points(store: SessionStore, object_id: int, clip: range) -> NDArray[np.float64]:
    """(N, 3) z, y, x of points on an object."""
    rows = []
    for plane, entry in store.prompts_of(object_id, clip).items():
        rows += [(plane - clip.start, y, x) for y, x in _on_plane(store, object_id, plane, entry)]
    return np.array(rows, float).reshape(-1, 3)


def _on_plane(store: SessionStore, object_id: int, plane: int, entry: PromptEntry) -> list[tuple[float, float]]:
    prompt = entry.prompt
    if prompt.box is None and not prompt.has_mask:
        return [(float(y), float(x)) for x, y in prompt.points[prompt.labels == 1]]
    mask = store.masks.get((object_id, plane))
    if mask is None or not mask.area:
        return []
    depth = ndimage.distance_transform_edt(np.pad(mask.pixels(), 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return [(float(mask.box[0] + y), float(mask.box[1] + x))]


def _wanted(store: SessionStore, object_id: int, clip: range) -> frozenset[int]:
    taken = store.object(object_id).locked | store.prompts_of(object_id, clip).keys()
    return frozenset(store.life(object_id, clip)) - taken
