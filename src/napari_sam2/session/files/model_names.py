"""The name or path of a session's model, and the hash of its weights file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2

__all__ = ["hash_of", "is_network", "model_name"]


def is_network(model: SAM2 | str | Path) -> bool:
    """Whether a network was given, rather than the name of one."""
    return not isinstance(model, (str, Path))


def model_name(model: SAM2 | str | Path) -> str:
    """Name or path; of a network the name of its configuration."""
    return str(model) if isinstance(model, (str, Path)) else model.config.name


def hash_of(model: SAM2 | str | Path) -> str | None:
    """SHA-256 of the weights' file; None where there is none here, or a network was given. Reads the file once."""
    if not isinstance(model, (str, Path)):
        return None
    from napari_sam2.weights.downloads import list_models

    known = next((info for info in list_models() if info.name == str(model)), None)
    if known is not None and known.sha256 is not None:
        return known.sha256
    path = Path(model).expanduser() if known is None else known.path
    if not path.is_file():
        return None
    return _hash(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _hash(path: str, _time_of_change: int) -> str | None:
    from napari_sam2._errors import CheckpointError
    from napari_sam2.weights.downloads import model_hash

    try:
        return model_hash(path)
    except CheckpointError:
        return None
