"""Image layers of napari as frames for the model: pixels, contrast, channels and place as the viewer shows them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine

from napari_sam2._errors import FrameError
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.frames.planes import ArrayPlanes, Channel

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam2.frames.display import ChannelDisplay

__all__ = [
    "IMAGE_FILE_KEY",
    "LayerPlacement",
    "channel_choices",
    "default_frame_axis",
    "describe_contrast",
    "file_of",
    "has_shape",
    "level_of",
    "matching_channels",
    "open_layers",
    "placement_of",
    "seen_through",
]

IMAGE_FILE_KEY = "napari_sam2_image_file"
"""In the metadata of an image that was opened with a session: its file, where napari notes that of the session."""

_CHANNEL_NAMES = ("c", "ch", "channel", "channels")
_MOST_CHANNELS = 4
LARGEST_SIDE = 8192  # pixels: of a multiscale image the finest level up to this is used


@dataclass(frozen=True, eq=False)
class LayerPlacement:
    """Where a layer lies in the world, so that others can lie exactly on it; arguments of napari's layers."""

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    rotate: Any
    shear: Any
    affine: Any
    units: Any
    axis_labels: tuple[str, ...]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``add_labels`` and its like."""
        return dict(vars(self))


def open_layers(
    layers: Sequence[Image], *, frame_axis: int | None = None, level: int | None = None
) -> tuple[ArrayPlanes, int | None]:
    """Open one or more Image layers with their present contrast and gamma.

    Parameters
    ----------
    layers : sequence of napari.layers.Image
        The image, and further channels of the same shape.
    frame_axis : int, optional
        The axis that objects are followed along; default: ``default_frame_axis``.
    level : int, optional
        Level of a multiscale image. Default: the finest whose sides are at most 8192 pixels.

    Returns
    -------
    planes : ArrayPlanes
    level : int or None
        The level that is used; None where the image has only one.

    Raises
    ------
    FrameError
        If the layers differ in shape or have no image.
    """
    first = layers[0]
    if first.multiscale and level is None:
        level = _choose_level(first)
    elif not first.multiscale:
        level = None
    arrays = [_array(layer, level) for layer in layers]
    shape = tuple(int(n) for n in arrays[0].shape)
    shape = shape[:-1] if first.rgb else shape
    if frame_axis is None:
        frame_axis = default_frame_axis(shape, [str(label) for label in first.axis_labels])
    geometry = StackGeometry.choose(shape, frame_axis)
    channels = []
    for layer, array in zip(layers, arrays, strict=True):
        if bool(layer.rgb) != bool(first.rgb):
            raise FrameError(f"{layer.name} and {first.name} differ: one has colours; choose channels of one kind")
        low, high = (float(v) for v in layer.contrast_limits)
        channels.append(Channel(array, (low, high), float(layer.gamma), _colour(layer), is_rgb=bool(layer.rgb)))
    return ArrayPlanes(channels, geometry), level


def default_frame_axis(shape: tuple[int, ...], axis_labels: Sequence[str]) -> int | None:
    """The axis that objects are followed along unless the user chooses another.

    It is the last axis before Y and X that is longer than 1 and is not an axis of channels: one with such a name, or
    one without a name that is next to Y and X and at most four long while another axis is longer.

    Parameters
    ----------
    shape : tuple of int
        Of the image, ending in Y and X.
    axis_labels : sequence of str
        A name for each axis; napari's own are negative numbers.

    Returns
    -------
    int or None
        None leaves the choice to ``StackGeometry.choose``.
    """
    leading = len(shape) - 2
    names = [label.strip().lower() for label in axis_labels[: max(leading, 0)]]
    axes = [axis for axis in range(leading) if shape[axis] > 1 and names[axis] not in _CHANNEL_NAMES]
    if len(axes) > 1 and axes[-1] == leading - 1:
        is_unnamed = names[-1].lstrip("-").isdigit() or not names[-1]
        if is_unnamed and shape[axes[-1]] <= _MOST_CHANNELS < max(shape[axis] for axis in axes):
            axes.pop()
    return axes[-1] if axes else None


def file_of(layer: Image) -> str | None:
    """The file that a layer was read from, also where a session file named it; None if there is none."""
    path = layer.metadata.get(IMAGE_FILE_KEY, layer.source.path)
    return None if path is None else str(path)


def level_of(layer: Image, shape: tuple[int, ...]) -> int | None:
    """The level of a multiscale image that has a shape, without colours; None if there is none, or only one level."""
    arrays = layer.data if layer.multiscale else ()
    shapes = [tuple(int(n) for n in array.shape[: layer.ndim]) for array in arrays]
    return shapes.index(shape) if shape in shapes else None


def has_shape(layer: Image, shape: tuple[int, ...]) -> bool:
    """Whether an image, or one of its levels, has a shape, without colours."""
    if layer.multiscale:
        return level_of(layer, shape) is not None
    return tuple(int(n) for n in layer.data.shape[: layer.ndim]) == shape


def _array(layer: Image, level: int | None) -> Any:
    return layer.data if level is None else layer.data[level]


def _choose_level(layer: Image) -> int:
    for level, array in enumerate(layer.data):
        shape = array.shape[:-1] if layer.rgb else array.shape
        if max(shape[-2:]) <= LARGEST_SIDE:
            return level
    return len(layer.data) - 1


def _colour(layer: Image) -> tuple[float, float, float]:
    """The colour of the brightest value where a colormap runs from black to it; otherwise white."""
    if layer.rgb:
        return (1.0, 1.0, 1.0)
    ends = np.asarray(layer.colormap.map(np.array([0.0, 0.5, 1.0])))[:, :3]
    is_ramp = ends[0].max() < 0.02 and np.abs(ends[1] - ends[2] / 2).max() < 0.05
    red, green, blue = (float(v) for v in ends[2]) if is_ramp else (1.0, 1.0, 1.0)
    return red, green, blue


def placement_of(layer: Image, level: int | None = None) -> LayerPlacement:
    """Where the pixels of a layer (or of one level of it) lie."""
    scale, translate = np.asarray(layer.scale, float), np.asarray(layer.translate, float)
    if level:
        full = np.array(layer.data[0].shape[: layer.ndim], float)
        factor = full / np.array(layer.data[level].shape[: layer.ndim], float)
        linear = Affine(scale=scale, translate=translate, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim)
        # the first pixel of a level covers `factor` pixels: its centre lies half of the rest further on
        translate = np.asarray(linear((factor - 1) / 2))
        scale = scale * factor
    return LayerPlacement(
        scale=tuple(float(v) for v in scale),
        translate=tuple(float(v) for v in translate),
        rotate=layer.rotate,
        shear=layer.shear,
        affine=layer.affine,
        units=layer.units,
        axis_labels=tuple(layer.axis_labels),
    )


def matching_channels(layer: Image, layers: Sequence[Any]) -> list[Image]:
    """The visible Image layers that are further channels of ``layer``: same shape, one value per pixel."""
    if layer.rgb or layer.multiscale:
        return [layer]
    return [layer, *(other for other in layers if _is_channel_beside(other, layer) and other.visible)]


def _is_channel_beside(other: Any, layer: Image) -> bool:
    return (
        type(other).__name__ == "Image"
        and other != layer
        and not other.rgb
        and not other.multiscale
        and tuple(other.data.shape) == tuple(layer.data.shape)
    )


def channel_choices(
    layer: Image, layers: Sequence[Any], displays: Sequence[ChannelDisplay] | None
) -> Iterator[list[Image]]:
    """Layers that a session of one or more channels may have been made on, the most likely ones first.

    Parameters
    ----------
    layer : napari.layers.Image
        The image to open the session on; the only choice if it has colours or several levels.
    layers : sequence of layers
        Of the viewer.
    displays : sequence of ChannelDisplay or None
        How the session shows its channels, in their order. None: it has any number of them, in the order of the layers.

    Yields
    ------
    list of napari.layers.Image
        As many as there are displays. Nothing if the viewer has fewer images of this shape.
    """
    if layer.rgb or layer.multiscale:
        others = []
    else:
        others = sorted((each for each in layers if _is_channel_beside(each, layer)), key=lambda each: not each.visible)
    if displays is None:
        yield [layer]
        order = list(layers)
        for count in range(1 + len(others), 0, -1):
            for choice in itertools.combinations(sorted((layer, *others), key=order.index), count):
                yield list(choice)
        return
    # one after the other: of 30 images there are more than half a million choices of four
    images = [layer, *others]
    colours = [_colour(each) for each in images]
    wanted = [display.colour for display in displays]
    alike = itertools.product(*([n for n, colour in enumerate(colours) if colour == each] for each in wanted))
    every = itertools.permutations(range(len(images)), len(wanted))
    rest = (choice for choice in every if [colours[n] for n in choice] != wanted)
    for choice in itertools.chain((choice for choice in alike if len(set(choice)) == len(choice)), rest):
        yield [images[n] for n in choice]


def seen_through(layer: Image, layers: Sequence[Any]) -> list[Image]:
    """Further channels that are seen together with ``layer``: of two images, the upper one is added to the lower."""
    # compared and not looked up: through napari's proxy a layer is another Python object each time
    order = list(layers)

    def upper(other: Image) -> Image:
        return max(layer, other, key=order.index)

    return [other for other in matching_channels(layer, layers)[1:] if upper(other).blending == "additive"]


def describe_contrast(planes: ArrayPlanes) -> str:
    """One line for the user: the limits in use, per channel."""
    if planes.channels[0].is_rgb and np.dtype(planes.channels[0].array.dtype) == np.uint8:
        return "RGB, unchanged"
    parts = [
        f"{c.limits[0]:g} to {c.limits[1]:g}" + (f", gamma {c.gamma:g}" if c.gamma != 1 else "")
        for c in planes.channels
    ]
    return "; ".join(parts)
