"""What computing on a server costs: a click and a tracked frame beside the same work in this process, and bytes.

python benchmarks/elsewhere.py [--side 512] [--frames 40] [--delay-ms 0] [--json elsewhere.json]

The server runs on this computer, as processes of its own, with one thread; so does this process. Clicks and
propagations alternate between both, and medians are compared. Frames are sent, not opened from a file. With
``--delay-ms`` the connection goes through a proxy that holds back every byte for that time in each direction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray


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


def measure(address: str, movie: NDArray[np.uint8], num_clicks: int, rounds: int) -> dict[str, float | bool]:
    """Medians of both sides, in turns; and whether the labels are equal."""
    from napari_sam2 import Session, SessionSettings
    from napari_sam2.session.engines.remote_engine import RemoteEngine

    side = movie.shape[1]
    places = [(int((0.1 + 0.085 * n) * side), int((0.15 + 0.07 * n) * side)) for n in range(10)]
    clicks: dict[str, list[float]] = {"here": [], "there": []}
    tracked: dict[str, list[float]] = {"here": [], "there": []}
    settings = SessionSettings(threads=1)
    click_bytes = frame_bytes = 0.0
    with Session(movie, settings=settings) as here, Session(movie, settings=settings, compute=address) as there:
        sessions = {"here": here, "there": there}
        for session in sessions.values():  # loads the model, and sends the frame
            session.add_points([[0, 1, 1]])
        engine = there._engine_keeper._engine  # noqa: SLF001 - bytes are of no interest to users
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
                begin = time.perf_counter()
                handle = session.propagate(object_ids=[2, 3, 4])
                tracked[name].append((time.perf_counter() - begin) / handle.num_steps)
                frames += handle.num_steps * (name == "there")
            is_equal = is_equal and bool(np.array_equal(here.labels, there.labels))
            for session in sessions.values():  # so that the next round tracks the same frames
                session.undo()
        frame_bytes = (traffic.received - before) / frames
        sent = traffic.sent / max(1, traffic.frames)
    click, track = ({k: statistics.median(v) for k, v in each.items()} for each in (clicks, tracked))
    return {
        "click_here_ms": 1000 * click["here"],
        "click_added_ms": 1000 * (click["there"] - click["here"]),
        "frame_here_ms": 1000 * track["here"],
        "frame_ratio": track["there"] / track["here"],
        "bytes_per_click": click_bytes,
        "bytes_per_frame_received": frame_bytes,
        "bytes_per_frame_sent": sent,
        "raw_bytes_per_frame": float(movie[0].nbytes),
        "equal_labels": is_equal,
    }


def main() -> int:
    """Run the benchmark and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--clicks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from napari_sam2.session.engines.engine_actor import ServerSettings
    from napari_sam2.session.engines.server import ServerPlace, serving

    movie = make_movie(given.frames, given.side)
    with (
        serving(ServerPlace(port=0, workers=1), ServerSettings(device="cpu")) as address,
        delayed(address, given.delay_ms / 1000) as proxied,
    ):
        found = measure(proxied, movie, given.clicks, given.rounds)
    for name, value in found.items():
        print(f"{name:26} {value:.3f}" if isinstance(value, float) else f"{name:26} {value}")
    if given.json is not None:
        given.json.write_text(json.dumps({"kind": "elsewhere", "delay_ms": given.delay_ms, **found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
