"""Track objects into a label file with a server that computes, for ``track --compute``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sam2.cli._server_notices import notices_shown
from napari_sam2.cli._tracking import FrameScore, Tracked
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.cli._option_groups import ModelOptions
    from napari_sam2.cli._outputs import AnyWriter
    from napari_sam2.cli._stopping import StopRequest
    from napari_sam2.inference.prompts.prompt_text import ObjectPrompt
    from napari_sam2.session.engines.compute_address import ComputeAddress
    from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["track_elsewhere"]


def track_elsewhere(
    writer: AnyWriter,
    frames: FrameSource,
    prompts: Sequence[ObjectPrompt],
    limits: range,
    network: ModelOptions,
    compute: ComputeAddress,
    *,
    stop: StopRequest,
    show_progress: bool,
) -> Tracked:
    """Prompt and track on a server; the labels are kept here and written at the end, or when it is interrupted.

    Parameters
    ----------
    writer, prompts, limits, stop, show_progress
        As for ``track_into``.
    frames : FrameSource
        The stack.
    network : ModelOptions
        Model and precision; the device is chosen by the server.
    compute : ComputeAddress
        The server.

    Returns
    -------
    Tracked
    """
    from tqdm import tqdm

    tracked, begin = Tracked(), time.perf_counter()
    settings = SessionSettings(dtype=network.dtype)
    with (
        Session(frames, model=network.model, settings=settings, compute=compute) as session,
        notices_shown(session),
        tqdm(total=len(prompts), desc="prompts", unit="frame", disable=None if show_progress else True) as bar,
    ):
        for given in prompts:
            if stop.is_set():
                break
            session.set_prompt(given.frame, given.prompt, object_id=given.object_id)
            bar.update()
        if not stop.is_set():
            handle = session.propagate(start=limits.start, stop=limits.stop, block=False)
            bar.reset(total=handle.num_steps)
            bar.set_description("tracking")

            def follow(running: PropagationHandle) -> None:
                bar.update(running.num_done - bar.n)
                if stop.is_set():
                    running.cancel()

            session.propagation_changed.connect(follow)
            while not handle.wait(0.2):
                if stop.is_set():
                    handle.cancel()
        for plane in sorted({plane for _, plane in session.store.masks} & set(limits)):
            writer.write(plane, session.store.plane_labels(plane))
            tracked.num_steps += 1
        tracked.scores = _scores(session, limits)
        tracked.device = session.model_state.place
    tracked.is_complete = not stop.is_set()
    tracked.seconds = time.perf_counter() - begin
    return tracked


def _scores(session: Session, limits: range) -> list[FrameScore]:
    return [
        FrameScore(row.object, row.frame, row.iou, row.object_score, row.area, row.kind == "prompted")
        for row in session.scores.itertuples()
        if row.frame in limits and row.kind != "lost"
    ]
