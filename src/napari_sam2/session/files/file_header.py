"""The header of a session file: package version, model, settings, and the image that the session belongs to."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2._messages import shown
from napari_sam2.frames.display import ChannelDisplay, displays_of, plane_values
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.session.files.model_names import hash_of, is_network, model_name
from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.snapshot import SessionSetup

__all__ = ["FileHeader", "ImageReference", "ModelReference", "RowCounts", "describe", "image_sample"]


@dataclass(frozen=True)
class ModelReference:
    """A model by name or path, the SHA-256 of its file where known, and whether it was a network without a file."""

    name: str
    sha256: str | None = None
    is_network: bool = False

    @classmethod
    def of(cls, model: SAM2 | str | Path) -> ModelReference:
        """The reference to a model; the file of its weights is read once."""
        return cls(model_name(model), hash_of(model), is_network(model))


@dataclass(frozen=True)
class ImageReference:
    """The image that a session belongs to.

    Attributes
    ----------
    path : str or None
        Where it was read from; None for an array.
    shape : tuple of int
        Without channels: (..., H, W).
    frame_axis : int or None
        The axis that objects are followed along.
    dtype : str
        Of its values; empty where the source does not say.
    looks : tuple of ChannelDisplay or None
        How its channels are shown; None where the source decides for itself.
    sample : str or None
        Hash of a few planes.
    """

    path: str | None
    shape: tuple[int, ...]
    frame_axis: int | None
    dtype: str = ""
    looks: tuple[ChannelDisplay, ...] | None = None
    sample: str | None = None


@dataclass(frozen=True)
class RowCounts:
    """How many rows of each kind a session file holds, so that none can be lost unnoticed."""

    objects: int = 0
    prompts: int = 0
    masks: int = 0
    operations: int = 0
    conditions: int = 0


@dataclass(frozen=True)
class FileHeader:
    """The header of a session file; the ``first_`` values are those that its calls begin with."""

    image: ImageReference
    model: ModelReference
    settings: SessionSettings
    first_model: ModelReference
    first_settings: SessionSettings
    first_looks: tuple[ChannelDisplay, ...] | None = None
    has_automatic_contrast: bool = True
    package: str = ""
    saved_at: float = field(default_factory=time.time)
    counts: RowCounts = RowCounts()

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> FileHeader:
        """The inverse of ``to_text``.

        Raises
        ------
        ValueError, TypeError, KeyError, RecursionError
            If a value is missing, or is not one that a session can have.
        """
        raw = _Fields(json.loads(text))
        image = raw.part("image")
        header = cls(
            image=ImageReference(
                path=image.take("path", str, type(None)),
                shape=tuple(_count(n) for n in image.take("shape", list)),
                frame_axis=image.take("frame_axis", int, type(None)),
                dtype=image.take("dtype", str),
                looks=_looks(image.take("looks", list, type(None))),
                sample=image.take("sample", str, type(None)),
            ),
            model=_model(raw.part("model")),
            settings=_settings(raw.part("settings")),
            first_model=_model(raw.part("first_model")),
            first_settings=_settings(raw.part("first_settings")),
            first_looks=_looks(raw.take("first_looks", list, type(None))),
            has_automatic_contrast=raw.take("has_automatic_contrast", bool),
            package=raw.take("package", str),
            saved_at=float(raw.take("saved_at", float, int)),
            counts=_row_counts(raw.part("counts")),
        )
        StackGeometry(header.image.shape, header.image.frame_axis)  # raises where the axes do not fit the shape
        if not 0 <= header.saved_at < _LATEST:
            raise ValueError(f"it was saved at {header.saved_at}")
        return header


_LATEST = 253402300800.0  # s since 1970: the year 10,000


class _Fields:
    """A JSON object whose values are taken by name and type."""

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, dict):
            raise TypeError(f"{shown(raw):.40} is not a JSON object")
        self._raw = raw

    def take(self, name: str, *types: type) -> Any:
        value = self._raw[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise TypeError(f"{name} is {shown(value):.40}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{name} holds a null character")
        return value

    def part(self, name: str) -> _Fields:
        return _Fields(self._raw[name])

    def items(self) -> dict[str, Any]:
        return dict(self._raw)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"{shown(value):.40} is not a length")
    return value


def _model(raw: _Fields) -> ModelReference:
    return ModelReference(
        raw.take("name", str), raw.take("sha256", str, type(None)), is_network=raw.take("is_network", bool)
    )


def _row_counts(raw: _Fields) -> RowCounts:
    """Files of formats 2 and 3 have no conditions."""
    known = _Fields({"conditions": 0, **raw.items()})
    return RowCounts(**{f.name: known.take(f.name, int) for f in fields(RowCounts)})


def _settings(raw: _Fields) -> SessionSettings:
    known = {f.name for f in fields(SessionSettings)}
    return SessionSettings(**{name: value for name, value in raw.items().items() if name in known})


def _looks(raw: list[object] | None) -> tuple[ChannelDisplay, ...] | None:
    return None if raw is None else tuple(_look(_Fields(each)) for each in raw)


def _look(raw: _Fields) -> ChannelDisplay:
    low, high = _numbers(raw.take("limits", list), 2)
    red, green, blue = _numbers(raw.take("colour", list), 3)
    (gamma,) = _numbers([raw.take("gamma", float, int)], 1)
    usual = _Fields({"usual": None, **raw.items()}).take("usual", float, int, type(None))  # older files have none
    return ChannelDisplay(
        (low, high),
        gamma,
        (red, green, blue),
        raw.take("is_rgb", bool),
        None if usual is None else _numbers([usual], 1)[0],
    )


def _numbers(values: list[object], count: int) -> list[float]:
    if len(values) != count or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        raise ValueError(f"{shown(values):.60} are not {count} finite numbers")
    return [float(v) for v in values if isinstance(v, (int, float))]


def describe(setup: SessionSetup, settings: SessionSettings) -> FileHeader:
    """The description of a session for its file; reads a few planes and the weights' file, once each."""
    frames, geometry, origin = setup.frames, setup.geometry, setup.origin
    dtype = str(np.dtype(frames.channels[0].array.dtype)) if isinstance(frames, ArrayPlanes) else ""
    return FileHeader(
        image=ImageReference(
            _absolute(origin.stack_path),
            geometry.shape,
            geometry.frame_axis,
            dtype,
            displays_of(frames),
            image_sample(frames),
        ),
        model=ModelReference.of(setup.model),
        settings=settings,
        first_model=ModelReference.of(origin.model),
        first_settings=origin.settings,
        first_looks=displays_of(origin.frames),
        has_automatic_contrast=origin.has_automatic_contrast,
        package=version("napari-sam2"),
    )


def _absolute(path: str | None) -> str | None:
    """The path as an absolute one; a name that is not a path of this system is returned unchanged."""
    if path is None:
        return None
    try:
        place = Path(path).expanduser()
        return str(place.resolve()) if place.exists() else path
    except (OSError, RuntimeError, ValueError):  # no name of a file here
        return path


_samples: dict[str, str | None] = {}
_KEPT_SAMPLES = 32


def image_sample(frames: FrameSource) -> str | None:
    """SHA-256 of the first, the middle and the last plane's values; None where one cannot be read."""
    if frames.key not in _samples:
        while len(_samples) >= _KEPT_SAMPLES:
            del _samples[next(iter(_samples))]
        _samples[frames.key] = _sample(frames)
    return _samples[frames.key]


def _sample(frames: FrameSource) -> str | None:
    digest = hashlib.sha256()
    try:
        for plane in sorted({0, len(frames) // 2, len(frames) - 1}):
            for array in plane_values(frames, plane):
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    except FrameError:
        return None
    return digest.hexdigest()
