"""Order of floating-point operations: the faster one, or that of the reference, for bitwise comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["in_reference_order", "reference_order"]

_IS_REFERENCE_ORDER = ContextVar("is_reference_order", default=False)


def in_reference_order() -> bool:
    """Whether this thread uses the reference's order of operations."""
    return _IS_REFERENCE_ORDER.get()


@contextmanager
def reference_order(*, enabled: bool = True) -> Iterator[None]:
    """Use the reference's order of operations inside a ``with`` block.

    The faster order differs by floating-point rounding only. Memories in bfloat16 and corrections amplify this: a
    difference of 1e-6 can round a value of the memory up instead of down.
    """
    token = _IS_REFERENCE_ORDER.set(enabled)
    try:
        yield
    finally:
        _IS_REFERENCE_ORDER.reset(token)
