"""Labels of a few frames of a stack, on disk for as long as they are needed."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelWindow"]


class LabelWindow:
    """Labels of a few frames in a temporary file, indexed by the frames of the stack."""

    def __init__(self, window: range, hw: tuple[int, int]) -> None:
        self._start = window.start
        self._file = tempfile.TemporaryFile(prefix="napari-sam2-")  # noqa: SIM115 closed by __exit__
        self._planes = np.memmap(self._file, np.int32, "w+", shape=(len(window), *hw))

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        return np.array(self._planes[frame - self._start])

    def __setitem__(self, frame: int, labels: NDArray[np.int32], /) -> None:
        self._planes[frame - self._start] = labels

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        del self._planes
        self._file.close()
