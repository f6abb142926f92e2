"""Label image of all objects in one image, used for stacks and tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from napari_sam2.labels.compose import masks_to_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2._types import MaskRecord
    from napari_sam2.inference.progress import ShouldStop

__all__ = ["KeepRecords", "MaskFinder", "automatic_labels"]

KeepRecords = Callable[[Sequence["MaskRecord"]], Sequence["MaskRecord"]]
"""Selects masks of an image, such as ``functools.partial(filter_records, min_area=30)``."""

_MIN_VISIBLE_FRACTION = 0.2
"""Masks of which less than this fraction is visible are near-duplicates of the masks on top."""


class MaskFinder(Protocol):
    """The part of ``SAM2AutomaticMaskGenerator`` that is used here."""

    def generate_masks(
        self, image: NDArray[np.uint8], *, progress: Callable[[int, int], None] | None = None
    ) -> Sequence[MaskRecord]: ...


class _CancelledError(Exception):
    """Raised in the progress callback to leave the generator."""


def automatic_labels(
    finder: MaskFinder,
    rgb: NDArray[np.uint8],
    *,
    keep: KeepRecords | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.int32] | None:
    """Label image of all objects in an image.

    Parameters
    ----------
    finder : MaskFinder
        Detects the objects.
    rgb : (H, W, 3) uint8 array
        The image.
    keep : callable, optional
        Selects among the records; default all.
    progress : callable, optional
        Called with the points done and the points in total.
    should_stop : callable, optional
        Called after each batch of points; returns True to cancel.

    Returns
    -------
    (H, W) int32 array or None
        Objects numbered from 1, small ones on top; None if cancelled.
    """

    def step(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)
        if should_stop is not None and should_stop():
            raise _CancelledError

    try:
        records = finder.generate_masks(rgb, progress=step)
    except _CancelledError:
        return None
    chosen = records if keep is None else keep(records)
    h, w = rgb.shape[:2]
    return masks_to_labels(chosen, (h, w), min_visible_fraction=_MIN_VISIBLE_FRACTION)
