"""One picture, every object of it, as a label image: what stacks and tiles ask of the mask generator."""

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
"""Chooses among the masks of a picture, such as ``functools.partial(filter_records, min_area=30)``."""

_MIN_VISIBLE_FRACTION = 0.2
"""A mask that the ones above it leave less of than this is a near-duplicate of theirs."""


class MaskFinder(Protocol):
    """What is needed of ``SAM2AutomaticMaskGenerator``."""

    def generate_masks(
        self, image: NDArray[np.uint8], *, progress: Callable[[int, int], None] | None = None
    ) -> Sequence[MaskRecord]: ...


class _StoppedError(Exception):
    """A wish to stop, on its way out of the generator."""


def automatic_labels(
    finder: MaskFinder,
    rgb: NDArray[np.uint8],
    *,
    keep: KeepRecords | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.int32] | None:
    """Label image of everything that is found in a picture.

    Parameters
    ----------
    finder : MaskFinder
        Finds the masks.
    rgb : (H, W, 3) uint8 array
        The picture.
    keep : callable, optional
        Chooses among the records; default all.
    progress : callable, optional
        Called with the points tried and the points in all.
    should_stop : callable, optional
        Asked after each batch of points.

    Returns
    -------
    (H, W) int32 array or None
        Objects from 1, small ones on top; None if a wish to stop came.
    """

    def step(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)
        if should_stop is not None and should_stop():
            raise _StoppedError

    try:
        records = finder.generate_masks(rgb, progress=step)
    except _StoppedError:
        return None
    chosen = records if keep is None else keep(records)
    h, w = rgb.shape[:2]
    return masks_to_labels(chosen, (h, w), min_visible_fraction=_MIN_VISIBLE_FRACTION)
