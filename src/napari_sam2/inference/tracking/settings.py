"""How frames are segmented."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_sam2.inference.tracking.claims import ClaimSettings, DistractorSettings
from napari_sam2.inference.tracking.component_filter import ComponentFilterSettings
from napari_sam2.inference.tracking.frame_survey import ShiftSettings
from napari_sam2.inference.tracking.motion import MotionSettings
from napari_sam2.inference.tracking.recovery import RecoverySettings
from napari_sam2.inference.tracking.sharing import SharingSettings
from napari_sam2.inference.views.click_search import ClickSearchSettings
from napari_sam2.inference.views.view_tracking import ViewTrackingSettings

__all__ = ["SegmentationSettings"]


@dataclass(frozen=True)
class SegmentationSettings:
    """How frames are segmented.

    Attributes
    ----------
    reference_behaviour, corrections_stick, memory_dtype, fill_hole_area, keep_apart, batch_bytes
        See ``SAM2VideoSegmenter``.
    click_search : ClickSearchSettings
        How clicks are decoded at several scales.
    view_tracking : ViewTrackingSettings
        When the view of a tracked object moves.
    component_filter : ComponentFilterSettings
        Which components of tracked masks are kept.
    recovery : RecoverySettings
        How objects that are missing on some frames are found again.
    shifts : ShiftSettings
        When a shift between frames is taken for a movement of the stage.
    motion : MotionSettings
        How the movement of objects is predicted, for models that follow the last mask.
    claims : ClaimSettings
        How objects that claim the same pixels are distinguished, for the same models.
    distractors : DistractorSettings
        Which frames with look-alike objects are kept in memory.
    sharing : SharingSettings
        How pixels that several objects claim are shared, for models that follow the last mask.
    """

    reference_behaviour: bool
    corrections_stick: bool
    memory_dtype: torch.dtype
    fill_hole_area: float
    keep_apart: bool
    batch_bytes: int | None
    click_search: ClickSearchSettings = ClickSearchSettings()
    view_tracking: ViewTrackingSettings = ViewTrackingSettings()
    component_filter: ComponentFilterSettings = ComponentFilterSettings()
    recovery: RecoverySettings = RecoverySettings()
    shifts: ShiftSettings = ShiftSettings()
    motion: MotionSettings = MotionSettings()
    claims: ClaimSettings = ClaimSettings()
    distractors: DistractorSettings = DistractorSettings()
    sharing: SharingSettings = SharingSettings()
