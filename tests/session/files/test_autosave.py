"""Autosave under trouble: full disks, other programs, errors that nobody thought of, and programs that just end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from factories import make_movie
from napari_sam2 import OutputError, PromptError
from napari_sam2.session.files import autosave as autosave_module
from napari_sam2.session.files.autosave import Autosave
from napari_sam2.session.session import Session
from places import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:the image differs")
needs_posix = pytest.mark.skipif(os.name == "nt", reason="locks and signals of POSIX")

_SETUP = """
import sys
import numpy as np
from napari_sam2.session.session import Session
path = sys.argv[1]
stack = np.zeros((5, 48, 64), np.uint8)
"""
_MODEL = f"""
sys.path[:0] = [{str(ROOT / "tests")!r}]
import torch
torch.set_num_threads(1)
from factories import make_model, make_movie
"""


def program(path: Path, code: str) -> subprocess.Popen[str]:
    """A program of its own that is given the path."""
    return subprocess.Popen(
        [sys.executable, "-c", _SETUP + code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def names_in(path: Path, model: object) -> list[str]:
    with Session.load(path, np.zeros((5, 48, 64), np.uint8), model=model) as session:  # type: ignore[arg-type]
        return [item.name for item in session.objects]


@needs_posix
@pytest.mark.parametrize("how", ["load", "copy"])
def test_a_file_that_the_program_itself_reads_loses_no_change(tmp_path, model, how):
    """Closing any descriptor of a file drops the program's locks on it; then another program reads the file."""
    path = tmp_path / "a.sam2"
    running = program(path, """
session = Session(stack)
session.autosave_path = path
session.new_object("first")
assert session.flush_autosave()
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "load":
        Session.load(path, stack).close()
    elif line.strip() == "copy":
        import shutil
        shutil.copy(path, path + ".copy")
    else:
        session.new_object("later")
        assert session.flush_autosave()
    print("done", flush=True)
""")  # fmt: skip
    try:
        assert running.stdout is not None
        assert running.stdin is not None
        for line in ("", how):
            if line:
                running.stdin.write(f"{line}\n")
                running.stdin.flush()
            assert running.stdout.readline().strip() in ("ready", "done")
        assert names_in(path, model) == ["first"]
        running.stdin.write("change\n")
        running.stdin.flush()
        assert running.stdout.readline().strip() == "done"
    finally:
        running.send_signal(signal.SIGKILL)
        running.communicate()
    assert names_in(path, model) == ["first", "later"]


def test_a_file_that_is_no_session_is_never_removed(session, tmp_path):
    image = tmp_path / "image.tif"
    image.write_bytes(b"precious")
    session.autosave_path = image
    assert not session.flush_autosave(10)
    session.close(keep_autosave=False)
    assert image.read_bytes() == b"precious"


def test_one_file_at_rest(session, tmp_path):
    session.autosave_path = tmp_path / "a.sam2"
    session.new_object()
    assert session.flush_autosave(30)
    assert {p.name for p in tmp_path.iterdir()} <= {"a.sam2", ".a.sam2.owner"}


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_file_that_disappears_is_written_anew(session, tmp_path, model, what):
    path = tmp_path / "a.sam2"
    session.autosave_path = path
    session.new_object("first")
    assert session.flush_autosave(30)
    old = shutil.copy(path, tmp_path / "old.sam2")
    if os.name == "nt":
        pytest.skip("open files cannot be removed")
    path.unlink()
    if what == "replaced":
        Path(old).rename(path)
    session.new_object("second")
    assert session.flush_autosave(30)
    session.autosave_path = None
    assert names_in(path, model) == ["first", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("reads", [False, True], ids=["", "read-meanwhile"])
def test_saving_goes_on_after_the_disk_was_full(tmp_path, model, reads):
    path = tmp_path / "a.sam2"
    running = program(path, f"""
import resource, time
from napari_sam2.session.files.autosave import Autosave
session = Session(stack)
errors = []
session.failed.connect(lambda error: errors.append(str(error)))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
session.new_object("first")
autosave = session._threads.autosave = Autosave(path, session.snapshot(), session.report_failure, retry_after=0.1)
assert not autosave.flush(30)
for number in range(3):
    session.new_object("more")
    if {reads}:
        try:
            Session.load(path, stack).close()
        except (OSError, ValueError):
            pass
    time.sleep(0.2)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
end = time.monotonic() + 30
while not autosave.flush(1) and time.monotonic() < end:
    time.sleep(0.05)
print(len(errors), "cannot be" in errors[0], flush=True)
session.close()
""")  # fmt: skip
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert out.split() == ["1", "True"]
    assert names_in(path, model) == ["first", "more", "more", "more"]


def test_the_writer_outlives_any_error(session, tmp_path, model, monkeypatch):
    errors: list[Exception] = []
    session.failed.connect(errors.append)
    saved = Autosave(tmp_path / "a.sam2", session.snapshot(), session.report_failure, retry_after=0.05)
    session._threads.autosave = saved
    assert saved.flush(30)

    def fails(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(autosave_module, "write_objects", fails)
        session.new_object("kept")
        assert not saved.flush(30)
    end = time.monotonic() + 30
    while not saved.flush(1) and time.monotonic() < end:
        time.sleep(0.02)
    session.close()
    assert len(errors) == 1
    assert isinstance(errors[0], OutputError)
    assert names_in(tmp_path / "a.sam2", model) == ["kept"]


def test_names_that_no_file_can_hold_are_refused(session, tmp_path):
    session.autosave_path = tmp_path / "a.sam2"
    for call in (lambda: session.new_object("\ud800"), lambda: session.new_object("a\0b")):
        with pytest.raises(PromptError, match="the name"):
            call()
    number = session.new_object("µ 細胞")
    with pytest.raises(PromptError, match="not valid Unicode"):
        session.rename(number, "x\udcff")
    assert session.flush_autosave(30)


# ---------------------------------------------------------------------- programs that end without close()
def test_a_script_that_does_not_close_its_session_loses_no_change(tmp_path, model):
    path = tmp_path / "a.sam2"
    running = program(path, """
session = Session(stack)
session.autosave_path = path
number = session.new_object("first")
assert session.flush_autosave()
for count in range(20):
    session.rename(number, f"name {count}")
""")  # fmt: skip
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    assert names_in(path, model) == ["name 19"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.sam2"]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param("", 0, id="ends"),
        pytest.param("raise ValueError('mine')", 1, id="raises"),
        pytest.param("sys.exit(7)", 7, id="exits"),
    ],
)
def test_a_script_that_ends_amid_work_ends_with_its_own_code(tmp_path, end, code):
    running = program(tmp_path, f"""{_MODEL}
session = Session(make_movie(40), model=make_model())
session.add_points([[0, 20, 15]])
session.propagate(block=False)
session.add_points([[0, 30, 50]], block=False)
session.propagate(block=False)
{end}
""")  # fmt: skip
    _, err = running.communicate(timeout=120)
    assert running.returncode == code, err
    assert ("mine" in err) == ("mine" in end)


def test_a_script_may_end_while_the_model_is_loading(tmp_path):
    running = program(tmp_path, """
session = Session(stack)
session.prepare(0)
""")  # fmt: skip
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")


def test_a_session_that_nobody_refers_to_saves_and_ends(model, tmp_path):
    import gc
    import threading
    import weakref

    before = set(threading.enumerate())
    session = Session(make_movie(5), model=model)
    session.autosave_path = tmp_path / "a.sam2"
    session.add_points([[0, 20, 15]])
    session.rename(1, "kept")
    gone = weakref.ref(session)
    gc.disable()
    try:
        del session
        assert gone() is None  # without looking for circles of references
    finally:
        gc.enable()
    assert set(threading.enumerate()) <= before
    assert names_in(tmp_path / "a.sam2", model) == ["kept"]


def test_a_closed_session_keeps_no_embeddings(model):
    session = Session(make_movie(5), model=model)
    session.add_points([[0, 20, 15]])
    labels = np.array(session.labels)
    session.close()
    assert session._engine_keeper._engine is None
    assert np.array_equal(session.labels, labels)
