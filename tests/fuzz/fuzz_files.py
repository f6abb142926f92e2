"""Damaged and hostile files, each opened in a process of its own with limits on time and memory."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from napari_sam2 import NapariSAM2Error

__all__ = ["REFUSED", "flipped", "outcome"]

REFUSED = "refused"
_WALL_FACTOR = 30  # a busy machine takes so much longer than the seconds of computing that are allowed


def outcome(function: Callable[[], str], *, cpu_s: int = 5, memory: int = 500 * 2**20) -> str:
    """What a function returns in a child process, REFUSED for an error of the package, or what went wrong.

    Parameters
    ----------
    function : callable
        Returns a text; it runs in a copy of this process.
    cpu_s : int, default 5
        Seconds of computing after which the child is ended.
    memory : int, default 500 MiB
        Bytes that it may take beyond what this process holds.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - a process that ends without a report
        os.close(reader)
        _answer(function, writer, cpu_s, memory)
    os.close(writer)
    return _result_of(child, reader, cpu_s * _WALL_FACTOR)


def _answer(function: Callable[[], str], writer: int, cpu_s: int, memory: int) -> None:
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used + cpu_s + 1, used + cpu_s + 1))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        warnings.simplefilter("ignore")
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - this process ends soon
        try:
            text = function()
        except NapariSAM2Error as error:
            text = REFUSED if str(error).strip() else "an error without text"
        except BaseException as error:  # noqa: BLE001 - what is looked for
            place = [f for f in traceback.extract_tb(error.__traceback__) if "napari_sam2" in f.filename][-3:]
            where = " < ".join(f"{f.filename.rpartition('napari_sam2/')[2]}:{f.lineno}" for f in reversed(place))
            text = f"{type(error).__name__}: {str(error)[:200]!r} at {where}"
        os.write(writer, text.encode("utf-8", "backslashreplace")[:60_000])
    finally:
        os._exit(0)


def _result_of(child: int, reader: int, wall_s: float) -> str:
    began, parts = time.monotonic(), []
    os.set_blocking(reader, False)
    try:
        while True:
            try:
                part = os.read(reader, 65536)
            except BlockingIOError:
                if time.monotonic() - began > wall_s:
                    os.kill(child, signal.SIGKILL)
                    return f"not done within {wall_s:g} s"
                time.sleep(0.002)
                continue
            if not part:
                break
            parts.append(part)
    finally:
        os.close(reader)
        _, status = os.waitpid(child, 0)
    if not parts:
        ended = os.waitstatus_to_exitcode(status)
        return f"ended by {signal.Signals(-ended).name}" if ended < 0 else f"ended with {ended} and no answer"
    return b"".join(parts).decode()


def flipped(data: bytes, places: list[tuple[int, int]]) -> bytes:
    """A copy in which bytes are changed: each place with what is XORed into it."""
    changed = bytearray(data)
    for place, bits in places:
        changed[place] ^= bits
    return bytes(changed)
