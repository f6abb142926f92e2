"""Settings that several jobs share: how files are read, how objects are found, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_sam2._arguments import checked_calls
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.batch.pieces import Source
from napari_sam2.frames import Contrast, Frames, open_frames

if TYPE_CHECKING:
    from napari_sam2._types import MaskRecord
    from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.network.sam2 import SAM2

__all__ = ["FindOptions", "KeepOptions", "ReadOptions", "ShapeLimits"]


@checked_calls(FrameError)
@dataclass(frozen=True)
class ReadOptions:
    """How files are read; see `open_frames`.

    Attributes
    ----------
    axes, frame_axis : str or None
        Axes of the files, and the one along which their frames are.
    fixed : tuple of (str, int or str)
        Index on further axes; a position (P) also by its name.
    channels : tuple of int or str, or None
        Numbers or names of the channels shown to the model.
    contrast, gamma
        As for `open_frames`; "auto" is chosen for each file.
    level : int or None
        Level of multiscale files.

    Raises
    ------
    FrameError
        If an option is not of its type.
    """

    axes: str | None = None
    frame_axis: str | None = None
    fixed: tuple[tuple[str, int | str], ...] = ()
    channels: tuple[int | str, ...] | None = None
    contrast: Contrast = "auto"
    gamma: float = 1.0
    level: int | None = None

    def open(self, source: Source) -> Frames:
        """Open a file, with its own axes and channels where it has such; raises FrameError."""
        return open_frames(
            source.path,
            axes=source.axes or self.axes,
            frame_axis=self.frame_axis,
            fixed=dict(self.fixed) | ({} if source.position is None else {"P": source.position}) or None,
            channels=self.channels if source.channels is None else source.channels,
            contrast=self.contrast,
            gamma=self.gamma,
            level=self.level,
        )


class ShapeLimits(NamedTuple):
    """Areas in pixels of the objects that are kept, and whether those at the edge are left out."""

    min_area: float
    max_area: float
    exclude_border: bool

    def keep(self, records: Sequence[MaskRecord]) -> list[MaskRecord]:
        """The masks of the allowed sizes and places."""
        from napari_sam2.inference.automatic.record_filters import filter_records

        return filter_records(records, **self._asdict())


@checked_calls(PromptError)
@dataclass(frozen=True)
class KeepOptions:
    """Which objects are kept.

    Attributes
    ----------
    min_area, max_area : str or None
        In pixels (``"30"``) or in units of the file (``"5um2"``).
    exclude_border : bool
        Leave out objects that touch the edge.

    Raises
    ------
    PromptError
        If an option is not of its type.
    """

    min_area: str | None = None
    max_area: str | None = None
    exclude_border: bool = False

    def limits(self, frames: Frames) -> ShapeLimits:
        """The areas in pixels; raises FrameError if one cannot be understood or converted."""
        from napari_sam2.frames.areas import parse_area

        smallest = parse_area("--min-area", self.min_area, frames)
        largest = parse_area("--max-area", self.max_area, frames)
        return ShapeLimits(smallest or 0.0, math.inf if largest is None else largest, self.exclude_border)


@checked_calls(PromptError)
@dataclass(frozen=True)
class FindOptions:
    """How objects are found without prompts; None is what suits the model. See `SAM2AutomaticMaskGenerator`.

    Raises
    ------
    PromptError
        If an option is not of its type.
    """

    points_per_side: int | None = None
    point_spacing_px: float | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    box_nms_thresh: float | None = None
    crop_n_layers: int | None = None

    def check(self) -> None:
        """Raise PromptError for values that are impossible with any model."""
        from napari_sam2.inference.automatic.options import MaskGeneratorOptions

        MaskGeneratorOptions().changed(**self._given())

    def generator(self, model: SAM2) -> SAM2AutomaticMaskGenerator:
        """The mask generator with these options."""
        from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator

        return SAM2AutomaticMaskGenerator(model, output_mode="coco_rle", **self._given())

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}
