"""OME-Zarr 0.1 to 0.6 and plain zarr arrays, on zarr 2 and zarr 3 stores, as lazily read stacks."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2._errors import FrameError, PlanesLeftOutWarning, warn_caller
from napari_sam2._messages import one_line, shown
from napari_sam2.frames.axes import axis_of_word
from napari_sam2.frames.ngff import NgffLevel, field_paths, label_names, read_image, series_paths, well_paths
from napari_sam2.frames.stack import READ_ERRORS, RawStack
from napari_sam2.frames.zarr_zip import zipped_zarr

if TYPE_CHECKING:
    import zarr

__all__ = [
    "is_zarr",
    "is_zarr_folder",
    "labels_inside",
    "open_zarr",
    "open_zarr_node",
    "open_zarr_url",
    "plate_fields",
    "zarr_attributes",
]

_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_MAX_CHUNK_BYTES = 2**29
_MAX_PLANE_PIXELS = 2**36
_MAX_SMALL_CHUNKS = 100_000  # of one plane, if they are smaller than the next
_SMALL_CHUNK_PIXELS = 64 * 64
_SHOWN = 8  # names in a message
_MAX_LISTED = 1000  # files of a folder that are looked at
_MAX_TRIED = 1000  # wells, fields or images of which the first that is there is looked for


def is_zarr_folder(path: Path) -> bool:
    """Whether a folder holds the metadata of a zarr group or array; False if it cannot be searched."""
    return any(os.path.exists(path / name) for name in _METADATA_FILES[:3])  # noqa: PTH110 - tells no errors


def is_zarr(path: Path) -> bool:
    """Whether a path is such a folder, or is or lies in a zip file that holds one."""
    return is_zarr_folder(path) or zipped_zarr(path) is not None


def zarr_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a group or array in a folder or zip file; raises FrameError if it cannot be read."""
    with _told_errors(path):
        return dict(_open_node(path).attrs.asdict())


def labels_inside(image: Path) -> tuple[Path, ...]:
    """The label images of an OME-Zarr image that are there, as it lists them; raises FrameError if damaged."""
    import zarr

    with _told_errors(image):
        node = _open_node(image)
        group = node.get("labels") if isinstance(node, zarr.Group) else None
        if not isinstance(group, zarr.Group):
            return ()
        names = [name for name in label_names(group.attrs.asdict()) if group.get(name) is not None]
    return tuple(image / "labels" / name for name in names)


def _open_node(path: Path) -> zarr.Group | zarr.Array[Any]:
    """The group or array at a path, of which nothing is read that is too large; errors are those of zarr."""
    import zarr

    from napari_sam2.frames.zarr_store import GuardedStore, GuardedZipStore

    place = zipped_zarr(path)
    if place is None:
        return zarr.open(GuardedStore(path), mode="r", use_consolidated=False)
    store, inner = GuardedZipStore(place.archive), place.node_path()
    try:
        return zarr.open(store, path=inner, mode="r", use_consolidated=False)
    except FileNotFoundError as error:
        raise FrameError(
            f"{place.inner or 'a zarr'} is not in {place.archive}; check the path in the zip file"
        ) from error


@contextmanager
def _told_errors(path: Path) -> Iterator[None]:
    """Errors of zarr within the context are FrameErrors."""
    try:
        yield
    except FrameError:
        raise
    except READ_ERRORS as error:
        again = "folder" if path.is_dir() else "file"
        raise FrameError(
            f"{path} cannot be read as zarr ({one_line(error)}); check or copy the {again} again"
        ) from error


def open_zarr(path: Path, level: int = 0) -> RawStack:
    """Describe one level of an OME-Zarr image, or a plain zarr array, without reading its pixels.

    Parameters
    ----------
    path : Path
        Folder of the group or array, or zip file with one (``.ozx``, ``.zarr.zip``), or a path within that; of a plate
        the first field is read, with a warning.
    level : int, default 0
        Level of a multiscale image; 0 is the full resolution.

    Returns
    -------
    RawStack
        With axes and scale where the metadata gives them.

    Raises
    ------
    FrameError
        If the metadata is damaged or of an unknown version, holds no image, claims more than it can hold, or has no
        such level.
    """
    import zarr

    with _told_errors(path):
        stack = open_zarr_node(_open_node(path), level, str(path))
        if isinstance(stack.array, zarr.Array):
            stack = replace(stack, array=_with_its_chunks(stack.array))
    place = zipped_zarr(path)
    stats = [(path / name).stat() for name in _METADATA_FILES if (path / name).is_file()]
    stats.append((path if place is None else place.archive).stat())
    stamp = ",".join(f"{s.st_mtime_ns}-{s.st_size}" for s in stats)
    key = f"zarr:{path.resolve()}:{stamp}:{level}:{stack.name}"
    return replace(stack, key=key, path=path / Path(stack.name).relative_to(path))


def _with_its_chunks(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The array, whose chunks are checked when they are read, and read from nested folders where they lie in such.

    Warns if it has none.
    """
    from zarr.core.metadata import ArrayV2Metadata

    from napari_sam2.frames.zarr_store import GuardedStore, GuardedZipStore, chunk_claims

    store = array.store
    if isinstance(store, GuardedZipStore):
        folder, listed = store.path / array.path, store.names_in(array.path)
    elif isinstance(store, GuardedStore):
        folder = store.root / array.path
        listed = (entry.name for entry in folder.iterdir())
    else:
        raise FrameError(f"{array.name} was opened as {store}, which does not check what it reads; report this")
    store.claims = chunk_claims(array)
    names = [name for name in itertools.islice(listed, _MAX_LISTED) if name not in _METADATA_FILES]
    metadata = array.metadata
    if not names and array.ndim > 1 and folder.parent.parent.name != "labels":  # labels may be empty
        warn_caller(
            f"{folder} holds no chunk, so that all its pixels are the fill value {array.fill_value}; if the image is "
            "not empty, copy the file again"
        )
    is_nested = bool(names) and array.ndim > 1 and all(name.isdecimal() for name in names)
    if not is_nested or not isinstance(metadata, ArrayV2Metadata) or metadata.dimension_separator != ".":
        return array
    nested = replace(metadata, dimension_separator="/")
    return type(array)(type(array.async_array)(metadata=nested, store_path=array.store_path))


def plate_fields(path: Path) -> tuple[Path, ...]:
    """Folders of all images of an OME-Zarr plate, of a well, or of a file that bioformats2raw converted.

    Parameters
    ----------
    path : Path
        Folder of the plate or well, or zip file with one.

    Returns
    -------
    tuple of Path
        Well by well in the order of the metadata, each for `open_zarr`; empty for any other zarr. Wells and fields
        that the metadata names and that are not there are left out, with a warning.

    Raises
    ------
    FrameError
        If the folder cannot be read as zarr.
    """
    import zarr

    with _told_errors(path):
        node = _open_node(path)
        if not isinstance(node, zarr.Group):
            return ()
        attributes = node.attrs.asdict()
        wells = well_paths(attributes)
        fields = [field for well in wells for field in _fields(node, well)]
        if not wells:
            fields = list(field_paths(attributes) or _converted(node))
        is_there = [isinstance(node.get(path), zarr.Group) for path in fields]
    missing = [field for field, here in zip(fields, is_there, strict=True) if not here]
    if missing:
        warn_caller(f"{path} lists wells or fields that do not exist; they are skipped: {', '.join(missing[:_SHOWN])}")
    return tuple(path / field for field, here in zip(fields, is_there, strict=True) if here)


def _fields(plate: zarr.Group, well: str) -> list[str]:
    """Paths of the fields of a well within its plate; of a well that is not there, its own path."""
    import zarr

    group = plate.get(well)
    return [f"{well}/{name}" for name in field_paths(group.attrs.asdict())] if isinstance(group, zarr.Group) else [well]


def open_zarr_url(url: str, level: int = 0) -> RawStack:
    """Describe an OME-Zarr image or zarr array at an address (``https://``, ``s3://``, ``gs://``); see `open_zarr`."""
    import zarr

    try:
        store = zarr.storage.FsspecStore.from_url(url, read_only=True)
        return open_zarr_node(zarr.open(store, mode="r"), level, url)
    except FrameError:
        raise
    except ImportError as error:
        raise FrameError(
            f"{url} cannot be read: {one_line(error)}; install what reads it: pip install 'napari-sam2[remote]'"
        ) from error
    # fsspec's clients (aiohttp, botocore, gcsfs) have families of errors of their own
    except Exception as error:
        raise FrameError(
            f"{url} cannot be read as zarr ({one_line(error)}); check the address and the network"
        ) from error


def open_zarr_node(node: zarr.Group | zarr.Array[Any], level: int = 0, name: str = "the zarr group") -> RawStack:
    """Describe an opened group or array; see `open_zarr`."""
    import zarr

    if isinstance(node, zarr.Array):
        if level != 0:
            raise FrameError(f"level {level} of {name} was requested; it is a single array and has level 0 only")
        axes = _dimension_names(node)
        _check_claims(node, axes, name)
        return RawStack(node, name, f"zarr:{name}", axes)
    attributes = node.attrs.asdict()
    image = read_image(attributes, name)
    if image is None:
        return _open_inside(node, level, name)
    if not image.levels:
        raise FrameError(f"the OME-Zarr metadata of {name} lists no levels; export the image again")
    if not 0 <= level < len(image.levels):
        raise FrameError(f"level {level} of {name} was requested; it has {len(image.levels)} level(s), 0 is the finest")
    chosen = _finest_first(node, image.levels)[level]
    array = _array(node, chosen.path)
    axes = "TCZYX"[-array.ndim :] if image.axes is None else image.axes
    if len(axes) != array.ndim:
        raise FrameError(
            f"the OME-Zarr metadata of {name} names the axes {axes}; the array has {array.ndim} dimensions"
        )
    _check_claims(array, axes, name)
    return RawStack(
        array,
        name,
        f"zarr:{name}:{level}",
        axes,
        chosen.voxel_size,
        is_rgb=False,
        translation=chosen.translation,
        channel_names=image.channel_names,
        channel_colours=image.channel_colours,
        full_shape=tuple(_array(node, image.levels[0].path).shape) if level else None,
        num_levels=len(image.levels),
    )


def _open_inside(group: zarr.Group, level: int, name: str) -> RawStack:
    """The image within a group that has none itself: of a plate, a well, a labels group or a converted file."""
    import zarr

    attributes = group.attrs.asdict()
    inside: tuple[str, ...]
    for inside, kind, choice in (
        (well_paths(attributes), "a plate of {} wells", "WELL, or WELL/FIELD"),
        (field_paths(attributes), "a well of {} fields", "FIELD"),
        (label_names(attributes), "a group of {} label images", "NAME"),
        (_converted(group), "a file of {} images", "NUMBER"),
    ):
        if not inside:
            continue
        nodes = ((path, group.get(path)) for path in inside[:_MAX_TRIED])
        found = next(((path, node) for path, node in nodes if isinstance(node, (zarr.Group, zarr.Array))), None)
        if found is None:
            raise FrameError(f"{name} names {shown(inside[0])}, which does not exist; it holds {_content(group)}")
        first, node = found
        if len(inside) > 1:
            missing = "" if first == inside[0] else f", because {inside[0]} does not exist"
            text = f"{name} is {kind.format(len(inside))}; {first} is read{missing} (open {name}/{choice} to choose)"
            warn_caller(text, PlanesLeftOutWarning)
        return open_zarr_node(node, level, f"{name}/{first}")
    arrays, _ = _inside(group)
    if len(arrays) == 1:
        return open_zarr_node(_array(group, arrays[0]), level, f"{name}/{arrays[0]}")
    content = _content(group)
    if not content:
        raise FrameError(f"{name} is an empty zarr group; open one that contains an image")
    raise FrameError(f"{name} is a zarr group without OME-Zarr metadata, holding {content}; open one of these")


def _finest_first(group: zarr.Group, levels: tuple[NgffLevel, ...]) -> list[NgffLevel]:
    """The levels by the number of their pixels, which is looked at where their distances are not in that order."""
    sizes = [math.prod(spacing.value for spacing in level.voxel_size.values()) for level in levels]
    if sizes == sorted(sizes):
        return list(levels)
    return sorted(levels, key=lambda level: -math.prod(_array(group, level.path).shape))


def _converted(group: zarr.Group) -> tuple[str, ...]:
    """Paths of the images that bioformats2raw writes: those that the group OME lists, or all numbers."""
    import zarr

    attributes = group.attrs.asdict()
    ome = attributes.get("ome")
    if "bioformats2raw.layout" not in {**attributes, **(ome if isinstance(ome, dict) else {})}:
        return ()
    listing = group.get("OME")
    named = series_paths(listing.attrs.asdict()) if isinstance(listing, zarr.Group) else ()
    return named or tuple(sorted((key for key in _inside(group)[1] if key.isdecimal()), key=int))


def _inside(group: zarr.Group) -> tuple[list[str], list[str]]:
    """Names of the arrays and of the groups in a group; other files, such as those of desktops, do not count."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Object at .* is not recognized")
        return sorted(key for key, _ in group.arrays()), sorted(key for key, _ in group.groups())


def _content(group: zarr.Group) -> str:
    arrays, groups = _inside(group)
    return ", ".join([*arrays, *groups][:_SHOWN])


def _dimension_names(array: zarr.Array[Any]) -> str | None:
    """Letters of a plain array's dimension names (zarr 3, or xarray's attribute), if all of them are known."""
    given = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(given, (list, tuple)):
        return None
    words = [str(name or "") for name in given]
    letters = [axis_of_word(word) or (word.upper() if len(word) == 1 else "") for word in words]
    return "".join(letters) if letters and all(letters) else None


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    import zarr

    node = group.get(path)
    if not isinstance(node, zarr.Array):
        raise FrameError(
            f"the OME-Zarr metadata names {shown(path)} as an image level, which is not an array or does not exist; it "
            "holds "
            f"{_content(group) or 'nothing'}: copy or export the image again"
        )
    return node


def _check_claims(array: zarr.Array[Any], axes: str | None, name: str) -> None:
    """Refuse arrays of a size or with chunks that cannot be read in bearable time and memory."""
    if array.ndim < 2 or 0 in array.shape:
        return
    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    if chunk_bytes > _MAX_CHUNK_BYTES:
        raise FrameError(
            f"{name} has chunks of {chunk_bytes:,} bytes ({_times(array.chunks)}), which are only read as a whole; "
            "write it with smaller chunks"
        )
    plane = [(axes or "").find("Y"), (axes or "").find("X")]
    if -1 in plane:
        plane = [array.ndim - 2, array.ndim - 1]
    height, width = (array.shape[i] for i in plane)
    rows, columns = (array.chunks[i] for i in plane)
    num_chunks = -(-height // rows) * -(-width // columns)
    if height * width > _MAX_PLANE_PIXELS or (num_chunks > _MAX_SMALL_CHUNKS and rows * columns < _SMALL_CHUNK_PIXELS):
        raise FrameError(
            f"{name} claims planes of {height:,} x {width:,} pixels in {num_chunks:,} chunks of {rows:,} x "
            f"{columns:,}, too many to read; give a part or a coarser level of it, or write it with larger chunks"
        )


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in sizes)
