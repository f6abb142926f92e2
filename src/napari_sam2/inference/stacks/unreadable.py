"""Frames that are searched by themselves and cannot be read: skipped, as tracking does, or replaced by the next one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource

__all__ = ["read_or_skip", "readable_key_frames"]

logger = logging.getLogger(__name__)


def read_or_skip(frames: FrameSource, frame: int) -> NDArray[np.uint8] | None:
    """(H, W, 3) of a frame; None, with a line in the log, if it cannot be read."""
    try:
        return frames[frame]
    except FrameError as error:
        logger.warning("frame %d cannot be read and was skipped: %s", frame, error)
        return None


def readable_key_frames(frames: FrameSource, keys: Sequence[int]) -> list[int]:
    """Key frames, ascending, of which those that cannot be read are replaced by the nearest one that can.

    Those for which there is none before the next key frame are left out.

    Raises
    ------
    FrameError
        If none of them can be read.
    """
    found: list[int] = []
    error: FrameError | None = None
    for index, key in enumerate(keys):
        lowest = found[-1] + 1 if found else 0
        following = keys[index + 1] if index + 1 < len(keys) else len(frames)
        for frame in sorted(range(lowest, following), key=lambda frame: (abs(frame - key), frame)):
            try:
                frames[frame]
            except FrameError as unreadable:
                error = error or unreadable
                continue
            if frame != key:
                logger.warning("key frame %d cannot be read; frame %d is searched in its place", key, frame)
            found.append(frame)
            break
        else:
            logger.warning("key frame %d cannot be read and was skipped", key)
    if error is not None and not found:
        raise error
    return found
