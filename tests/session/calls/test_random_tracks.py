"""Random corrections of tracks, saved and opened in between: refusals change nothing, undo and files are exact."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from session_tools import square

from factories import make_movie
from napari_sam2 import NapariSAM2Error, OutputError
from napari_sam2.labels.ctc_files import read_ctc
from napari_sam2.labels.track_files import read_tracks
from napari_sam2.session.results.export import export_tracks, session_tracks
from napari_sam2.session.session import Session

NUM_FRAMES = 6


def full_state(session: Session) -> dict[str, object]:
    """All that undo and files have to bring back."""
    store = session.store
    return {
        "labels": np.asarray(session.labels).tobytes(),
        "objects": tuple(session.objects),
        "prompts": {key: (repr(e.prompt), e.candidate) for key, e in store.prompts.items()},
        "masks": {key: (m.box, m.packed, m.kind, m.is_stale) for key, m in store.masks.items()},
        "settings": session.settings.overlap,
        "conditions": dict(store.conditions),
    }


def correct(session: Session, rng: random.Random) -> None:
    """One call on tracks, most of which are possible."""
    ids = [item.object_id for item in session.objects] or [1]
    first, second, frame = rng.choice(ids), rng.choice(ids), rng.randrange(NUM_FRAMES)
    calls = {
        "divide": lambda: session.divide(first, frame),
        "divide into": lambda: session.divide(first, frame, [second]),
        "parent": lambda: session.set_parent(first, rng.choice([None, second])),
        "cut": lambda: session.cut(first, frame),
        "join": lambda: session.join(first, second),
        "merge": lambda: session.merge(first, second),
        "split": lambda: session.split(first, frame),
        "swap": lambda: session.swap(first, second, frame),
        "paint": lambda: session.paint(frame, {first: square(rng.randrange(40), rng.randrange(50), rng.randrange(9))}),
        "large number": lambda: session.paint(frame, {70_000: square(rng.randrange(40), rng.randrange(50))}),
        "lock": lambda: session.lock(first, frame),
        "unlock": lambda: session.unlock(first),
        "remove": lambda: session.remove_object(first),
        "undo": lambda: [session.undo() for _ in range(rng.randrange(3))],
        "redo": lambda: [session.redo() for _ in range(rng.randrange(3))],
    }
    call = calls[rng.choice(sorted(calls))]
    before = full_state(session)
    try:
        call()
    except NapariSAM2Error:
        assert full_state(session) == before  # what is refused changes nothing


def check_track_files(session: Session, folder: Path) -> None:
    """Tracks come back from each format as they were written."""
    try:
        tracks = session_tracks(session)
    except OutputError:  # painting may show a parent together with its daughter
        return
    for name in ("a.csv", "a.xml", "a.geff", "ctc") if len(tracks) else ():
        path = export_tracks(session, folder / name)
        found = read_ctc(path).tracks if name == "ctc" else read_tracks(path)
        assert np.array_equal(np.sort(found.frames), np.sort(tracks.frames)), name
        if name == "ctc":  # which keeps numbers up to 65,535, and reads an only daughter after a gap as its parent
            continue
        assert np.array_equal(found.table(), tracks.table()), name
        assert found.parents == tracks.parents, name


@pytest.mark.parametrize("seed", range(3))
def test_random_corrections_are_undone_exactly_and_survive_files(model, tmp_path: Path, seed: int):
    pytest.importorskip("geff")
    rng = random.Random(f"tracks {seed}")
    movie = make_movie(NUM_FRAMES)
    session = Session(movie, model=model)
    for frame in range(NUM_FRAMES):
        session.paint(frame, {i: square(4 + 11 * i, 5 + 3 * frame) for i in (1, 2, 3) if rng.random() < 0.8})
    opened: list[Session] = []
    start = None
    for part in range(3):
        for _ in range(12):
            correct(session, rng)
        assert set(np.unique(session.labels)) - {0} <= set(session.store.objects)
        folder = tmp_path / str(part)
        folder.mkdir()
        check_track_files(session, folder)
        opened.append(Session.load(session.save(folder / "a.sam2"), movie, model=model))
        assert full_state(opened[-1]) == full_state(session)
        session.close()
        session, start = opened[-1], full_state(opened[-1])
    for _ in range(12):
        correct(session, rng)
    while session.redo():
        pass
    end = full_state(session)
    while session.undo():
        pass
    assert full_state(session) == start
    while session.redo():
        pass
    assert full_state(session) == end
    session.close()
