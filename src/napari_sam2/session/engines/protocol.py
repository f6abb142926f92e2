"""What a session asks of its engine, wherever that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.inference.requests import AxesRequest, PredictRequest, PredictResult, TimeRequest, TrackRequest
    from napari_sam2.session.engines.tracked_planes import TrackedPlane
    from napari_sam2.session.state.settings import ModelState

__all__ = ["SessionEngine"]


class SessionEngine(Protocol):
    """Answers requests about one stack. It has caches, but no state that affects results. Used on one thread."""

    @property
    def model_state(self) -> ModelState:
        """The model that answers, and the device that it runs on."""

    @property
    def frames(self) -> FrameSource:
        """The stack."""

    def replace_frames(self, frames: FrameSource) -> None:
        """Replace the frames by others of the same shape, such as after a change of contrast."""

    def use_threads(self, num_threads: int | None) -> None:
        """Set the number of CPU threads of torch for the calling thread; None restores the initial number."""

    def prepare(self, frame: int) -> None:
        """Read and encode a frame before the first prompt, for models that see the whole image."""

    def look_ahead(self, frame: int, point_xy: tuple[float, float]) -> Iterator[None]:
        """Prepare for a click on or near a point of a frame, in short steps."""

    def predict(self, request: PredictRequest) -> PredictResult:
        """Segment one object on one frame."""

    def track(self, request: TrackRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Track objects; yields the packed masks of each step, in order."""

    def track_axes(self, request: AxesRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Track objects of a volume along some of its axes; yields an empty plane per frame, then the masks."""

    def track_through_time(self, request: TimeRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Track objects through volumes, and from each volume to the next."""

    def close(self) -> None:
        """Free what the engine holds elsewhere."""
