"""Files of candidate masks, so that thresholds can be changed later without a new search."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2.inference.automatic.point_grids import Crop
from napari_sam2.inference.automatic.proposals import Proposals

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["image_digest", "read_proposals", "write_proposals"]

_FORMAT = "napari-sam2 candidates 1"


def image_digest(rgb: NDArray[np.uint8]) -> str:
    """Hexadecimal digest of an image's shape and pixels."""
    digest = hashlib.blake2b(str(rgb.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def write_proposals(path: Path, proposals: Proposals, origin: Mapping[str, str]) -> None:
    """Write candidates as .npz.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    proposals : Proposals
        The candidates.
    origin : mapping of str to str
        Image, model and options that they were made with; returned by `read_proposals`.
    """
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            about=np.array(json.dumps({"format": _FORMAT, "origin": dict(origin)})),
            hw=np.array(proposals.hw, np.int64),
            crops=np.array([[*crop.box, crop.layer] for crop in proposals.crops], np.int64),
            runs=np.concatenate([np.zeros(0, np.int32), *proposals.runs]),
            num_runs=np.array([len(run) for run in proposals.runs], np.int64),
            boxes_xyxy=proposals.boxes_xyxy,
            predicted_iou=proposals.predicted_iou,
            stability=proposals.stability,
            points_xy=proposals.points_xy,
            crop_index=proposals.crop_index,
        )


def read_proposals(path: Path) -> tuple[Proposals, dict[str, str]]:
    """Candidates and their origin, from a file of `write_proposals`.

    Raises
    ------
    FrameError
        If the file is missing, damaged or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _unpack({name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or of another format"
        raise FrameError(
            f"the candidates in {path} cannot be read ({reason}); search again into another file"
        ) from error


def _unpack(arrays: dict[str, NDArray[Any]]) -> tuple[Proposals, dict[str, str]]:
    """The content of a file; KeyError, ValueError or TypeError if the format is wrong."""
    about = json.loads(str(arrays["about"]))
    if about["format"] != _FORMAT:
        raise ValueError(about["format"])
    ends = np.cumsum(arrays["num_runs"])[:-1]
    height, width = (int(n) for n in arrays["hw"])
    proposals = Proposals(
        hw=(height, width),
        crops=tuple(Crop((x0, y0, x1, y1), layer) for x0, y0, x1, y1, layer in arrays["crops"].tolist()),
        runs=tuple(np.split(arrays["runs"], ends)) if len(arrays["num_runs"]) else (),
        boxes_xyxy=arrays["boxes_xyxy"],
        predicted_iou=arrays["predicted_iou"],
        stability=arrays["stability"],
        points_xy=arrays["points_xy"],
        crop_index=arrays["crop_index"],
    )
    return proposals, {str(key): str(value) for key, value in about["origin"].items()}
