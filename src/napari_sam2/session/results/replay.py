"""Do the calls of a session again, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.history import Operation

__all__ = ["REPLAYABLE", "replay"]

REPLAYABLE = frozenset(
    {
        "lock",
        "new_object",
        "paint",
        "propagate",
        "remove_object",
        "rename",
        "set_contrast",
        "set_lost_after",
        "set_model",
        "set_overlap",
        "set_prompt",
        "set_visible",
        "unlock",
    }
)
"""Methods of ``Session`` that a file may name."""


def replay(
    operations: Sequence[Operation],
    session: Session,
    *,
    before_each: Callable[[int, Operation], bool] = lambda _, __: True,
) -> int:
    """Call a session's methods as they were called before; on the same image and model the labels become the same.

    Parameters
    ----------
    operations : sequence of Operation
        As ``Session.operations`` gives them.
    session : Session
        New, on the same image.
    before_each : callable, optional
        Called with the position and the operation; False ends the replay before it.

    Returns
    -------
    int
        How many were called.

    Raises
    ------
    PromptError
        If an operation names anything but a method that changes a session.
    NapariSAM2Error
        What went wrong with one of them.
    """
    unknown = sorted({o.method for o in operations} - REPLAYABLE)
    if unknown:
        raise PromptError(f"the operations {unknown} are not known; allowed are {sorted(REPLAYABLE)}")
    for position, operation in enumerate(operations):
        if not before_each(position, operation):
            return position
        getattr(session, operation.method)(**operation.arguments)
    return len(operations)
