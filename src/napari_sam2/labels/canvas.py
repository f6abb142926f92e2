"""Paint a label stack frame by frame, where later results may add objects to frames that were painted before."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_sam2._types import FrameResult
from napari_sam2.labels.compose import compose_labels
from napari_sam2.labels.protocols import LabelStack

__all__ = ["LabelCanvas"]


class LabelCanvas:
    """Paints results with logits; where objects overlap, the highest logit wins, even across two results.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W), written frame by frame.
    hw : tuple of int
        (H, W).
    contested_frames : collection of int
        Frames that will be painted more than once; their winning logits are kept in a temporary file.
    """

    def __init__(self, labels: LabelStack, hw: tuple[int, int], contested_frames: Collection[int]) -> None:
        self.labels = labels
        self._hw = hw
        self._slots = {frame: slot for slot, frame in enumerate(sorted(contested_frames))}
        self._painted: set[int] = set()
        self._file = tempfile.TemporaryFile(prefix="napari-sam2-") if contested_frames else None  # noqa: SIM115 closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def paint(self, result: FrameResult) -> None:
        """Add the objects of a result, which must hold logits."""
        assert result.logits is not None, "painting needs results with logits"
        frame = result.frame
        if not result.object_ids:
            return
        labels = compose_labels(result.logits, result.object_ids)
        best = result.logits.max(axis=0)
        if frame in self._painted:
            before, held = np.asarray(self.labels[frame]), self._held(frame)
            keeps = (before > 0) & ((labels == 0) | (held >= best))
            labels = np.where(keeps, before, labels)
            best = np.where(keeps, held, best)
        self.labels[frame] = labels
        if frame in self._slots:
            self._painted.add(frame)
            self._keep(frame, best)

    def _keep(self, frame: int, best: NDArray[np.float32]) -> None:
        assert self._file is not None
        self._file.seek(self._slots[frame] * best.size * 4)
        self._file.write(best.astype(np.float32).tobytes())

    def _held(self, frame: int) -> NDArray[np.float32]:
        assert self._file is not None
        count = self._hw[0] * self._hw[1]
        self._file.seek(self._slots[frame] * count * 4)
        return np.frombuffer(self._file.read(count * 4), np.float32).reshape(self._hw)
