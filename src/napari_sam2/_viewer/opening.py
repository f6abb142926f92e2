"""Sessions in a viewer, from a script or a console."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, PromptError
from napari_sam2._messages import shown
from napari_sam2.session.state.settings import SessionSettings, threads_beside_a_window

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.session import Session

__all__ = ["delivery_for", "open_session"]


@checked(PromptError)
def open_session(
    viewer: ViewerModel,
    image_layer: Image | str,
    *,
    model: SAM2 | str | Path = "sam2_micro",
    frame_axis: int | None = None,
    settings: SessionSettings | None = None,
) -> Session:
    """Start a session on an image of a viewer: prompts drawn there are answered, and results shown.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        With or without a window.
    image_layer : napari.layers.Image or str
        The image, or its name.
    model : str, Path or SAM2, default "sam2_micro"
        As for ``load_model``.
    frame_axis : int, optional
        The axis that objects are followed along. Default: the last before the image's own that is longer than 1.
    settings : SessionSettings, optional
        Overlap rule and the like.

    Returns
    -------
    Session
        ``session.binding`` holds the layers.

    Raises
    ------
    FrameError
        If there is no such image.
    PromptError
        If an argument is not of its type.
    """
    # here, so that the name can be had where napari is not installed
    from napari_sam2._viewer.binding import ViewerBinding

    if isinstance(image_layer, str):
        if image_layer not in viewer.layers:
            raise FrameError(
                f"the viewer has no layer {shown(image_layer)}; it has {[layer.name for layer in viewer.layers]}"
            )
        image_layer = viewer.layers[image_layer]
    deliver = delivery_for(viewer)
    if settings is None and deliver is not None:
        settings = SessionSettings(threads=threads_beside_a_window())
    binding = ViewerBinding(
        viewer, [image_layer], model=model, frame_axis=frame_axis, settings=settings, deliver=deliver
    )
    binding.session.binding = binding
    return binding.session


def delivery_for(viewer: Any) -> Callable[[Callable[[], None]], None] | None:
    """How results reach the thread of a viewer with a window; None for a viewer model without one.

    The room with Qt is looked up by name, and only where Qt is in use already, so that this one stays free of it.
    """
    if not hasattr(viewer, "window") or "qtpy" not in sys.modules:
        return None
    dispatch = importlib.import_module("napari_sam2._qt.dispatch")
    made: Callable[[Callable[[], None]], None] = dispatch.QtDelivery()
    return made
