"""The calls that a session's state comes from, and their text in files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from napari_sam2.session.state.history import Change, Operation

__all__ = ["replayable"]


def replayable(done: Sequence[Change], current: Collection[int]) -> list[Operation]:
    """What has to be called again to come to the same state.

    A prompt that was replaced or taken back before the model answered had no effect but the object that it made.

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
