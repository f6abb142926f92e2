"""OME-Zarr metadata of versions 0.1 to 0.6: axes, distances, channels, plates and labels, from a group's attributes.

The pixels are zarr-python's. Of the libraries for the metadata none reads all versions with what napari needs:
ome-zarr-models has public models of 0.4 and 0.5 and asks for an older pydantic, ome-zarr reads 0.1 to 0.5 and brings
clients for S3 and HTTP, ngff-zarr reads 0.6 and brings a WebAssembly runtime.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2._messages import shown
from napari_sam2.frames.axes import axis_of_word, letter_of_unknown_word
from napari_sam2.frames.ngff_transforms import AxisMapping, is_list, kinds_of, map_axes
from napari_sam2.frames.spacing import Spacing, read_distance, unit_name

__all__ = [
    "NgffImage",
    "NgffLevel",
    "axis_letters",
    "field_paths",
    "label_names",
    "read_image",
    "series_paths",
    "well_paths",
]

_VERSION = re.compile(r"0\.[1-6]([.+-].*|(dev|rc|a|b).*)?")
_COLOUR = re.compile(r"[0-9a-f]{6}([0-9a-f]{2})?")
_MAX_LEVELS = 100
_LETTER_OF_TYPE = {"time": "T", "channel": "C"}


@dataclass(frozen=True)
class NgffLevel:
    """One resolution of an image.

    Attributes
    ----------
    path : str
        Of the array within the group.
    voxel_size : dict of str to Spacing
        Distances by axis letter, where they are known.
    translation : dict of str to float
        Position of the first pixel by axis letter, in the units of ``voxel_size``; empty where it is 0.
    """

    path: str
    voxel_size: dict[str, Spacing]
    translation: dict[str, float]


@dataclass(frozen=True)
class NgffImage:
    """What a group says about its image.

    Attributes
    ----------
    axes : str or None
        One letter per axis; None before version 0.3, where it was TCZYX or the last of these.
    levels : tuple of NgffLevel
        In the order of the metadata, which should be finest first.
    channel_names : tuple of str
        Empty where the file names none.
    channel_colours : tuple of str
        As ``"#rrggbb"``, one for each channel; empty where the file has not one for each.
    """

    axes: str | None
    levels: tuple[NgffLevel, ...]
    channel_names: tuple[str, ...]
    channel_colours: tuple[str, ...]


def read_image(attributes: Mapping[str, object], name: str) -> NgffImage | None:
    """The image that a group's attributes describe; None if they describe none.

    Parameters
    ----------
    attributes : mapping
        Of the zarr group.
    name : str
        What messages call the group.

    Raises
    ------
    FrameError
        If the version is not known, or the metadata is damaged.
    """
    ome = _ome(attributes)
    images = _list(ome.get("multiscales"))
    if not images:
        return None
    image = _dict(images[0])
    version = ome.get("version", image.get("version"))
    if version is not None and not _VERSION.fullmatch(str(version)):
        raise FrameError(
            f"{name} is OME-Zarr of version {shown(version)}; versions 0.1 to 0.6 can be read: update napari-sam2, "
            "or give the array inside itself with axes="
        )
    axes, units = _axes(image)
    datasets = _list(image.get("datasets"))
    if len(datasets) > _MAX_LEVELS:
        raise FrameError(f"the OME-Zarr metadata of {name} lists {len(datasets):,} levels; export the image again")
    entries = [_dict(dataset) for dataset in datasets]
    levels = tuple(_level(entry, image, axes, units, name) for entry in entries)
    channels = _channels(ome.get("omero"), name)
    labels = tuple(str(channel.get("label") or "") for channel in channels)
    colours = tuple(str(channel.get("color", "")).lstrip("#").lower() for channel in channels)
    has_colours = all(_COLOUR.fullmatch(colour) for colour in colours)
    return NgffImage(
        None if axes is None else _stored_axes(entries, image, axes, name),
        levels,
        labels if any(labels) else (),
        tuple(f"#{colour[:6]}" for colour in colours) if has_colours else (),
    )


def _channels(omero: object, name: str) -> list[dict[str, object]]:
    """What ``omero`` says of each channel; nothing, with a warning, where it is damaged: the pixels do not need it."""
    try:
        return [_dict(channel) for channel in _list(_dict(omero).get("channels"))]
    except FrameError as error:
        warn_caller(f"names and colours of the channels of {name} are not known: {error}")
        return []


def label_names(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the label images in a ``labels`` group."""
    return tuple(str(label) for label in _list(_ome(attributes).get("labels")))


def well_paths(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Paths of the wells of a plate; empty if the group is none."""
    return _paths(_dict(_ome(attributes).get("plate")).get("wells"))


def field_paths(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Paths of the fields (images) of a well; empty if the group is none."""
    return _paths(_dict(_ome(attributes).get("well")).get("images"))


def series_paths(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Paths of the images of a converted file, in their order, from its group ``OME``; empty if it names none."""
    return tuple(str(path) for path in _list(_ome(attributes).get("series")))


def _ome(attributes: Mapping[str, object]) -> dict[str, object]:
    return _dict(attributes.get("ome", attributes))  # nested since version 0.5


def _paths(entries: object) -> tuple[str, ...]:
    return tuple(str(_dict(entry)["path"]) for entry in _list(entries) if "path" in _dict(entry))


def _axes(image: Mapping[str, object]) -> tuple[str | None, list[str]]:
    """Letters and units of an image's axes."""
    axes = _list(image.get("axes"))
    if not axes:
        systems = [_dict(system) for system in _list(image.get("coordinateSystems"))]  # since version 0.6
        axes = _list(_system(image, systems).get("axes")) if systems else []
    if not axes:
        return None, []
    entries = [{"name": axis} if isinstance(axis, str) else _dict(axis) for axis in axes]
    return axis_letters(entries), [unit_name(str(entry.get("unit") or "")) for entry in entries]


def axis_letters(entries: Sequence[Mapping[str, object]]) -> str:
    """One letter per axis by its type and name; raises FrameError for one without a name."""
    letters = ""
    for entry in entries:
        word = str(entry.get("name", ""))
        if not word:
            raise FrameError("the OME-Zarr metadata has an axis without a name; export the image again")
        known = _LETTER_OF_TYPE.get(str(entry.get("type", ""))) or axis_of_word(word)
        letters += known or letter_of_unknown_word(word, letters)
    return letters


def _system(image: Mapping[str, object], systems: Sequence[dict[str, object]]) -> dict[str, object]:
    """The coordinate system that the levels are mapped to; by default the first."""
    for dataset in _list(image.get("datasets")):
        for transform in _list(_dict(dataset).get("coordinateTransformations")):
            output = _dict(transform).get("output")
            wanted = output.get("name") if isinstance(output, Mapping) else output
            for system in systems:
                if wanted is not None and system.get("name") == wanted:
                    return system
    return systems[0]


def _steps(dataset: Mapping[str, object], image: Mapping[str, object]) -> list[object]:
    """The transformations of a level, one after the other."""
    steps = _list(dataset.get("coordinateTransformations"))
    if not image.get("coordinateSystems"):  # since 0.6 those of the image lead to further coordinate systems
        steps = steps + _list(image.get("coordinateTransformations"))
    return steps


def _mapping(steps: Sequence[object], axes: str, name: str) -> AxisMapping | None:
    """What transformations make of the axes; None, with a warning, where that cannot be said."""
    lengths = {len(_list(_dict(step).get(kind))) for step in steps for kind in ("scale", "translation")} - {0}
    if lengths - {len(axes)}:
        warn_caller(
            f"the pixel size of {name} is not known: its scale does not have one number for each of the axes {axes}"
        )
        return None
    mapping = map_axes(steps, len(axes))
    if mapping is None:
        warn_caller(
            f"{name} has a transformation that is more than distances and an order of axes "
            f"({', '.join(kinds_of(steps))}); it is read as it is stored, and its pixel size is not known"
        )
    return mapping


def _stored_axes(entries: Sequence[Mapping[str, object]], image: Mapping[str, object], axes: str, name: str) -> str:
    """Letters in the order of the arrays' axes, which transformations may map to others of the coordinate system."""
    orders = set()
    for entry in entries:
        mapping = map_axes(_steps(entry, image), len(axes))
        orders.add(tuple(range(len(axes))) if mapping is None else mapping.axes)
    if len(orders) > 1:
        raise FrameError(f"the levels of {name} have their axes in different orders; export the image again")
    return "".join(axes[i] for order in orders for i in order) or axes


def _level(
    dataset: Mapping[str, object], image: Mapping[str, object], axes: str | None, units: Sequence[str], name: str
) -> NgffLevel:
    path = str(dataset.get("path", ""))
    if not path:
        raise FrameError(f"the OME-Zarr metadata of {name} has a level without a path; export the image again")
    steps = _steps(dataset, image)
    mapping = None if axes is None or not steps else _mapping(steps, axes, name)
    if axes is None or mapping is None:
        return NgffLevel(path, {}, {})
    voxel_size, translation = {}, {}
    for axis, factor, shift, unit in zip(axes, mapping.scale, mapping.shift, units, strict=True):
        value = read_distance(factor, axis, name) if axis != "C" and (unit or factor != 1) else None
        if value is not None:
            voxel_size[axis] = Spacing(value, unit)
        if axis != "C" and shift and math.isfinite(shift):
            translation[axis] = shift
    return NgffLevel(path, voxel_size, translation)


def _dict(value: object) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FrameError(
            f"the OME-Zarr metadata holds {json.dumps(value, default=str)[:80]} where an object is expected"
        )
    return dict(value)


def _list(value: object) -> list[object]:
    return list(value) if is_list(value) else []
