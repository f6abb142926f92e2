"""The bounding boxes of the masks of one plane, all compared with a box at once."""

from __future__ import annotations

import numpy as np

__all__ = ["Box", "BoxIndex"]

Box = tuple[int, int, int, int]
_FIRST_SIZE = 16


class BoxIndex:
    """Boxes (y0, x0, y1, x1, the ends exclusive) by object; hundreds of objects are searched in one step."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._ids: list[int] = []
        self._boxes = np.zeros((_FIRST_SIZE, 4), np.int64)

    def put(self, object_id: int, box: Box) -> None:
        """Set the box of an object; one without area meets none."""
        row = self._rows.setdefault(object_id, len(self._ids))
        if row == len(self._ids):
            self._ids.append(object_id)
        if row == len(self._boxes):
            self._boxes = np.concatenate((self._boxes, np.zeros_like(self._boxes)))
        self._boxes[row] = box

    def meeting(self, box: Box) -> list[int]:
        """The objects whose boxes share a pixel with a box, ascending."""
        y0, x0, y1, x1 = box
        boxes = self._boxes[: len(self._ids)]
        meets = (boxes[:, 0] < y1) & (y0 < boxes[:, 2]) & (boxes[:, 1] < x1) & (x0 < boxes[:, 3])
        return sorted(self._ids[row] for row in np.flatnonzero(meets).tolist())
