"""Session files: what comes back, what is refused, and what a crash leaves."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from factories import make_model, make_movie
from napari_sam2 import DrawnShape, FrameError, OutputError, Prompt, SessionFileError
from napari_sam2.session.files.autosave import Autosave
from napari_sam2.session.files.autosave_folder import default_autosave_path, recoverable_sessions
from napari_sam2.session.files.document import write_session
from napari_sam2.session.files.row_encoding import _pack, with_checksum
from napari_sam2.session.session import Session
from places import ROOT


@pytest.fixture
def session(model):
    with Session(make_movie(6), model=model) as made:
        made.add_points([[0, 20, 15]])
        made.add_box([[2, 22, 40], [2, 38, 56]])
        made.propagate(max_frames=4)
        made.lock(2, [2])
        made.rename(1, "left")
        yield made


def tables(session: Session) -> dict[str, object]:
    return {
        "objects": session.objects,
        "masks": {k: repr(m) for k, m in session.store.masks.items()},
        "prompts": {k: (e.stamp, e.prompt.points.tolist()) for k, e in session.store.prompts.items()},
    }


def test_loaded_session_is_the_same_and_goes_on_the_same(session, model, tmp_path):
    path = session.save(tmp_path / "a.sam2")
    with Session.load(path, make_movie(6), model=model) as again:
        assert tables(again) == tables(session)
        assert np.array_equal(again.labels, session.labels)
        assert again.to_python() == session.to_python()
        for one in (session, again):
            one.add_points([[4, 22, 25]], object_id=1)
            one.propagate()
        assert np.array_equal(again.labels, session.labels)
        assert not again.can_undo or again.undo()


def test_restoring_keeps_the_model_and_settings_that_were_chosen_meanwhile(session, model):
    content = session.snapshot().content
    before = session.labels.copy()
    session.set_model(model)
    session.set_overlap("overwrite")
    session.add_points([[2, 30, 50]])
    session.restore(content)
    assert session.model is model
    assert session.settings.overlap == content.settings.overlap
    np.testing.assert_array_equal(session.labels, before)
    session.add_points([[3, 2, 2]])
    assert session.undo()
    np.testing.assert_array_equal(session.labels, before)


def test_saving_leaves_one_file_and_replaces_only_sessions(session, tmp_path):
    path = session.save(tmp_path / "a.sam2")
    session.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.sam2"]
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(OutputError, match="not a session file and is not replaced"):
        session.save(other)
    with pytest.raises(OutputError, match="does not exist; create it first"):
        session.save(tmp_path / "no" / "a.sam2")
    assert other.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.sam2", "notes.txt"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param(b"", "is not a napari-sam2 session", id="empty"),
        pytest.param(b"II*\x00" * 99, "is not a napari-sam2 session", id="foreign"),
    ],
)
def test_what_is_no_session_is_refused(tmp_path, content, match):
    path = tmp_path / "a.sam2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SessionFileError, match=match):
        Session.load(path, make_movie())


@pytest.mark.parametrize("cut", [100, 5000, -3000])
def test_cut_file_is_refused(session, tmp_path, cut):
    path = session.save(tmp_path / "a.sam2")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SessionFileError, match=r"damaged|cannot be read"):
        Session.load(path, make_movie(6))


def test_damaged_prompt_and_newer_format_are_refused(session, tmp_path):
    path = session.save(tmp_path / "a.sam2")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE prompts SET answer = x'00ff'")
    connection.close()
    with pytest.raises(SessionFileError, match="is damaged"):
        Session.load(path, make_movie(6))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SessionFileError, match="a newer napari-sam2"):
        Session.load(path, make_movie(6))


DRAWN = [
    DrawnShape("polygon", [[2.5, 3], [9, 3], [6, 9.25]]),
    DrawnShape("ellipse", [[20, 20], [28, 20], [28, 30], [20, 30]]),
    DrawnShape("line", [[40, 20], [50, 30]], is_object=False),
]


def test_shapes_that_were_drawn_are_in_the_file_and_format_4_had_none(session, model, tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[3:8, 3:8] = True
    session.set_prompt(5, Prompt(mask=mask, drawn=DRAWN), object_id=9)
    path = session.save(tmp_path / "a.sam2")
    with Session.load(path, make_movie(6), model=model) as again:
        assert again.prompt(9, 5).drawn == tuple(DRAWN)
        assert again.prompt(1, 0).drawn == ()
        assert again.operations[-1].arguments["prompt"].drawn == tuple(DRAWN)
    session.undo()
    session.save(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    with Session.load(path, make_movie(6), model=model) as older:
        assert np.array_equal(older.labels, session.labels)


@pytest.mark.parametrize("shapes", [[[7, 1, 3]], [[0, 1, 4]], [[0, 1, -3], [0, 1, 6]], [[2, 1, 3]], [[1, 2, 3]]])
def test_shapes_that_cannot_have_been_drawn_are_refused(session, tmp_path, shapes):
    prompt = Prompt(mask=np.ones((48, 64), bool))
    vertices = np.array([[2, 3], [9, 3], [6, 9]], np.float32)
    given = {"points": prompt.points, "labels": prompt.labels, "mask": prompt.mask}
    blob = _pack({**given, "vertices": vertices, "shapes": np.array(shapes, np.int64)})
    path = session.save(tmp_path / "a.sam2")
    with sqlite3.connect(path) as connection:
        row = connection.execute("SELECT * FROM prompts").fetchone()
        row = with_checksum((*row[:4], blob, *row[5:-1]))
        connection.execute(f"INSERT OR REPLACE INTO prompts VALUES ({', '.join('?' * len(row))})", row)
    connection.close()
    with pytest.raises(SessionFileError, match="is damaged"):
        Session.load(path, make_movie(6))


def test_image_is_asked_for_or_found(session, model, tmp_path):
    path = session.save(tmp_path / "a.sam2")
    with pytest.raises(FrameError, match=r"not on a file.*Session\.load\(path, stack\)"):
        Session.load(path, model=model)
    with pytest.raises(FrameError, match=r"shape \(5, 48, 64\).*\(6, 48, 64\)"):
        Session.load(path, make_movie(5), model=model)
    (tmp_path / "here").mkdir()
    image = tmp_path / "here" / "movie.tif"
    tifffile.imwrite(image, make_movie(6), photometric="minisblack")
    with Session(str(image), model=model) as on_file:
        on_file.add_points([[0, 20, 15]])
        on_file.save(tmp_path / "here" / "b.sam2")
    (tmp_path / "here").rename(tmp_path / "there")
    with Session.load(tmp_path / "there" / "b.sam2", model=model) as again:
        assert again.labels.any()
    (tmp_path / "there" / "movie.tif").unlink()
    with pytest.raises(FrameError, match="was not found; give its present location"):
        Session.load(tmp_path / "there" / "b.sam2", model=model)


def test_other_pixels_are_warned_of(session, model, tmp_path):
    path = session.save(tmp_path / "a.sam2")
    with pytest.warns(UserWarning, match="differs from the one"):
        Session.load(path, make_movie(6, seed=1), model=model).close()


def test_autosave_follows_every_change(session, model, tmp_path):
    session.autosave_path = tmp_path / "auto.sam2"
    session.add_points([[3, 20, 21]], object_id=1)
    session.propagate()
    session.undo()
    session.remove_object(2)
    session.undo()
    assert session.flush_autosave(30)
    with Session.load(session.autosave_path, make_movie(6), model=model) as again:
        assert tables(again) == tables(session)
        assert np.array_equal(again.labels, session.labels)
        assert [o.method for o in again.operations] == [o.method for o in session.operations]
    session.autosave_path = None
    assert [p.name for p in tmp_path.iterdir()] == ["auto.sam2"]


def test_autosave_tells_once_when_it_fails_and_then_goes_on(session, model, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    errors: list[Exception] = []
    session.failed.connect(errors.append)
    blocked = folder / "auto.sam2"
    blocked.mkdir()  # nothing can be written under this name
    autosave = Autosave(blocked, session.snapshot(), session.report_failure, retry_after=0.05)
    assert not autosave.flush(10)
    time.sleep(0.2)
    assert len(errors) == 1
    assert isinstance(errors[0], OutputError)
    blocked.rmdir()
    end = time.monotonic() + 10
    while not autosave.flush(1) and time.monotonic() < end:
        time.sleep(0.02)
    autosave.close()
    with Session.load(blocked, make_movie(6), model=model) as again:
        assert np.array_equal(again.labels, session.labels)


def test_file_in_use_is_not_taken(session, model, tmp_path):
    session.autosave_path = tmp_path / "auto.sam2"
    assert session.flush_autosave(30)
    with Session(make_movie(6), model=model) as other:
        with pytest.raises(OutputError, match="in use by a running session"):
            other.autosave_path = tmp_path / "auto.sam2"
        with pytest.raises(OutputError, match="in use by a running session"):
            other.save(tmp_path / "auto.sam2")


_CRASH = """
import sys
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
import numpy as np
from factories import make_model, make_movie
from napari_sam2.session.session import Session
session = Session(make_movie(6), model=make_model())
session.autosave_path = sys.argv[1]
def tell(*_):
    session.flush_autosave()
    np.save(sys.argv[3], session.labels)
    print("committed", flush=True)
session.changed.connect(tell)
session.add_points([[0, 20, 15]])
session.add_points([[2, 30, 46]])
session.propagate()
session.add_points([[5, 20, 26]], object_id=1)
print("done", flush=True)
import time
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("num_commits", [3, 6, None], ids=["while-clicking", "while-tracking", "after-all"])
def test_nothing_committed_is_missing_after_a_kill(tmp_path, monkeypatch, model, num_commits):
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path))
    path, seen = default_autosave_path("movie.tif"), tmp_path / "labels.npy"
    program = subprocess.Popen(
        [sys.executable, "-c", _CRASH, str(path), str(ROOT / "tests"), str(seen)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        for number, line in enumerate(program.stdout, start=1):
            if line.strip() == "done" or number == num_commits:
                break
        if num_commits is None:
            assert [r for r in recoverable_sessions() if r.path == path] == []  # it still runs
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    (left,) = recoverable_sessions()
    assert left.path == path
    assert left.image.shape == (6, 48, 64)
    with Session.load(path, make_movie(6), model=model) as again:
        at_least = np.load(seen)
        assert np.array_equal(again.labels[at_least > 0], at_least[at_least > 0])
        if num_commits is None:
            assert np.array_equal(again.labels, at_least)
            with Session(make_movie(6), model=model) as whole:
                whole.add_points([[0, 20, 15]])
                whole.add_points([[2, 30, 46]])
                whole.propagate()
                whole.add_points([[5, 20, 26]], object_id=1)
                for one in (whole, again):
                    one.propagate()
                assert np.array_equal(whole.labels, again.labels)


def test_cleanly_closed_session_is_not_offered(session, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path / "sessions"))
    assert recoverable_sessions() == []
    session.autosave_path = default_autosave_path()
    assert session.flush_autosave(30)
    session.close(keep_autosave=False)
    assert recoverable_sessions() == []
    assert list((tmp_path / "sessions").iterdir()) == []


def test_prompt_without_answer_is_asked_again_after_loading(model, tmp_path):
    with Session(make_movie(6), model=model) as session:
        session.add_points([[0, 20, 15]])
        snapshot, entry = session.snapshot(), session.store.prompts[1, 0]
        unanswered = replace(snapshot.content, prompts={(1, 0): replace(entry, answer=None)}, masks={})
        write_session(tmp_path / "a.sam2", replace(snapshot, content=unanswered))
        with Session.load(tmp_path / "a.sam2", make_movie(6), model=model) as again:
            again.wait_for_answers()
            assert np.array_equal(again.labels, session.labels)
            assert isinstance(again.prompt(1, 0), Prompt)


def test_a_session_on_a_file_opens_on_its_pixels_without_a_warning(tmp_path, recwarn):
    tifffile.imwrite(tmp_path / "cells.tif", make_movie(4).astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    model = make_model()
    with Session(tmp_path / "cells.tif", model=model) as session:
        session.add_mask(np.ones((48, 64), bool), frame=1)
        session.save(tmp_path / "a.sam2")
    with Session.load(tmp_path / "a.sam2", make_movie(4).astype(np.uint16), model=model) as again:
        assert len(again.objects) == 1
    assert not [w for w in recwarn if "differs from the one" in str(w.message)]
