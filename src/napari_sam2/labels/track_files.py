"""Tracks with their lineage as files: GEFF, TrackMate XML and CSV."""

from __future__ import annotations

import csv
import itertools
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, NapariSAM2Error, OutputError
from napari_sam2._files import expand, write_error, write_whole
from napari_sam2._messages import one_line
from napari_sam2.frames.files import existing_path
from napari_sam2.frames.stack import READ_ERRORS
from napari_sam2.frames.zarr_files import is_zarr_folder
from napari_sam2.labels.tracks import Tracks, tracks_of_graph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TRACK_SUFFIXES",
    "LabelledTracks",
    "are_in_pixels",
    "check_tracks_folder",
    "read_tracks",
    "write_tracks",
]

TRACK_SUFFIXES = (".geff", ".xml", ".csv")
_CTC_NAME = re.compile(r"(mask|man_track)\d+\.tif|(res|man)_track\.txt")
_LARGEST = 2**62  # of numbers in files
_FURTHER = "further values"  # of a line of a table
_OBJECTS = "napari_sam2_objects"  # in GEFF, the property that holds the object of each node
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
        of other programs, whose spots are numbered by unbranched tracks. Positions are as in the file. Spots and tracks
        that TrackMate does not show are left out. In a table, a parent of 0, -1 or nothing is none.

    Returns
    -------
    Tracks
        With parents.

    Raises
    ------
    FrameError
        If the file is missing, damaged or something else, its times are no frames, or tracks merge.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in TRACK_SUFFIXES:
        raise FrameError(f"tracks cannot be read from {path}; allowed suffixes are {', '.join(TRACK_SUFFIXES)}")
    place = existing_path(Path(path), "a GEFF folder, or an .xml or .csv file")
    if suffix == ".geff":
        _import_geff(FrameError)
    read = {".geff": _read_geff, ".xml": _read_trackmate, ".csv": _read_csv}[suffix]
    try:
        return read(place)
    except FrameError as error:
        if str(path) in str(error):
            raise
        raise FrameError(f"{path} cannot be read: {error}") from error
    except (*READ_ERRORS, ET.ParseError, csv.Error) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        raise FrameError(f"{path} holds no tracks that can be read ({reason}); export them again") from error


def check_tracks_folder(place: Path) -> None:
    """Raise OutputError if a folder would be replaced that holds something else than what is written to its name.

    Parameters
    ----------
    place : Path
        GEFF with the suffix ``.geff``, else a folder of the Cell Tracking Challenge; nothing need be there.
    """
    try:
        if not place.is_dir() or not any(place.iterdir()):
            return
    except OSError as error:  # such as a name that is too long
        raise write_error(place, error) from error
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
        reader = csv.DictReader(file, skipinitialspace=True, restkey=_FURTHER)
        names = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = names
        missing = {"track", "frame", "y", "x"} - set(names)
        if missing or len(set(names)) < len(names):
            raise FrameError(
                f"{path} has the columns {', '.join(names)}; tracks need track, frame, y and x, and may have parent, z "
                "and area, each once, separated by commas"
            )
        rows = [(reader.line_num, row) for row in reader]
    axes = [axis for axis in "zyx" if axis in names]
    parents: dict[int, int] = {}
    ids, frames, centres, areas = [], [], [], []
    for line, row in rows:
        if _FURTHER in row or None in row.values():
            raise FrameError(
                f"{path} has {'more' if _FURTHER in row else 'fewer'} values than columns in line {line}; separate "
                "values by commas, and write decimals with a point"
            )
        try:
            track, parent = _whole(row["track"]), _whole(row.get("parent"), 0)
            frames.append(_whole(row["frame"]))
            centres.append([float(row[axis]) for axis in axes])
            areas.append(float(row.get("area") or 1))
        except ValueError as error:
            raise FrameError(f"{path} cannot be read in line {line}: {error}; correct that line") from error
        ids.append(track)
        if parent not in (0, -1) and parents.setdefault(track, parent) != parent:
            raise FrameError(
                f"{path} gives track {track} the parents {parents[track]} and, in line {line}, {parent}; one is allowed"
            )
    return Tracks(
        np.array(ids, np.int64),
        np.array(frames, np.int64),
        np.array(centres, np.float64).reshape(-1, len(axes)),
        _whole_areas(areas),
        parents,
    )


def _whole(text: str | None, default: int | None = None) -> int:
    """A whole number, as other programs write it; the default for an empty cell and NaN."""
    plain = (text or "").strip()
    if default is not None and plain.lower() in ("", "nan"):
        return default
    if "_" in plain:  # which Python would read as a number
        raise ValueError(f"{plain} is not a whole number")
    try:
        value = int(plain)
    except ValueError:
        number = float(plain)
        if not number.is_integer():
            raise ValueError(f"{plain} is not a whole number") from None
        value = int(number)
    if abs(value) > _LARGEST:
        raise ValueError(f"{plain} is too large")
    return value


def _whole_areas(areas: ArrayLike) -> NDArray[np.int64]:
    """Areas in whole pixels; 1 for values that are not areas."""
    values = np.asarray(areas, np.float64)
    is_area = (values >= 0) & (values < _LARGEST)
    return np.round(np.where(is_area, values, 1)).astype(np.int64)


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
    is_maximal = all(len(each) > 1 for each in tracks.daughters().values())  # as GEFF defines tracklets
    metadata = GeffMetadata(
        directed=True,
        axes=axes,
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "track_id"} if is_maximal else None,
        extra={_OBJECTS: "track_id"},
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
    metadata = found["metadata"]
    props = {name: prop for name, prop in found["node_props"].items() if np.ndim(prop["values"]) == 1}
    time, space = _axes_of_geff(metadata, props)
    if time not in props or len(space) not in (2, 3) or not props.keys() >= set(space):
        raise FrameError(
            f"{path} has the properties {', '.join(props)}; expected time and two or three axes of space: name them as "
            "axes in its metadata, or t, z, y and x"
        )
    times = np.asarray(props[time]["values"])
    if not np.array_equal(times, np.round(times)):
        odd = times[times != np.round(times)][:3].tolist()
        raise FrameError(f"{path} has the times {odd}; expected whole numbers of frames")
    nodes = np.asarray(found["node_ids"])
    rows = {int(node): row for row, node in enumerate(nodes.tolist())}
    name = (metadata.extra or {}).get(_OBJECTS, "OBJECT" if "OBJECT" in props else None)  # the latter by TrackMate
    tracklet = (metadata.track_node_props or {}).get("tracklet", "track_id") if name is None else name
    area = next((each for each in ("area", "AREA") if each in props and _are_numbers(props[each])), None)
    names = None
    if tracklet in props and _are_numbers(props[tracklet]):
        values = np.nan_to_num(_filled(props[tracklet], 0), posinf=0, neginf=0)
        names = np.where(abs(values) <= _LARGEST, values, 0).astype(np.int64).tolist()
    return tracks_of_graph(
        times.astype(np.int64),
        np.stack([_filled(props[axis], np.nan) for axis in space], axis=1).reshape(len(nodes), len(space)),
        np.ones(len(nodes), np.int64) if area is None else _whole_areas(_filled(props[area], 1)),
        [(rows[int(a)], rows[int(b)]) for a, b in np.asarray(found["edge_ids"]).tolist()],
        names,
        are_objects=name is not None,
    )


def _axes_of_geff(metadata: Any, props: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The properties that hold the frame, and (z,) y and x: files of others have their axes in any order."""
    axes, hints = metadata.axes or [], metadata.display_hints
    space = [axis.name for axis in axes if axis.type == "space"] or [name for name in "zyx" if name in props]
    if hints is not None:
        space = [each for each in (hints.display_depth, hints.display_vertical, hints.display_horizontal) if each]
    elif len({name[-1:].lower() for name in space} & set("zyx")) == len(space):
        space.sort(key=lambda name: "zyx".index(name[-1].lower()))
    if "FRAME" in props:  # of TrackMate, whose time is in seconds or the like
        return "FRAME", space
    return next((axis.name for axis in axes if axis.type == "time"), "t"), space


def _are_numbers(prop: Mapping[str, Any]) -> bool:
    return np.asarray(prop["values"]).dtype.kind in "biuf"


def _filled(prop: Mapping[str, Any], default: float) -> NDArray[Any]:
    """The values of a property, and the default where it has none."""
    values, missing = np.asarray(prop["values"]), prop.get("missing")
    return values if missing is None or not np.any(missing) else np.where(missing, default, values)


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
    ("OBJECT", "Object", "NONE", True),
)
_EDGE_FEATURES = (
    ("SPOT_SOURCE_ID", "Source spot ID", "NONE", True),
    ("SPOT_TARGET_ID", "Target spot ID", "NONE", True),
    ("LINK_COST", "Edge cost", "COST", False),
)
_TRACK_FEATURES = (("TRACK_ID", "Track ID", "NONE", True), ("NUMBER_SPOTS", "Number of spots in track", "NONE", True))

# Without the filters its reader fails; the others keep it from complaining.
_SETTINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("DetectorSettings", {"DETECTOR_NAME": "MANUAL_DETECTOR", "RADIUS": "5.0"}),
    ("InitialSpotFilter", {"feature": "QUALITY", "value": "0.0", "isabove": "true"}),
    ("SpotFilterCollection", {}),
    ("TrackerSettings", {"TRACKER_NAME": "MANUAL_TRACKER"}),
    ("TrackFilterCollection", {}),
)


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
    links: dict[int, list[tuple[int, int]]] = {}
    for a, b in edges.tolist():
        links.setdefault(numbers[int(tracks.ids[a])], []).append((a, b))
    for number, inside in sorted(links.items()):
        count = len({spot for edge in inside for spot in edge})
        tree = ET.SubElement(trees, "Track", name=f"Track_{number}", TRACK_ID=str(number), NUMBER_SPOTS=str(count))
        for a, b in inside:
            ET.SubElement(tree, "Edge", SPOT_SOURCE_ID=str(a), SPOT_TARGET_ID=str(b), LINK_COST="0.0")
    kept = ET.SubElement(model, "FilteredTracks")
    for number in sorted(links):
        ET.SubElement(kept, "TrackID", TRACK_ID=str(number))
    settings = ET.SubElement(root, "Settings")
    extent = tracks.centres.max(0) if len(tracks) else np.zeros(tracks.centres.shape[1])
    ET.SubElement(
        settings, "ImageData", filename="", folder="", width=str(int(extent[-1]) + 1), height=str(int(extent[-2]) + 1),
        nslices=str(max(int(extent[0]) + 1, 2) if tracks.centres.shape[1] == 3 else 1),
        nframes=str(int(tracks.frames.max(initial=0)) + 1), pixelwidth="1.0", pixelheight="1.0", voxeldepth="1.0",
        timeinterval="1.0",
    )  # fmt: skip
    for name, attributes in _SETTINGS:
        ET.SubElement(settings, name, attributes)
    analyzers = ET.SubElement(settings, "AnalyzerCollection")
    for name in ("SpotAnalyzers", "EdgeAnalyzers", "TrackAnalyzers"):
        ET.SubElement(analyzers, name)
    ET.SubElement(root, "GUIState", state="ConfigureViews")
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
        "OBJECT": str(int(tracks.ids[row])),
    }  # fmt: skip


def _trees(tracks: Tracks) -> dict[int, int]:
    """Object -> the number of its lineage tree, from 0."""
    numbers: dict[int, int] = {}
    free = itertools.count()
    for object_id, _ in sorted(tracks.spans().items(), key=lambda item: (item[1][0], item[0])):
        parent = tracks.parents.get(object_id)
        numbers[object_id] = next(free) if parent is None else numbers[parent]
    return numbers


def _read_trackmate(path: Path) -> Tracks:
    root = ET.parse(path).getroot()
    if root.tag != "TrackMate":
        raise FrameError(
            f"{path} is not a TrackMate file: it begins with <{root.tag}>; save it with TrackMate's Save button"
        )
    shown = {each.attrib["TRACK_ID"] for each in root.iter("TrackID")}
    links: dict[bool, list[tuple[str, str]]] = {True: [], False: []}  # of tracks that are shown, and that are not
    for tree in root.iter("Track"):
        is_shown = root.find("Model/FilteredTracks") is None or tree.attrib["TRACK_ID"] in shown
        links[is_shown].extend((e.attrib["SPOT_SOURCE_ID"], e.attrib["SPOT_TARGET_ID"]) for e in tree.iter("Edge"))
    linked, hidden = ({spot for link in links[kind] for spot in link} for kind in (True, False))
    spots = [s for s in root.iter("Spot") if _is_shown(s, linked, hidden)]
    rows = {spot.attrib["ID"]: row for row, spot in enumerate(spots)}
    if len(rows) < len(spots):
        raise FrameError(f"{path} has several spots of one ID; export it again")
    unknown = linked - rows.keys()
    if unknown:
        raise FrameError(f"{path} has links to the spot {min(unknown)}, which is not in the file; export it again")
    place = np.array([[float(spot.attrib[f"POSITION_{axis}"]) for axis in "ZYX"] for spot in spots], np.float64)
    place = place.reshape(-1, 3)
    image = root.find("Settings/ImageData")
    num_slices = int(image.get("nslices", "1")) if image is not None else 1
    is_flat = num_slices < 2 and (not len(place) or np.ptp(place[:, 0]) == 0)
    pixel = 1.0 if image is None else float(image.get("pixelwidth", "1")) * float(image.get("pixelheight", "1"))
    pixel = pixel if pixel > 0 else 1.0  # where TrackMate does not know it
    areas = [float(spot.attrib.get("AREA", "nan")) / pixel for spot in spots]
    objects = [_whole(spot.get("OBJECT"), 0) for spot in spots]
    names = [spot.attrib.get("name", "") for spot in spots]
    are_numbers = all(name.isdecimal() and int(name) <= _LARGEST for name in names)
    others = [int(name) for name in names] if are_numbers else None
    return tracks_of_graph(
        np.array([_whole(spot.attrib["FRAME"]) for spot in spots], np.int64),
        place[:, 1:] if is_flat else place,
        _whole_areas(areas),
        [(rows[a], rows[b]) for a, b in links[True]],
        objects if any(objects) else others,
        are_objects=any(objects),
    )


def _is_shown(spot: ET.Element, linked: set[str], hidden: set[str]) -> bool:
    """Whether TrackMate shows a spot: it and its track passed the filters."""
    number = spot.attrib["ID"]
    return number in linked or (number not in hidden and float(spot.get("VISIBILITY", "1")) != 0)
