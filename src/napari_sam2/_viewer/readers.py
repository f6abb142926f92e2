"""Readers for napari: session files, OME images and labels in their place, objects as outlines, tracks and tables."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, PlanesLeftOutWarning, warn_caller
from napari_sam2._messages import in_form_words
from napari_sam2._viewer.image_source import IMAGE_FILE_KEY
from napari_sam2._viewer.measured_points import MEASURED_COLUMNS, measured_points
from napari_sam2._viewer.stacked_files import stacked
from napari_sam2.frames.bioio_files import PLUGINS, is_video
from napari_sam2.frames.czi_files import CZI_SUFFIX
from napari_sam2.frames.files import open_path
from napari_sam2.frames.positions import position_number
from napari_sam2.frames.tiff import TIFF_SUFFIXES, software_of
from napari_sam2.frames.zarr_files import is_zarr, labels_inside, zarr_attributes
from napari_sam2.frames.zarr_zip import ZARR_ZIP_SUFFIXES
from napari_sam2.labels.formats import LABEL_SOFTWARE
from napari_sam2.labels.shapes.reading import SHAPE_SUFFIXES

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sam2.frames.stack import RawStack

__all__ = [
    "IMAGE_ENDINGS",
    "SESSION_KEY",
    "LayerData",
    "get_measurements_reader",
    "get_ome_reader",
    "get_session_reader",
    "get_shapes_reader",
    "get_tracks_reader",
    "in_a_window",
    "open_in_viewer",
    "read_image",
    "read_session_images",
    "read_sessions",
]

LayerData = tuple[Any, dict[str, Any], str]
"""Of a layer: data, keyword arguments and type."""
SESSION_KEY = "napari_sam2_session"
"""In the metadata of a layer that was read from a session file: the path of the file."""

_PLACEMENT_KEYS = ("scale", "units", "axis_labels", "translate")
_TRACK_COLUMNS = frozenset({"track", "frame", "y", "x"})
_LONGEST_HEADER = 4096  # bytes
_MOST_POSITIONS = 32  # of one file that become layers
IMAGE_ENDINGS = (
    *TIFF_SUFFIXES,
    ".zarr",
    *ZARR_ZIP_SUFFIXES,
    CZI_SUFFIX,
    *(suffix for suffix in PLUGINS if not is_video(Path(f"a{suffix}"))),
)
"""Of the images that are read with pixel size, axes and channels, which napari itself leaves out."""
_SHOWN_AS_PYRAMID = 4096  # pixels: an image with levels is shown by them from this side on
_IN_A_WINDOW = {"stack": "open the image and select it in the viewer, then open the session"}
_SHORT_UNITS = {"micrometer": "um", "nanometer": "nm", "millimeter": "mm", "second": "s", "minute": "min"}


def get_session_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Reader of ``.sam2`` files: the image, if it is still there, and the labels."""
    return read_sessions if all(Path(each).suffix.lower() == ".sam2" for each in _paths(path)) else None


def in_a_window(error: FrameError) -> str:
    """What is wrong with the image of a session file, and what to do in a viewer, where nobody calls Python."""
    return in_form_words(error, _IN_A_WINDOW)


def get_ome_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Reader of TIFF, OME-TIFF, OME-Zarr and files of microscopes."""
    return _read_files if all(Path(each).name.lower().endswith(IMAGE_ENDINGS) for each in _paths(path)) else None


def get_tracks_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Reader of tracks with lineage: GEFF, TrackMate XML, and tables with the columns that ``export_tracks`` writes."""
    return _read_tracks if all(_holds_tracks(Path(each)) for each in _paths(path)) else None


def get_measurements_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Reader of tables of measurements: points at the centroids, on the image that is selected."""
    return _read_measurements if all(_columns(Path(each)) >= MEASURED_COLUMNS for each in _paths(path)) else None


def get_shapes_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Reader of objects as ImageJ ROIs, GeoJSON and COCO: a Labels layer on the image that is selected."""
    return _read_shapes if all(_holds_shapes(Path(each)) for each in _paths(path)) else None


def _holds_shapes(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in SHAPE_SUFFIXES or not path.is_file():
        return False
    if suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.lower().endswith(".roi") for name in archive.namelist())
        except (OSError, zipfile.BadZipFile):
            return False
    if suffix == ".json":
        with path.open("rb") as file:
            start = file.read(4096)
        return any(key in start for key in (b'"annotations"', b'"images"', b'"Feature', b'"image_id"'))
    return True


def _read_shapes(path: str | Sequence[str]) -> list[LayerData]:
    from napari_sam2.labels.reading import read_labels

    image = _chosen_image()
    layers: list[LayerData] = []
    for each in _paths(path):
        shape = None if image is None else _planes_shape(image)
        labels = read_labels(each, shape=shape)
        options: dict[str, Any] = {"name": _stem(Path(each))}
        if image is not None:
            options |= _placed_on(image, labels.ndim)
        layers.append((labels, options, "labels"))
    return layers


def _chosen_image() -> Image | None:
    """The image that is selected in the viewer, else the topmost one; None without viewer or images."""
    from napari import current_viewer
    from napari.layers import Image

    viewer = current_viewer()
    if viewer is None:
        return None
    images = [layer for layer in viewer.layers if isinstance(layer, Image)]
    chosen = [layer for layer in images if layer in viewer.layers.selection] or images
    return chosen[-1] if chosen else None


def _placed_on(image: Image, ndim: int) -> dict[str, Any]:
    """Options of a layer whose axes are the last ones of an image; nothing if the image has fewer."""
    if image.ndim < ndim:
        return {}
    return {key: tuple(getattr(image, key))[-ndim:] for key in _PLACEMENT_KEYS}


def _planes_shape(image: Image) -> tuple[int, ...]:
    """(T, Z, H, W), (T, H, W) or (H, W) of an image layer."""
    shape = tuple(int(n) for n in (image.data[0] if image.multiscale else image.data).shape)
    return (shape[:-1] if image.rgb else shape)[-4:]


def _columns(path: Path) -> frozenset[str]:
    """Names of the columns of a CSV file; empty for any other file."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return frozenset()
    with path.open("rb") as file:
        line = file.read(_LONGEST_HEADER).partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    return frozenset(name.strip().strip('"') for name in line.split(","))


def _holds_tracks(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix != ".xml" or not path.is_file():
        return suffix == ".geff" or _columns(path) >= _TRACK_COLUMNS
    with path.open("rb") as file:
        return b"<TrackMate" in file.read(_LONGEST_HEADER)


def _read_tracks(path: str | Sequence[str]) -> list[LayerData]:
    from napari_sam2.labels.track_files import are_in_pixels, read_tracks

    image = _chosen_image()
    layers: list[LayerData] = []
    for each in _paths(path):
        tracks = read_tracks(each)
        if not len(tracks):
            raise FrameError(f"{each} holds no tracks; a Tracks layer needs at least one")
        rows = np.column_stack((tracks.ids, tracks.frames, tracks.centres))
        graph = {daughter: [parent] for daughter, parent in tracks.parents.items()}
        options = {"name": _stem(Path(each)), "graph": graph, "features": {"area": tracks.areas}}
        if image is not None and are_in_pixels(each):
            options |= _placed_on(image, rows.shape[1] - 1)
        layers.append((rows, options, "tracks"))
    return layers


def _read_measurements(path: str | Sequence[str]) -> list[LayerData]:
    image = _chosen_image()
    layers: list[LayerData] = []
    for each in _paths(path):
        points, options = measured_points(Path(each), () if image is None else tuple(image.scale))
        if image is not None:
            options |= _placed_on(image, points.shape[1])
        layers.append((points, {"name": _stem(Path(each)), **options}, "points"))
    return layers


def read_image(path: str | Path, *, position: int | str | None = None) -> list[LayerData]:
    """Read an image or label file lazily, as layers with scale, units and axis names.

    Parameters
    ----------
    path : str or Path
        Anything ``open_frames`` reads.
    position : int or str, optional
        Number or name of the position that is read, of several. Default: all, on a slider, or as layers of their own
        if they differ in size, of which the first is visible; of a file that is one of several positions, that one.

    Returns
    -------
    list of (data, options, type)
        One Image or Labels layer; an axis of channels becomes layers of their own.

    Raises
    ------
    FrameError
        If the file cannot be read.
    """
    place = Path(path).expanduser()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanesLeftOutWarning)  # all are read
        stack = open_path(place, position=position)
    if stack.has_several_sizes and position is None:
        return _every_position(place, len(stack.position_names))
    if isinstance(position, str):
        position = position_number(position, stack.position_names, len(stack.position_names), place)
    title = f"position {position}"
    if position is not None and position < len(stack.position_names):
        title = stack.position_names[position] or title
    stack = stack.at_position(position)
    axes = (stack.axes or "").upper()
    shape = tuple(int(n) for n in stack.array.shape)
    if len(axes) != len(shape):
        axes = "?" * (len(shape) - 2) + "YX"
    name = _stem(place)
    array = _lazy(stack.array)
    levels = _levels(place, stack, axes, position)
    if position is not None:
        name = f"{name} {title}"
    options: dict[str, Any] = {"name": name}
    if stack.is_rgb and axes[-1] in "CS":
        return [(array, {**options, "rgb": True, **_placement(axes[:-1], stack)}, "image")]
    if _holds_labels(place, stack):
        dropped = [axis for axis, letter in enumerate(axes) if letter in "CS" and shape[axis] == 1]
        for axis in reversed(dropped):
            array, axes = array[(slice(None),) * axis + (0,)], axes[:axis] + axes[axis + 1 :]
        return [(array, {**options, **_colours(place), **_placement(axes, stack)}, "labels")]
    if "C" in axes:
        at = axes.index("C")
        rest = axes.replace("C", "")
        return [
            (
                _of_levels([each[(slice(None),) * at + (channel,)] for each in (array, *levels)]),
                {**_channel(stack, channel, shape[at], name), **_placement(rest, stack)},
                "image",
            )
            for channel in range(shape[at])
        ]
    return [(_of_levels([array, *levels]), {**options, **_placement(axes, stack)}, "image")]


def _levels(path: Path, stack: RawStack, axes: str, position: int | None) -> list[Any]:
    """The coarser levels of a large image."""
    sides = [size for axis, size in zip(axes, stack.array.shape, strict=False) if axis in "YX"]
    if stack.num_levels == 1 or max(sides, default=0) < _SHOWN_AS_PYRAMID:
        return []
    coarser = [open_path(path, level, position=position).at_position(position) for level in range(1, stack.num_levels)]
    return [_lazy(level.array) for level in coarser if len(level.array.shape) == len(stack.array.shape)]


def _of_levels(arrays: list[Any]) -> Any:
    """Data of a layer: an array, or a list of those of several levels."""
    return arrays if len(arrays) > 1 else arrays[0]


def _every_position(path: Path, count: int) -> list[LayerData]:
    """Images that differ in size as layers; the first is visible."""
    if count > _MOST_POSITIONS:
        warn_caller(
            f"{path} holds {count} images that differ in size; the first {_MOST_POSITIONS} are opened (napari-sam2 "
            f"gui {path.name} --fix P={_MOST_POSITIONS} opens another one)"
        )
    layers: list[LayerData] = []
    for position in reversed(range(min(count, _MOST_POSITIONS))):  # the first on top, where it is the active layer
        for data, options, kind in read_image(path, position=position):
            if position > 0:
                options |= {"visible": False}
                if kind == "image" and not options.get("rgb"):  # napari's are those of a slice, once one is shown
                    options["contrast_limits"] = _limits(data)
            layers.append((data, options, kind))
    return layers


def _limits(data: Any) -> tuple[float, float]:
    """Least and greatest value of the middle plane of an image, at its coarsest level."""
    array = data[-1] if isinstance(data, list) else data
    plane = np.asarray(array[tuple(size // 2 for size in array.shape[:-2])])
    finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high if high > low else low + 1


def open_in_viewer(viewer: ViewerModel, file: Path, position: int | str | None = None) -> None:
    """Open a file through the readers of this package, which keep pixel size and axes, or else through napari's.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers are added.
    file : Path
        An existing file.
    position : int or str, optional
        Number or name of the only position that is opened. Default: all.
    """
    if position is not None:
        for data, options, kind in read_image(file, position=position):
            options["metadata"] = {IMAGE_FILE_KEY: str(file)}
            getattr(viewer, f"add_{kind}")(data, **options)
    elif file.name.lower().endswith((*IMAGE_ENDINGS, ".sam2")):
        viewer.open(str(file), plugin="napari-sam2")  # by default it is napari's own, whichever others there are
    else:
        viewer.open(str(file))


def _channel(stack: RawStack, channel: int, num_channels: int, name: str) -> dict[str, Any]:
    """Name and colour of a channel, those of the file where it has them."""
    given = stack.channel_names[channel] if len(stack.channel_names) == num_channels else ""
    options: dict[str, Any] = {"name": f"{name} {given or channel}" if num_channels > 1 else name}
    if num_channels > 1 and _are_distinct(stack.channel_colours, num_channels):
        options |= {"colormap": stack.channel_colours[channel], "blending": "additive"}
    return options


def _are_distinct(colours: Sequence[str], num_channels: int) -> bool:
    """Whether a file colours its channels: black shows nothing, and white for all is what some programs fill in."""
    return len(colours) == num_channels and set(colours) != {"#ffffff"} and "#000000" not in colours


def _read_files(path: str | Sequence[str]) -> list[LayerData]:
    paths = _paths(path)
    files = [[*read_image(each), *_labels_inside(Path(each))] for each in paths]
    return files[0] if len(files) == 1 else stacked(paths, files)  # napari gives several for a stack only


def _labels_inside(image: Path) -> list[LayerData]:
    """The label images of an OME-Zarr image, to be shown over it."""
    place = image.expanduser()
    return [layer for labels in labels_inside(place) for layer in read_image(labels)] if is_zarr(place) else []


def read_sessions(path: str | Sequence[str]) -> list[LayerData]:
    """The image of each session file, if it is still there, and the labels of its objects.

    Raises
    ------
    NapariSAM2Error
        If a session file or its image cannot be read.
    """
    from napari.layers import Image

    from napari_sam2._viewer.saved_sessions import open_saved_session

    layers: list[LayerData] = []
    for each in _paths(path):
        read, chosen = _images_of_session(each)
        images = [Image(data, **options) for data, options, _ in read]
        # the model is never used: without it, an unavailable one is warned of
        session, _ = open_saved_session(each, images[chosen], images, model="sam2_micro")
        try:
            labels = np.asarray(session.labels)
        finally:
            session.close()
        layers += read
        of_labels: dict[str, Any] = {key: value for key, value in read[chosen][1].items() if key in _PLACEMENT_KEYS}
        name = f"{_stem(Path(each))} objects"
        layers.append((labels, {"name": name, "metadata": {SESSION_KEY: str(each)}, **of_labels}, "labels"))
    return layers


def read_session_images(path: str) -> list[LayerData]:
    """The image of a session file as layers, without the objects; raises as `read_sessions`."""
    return _images_of_session(path)[0]


def _images_of_session(path: str) -> tuple[list[LayerData], int]:
    """The layers of the image of a session file, and which of them has its shape, the first otherwise."""
    from napari_sam2.session.files.database import read_header
    from napari_sam2.session.files.document import find_image

    file, shape = find_image(path), read_header(Path(path)).image.shape
    layers = [layer for layer in read_image(file) if layer[2] == "image"]
    if not layers:
        raise FrameError(f"{file}, the image of {path}, holds labels; expected an image")
    chosen = next((at for at, (data, _, _) in enumerate(layers) if _has_level_of(data, shape)), 0)
    has_several_sizes = any("visible" in options for _, options, _ in layers)
    for at, (_, options, _) in enumerate(layers):
        options["metadata"] = {IMAGE_FILE_KEY: file}
        if has_several_sizes:  # that of the session is seen
            options["visible"] = at == chosen
    return layers, chosen


def _has_level_of(data: Any, shape: tuple[int, ...]) -> bool:
    """Whether the data of a layer, or one of its levels, have a shape, without colours."""
    levels = data if isinstance(data, list) else [data]
    return any(tuple(int(n) for n in level.shape[: len(shape)]) == shape for level in levels)


def _paths(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _stem(path: Path) -> str:
    """The name without its endings: "cells" of "cells.ome.tif"."""
    name = path.name
    zarr_ending = ".zarr" if name.lower().endswith(ZARR_ZIP_SUFFIXES) else ""
    for ending in (path.suffix, zarr_ending, ".ome"):
        name = name.removesuffix(ending)
    return name or path.name


def _lazy(array: Any) -> Any:
    """As a dask array, so that napari reads one plane at a time from any source."""
    import dask.array as da

    if isinstance(array, np.ndarray):
        return array
    plane = tuple(array.shape[-2:])
    if max(plane) >= _SHOWN_AS_PYRAMID:  # of large planes, the chunks that are seen
        plane = tuple(getattr(array, "chunks", plane)[-2:])
    chunks = (1,) * (len(array.shape) - 2) + plane
    meta = np.empty((0,) * len(array.shape), np.dtype(array.dtype))
    return da.from_array(array, chunks=chunks, asarray=True, lock=True, meta=meta)


def _holds_labels(path: Path, stack: RawStack) -> bool:
    """Whether a file holds labels: it says so (OME-Zarr, our TIFF), or has integers wider than any camera's."""
    if is_zarr(path):
        attributes = zarr_attributes(path)
        ome = attributes.get("ome")
        return "image-label" in attributes or (isinstance(ome, dict) and "image-label" in ome)
    if stack.dtype.kind not in "iu":
        return False
    is_ours = path.suffix.lower() in (".tif", ".tiff") and path.is_file() and software_of(path) == LABEL_SOFTWARE
    return is_ours or stack.dtype.itemsize >= 4


def _colours(path: Path) -> dict[str, Any]:
    """The colours that the metadata of OME-Zarr labels lists for objects; other objects get napari's."""
    if not is_zarr(path):
        return {}
    from napari_sam2.labels.colours import object_colour

    attributes = zarr_attributes(path)
    ome = attributes.get("ome", attributes)
    label = ome.get("image-label") if isinstance(ome, dict) else None
    listed = label.get("colors") if isinstance(label, dict) else None
    colours: dict[int | None, Any] = {None: np.array((*object_colour(1), 255)) / 255, 0: np.zeros(4)}
    for entry in listed if isinstance(listed, list) else ():
        value, rgba = entry.get("label-value"), entry.get("rgba")
        if isinstance(value, int) and isinstance(rgba, list) and len(rgba) == 4:
            colours[value] = np.clip(np.array(rgba, float) / 255, 0, 1)
    if len(colours) == 2:
        return {}
    from napari.utils.colormaps import DirectLabelColormap

    return {"colormap": DirectLabelColormap(color_dict=colours)}


def _placement(axes: str, stack: RawStack) -> dict[str, Any]:
    """Scale, units, position and axis names of the axes that are left."""
    found: dict[str, Any] = {}
    if "?" not in axes:
        found["axis_labels"] = tuple(letter.lower() for letter in axes)
    sizes = [stack.voxel_size.get(letter) for letter in axes]
    if any(size is not None for size in sizes):
        found["scale"] = tuple(1.0 if size is None else float(size.value) for size in sizes)
        names = ["" if size is None else size.unit for size in sizes]
        found["units"] = tuple(_SHORT_UNITS.get(unit, unit) or "pixel" for unit in names)
    if stack.translation:
        found["translate"] = tuple(float(stack.translation.get(letter, 0.0)) for letter in axes)
    return found
