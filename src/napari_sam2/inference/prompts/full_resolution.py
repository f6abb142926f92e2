"""Labels that were found on a coarser level, written at full resolution: refined in a window around each object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam2._errors import FrameError, OutputError
from napari_sam2._messages import counted
from napari_sam2._types import Prompt
from napari_sam2.labels.enlarging import EnlargedMask, enlarged_masks
from napari_sam2.labels.files import LabelParts, LabelWriter
from napari_sam2.labels.ngff import nearest_pixels
from napari_sam2.labels.storage import allocate_labels

if TYPE_CHECKING:
    import os

    from napari_sam2.frames import Frames
    from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
    from napari_sam2.network.sam2 import SAM2

__all__ = ["FullResolutionSettings", "FullResolutionWriter", "RefinementReport", "is_coarser_level"]


@dataclass(frozen=True)
class FullResolutionSettings:
    """How masks of a coarser level are refined.

    Attributes
    ----------
    max_side : int
        Pixels of the full resolution: the model refines objects whose window is not longer than this; larger ones are
        enlarged with a smooth outline.
    margin : float
        Of the window around the bounding box, as a share of its longer side.
    min_margin : int
        Pixels of the coarser level that the margin has at least.
    min_agreement : float
        IoU with the enlarged mask below which a refined mask is rejected.
    block : int
        Side of the parts in which large objects are written, in pixels.
    max_plane_bytes : int
        Size of a plane of labels, above which only OME-Zarr can be written.
    """

    max_side: int = 1024
    margin: float = 0.2
    min_margin: int = 2
    min_agreement: float = 0.6
    block: int = 1024
    max_plane_bytes: int = 2**29


@dataclass
class RefinementReport:
    """How many masks were refined.

    Attributes
    ----------
    num_refined : int
        By the model.
    num_large, num_rejected, num_unreadable, num_unfinished : int
        Enlarged with a smooth outline: too large for a window, refined to something else, where the image cannot be
        read, and after an interruption.
    """

    num_refined: int = 0
    num_large: int = 0
    num_rejected: int = 0
    num_unreadable: int = 0
    num_unfinished: int = 0

    def __str__(self) -> str:
        enlarged = self.num_large + self.num_rejected + self.num_unreadable + self.num_unfinished
        verb = "was" if self.num_refined == 1 else "were"
        text = f"at full resolution: {counted(self.num_refined, 'mask')} {verb} refined by the model"
        if not enlarged:
            return text
        reasons = [
            f"{count} {reason}"
            for count, reason in (
                (self.num_large, "too large for a window"),
                (self.num_rejected, "that the model saw differently"),
                (self.num_unreadable, "where the image cannot be read"),
                (self.num_unfinished, "after the interruption"),
            )
            if count
        ]
        return f"{text}, {enlarged} were enlarged with a smooth outline ({', '.join(reasons)})"


def is_coarser_level(frames: Frames) -> bool:
    """Whether frames are those of a coarser level of a file that has the full resolution too."""
    return frames.path is not None and frames.full_hw != frames.shape[1:]


@dataclass
class _Scratch:
    """Labels of the coarser level, in memory or in a temporary file."""

    shape: tuple[int, int, int]
    written: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.labels = allocate_labels(self.shape)


class FullResolutionWriter:
    """Takes labels of a coarser level as ``LabelWriter`` does, and writes them at full resolution when it is closed.

    Each object is refined by the model in a window of the full resolution around it, with the coarse mask and its box
    as the prompt; only these windows are read and written. Objects too large for a window get the smooth outline of the
    coarse mask. Pixels that belong to another object at the coarser level stay with it.

    Parameters
    ----------
    path : path-like
        As for ``LabelWriter``.
    frames : Frames
        The coarser level.
    load_model : callable
        Called for the model when the first window is refined.
    frame : int, optional
        Write this frame alone, as YX.
    settings : FullResolutionSettings, optional
        How masks are refined.
    overwrite : bool, default False
        Replace an existing file.

    Attributes
    ----------
    report : RefinementReport
        How many masks were refined; complete once the writer is closed.

    Raises
    ------
    FrameError
        If the file has no full resolution that fits the frames.
    OutputError
        As ``LabelWriter``; if a plane is too large for any format but OME-Zarr.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        frames: Frames,
        *,
        load_model: Callable[[], SAM2],
        frame: int | None = None,
        settings: FullResolutionSettings | None = None,
        overwrite: bool = False,
    ) -> None:
        self._settings = settings or FullResolutionSettings()
        self._full = frames.full_resolution()
        self._load_model = load_model
        self._predictor: SAM2ImagePredictor | None = None
        self._full_frame = None if frame is None else _nearest(frame, len(frames), len(self._full))
        num_frames = 1 if frame is not None else len(frames)
        self.shape: tuple[int, int, int] = (num_frames, *frames.shape[1:])
        self.report = RefinementReport()
        self._writer = LabelWriter.for_frames(path, self._full, frame=self._full_frame, overwrite=overwrite)
        self._is_in_parts = self._writer.parts() is not None
        if not self._is_in_parts and 4 * int(np.prod(self._full.shape[1:])) > self._settings.max_plane_bytes:
            self._writer.discard()
            height, width = self._full.shape[1:]
            raise OutputError(
                f"labels of {height:,} x {width:,} pixels cannot be written to {path} at full resolution; give a name "
                "that ends in .ome.zarr, or a place in the OME-Zarr image"
            )
        self.path = self._writer.path
        self._coarse = _Scratch(self.shape)
        self._is_open = True

    def write(self, frame: int, labels: ArrayLike) -> None:
        """Write one frame of the coarser level; parameters as ``LabelWriter.write``."""
        array = np.asarray(labels)
        if array.shape != self.shape[1:] or array.dtype.kind not in "biu" or not 0 <= frame < self.shape[0]:
            raise OutputError(
                f"labels of shape {array.shape}, {array.dtype} were given for frame {frame}; expected integers "
                f"{self.shape[1:]} for frames 0 to {self.shape[0] - 1}"
            )
        self._coarse.labels[frame] = array.astype(np.int32)
        self._coarse.written.add(int(frame))

    def __setitem__(self, frame: int, labels: ArrayLike, /) -> None:
        self.write(frame, labels)

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        """(H, W) of one frame of the coarser level, as written last."""
        return np.asarray(self._coarse.labels[frame], np.int32)

    def parts(self, frame: int = 0) -> None:
        """None: the coarser level is written as a whole."""

    def close(self, complete: bool = True) -> Path | None:
        """Refine and write all frames, and finish the file; parameters and errors as ``LabelWriter.close``.

        After an interruption masks are enlarged and not refined, so that it ends soon.
        """
        if not self._is_open:
            return None
        self._is_open = False
        if self._coarse.written:
            for frame, coarse_frame in self._pairs():
                self._write_frame(frame, self[coarse_frame], is_refining=complete)
        return self._writer.close(complete)

    def discard(self) -> None:
        """Remove everything written."""
        self._writer.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            try:
                self.close(complete=kind is None)
            except BaseException:
                self.discard()
                raise
        else:
            self.discard()

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Frames of the output, and for each the frame of the coarser level it belongs to."""
        num_frames = self._writer.shape[0]
        for frame, coarse in enumerate(nearest_pixels(num_frames, self.shape[0]).tolist()):
            if coarse in self._coarse.written:
                yield frame, coarse

    def _write_frame(self, frame: int, labels: NDArray[np.int32], *, is_refining: bool) -> None:
        parts = self._writer.parts(frame)
        target = np.zeros(self._writer.shape[1:], np.int32) if parts is None else parts
        ids: list[int] = []
        for mask in enlarged_masks(labels, self._writer.shape[1:]):
            window = self._window(mask)
            side = max(window[0].stop - window[0].start, window[1].stop - window[1].start)
            refined = None
            if not is_refining:
                self.report.num_unfinished += 1
            elif side > self._settings.max_side:
                self.report.num_large += 1
            else:
                refined = self._refined(frame, mask, window, labels)
            if refined is not None:
                _paint(target, window, refined, mask.object_id)
            else:
                for block in mask.blocks(self._settings.block):
                    _paint(target, block, mask.part(*block), mask.object_id)
            ids.append(mask.object_id)
        if isinstance(target, np.ndarray):
            self._writer.write(frame, target)
        else:
            self._writer.note(frame, ids)

    def _window(self, mask: EnlargedMask) -> tuple[slice, slice]:
        """The bounding box of an object with a margin, within the image."""
        y0, x0, y1, x1 = mask.box
        zoom = max(full / coarse for full, coarse in zip(self._writer.shape[1:], self.shape[1:], strict=True))
        margin = round(max(self._settings.margin * max(y1 - y0, x1 - x0), self._settings.min_margin * zoom))
        height, width = self._writer.shape[1:]
        rows = slice(max(0, y0 - margin), min(height, y1 + margin))
        return rows, slice(max(0, x0 - margin), min(width, x1 + margin))

    def _refined(
        self, frame: int, mask: EnlargedMask, window: tuple[slice, slice], labels: NDArray[np.int32]
    ) -> NDArray[np.bool_] | None:
        """(h, w) mask of the model in a window; None where it is not the same object."""
        enlarged = mask.part(*window)
        if not enlarged.any():
            self.report.num_rejected += 1
            return None
        if self._predictor is None:
            from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor

            self._predictor = SAM2ImagePredictor(self._load_model())
        try:
            shown = self._full.region(frame if self._full_frame is None else self._full_frame, *window)
        except FrameError:  # what was found on the coarser level is kept
            self.report.num_unreadable += 1
            return None
        self._predictor.set_image(shown)
        rows, columns = np.flatnonzero(enlarged.any(1)), np.flatnonzero(enlarged.any(0))
        box = (columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5)
        found = self._predictor.predict(Prompt(box=np.array(box, np.float32), mask=enlarged), multimask_output=False)
        refined = np.asarray(found.masks[0], bool) & _free(labels, mask.object_id, window, self._writer.shape[1:])
        union = int((refined | enlarged).sum())
        if int((refined & enlarged).sum()) < self._settings.min_agreement * union:
            self.report.num_rejected += 1
            return None
        self.report.num_refined += 1
        return refined


def _nearest(frame: int, num_coarse: int, num_full: int) -> int:
    """The frame of the full resolution in the middle of those that a coarse frame stands for."""
    return min(int((frame + 0.5) * num_full / num_coarse), num_full - 1)


def _free(
    labels: NDArray[np.int32], object_id: int, window: tuple[slice, slice], full_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """(h, w) where no other object lies at the coarser level."""
    rows, columns = (
        nearest_pixels(full, coarse)[span] for full, coarse, span in zip(full_hw, labels.shape, window, strict=True)
    )
    owner = labels[np.ix_(rows, columns)]
    return np.asarray((owner == 0) | (owner == object_id))


def _paint(
    target: NDArray[np.int32] | LabelParts, part: tuple[slice, slice], mask: NDArray[np.bool_], object_id: int
) -> None:
    """Write an object where no other one was written."""
    values = np.array(target[part])
    is_free = mask & (values == 0)
    if is_free.any():
        values[is_free] = object_id
        target[part] = values
