"""The engine of a session, created on first use on its compute thread, and the masks that it predicts for prompts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sam2._dask import require_dask
from napari_sam2._files import file_stamp
from napari_sam2._torch_import import importing_torch
from napari_sam2._types import Prompt
from napari_sam2.inference.requests import Answer, AnsweredPrompt, PredictRequest, PredictResult
from napari_sam2.session.engines.compute_address import ComputeAddress
from napari_sam2.session.state.records import ObjectMask, PromptEntry
from napari_sam2.session.state.settings import ModelState, SessionSettings

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.engines.protocol import SessionEngine
    from napari_sam2.session.state.settings import OverlapRule

__all__ = ["EngineKeeper", "PendingPrompt", "as_seen"]

_KEPT_ANSWERS = 64  # of prompts whose results may not have been applied yet


@dataclass(frozen=True, eq=False)
class PendingPrompt:
    """A prompt that waits for its mask, with all that the mask depends on.

    Attributes
    ----------
    object_id, plane : int
        Where.
    entry : PromptEntry
        The prompt.
    others : mapping of int to PromptEntry
        The object's other prompted planes.
    model : SAM2, str or Path
        The model that predicts the mask.
    frames : FrameSource
        What the model is shown.
    overlap : OverlapRule
        What the mask may do where it overlaps others.
    """

    object_id: int
    plane: int
    entry: PromptEntry
    others: Mapping[int, PromptEntry]
    model: SAM2 | str | Path
    frames: FrameSource
    overlap: OverlapRule


class EngineKeeper:
    """Keeps one engine, for the model and frames of the latest request. Used on one thread, but for ``interrupt``.

    Parameters
    ----------
    on_state : callable
        Called there with each ``ModelState``.
    compute : ComputeAddress or None
        The server that computes; None: this process.

    Attributes
    ----------
    compute : ComputeAddress or None
        The same; may be replaced on any thread, which the next request follows.
    """

    def __init__(self, on_state: Callable[[ModelState], None], compute: ComputeAddress | None = None) -> None:
        self._on_state = on_state
        self.compute = compute
        self._engine: SessionEngine | None = None
        self._made_for: tuple[object, ComputeAddress | None] = (None, None)
        self._stamp: tuple[int, int] | None = None
        self._computed: dict[int, tuple[object, Answer]] = {}
        self._is_closing = threading.Event()

    def engine(self, model: SAM2 | str | Path, frames: FrameSource, settings: SessionSettings) -> SessionEngine:
        """The engine of a model on some frames; created, with the model loaded, where the model is another one."""
        if self._engine is None or self._made_for != (model, self.compute):
            self._on_state(ModelState("loading"))
            made_for = (model, self.compute)
            try:
                self.forget_engine()
                self._stamp = file_stamp(model)
                self._engine = self._make(*made_for, frames, settings)
                self._made_for = made_for
            except Exception as error:
                self._on_state(ModelState("failed", message=str(error)))
                raise
            self._on_state(self._engine.model_state)
        elif self._engine.frames is not frames:
            self._engine.replace_frames(frames)
        # each time: torch keeps the number per thread, and others in the process may have changed it
        self._engine.use_threads(settings.threads)
        return self._engine

    def _make(
        self,
        model: SAM2 | str | Path,
        compute: ComputeAddress | None,
        frames: FrameSource,
        settings: SessionSettings,
    ) -> SessionEngine:
        if compute is not None:
            require_dask("a session that computes on another computer")
            with importing_torch():
                from napari_sam2.session.engines.remote_engine import RemoteEngine

            return RemoteEngine(
                compute,
                model,
                frames,
                settings,
                on_notice=self._notify,
                should_close=self._is_closing.is_set,
            )
        with importing_torch():
            from napari_sam2.session.engines.local_engine import LocalEngine

            return LocalEngine(model, frames, settings)

    def _notify(self, notice: str) -> None:
        """Report that the server keeps the session waiting, or, with an empty text, that it answers again."""
        if notice:
            self._on_state(ModelState("loading", message=notice))
        elif self._engine is not None:
            self._on_state(self._engine.model_state)

    def engine_at_hand(
        self, model: SAM2 | str | Path, frames: FrameSource, settings: SessionSettings
    ) -> SessionEngine | None:
        """The engine of a model on some frames, unless the model would have to be loaded first."""
        is_made = self._engine is not None and self._made_for == (model, self.compute)
        return self.engine(model, frames, settings) if is_made else None

    def is_outdated(self, model: SAM2 | str | Path) -> bool:
        """Whether the file of a model was replaced since it was loaded; may be called on any thread."""
        loaded = self._stamp if self._made_for[0] == model else None
        return loaded is not None and file_stamp(model) not in (None, loaded)

    def forget_engine(self) -> None:
        """Drop the engine with its embeddings; the next request creates another one, such as with other settings."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def interrupt(self) -> None:
        """No longer wait for a server, as the session is being closed; may be called on any thread."""
        self._is_closing.set()

    def answer(self, pending: PendingPrompt, settings: SessionSettings) -> tuple[PredictResult, ObjectMask]:
        """Predict the mask of a prompt; the answers to earlier prompts are known here even if not applied yet."""
        entry = pending.entry
        others: dict[int, AnsweredPrompt] = {}
        for plane, other in pending.others.items():
            model, answer = self._computed.get(other.stamp, (pending.model, other.answer))
            if other.is_mask_only:
                others[plane] = AnsweredPrompt(other.prompt, other.answer)
            elif answer is not None and model is pending.model:
                others[plane] = AnsweredPrompt(other.prompt, answer)
        smaller = None if entry.smaller is None else AnsweredPrompt(*entry.smaller)
        base = None if entry.base is None else entry.base.to_array()
        request = PredictRequest(pending.object_id, pending.plane, entry.prompt, smaller, base, others, entry.candidate)
        result = self.engine(pending.model, pending.frames, settings).predict(request)
        answer = result.answer
        self._computed[entry.stamp] = (pending.model, answer)
        for stamp in sorted(self._computed)[:-_KEPT_ANSWERS]:
            del self._computed[stamp]
        return result, ObjectMask.pack(result.mask, "prompted", answer.iou, answer.object_score)


def as_seen(entry: PromptEntry, mask: ObjectMask | None, hw: tuple[int, int]) -> PromptEntry:
    """The mask that a prompt led to, as a prompt; the prompt itself where the mask is empty."""
    prompt = entry.prompt if mask is None or not mask.area else Prompt(mask=mask.to_image(hw))
    return replace(entry, prompt=prompt, answer=None, smaller=None)
