"""Tracks with their lineage as files: GEFF, TrackMate XML, CSV, and folders of the Cell Tracking Challenge."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, NapariSAM2Error, OutputError
from napari_sam2._files import expand, write_whole
from napari_sam2.frames.zarr_files import is_zarr_folder
from napari_sam2.labels.tracks import Tracks, tracks_of_graph, tracks_of_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TRACK_SUFFIXES",
    "CTCTrack",
    "LabelledTracks",
    "are_in_pixels",
    "check_tracks_folder",
    "read_ctc",
    "read_tracks",
    "relabelled",
    "without_gaps",
    "write_ctc",
    "write_tracks",
]

TRACK_SUFFIXES = (".geff", ".xml", ".csv")
_LARGEST_CTC = 65535  # masks of the challenge have 16 bits
_CTC_NAME = re.compile(r"(mask|man_track)\d+\.tif|(res|man)_track\.txt")
_NEEDS_GEFF = "GEFF files need the library geff: pip install 'napari-sam2[tracks]', or use .csv or .xml"


class LabelledTracks(NamedTuple):
    """Labels over time and their tracks.

    Attributes
    ----------
    labels : numpy.ndarray
        (T, H, W) or (T, Z, H, W) int32.
    tracks : Tracks
        With parents.
    """

    labels: NDArray[np.int32]
    tracks: Tracks


@checked(OutputError)
def write_tracks(path: str | Path, tracks: Tracks, *, overwrite: bool = False) -> Path:
    """Write tracks with their lineage, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``.geff`` for GEFF (motile, funtracks, traccuracy), ``.xml`` for TrackMate, ``.csv`` for a table.
    tracks : Tracks
        To be written; positions are in pixels.
    overwrite : bool, default False
        Replace an existing file, or a folder that is a zarr.

    Returns
    -------
    Path
        The file, or the folder of a GEFF.

    Raises
    ------
    OutputError
        If the suffix is another, the file exists or cannot be written, or a library is missing.
    """
    place = expand(path)
    suffix = place.suffix.lower()
    if suffix not in TRACK_SUFFIXES:
        raise OutputError(f"tracks cannot be written to {path}; allowed suffixes are {', '.join(TRACK_SUFFIXES)}")
    if suffix == ".geff":
        _import_geff(OutputError)
        check_tracks_folder(place)
    write = {".geff": _write_geff, ".xml": _write_trackmate, ".csv": _write_csv}[suffix]
    return write_whole(place, lambda part: write(part, tracks), overwrite=overwrite)


@checked(FrameError)
def read_tracks(path: str | Path) -> Tracks:
    """Read tracks with their lineage.

    Parameters
    ----------
    path : str or Path
        GEFF folder (``.geff``), TrackMate file (``.xml``) or table (``.csv``) as `write_tracks` writes them; also those
        of other programs, whose spots are numbered by unbranched tracks. Positions are as in the file.

    Returns
    -------
    Tracks
        With parents.

    Raises
    ------
    FrameError
        If the file is missing, damaged or something else, or tracks merge.
    """
    place = Path(path).expanduser()
    suffix = place.suffix.lower()
    if suffix not in TRACK_SUFFIXES:
        raise FrameError(f"tracks cannot be read from {path}; allowed suffixes are {', '.join(TRACK_SUFFIXES)}")
    if not place.exists():
        raise FrameError(f"{path} does not exist; check the path")
    if suffix == ".geff":
        _import_geff(FrameError)
    read = {".geff": _read_geff, ".xml": _read_trackmate, ".csv": _read_csv}[suffix]
    try:
        return read(place)
    except FrameError:
        raise
    except (OSError, ValueError, KeyError, TypeError, LookupError, ET.ParseError) as error:
        raise FrameError(f"{path} holds no tracks that can be read ({error}); export them again") from error


def check_tracks_folder(place: Path) -> None:
    """Raise OutputError if a folder would be replaced that holds something else than what is written to its name.

    Parameters
    ----------
    place : Path
        GEFF with the suffix ``.geff``, else a folder of the Cell Tracking Challenge; nothing need be there.
    """
    if not place.is_dir() or not any(place.iterdir()):
        return
    is_geff = place.suffix.lower() == ".geff"
    if is_zarr_folder(place) if is_geff else all(_CTC_NAME.fullmatch(each.name) for each in place.iterdir()):
        return
    raise OutputError(f"{place} is a folder that holds something else and is not replaced; choose another name")


def are_in_pixels(path: str | Path) -> bool:
    """Whether the positions of a file that `read_tracks` has read are in pixels, as `write_tracks` writes them."""
    place = Path(path).expanduser()
    if place.suffix.lower() == ".geff":
        from geff_spec import GeffMetadata

        axes = GeffMetadata.read(place).axes or []
        return all(axis.unit in (None, "pixel") for axis in axes if axis.type == "space")
    if place.suffix.lower() == ".xml":
        model = ET.parse(place).getroot().find("Model")
        return model is not None and model.get("spatialunits") in (None, "", "pixel", "pixels")
    return True


# ---------------------------------------------------------------------- CSV
def _columns(tracks: Tracks) -> list[str]:
    return ["track", "parent", "frame", *"zyx"[-tracks.centres.shape[1] :], "area"]


def _write_csv(path: Path, tracks: Tracks) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_columns(tracks))
        for i, frame, centre, area in zip(
            tracks.ids.tolist(), tracks.frames.tolist(), tracks.centres.tolist(), tracks.areas.tolist(), strict=True
        ):
            writer.writerow([i, tracks.parents.get(i, 0), frame, *centre, area])


def _read_csv(path: Path) -> Tracks:
    with path.open(newline="", encoding="utf-8-sig") as file:  # with the mark that spreadsheets put in front
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        missing = {"track", "frame", "y", "x"} - set(names)
        if missing:
            raise FrameError(
                f"{path} has the columns {', '.join(names)}; tracks need track, frame, y and x, and may have parent, z "
                "and area"
            )
        rows = list(reader)
    axes = [axis for axis in "zyx" if axis in names]
    parents = {int(row["track"]): int(row["parent"]) for row in rows if int(row.get("parent") or 0)}
    return Tracks(
        np.array([int(row["track"]) for row in rows], np.int64),
        np.array([int(row["frame"]) for row in rows], np.int64),
        np.array([[float(row[axis]) for axis in axes] for row in rows], np.float64).reshape(-1, len(axes)),
        np.array([int(row.get("area") or 1) for row in rows], np.int64),
        parents,
    )


# ---------------------------------------------------------------------- GEFF
def _import_geff(error: type[NapariSAM2Error]) -> Any:
    try:
        import geff
    except ImportError as problem:
        raise error(_NEEDS_GEFF) from problem
    return geff


def _write_geff(path: Path, tracks: Tracks) -> None:
    from geff.core_io import write_arrays
    from geff_spec import Axis, GeffMetadata

    names = "zyx"[-tracks.centres.shape[1] :]
    axes = [Axis(name="t", type="time"), *(Axis(name=name, type="space") for name in names)]
    metadata = GeffMetadata(
        directed=True,
        axes=axes,
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "track_id"},
    )
    props: dict[str, NDArray[Any]] = {"t": tracks.frames, "track_id": tracks.ids, "area": tracks.areas}
    props |= {name: tracks.centres[:, at] for at, name in enumerate(names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions of zarr
        write_arrays(
            path,
            node_ids=np.arange(len(tracks), dtype=np.uint64),
            node_props={name: {"values": values, "missing": None} for name, values in props.items()},
            edge_ids=tracks.edges().astype(np.uint64),
            edge_props={},
            metadata=metadata,
        )


def _read_geff(path: Path) -> Tracks:
    from geff.core_io import read_to_memory

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_to_memory(path)
    props = {name: np.asarray(prop["values"]) for name, prop in found["node_props"].items()}
    axes = found["metadata"].axes or []
    time = next((axis.name for axis in axes if axis.type == "time"), "t")
    space = [axis.name for axis in axes if axis.type == "space"] or [name for name in "zyx" if name in props]
    if time not in props or len(space) not in (2, 3):
        raise FrameError(f"{path} has the properties {', '.join(props)}; expected time and two or three axes of space")
    nodes = np.asarray(found["node_ids"])
    rows = {int(node): row for row, node in enumerate(nodes.tolist())}
    edges = [(rows[int(a)], rows[int(b)]) for a, b in np.asarray(found["edge_ids"]).tolist()]
    marks = found["metadata"].track_node_props or {}
    name = marks.get("tracklet", "track_id")
    return tracks_of_graph(
        props[time].astype(np.int64),
        np.stack([props[axis] for axis in space], axis=1).astype(np.float64).reshape(len(nodes), len(space)),
        props["area"].astype(np.int64) if "area" in props else np.ones(len(nodes), np.int64),
        edges,
        props[name].astype(int).tolist() if name in props else None,
    )


# ---------------------------------------------------------------------- TrackMate
_SPOT_FEATURES = (
    ("QUALITY", "Quality", "QUALITY", False),
    ("POSITION_X", "X", "POSITION", False),
    ("POSITION_Y", "Y", "POSITION", False),
    ("POSITION_Z", "Z", "POSITION", False),
    ("POSITION_T", "T", "TIME", False),
    ("FRAME", "Frame", "NONE", True),
    ("RADIUS", "Radius", "LENGTH", False),
    ("VISIBILITY", "Visibility", "NONE", True),
    ("AREA", "Area", "AREA", False),
)
_EDGE_FEATURES = (
    ("SPOT_SOURCE_ID", "Source spot ID", "NONE", True),
    ("SPOT_TARGET_ID", "Target spot ID", "NONE", True),
    ("LINK_COST", "Edge cost", "COST", False),
)
_TRACK_FEATURES = (("TRACK_ID", "Track ID", "NONE", True), ("NUMBER_SPOTS", "Number of spots in track", "NONE", True))


def _write_trackmate(path: Path, tracks: Tracks) -> None:
    root = ET.Element("TrackMate", version="7.11.1")
    model = ET.SubElement(root, "Model", spatialunits="pixel", timeunits="frame")
    declarations = ET.SubElement(model, "FeatureDeclarations")
    for kind, features in (
        ("SpotFeatures", _SPOT_FEATURES), ("EdgeFeatures", _EDGE_FEATURES), ("TrackFeatures", _TRACK_FEATURES),
    ):  # fmt: skip
        group = ET.SubElement(declarations, kind)
        for key, name, dimension, is_whole in features:
            ET.SubElement(
                group,
                "Feature",
                feature=key,
                name=name,
                shortname=name,
                dimension=dimension,
                isint=str(is_whole).lower(),
            )
    spots = ET.SubElement(model, "AllSpots", nspots=str(len(tracks)))
    for frame in np.unique(tracks.frames).tolist():
        group = ET.SubElement(spots, "SpotsInFrame", frame=str(frame))
        for row in np.flatnonzero(tracks.frames == frame).tolist():
            ET.SubElement(group, "Spot", _spot(tracks, row))
    trees, numbers = ET.SubElement(model, "AllTracks"), _trees(tracks)
    edges = tracks.edges()
    shown = sorted({numbers[int(tracks.ids[a])] for a in edges[:, 0]})
    for number in shown:
        inside = [(a, b) for a, b in edges.tolist() if numbers[int(tracks.ids[a])] == number]
        count = len({spot for edge in inside for spot in edge})
        tree = ET.SubElement(trees, "Track", name=f"Track_{number}", TRACK_ID=str(number), NUMBER_SPOTS=str(count))
        for a, b in inside:
            ET.SubElement(tree, "Edge", SPOT_SOURCE_ID=str(a), SPOT_TARGET_ID=str(b), LINK_COST="0.0")
    kept = ET.SubElement(model, "FilteredTracks")
    for number in shown:
        ET.SubElement(kept, "TrackID", TRACK_ID=str(number))
    settings = ET.SubElement(root, "Settings")
    extent = tracks.centres.max(0) if len(tracks) else np.zeros(tracks.centres.shape[1])
    ET.SubElement(
        settings, "ImageData", filename="", folder="", width=str(int(extent[-1]) + 1), height=str(int(extent[-2]) + 1),
        nslices=str(max(int(extent[0]) + 1, 2) if tracks.centres.shape[1] == 3 else 1),
        nframes=str(int(tracks.frames.max(initial=0)) + 1), pixelwidth="1.0", pixelheight="1.0", voxeldepth="1.0",
        timeinterval="1.0",
    )  # fmt: skip
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def _spot(tracks: Tracks, row: int) -> dict[str, str]:
    centre = tracks.centres[row].tolist()
    z = centre[0] if len(centre) == 3 else 0.0
    area, frame = int(tracks.areas[row]), int(tracks.frames[row])
    radius = (3 * area / (4 * np.pi)) ** (1 / 3) if len(centre) == 3 else (area / np.pi) ** 0.5
    return {
        "ID": str(row), "name": str(int(tracks.ids[row])), "QUALITY": "1.0", "POSITION_X": repr(centre[-1]),
        "POSITION_Y": repr(centre[-2]), "POSITION_Z": repr(z), "POSITION_T": repr(float(frame)), "FRAME": str(frame),
        "RADIUS": repr(float(radius)), "VISIBILITY": "1", "AREA": repr(float(area)),
    }  # fmt: skip


def _trees(tracks: Tracks) -> dict[int, int]:
    """Object -> the number of its lineage tree, from 0."""
    numbers: dict[int, int] = {}
    for object_id, _ in sorted(tracks.spans().items(), key=lambda item: (item[1][0], item[0])):
        parent = tracks.parents.get(object_id)
        numbers[object_id] = len(set(numbers.values())) if parent is None else numbers[parent]
    return numbers


def _read_trackmate(path: Path) -> Tracks:
    root = ET.parse(path).getroot()
    if root.tag != "TrackMate":
        raise FrameError(f"{path} is no file of TrackMate: it begins with <{root.tag}>")
    spots = list(root.iter("Spot"))
    rows = {spot.attrib["ID"]: row for row, spot in enumerate(spots)}
    kept = {each.attrib["TRACK_ID"] for each in root.iter("TrackID")}
    edges = [
        (rows[edge.attrib["SPOT_SOURCE_ID"]], rows[edge.attrib["SPOT_TARGET_ID"]])
        for tree in root.iter("Track")
        if tree.attrib["TRACK_ID"] in kept
        for edge in tree.iter("Edge")
    ]
    place = np.array([[float(spot.attrib[f"POSITION_{axis}"]) for axis in "ZYX"] for spot in spots], np.float64)
    place = place.reshape(-1, 3)
    image = root.find("Settings/ImageData")
    num_slices = int(image.get("nslices", "1")) if image is not None else 1
    is_flat = num_slices < 2 and (not len(place) or np.ptp(place[:, 0]) == 0)
    names = [spot.attrib.get("name", "") for spot in spots]
    return tracks_of_graph(
        np.array([int(float(spot.attrib["FRAME"])) for spot in spots], np.int64),
        place[:, 1:] if is_flat else place,
        np.array([round(float(spot.attrib.get("AREA", 1))) for spot in spots], np.int64),
        edges,
        [int(name) for name in names] if all(name.isdigit() for name in names) else None,
    )


# ---------------------------------------------------------------------- Cell Tracking Challenge
@checked(OutputError)
def write_ctc(
    folder: str | Path,
    labels: Iterable[ArrayLike],
    tracks: Tracks,
    *,
    is_truth: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write labels and lineage as the Cell Tracking Challenge has them, whole or not at all.

    Objects that are missing on some frames in between are written as several tracks, each the parent of the next: the
    challenge allows no gaps. Numbers above 65,535 are replaced by free ones.

    Parameters
    ----------
    folder : str or Path
        Created: ``mask000.tif``, ... and ``res_track.txt``.
    labels : iterable of (H, W) or (Z, H, W) integer array-like
        Labels of each time point.
    tracks : Tracks
        Of these labels, as `tracks_of_labels` measures them.
    is_truth : bool, default False
        Write the names of ground truth: ``man_track000.tif``, ... and ``man_track.txt``.
    overwrite : bool, default False
        Replace an existing folder, if it holds nothing but such files.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        If there are more than 65,535 tracks, or the folder exists, holds something else or cannot be written.

    References
    ----------
    .. [1] Ulman et al., An objective comparison of cell-tracking algorithms, Nature Methods 14, 2017.
    """
    place = expand(folder)
    check_tracks_folder(place)
    pieces = without_gaps(tracks)
    mask, table = ("man_track", "man_track.txt") if is_truth else ("mask", "res_track.txt")
    frames = list(labels)
    digits = max(3, len(str(len(frames) - 1)))

    def write(part: Path) -> None:
        import tifffile

        part.mkdir()
        for frame, image in enumerate(frames):
            tifffile.imwrite(
                part / f"{mask}{frame:0{digits}d}.tif",
                relabelled(image, pieces, frame),
                photometric="minisblack",  # three or four planes are no colours
                compression="zlib",
            )
        lines = [f"{p.number} {p.begin} {p.end} {p.parent}\n" for p in pieces]
        (part / table).write_text("".join(lines), encoding="ascii")

    return write_whole(folder, write, overwrite=overwrite)


def relabelled(image: ArrayLike, tracks: Iterable[CTCTrack], frame: int) -> NDArray[np.uint16]:
    """The labels of a frame with the numbers of the challenge; objects that are in no track become background."""
    source = np.asarray(image)
    present = {p.object_id: p.number for p in tracks if p.begin <= frame <= p.end}
    ids = np.array(sorted(present), np.int64)
    numbers = np.array([present[i] for i in ids.tolist()], np.uint16)
    if not len(ids):
        return np.zeros(source.shape, np.uint16)
    at = np.minimum(np.searchsorted(ids, source), len(ids) - 1)
    return np.where(ids[at] == source, numbers[at], 0).astype(np.uint16)


class CTCTrack(NamedTuple):
    """A track without gaps: its number in the file, the object, first and last frame, and number of the parent."""

    number: int
    object_id: int
    begin: int
    end: int
    parent: int


def without_gaps(tracks: Tracks) -> list[CTCTrack]:
    """The tracks of a file, ascending; raises OutputError if there are too many."""
    found: dict[int, list[tuple[int, int]]] = {}
    for object_id in tracks.spans():
        frames = tracks.frames[tracks.ids == object_id]
        runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
        found[object_id] = [(int(run[0]), int(run[-1])) for run in runs]
    taken = {i for i in found if i <= _LARGEST_CTC}
    highest = max(taken, default=0)
    free = (i for i in (*range(highest + 1, _LARGEST_CTC + 1), *range(1, highest)) if i not in taken)
    wanted = [(object_id, at) for object_id, spans in found.items() for at in range(len(spans))]
    if len(wanted) > _LARGEST_CTC:
        raise OutputError(f"{len(wanted)} tracks were given; masks of the challenge hold {_LARGEST_CTC} at most")
    numbers = {(i, at): i if at == 0 and i in taken else next(free) for i, at in wanted}
    pieces = []
    for object_id, spans in found.items():
        for at, (begin, end) in enumerate(spans):
            above = tracks.parents.get(object_id)
            parent = 0
            if at:
                parent = numbers[object_id, at - 1]
            elif above is not None:
                parent = numbers[above, len(found[above]) - 1]
            pieces.append(CTCTrack(numbers[object_id, at], object_id, begin, end, parent))
    return sorted(pieces)


@checked(FrameError)
def read_ctc(folder: str | Path) -> LabelledTracks:
    """Read labels and lineage of the Cell Tracking Challenge.

    Parameters
    ----------
    folder : str or Path
        Holds ``man_track.txt`` or ``res_track.txt`` and the masks; or a folder with the folder ``TRA`` in it.

    Returns
    -------
    LabelledTracks
        A track that is the only daughter of another one, and begins after a gap, is read as the same object.

    Raises
    ------
    FrameError
        If files are missing or damaged, or the table does not fit the masks.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise FrameError(f"{folder} is no folder; give one with man_track.txt or res_track.txt and masks")
    if (place / "TRA" / "man_track.txt").is_file():
        place /= "TRA"
    table = next((place / name for name in ("man_track.txt", "res_track.txt") if (place / name).is_file()), None)
    if table is None:
        raise FrameError(f"{folder} holds neither man_track.txt nor res_track.txt; give the folder of the masks")
    masks = {int(m[1]): p for p in sorted(place.iterdir()) if (m := re.fullmatch(r"\D*?(\d+)\.tiff?", p.name))}
    if not masks or sorted(masks) != list(range(min(masks), max(masks) + 1)):
        raise FrameError(f"{place} holds the masks of frames {sorted(masks)[:5]}...; expected one for each frame")
    labels = _read_masks([masks[frame] for frame in sorted(masks)])
    parents, same = _read_table(table)
    for number, first in same.items():
        labels[labels == number] = first
    try:
        return LabelledTracks(labels, tracks_of_labels(labels, parents))
    except FrameError as error:
        raise FrameError(f"{table} does not fit its masks: {error}") from error


def _read_masks(paths: list[Path]) -> NDArray[np.int32]:
    import tifffile

    planes = []
    for path in paths:
        try:
            planes.append(np.asarray(tifffile.imread(path)))
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise FrameError(f"{path} cannot be read ({error}); copy the file again") from error
    if len({plane.shape for plane in planes}) > 1 or planes[0].dtype.kind not in "iu":
        raise FrameError(f"the masks beside {os.fspath(paths[0])} differ in shape, or are not integers")
    return np.stack(planes).astype(np.int32)


def _read_table(path: Path) -> tuple[dict[int, int], dict[int, int]]:
    """Daughter -> parent, and (for tracks cut by gaps) track -> the first track of the same object."""
    rows: dict[int, tuple[int, int, int]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) != 4 or not all(word.isdigit() for word in words):
            raise FrameError(f"{path} has the line {line[:40]!r}; expected track, first frame, last frame and parent")
        number, begin, end, parent = (int(word) for word in words)
        rows[number] = (begin, end, parent)
    above = {number: parent for number, (_, _, parent) in rows.items() if parent}
    lone = {number: p for number, p in above.items() if list(above.values()).count(p) == 1}
    gaps = {number: p for number, p in lone.items() if p in rows and rows[number][0] > rows[p][1] + 1}

    def first(number: int) -> int:
        seen = set()
        while number in gaps and number not in seen:
            seen.add(number)
            number = gaps[number]
        return number

    parents = {number: first(parent) for number, parent in above.items() if number not in gaps}
    return parents, {number: first(number) for number in gaps}
