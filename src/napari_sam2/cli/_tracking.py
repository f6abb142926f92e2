"""Track objects into a label file, for ``track`` and ``demo``."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2.cli._terminal import print_table
from napari_sam2.labels.contact_sheet import PreviewTile, choose_frames, draw_contact_sheet

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tqdm import tqdm

    from napari_sam2._types import FrameResult, FrameSource
    from napari_sam2.cli._outputs import AnyWriter
    from napari_sam2.cli._stopping import StopRequest
    from napari_sam2.inference.prompts.prompt_text import ObjectPrompt
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
    from napari_sam2.session.session import Session
    from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["FrameScore", "Tracked", "draw_tracked", "follow_propagation", "print_summary", "track_into"]

_LOOK_S = 0.2  # between two looks at whether the user stopped the command


class FrameScore(NamedTuple):
    """Scores of one object on one frame; area in pixels, 0 where it is absent."""

    object_id: int
    frame: int
    predicted_iou: float
    object_score: float
    area: int
    is_prompted: bool


@dataclass
class Tracked:
    """Result of tracking.

    Attributes
    ----------
    scores : list of FrameScore
        In the order in which the frames were tracked.
    num_steps : int
        Number of frames tracked.
    seconds : float
        Time of prompts and tracking.
    is_complete : bool
        False if it was interrupted.
    skipped : set of int
        Frames that are blank, saturated or unreadable.
    device : str
        Where it was computed.
    """

    scores: list[FrameScore] = field(default_factory=list)
    num_steps: int = 0
    seconds: float = 0.0
    is_complete: bool = True
    skipped: set[int] = field(default_factory=set)
    device: str = ""

    def add(self, result: FrameResult) -> None:
        """Add the scores of a frame."""
        self.num_steps += 1
        if not result.is_usable:
            self.skipped.add(result.frame)
        areas = result.areas
        for i, object_id in enumerate(result.object_ids):
            is_prompted = bool(result.is_prompted[i]) if result.is_prompted else False
            iou, score = float(result.iou_scores[i]), float(result.object_scores[i])
            self.scores.append(FrameScore(object_id, result.frame, iou, score, int(areas[i]), is_prompted))

    @property
    def frames_found(self) -> set[int]:
        """Frames on which any object was found."""
        return {score.frame for score in self.scores if score.area}


def track_into(
    writer: AnyWriter,
    segmenter: SAM2VideoSegmenter,
    prompts: Sequence[ObjectPrompt],
    limits: range,
    *,
    stop: StopRequest,
    show_progress: bool,
) -> Tracked:
    """Prompt and track, writing each frame as soon as it is tracked.

    Parameters
    ----------
    writer : LabelWriter or FullResolutionWriter
        Open, of the shape of the segmenter's stack.
    segmenter : SAM2VideoSegmenter
        With its stack set and no objects yet.
    prompts : sequence of ObjectPrompt
        At least one.
    limits : range
        Frames to track on, ascending.
    stop : StopRequest
        Checked between frames.
    show_progress : bool
        A bar on stderr, if that is a terminal.

    Returns
    -------
    Tracked
    """
    from tqdm import tqdm

    tracked, begin = Tracked(device=segmenter.model.device.type), time.perf_counter()
    with tqdm(total=len(prompts), desc="prompts", unit="frame", disable=None if show_progress else True) as bar:
        for given in prompts:
            if stop.is_set():
                break
            segmenter.add_prompt(given.frame, given.prompt, object_id=given.object_id)
            bar.update()
        if not stop.is_set():
            plan = segmenter.plan(start=limits.start, stop=limits.stop)
            bar.reset(total=plan.num_steps)
            bar.set_description("tracking")
            for result in segmenter.track_into(writer, start=limits.start, stop=limits.stop):
                tracked.add(result)
                bar.update()
                if stop.is_set():
                    break
    tracked.is_complete = not stop.is_set()
    tracked.seconds = time.perf_counter() - begin
    return tracked


def follow_propagation(session: Session, handle: PropagationHandle, bar: tqdm[None], stop: StopRequest) -> None:
    """Wait for the end of a propagation of a session, show its progress, and cancel it when the command is stopped."""
    bar.reset(total=handle.num_steps)
    bar.set_description("tracking")

    def follow(running: PropagationHandle) -> None:
        bar.update(running.num_done - bar.n)
        if stop.is_set():
            running.cancel()

    session.propagation_changed.connect(follow)
    while not handle.wait(_LOOK_S):
        if stop.is_set():
            handle.cancel()


def draw_tracked(
    frames: FrameSource,
    writer: AnyWriter,
    prompts: Sequence[ObjectPrompt],
    found: Collection[int],
    *,
    title: str,
    caption: Callable[[int], str],
) -> NDArray[np.uint8]:
    """Contact sheet of up to twelve frames, read back from an open writer one by one; ``found``: with objects."""
    prompted: dict[int, list[ObjectPrompt]] = defaultdict(list)
    for given in prompts:
        prompted[given.frame].append(given)
    chosen = choose_frames(len(frames), prompted=prompted, found=found)
    tiles = [
        PreviewTile(
            image=frames[frame],
            labels=writer[frame],
            caption=caption(frame) + ("   prompted" if prompted[frame] else ""),
            prompts=tuple((given.object_id, given.prompt) for given in prompted[frame]),
        )
        for frame in chosen
    ]
    return draw_contact_sheet(tiles, title=title)


def print_summary(tracked: Tracked, object_ids: Sequence[int], num_frames: int) -> None:
    """Print one line per object: the number of frames on which it was found, mean predicted IoU and mean area."""
    rows = []
    for object_id in object_ids:
        found = [score for score in tracked.scores if score.object_id == object_id and score.area]
        frames = sorted(score.frame for score in found)
        rows.append(
            (
                str(object_id),
                f"{len(found)}/{num_frames}",
                f"{frames[0]}-{frames[-1]}" if frames else "-",
                f"{np.mean([score.predicted_iou for score in found]):.3f}" if found else "-",
                f"{np.mean([score.area for score in found]):.1f}" if found else "-",
            )
        )
    print_table(("object", "frames", "from-to", "mean score", "mean area (px)"), rows)
