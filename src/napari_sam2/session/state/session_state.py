"""The state of a session and the one way to change it: tables, what is in force, and the history that led there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sam2.session.state.history import Change, Edit, History, Operation, TableName

if TYPE_CHECKING:
    from napari_sam2.session.state.snapshot import SessionContent, SessionOrigin
    from napari_sam2.session.state.store import SessionStore, StoreDelta

__all__ = ["SessionState"]

_TABLES: tuple[TableName, ...] = ("masks", "prompts", "objects")


class SessionState:
    """What a session knows. Whoever changes it holds ``lock`` meanwhile.

    Parameters
    ----------
    store : SessionStore
        Empty tables, and the labels.
    origin : SessionOrigin
        What the session is opened with; in force at the beginning.
    tell : callable
        Called with the ``StoreDelta`` of each change, once it is made.

    Attributes
    ----------
    origin : SessionOrigin
        What the session was opened with.
    model : SAM2, str or Path
        Who answers prompts.
    frames : FrameSource
        What the model looks at.
    settings : SessionSettings
        How the session works.
    history : History
        All changes.
    lock : threading.RLock
        No two threads change the state at once.
    """

    def __init__(
        self,
        store: SessionStore,
        origin: SessionOrigin,
        tell: Callable[[StoreDelta], None],
    ) -> None:
        self.store = store
        self.origin = origin
        self.model = origin.model
        self.frames = origin.frames
        self.settings = origin.settings
        self.history = History()
        self.lock = threading.RLock()
        self._tell = tell
        self._stamp = 0
        self._step: int | None = None  # while one call makes several changes, which are undone together

    def next_stamp(self) -> int:
        """A number for a version of a prompt that no other has."""
        self._stamp += 1
        return self._stamp

    def push(self, title: str, method: str | None, arguments: dict[str, object], edits: list[Edit]) -> Change:
        """Make a change that can be undone.

        Parameters
        ----------
        title : str
            For the undo button.
        method : str or None
            The method of ``Session`` that does it again; None for what needs no replay.
        arguments : dict of str to object
            Of the method.
        edits : list of Edit
            In order.

        Returns
        -------
        Change
            As it stands in the history.
        """
        change = Change(title, None if method is None else Operation(method, arguments), edits, step=self._step)
        self.history.push(change)
        self._apply(edits)
        return change

    def amend(self, edits: list[Edit], change: Change | None = None) -> None:
        """Add what came of a change to it; default: of the latest."""
        target = self.history.top if change is None else change
        if target is not None:
            target.edits.extend(edits)
        self._apply(edits)

    @contextmanager
    def as_one_step(self) -> Iterator[None]:
        """Within it, all changes are one step of ``undo``."""
        self._step = len(self.history.done)
        try:
            yield
        finally:
            self._step = None

    def undo(self) -> bool:
        """Take the latest step back; whether there was one."""
        if not self.history.can_undo:
            return False
        self._apply(self.history.undo())
        return True

    def redo(self) -> bool:
        """Do the step again that was undone last; whether there was one."""
        if not self.history.can_redo:
            return False
        self._apply(self.history.redo())
        return True

    def restore(self, content: SessionContent) -> None:
        """Take over tables, settings and calls; what was there before is forgotten."""
        tables = self.store.tables
        tables["settings"].clear()  # what is in force stays: an edit to nothing would put nothing in its place
        edits = [Edit(t, key, value, None) for t in _TABLES for key, value in tables[t].items()]
        edits += [Edit("objects", o.object_id, None, o) for o in content.objects]
        edits += [Edit("prompts", key, None, entry) for key, entry in content.prompts.items()]
        edits += [Edit("masks", key, None, mask) for key, mask in content.masks.items()]
        self._stamp = max((e.stamp for e in content.prompts.values()), default=self._stamp)
        self.history = History(content.operations)
        self.settings = content.settings
        self._apply(edits)

    def _apply(self, edits: Sequence[Edit]) -> None:
        delta = self.store.commit(edits)
        for edit in edits:
            if edit.table == "settings":
                self._follow_setting(str(edit.key), edit.after)
        self._tell(delta)

    def _follow_setting(self, name: str, value: Any) -> None:
        if name == "overlap":
            self.settings = replace(self.settings, overlap=value)
        elif name == "lost_after":
            self.settings = replace(self.settings, lost_after=value)
        elif name == "model":
            self.model = value
        else:
            self.frames = value
