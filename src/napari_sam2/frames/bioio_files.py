"""Files of microscopes and videos through bioio and its plugins (extra ``formats``), as lazily read stacks."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from napari_sam2._errors import FrameError
from napari_sam2._messages import one_line
from napari_sam2.frames.positions import one_of_several, position_number, stack_of_positions, warn_of_others
from napari_sam2.frames.spacing import Spacing, read_distance
from napari_sam2.frames.stack import LazyArray, RawStack

if TYPE_CHECKING:
    from bioio import BioImage
    from bioio_base.dimensions import Dimensions
    from bioio_base.reader import Reader

__all__ = ["PLUGINS", "is_video", "open_bioio"]

PLUGINS = {
    ".nd2": ("a Nikon ND2", "bioio-nd2"),
    ".dv": ("a DeltaVision", "bioio-dv"),
    ".r3d": ("a DeltaVision", "bioio-dv"),
    ".mp4": ("a video", "bioio-imageio"),
    ".avi": ("a video", "bioio-imageio"),
    ".mov": ("a video", "bioio-imageio"),
    ".mkv": ("a video", "bioio-imageio"),
    ".lif": ("a Leica LIF", "bioio-lif"),
    ".sldy": ("a SlideBook", "bioio-sldy"),
    ".oir": ("an Olympus OIR", "bioio-bioformats"),
    ".vsi": ("an Olympus VSI", "bioio-bioformats"),
    ".oib": ("an Olympus OIB", "bioio-bioformats"),
    ".ims": ("an Imaris", "bioio-bioformats"),
}
"""Suffix to (what it is, the plugin that reads it)."""

_CHUNKED_BY_VOLUME = ("bioio-lif",)  # these read a whole z-stack for one plane, unless they are told
_EXTRA = ("bioio-nd2", "bioio-dv", "bioio-imageio")  # those with a permissive licence


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name."""
    return PLUGINS.get(path.suffix.lower(), ("", ""))[1] == "bioio-imageio"


def open_bioio(path: Path, position: int | str | None = None) -> RawStack:
    """Describe a file that a plugin of bioio reads, without reading its pixels.

    Parameters
    ----------
    path : Path
        An existing file with one of the suffixes of `PLUGINS`.
    position : int or str, optional
        Number or name of the scene that is opened, if scenes differ in size. Default: the first, with a warning.

    Returns
    -------
    RawStack
        Scenes are positions, axis P, if there are several; those of one size can all be read.

    Raises
    ------
    FrameError
        If the plugin is not installed, or the file is damaged.
    """
    kind, plugin = PLUGINS[path.suffix.lower()]
    package = "'napari-sam2[formats]'" if plugin in _EXTRA else f"bioio {plugin}"
    advice = f"{path} is {kind} file; to read it: pip install {package}, or export it as OME-TIFF"
    try:
        from bioio import BioImage
        from bioio_base.exceptions import UnsupportedFileFormatError
    except ImportError as error:
        raise FrameError(advice) from error
    reader = _reader(plugin)
    options = {"chunk_dims": ["Y", "X", "S"]} if reader is not None and plugin in _CHUNKED_BY_VOLUME else {}
    try:
        with _unlogged("bioio"):  # it logs each plugin that fails, which the error says too
            image = BioImage(path, reader=reader, **options)
        return _describe(image, path, position)
    except FrameError:
        raise
    # each plugin fails in the ways of the library behind it
    except Exception as error:
        if reader is None and isinstance(error, UnsupportedFileFormatError):
            raise FrameError(advice) from error
        raise FrameError(
            f"{path} cannot be read by {plugin} ({one_line(error)}); check or copy the file again"
        ) from error


def _reader(plugin: str) -> type[Reader] | None:
    """The reader of a plugin, which bioio itself would choose by suffix only; None if it is not installed."""
    try:
        reader: type[Reader] = importlib.import_module(plugin.replace("-", "_")).Reader
    except ImportError:  # another plugin may read the file
        return None
    return reader


@contextlib.contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """No warnings of a library's loggers within the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _describe(image: BioImage, path: Path, position: int | str | None) -> RawStack:
    names = [str(name) for name in image.scenes]
    scenes = [_scene(image, number) for number in range(len(names))]
    sizes = [f"{scene.dims.order} {' x '.join(map(str, scene.array.shape))}, {scene.array.dtype}" for scene in scenes]
    if len(set(sizes)) > 1:
        number = 0 if position is None else position_number(position, names, len(names), path)
        if position is None:
            warn_of_others(path, names, sizes, number)
        image.set_scene(number)
        return one_of_several(_stack(image, path, scenes[number]), number, names)
    image.set_scene(0)
    stacks = [_stack(image, path, scene) for scene in scenes]
    return stacks[0] if len(stacks) == 1 else stack_of_positions(stacks, names)


class _Scene(NamedTuple):
    """Pixels of a scene, and its dimensions."""

    array: LazyArray
    dims: Dimensions


def _scene(image: BioImage, number: int) -> _Scene:
    image.set_scene(number)
    return _Scene(image.dask_data, image.dims)


def _stack(image: BioImage, path: Path, scene: _Scene) -> RawStack:
    """A scene, with the metadata of the scene that is selected."""
    axes, array, has_colours = str(scene.dims.order), scene.array, "S" in scene.dims.order
    if has_colours:  # bioio keeps the channel axis beside the colours
        at = axes.index("C")
        axes, array = axes[:at] + axes[at + 1 :], array[(slice(None),) * at + (0,)]
    voxel_size = {}
    for axis in "ZYX":
        value = read_distance(getattr(image.physical_pixel_sizes, axis), axis, path)
        if value is not None:
            voxel_size[axis] = Spacing(value, "micrometer")
    names = () if has_colours else tuple(str(name) for name in image.channel_names or ())
    return RawStack(array, str(path), "bioio", axes, voxel_size, has_colours, channel_names=names)
