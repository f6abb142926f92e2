"""The model's side of a session, on its compute thread: the engine, made on first use, and answers to prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sam2._torch_import import importing_torch
from napari_sam2._types import Prompt
from napari_sam2.inference.requests import Answer, AnsweredPrompt, PredictRequest, PredictResult
from napari_sam2.session.state.records import ObjectMask, PromptEntry
from napari_sam2.session.state.settings import ModelState, SessionSettings
from napari_sam2.session.worker.tracked_planes import without_specks

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam2._types import FrameSource
    from napari_sam2.inference.tracking.engine import Engine
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.store import OverlapRule

__all__ = ["Answerer", "Asked", "as_seen"]

_KEPT_ANSWERS = 64  # of prompts that may not have been delivered yet


@dataclass(frozen=True, eq=False)
class Asked:
    """A prompt as it was when the model was asked.

    Attributes
    ----------
    object_id, plane : int
        Where.
    entry : PromptEntry
        The prompt.
    others : mapping of int to PromptEntry
        The object's other prompted planes.
    model : SAM2, str or Path
        Who was asked.
    frames : FrameSource
        What it looks at.
    overlap : OverlapRule
        What the mask may do where it meets others.
    """

    object_id: int
    plane: int
    entry: PromptEntry
    others: Mapping[int, PromptEntry]
    model: SAM2 | str | Path
    frames: FrameSource
    overlap: OverlapRule


class Answerer:
    """Keeps one engine, for the model and frames that were asked for last. Used on one thread.

    Parameters
    ----------
    on_state : callable
        Called there with each ``ModelState``.
    """

    def __init__(self, on_state: Callable[[ModelState], None]) -> None:
        self._on_state = on_state
        self._engine: Engine | None = None
        self._model: object = None
        self._computed: dict[int, tuple[object, Answer]] = {}

    def engine(self, model: SAM2 | str | Path, frames: FrameSource, settings: SessionSettings) -> Engine:
        """The engine of a model on some frames; made, with the model loaded, where another was asked for before."""
        if self._engine is None or self._model != model:
            self._on_state(ModelState("loading"))
            try:
                with importing_torch():
                    from napari_sam2.session.worker.engine_factory import make_engine

                self._engine = None
                self._engine = make_engine(model, frames, settings)
                self._model = model
            except Exception as error:
                self._on_state(ModelState("failed", message=str(error)))
                raise
            self._on_state(ModelState.of(self._engine.model))
        elif self._engine.frames is not frames:
            self._engine.replace_frames(frames)
        # each time: torch keeps the number for each thread by itself, and others in the process may have changed it
        self._engine.use_threads(settings.threads)
        return self._engine

    def engine_at_hand(self, model: SAM2 | str | Path, frames: FrameSource, settings: SessionSettings) -> Engine | None:
        """The engine of a model on some frames, unless the model would have to be loaded first."""
        return None if self._engine is None or self._model != model else self.engine(model, frames, settings)

    def forget_engine(self) -> None:
        """Make the engine anew next time, such as with other settings."""
        self._engine = None

    def answer(self, asked: Asked, settings: SessionSettings) -> tuple[PredictResult, ObjectMask]:
        """The mask of a prompt; prompts that were asked before are answered by now, delivered or not."""
        entry = asked.entry
        others: dict[int, AnsweredPrompt] = {}
        for plane, other in asked.others.items():
            model, answer = self._computed.get(other.stamp, (asked.model, other.answer))
            if other.is_mask_only:
                others[plane] = AnsweredPrompt(other.prompt, other.answer)
            elif answer is not None and model is asked.model:
                others[plane] = AnsweredPrompt(other.prompt, answer)
        smaller = None if entry.smaller is None else AnsweredPrompt(*entry.smaller)
        request = PredictRequest(
            asked.object_id, asked.plane, entry.prompt, smaller, entry.base, others, entry.candidate
        )
        result = self.engine(asked.model, asked.frames, settings).predict(request)
        said = result.answer
        self._computed[entry.stamp] = (asked.model, said)
        for stamp in sorted(self._computed)[:-_KEPT_ANSWERS]:
            del self._computed[stamp]
        return result, ObjectMask.pack(without_specks(result.mask), "prompted", said.iou, said.object_score)


def as_seen(entry: PromptEntry, mask: ObjectMask | None, hw: tuple[int, int]) -> PromptEntry:
    """The mask that a prompt led to, as a prompt; the prompt itself where it led to nothing."""
    prompt = entry.prompt if mask is None or not mask.area else Prompt(mask=mask.to_image(hw))
    return replace(entry, prompt=prompt, answer=None, smaller=None)
