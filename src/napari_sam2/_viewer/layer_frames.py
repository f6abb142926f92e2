"""What widgets without a session need of layers: frames of one clip, planes of labels, and the size of a pixel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._checks import LARGEST_ID
from napari_sam2._errors import FrameError, PromptError
from napari_sam2._viewer.image_source import LayerPlacement, default_frame_axis, open_layers, placement_of
from napari_sam2._viewer.layer_places import LayerMap, resample_plane
from napari_sam2.frames.spacing import unit_name, unit_symbol
from napari_sam2.labels.conversion import convert_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer
    from numpy.typing import NDArray

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.frames.planes import ArrayPlanes

__all__ = [
    "Calibration",
    "LabelSeeds",
    "PixelSize",
    "ShownImage",
    "in_plane_words",
    "is_time_axis",
    "label_calibration",
    "layer_plane_word",
    "open_image",
    "plane_word",
    "seed_labels",
    "training_frames",
]

_TIME_LABELS = ("t", "time")
_PLANES = re.compile(r"(?<!key )(?<![\w/\\.-])(frame|slice)(s?)(?![\w/\\-]|\.\w)", re.IGNORECASE)  # not in paths
_NO_UNITS = ("pixel", "dimensionless", "")


@dataclass(frozen=True)
class PixelSize:
    """Height and width of a pixel in one unit; "px" where the layer is not calibrated."""

    height: float = 1.0
    width: float = 1.0
    unit: str = "px"


@dataclass(frozen=True, eq=False)
class ShownImage:
    """An Image layer as the model sees it.

    Attributes
    ----------
    planes : ArrayPlanes
        With the contrast as displayed.
    placement : LayerPlacement
        Where the pixels lie.
    pixel_size : PixelSize
        Of the level in use.
    """

    planes: ArrayPlanes
    placement: LayerPlacement
    pixel_size: PixelSize

    @property
    def geometry(self) -> StackGeometry:
        """Axes of the image."""
        return self.planes.geometry

    @property
    def frames_are_times(self) -> bool:
        """Whether the axis that objects are followed along is labelled as time: t or time."""
        axis, labels = self.geometry.frame_axis, self.placement.axis_labels
        return axis is not None and is_time_axis(str(labels[axis]))

    @property
    def plane_word(self) -> Literal["frame", "slice"]:
        """What users call a plane: see `plane_word`."""
        return "frame" if self.frames_are_times else "slice"

    def pixels_layer(self) -> Layer:
        """A layer whose data coordinates are the pixels of the level in use; it is in no viewer."""
        from napari.layers import Labels

        return Labels(np.zeros((1,) * self.geometry.ndim, np.uint8), **self.placement.arguments())

    def plane_at(self, layer: Image, point: Sequence[float] | NDArray[np.float64]) -> int:
        """The plane of the image that a viewer shows at the point of its sliders, in world coordinates."""
        geometry = self.geometry
        if geometry.ndim == 2:
            return 0
        world = np.asarray(point, float)[-geometry.ndim :]
        position = np.asarray(layer.world_to_data(world), float)[: geometry.ndim - 2]
        index = np.clip(np.rint(position), 0, np.array(geometry.shape[:-2]) - 1)
        return geometry.plane(tuple(int(i) for i in index))


def is_time_axis(label: str) -> bool:
    """Whether an axis is labelled as time: t or time."""
    return label.strip().lower() in _TIME_LABELS


def plane_word(label: str) -> Literal["frame", "slice"]:
    """What users call the planes along an axis: frames of a movie, slices of anything else."""
    return "frame" if is_time_axis(label) else "slice"


def layer_plane_word(layer: Image | Labels) -> Literal["frame", "slice"]:
    """What users call the planes of a layer, along the axis that objects are followed along: see `plane_word`."""
    data = layer.data[0] if layer.multiscale else layer.data
    labels = [str(label) for label in layer.axis_labels]
    axis = default_frame_axis(tuple(data.shape[: layer.ndim]), labels)
    return plane_word("" if axis is None else labels[axis])


def in_plane_words(text: str, word: Literal["frame", "slice"], names: Sequence[str] = ()) -> str:
    """A text in which planes are called frames, or slices.

    Parameters
    ----------
    text : str
        With either word; "key frame" stays, and so do paths.
    word : {"frame", "slice"}
        What users call a plane: see `plane_word`.
    names : sequence of str
        Names of layers and objects, which stay as they are.

    Returns
    -------
    str
        The text.
    """

    def as_word(found: re.Match[str]) -> str:
        return (word.capitalize() if found[1][0].isupper() else word) + found[2]

    kept = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    parts = re.split(f"({kept})", text) if kept else [text]
    return "".join(part if at % 2 else _PLANES.sub(as_word, part) for at, part in enumerate(parts))


def open_image(layer: Image) -> ShownImage:
    """Open an Image layer.

    Raises
    ------
    FrameError
        If it holds no image.
    """
    planes, level = open_layers([layer])
    placement = placement_of(layer, level)
    return ShownImage(planes, placement, _pixel_size(placement))


def _pixel_size(placement: LayerPlacement) -> PixelSize:
    """In the unit of the vertical axis."""
    height, width = (abs(float(v)) for v in placement.scale[-2:])
    units = tuple(placement.units or ())[-2:]
    if len(units) < 2 or any(str(unit) in _NO_UNITS for unit in units):
        return PixelSize() if height == width == 1 else PixelSize(height, width, "units")
    try:
        width = float((width * units[1]).to(units[0]).magnitude)
    except ValueError:  # pint: units of different kinds
        return PixelSize(height, width, "units")
    symbol = unit_symbol(unit_name(str(units[0])))  # some versions of pint write the Greek mu for the micro sign
    return PixelSize(height, width, f"{units[0]:~P}" if symbol == "pixel" else symbol)


def seed_labels(
    labels: Labels,
    geometry: StackGeometry,
    plane: int,
    *,
    image: Layer,
    viewer: ViewerModel,
    whole_clip: bool = False,
) -> dict[int, NDArray[np.int32]]:
    """(H, W) labels by plane, from a Labels layer as the viewer shows it on the image; see ``LabelSeeds``.

    Parameters
    ----------
    labels : Labels
        The layer; its scale, translation, rotation and units may differ from those of the image.
    geometry : StackGeometry
        Of the image.
    plane : int
        The plane shown.
    image : Layer
        A layer whose data coordinates are pixels of the geometry.
    viewer : napari.components.ViewerModel
        That shows both.
    whole_clip : bool, default False
        All planes of its clip that hold labels, instead of this one.

    Raises
    ------
    PromptError
        If nothing is labelled there, or a label is no number of an object.
    """
    return LabelSeeds.of(labels, geometry, plane, image=image, viewer=viewer, whole_clip=whole_clip).read()


@dataclass(frozen=True, eq=False)
class LabelSeeds:
    """The labels that a Labels layer shows on planes of an image, as it was when this was made; read on any thread.

    Attributes
    ----------
    array : LazyArray
        Of the layer.
    to_labels : LayerMap
        From pixels of the image to those of the layer.
    geometry : StackGeometry
        Of the image.
    planes : range
        Of the image.
    name : str
        Of the layer.
    """

    array: Any
    to_labels: LayerMap
    geometry: StackGeometry
    planes: range
    name: str

    @classmethod
    def of(
        cls,
        labels: Labels,
        geometry: StackGeometry,
        plane: int,
        *,
        image: Layer,
        viewer: ViewerModel,
        whole_clip: bool = False,
    ) -> LabelSeeds:
        """Parameters as for ``seed_labels``."""
        has_all_planes = labels.ndim >= geometry.ndim
        planes = geometry.clip_range(plane) if whole_clip and has_all_planes else range(plane, plane + 1)
        to_labels = LayerMap.between(image, labels, viewer)
        return cls(_full_resolution(labels), to_labels, geometry, planes, labels.name)

    def read(self) -> dict[int, NDArray[np.int32]]:
        """(H, W) labels by plane, without empty ones; raises as ``seed_labels``."""
        found: dict[int, NDArray[Any]] = {}
        for plane in self.planes:
            index = self.geometry.index(plane)
            if self.to_labels.is_identity and tuple(self.array.shape) == self.geometry.shape:
                drawn = np.asarray(self.array[index])
            else:
                drawn = resample_plane(self.array, self.to_labels, index, self.geometry.hw)
            if drawn.any():
                found[plane] = drawn
        if not found and len(self.planes) > 1:
            raise PromptError(f"{self.name} has no label in the stack shown; label some objects first")
        if not found:
            raise PromptError(f"{self.name} has no label on the frame shown; go to the frame on which it has")
        return dict(zip(found, _as_objects(np.stack(list(found.values())), self.name), strict=True))


def _as_objects(drawn: NDArray[Any], name: str) -> NDArray[np.int32]:
    """Labels of a layer as numbers of objects; a mask of 0 and 255 is split into components."""
    if int(drawn.max()) > LARGEST_ID:
        raise PromptError(
            f"{name} has labels up to {int(drawn.max())}; object numbers are limited to {LARGEST_ID}: renumber the "
            "labels first"
        )
    try:
        converted = convert_labels(drawn, name)
    except FrameError as error:
        raise PromptError(str(error)) from error
    converted.warn(name)
    return converted.labels


def training_frames(image: Image, labels: Labels) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.int32]]]:
    """The labelled planes of an image as the model sees them, and their labels.

    Returns
    -------
    frames, labels : list of numpy.ndarray
        One pair for each run of planes that follow each other: (T, H, W, 3) and (T, H, W).

    Raises
    ------
    FrameError
        If the layers differ in shape, or nothing is labelled.
    """
    shown = open_image(image)
    array = _full_resolution(labels)
    geometry = shown.geometry
    if tuple(array.shape) != geometry.shape:
        raise FrameError(
            f"{labels.name} has shape {tuple(array.shape)} and {image.name} {geometry.shape}; choose labels that were "
            "drawn on this image"
        )
    runs: list[list[int]] = []
    found: dict[int, NDArray[np.int32]] = {}
    for plane in range(geometry.num_planes):
        drawn = np.array(array[geometry.index(plane)], np.int32)
        if not drawn.any():
            continue
        found[plane] = drawn
        follows = runs and runs[-1][-1] == plane - 1 and geometry.frame(plane) > 0
        if follows:
            runs[-1].append(plane)
        else:
            runs.append([plane])
    if not runs:
        raise FrameError(f"{labels.name} is empty; label some objects first")
    frames = [np.stack([shown.planes[p] for p in run]) for run in runs]
    return frames, [np.stack([found[p] for p in run]) for run in runs]


def _full_resolution(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


@dataclass(frozen=True)
class Calibration:
    """Arguments of ``export_labels``: distances, units, position and letters of a layer's axes; None if not known."""

    scale: tuple[float, ...] | None
    units: tuple[str, ...] | None
    translation: tuple[float, ...] | None
    axes: str | None


def label_calibration(layer: Labels) -> Calibration:
    """What a layer says about its axes and where it lies."""
    scale = tuple(abs(float(v)) for v in layer.scale)
    translation = tuple(float(v) for v in layer.translate)
    names = tuple(str(unit) for unit in layer.units or ())
    letters = "".join(str(label).upper() for label in layer.axis_labels)
    has_letters = len(letters) == len(scale) and letters.endswith("YX") and set(letters) <= set("TCZYX")
    axes = letters if has_letters and len(set(letters)) == len(letters) else None
    is_calibrated = bool(names) and all(name not in _NO_UNITS for name in names)
    position = translation if any(translation) else None
    if not is_calibrated and all(value == 1 for value in scale):
        return Calibration(None, None, position, axes)
    return Calibration(scale, names if is_calibrated else None, position, axes)
