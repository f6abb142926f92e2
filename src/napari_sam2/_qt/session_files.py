"""Session files that are dropped into a viewer: the image opens, and the dock with the session on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._errors import FrameError
from napari_sam2._viewer import readers
from napari_sam2._viewer.image_source import file_of, has_shape
from napari_sam2._viewer.readers import SESSION_KEY, LayerData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image
    from napari.viewer import Viewer

__all__ = ["get_session_reader"]

_NO_LAYER = (None,)  # how a reader tells napari that a file is read and adds no layer


def get_session_reader(
    path: str | Sequence[str],
) -> Callable[[str | Sequence[str]], list[LayerData] | list[tuple[None]]] | None:
    """Reader of ``.sam2`` files.

    In a viewer it gives the image, unless that is open already, and opens the dock with the session once napari has
    added it. Where the image is no longer there, the session is opened on the image in the viewer. Without a viewer, or
    for several files at once, it gives the images and the labels.
    """
    from napari import current_viewer

    read, viewer = readers.get_session_reader(path), current_viewer()
    is_single = isinstance(path, str) or len(path) == 1
    return read if read is None or viewer is None or not is_single else partial(_read_into, viewer)


def _read_into(viewer: Viewer, path: str | Sequence[str]) -> list[LayerData] | list[tuple[None]]:
    from qtpy.QtCore import QTimer

    given = path if isinstance(path, str) else path[0]
    image, layers = _image_in(viewer, given), []
    if image is None:
        try:
            layers = readers.read_session_images(given)
        except FrameError as error:
            if not _images(viewer):
                raise FrameError(readers.in_a_window(error)) from error
    for _, options, _ in layers:
        options["metadata"] |= {SESSION_KEY: given}
    QTimer.singleShot(0, partial(_open_in_dock, viewer, given, image))
    return layers or [_NO_LAYER]


def _images(viewer: Viewer) -> list[Image]:
    from napari.layers import Image

    return [layer for layer in viewer.layers if isinstance(layer, Image)]


def _image_in(viewer: Viewer, path: str) -> Image | None:
    """The image of a session file, if it is open in the viewer already: the one that is in use, or the last one."""
    from napari_sam2.session.files.database import read_header

    saved = read_header(Path(path)).image
    if saved.path is None:
        return None
    files = {Path(saved.path), Path(path).parent / Path(saved.path).name}  # or beside the session, if both were moved
    found = [layer for layer in _images(viewer) if has_shape(layer, saved.shape) and _is_from(layer, files)]
    active = viewer.layers.selection.active
    return next((layer for layer in found if layer is active), found[-1] if found else None)


def _is_from(layer: Image, files: set[Path]) -> bool:
    file = file_of(layer)
    return file is not None and Path(file) in files


def _open_in_dock(viewer: Viewer, path: str, image: Image | None) -> None:
    """Open a session on its image, which may have been added just before, or else on the image that is chosen."""
    from napari_sam2._qt.commands import open_sam2
    from napari_sam2.session.files.database import read_header

    added = [layer for layer in _images(viewer) if layer.metadata.get(SESSION_KEY) == path]
    if image is None and added:  # a file may hold images of several sizes
        shape = read_header(Path(path)).image.shape
        image = next((layer for layer in added if has_shape(layer, shape)), added[0])
    open_sam2(viewer).sessions.open_session(path, image=image)
