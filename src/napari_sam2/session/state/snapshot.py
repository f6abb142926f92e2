"""A session at one moment, as values that files are written from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.history import Operation
    from napari_sam2.session.state.records import ObjectMask, PromptEntry, SessionObject

__all__ = ["SessionSnapshot"]


@dataclass(frozen=True, eq=False)
class SessionSnapshot:
    """What a session file holds.

    Attributes
    ----------
    objects : tuple of SessionObject
        In the order of their creation.
    prompts, masks : mapping
        By (object, plane).
    operations : tuple of Operation
        The calls that led here.
    settings : SessionSettings
        As they are now.
    model : SAM2, str, Path or None
        As it is now; None in what comes from a file.
    frames : FrameSource or None
        What the model sees now; None in what comes from a file.
    """

    objects: tuple[SessionObject, ...] = ()
    prompts: Mapping[tuple[int, int], PromptEntry] = field(default_factory=dict)
    masks: Mapping[tuple[int, int], ObjectMask] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()
    settings: SessionSettings = field(default_factory=SessionSettings)
    model: SAM2 | str | Path | None = None
    frames: FrameSource | None = None
