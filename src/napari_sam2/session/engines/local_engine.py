"""The engine of a session in this process: importing this imports torch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2.inference.requests import AxesRequest, PredictRequest, PredictResult, TimeRequest, TrackRequest
from napari_sam2.inference.tracking.engine import Engine
from napari_sam2.network.sam2 import SAM2
from napari_sam2.session.engines.axes_tracking import track_axes
from napari_sam2.session.engines.time_tracking import track_through_time
from napari_sam2.session.engines.tracked_planes import PlanePacker, TrackedPlane
from napari_sam2.session.state.settings import ModelState, SessionSettings
from napari_sam2.weights.loading import load_model

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.inference.views.embedding_cache import EmbeddingCache

__all__ = ["LocalEngine"]


class LocalEngine:
    """A ``SessionEngine`` on a network in this process.

    Parameters
    ----------
    model : SAM2, str or Path
        The network, or as for ``load_model``.
    frames : FrameSource
        The stack.
    settings : SessionSettings
        Device, precision and size of the embedding cache.
    """

    def __init__(self, model: SAM2 | str | Path, frames: FrameSource, settings: SessionSettings) -> None:
        if not isinstance(model, SAM2):
            model = load_model(
                model,
                device=settings.device,
                dtype=settings.dtype,
                image_size=settings.image_size,
                zoom=settings.zoom,
            )
        self._engine = Engine(model, frames, cache_bytes=settings.cache_mb * 2**20)
        self._threads = settings.threads

    @property
    def model_state(self) -> ModelState:
        """Name, device and precision of the network."""
        return ModelState.of(self._engine.model)

    @property
    def frames(self) -> FrameSource:
        """The stack."""
        return self._engine.frames

    @property
    def cache(self) -> EmbeddingCache:
        """The embeddings that are kept."""
        return self._engine.cache

    def replace_frames(self, frames: FrameSource) -> None:
        """Replace the frames by others of the same shape; raises PromptError if the shape differs."""
        self._engine.replace_frames(frames)

    def use_threads(self, num_threads: int | None) -> None:
        """Set the number of CPU threads of torch for this thread; None restores the initial number."""
        self._threads = num_threads
        self._engine.use_threads(num_threads)

    def prepare(self, frame: int) -> None:
        """Read and encode a frame before the first prompt, for models that see the whole image."""
        self._engine.prepare(frame)

    def look_ahead(self, frame: int, point_xy: tuple[float, float]) -> Iterator[None]:
        """Prepare for a click on or near a point (x, y) of a frame, in short steps."""
        return self._engine.look_ahead(frame, point_xy)

    def predict(self, request: PredictRequest) -> PredictResult:
        """Segment one object on one frame; raises as ``Engine.predict``."""
        return self._engine.predict(request)

    def track(self, request: TrackRequest, should_stop: Callable[[], bool]) -> Generator[TrackedPlane, None, None]:
        """Track objects; yields the packed masks of each step, in order. Raises as ``Engine.track``."""
        found = self._engine.track(request, should_stop)
        _, height, width = self.frames.shape
        with PlanePacker((height, width), request.steps, min_component=self._engine.min_component) as packer:
            for step in request.steps:
                # each time: torch keeps the number per thread, and others in the process may have changed it
                self._engine.use_threads(self._threads)
                result = next(found, None)
                if result is None:
                    return
                yield packer.pack(result, step)

    def track_axes(self, request: AxesRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Track objects of a volume along some of its axes; yields an empty plane per frame, then the masks."""
        for plane in track_axes(self._engine.model, self.frames, request, should_stop):
            yield plane
            self._engine.use_threads(self._threads)

    def track_through_time(self, request: TimeRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Track objects through volumes, and from each volume to the next."""
        return track_through_time(self._engine, self.track, request, should_stop)

    def close(self) -> None:
        """Do nothing: the network and its embeddings are freed with the engine."""
