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
    object whose prompt is nearer in time wins, since errors add up along a track; of two that are equally far from
    their prompts, the one with the higher logit does. Small components that are left of a mask are dropped.

    Parameters
    ----------
    hw : tuple of int
        (H, W).
    contested_frames : collection of int
        Frames with more than one result; how strongly each pixel is claimed is kept in a temporary file.
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
        count = len(result.object_ids)
        prompted = result.is_prompted or (False,) * count
        distances = result.prompt_distances or (0,) * count
        windows = [window.cropped() for window in result.windows]
        tracked = [
            (i, window, _strength(window, distance))
            for i, window, distance, is_prompted in zip(result.object_ids, windows, distances, prompted, strict=True)
            if not is_prompted
        ]
        own = [(i, window) for i, window, p in zip(result.object_ids, windows, prompted, strict=True) if p]
        labels, best = self._tracked_labels(tracked)
        for object_id, window in own[::-1]:
            labels[window.slices][window.mask] = object_id
            best[window.slices][window.mask] = np.inf
        if frame not in self._slots:
            return labels
        if frame in self._composed:
            before, held = np.asarray(labels_before(), np.int32), self._held(frame)
            keeps = (before > 0) & ((labels == 0) | (held >= best))
            labels = np.where(keeps, before, labels)
            best = np.where(keeps, held, best)
        self._composed.add(frame)
        self._keep(frame, best)
        return labels

    def _tracked_labels(
        self, rows: Sequence[tuple[int, LogitWindow, NDArray[np.float32]]]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Labels of objects that compete, and the strength of the winner; ties go to the earlier one."""
        labels, best = np.zeros(self._hw, np.int32), np.full(self._hw, -np.inf, np.float32)
        for object_id, window, strength in rows:
            wins = window.mask & (strength > best[window.slices])
            labels[window.slices][wins] = object_id
            best[window.slices][wins] = strength[wins]
        for object_id, window, _ in rows:
            left = window.mask & (labels[window.slices] == object_id)
            if np.count_nonzero(left) < np.count_nonzero(window.mask):
                labels[window.slices][left & ~without_specks(left, self._min_component)] = 0
        return labels, best

    def _keep(self, frame: int, best: NDArray[np.float32]) -> None:
        assert self._file is not None
        self._file.seek(self._slots[frame] * best.size * 4)
        self._file.write(best.astype(np.float32).tobytes())

    def _held(self, frame: int) -> NDArray[np.float32]:
        assert self._file is not None
        count = self._hw[0] * self._hw[1]
        self._file.seek(self._slots[frame] * count * 4)
        return np.frombuffer(self._file.read(count * 4), np.float32).reshape(self._hw)


def _strength(window: LogitWindow, distance: int) -> NDArray[np.float32]:
    """How strongly an object claims pixels: by the nearness of its prompt, then by logit; above -distance - 1."""
    return (-distance - 1 / (1 + np.maximum(window.logits, 0))).astype(np.float32)


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
