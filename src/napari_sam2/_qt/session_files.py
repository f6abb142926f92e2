"""Session files that are dropped into a viewer: the image opens, and the dock with the session on it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam2._errors import FrameError
from napari_sam2._viewer import readers
from napari_sam2._viewer.readers import SESSION_KEY, LayerData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.viewer import Viewer

__all__ = ["get_session_reader"]

_NO_LAYER = (None,)  # how a reader tells napari that a file is read and adds no layer


def get_session_reader(
    path: str | Sequence[str],
) -> Callable[[str | Sequence[str]], list[LayerData] | list[tuple[None]]] | None:
    """Reader of ``.sam2`` files.

    In a viewer it gives the image, and opens the dock with the session once napari has added it. Where the image is no
    longer there, the session is opened on the image in the viewer. Without a viewer, or for several files at once, it
    gives the images and the labels.
    """
    from napari import current_viewer

    read, viewer = readers.get_session_reader(path), current_viewer()
    is_single = isinstance(path, str) or len(path) == 1
    return read if read is None or viewer is None or not is_single else partial(_read_into, viewer)


def _read_into(viewer: Viewer, path: str | Sequence[str]) -> list[LayerData] | list[tuple[None]]:
    from napari.layers import Image
    from qtpy.QtCore import QTimer

    given = path if isinstance(path, str) else path[0]
    try:
        layers = [layer for layer in readers.read_sessions([given]) if layer[2] == "image"]
    except FrameError as error:
        if not any(isinstance(layer, Image) for layer in viewer.layers):
            raise FrameError(readers.in_a_window(error)) from error
        layers = []
    for _, options, _ in layers:
        options["metadata"] = {SESSION_KEY: given}
    QTimer.singleShot(0, partial(_open_in_dock, viewer, given))
    return layers or [_NO_LAYER]


def _open_in_dock(viewer: Viewer, path: str) -> None:
    """Open a session on its image, which was added to the viewer just before, or else on the image that is chosen."""
    from napari_sam2._qt.commands import open_sam2

    images: list[Any] = [layer for layer in viewer.layers if layer.metadata.get(SESSION_KEY) == path]
    open_sam2(viewer).sessions.open_session(path, image=images[0] if images else None)
