"""Undo and redo: changes of a session as edits of tables of immutable values."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from napari_sam2.session.state.operations import Operation

__all__ = ["Change", "Edit", "History", "TableName", "Tables", "replayable"]

TableName = Literal["objects", "prompts", "masks", "conditions", "settings"]


@dataclass(frozen=True, eq=False)
class Edit:
    """One entry of a table before and after; None where there is no entry.

    ``position`` is its place among the others, for an entry that is restored to where it was.
    """

    table: TableName
    key: Hashable
    before: object | None
    after: object | None
    position: int | None = None

    def reversed(self) -> Edit:
        """The edit that undoes this one."""
        return Edit(self.table, self.key, self.after, self.before, self.position)


@dataclass(eq=False)
class Change:
    """The effect of one call; that of a propagation grows until it ends.

    Attributes
    ----------
    title : str
        For the undo button.
    operation : Operation or None
        For scripts; None if it is not replayed.
    edits : list of Edit
        In order.
    stamp : int or None
        The version of the prompt whose mask the model predicts, if there is one.
    is_answered : bool
        Whether that mask was predicted; if not, the call is not replayed.
    step : int or None
        Consecutive changes with the same number are undone and redone together.
    """

    title: str
    operation: Operation | None = None
    edits: list[Edit] = field(default_factory=list)
    stamp: int | None = None
    is_answered: bool = False
    step: int | None = None

    @cached_property
    def start(self) -> Operation | None:
        """The call that creates the first object that this change created, if any; always the same value."""
        made = next((edit.key for edit in self.edits if edit.table == "objects" and edit.before is None), None)
        return None if made is None else Operation("new_object", {"name": None, "object_id": made})


class Tables:
    """The objects, prompts, masks, conditions of planes, and settings of a session, by key."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Any, Any]] = {name: {} for name in get_args(TableName)}
        self._orders: dict[str, list[Any]] = {}  # keys in order, of tables that `settle` has to order

    def __getitem__(self, table: TableName) -> dict[Any, Any]:
        return self._tables[table]

    def apply(self, edit: Edit) -> None:
        """Write the value after the edit; ``settle`` has to follow, after one or many."""
        table = self._tables[edit.table]
        order = self._orders.get(edit.table)
        if edit.after is not None and edit.position is not None and edit.key not in table:
            if order is None:
                order = self._orders[edit.table] = list(table)
            order.insert(edit.position, edit.key)
        elif order is not None and edit.after is not None and edit.key not in table:
            order.append(edit.key)
        elif order is not None and edit.after is None and edit.key in table:
            order.remove(edit.key)
        if edit.after is None:
            table.pop(edit.key, None)
        else:
            table[edit.key] = edit.after

    def settle(self) -> None:
        """Bring entries that were restored to their places: once for all of them, as it takes the whole table."""
        for name, order in self._orders.items():
            table = self._tables[name]
            entries = [(key, table[key]) for key in order]
            table.clear()
            table.update(entries)
        self._orders.clear()


class History:
    """Changes done and undone, without a limit.

    Parameters
    ----------
    earlier : sequence of Operation
        Calls before the session was loaded; they cannot be undone.
    """

    def __init__(self, earlier: Sequence[Operation] = ()) -> None:
        self.earlier = tuple(earlier)
        self._done: list[Change] = []
        self._undone: list[Change] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a change to redo."""
        return bool(self._undone)

    @property
    def top(self) -> Change | None:
        """The latest change."""
        return self._done[-1] if self._done else None

    @property
    def next_redo(self) -> Change | None:
        """The change that ``redo`` would apply."""
        return self._undone[-1] if self._undone else None

    def push(self, change: Change) -> None:
        """Add a change; undone changes can no longer be redone."""
        self._done.append(change)
        self._undone.clear()

    def forget_undone(self) -> None:
        """What was undone can no longer be redone."""
        self._undone.clear()

    def undo(self) -> list[Edit]:
        """The edits that undo the latest step, in order."""
        changes = _take_step(self._done, self._undone)
        return [edit.reversed() for change in changes for edit in reversed(change.edits)]

    def redo(self) -> list[Edit]:
        """The edits that redo the step that was undone last."""
        return [edit for change in _take_step(self._undone, self._done) for edit in change.edits]

    @property
    def done(self) -> tuple[Change, ...]:
        """Changes that are not undone, oldest first."""
        return tuple(self._done)

    def change_of(self, stamp: int) -> Change | None:
        """The change that made a version of a prompt; None if it was undone, or made in an earlier session."""
        return next((change for change in reversed(self._done) if change.stamp == stamp), None)


def _take_step(source: list[Change], target: list[Change]) -> list[Change]:
    """Move the last change, and those of the same step before it, to the other list; in the order moved."""
    moved = [source.pop()]
    while moved[0].step is not None and source and source[-1].step == moved[0].step:
        moved.append(source.pop())
    target.extend(moved)
    return moved


def replayable(done: Sequence[Change], current: Collection[int]) -> list[Operation]:
    """The calls that lead to the state, omitting calls that were superseded before they took effect.

    A prompt that was replaced or removed before its mask was predicted had no effect except for the object it created.

    Parameters
    ----------
    done : sequence of Change
        Oldest first.
    current : collection of int
        Stamps of the prompts that there are now.
    """
    found: list[Operation] = []
    for change in done:
        operation = change.operation
        if operation is None or operation.arguments.get("max_frames") == 0:
            continue
        if change.stamp is None or change.is_answered or change.stamp in current:
            found.append(operation)
        elif change.start is not None:
            found.append(change.start)
    return _without_empty_starts(found)


def _without_empty_starts(operations: Sequence[Operation]) -> list[Operation]:
    """Less ``new_object`` directly before the prompt that makes the object anyway."""
    kept: list[Operation] = []
    for operation in operations:
        before = kept[-1] if kept else None
        if (
            before is not None
            and before.method == "new_object"
            and before.arguments.get("name") is None
            and operation.method == "set_prompt"
            and operation.arguments["prompt"] is not None
            and operation.arguments["object_id"] == before.arguments.get("object_id")
        ):
            kept.pop()
        kept.append(operation)
    return kept
