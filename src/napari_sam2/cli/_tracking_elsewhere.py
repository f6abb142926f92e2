"""Track objects into a label file with a server that computes, for ``track``, ``propagate`` and ``segment``."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from napari_sam2._types import Prompt
from napari_sam2.cli._server_notices import notices_shown
from napari_sam2.cli._tracking import FrameScore, Tracked, follow_propagation
from napari_sam2.inference.prompts.prompt_text import ObjectPrompt
from napari_sam2.inference.stacks.report import ObjectTrack, TrackingReport
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource, Zoom
    from napari_sam2.cli._option_groups import PromptedModelOptions
    from napari_sam2.cli._outputs import AnyWriter
    from napari_sam2.cli._stopping import StopRequest
    from napari_sam2.inference.stacks.seed_planes import Seeds
    from napari_sam2.session.engines.compute_address import ComputeAddress

__all__ = ["propagate_elsewhere", "track_elsewhere"]


def track_elsewhere(
    writer: AnyWriter,
    frames: FrameSource,
    prompts: Sequence[ObjectPrompt],
    limits: range,
    network: PromptedModelOptions,
    compute: ComputeAddress,
    *,
    stop: StopRequest,
    show_progress: bool,
    settings: SessionSettings | None = None,
) -> Tracked:
    """Prompt and track on a server; the labels are kept here and written at the end, or when it is interrupted.

    Parameters
    ----------
    writer, prompts, limits, stop, show_progress
        As for ``track_into``.
    frames : FrameSource
        The stack.
    network : PromptedModelOptions
        Model and precision; the device is chosen by the server.
    compute : ComputeAddress
        The server.
    settings : SessionSettings, optional
        Of the session, but for its precision.

    Returns
    -------
    Tracked
    """
    from tqdm import tqdm

    tracked, begin = Tracked(), time.perf_counter()
    used = replace(settings or SessionSettings(), dtype=network.dtype, zoom=cast("Zoom", network.zoom))
    with (
        Session(frames, model=network.model, settings=used, compute=compute) as session,
        notices_shown(session),
        tqdm(total=len(prompts), desc="prompts", unit="frame", disable=None if show_progress else True) as bar,
    ):
        for given in prompts:
            if stop.is_set():
                break
            session.set_prompt(given.frame, given.prompt, object_id=given.object_id)
            bar.update()
        if not stop.is_set():
            follow_propagation(session, session.propagate(start=limits.start, stop=limits.stop, block=False), bar, stop)
        for plane in sorted({plane for _, plane in session.store.masks} & set(limits)):
            writer.write(plane, session.store.plane_labels(plane))
            tracked.num_steps += 1
        tracked.scores = _scores(session, limits)
        tracked.device = session.model_state.place
    tracked.is_complete = not stop.is_set()
    tracked.seconds = time.perf_counter() - begin
    return tracked


def propagate_elsewhere(
    writer: AnyWriter,
    frames: FrameSource,
    seeds: Seeds,
    network: PromptedModelOptions,
    compute: ComputeAddress,
    *,
    give_up: int | None,
    keep_apart: bool,
    stop: StopRequest,
    show_progress: bool,
) -> TrackingReport:
    """Track labels on a server; as ``segment_seeds`` does here.

    Parameters
    ----------
    writer, frames, network, compute, stop, show_progress
        As for ``track_elsewhere``.
    seeds : Seeds
        Labels by frame.
    give_up : int or None
        Stop tracking an object in a direction after so many empty frames.
    keep_apart : bool
        As for ``SessionSettings``.

    Returns
    -------
    TrackingReport
    """
    prompts = [
        ObjectPrompt(object_id, frame, Prompt(mask=seeds.planes[frame] == object_id))
        for object_id, of_object in seeds.frames_of.items()
        for frame in of_object
    ]
    limits = range(len(frames))
    tracked = track_elsewhere(
        writer,
        frames,
        prompts,
        limits,
        network,
        compute,
        stop=stop,
        show_progress=show_progress,
        settings=SessionSettings(lost_after=give_up, keep_apart=keep_apart),
    )
    tracks = tuple(_track_of(i, seeds.frames_of[i], tracked.scores) for i in sorted(seeds.frames_of))
    return TrackingReport(limits, tracks, tracked.is_complete)


def _track_of(object_id: int, seed_frames: Sequence[int], scores: Sequence[FrameScore]) -> ObjectTrack:
    shown = {score.frame: score for score in scores if score.object_id == object_id and score.area}
    found = [score.predicted_iou for frame, score in shown.items() if frame not in seed_frames]
    mean = sum(found) / len(found) if found else math.nan
    first, last = min(shown, default=None), max(shown, default=None)
    return ObjectTrack(object_id, tuple(seed_frames), first, last, len(shown), len(found), mean)


def _scores(session: Session, limits: range) -> list[FrameScore]:
    return [
        FrameScore(row.object, row.frame, row.iou, row.object_score, row.area, row.kind == "prompted")
        for row in session.scores.itertuples()
        if row.frame in limits and row.kind != "lost"
    ]
