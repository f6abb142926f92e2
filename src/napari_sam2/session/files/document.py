"""Session files: written whole or not at all, and opened again on their image."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, OutputError, SessionFileError, warn_caller
from napari_sam2._files import expand, write_error, write_whole
from napari_sam2._messages import Message, Option, shown
from napari_sam2._types import FrameSource
from napari_sam2.frames.display import fitting_positions, open_array, show_planes, with_displays
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.session.files.autosave_folder import OwnerMark
from napari_sam2.session.files.database import fill, is_session_file, read_content, read_header, settle
from napari_sam2.session.files.file_header import FileHeader, ImageReference, describe, image_sample
from napari_sam2.session.files.model_names import hash_of
from napari_sam2.session.state.snapshot import SessionContent, SessionOrigin, SessionSnapshot

if TYPE_CHECKING:
    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.network.sam2 import SAM2

__all__ = ["SessionDocument", "find_image", "open_document", "save_session", "write_session"]

_GIVE_IMAGE = Option("stack", "give its image: Session.load(path, stack)", "give its image with --stack")


def save_session(path: Path, snapshot: SessionSnapshot) -> Path:
    """Write a session to a file that no running session saves itself to.

    Parameters
    ----------
    path : Path
        An existing session file is replaced.
    snapshot : SessionSnapshot
        The session.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the file cannot be written, is in use, or is something else than a session; an existing file is left as it
        was.
    """
    mark = OwnerMark(path)
    if not mark.take():
        raise OutputError(f"{path} is in use by a running session; choose another name")
    try:
        return write_session(path, snapshot)
    finally:
        mark.release()


def write_session(path: str | Path, snapshot: SessionSnapshot) -> Path:
    """Write a session to a file that appears under its name once it is complete; errors as for ``save_session``."""
    place = expand(path)

    def write(part: Path) -> None:
        if place.exists() and not is_session_file(place):
            raise OutputError(f"{place} is not a session file and is not replaced; choose another name")
        connection = sqlite3.connect(part)
        try:
            fill(connection, snapshot.content, describe(snapshot.setup, snapshot.content.settings))
        finally:
            connection.close()
        settle(place)

    try:
        return write_whole(place, write)
    except sqlite3.Error as error:
        raise write_error(place, error) from error


@dataclass(frozen=True, eq=False)
class SessionDocument:
    """A session file with its image.

    Attributes
    ----------
    path : Path
        The session file.
    header : FileHeader
        Model, settings and image of the session.
    stack : array, path or FrameSource
        The image, to be given to ``Session``.
    stack_path : str or None
        Where the image was found; None for an array.
    """

    path: Path
    header: FileHeader
    stack: Any
    stack_path: str | None

    def read(self, geometry: StackGeometry) -> SessionContent:
        """Read objects, prompts, masks, calls and settings; to be called with the geometry of the session's image.

        Raises
        ------
        SessionFileError
            If the file is damaged.
        """
        return read_content(self.path, geometry)

    def model(self) -> str:
        """Name or path of the session's model; warns if it is not the one that the session was made with."""
        model = self.header.model
        if model.is_network:
            warn_caller(
                Message(
                    f"the session was made with a network that has no file; {model.name} is used instead: to continue "
                    "with the same one, ",
                    Option("model", "give Session.load(path, model=...)", "give --model"),
                )
            )
        elif model.sha256 is not None and hash_of(model.name) not in (None, model.sha256):
            warn_caller(
                f"the weights of {model.name} are not those that the session was made with; "
                "masks stay, later ones may differ"
            )
        return model.name

    def check_image(self, geometry: StackGeometry, frames: FrameSource) -> None:
        """Raise FrameError if the image has another shape or frame axis; warn if its values differ."""
        image = self.header.image
        if geometry.shape != image.shape:
            raise FrameError(_other_shape(geometry.shape, image))
        if geometry.frame_axis != image.frame_axis:
            raise FrameError(
                f"frame axis {geometry.frame_axis} was given; {self.path} was made along axis {image.frame_axis}: "
                "leave it out"
            )
        if image.sample is not None and image_sample(frames) not in (None, image.sample):
            warn_caller(f"the image differs from the one that {self.path.name} was made on; its masks may not fit")

    def origin(self, model: SAM2 | str | Path, frames: FrameSource) -> SessionOrigin:
        """What the session was first opened with.

        Parameters
        ----------
        model : SAM2, str or Path
            The model in force, which the session begins with where it never changed.
        frames : FrameSource
            The image as it is shown now.
        """
        header = self.header
        looks = header.first_looks
        if isinstance(frames, ArrayPlanes) and looks is not None and len(looks) == len(frames.channels):
            frames = with_displays(frames, looks)
        return SessionOrigin(
            stack_path=self.stack_path or header.image.path,
            model=header.first_model.name if header.first_model != header.model else model,
            settings=header.first_settings,
            frames=frames,
            has_automatic_contrast=header.has_automatic_contrast,
        )


def open_document(
    path: str | Path, stack: Any = None, options: Mapping[str, Any] | None = None, *, as_first: bool = False
) -> SessionDocument:
    """Read the header of a session file and find its image.

    Parameters
    ----------
    path : str or Path
        Session file.
    stack : array, path or FrameSource, optional
        The image. Default: the file that the session refers to.
    options : mapping, optional
        Further arguments for ``Session``.
    as_first : bool, default False
        Show the image as at the session's beginning, rather than at its end.

    Returns
    -------
    SessionDocument

    Raises
    ------
    SessionFileError
        If the file does not exist, is damaged or is not a session.
    FrameError
        If the image cannot be found or has another shape.
    """
    place = _session_path(path)
    header = read_header(place)
    image = header.image
    stack, found_at = _find_image(place, image, stack)
    if as_first and image.looks is not None:
        image = replace(image, looks=header.first_looks)
    return SessionDocument(place, header, _shown(stack, image, options or {}), found_at)


def find_image(path: str | Path) -> str:
    """Where the image of a session file is.

    Raises
    ------
    SessionFileError
        If the file does not exist, is damaged or is not a session.
    FrameError
        If the image is not a file, or cannot be found.
    """
    place = _session_path(path)
    found, _ = _find_image(place, read_header(place).image, None)
    return str(found)


def _find_image(session_path: Path, image: ImageReference, stack: Any) -> tuple[Any, str | None]:
    """The image that was given, or the file that the session names, also where both were moved together."""
    if stack is not None:
        return stack, str(stack) if _is_path(stack) else None
    if image.path is None:
        raise FrameError(
            Message(f"{session_path} was made on an array of shape {image.shape}, not on a file; ", _GIVE_IMAGE)
        )
    found = next((p for p in _candidates(image.path, session_path.parent) if _is_image(p)), None)
    if found is None:
        raise FrameError(
            Message(
                f"the image {image.path} of {session_path} was not found; give its present location: ",
                Option("stack", "Session.load(path, stack)", "--stack"),
            )
        )
    return str(found), str(found)


def _candidates(path: str, folder: Path) -> list[Path]:
    """Where an image may be: under its path, or beside the session file if both were moved."""
    try:
        named = Path(path).expanduser()
    except RuntimeError:  # "~" and no such user
        named = Path(path)
    return [named, folder / named.name]


def _is_image(path: Path) -> bool:
    """Whether there is a file or a folder, not a pipe or device."""
    try:
        return path.is_file() or path.is_dir()
    except OSError:  # the name is too long
        return False


def _session_path(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except (TypeError, RuntimeError) as error:
        raise SessionFileError(f"{shown(path)} was given; expected the path of a session file ({error})") from error


def _shown(stack: Any, image: ImageReference, options: Mapping[str, Any]) -> Any:
    """The image as it was shown to the model, where the session says how."""
    is_open = isinstance(stack, FrameSource) and not isinstance(stack, np.ndarray)
    if image.looks is None or is_open or "is_rgb" in options:
        return stack
    frame_axis = options.get("frame_axis", image.frame_axis)
    parts = list(stack) if isinstance(stack, (list, tuple)) else [stack]
    if len(parts) == 1 and _is_path(parts[0]):
        positions = fitting_positions(parts[0], image.shape)
        each = [_with_looks(parts, image, frame_axis, position) for position in positions]
        fitting = [planes for planes in each if image.sample is None or image_sample(planes) == image.sample]
        if each:
            return (fitting or each)[0]
    return _with_looks(parts, image, frame_axis)


def _is_path(part: Any) -> bool:
    return isinstance(part, str) or hasattr(part, "__fspath__")


def _with_looks(parts: Sequence[Any], image: ImageReference, frame_axis: Any, position: int | None = None) -> Any:
    """Channels, shown as the session says; of files whose images differ in size, those at a position."""
    if image.looks is None:
        return parts[0]
    has_colours = bool(image.looks) and image.looks[0].is_rgb
    arrays = [
        open_array(part, is_rgb=has_colours, ndim=len(image.shape), position=position) if _is_path(part) else part
        for part in parts
    ]
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
        usual=[look.usual for look in image.looks],
    )


def _other_shape(shape: tuple[int, ...], image: ImageReference) -> Message:
    place = "" if image.path is None else f" ({image.path})"
    return Message(
        f"an image of shape {shape} was found; the session belongs to one of shape {image.shape}{place}: ",
        _GIVE_IMAGE,
    )
