"""GeoJSON, as QuPath reads and writes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sam2.labels.colours import object_colour
from napari_sam2.labels.shapes.found_shape import FoundShape, corners_of, warn_of_others
from napari_sam2.labels.shapes.label_frames import frames_of, polygons_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam2.labels.formats import FrameScratch, LabelLayout
    from napari_sam2.labels.shapes.found_shape import Place

__all__ = ["read_geojson", "save_geojson"]


def save_geojson(path: Path, layout: LabelLayout, scratch: FrameScratch, note: str) -> None:
    features = []
    for _, place, labels in frames_of(layout, scratch):
        plane = {"c": place.get("C", -1), "z": place.get("Z", 0), "t": place.get("T", 0)}  # c: -1 is all channels
        for object_id, polygons in polygons_of(layout, labels):
            closed = [[[*ring.tolist(), ring[0].tolist()] for ring in rings] for rings in polygons]
            shape = (
                {"type": "Polygon", "coordinates": closed[0]}
                if len(closed) == 1
                else {"type": "MultiPolygon", "coordinates": closed}
            )
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid4()),
                    "geometry": {**shape, "plane": plane},
                    "properties": {
                        "objectType": "detection",
                        "name": str(object_id),
                        "color": list(object_colour(object_id)),
                        "label": object_id,
                    },
                }
            )
    collection = {"type": "FeatureCollection", "features": features, **({"note": note} if note else {})}
    path.write_text(json.dumps(collection), "utf-8")


def read_geojson(content: Any, path: Path) -> list[FoundShape]:
    if isinstance(content, Mapping):
        content = content.get("features", [content])
    shapes = []
    is_own = all("label" in (feature.get("properties") or {}) for feature in content)
    for feature in content:
        geometry = feature.get("geometry", feature) or {}
        polygons = [[corners_of(ring) for ring in rings if len(ring)] for rings in _polygons_of(geometry)]
        polygons = [rings for rings in polygons if rings]
        if not polygons:  # also POLYGON EMPTY
            continue
        properties = feature.get("properties") or {}
        plane = geometry.get("plane") or feature.get("plane")
        place: Place = (None, None) if plane is None else (int(plane.get("z", 0)), int(plane.get("t", 0)))
        channel = None if plane is None or int(plane.get("c", -1)) < 0 else int(plane["c"])
        given = properties.get("label", properties.get("name", ""))
        name = str(int(given) if isinstance(given, float) and given.is_integer() else given)  # as pandas writes numbers
        object_id = int(name) if name.isdecimal() and len(name) < 11 else None
        shapes.append(FoundShape(object_id, place, tuple(polygons), channel=channel, is_of_channel=is_own))
    warn_of_others(path, len(content) - len(shapes), len(shapes))
    has_channels = any(s.is_of_channel and s.channel for s in shapes)
    # the first plane is also what is written for pictures
    if not has_channels and all(s.place in ((0, 0), (None, None)) for s in shapes):
        return [replace(each, place=(None, None)) for each in shapes]
    return shapes


def _polygons_of(geometry: Mapping[str, Any]) -> list[Any]:
    """Coordinates of the polygons of a geometry: for each the rings."""
    kind = geometry.get("type")
    if kind == "Polygon":
        return [geometry["coordinates"]]
    if kind == "MultiPolygon":
        return list(geometry["coordinates"])
    if kind == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in _polygons_of(part)]
    return []
