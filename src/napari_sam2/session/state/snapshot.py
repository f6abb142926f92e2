"""A session at one moment, as immutable values from which files and scripts are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_sam2._types import FrameSource
    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.state.records import ObjectMask, PlaneCondition, PromptEntry, SessionObject

__all__ = ["SessionContent", "SessionOrigin", "SessionSetup", "SessionSnapshot"]


@dataclass(frozen=True, eq=False)
class SessionContent:
    """Objects, prompts, masks, conditions of planes, and calls of a session.

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
    conditions : mapping
        By plane.
    """

    objects: tuple[SessionObject, ...] = ()
    prompts: Mapping[tuple[int, int], PromptEntry] = field(default_factory=dict)
    masks: Mapping[tuple[int, int], ObjectMask] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()
    settings: SessionSettings = field(default_factory=SessionSettings)
    conditions: Mapping[int, PlaneCondition] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SessionOrigin:
    """What a session was opened with, which is where a script begins.

    Attributes
    ----------
    stack_path : str or None
        Where the image was read from; None for an array.
    model : SAM2, str or Path
        The first model.
    settings : SessionSettings
        The first settings.
    frames : FrameSource
        What the first model was shown.
    has_automatic_contrast : bool
        Whether the contrast of ``frames`` was chosen from the image.
    """

    stack_path: str | None
    model: SAM2 | str | Path
    settings: SessionSettings
    frames: FrameSource
    has_automatic_contrast: bool


@dataclass(frozen=True, eq=False)
class SessionSetup:
    """Image and model of a session.

    Attributes
    ----------
    geometry : StackGeometry
        Axes of the image.
    model : SAM2, str or Path
        As it is now.
    frames : FrameSource
        What the model is shown now.
    origin : SessionOrigin
        What the session was opened with.
    """

    geometry: StackGeometry
    model: SAM2 | str | Path
    frames: FrameSource
    origin: SessionOrigin


@dataclass(frozen=True, eq=False)
class SessionSnapshot:
    """A session at one moment."""

    content: SessionContent
    setup: SessionSetup
