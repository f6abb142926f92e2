"""The bounding boxes of the masks of one plane, all compared with a box at once."""

from __future__ import annotations

from collections.abc import Mapping

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

    def put(self, boxes: Mapping[int, Box]) -> None:
        """Set the boxes of objects, thousands in one step; one without area meets none."""
        rows = [self._rows.setdefault(object_id, len(self._rows)) for object_id in boxes]
        self._ids += list(self._rows)[len(self._ids) :]
        missing = len(self._ids) - len(self._boxes)
        if missing > 0:
            more = np.zeros((max(missing, len(self._boxes)), 4), np.int64)
            self._boxes = np.concatenate((self._boxes, more))
        self._boxes[rows] = list(boxes.values())

    def meeting(self, box: Box) -> list[int]:
        """The objects whose boxes share a pixel with a box, ascending."""
        y0, x0, y1, x1 = box
        boxes = self._boxes[: len(self._ids)]
        meets = (boxes[:, 0] < y1) & (y0 < boxes[:, 2]) & (boxes[:, 1] < x1) & (x0 < boxes[:, 3])
        return sorted(self._ids[row] for row in np.flatnonzero(meets).tolist())
