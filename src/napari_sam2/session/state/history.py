"""Changes of a session as data, and the way back: edits of tables whose values never change."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

__all__ = ["Change", "Edit", "History", "Operation", "TableName", "Tables"]

TableName = Literal["objects", "prompts", "masks", "settings"]


@dataclass(frozen=True)
class Operation:
    """A call that led to a change, for scripts: the method's name and its arguments, as Python literals."""

    method: str
    arguments: dict[str, object]


@dataclass(frozen=True, eq=False)
class Edit:
    """One entry of a table before and after; None where there is no entry.

    ``position`` is its place among the others, for an entry that comes back to where it was.
    """

    table: TableName
    key: Hashable
    before: object | None
    after: object | None
    position: int | None = None

    def reversed(self) -> Edit:
        """The edit that takes this one back."""
        return Edit(self.table, self.key, self.after, self.before, self.position)


@dataclass(eq=False)
class Change:
    """What one call did; a propagation grows until it ends.

    Attributes
    ----------
    title : str
        For the undo button.
    operation : Operation or None
        For scripts; None for what needs no replay.
    edits : list of Edit
        In order.
    stamp : int or None
        The version of the prompt that was asked, if the model has to answer one.
    is_answered : bool
        Whether the model has answered it. What never was answered needs no replay.
    step : int or None
        Changes that follow each other with the same number are taken back and done again together.
    """

    title: str
    operation: Operation | None = None
    edits: list[Edit] = field(default_factory=list)
    stamp: int | None = None
    is_answered: bool = False
    step: int | None = None

    @cached_property
    def start(self) -> Operation | None:
        """The call that makes the object which this change made first, if it made one; always the same value."""
        made = next((edit.key for edit in self.edits if edit.table == "objects" and edit.before is None), None)
        return None if made is None else Operation("new_object", {"name": None, "object_id": made})


class Tables:
    """The objects, prompts, masks and settings of a session, by key."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Any, Any]] = {"objects": {}, "prompts": {}, "masks": {}, "settings": {}}

    def __getitem__(self, table: TableName) -> dict[Any, Any]:
        return self._tables[table]

    def apply(self, edit: Edit) -> None:
        """Write the value after the edit."""
        table = self._tables[edit.table]
        if edit.after is None:
            table.pop(edit.key, None)
        elif edit.position is not None and edit.key not in table:
            entries = list(table.items())
            entries.insert(edit.position, (edit.key, edit.after))
            table.clear()
            table.update(entries)
        else:
            table[edit.key] = edit.after


class History:
    """Changes done and undone, without a limit.

    Parameters
    ----------
    earlier : sequence of Operation
        What was done before, in a session that was loaded; it cannot be undone.
    """

    def __init__(self, earlier: Sequence[Operation] = ()) -> None:
        self.earlier = tuple(earlier)
        self._done: list[Change] = []
        self._undone: list[Change] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a change to do again."""
        return bool(self._undone)

    @property
    def top(self) -> Change | None:
        """The latest change that is done."""
        return self._done[-1] if self._done else None

    @property
    def next_redo(self) -> Change | None:
        """The change that ``redo`` would do again."""
        return self._undone[-1] if self._undone else None

    def push(self, change: Change) -> None:
        """Note a new change; what was undone is forgotten."""
        self._done.append(change)
        self._undone.clear()

    def undo(self) -> list[Edit]:
        """The edits that take the latest step back, in order."""
        changes = _take_step(self._done, self._undone)
        return [edit.reversed() for change in changes for edit in reversed(change.edits)]

    def redo(self) -> list[Edit]:
        """The edits that do the latest undone step again."""
        return [edit for change in _take_step(self._undone, self._done) for edit in change.edits]

    @property
    def done(self) -> tuple[Change, ...]:
        """Changes that are done, oldest first."""
        return tuple(self._done)

    def change_of(self, stamp: int) -> Change | None:
        """The change that made a version of a prompt; None if it was undone, or made in an earlier session."""
        return next((change for change in reversed(self._done) if change.stamp == stamp), None)


def _take_step(source: list[Change], target: list[Change]) -> list[Change]:
    """Move the last change, and those of the same step before it, from one pile to the other; in the order moved."""
    moved = [source.pop()]
    while moved[0].step is not None and source and source[-1].step == moved[0].step:
        moved.append(source.pop())
    target.extend(moved)
    return moved
