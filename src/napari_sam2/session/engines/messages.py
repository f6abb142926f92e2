"""What a session and a server send each other."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs

from napari_sam2._packed_mask import PackedMask
from napari_sam2.inference.requests import Answer, PredictResult

if TYPE_CHECKING:
    from napari_sam2.inference.requests import PredictRequest, TrackRequest
    from napari_sam2.session.state.settings import ModelState, SessionSettings

__all__ = [
    "EngineInfo",
    "EngineSetup",
    "PredictedMask",
    "Prediction",
    "Preparation",
    "Reply",
    "Tracking",
    "pack",
    "unpack",
]


@dataclass(frozen=True)
class EngineSetup:
    """What an engine on a server is made for.

    Attributes
    ----------
    version : str
        Of napari-sam2; must be the same on both sides.
    model : str or Path
        Name of a model, or a weights file on the server.
    weights_hash : str or None
        SHA-256 that a weights file must have on the server.
    settings : SessionSettings
        Device, number of threads and size of the cache are those of the server.
    """

    version: str
    model: str | Path
    weights_hash: str | None
    settings: SessionSettings


@dataclass(frozen=True)
class EngineInfo:
    """What a server says about an engine.

    Attributes
    ----------
    model_state : ModelState
        The model that answers.
    has_file : bool
        Whether the server reads the frames from their file, so that none has to be sent.
    idle_s : float
        A session that asks for nothing for so long gives its worker to others.
    note : str
        Why frames are sent although their file is there; else empty.
    """

    model_state: ModelState
    has_file: bool
    idle_s: float
    note: str = ""


@dataclass(frozen=True)
class Prediction:
    """The mask of a prompt is wanted."""

    request: PredictRequest


@dataclass(frozen=True)
class Tracking:
    """Tracked planes are wanted; the first ``skip`` of them are already known."""

    request: TrackRequest
    skip: int = 0


@dataclass(frozen=True)
class Preparation:
    """A frame is to be encoded; near a point (x, y), if one is given."""

    frame: int
    point_xy: tuple[float, float] | None = None


@dataclass(frozen=True)
class PredictedMask:
    """A `PredictResult` whose mask is packed."""

    object_id: int
    frame: int
    hw: tuple[int, int]
    mask: PackedMask
    answer: Answer

    @classmethod
    def of(cls, result: PredictResult) -> PredictedMask:
        """Pack a result."""
        h, w = result.mask.shape
        return cls(result.object_id, result.frame, (h, w), PackedMask.pack(result.mask), result.answer)

    def unpacked(self) -> PredictResult:
        """The result."""
        return PredictResult(self.object_id, self.frame, self.mask.to_image(self.hw), self.answer)


@dataclass(frozen=True)
class Reply:
    """How far a piece of work has come since the last reply.

    Attributes
    ----------
    token : int
        Number of the work.
    results : tuple of bytes
        Packed results, in order.
    wanted : int or None
        A frame that has to be sent first.
    is_done : bool
        Whether there is no more to come.
    error : Exception or None
        What ended the work early.
    is_lost : bool
        The server does not know the work any more.
    """

    token: int
    results: tuple[bytes, ...] = ()
    wanted: int | None = None
    is_done: bool = False
    error: Exception | None = None
    is_lost: bool = False


def pack(value: object) -> bytes:
    """Pickle and compress a message: prompts and answers hold whole masks, which are mostly empty."""
    return bytes(imagecodecs.zstd_encode(pickle.dumps(value, protocol=5), 1))


def unpack(data: bytes) -> object:
    """The message; it is trusted as much as the connection, over which Dask sends pickled code anyway."""
    return pickle.loads(imagecodecs.zstd_decode(data))
