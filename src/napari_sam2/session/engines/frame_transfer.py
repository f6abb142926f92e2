"""Frames for a server: opened there from the same file, or sent once each and kept in a cache of limited size."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import imagecodecs
import numpy as np

from napari_sam2._errors import FrameError, NapariSAM2Error
from napari_sam2._messages import one_line
from napari_sam2.frames.contrast import StackContrast
from napari_sam2.frames.sources import Frames, open_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource

__all__ = ["FrameOffer", "PackedFrame", "ReceivedFrames", "offer_frames", "pack_frame", "reopen", "unpack_frame"]

_ROUNDED_NS = (100, 1000, 10**6, 10**9, 2 * 10**9)  # to which drives round times of change: SMB, ..., FAT
_RAW_FRAMES = 4  # decompressed, as several views of one frame are read one after the other


@dataclass(frozen=True)
class PackedFrame:
    """A compressed frame.

    Attributes
    ----------
    hw : tuple of int
        Height and width.
    channels : int
        1 where red, green and blue are equal, else 3.
    data : bytes
        Differences of neighbouring pixels, compressed with Zstandard.
    """

    hw: tuple[int, int]
    channels: int
    data: bytes


def pack_frame(rgb: NDArray[np.uint8]) -> PackedFrame:
    """Compress an (H, W, 3) uint8 frame without loss."""
    h, w = rgb.shape[:2]
    is_grey = np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2])
    planes = rgb[..., :1] if is_grey else rgb
    differences = np.diff(np.ascontiguousarray(np.moveaxis(planes, -1, 0)), axis=-1, prepend=np.uint8(0))
    data = bytes(imagecodecs.zstd_encode(differences.tobytes(), 1))
    return PackedFrame((h, w), len(differences), data)


def unpack_frame(packed: PackedFrame) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a compressed frame; raises FrameError if it is damaged."""
    h, w = packed.hw
    size = packed.channels * h * w
    try:
        data = imagecodecs.zstd_decode(packed.data, out=size)
    except RuntimeError as error:
        raise FrameError(f"a frame arrived damaged ({error}); send it again") from error
    if len(data) != size:
        raise FrameError(f"a frame arrived with {len(data)} bytes; expected {size}")
    planes = np.frombuffer(data, np.uint8).reshape(packed.channels, h, w).cumsum(-1, dtype=np.uint8)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(np.broadcast_to(planes, (3, h, w)), 0, -1))
    return rgb


@dataclass(frozen=True)
class FileRecipe:
    """How frames were opened from a file; arguments as for `open_frames`.

    ``size_and_time`` are those of a single file when it was opened, in bytes and nanoseconds.
    """

    path: str
    axes: str
    frame_axis: str | None
    fixed: tuple[tuple[str, int], ...]
    channels: tuple[int, ...]
    colours: tuple[tuple[float, ...], ...] | None
    contrast: StackContrast
    gamma: float
    size_and_time: tuple[int, int] | None = None


@dataclass(frozen=True)
class FrameOffer:
    """What a server needs to know about a stack.

    Attributes
    ----------
    shape : tuple of int
        (T, H, W).
    key : str
        Names the pixels.
    recipe : FileRecipe or None
        How the server may open them itself.
    checksums : tuple of (int, str)
        Frames that must be equal there for that, and their SHA-256.
    """

    shape: tuple[int, int, int]
    key: str
    recipe: FileRecipe | None = None
    checksums: tuple[tuple[int, str], ...] = ()


def offer_frames(frames: FrameSource) -> FrameOffer:
    """Describe a stack; of a file, the first, middle and last frames are read.

    Raises
    ------
    FrameError
        If they cannot be read.
    """
    shape = frames.shape
    options = frames.reopening() if isinstance(frames, Frames) else None
    if options is None:
        return FrameOffer(shape, frames.key)
    checked = sorted({0, shape[0] // 2, shape[0] - 1})
    recipe = FileRecipe(
        path=str(options.path),
        axes=options.axes,
        frame_axis=options.frame_axis,
        fixed=options.fixed,
        channels=options.channels,
        colours=options.colours,
        contrast=options.contrast,
        gamma=options.gamma,
        size_and_time=options.size_and_time,
    )
    return FrameOffer(shape, frames.key, recipe, tuple((t, _checksum(frames[t])) for t in checked))


class Reopened(NamedTuple):
    """What became of an offer on this computer.

    Attributes
    ----------
    frames : Frames or None
        The frames from their file; None if they have to be sent.
    note : str
        Why they have to be sent although the file is there; else empty.
    """

    frames: Frames | None
    note: str = ""


def reopen(offer: FrameOffer) -> Reopened:
    """The frames of an offer from their file on this computer, if it is there, can be read, and is the same one."""
    recipe = offer.recipe
    if recipe is None or not Path(recipe.path).exists():
        return Reopened(None)
    sent = "; the frames are sent to the server"
    try:
        frames = open_frames(
            recipe.path,
            axes=recipe.axes,
            frame_axis=recipe.frame_axis,
            fixed=dict(recipe.fixed) or None,
            channels=recipe.channels,
            colours=recipe.colours,
            contrast=recipe.contrast,
            gamma=recipe.gamma,
        )
        # the key holds size and time of the file
        options = frames.reopening()
        found = None if options is None else options.size_and_time
        if frames.key != offer.key and not _is_rounded(recipe.size_and_time, found):
            return Reopened(None, f"{recipe.path} has another size or time of change on the server{sent}")
        if not all(_checksum(frames[t]) == checksum for t, checksum in offer.checksums):
            return Reopened(None, f"{recipe.path} has other pixels on the server{sent}")
    except (NapariSAM2Error, OSError) as error:
        return Reopened(None, f"{recipe.path} cannot be read on the server ({one_line(error)}){sent}")
    return Reopened(frames)


def _is_rounded(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two sizes are equal, and the times are one that one of the drives rounded."""
    if one is None or other is None or one[0] != other[0]:
        return False
    times = one[1], other[1]
    return any(abs(times[0] - times[1]) < unit and not all(time % unit for time in times) for unit in _ROUNDED_NS)


def _checksum(rgb: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rgb).data).hexdigest()


class ReceivedFrames:
    """Frames that are sent on demand; a ``FrameSource`` that blocks until a frame has come.

    Parameters
    ----------
    offer : FrameOffer
        Shape and key.
    cache_bytes : int
        Size of the compressed frames that are kept; the frames used longest ago are dropped first.
    on_wanted : callable
        Called when a frame is needed that is not there.
    timeout_s : float
        How long to wait for it.
    """

    def __init__(
        self, offer: FrameOffer, *, cache_bytes: int, on_wanted: Callable[[], object], timeout_s: float
    ) -> None:
        self._offer = offer
        self._limit = cache_bytes
        self._on_wanted = on_wanted
        self._timeout_s = timeout_s
        self._arrived = threading.Condition()
        self._packed: OrderedDict[int, PackedFrame] = OrderedDict()
        self._raw: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._wanted: int | None = None
        self._is_closed = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return self._offer.shape

    @property
    def key(self) -> str:
        """Names the pixels."""
        return self._offer.key

    @property
    def wanted(self) -> int | None:
        """The frame that is waited for."""
        return self._wanted

    @property
    def num_bytes(self) -> int:
        """Size of the compressed frames that are kept."""
        return self._bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises FrameError if the frame does not come in time."""
        with self._arrived:
            if frame in self._raw:
                self._raw.move_to_end(frame)
                return self._raw[frame]
            if frame not in self._packed:
                self._wait_for(frame)
            self._packed.move_to_end(frame)
            packed = self._packed[frame]
        rgb = unpack_frame(packed)
        rgb.setflags(write=False)
        with self._arrived:
            self._raw[frame] = rgb
            while len(self._raw) > _RAW_FRAMES:
                self._raw.popitem(last=False)
        return rgb

    def _wait_for(self, frame: int) -> None:
        self._wanted = frame
        self._on_wanted()
        try:
            has_come = self._arrived.wait_for(lambda: frame in self._packed or self._is_closed, self._timeout_s)
        finally:
            self._wanted = None
        if not has_come or self._is_closed:
            raise FrameError(f"frame {frame} was not sent to the server in time; check the connection and try again")

    def add(self, frames: Mapping[int, PackedFrame]) -> None:
        """Keep frames that have come."""
        with self._arrived:
            for frame, packed in frames.items():
                if frame in self._packed:
                    self._bytes -= len(self._packed[frame].data)
                self._packed[frame] = packed
                self._packed.move_to_end(frame)
                self._bytes += len(packed.data)
            while self._bytes > self._limit and len(self._packed) > 1:
                _, dropped = self._packed.popitem(last=False)
                self._bytes -= len(dropped.data)
            self._arrived.notify_all()

    def close(self) -> None:
        """Stop waiting, and drop all frames."""
        with self._arrived:
            self._is_closed = True
            self._packed.clear()
            self._raw.clear()
            self._bytes = 0
            self._arrived.notify_all()
