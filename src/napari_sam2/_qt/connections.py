"""Connections of a widget to signals, undone together: on request, and when Qt destroys the widget."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

from qtpy.QtCore import QObject

__all__ = ["Connections"]


class Connections:
    """Connects methods of a widget; none of them is called once Qt has destroyed it.

    Parameters
    ----------
    owner : QObject
        Whose methods are connected.
    """

    def __init__(self, owner: QObject) -> None:
        # weak: a strong reference from here to the owner's methods would keep the owner alive
        self._made: list[tuple[Any, weakref.WeakMethod[Any]]] = []
        owner.destroyed.connect(self._forget)

    def __len__(self) -> int:
        return len(self._made)

    def connect(self, signal: Any, method: Callable[..., Any]) -> None:
        """Connect a signal (of psygnal or napari) to a method of the owner."""
        assert isinstance(method, MethodType)
        signal.connect(method)
        self._made.append((signal, weakref.WeakMethod(method)))

    def clear(self) -> None:
        """Undo all of them."""
        for signal, reference in self._made:
            method = reference()
            if method is not None:
                with contextlib.suppress(ValueError, RuntimeError):
                    signal.disconnect(method)
        self._made.clear()

    def _forget(self, _owner: QObject | None = None) -> None:
        self.clear()
