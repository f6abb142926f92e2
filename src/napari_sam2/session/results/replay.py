"""Call the methods of a session again, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2._errors import CheckpointError
from napari_sam2.session.files.document import open_document
from napari_sam2.session.session import Session

if TYPE_CHECKING:
    from napari_sam2.session.engines.compute_address import ComputeAddress
    from napari_sam2.session.state.operations import Operation

__all__ = ["open_for_replay", "replay"]


def replay(
    operations: Sequence[Operation],
    session: Session,
    *,
    before_each: Callable[[int, Operation], bool] = lambda _, __: True,
) -> int:
    """Repeat the calls of a session; on the same image and model the labels become the same.

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
    NapariSAM2Error
        The error of one of the calls.
    """
    for position, operation in enumerate(operations):
        if not before_each(position, operation):
            return position
        getattr(session, operation.method)(**operation.arguments)
    return len(operations)


def open_for_replay(
    path: str | Path,
    stack: Any = None,
    *,
    model: Any = None,
    device: str = "auto",
    dtype: str = "auto",
    compute: ComputeAddress | None = None,
) -> tuple[Session, list[Operation]]:
    """Create a session on a session file's image, as at the file's beginning, and return the calls to repeat.

    Parameters
    ----------
    path : str or Path
        Session file.
    stack : array, path or FrameSource, optional
        The image. Default: the file that the session names.
    model : SAM2, str, Path or None
        Default: the model that the session began with; ``set_model`` calls are left out where one is given.
    device, dtype : str, default "auto"
        As for ``load_model``.
    compute : ComputeAddress, optional
        As for ``Session``.

    Returns
    -------
    session : Session
        Empty.
    operations : list of Operation
        For ``replay``.

    Raises
    ------
    SessionFileError
        If the file is missing, damaged or no session.
    FrameError
        If the image cannot be found or has another shape.
    CheckpointError
        If the session was made with a network that has no file, and no model is given.
    """
    document = open_document(path, stack, as_first=True)
    header = document.header
    if model is None and header.first_model.is_network:
        raise CheckpointError(
            f"{document.path} was made with a network that has no file; give the file of such weights, with --model"
        )
    settings = replace(header.first_settings, device=device, dtype=dtype)
    first_model = header.first_model.name if model is None else model
    session = Session(document.stack, model=first_model, settings=settings, compute=compute)
    try:
        document.check_image(session.geometry, session.frames)
        operations = document.read(session.geometry).operations
    except BaseException:
        session.close()
        raise
    session.origin = replace(session.origin, stack_path=document.stack_path)
    return session, [o for o in operations if model is None or o.method != "set_model"]
