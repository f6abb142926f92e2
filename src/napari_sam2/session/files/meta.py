"""What a session file says about itself: versions, model, settings, and the image it belongs to."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, OutputError
from napari_sam2.frames.display import ChannelDisplay, displays_of
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.session.files.model_names import hash_of, is_network, model_name
from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.snapshot import SessionSetup

__all__ = ["FORMAT", "ImageReference", "ModelReference", "SessionMeta", "describe", "image_sample"]

FORMAT = 1


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
class SessionMeta:
    """All that a session file says about itself; the ``first_`` values are those that its operations begin with."""

    image: ImageReference
    model: ModelReference
    settings: SessionSettings
    first_model: ModelReference
    first_settings: SessionSettings
    first_looks: tuple[ChannelDisplay, ...] | None = None
    has_automatic_contrast: bool = True
    package: str = ""
    saved_at: float = field(default_factory=time.time)

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> SessionMeta:
        """The inverse of ``to_text``.

        Raises
        ------
        OutputError
            If something is missing.
        """
        try:
            raw = json.loads(text)
            image = raw["image"]
            return cls(
                image=ImageReference(
                    path=image["path"],
                    shape=tuple(int(n) for n in image["shape"]),
                    frame_axis=image["frame_axis"],
                    dtype=image["dtype"],
                    looks=_looks(image["looks"]),
                    sample=image["sample"],
                ),
                model=ModelReference(**raw["model"]),
                settings=_settings(raw["settings"]),
                first_model=ModelReference(**raw["first_model"]),
                first_settings=_settings(raw["first_settings"]),
                first_looks=_looks(raw["first_looks"]),
                has_automatic_contrast=bool(raw["has_automatic_contrast"]),
                package=raw["package"],
                saved_at=float(raw["saved_at"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(f"the session file's description cannot be read ({error!r})") from error


def _settings(raw: dict[str, Any]) -> SessionSettings:
    known = {f.name for f in fields(SessionSettings)}
    return SessionSettings(**{name: value for name, value in raw.items() if name in known})


def _looks(raw: list[dict[str, Any]] | None) -> tuple[ChannelDisplay, ...] | None:
    if raw is None:
        return None
    return tuple(ChannelDisplay(tuple(r["limits"]), r["gamma"], tuple(r["colour"]), r["is_rgb"]) for r in raw)


def describe(setup: SessionSetup, settings: SessionSettings) -> SessionMeta:
    """The description of a session for its file; reads a few planes and the weights' file, once each."""
    frames, geometry, origin = setup.frames, setup.geometry, setup.origin
    dtype = str(np.dtype(frames.channels[0].array.dtype)) if isinstance(frames, ArrayPlanes) else ""
    return SessionMeta(
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
    """The same file, named from anywhere; a name that is no file of this machine stays as it is."""
    return str(Path(path).expanduser().resolve()) if path and Path(path).expanduser().exists() else path


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
            arrays = frames.raw(plane) if isinstance(frames, ArrayPlanes) else [frames[plane]]
            for array in arrays:
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    except FrameError:
        return None
    return digest.hexdigest()
