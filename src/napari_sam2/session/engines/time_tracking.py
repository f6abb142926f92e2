"""Objects of volumes over time: found on a plane of the next volume, then tracked through that volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._packed_mask import PackedImage, PackedMask
from napari_sam2._types import Prompt
from napari_sam2.inference.requests import AnsweredPrompt, TimeRequest, TrackRequest, TrackStep
from napari_sam2.inference.tracking.engine import Engine
from napari_sam2.inference.tracking.plan import ObjectPlan, plan_passes
from napari_sam2.session.engines.tracked_planes import PlanePacker, TrackedPlane
from napari_sam2.session.state.records import ObjectMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource

__all__ = ["TimeSettings", "track_through_time"]

Track = Callable[[TrackRequest, Callable[[], bool]], Iterator[TrackedPlane]]


@dataclass(frozen=True)
class TimeSettings:
    """How objects are found in the next volume.

    Attributes
    ----------
    max_missing : int
        Volumes in a row on which an object may be missing.
    heights : tuple of float
        Planes on which an object is searched, one after the other until it is found: fractions of its area below them.
    max_growth : float
        On such a plane its area may be so many times larger or smaller than in the volume before.
    """

    max_missing: int = 2
    heights: tuple[float, ...] = (0.5, 0.3, 0.7)
    max_growth: float = 3.0


class _PickedFrames:
    """Some planes of a stack as a stack of their own."""

    def __init__(self, frames: FrameSource, planes: Sequence[int]) -> None:
        self._frames, self._planes = frames, tuple(planes)

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width = self._frames.shape
        return len(self._planes), height, width

    @property
    def key(self) -> str:
        return f"{self._frames.key}, planes {self._planes}"

    def __len__(self) -> int:
        return len(self._planes)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        return self._frames[self._planes[frame]]


def track_through_time(
    engine: Engine,
    track: Track,
    request: TimeRequest,
    should_stop: Callable[[], bool],
    settings: TimeSettings = TimeSettings(),
) -> Iterator[TrackedPlane]:
    """Track objects through the volumes that hold prompts, then from each volume to the next.

    An object is found again on the plane through its middle, where its mask of the volume before is the prompt; from
    there it is tracked through the volume in both directions. Where it is not found, two further planes are tried.

    Parameters
    ----------
    engine : Engine
        The model and the planes.
    track : callable
        As ``SessionEngine.track``.
    request : TimeRequest
        What to track.
    should_stop : callable
        Called between planes; returns True to cancel.
    settings : TimeSettings, optional
        How objects are found.

    Yields
    ------
    TrackedPlane
        An empty one when the objects were searched in a volume, then the masks of its planes.
    """
    tracker = _TimeTracker(engine, track, request, should_stop, settings)
    for tracked in tracker.run():
        yield tracked
        if request.max_frames is not None and (tracked.num_done or 0) >= request.max_frames:
            return


class _TimeTracker:
    """The masks of the latest volumes, and how those of the next one are found."""

    def __init__(
        self,
        engine: Engine,
        track: Track,
        request: TimeRequest,
        should_stop: Callable[[], bool],
        settings: TimeSettings,
    ) -> None:
        self._engine = engine
        self._track = track
        self._request = request
        self._should_stop = should_stop
        self._settings = settings
        self._volumes: dict[tuple[int, int], dict[int, PackedMask]] = defaultdict(dict)
        for object_id, planes in request.masks.items():
            for plane, image in planes.items():
                self._volumes[object_id, plane // request.num_slices][plane] = image.mask

    def run(self) -> Iterator[TrackedPlane]:
        """The planes, in order."""
        num_done = 0
        for tracked in self._track(self._request.prompted, self._should_stop):
            self._keep(tracked)
            num_done += 1
            yield replace(tracked, num_done=num_done)
        size = 2 * self._request.num_slices
        for step in self._request.steps:
            if self._should_stop():
                return
            seeds = self._search(step)
            steps = self._steps(step, seeds)
            yield TrackedPlane(TrackStep(steps[0].frame, step.reverse, (), ()), {}, num_done=num_done + 1)
            for number, tracked in enumerate(self._through_volume(step, seeds, steps), start=1):
                self._keep(tracked)
                yield replace(tracked, num_done=num_done + 1 + number * (size - 1) // len(steps))
            num_done += size

    def _keep(self, tracked: TrackedPlane) -> None:
        plane = tracked.step.frame
        for object_id, mask in tracked.masks.items():
            if mask.area or plane in self._volumes[object_id, plane // self._request.num_slices]:
                self._volumes[object_id, plane // self._request.num_slices][plane] = mask.packed

    # ------------------------------------------------------------------ from volume to volume
    def _search(self, step: TrackStep) -> dict[int, tuple[int, ObjectMask]]:
        """Object -> the plane of a volume on which it was found, and its mask there."""
        sign = -1 if step.reverse else 1
        waiting: dict[int, list[tuple[int, int, PackedMask]]] = {}
        for object_id in step.reported_ids:  # the others have their masks there
            for away in range(1, self._settings.max_missing + 2):
                volume = self._volumes.get((object_id, step.frame - sign * away), {})
                shown = {plane: mask for plane, mask in volume.items() if mask.area}
                if shown:
                    waiting[object_id] = [
                        (plane, plane + sign * away * self._request.num_slices, shown[plane])
                        for plane in _planes_at(shown, self._settings.heights)
                    ]
                    break
        found: dict[int, tuple[int, ObjectMask]] = {}
        while waiting:
            together: dict[tuple[int, int], dict[int, PackedMask]] = defaultdict(dict)
            for object_id, tries in list(waiting.items()):
                before, now, mask = tries.pop(0)
                together[before, now][object_id] = mask
                if not tries:
                    del waiting[object_id]
            for (before, now), asked in together.items():
                for object_id, shown_now in self._follow(before, now, asked).items():
                    found[object_id] = (now, shown_now)
                    waiting.pop(object_id, None)
        return found

    def _follow(self, before: int, now: int, masks: dict[int, PackedMask]) -> dict[int, ObjectMask]:
        """Track objects from a plane to the same plane of another volume; those that are not there are left out."""
        frames = _PickedFrames(self._engine.frames, (before, now))
        hw, ids = frames.shape[1:], tuple(masks)
        prompts = {i: {0: AnsweredPrompt(Prompt(mask=PackedImage(hw, mask)), None)} for i, mask in masks.items()}
        step = TrackStep(1, False, ids, ids)
        request = TrackRequest(prompts, [step], None, self._request.prompted.keep_apart)
        engine, found = Engine(self._engine.model, frames), {}
        with PlanePacker(hw, request.steps, min_component=engine.min_component) as packer:
            for result in engine.track(request, self._should_stop):
                found = packer.pack(result, step).masks
        most = self._settings.max_growth
        return {i: mask for i, mask in found.items() if masks[i].area / most <= mask.area <= masks[i].area * most}

    # ------------------------------------------------------------------ through a volume
    def _steps(self, step: TrackStep, seeds: dict[int, tuple[int, ObjectMask]]) -> tuple[TrackStep, ...]:
        first = step.frame * self._request.num_slices
        clip = range(first, first + self._request.num_slices)
        plans = [ObjectPlan(i, (plane,), clip) for i, (plane, _) in seeds.items()]
        if plans:
            return plan_passes(plans, clip, with_anchors=True).steps
        return tuple(TrackStep(plane, step.reverse, (), ()) for plane in clip)

    def _through_volume(
        self, step: TrackStep, seeds: dict[int, tuple[int, ObjectMask]], steps: tuple[TrackStep, ...]
    ) -> Iterator[TrackedPlane]:
        hw, given = self._engine.frames.shape[1:], self._request.prompted
        lost = {i: ObjectMask(PackedMask(), "lost") for i in step.reported_ids if i not in seeds}
        if not seeds:
            yield from (TrackedPlane(each, dict(lost)) for each in steps)
            return
        prompts = {
            i: {plane: AnsweredPrompt(Prompt(mask=PackedImage(hw, mask.packed)), None)}
            for i, (plane, mask) in seeds.items()
        }
        visited: set[int] = set()
        request = TrackRequest(prompts, steps, given.lost_after, given.keep_apart)
        for tracked in self._track(request, self._should_stop):
            plane = tracked.step.frame
            masks = {
                i: replace(mask, iou=seeds[i][1].iou, object_score=seeds[i][1].object_score)
                if seeds[i][0] == plane
                else mask
                for i, mask in tracked.masks.items()
            }
            yield replace(tracked, masks=masks if plane in visited else lost | masks)
            visited.add(plane)


def _planes_at(volume: dict[int, PackedMask], heights: Sequence[float]) -> list[int]:
    """The planes below which the given fractions of an object lie, each once."""
    planes = sorted(volume)
    below = np.cumsum([volume[plane].area for plane in planes])
    found = [planes[int(np.searchsorted(below, height * below[-1]))] for height in heights]
    return list(dict.fromkeys(found))
