"""Changes of a session as data, and the way back: edits of tables whose values never change."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Change", "Edit", "History", "Operation", "TableName", "Tables"]

TableName = Literal["objects", "prompts", "masks"]


@dataclass(frozen=True)
class Operation:
    """A call that led to a change, for scripts: the method's name and its arguments, as Python literals."""

    method: str
    arguments: dict[str, object]


@dataclass(frozen=True, eq=False)
class Edit:
    """One entry of a table before and after; None where there is no entry."""

    table: TableName
    key: Hashable
    before: object | None
    after: object | None

    def reversed(self) -> Edit:
        """The edit that takes this one back."""
        return Edit(self.table, self.key, self.after, self.before)


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
    """

    title: str
    operation: Operation | None = None
    edits: list[Edit] = field(default_factory=list)


class Tables:
    """The objects, prompts and masks of a session, by key."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Any, Any]] = {"objects": {}, "prompts": {}, "masks": {}}

    def __getitem__(self, table: TableName) -> dict[Any, Any]:
        return self._tables[table]

    def apply(self, edit: Edit) -> None:
        """Write the value after the edit."""
        table = self._tables[edit.table]
        if edit.after is None:
            table.pop(edit.key, None)
        else:
            table[edit.key] = edit.after


class History:
    """Changes done and undone, without a limit."""

    def __init__(self) -> None:
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
        """The edits that take the latest change back, in order."""
        change = self._done.pop()
        self._undone.append(change)
        return [edit.reversed() for edit in reversed(change.edits)]

    def redo(self) -> list[Edit]:
        """The edits that do the latest undone change again."""
        change = self._undone.pop()
        self._done.append(change)
        return list(change.edits)

    def operations(self) -> Iterator[Operation]:
        """What is done, oldest first."""
        return (change.operation for change in self._done if change.operation is not None)

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()
