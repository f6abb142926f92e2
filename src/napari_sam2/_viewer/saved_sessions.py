"""Open a saved session on the layers that it was made on, shown to the model as it was saved."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2._errors import FrameError
from napari_sam2._viewer.image_source import channel_choices, has_shape, level_of, open_layers
from napari_sam2.frames.display import with_displays
from napari_sam2.session.files.database import read_header
from napari_sam2.session.files.file_header import image_sample
from napari_sam2.session.session import Session

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam2.frames.planes import ArrayPlanes
    from napari_sam2.session.files.file_header import ImageReference

__all__ = ["open_saved_session"]

_MOST_CHOICES = 24  # of layers whose pixels are compared: all orders of four channels


def open_saved_session(
    path: str | Path, image: Image, layers: Sequence[Any], **options: Any
) -> tuple[Session, list[Image]]:
    """Open a saved session with the channels, contrast and frame axis that it was saved with.

    Parameters
    ----------
    path : str or Path
        The session file.
    image : napari.layers.Image
        Where to open it, unless the pixels of other layers of the same shape are those of the session.
    layers : sequence of layers
        Where the other channels are.
    **options
        As for ``Session``.

    Returns
    -------
    session : Session
    images : list of napari.layers.Image
        The layers that its channels are read from.

    Raises
    ------
    SessionFileError
        If the file does not exist, is damaged or is not a session.
    FrameError
        If the image has another shape, or not all channels are there.
    """
    saved = read_header(Path(path)).image
    choices = list(itertools.islice(channel_choices(image, layers, saved.looks), _MOST_CHOICES))
    if not choices:
        others = "others" if len(saved.looks or ()) > 2 else "other"
        raise FrameError(
            f"{Path(path).name} was made on {len(saved.looks or ())} images of one shape, shown together; "
            f"open the {others} beside {image.name} too, then the session"
        )
    shown = _as_saved(choices[0], saved)
    images = choices[0]
    if saved.sample is not None and shown.geometry.shape == saved.shape:
        every = ((choice, _as_saved(choice, saved)) for choice in choices[1:])
        for choice, planes in itertools.chain([(images, shown)], every):
            if image_sample(planes) == saved.sample:
                images, shown = choice, planes
                break
    return Session.load(path, shown, **options), images


def _as_saved(images: Sequence[Image], saved: ImageReference) -> ArrayPlanes:
    """The planes of layers along the axis, and in the contrast, of a saved session, as far as they fit it."""
    frame_axis = saved.frame_axis if has_shape(images[0], saved.shape) else None
    planes, _ = open_layers(images, frame_axis=frame_axis, level=level_of(images[0], saved.shape))
    is_alike = saved.looks is not None and [look.is_rgb for look in saved.looks] == [bool(i.rgb) for i in images]
    return with_displays(planes, saved.looks) if saved.looks is not None and is_alike else planes
