"""Export from a session: labels as image files, tables of objects and scores as CSV, and tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._checks import LARGEST_ID, check_not_input
from napari_sam2._errors import FrameError, OutputError, PromptError
from napari_sam2._files import expand, spreadsheet_text, write_whole
from napari_sam2._messages import shown
from napari_sam2.session.state.tables import object_table, score_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from napari_sam2.frames.sources import Frames
    from napari_sam2.frames.spacing import VoxelSize
    from napari_sam2.labels.tracks import Tracks
    from napari_sam2.session.session import Session

__all__ = [
    "export_labels",
    "export_objects_csv",
    "export_scores_csv",
    "export_tracks",
    "import_tracks",
    "session_tracks",
    "tracks_graph",
    "tracks_table",
    "update_labels",
]


_WRITTEN = "TCZYX"  # the order of axes in label files
_PAINTED_AT_ONCE = 32  # objects of a plane whose masks are held in memory together


# ---------------------------------------------------------------------- tables


@checked(OutputError)
def export_scores_csv(session: Session, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a row for each object and frame, with score and area, as CSV, whole or not at all.

    Parameters
    ----------
    session : Session
        The session to export.
    path : str or Path
        File to write.
    overwrite : bool, default False
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the file exists, is the image, or cannot be written.
    """
    _check_not_image(session, path)
    return _write_csv(score_table(session.store), path, overwrite=overwrite)


@checked(OutputError)
def export_objects_csv(session: Session, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a row for each object, with its frames and mean scores, as CSV, whole or not at all.

    Parameters
    ----------
    session : Session
        The session to export.
    path : str or Path
        File to write.
    overwrite : bool, default False
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the file exists, is the image, or cannot be written.
    """
    _check_not_image(session, path)
    return _write_csv(object_table(session.store), path, overwrite=overwrite)


def _write_csv(table: pd.DataFrame, path: str | Path, *, overwrite: bool) -> Path:
    safe = table.assign(name=[spreadsheet_text(str(name)) for name in table["name"]])
    return write_whole(
        path, lambda part: safe.to_csv(part, index=False, encoding="utf-8", errors="replace"), overwrite=overwrite
    )


# ---------------------------------------------------------------------- tracks
@checked(OutputError)
def tracks_table(session: Session) -> NDArray[np.float64]:
    """The centre of each object over time, for a napari Tracks layer.

    Parameters
    ----------
    session : Session
        The session to export.

    Returns
    -------
    numpy.ndarray
        (N, 1 + axes) float64: track, then data coordinates of the centre in the order of the image's axes, sorted by
        track and frame; of a single image (N, 4) with time 0. With more axes than one before H and W, each clip of an
        object is a separate track: the first has the object's number, the others are numbered after the highest one.

    Raises
    ------
    OutputError
        If it is not a session.
    """
    store, geometry = session.store, session.geometry
    rows: list[list[float]] = []
    numbers: dict[tuple[int, int], int] = {}
    following = max(store.objects, default=0)
    for object_id in store.objects:
        for plane in store.planes_of(object_id):
            mask = store.masks[object_id, plane]
            if not mask.area:
                continue
            clip = plane // geometry.num_frames
            if (object_id, clip) not in numbers:
                is_first = all(number != object_id for number in numbers.values())
                following += not is_first
                numbers[object_id, clip] = object_id if is_first else following
            index = geometry.index(plane)
            rows.append([numbers[object_id, clip], *(index or (0,)), *mask.centroid_yx])
    table = np.array(rows, float).reshape(-1, 1 + max(geometry.ndim, 3))
    return table[np.argsort(table[:, 0], kind="stable")]


@checked(OutputError)
def tracks_graph(session: Session) -> dict[int, list[int]]:
    """The lineage of a session, for the ``graph`` of a napari Tracks layer with its `tracks_table`.

    Parameters
    ----------
    session : Session
        The session to export.

    Returns
    -------
    dict of int to list of int
        Daughter -> its parent, for those that are both seen.

    Raises
    ------
    OutputError
        If it is not a session.
    """
    store = session.store
    seen = {i for i in store.objects if any(store.masks[i, p].area for p in store.planes_of(i))}
    return {i: [item.parent] for i, item in store.objects.items() if item.parent in seen and i in seen and item.parent}


@checked(OutputError)
def session_tracks(session: Session) -> Tracks:
    """The objects of a session over time, with their parents.

    Parameters
    ----------
    session : Session
        Of frames (T, H, W), or of volumes (T, Z, H, W) whose first axis is time.

    Returns
    -------
    Tracks
        Without objects that have no mask.

    Raises
    ------
    OutputError
        If the image has more axes, or a parent is seen when its daughter is.
    """
    from napari_sam2.labels.tracks import tracks_of_labels

    graph = {daughter: parents[0] for daughter, parents in tracks_graph(session).items()}
    try:
        return tracks_of_labels(_over_time(session), graph)
    except FrameError as error:
        raise OutputError(f"the tracks cannot be exported: {error}; correct it with cut or set_parent") from error


@checked(OutputError)
def export_tracks(session: Session, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the tracks of a session with their lineage, whole or not at all.

    Parameters
    ----------
    session : Session
        As for `session_tracks`.
    path : str or Path
        ``.geff`` for GEFF, ``.xml`` for TrackMate, ``.csv`` for a table; a name without a suffix is a folder of the
        Cell Tracking Challenge, with masks.
    overwrite : bool, default False
        Replace an existing file or folder.

    Returns
    -------
    Path
        The file or folder.

    Raises
    ------
    OutputError
        If the format cannot be written, the file exists or is the image, or a library is missing.
    """
    from napari_sam2.labels.ctc_files import write_ctc
    from napari_sam2.labels.track_files import write_tracks

    _check_not_image(session, path)
    tracks = session_tracks(session)
    if not Path(path).suffix:
        return write_ctc(path, _over_time(session), tracks, overwrite=overwrite)
    return write_tracks(path, tracks, overwrite=overwrite)


@checked(OutputError)
def import_tracks(session: Session, labels: ArrayLike, parents: Mapping[int, int] | None = None) -> list[int]:
    """Take labels over time and their lineage into a session, such as those that `read_ctc` gives.

    Parameters
    ----------
    session : Session
        Objects of the same numbers are replaced on the frames that show them.
    labels : integer array-like
        Of the image's shape; 0 is background.
    parents : mapping of int to int, optional
        Daughter -> parent.

    Returns
    -------
    list of int
        The objects, ascending. Each mask is a mask prompt. One ``undo`` removes all.

    Raises
    ------
    OutputError
        If the labels have another shape, are not integers, or are above 2**31 - 1.
    PromptError
        If a parent is not there, or is seen when its daughter is; the session is left as it was.
    """
    image = np.asarray(labels)
    geometry = session.geometry
    if image.shape != geometry.shape or image.dtype.kind not in "iu":
        raise OutputError(
            f"labels of shape {image.shape} and type {image.dtype} were given; expected integers of the image's shape "
            f"{geometry.shape}"
        )
    if image.size and int(image.max()) > LARGEST_ID:
        raise OutputError(f"labels up to {image.max()} were given; expected numbers up to {LARGEST_ID}")
    found: set[int] = set()
    length = len(session.history.done)
    try:
        with session.as_one_step():
            for plane in range(geometry.num_planes):
                part = image[geometry.index(plane)]
                ids = [int(i) for i in np.unique(part) if i > 0]
                found.update(ids)
                for at in range(0, len(ids), _PAINTED_AT_ONCE):
                    session.paint(plane, {i: part == i for i in ids[at : at + _PAINTED_AT_ONCE]})
            for daughter, parent in sorted((parents or {}).items()):
                session.set_parent(daughter, parent)
    except PromptError:
        if len(session.history.done) > length:  # all or nothing
            session.undo()
            session.history.forget_undone()
        raise
    return sorted(found)


def _over_time(session: Session) -> Iterator[NDArray[np.int32]]:
    """(H, W) or (Z, H, W) labels of each time point."""
    shape = session.geometry.shape
    if len(shape) > 4:
        raise OutputError(f"tracks of an image of shape {shape} cannot be exported; expected (T, H, W) or (T, Z, H, W)")
    for time in range(1 if len(shape) == 2 else shape[0]):
        yield np.asarray(session.labels if len(shape) == 2 else session.labels[time])


# ---------------------------------------------------------------------- labels
@checked(OutputError)
def export_labels(
    session: Session,
    path: str | Path,
    *,
    scale: tuple[float, ...] | None = None,
    units: tuple[str, ...] | None = None,
    translation: tuple[float, ...] | None = None,
    axes: str | None = None,
    full_hw: tuple[int, int] | None = None,
    full_resolution: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the labels of a session to a file, whole or not at all.

    Parameters
    ----------
    session : Session
        The session to export.
    path : str or Path
        Its suffix chooses the format, as in `LabelWriter`: .tif, .ome.tif, .zarr or .ome.zarr; IMAGE.zarr/labels/NAME
        writes into an OME-Zarr image.
    scale : tuple of float, optional
        Distance between neighbours on each axis of the image. Default: what the image file says.
    units : tuple of str, optional
        Unit of each axis, as OME spells it ("micrometer", "second"); default micrometer in space.
    translation : tuple of float, optional
        Position of the first pixel on each axis of the image, in ``units``. Default: what the image file says.
    axes : str, optional
        A letter for each axis of the image out of T, C, Z, Y and X, in any order, ending in YX. Default: what the image
        file says, else YX, ZYX, TZYX or TCZYX. The file has them in the order TCZYX.
    full_hw : (int, int), optional
        Height and width of the full resolution, where the session is on a coarser level: outlines and run lengths are
        in its pixels. Default: what the image file says.
    full_resolution : bool, default False
        Of a session on a coarser level of a file: write labels at the file's full resolution, each object refined by
        the session's model in a window around it; see `FullResolutionWriter`. Scale, position and axes are the file's.
    overwrite : bool, default False
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FrameError
        If ``full_resolution`` is wanted of an image that has no finer level.
    OutputError
        If the format or the axes cannot be written, the file exists or is the image, or the disk is full.
    """
    from napari_sam2.frames.sources import Frames
    from napari_sam2.labels.files import LabelWriter

    _check_not_image(session, path)
    geometry = session.geometry
    source = session.frames if isinstance(session.frames, Frames) else None
    if full_resolution:
        return _export_refined(session, source, path, overwrite=overwrite)
    letters = axes or _default_axes(source, geometry.ndim)
    is_known = set(letters) <= set(_WRITTEN) and len(set(letters)) == len(letters)
    if len(letters) != geometry.ndim or not letters.endswith("YX") or not is_known:
        raise OutputError(
            f"axes {shown(letters)} were given for labels of shape {geometry.shape}; "
            "expected one letter out of T, C, Z, Y and X for each axis, ending in YX, such as TZYX"
        )
    written = "".join(letter for letter in _WRITTEN if letter in letters)
    shape = tuple(geometry.shape[letters.index(letter)] for letter in written)
    with LabelWriter(
        path,
        shape,
        axes=written,
        voxel_size=source.voxel_size if source and scale is None else _voxel_size(letters, scale, units),
        translation=source.translation if source and translation is None else _origin(letters, translation),
        full_hw=source.full_hw if source and full_hw is None else full_hw,
        fixed=source.fixed if source else None,
        overwrite=overwrite,
    ) as writer:
        for frame, index in enumerate(np.ndindex(shape[:-2])):
            place = dict(zip(written, index, strict=False))
            plane = geometry.plane(tuple(place[letter] for letter in letters[:-2]))
            writer.write(frame, session.store.plane_labels(plane))
    return writer.path


def _export_refined(session: Session, source: Frames | None, path: str | Path, *, overwrite: bool) -> Path:
    from napari_sam2.inference.prompts.full_resolution import FullResolutionWriter, is_coarser_level
    from napari_sam2.weights.loading import ensure_model

    if source is None or not is_coarser_level(source) or len(source) != session.geometry.num_planes:
        raise FrameError(
            "labels at full resolution were requested; the session is not on a coarser level of a file: open it with "
            "open_frames(path, level=1) and give Session the frames"
        )
    with FullResolutionWriter(
        path, source, load_model=lambda: ensure_model(session.model), overwrite=overwrite
    ) as writer:
        for plane in range(session.geometry.num_planes):
            writer.write(plane, session.store.plane_labels(plane))
    return writer.path


@checked(OutputError)
def update_labels(session: Session, path: str | Path) -> int:
    """Store the labels of a session in an existing OME-Zarr label image; only the chunks that changed are written.

    Parameters
    ----------
    session : Session
        One whose image has the shape of the label image, apart from axes of length one.
    path : str or Path
        Folder of the label image, such as the one that the session started from.

    Returns
    -------
    int
        Number of chunks that were written, at full resolution.

    Raises
    ------
    OutputError
        If it is not a label image, has another shape, or cannot be written to.
    """
    from napari_sam2.labels.in_place import LabelEditor

    geometry = session.geometry
    with LabelEditor(path) as editor:
        if editor.shape != (geometry.num_planes, *geometry.hw):
            raise OutputError(f"{path} holds {editor.shape} planes; the session has {geometry.shape}")
        for frame, index in enumerate(np.ndindex(geometry.shape[:-2])):
            editor[frame] = session.store.plane_labels(geometry.plane(index))
    return editor.num_written


def _check_not_image(session: Session, path: str | Path) -> None:
    if session.stack_path is None:
        return
    image = getattr(session.frames, "path", None) or Path(session.stack_path)  # of a plate, the field that was opened
    if expand(path).resolve().parent != image.resolve() / "labels":
        check_not_input(Path(path), Path(session.stack_path))


def _default_axes(source: Frames | None, ndim: int) -> str:
    """Letters of the image file's axes where it has as many, else those of TCZYX."""
    letters = source.output_axes[-ndim:] if source is not None else ""
    return letters if len(letters) == ndim else {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}.get(ndim, "")


def _voxel_size(letters: str, scale: tuple[float, ...] | None, units: tuple[str, ...] | None) -> VoxelSize | None:
    if scale is None:
        return None
    if len(scale) != len(letters) or (units is not None and len(units) != len(letters)):
        raise OutputError(f"scale {scale} and units {units} were given; expected one of each for the axes {letters}")
    if min(scale) <= 0:
        raise OutputError(f"scale {scale} was given; distances must be above 0")
    names = units or tuple("second" if letter == "T" else "micrometer" for letter in letters)
    return {letter: (float(d), str(u)) for letter, d, u in zip(letters, scale, names, strict=True)}


def _origin(letters: str, translation: tuple[float, ...] | None) -> dict[str, float] | None:
    if translation is None:
        return None
    if len(translation) != len(letters):
        raise OutputError(f"translation {translation} was given; expected one position for each of the axes {letters}")
    return {letter: float(position) for letter, position in zip(letters, translation, strict=True)}
