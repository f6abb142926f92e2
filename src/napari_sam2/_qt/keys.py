"""Keys of the widget: bound while it is open, on keys that napari leaves free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["SHORTCUTS", "KeyBindings", "Shortcut"]


@dataclass(frozen=True)
class Shortcut:
    """A key, what it does in words, and the name of the widget's method."""

    key: str
    text: str
    method: str


SHORTCUTS: Sequence[Shortcut] = (
    Shortcut("W", "new object", "new_object"),
    Shortcut("N", "next prompt: object or background", "toggle_positive"),
    Shortcut("Alt-1", "points", "use_points"),
    Shortcut("Alt-2", "box", "use_box"),
    Shortcut("Alt-3", "lasso", "use_lasso"),
    Shortcut("Alt-4", "scribble", "use_scribble"),
    Shortcut("Alt-5", "brush", "use_brush"),
    Shortcut("U", "next tool: points, box, lasso, scribble, paint", "next_tool"),
    Shortcut("K", "next candidate of an ambiguous click", "next_candidate"),
    Shortcut("J", "next object", "next_object"),
    Shortcut("H", "previous object", "previous_object"),
    Shortcut("Shift-Delete", "delete the object", "delete_object"),
    Shortcut("F2", "rename the object", "rename_object"),
    Shortcut("Shift-H", "show the current object only, or all", "show_only_current"),
    Shortcut("Shift-D", "divided here: two daughters begin on this frame", "divide_here"),
    Shortcut("Shift-X", "cut the track here: a new object from this frame on", "cut_here"),
    Shortcut(".", "find the next object like the current one, or reject the suggested one", "find_alike"),
    Shortcut("Shift-W", "accept the suggested object", "accept_alike"),
    Shortcut("G", "propagate in both directions", "propagate_both"),
    Shortcut("Shift-G", "propagate forwards", "propagate_forward"),
    Shortcut("Alt-G", "propagate backwards", "propagate_backward"),
    Shortcut("0", "pause or resume", "pause_or_resume"),
    Shortcut("Escape", "stop the propagation, or a search", "cancel"),
    Shortcut("Q", "accept: lock the object on this slice or frame, and go to the next one to check", "accept"),
    Shortcut("9", "next slice or frame to check", "next_doubtful"),
    Shortcut("8", "previous slice or frame to check", "previous_doubtful"),
    Shortcut("Control-Z", "undo", "undo"),
    Shortcut("Control-Shift-Z", "redo", "redo"),
)


class KeyBindings:
    """Binds the shortcuts to a viewer and to layers; ``release`` gives every key back.

    Parameters
    ----------
    target : object
        Has a method for each shortcut.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._bound: list[tuple[Any, str, Any]] = []

    @property
    def is_bound(self) -> bool:
        """Whether any key is bound."""
        return bool(self._bound)

    def bind(self, provider: Any, keys: Sequence[str] | None = None) -> None:
        """Bind to a viewer, or some keys to a layer, whose own bindings they replace while bound."""
        bound = {key for each, key, _ in self._bound if each == provider}
        for shortcut in SHORTCUTS:
            if shortcut.key not in bound and (keys is None or shortcut.key in keys):
                self._bind(provider, shortcut)

    def _bind(self, provider: Any, shortcut: Shortcut) -> None:
        method = getattr(self._target, shortcut.method)

        def press(_provider: Any = None, method: Callable[[], Any] = method) -> None:
            method()

        press.__doc__ = f"SAM 2: {shortcut.text}"
        before = provider.bind_key(shortcut.key, press, overwrite=True)
        self._bound.append((provider, shortcut.key, before))

    def release(self, kept: Sequence[Any] = ()) -> None:
        """Unbind everything and put back what was bound before, except for some viewers or layers."""
        for provider, key, before in reversed(self._bound):
            if provider not in kept:
                provider.bind_key(key, before, overwrite=True)
        self._bound = [each for each in self._bound if each[0] in kept]
