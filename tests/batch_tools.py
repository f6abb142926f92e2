"""Jobs of the batch tests, in a module that worker processes can import."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from skimage import measure

from napari_sam2._errors import FrameError
from napari_sam2._files import write_whole
from napari_sam2.batch.options import FindOptions, ReadOptions
from napari_sam2.batch.pieces import Outcome, Source
from oracle import make_record

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2


@dataclass(frozen=True)
class SumJob:
    """Writes the sum of an image as text, and a line into a log for each attempt.

    Attributes
    ----------
    log : str
        Folder of the logs, one file for each input.
    factor : int
        Of the sum.
    seconds : float
        Time to wait.
    num_slain : int, optional
        Of inputs that kill their workers: how many of these. Default: all.
    """

    log: str
    factor: int = 1
    seconds: float = 0.0
    num_slain: int | None = None
    command: ClassVar[str] = "sum"
    reading: ClassVar[ReadOptions] = ReadOptions()

    def check(self, sources: Sequence[Source]) -> None:
        assert sources

    def try_on(self, source: Source) -> None:
        pass

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        attempts = self._enter(source)
        stem = source.path.stem
        if stem.startswith("kills") and attempts == 1:  # as kill -9, or the system when memory runs out
            time.sleep(0.3)  # until the piece before it is in the journal
            os.kill(os.getpid(), signal.SIGKILL)
        if stem.startswith("slays") and (self.num_slain is None or attempts <= self.num_slain):
            os.kill(os.getpid(), signal.SIGKILL)
        if stem.startswith("fails") and attempts == 1:
            raise OSError("the network drive is away")
        time.sleep(self.seconds)
        frames = replace(self.reading, contrast="dtype").open(source)
        if stem.startswith("odd"):
            raise FrameError(f"{source.path} is odd")
        total = int(np.asarray(frames[0], np.int64).sum()) * self.factor

        def write(part: Path) -> None:
            part.write_text(str(total))
            if stem.startswith("fills") and attempts == 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write_whole(output, write)
        return Outcome(total, len(frames))

    def _enter(self, source: Source) -> int:
        log = Path(self.log) / source.path.name
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return len(log.read_text().splitlines())


def attempts(log: Path) -> dict[str, int]:
    """How often each input was begun."""
    return {file.name: len(file.read_text().splitlines()) for file in sorted(log.iterdir())}


class BrightParts:
    """Finds connected bright pixels, in place of a network: what belongs together is known.

    Parameters
    ----------
    seconds : float
        Time that it takes.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def generate_masks(self, image: np.ndarray, *, progress: object = None) -> list[dict[str, object]]:
        time.sleep(self._seconds)
        parts = measure.label(image[..., 0] > 90)
        return [make_record(parts == part.label) for part in measure.regionprops(parts)]


@dataclass(frozen=True)
class FindBrightParts(FindOptions):
    """`BrightParts` in worker processes.

    Attributes
    ----------
    seconds : float
        Time that each image takes.
    """

    seconds: float = 0.0

    def check(self) -> None:
        """Allow everything: the real mask generator does not know the time."""

    def generator(self, model: SAM2) -> BrightParts:
        return BrightParts(self.seconds)


class FailingCluster:
    """As a class of another package, with errors of its own."""

    def __init__(self) -> None:
        raise LookupError("no such queue")
