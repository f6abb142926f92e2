"""The engine of a session, made on its compute thread: importing this imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam2.inference.tracking.engine import Engine
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights.loading import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam2._types import FrameSource
    from napari_sam2.session.state.settings import SessionSettings

__all__ = ["make_engine"]


def make_engine(model: SAM2 | str | Path, frames: FrameSource, settings: SessionSettings) -> Engine:
    """An engine for the stack; the model is loaded if only its name or path is given."""
    if not isinstance(model, SAM2):
        model = load_model(model, device=settings.device, dtype=settings.dtype, image_size=settings.image_size)
    return Engine(model, frames, keep_apart=settings.keep_apart, cache_bytes=settings.cache_mb * 2**20)
