"""What the tests of sessions share: square masks, and all that undo has to bring back."""

from __future__ import annotations

import numpy as np

from napari_sam2.session.session import Session

__all__ = ["square", "state"]


def square(y: int, x: int, side: int = 8, hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A mask that holds a square."""
    mask = np.zeros(hw, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def state(session: Session) -> tuple[object, ...]:
    """All that undo has to bring back."""
    return (
        np.asarray(session.labels).tobytes(),
        tuple(session.objects),
        {key: (id(e.answer), e.stamp) for key, e in session.store.prompts.items()},
        {key: (m.box, m.packed, m.kind, m.is_stale) for key, m in session.store.masks.items()},
        session.settings.overlap,
    )
