"""What computing on a server costs: a click and a tracked frame beside the same work in this process, and bytes.

python benchmarks/elsewhere.py [--side 512] [--frames 40] [--rounds 5] [--delay-ms 20] [--frame-ms 30]

The server runs on this computer, as processes of its own; all sessions compute with the same number of threads.
Clicks and propagations alternate between all sessions. Frames are sent, not opened from a file. With ``--delay-ms``
there is a third session, ``far``, on a worker of its own; its connection goes through a proxy that holds back every
byte for that time in each direction.

Times of tracked frames are compared round by round: the median of the ratios, and the ratio of the fastest rounds, on
which other programs have the least effect. In the first round, which is given by itself, the frames are sent.
Processor times are those of this process, the scheduler and all workers together.

``--frame-ms 30`` waits for that time in place of tracking a frame, in all sessions; masks are bright pixels. What the
connection adds can then be measured on a machine whose processor has other work too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import psutil
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_sam2.inference.requests import TrackRequest


def make_movie(num_frames: int, side: int) -> NDArray[np.uint8]:
    """(T, side, side): ten discs that drift over noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    movie = rng.integers(0, 60, (num_frames, side, side), np.uint8)
    for t in range(num_frames):
        for n in range(10):
            centre_y, centre_x = (0.1 + 0.085 * n) * side, (0.15 + 0.07 * n) * side + t
            movie[t][(y - centre_y) ** 2 + (x - centre_x) ** 2 < (side / 40) ** 2] += 120
    return movie


@contextmanager
def delayed(address: str, seconds: float) -> Iterator[str]:
    """The address of a proxy in front of a server that holds back all bytes for some seconds."""
    if not seconds:
        yield address
        return
    target = urlsplit(address)
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    is_ready = threading.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                writer.write(data)
                if not data:
                    writer.close()
                    return

        sending = asyncio.create_task(send())
        while data := await reader.read(1 << 16):
            queue.put_nowait((time.monotonic() + seconds, data))
        queue.put_nowait((time.monotonic() + seconds, b""))
        await sending

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    async def run() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        is_ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True).start()
    is_ready.wait()
    yield f"{target.scheme}://127.0.0.1:{ports[0]}"


def wait_for_frames(seconds: float) -> None:
    """Have all sessions of this process wait in place of tracking: masks are bright pixels where the discs are."""
    from napari_sam2._packed_mask import PackedMask
    from napari_sam2.session.engines.local_engine import LocalEngine
    from napari_sam2.session.engines.tracked_planes import TrackedPlane
    from napari_sam2.session.state.records import ObjectMask

    def track(self: LocalEngine, request: TrackRequest, should_stop: Callable[[], bool]) -> Iterator[TrackedPlane]:
        for step in request.steps:
            if should_stop():
                return
            frame = np.asarray(self.frames[step.frame])
            time.sleep(seconds)
            masks = {}
            for object_id in step.reported_ids:
                top = (0.1 + 0.085 * (object_id - 2)) * frame.shape[0] - 20
                left = (0.15 + 0.07 * (object_id - 2)) * frame.shape[1] - 20
                y, x = max(0, int(top)), max(0, int(left))
                bright = frame[y : y + 40, x : x + 80, 0] > 100
                masks[object_id] = ObjectMask(PackedMask.pack(bright, origin_yx=(y, x)), "tracked", 0.9, 5.0)
            yield TrackedPlane(step, masks)

    LocalEngine.track = track  # type: ignore[method-assign, assignment]


def wait_for_frames_there(address: str, seconds: float) -> None:
    """The same in the processes of a server."""
    from distributed import Client, WorkerPlugin

    class Waiting(WorkerPlugin):  # type: ignore[misc]  # types of distributed are not read
        def setup(self, worker: object) -> None:
            del worker
            wait_for_frames(seconds)

    with Client(address, set_as_default=False) as client:
        client.register_plugin(Waiting())


def measure(
    addresses: dict[str, str], movie: NDArray[np.uint8], threads: int, num_clicks: int, rounds: int
) -> dict[str, object]:
    """Times of the sessions on these servers beside those of one in this process; and whether the labels are equal."""
    from napari_sam2 import Session, SessionSettings
    from napari_sam2.session.engines.remote_engine import RemoteEngine

    side = movie.shape[1]
    places = [(int((0.1 + 0.085 * n) * side), int((0.15 + 0.07 * n) * side)) for n in range(10)]
    settings = SessionSettings(threads=threads)
    with ExitStack() as opened:
        sessions = {"here": opened.enter_context(Session(movie, settings=settings))}
        for name, address in addresses.items():
            sessions[name] = opened.enter_context(Session(movie, settings=settings, compute=address))
        clicks: dict[str, list[float]] = {name: [] for name in sessions}
        tracked: dict[str, list[float]] = {name: [] for name in sessions}
        processor: dict[str, list[float]] = {name: [] for name in sessions}
        for session in sessions.values():  # loads the model, and sends the frame
            session.add_points([[0, 1, 1]])
        engine = sessions["there"]._engine_keeper._engine  # noqa: SLF001 - bytes are of no interest to users
        assert isinstance(engine, RemoteEngine)
        traffic = engine.traffic
        before = traffic.sent + traffic.received
        for y, x in places[:num_clicks]:
            for name, session in sessions.items():
                begin = time.perf_counter()
                session.add_points([[0, y, x]])
                clicks[name].append(time.perf_counter() - begin)
        click_bytes = (traffic.sent + traffic.received - before) / num_clicks
        frames, is_equal = 0, True
        before = traffic.received
        for _ in range(rounds):
            for name, session in sessions.items():
                begin, used = time.perf_counter(), _processor_s()
                handle = session.propagate(object_ids=[2, 3, 4])
                tracked[name].append((time.perf_counter() - begin) / handle.num_steps)
                processor[name].append((_processor_s() - used) / handle.num_steps)
                frames += handle.num_steps * (name == "there")
            labels = [np.asarray(session.labels) for session in sessions.values()]
            is_equal = is_equal and all(np.array_equal(labels[0], other) for other in labels[1:])
            for session in sessions.values():  # so that the next round tracks the same frames
                session.undo()
        frame_bytes = (traffic.received - before) / frames
        sent = traffic.sent / max(1, traffic.frames)
    found: dict[str, object] = {
        "click_here_ms": 1000 * statistics.median(clicks["here"]),
        "frame_here_ms": 1000 * statistics.median(tracked["here"]),
        **{f"processor_ms_{name}": 1000 * statistics.median(times) for name, times in processor.items()},
    }
    for name in addresses:
        added = [there - here for here, there in zip(clicks["here"], clicks[name], strict=True)]
        found[f"click_added_ms_{name}"] = 1000 * statistics.median(added)
        found |= _ratios(name, tracked[name], "here", tracked["here"])
    if "far" in addresses:
        found |= _ratios("far", tracked["far"], "there", tracked["there"])
    return {
        **found,
        "bytes_per_click": click_bytes,
        "bytes_per_frame_received": frame_bytes,
        "bytes_per_frame_sent": sent,
        "raw_bytes_per_frame": float(movie[0].nbytes),
        "equal_labels": is_equal,
        "frame_ms": {name: [round(1000 * each, 2) for each in times] for name, times in tracked.items()},
    }


def _processor_s() -> float:
    """Processor time of this process and of those that it has started, which run still."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _ratios(name: str, times: list[float], other: str, theirs: list[float]) -> dict[str, object]:
    """Time of tracked frames in one place to that in another: in the first round, in the others, and at best."""
    ratios = [mine / its for mine, its in zip(times, theirs, strict=True)]
    return {
        f"first_ratio_{name}_{other}": ratios[0],
        f"frame_ratio_{name}_{other}": statistics.median(ratios[1:] or ratios),
        f"best_ratio_{name}_{other}": min(times) / min(theirs),
    }


def main() -> int:
    """Run the benchmark and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--clicks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--frame-ms", type=float, default=0.0, help="wait for so long in place of tracking a frame")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from napari_sam2._dask import num_cores
    from napari_sam2.session.engines.engine_actor import ServerSettings
    from napari_sam2.session.engines.server import ServerPlace, serving

    movie = make_movie(given.frames, given.side)
    is_delayed, workers = given.delay_ms > 0, 2
    with (
        serving(ServerPlace(port=0, workers=workers), ServerSettings(device="cpu")) as server,
        delayed(server.address, given.delay_ms / 1000) as proxied,
    ):
        if given.frame_ms:
            wait_for_frames(given.frame_ms / 1000)
            wait_for_frames_there(server.address, given.frame_ms / 1000)
        addresses = {"there": server.address, **({"far": proxied} if is_delayed else {})}
        found = measure(addresses, movie, max(1, num_cores() // workers), given.clicks, given.rounds)
    for name, value in found.items():
        print(f"{name:26} {value:.3f}" if isinstance(value, float) else f"{name:26} {value}")
    if given.json is not None:
        given.json.write_text(json.dumps({"kind": "elsewhere", "delay_ms": given.delay_ms, **found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
