"""How one prompt relates to another: the same, or the same and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import Prompt

__all__ = ["grew", "is_same"]


def is_same(a: Prompt, b: Prompt) -> bool:
    """Whether two prompts say the same."""
    return (
        np.array_equal(a.points, b.points)
        and np.array_equal(_labels(a), _labels(b))
        and _equal(a.box, b.box)
        and _equal(a.mask, b.mask)
    )


def grew(new: Prompt, old: Prompt) -> bool:
    """Whether ``new`` says all that ``old`` said, and more."""
    count = len(old.points)
    return (
        len(new.points) >= count
        and np.array_equal(new.points[:count], old.points)
        and np.array_equal(_labels(new)[:count], _labels(old))
        and (old.box is None or _equal(new.box, old.box))
        and (old.mask is None or _equal(new.mask, old.mask))
        and not is_same(new, old)
    )


def _labels(prompt: Prompt) -> NDArray[np.int32]:
    assert prompt.labels is not None
    return prompt.labels


def _equal(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
