"""Many sessions, opened, used at random and closed: memory, threads and files stay as few as at the beginning."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from session_tools import random_call

from factories import make_movie
from napari_sam2 import PromptError
from napari_sam2.session.session import Session

_SECONDS = float(os.environ.get("NAPARI_SAM2_SOAK_S", "120"))


@pytest.mark.slow
@pytest.mark.timeout(_SECONDS * 5 + 300)
def test_memory_threads_and_files_stay_flat(model, tmp_path):
    process = psutil.Process()
    rng = random.Random(0)
    seen: list[tuple[float, int, int]] = []
    end = time.monotonic() + _SECONDS
    count = 0
    while time.monotonic() < end or len(seen) < 20:
        count += 1
        _use(model, tmp_path / f"{count % 3}.sam2", rng)
        seen.append((process.memory_info().rss / 2**20, threading.active_count(), process.num_fds()))
    memory = np.array([row[0] for row in seen])
    settled, last = memory[len(seen) // 4 : len(seen) // 2].mean(), memory[-len(seen) // 4 :].mean()
    print(f"{count} sessions, {settled:.0f} to {last:.0f} MiB, {seen[len(seen) // 4][1:]} to {seen[-1][1:]}")  # noqa: T201
    assert last < 1.1 * settled + 20
    assert seen[-1][1] <= seen[3][1]
    assert seen[-1][2] <= seen[3][2] + 2


def _use(model: object, path: Path, rng: random.Random) -> None:
    with Session(make_movie(5), model=model) as session:  # type: ignore[arg-type]
        session.autosave_path = path
        for _ in range(rng.randrange(5, 30)):
            with suppress(PromptError):
                random_call(session, rng)
            if rng.random() < 0.1:
                handle = session.propagate(block=False) if session.store.prompts else None
                if handle is not None and rng.random() < 0.5:
                    handle.pause()
                    handle.resume()
                    assert handle.wait(60)
            if rng.random() < 0.2:
                session.undo()
    with Session.load(path, make_movie(5), model=model) as again:
        assert np.array_equal(again.labels, session.labels)
