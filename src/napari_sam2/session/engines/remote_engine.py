"""The engine of a session on another computer: it outlives lost connections, killed workers and restarted servers."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

from napari_sam2._errors import DeviceError, FrameError
from napari_sam2.session.engines.connection import (
    Connection,
    ConnectionLostError,
    ConnectionSettings,
    StoppedError,
)
from napari_sam2.session.engines.frame_transfer import PackedFrame, offer_frames, pack_frame
from napari_sam2.session.engines.messages import (
    EngineInfo,
    EngineSetup,
    PredictedMask,
    Prediction,
    Preparation,
    Reply,
    Tracking,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.inference.requests import AxesRequest, PredictRequest, PredictResult, TimeRequest, TrackRequest
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.engines.compute_address import ComputeAddress
    from napari_sam2.session.engines.tracked_planes import TrackedPlane
    from napari_sam2.session.state.settings import ModelState, SessionSettings

__all__ = ["RemoteEngine", "RemoteSettings", "Traffic"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteSettings:
    """How patient an engine on another computer is.

    Attributes
    ----------
    patience_s : float
        How long a lost server is tried again.
    retry_s : float
        Pause between two tries.
    frames_ahead : int
        Frames that are sent before the server needs them.
    message_bytes : int
        Frames are sent together up to this size, so that a slow connection is not waited for at each of them.
    connection : ConnectionSettings
        Time limits of one connection.
    """

    patience_s: float = 600.0
    retry_s: float = 1.0
    frames_ahead: int = 16
    message_bytes: int = 4 << 20
    connection: ConnectionSettings = field(default_factory=ConnectionSettings)


@dataclass
class Traffic:
    """Bytes of messages, without those that Dask adds.

    Attributes
    ----------
    sent, received : int
        Requests and frames; replies.
    frames : int
        Frames that were sent.
    """

    sent: int = 0
    received: int = 0
    frames: int = 0


class RemoteEngine:
    """A ``SessionEngine`` on a worker of a server.

    Everything that decides a mask is in the requests, so that another worker goes on where one was lost: tracking
    begins at the prompts again, and frames that had been tracked before are not sent twice.

    Parameters
    ----------
    address : ComputeAddress
        The server.
    model : str, Path or SAM2
        Name of a model or of a weights file that the server has too.
    frames : FrameSource
        The stack.
    settings : SessionSettings
        Precision and others; device and threads are chosen by the server.
    on_notice : callable
        Called with a sentence for the user where something takes longer, and with "" when that is over.
    should_close : callable
        Whether the session is being closed.
    remote : RemoteSettings, optional
        How patient it is.

    Raises
    ------
    DeviceError
        If the server cannot be reached, refuses the certificates or has another version.
    CheckpointError
        If it does not have the model.
    """

    def __init__(
        self,
        address: ComputeAddress,
        model: SAM2 | str | Path,
        frames: FrameSource,
        settings: SessionSettings,
        *,
        on_notice: Callable[[str], None],
        should_close: Callable[[], bool],
        remote: RemoteSettings = RemoteSettings(),
    ) -> None:
        self._address = address
        self._setup = _setup(model, settings)
        self._frames = frames
        self._on_notice = on_notice
        self._should_close = should_close
        self._remote = remote
        self._lock = threading.RLock()  # the connection: this thread, and the timer that gives the worker back
        self._connection: Connection | None = None
        self._info: EngineInfo | None = None
        self._known: set[int] = set()
        self._idle_timer: threading.Timer | None = None
        self._last_use = time.monotonic()
        self._num_working = 0
        self.traffic = Traffic()
        try:
            self._open(self._should_close)
        except ConnectionLostError as error:
            raise DeviceError(f"{error}; check the address, and that 'napari-sam2 serve' runs there") from error
        except StoppedError as error:
            raise DeviceError("the session was closed before the server answered") from error

    @property
    def model_state(self) -> ModelState:
        """The model that answers, and the server."""
        assert self._info is not None
        state = self._info.model_state
        return replace(state, server=self._address.address)

    @property
    def frames(self) -> FrameSource:
        """The stack."""
        return self._frames

    @property
    def has_file(self) -> bool:
        """Whether the server reads the frames from their file."""
        return self._info is not None and self._info.has_file

    def replace_frames(self, frames: FrameSource) -> None:
        """Replace the frames by others of the same shape."""
        self._frames = frames
        with self._lock:
            if self._connection is not None:
                try:
                    self._offer(self._connection)
                except ConnectionLostError:
                    self._drop()

    def use_threads(self, num_threads: int | None) -> None:
        """Do nothing: the server decides."""

    def prepare(self, frame: int) -> None:
        """Read and encode a frame before the first prompt, for models that see the whole image."""
        self._hint(Preparation(frame))

    def look_ahead(self, frame: int, point_xy: tuple[float, float]) -> Iterator[None]:
        """Send a frame and have a click on or near a point (x, y) prepared, unless the server was given up."""
        if self._connection is not None:
            self._hint(Preparation(frame, point_xy))
            yield

    def _hint(self, request: Preparation) -> None:
        """Have something prepared and do not wait for it; a lost connection shows with the next request."""
        try:
            with self._working():
                connection = self._connected(self._should_close)
                connection.call("prepare", pack(request), self._needed(request.frame), should_stop=self._should_close)
        except (ConnectionLostError, StoppedError) as error:
            logger.debug("nothing was prepared: %s", error)

    def predict(self, request: PredictRequest) -> PredictResult:
        """Segment one object on one frame; raises as ``Engine.predict``, and DeviceError if the server stays away."""

        def ask() -> PredictResult:
            found = [cast("PredictedMask", mask) for mask in self._stream(Prediction(request), self._should_close)]
            return found[0].unpacked()

        return self._patiently(ask, self._should_close)

    def track(self, request: TrackRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Track objects; yields the packed masks of each step, in order. Raises as ``predict``."""
        steps = [step.frame for step in request.steps]
        num_done = 0

        def is_over() -> bool:
            return should_stop() or self._should_close()

        while num_done < len(steps):
            stream = self._stream(Tracking(request, num_done), is_over, steps[num_done:])
            try:
                for plane in stream:
                    num_done += 1
                    yield cast("TrackedPlane", plane)
            except ConnectionLostError as lost:
                try:
                    self._reconnect(lost, is_over)
                except StoppedError:
                    return
            except StoppedError:
                return
            else:
                return
            finally:
                stream.close()

    def track_axes(self, request: AxesRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Refuse: the volume would have to be sent as a whole."""
        del should_stop
        raise DeviceError(
            f"objects are tracked along {', '.join(request.axes)} on this computer only; call set_compute(None) first"
        )

    def track_through_time(self, request: TimeRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        """Refuse: planes of several volumes are compared, which the server does not do."""
        del request, should_stop
        raise DeviceError("objects are tracked through time on this computer only; call set_compute(None) first")

    def close(self) -> None:
        """Give the worker back."""
        with self._lock:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            self._drop()

    # ------------------------------------------------------------------ connection
    def _open(self, should_stop: Callable[[], bool]) -> Connection:
        """Connect and make the engine there."""
        connection = Connection(self._address, self._setup, self._remote.connection, should_stop, self._on_notice)
        try:
            self._offer(connection)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._connection = connection
        return connection

    def _offer(self, connection: Connection) -> None:
        """Tell the server about the frames."""
        self._known = set()
        packed = pack(offer_frames(self._frames))
        self.traffic.sent += len(packed)
        limit = self._remote.connection.load_s
        info: EngineInfo = connection.call("open", packed, limit_s=limit, should_stop=self._should_close)
        self._info = info
        if info.note:
            self._on_notice(info.note)

    def _connected(self, should_stop: Callable[[], bool]) -> Connection:
        """The connection; made again if the worker was given back meanwhile."""
        with self._lock:
            connection = self._connection
        if connection is not None:
            return connection
        made = self._open(should_stop)
        self._on_notice("")
        return made

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            self._known = set()
        if connection is not None:
            connection.close()

    def _reconnect(self, lost: ConnectionLostError, should_stop: Callable[[], bool]) -> None:
        """Try again until the server is back.

        Raises
        ------
        DeviceError
            If it stays away.
        StoppedError
            If ``should_stop`` came true.
        """
        logger.info("%s", lost)
        self._drop()
        self._on_notice(f"{lost}; finished frames are kept, trying again")
        end = time.monotonic() + self._remote.patience_s
        while True:
            try:
                self._open(should_stop)
            except ConnectionLostError as error:
                if time.monotonic() > end:
                    raise DeviceError(
                        f"{error}; it was tried again for {self._remote.patience_s:g} s. Finished frames are kept: go "
                        "on when the server runs again"
                    ) from error
                pause = time.monotonic() + self._remote.retry_s
                while time.monotonic() < pause:
                    if should_stop():
                        raise StoppedError from None
                    time.sleep(0.05)
            else:
                self._on_notice("")
                return

    def _patiently(self, ask: Callable[[], T], should_stop: Callable[[], bool]) -> T:
        """The result of a request, which is repeated where the connection was lost."""
        try:
            while True:
                try:
                    return ask()
                except ConnectionLostError as lost:
                    self._reconnect(lost, should_stop)
        except StoppedError as error:
            raise DeviceError("the session was closed before the server answered") from error

    # ------------------------------------------------------------------ requests
    def _stream(
        self, request: Prediction | Tracking, should_stop: Callable[[], bool], frames: Sequence[int] = ()
    ) -> Generator[object, None, None]:
        """The results of a request as they come; ``frames`` are sent ahead, in this order."""
        with self._working():
            connection = self._connected(should_stop)
            needed = self._needed(request.request.frame) if isinstance(request, Prediction) else {}
            packed = pack(request)
            self.traffic.sent += len(packed)
            sender = _FrameSender(self, connection, [] if self.has_file else frames, self._remote)
            with sender:
                asked_at = time.monotonic()
                reply: Reply = connection.call("ask", packed, needed, should_stop=should_stop)
                is_over = False
                try:
                    while True:
                        is_over = reply.is_done
                        for result in self._results(reply):
                            sender.advance()
                            yield result
                        if is_over:
                            return
                        wanted = reply.wanted
                        is_missing = wanted is not None and not sender.has_sent(wanted, since=asked_at)
                        frames_wanted = self.packed_frames([wanted] if wanted is not None and is_missing else [])
                        asked_at = time.monotonic()
                        reply = connection.call("fetch", reply.token, frames_wanted, should_stop=should_stop)
                except ConnectionLostError:
                    is_over = True
                    raise
                finally:
                    if not is_over:
                        self._stop(connection, reply)

    def _results(self, reply: Reply) -> Iterator[object]:
        """The results in a reply; then raises its error, if it has one."""
        if reply.is_lost:
            raise ConnectionLostError(f"{self._address.address} no longer knows the request")
        for result in reply.results:
            self.traffic.received += len(result)
            yield unpack(result)
        if reply.error is not None:
            raise reply.error

    def _stop(self, connection: Connection, reply: Reply) -> None:
        with contextlib.suppress(ConnectionLostError):
            connection.call("stop", reply.token, limit_s=5.0)

    def _needed(self, frame: int) -> dict[int, PackedFrame]:
        """The frame, if the server does not have it."""
        return {} if self.has_file or frame in self._known else self.packed_frames([frame])

    def is_known(self, frame: int) -> bool:
        """Whether the server was given a frame."""
        return frame in self._known

    def packed_frames(self, frames: Sequence[int]) -> dict[int, PackedFrame]:
        """Frames for the server, compressed; raises FrameError if one cannot be read."""
        packed = {t: pack_frame(self._frames[t]) for t in frames}
        self.traffic.sent += sum(len(frame.data) for frame in packed.values())
        self.traffic.frames += len(packed)
        self._known.update(packed)
        return packed

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Within it, the worker is in use; some time after it is given back."""
        with self._lock:
            self._num_working += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_working -= 1
                self._last_use = time.monotonic()
                if self._idle_timer is None and self._info is not None:
                    self._wait_for_idle(self._info.idle_s)

    def _wait_for_idle(self, seconds: float) -> None:
        self._idle_timer = threading.Timer(seconds, self._give_back)
        self._idle_timer.daemon = True
        self._idle_timer.start()

    def _give_back(self) -> None:
        """Give the worker back unless it was used meanwhile; then look again later."""
        with self._lock:
            self._idle_timer = None
            if self._connection is None or self._info is None:
                return
            left = self._info.idle_s - (time.monotonic() - self._last_use)
            if self._num_working or left > 0:
                self._wait_for_idle(max(left, 0.1) if not self._num_working else self._info.idle_s)
                return
        self._drop()


class _FrameSender:
    """Within ``with``, a thread sends frames some time before the server needs them.

    Parameters
    ----------
    engine : RemoteEngine
        Packs the frames.
    connection : Connection
        Where they are sent.
    frames : sequence of int
        In the order in which they are needed.
    settings : RemoteSettings
        How many are sent before the result of the first of them has come, and how many together.
    """

    def __init__(
        self, engine: RemoteEngine, connection: Connection, frames: Sequence[int], settings: RemoteSettings
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._frames = frames
        self._settings = settings
        self._may_send = threading.Condition()
        self._num_done = 0
        self._is_over = False
        self._arrival: dict[int, float] = {}  # when frames arrived; infinite while they are under way
        self._thread = threading.Thread(target=self._run, name="napari-sam2-frames", daemon=True)

    def __enter__(self) -> Self:
        if self._frames:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._may_send:
            self._is_over = True
            self._may_send.notify()

    def advance(self) -> None:
        """Note that the result of one more frame has come."""
        with self._may_send:
            self._num_done += 1
            self._may_send.notify()

    def has_sent(self, frame: int, *, since: float) -> bool:
        """Whether a frame is under way, or has arrived since a time at which the server may have missed it."""
        return self._arrival.get(frame, -math.inf) >= since

    def _run(self) -> None:
        number = 0
        while number < len(self._frames):
            with self._may_send:
                while number >= self._num_done + self._settings.frames_ahead and not self._is_over:
                    self._may_send.wait()
                if self._is_over:
                    return
                stop = self._num_done + self._settings.frames_ahead
            together: dict[int, PackedFrame] = {}
            try:
                while number < min(stop, len(self._frames)) and self._size(together) < self._settings.message_bytes:
                    frame = self._frames[number]
                    number += 1
                    if not self._engine.is_known(frame):
                        self._arrival[frame] = math.inf
                        together |= self._engine.packed_frames([frame])
                if together:
                    self._connection.call("give", together, should_stop=lambda: self._is_over)
            except (
                ConnectionLostError,
                StoppedError,
                FrameError,
            ) as problem:  # whoever fetches the results meets it too
                logger.debug("frame %d was not sent: %s", frame, problem)
                for each in (*together, frame):
                    self._arrival.pop(each, None)
                return
            self._arrival |= dict.fromkeys(together, time.monotonic())

    @staticmethod
    def _size(frames: Mapping[int, PackedFrame]) -> int:
        return sum(len(frame.data) for frame in frames.values())


def _setup(model: SAM2 | str | Path, settings: SessionSettings) -> EngineSetup:
    """What the server is to compute; raises DeviceError for a network that only this process has."""
    from napari_sam2.weights.downloads import BUNDLED_MODEL, RELEASES
    from napari_sam2.weights.loading import model_hash

    if not isinstance(model, str | Path):
        raise DeviceError(
            "the model was given as a network in memory; a server needs its name, such as model='sam2_micro', or the "
            "path of a weights file that it has too"
        )
    digest = None
    name = str(model)
    if name != BUNDLED_MODEL and name not in RELEASES:
        path = Path(name).expanduser().resolve()
        file = path / "model.safetensors" if path.is_dir() else path
        digest = model_hash(file) if file.is_file() else None
        name = str(path)
    return EngineSetup(version("napari-sam2"), name, digest, settings)
