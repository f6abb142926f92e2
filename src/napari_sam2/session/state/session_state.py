"""The state of a session, and the only way to change it: tables, current model and settings, and history."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sam2.session.state.history import Change, Edit, History, TableName
from napari_sam2.session.state.operations import Operation
from napari_sam2.session.state.store import StoreDelta

if TYPE_CHECKING:
    from napari_sam2.session.state.snapshot import SessionContent, SessionOrigin
    from napari_sam2.session.state.store import SessionStore

__all__ = ["SessionState"]

_TABLES: tuple[TableName, ...] = ("masks", "prompts", "objects", "conditions")


class SessionState:
    """The state of a session. Hold ``lock`` while changing it.

    Parameters
    ----------
    store : SessionStore
        Empty tables, and the labels.
    origin : SessionOrigin
        What the session is opened with.
    notify : callable
        Called with the ``StoreDelta`` after each change.

    Attributes
    ----------
    origin : SessionOrigin
        What the session was opened with.
    model : SAM2, str or Path
        The model that predicts masks.
    frames : FrameSource
        What the model is shown.
    settings : SessionSettings
        How the session works.
    history : History
        All changes.
    lock : threading.RLock
        Held by the thread that changes the state.
    """

    def __init__(
        self,
        store: SessionStore,
        origin: SessionOrigin,
        notify: Callable[[StoreDelta], None],
    ) -> None:
        self.store = store
        self.origin = origin
        self.model = origin.model
        self.frames = origin.frames
        self.settings = origin.settings
        self.history = History()
        self.lock = threading.RLock()
        self._notify = notify
        self._stamp = 0
        self._step: int | None = None  # while one call makes several changes, which are undone together
        self._held: list[StoreDelta] | None = None  # their deltas, which are announced together

    def next_stamp(self) -> int:
        """A new number for a version of a prompt."""
        self._stamp += 1
        return self._stamp

    def push(self, title: str, method: str | None, arguments: dict[str, object], edits: list[Edit]) -> Change:
        """Make a change that can be undone.

        Parameters
        ----------
        title : str
            For the undo button.
        method : str or None
            The method of ``Session`` that repeats the change; None if it is not replayed.
        arguments : dict of str to object
            Of the method.
        edits : list of Edit
            In order.

        Returns
        -------
        Change
            The change in the history.
        """
        change = Change(title, None if method is None else Operation(method, arguments), edits, step=self._step)
        self.history.push(change)
        self._apply(edits)
        return change

    def amend(self, edits: list[Edit], change: Change | None = None) -> None:
        """Add results to a change; default: to the latest one."""
        target = self.history.top if change is None else change
        if target is not None:
            target.edits.extend(edits)
        self._apply(edits)

    @contextmanager
    def as_one_step(self, step: int | None = None, *, held: list[StoreDelta] | None = None) -> Iterator[int]:
        """Within it, all changes are one step of ``undo``; they are announced together, at its end.

        Parameters
        ----------
        step : int, optional
            One that is continued. Default: a new one.
        held : list of StoreDelta, optional
            Takes the changes, which are not announced then; to be given to ``announce``.

        Yields
        ------
        int
            The step.
        """
        number = len(self.history.done) if step is None else step
        deltas: list[StoreDelta] = [] if held is None else held
        self._step, self._held = number, deltas
        try:
            yield number
        finally:
            self._step, self._held = None, None
            if held is None:
                self.announce(deltas)

    def announce(self, deltas: Sequence[StoreDelta]) -> None:
        """Announce changes that were held back, together."""
        if deltas:
            self._notify(StoreDelta.join(deltas))

    def undo(self) -> bool:
        """Undo the latest step; whether there was one."""
        if not self.history.can_undo:
            return False
        self._apply(self.history.undo())
        return True

    def redo(self) -> bool:
        """Redo the step that was undone last; whether there was one."""
        if not self.history.can_redo:
            return False
        self._apply(self.history.redo())
        return True

    def restore(self, content: SessionContent) -> None:
        """Replace tables, settings and calls; this cannot be undone."""
        tables = self.store.tables
        tables["settings"].clear()  # model and frames stay in force: an edit to None would replace them by None
        edits = [Edit(t, key, value, None) for t in _TABLES for key, value in tables[t].items()]
        edits += [Edit("objects", o.object_id, None, o) for o in content.objects]
        edits += [Edit("prompts", key, None, entry) for key, entry in content.prompts.items()]
        edits += [Edit("masks", key, None, mask) for key, mask in content.masks.items()]
        edits += [Edit("conditions", plane, None, found) for plane, found in content.conditions.items()]
        self._stamp = max((e.stamp for e in content.prompts.values()), default=self._stamp)
        self.history = History(content.operations)
        self.settings = content.settings
        self._apply(edits)

    def _apply(self, edits: Sequence[Edit]) -> None:
        delta = self.store.commit(edits)
        for edit in edits:
            if edit.table == "settings":
                self._follow_setting(str(edit.key), edit.after)
        if self._held is None:
            self._notify(delta)
        else:
            self._held.append(delta)

    def _follow_setting(self, name: str, value: Any) -> None:
        if name == "overlap":
            self.settings = replace(self.settings, overlap=value)
        elif name == "lost_after":
            self.settings = replace(self.settings, lost_after=value)
        elif name == "keep_apart":
            self.settings = replace(self.settings, keep_apart=value)
        elif name == "model":
            self.model = value
        else:
            self.frames = value
