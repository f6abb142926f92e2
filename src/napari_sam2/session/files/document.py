"""Session files: written whole or not at all, and opened again on their image."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, OutputError
from napari_sam2._types import FrameSource
from napari_sam2.frames.display import open_array, show_planes, with_looks
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.session.files.autosave import Autosave
from napari_sam2.session.files.autosave_folder import (
    RecoverableSession,
    default_autosave_path,
    recoverable_sessions,
    remove_session,
)
from napari_sam2.session.files.database import fill, is_session_file, read_session, settle, side_files
from napari_sam2.session.files.meta import ImageReference, SessionMeta, describe, image_sample
from napari_sam2.session.files.model_names import hash_of

if TYPE_CHECKING:
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.snapshot import SessionSnapshot

__all__ = [
    "Autosave",
    "RecoverableSession",
    "default_autosave_path",
    "load_session",
    "recoverable_sessions",
    "remove_session",
    "save_session",
    "write_session",
]


def save_session(session: Session, path: str | Path) -> Path:
    """Write a session to one file, whole or not at all.

    Parameters
    ----------
    session : Session
        Any.
    path : str or Path
        By custom it ends in ``.sam2``. A session file of that name is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If it cannot be written, or the name belongs to another file; what was there stays as it was.
    """
    place = Path(path).expanduser()
    if session.autosave_path is not None and place.resolve() == session.autosave_path.resolve():
        if not session.flush_autosave():
            raise OutputError(f"{place} cannot be written at the moment; free space, or save to another place")
        return place
    return write_session(place, session.snapshot(), describe(session))


def write_session(path: Path, state: SessionSnapshot, meta: SessionMeta) -> Path:
    """Write a state to a file that appears under its name only when it is complete; raises as ``save_session``."""
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it first, or write elsewhere")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        if path.exists() and not is_session_file(path):
            raise OutputError(f"{path} is something else than a session and is not replaced; choose another name")
        connection = sqlite3.connect(partial)
        try:
            fill(connection, state, meta)
        finally:
            connection.close()
        settle(path)
        partial.replace(path)
    except (OSError, sqlite3.Error) as error:
        for leftover in (partial, *side_files(partial)):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path} cannot be written ({error}); free space or write elsewhere") from error
    return path


def load_session(cls: type[Session], path: str | Path, stack: Any, options: dict[str, Any]) -> Session:
    """Open a session file on its image; arguments and errors as for ``Session.load``."""
    place = Path(path).expanduser()
    stored = read_session(place)
    meta = stored.meta
    stack, found_at = _find_image(place, meta.image, stack)
    if "model" not in options:
        options["model"] = meta.model.name
        if meta.model.is_network:
            warnings.warn(
                f"the session was made with a network that has no file; {meta.model.name} takes its place: "
                "give Session.load(path, model=...) to go on with the same",
                stacklevel=3,
            )
        elif meta.model.sha256 is not None and hash_of(meta.model.name) not in (None, meta.model.sha256):
            warnings.warn(
                f"the weights of {meta.model.name} are not those that the session was made with; "
                "masks stay, later ones may differ",
                stacklevel=3,
            )
    settings = options.pop("settings", None) or meta.settings
    session = cls(_shown(stack, meta.image, options), settings=settings, **options)
    try:
        _check_image(place, session, meta.image)
        session.stack_path = found_at or meta.image.path
        session.restore(replace(stored.state, settings=settings))
    except BaseException:
        session.close()
        raise
    session.first_model = meta.first_model.name if meta.first_model != meta.model else session.model
    session.first_settings = meta.first_settings
    session.has_automatic_contrast = meta.has_automatic_contrast
    looks = meta.first_looks
    if isinstance(session.frames, ArrayPlanes) and looks is not None and len(looks) == len(session.frames.channels):
        session.first_frames = with_looks(session.frames, looks)
    return session


def _find_image(session_path: Path, image: ImageReference, stack: Any) -> tuple[Any, str | None]:
    """The image that was given, or the file that the session names, also where both were moved together."""
    if stack is not None:
        is_path = isinstance(stack, str) or hasattr(stack, "__fspath__")
        return stack, str(stack) if is_path else None
    if image.path is None:
        raise FrameError(
            f"{session_path} was made on an array of shape {image.shape}, not on a file; "
            "give it: Session.load(path, stack), in the shell --stack"
        )
    named = Path(image.path).expanduser()
    found = next((p for p in (named, session_path.parent / named.name) if p.exists()), None)
    if found is None:
        raise FrameError(
            f"the image {image.path} of {session_path} is not there; give where it is now: "
            "Session.load(path, stack), in the shell --stack"
        )
    return str(found), str(found)


def _shown(stack: Any, image: ImageReference, options: dict[str, Any]) -> Any:
    """The image as it was shown to the model, where the session says how."""
    is_open = isinstance(stack, FrameSource) and not isinstance(stack, np.ndarray)
    if image.looks is None or is_open or "is_rgb" in options:
        return stack
    frame_axis = options.pop("frame_axis", image.frame_axis)
    parts = list(stack) if isinstance(stack, (list, tuple)) else [stack]
    arrays = [open_array(p) if isinstance(p, str) or hasattr(p, "__fspath__") else p for p in parts]
    if len(arrays) != len(image.looks):
        raise FrameError(
            f"{len(arrays)} channels were given; the session was made on {len(image.looks)}: "
            "give a list with the array of each, Session.load(path, [first, second])"
        )
    for array in arrays:
        shape = tuple(int(n) for n in getattr(array, "shape", np.shape(array)))
        if shape[: len(image.shape)] != image.shape or len(shape) != len(image.shape) + image.looks[0].is_rgb:
            raise FrameError(_other_shape(shape, image))
    return show_planes(
        arrays,
        frame_axis=frame_axis,
        is_rgb=image.looks[0].is_rgb,
        limits=[look.limits for look in image.looks],
        gamma=[look.gamma for look in image.looks],
        colours=[look.colour for look in image.looks],
    )


def _other_shape(shape: tuple[int, ...], image: ImageReference) -> str:
    return (
        f"an image of shape {shape} was found; the session was made on one of shape {image.shape}"
        f"{'' if image.path is None else f' ({image.path})'}: give that one, "
        "Session.load(path, stack), in the shell --stack"
    )


def _check_image(path: Path, session: Session, image: ImageReference) -> None:
    geometry = session.geometry
    if geometry.shape != image.shape:
        raise FrameError(_other_shape(geometry.shape, image))
    if geometry.frame_axis != image.frame_axis:
        raise FrameError(
            f"frame axis {geometry.frame_axis} was given; {path} was made along axis {image.frame_axis}: leave it out"
        )
    if image.sample is not None and image_sample(session.frames) not in (None, image.sample):
        warnings.warn(
            f"the image has other values than the one that {path.name} was made on; its masks may not fit",
            stacklevel=4,
        )
