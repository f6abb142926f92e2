"""SAM 2 for microscopy stacks and movies: click a cell once, get it in every slice.

Names are resolved when they are first used: importing the package loads neither torch, napari nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam2._errors import (
        CheckpointError,
        DeviceError,
        DownloadError,
        FrameError,
        NapariSAM2Error,
        OutputError,
        PromptError,
        TrainingError,
    )
    from napari_sam2._types import FrameResult, FrameSource, MaskPrediction, MaskRecord, Prompt
    from napari_sam2._viewer.opening import open_session
    from napari_sam2.frames import open_frames
    from napari_sam2.frames.display import show_planes
    from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.inference.automatic.record_filters import filter_records
    from napari_sam2.inference.automatic.tiling import segment_tiled
    from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
    from napari_sam2.inference.stacks.key_frame_search import segment_stack
    from napari_sam2.inference.stacks.label_seeds import segment_seeds
    from napari_sam2.inference.stacks.report import ObjectTrack, TrackedLabels, TrackingReport
    from napari_sam2.inference.stacks.volumes import segment_timelapse_volumes
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
    from napari_sam2.inference.views.embedding_cache import EmbeddingCache
    from napari_sam2.labels.compose import masks_to_labels
    from napari_sam2.labels.evaluation import LabelAgreement, average_precision
    from napari_sam2.labels.mask_text import mask_from_text, mask_to_text
    from napari_sam2.labels.volume_linking import LinkedVolumes, TimelapseReport, link_volumes
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.settings import SessionSettings
    from napari_sam2.training.finetune import FineTuneReport, FineTuneResult, fine_tune
    from napari_sam2.weights.loading import ModelInfo, download_model, list_models, load_model

    __version__: str

__all__ = [
    "CheckpointError",
    "DeviceError",
    "DownloadError",
    "EmbeddingCache",
    "FineTuneReport",
    "FineTuneResult",
    "FrameError",
    "FrameResult",
    "FrameSource",
    "LabelAgreement",
    "LinkedVolumes",
    "MaskPrediction",
    "MaskRecord",
    "ModelInfo",
    "NapariSAM2Error",
    "ObjectTrack",
    "OutputError",
    "Prompt",
    "PromptError",
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoSegmenter",
    "Session",
    "SessionSettings",
    "TimelapseReport",
    "TrackedLabels",
    "TrackingReport",
    "TrainingError",
    "__version__",
    "average_precision",
    "download_model",
    "filter_records",
    "fine_tune",
    "link_volumes",
    "list_models",
    "load_model",
    "mask_from_text",
    "mask_to_text",
    "masks_to_labels",
    "open_frames",
    "open_session",
    "segment_seeds",
    "segment_stack",
    "segment_tiled",
    "segment_timelapse_volumes",
    "show_planes",
]

_HOMES = {
    **dict.fromkeys(
        (
            "CheckpointError",
            "DeviceError",
            "DownloadError",
            "FrameError",
            "NapariSAM2Error",
            "OutputError",
            "PromptError",
            "TrainingError",
        ),
        "_errors",
    ),
    **dict.fromkeys(("FrameResult", "FrameSource", "MaskPrediction", "MaskRecord", "Prompt"), "_types"),
    **dict.fromkeys(("ModelInfo", "download_model", "list_models"), "weights.downloads"),
    "load_model": "weights.loading",
    "EmbeddingCache": "inference.views.embedding_cache",
    "open_frames": "frames",
    "open_session": "_viewer.opening",
    "SAM2ImagePredictor": "inference.prompts.image_predictor",
    "masks_to_labels": "labels.compose",
    "SAM2AutomaticMaskGenerator": "inference.automatic.mask_generator",
    "SAM2VideoSegmenter": "inference.tracking.video_segmenter",
    "segment_stack": "inference.stacks.key_frame_search",
    **dict.fromkeys(("LabelAgreement", "average_precision"), "labels.evaluation"),
    "filter_records": "inference.automatic.record_filters",
    "segment_seeds": "inference.stacks.label_seeds",
    "segment_tiled": "inference.automatic.tiling",
    **dict.fromkeys(("LinkedVolumes", "TimelapseReport", "link_volumes"), "labels.volume_linking"),
    "segment_timelapse_volumes": "inference.stacks.volumes",
    **dict.fromkeys(("ObjectTrack", "TrackedLabels", "TrackingReport"), "inference.stacks.report"),
    "show_planes": "frames.display",
    **dict.fromkeys(("mask_from_text", "mask_to_text"), "labels.mask_text"),
    "Session": "session.session",
    "SessionSettings": "session.state.settings",
    **dict.fromkeys(("FineTuneReport", "FineTuneResult", "fine_tune"), "training.finetune"),
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("napari-sam2")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
