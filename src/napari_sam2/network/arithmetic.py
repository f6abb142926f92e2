"""In which order sums are made: the faster one, or the reference's, to compare with it bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["in_reference_order", "reference_order"]

_IS_REFERENCE_ORDER = ContextVar("is_reference_order", default=False)


def in_reference_order() -> bool:
    """Whether this thread computes as the reference does, operation by operation."""
    return _IS_REFERENCE_ORDER.get()


@contextmanager
def reference_order(*, enabled: bool = True) -> Iterator[None]:
    """Compute as the reference does, operation by operation, for the length of a ``with`` block.

    What this package computes faster in another way differs by the rounding of floats alone. Memories in bfloat16 and
    corrections amplify that: a difference of 1e-6 rounds a number of the memory up instead of down.
    """
    token = _IS_REFERENCE_ORDER.set(enabled)
    try:
        yield
    finally:
        _IS_REFERENCE_ORDER.reset(token)
