"""Paint a label stack frame by frame, where later results may add objects to frames that were painted before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_sam2._types import FrameResult, LogitWindow
from napari_sam2.labels.components import without_specks
from napari_sam2.labels.protocols import LabelStack

__all__ = ["FrameComposer", "LabelCanvas"]


class FrameComposer:
    """Decides which object gets each pixel of a frame, across all results of that frame.

    Prompted masks keep their pixels; where two of them overlap, the one that comes first does. Among tracked masks the
    highest logit wins, and small components that are left of a mask are dropped.

    Parameters
    ----------
    hw : tuple of int
        (H, W).
    contested_frames : collection of int
        Frames with more than one result; their winning logits are kept in a temporary file.
    min_component : float
        Smallest component of a mask that was cut by another one, as a fraction of its largest component.
    """

    def __init__(self, hw: tuple[int, int], contested_frames: Collection[int], *, min_component: float) -> None:
        self._hw = hw
        self._min_component = min_component
        self._slots = {frame: slot for slot, frame in enumerate(sorted(contested_frames))}
        self._composed: set[int] = set()
        self._file = tempfile.TemporaryFile(prefix="napari-sam2-") if contested_frames else None  # noqa: SIM115 closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def compose(self, result: FrameResult, labels_before: Callable[[], NDArray[np.integer]]) -> NDArray[np.int32]:
        """The labels of a frame with the objects of a result.

        Parameters
        ----------
        result : FrameResult
            The objects.
        labels_before : callable
            Returns the (H, W) labels composed of earlier results of the frame; called only if there are any.

        Returns
        -------
        (H, W) int32 array
            Labels; 0 is background.
        """
        frame = result.frame
        if not result.object_ids:
            return np.asarray(labels_before(), np.int32) if frame in self._composed else np.zeros(self._hw, np.int32)
        prompted = result.is_prompted or (False,) * len(result.object_ids)
        rows = [
            (i, window.cropped(), p) for i, window, p in zip(result.object_ids, result.windows, prompted, strict=True)
        ]
        labels = self._tracked_labels([(i, window) for i, window, is_prompted in rows if not is_prompted])
        own = [(i, window) for i, window, is_prompted in rows if is_prompted]
        for object_id, window in own[::-1]:
            labels[window.slices][window.mask] = object_id
        if frame not in self._slots:
            return labels
        best = np.zeros(self._hw, np.float32)
        for _, window, is_prompted in rows:
            logits = np.where(window.mask, np.inf, window.logits) if is_prompted else window.logits
            np.maximum(best[window.slices], logits, out=best[window.slices])
        if frame in self._composed:
            before, held = np.asarray(labels_before(), np.int32), self._held(frame)
            keeps = (before > 0) & ((labels == 0) | (held >= best))
            labels = np.where(keeps, before, labels)
            best = np.where(keeps, held, best)
        self._composed.add(frame)
        self._keep(frame, best)
        return labels

    def _tracked_labels(self, rows: Sequence[tuple[int, LogitWindow]]) -> NDArray[np.int32]:
        """Labels of objects that compete by logit; ties go to the earlier one."""
        labels, best = np.zeros(self._hw, np.int32), np.zeros(self._hw, np.float32)
        for object_id, window in rows:
            wins = window.logits > best[window.slices]
            labels[window.slices][wins] = object_id
            best[window.slices][wins] = window.logits[wins]
        for object_id, window in rows:
            left = window.mask & (labels[window.slices] == object_id)
            if np.count_nonzero(left) < np.count_nonzero(window.mask):
                labels[window.slices][left & ~without_specks(left, self._min_component)] = 0
        return labels

    def _keep(self, frame: int, best: NDArray[np.float32]) -> None:
        assert self._file is not None
        self._file.seek(self._slots[frame] * best.size * 4)
        self._file.write(best.astype(np.float32).tobytes())

    def _held(self, frame: int) -> NDArray[np.float32]:
        assert self._file is not None
        count = self._hw[0] * self._hw[1]
        self._file.seek(self._slots[frame] * count * 4)
        return np.frombuffer(self._file.read(count * 4), np.float32).reshape(self._hw)


class LabelCanvas:
    """Paints results into a label stack, as ``FrameComposer`` composes them.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W), written frame by frame.
    hw : tuple of int
        (H, W).
    contested_frames : collection of int
        Frames that will be painted more than once.
    min_component : float, default 0
        As for ``FrameComposer``; 0 keeps all components.
    """

    def __init__(
        self, labels: LabelStack, hw: tuple[int, int], contested_frames: Collection[int], *, min_component: float = 0.0
    ) -> None:
        self.labels = labels
        self._composer = FrameComposer(hw, contested_frames, min_component=min_component)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._composer.__exit__(kind, error, trace)

    def paint(self, result: FrameResult) -> None:
        """Add the objects of a result."""
        if result.object_ids:
            self.labels[result.frame] = self._composer.compose(result, lambda: self.labels[result.frame])
