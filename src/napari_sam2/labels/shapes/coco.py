"""COCO, with run lengths or polygons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2.frames.file_names import by_numbers
from napari_sam2.labels.ngff import nearest_pixels
from napari_sam2.labels.outlines import label_windows
from napari_sam2.labels.rle import compress_rle, rle_area, run_lengths_of_window
from napari_sam2.labels.shapes.found_shape import LIMITS, FoundShape, corners_of
from napari_sam2.labels.shapes.label_frames import frames_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam2.labels.formats import FrameScratch, LabelLayout
    from napari_sam2.labels.outlines import Polygon
    from napari_sam2.labels.rle import RLE

__all__ = ["coco_of_results", "read_coco", "save_coco"]

_CATEGORY = 1


def save_coco(path: Path, layout: LabelLayout, scratch: FrameScratch, note: str) -> None:
    height, width = layout.full_hw
    rows, columns = (nearest_pixels(*lengths) for lengths in zip(layout.full_hw, layout.hw, strict=True))
    annotations: list[dict[str, object]] = []
    images = [
        {
            "id": frame + 1,
            "file_name": f"{frame:05d}.png",
            "height": height,
            "width": width,
            **{axis.lower(): i for axis, i in zip(layout.axes, layout.place(frame), strict=False)},
        }
        for frame in range(layout.num_frames)
    ]
    for frame, _, labels in frames_of(layout, scratch):
        for object_id, (high, wide) in label_windows(labels):
            y0, y1 = np.searchsorted(rows, (high.start, high.stop)).tolist()
            x0, x1 = np.searchsorted(columns, (wide.start, wide.stop)).tolist()
            mask = labels[np.ix_(rows[y0:y1], columns[x0:x1])] == object_id
            counts = run_lengths_of_window(mask, (y0, x0), (height, width)).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame + 1,
                    "category_id": _CATEGORY,
                    "segmentation": compress_rle({"size": [height, width], "counts": counts}),
                    "area": rle_area(counts),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "track_id": object_id,
                }
            )
    content = {
        "info": {"description": note or "labels of napari-sam2"},
        "images": images,
        "categories": [{"id": _CATEGORY, "name": "object"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content), "utf-8")


def read_coco(
    content: Mapping[str, Any], path: Path, shape: tuple[int, ...] | None
) -> tuple[list[FoundShape], tuple[int, ...]]:
    given = content.get("images") or [each for each in [content.get("image")] if each is not None]
    if not given:
        raise FrameError(f"{path} is COCO that lists no images, and so no size of them; export it with its images")
    images = [given[at] for at in by_numbers([_image_id(image) for image in given])]
    sizes = {(int(image["height"]), int(image["width"])) for image in images}
    if len(sizes) != 1:
        raise FrameError(
            f"{path} holds images of the sizes {sorted(sizes)}; expected planes of one size: split it by image"
        )
    keys = [_image_id(image) for image in images]
    frame_of = {key: frame for frame, key in enumerate(keys)}
    hw = sizes.pop()
    if shape is not None and hw != tuple(shape[-2:]):
        raise FrameError(f"{path} belongs to an image of {hw}; the image has {tuple(shape[-2:])}")
    if shape is None and math.prod(hw) > LIMITS.max_pixels:
        raise FrameError(
            f"images of {hw[0]:,} x {hw[1]:,} pixels were declared, more than {LIMITS.max_pixels:,}; give the shape "
            "of the image if that is right"
        )
    is_stack = len(images) > 1
    shapes = []
    for entry in content["annotations"]:
        if not entry.get("segmentation"):
            raise FrameError(
                "an annotation has no 'segmentation'; expected polygons or run lengths; boxes are not supported"
            )
        image_id = entry.get("image_id")
        if image_id is None and not is_stack:  # files of one image need not say so
            image_id = keys[0]
        if str(image_id) not in frame_of:
            raise FrameError(f"an annotation belongs to image {image_id}, which {path} does not list; export it again")
        frame = frame_of[str(image_id)] if is_stack else None
        number = entry.get("track_id")
        polygons, rle = _coco_mask(entry["segmentation"], hw)
        shapes.append(FoundShape(None if number is None else int(number), (frame, None), polygons, rle))
    return shapes, ((len(images), *hw) if is_stack else hw)


def coco_of_results(annotations: list[Any]) -> dict[str, Any]:
    """COCO of a file of results: a list of annotations, whose run lengths say how large the images are."""
    sizes = {entry["image_id"]: entry["segmentation"]["size"] for entry in annotations if _is_rle(entry)}
    if not sizes:
        raise FrameError("the list of annotations holds no run lengths; give the whole COCO file, with its images")
    images = [{"id": number, "height": size[0], "width": size[1]} for number, size in sizes.items()]
    return {"images": images, "annotations": annotations}


def _is_rle(annotation: Any) -> bool:
    return isinstance(annotation.get("segmentation"), Mapping)


def _image_id(image: Mapping[str, Any]) -> str:
    return str(image.get("id", image.get("image_id", 0)))


def _coco_mask(segmentation: Any, hw: tuple[int, int]) -> tuple[tuple[Polygon, ...], RLE | None]:
    """Polygons, or run lengths."""
    if isinstance(segmentation, Mapping):
        size = [int(n) for n in segmentation["size"]]
        if tuple(size) != hw:
            raise FrameError(f"a mask of {size[0]:,} x {size[1]:,} was found in an image of {hw[0]:,} x {hw[1]:,}")
        return (), {"size": size, "counts": segmentation["counts"]}
    return tuple([corners_of(np.asarray(flat, np.float64).reshape(-1, 2))] for flat in segmentation), None
