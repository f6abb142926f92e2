"""Arrays and image files as frames: one plane at a time, uint8 RGB, with one contrast rule for the whole stack."""

from napari_sam2.frames.axes import Selection, guess_axes
from napari_sam2.frames.contrast import Contrast, percentile_limits
from napari_sam2.frames.intensity import image_to_rgb, to_rgb_uint8
from napari_sam2.frames.sources import Frames, open_frames
from napari_sam2.frames.spacing import Spacing, VoxelSize

__all__ = [
    "Contrast",
    "Frames",
    "Selection",
    "Spacing",
    "VoxelSize",
    "guess_axes",
    "image_to_rgb",
    "open_frames",
    "percentile_limits",
    "to_rgb_uint8",
]
