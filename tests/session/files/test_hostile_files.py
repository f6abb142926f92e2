"""Session files that were damaged, or written to do harm: refused with a clear error, soon, and without much memory."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from session_tools import square

from factories import make_movie
from napari_sam2 import NapariSAM2Error, SessionFileError
from napari_sam2.session.files import database
from napari_sam2.session.files.autosave_folder import autosave_folder, recoverable_sessions
from napari_sam2.session.files.database import read_content, read_header
from napari_sam2.session.files.row_encoding import with_checksum
from napari_sam2.session.session import Session

Change = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def written(tmp_path_factory, model) -> Path:
    """A session file with two objects, a prompt with its answer, masks and calls."""
    with Session(make_movie(5), model=model) as session:
        session.add_points([[0, 20, 15]])
        session.add_mask(square(30, 40), frame=2)
        session.propagate(max_frames=3)
        session.lock(1, [0])
        return session.save(tmp_path_factory.mktemp("written") / "a.sam2")


def reseal(connection: sqlite3.Connection, table: str) -> None:
    """Give all rows of a table the checksum of their values, as somebody who means harm would."""
    for rowid, *row in connection.execute(f"SELECT rowid, * FROM {table}").fetchall():
        connection.execute(f"UPDATE {table} SET checksum = ? WHERE rowid = ?", (with_checksum(row[:-1])[-1], rowid))


def changed(written: Path, folder: Path, change: Change, *tables: str) -> Path:
    """A copy of the file after a change by SQL, with fitting checksums in some tables."""
    path = Path(shutil.copy(written, folder / "changed.sam2"))
    connection = sqlite3.connect(path, isolation_level=None)
    change(connection)
    for table in tables:
        reseal(connection, table)
    connection.close()
    return path


def sql(*statements: str) -> Change:
    def change(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return change


_FOREVER = "AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(sql("DROP TABLE masks", f"CREATE VIEW masks {_FOREVER}"), id="masks-a-view"),
        pytest.param(sql("DROP TABLE objects", f"CREATE VIEW objects {_FOREVER}"), id="objects-a-view"),
        pytest.param(sql("DROP TABLE header", f"CREATE VIEW header {_FOREVER}"), id="header-a-view"),
        pytest.param(sql(f"CREATE VIEW more {_FOREVER}"), id="one-more-view"),
        pytest.param(sql("CREATE TRIGGER t AFTER INSERT ON objects BEGIN DELETE FROM masks; END"), id="trigger"),
        pytest.param(sql("CREATE INDEX i ON masks (area)"), id="index"),
        pytest.param(sql("ALTER TABLE masks ADD COLUMN more INTEGER AS (area + 1)"), id="computed-column"),
        pytest.param(sql("DROP TABLE prompts"), id="table-missing"),
    ],
)
def test_tables_other_than_those_of_a_session_are_never_queried(written, tmp_path, change):
    path = changed(written, tmp_path, change)
    begin = time.monotonic()
    with pytest.raises(SessionFileError, match=r"of its tables are not as in a session: [a-z]"):
        Session.load(path, make_movie(5))
    folder = autosave_folder()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "left.sam2")
    assert recoverable_sessions() == []
    assert time.monotonic() - begin < 20


_BLOB = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("statement", "table", "match"),
    [
        # masks
        pytest.param("UPDATE masks SET y1 = y1 + 900", "masks", "outside the image", id="mask-outside"),
        pytest.param("UPDATE masks SET y0 = -1", "masks", "outside the image", id="mask-above"),
        pytest.param("UPDATE masks SET area = area + 1", "masks", "another area", id="area"),
        pytest.param("UPDATE masks SET kind = 'guessed'", "masks", "of the kind", id="kind"),
        pytest.param("UPDATE masks SET plane = 999 WHERE plane = 2", "masks", "frames 0 to 4", id="mask-on-no-plane"),
        pytest.param("UPDATE masks SET plane = -1 WHERE plane = 2", "masks", "frames 0 to 4", id="negative-plane"),
        pytest.param("UPDATE masks SET object_id = 77 WHERE object_id = 2", "masks", "no such object", id="of-none"),
        pytest.param("UPDATE masks SET object_id = 1099511627776 WHERE object_id = 2", "masks", "no such object",
                     id="huge-object"),
        pytest.param("UPDATE masks SET iou = 'good'", "masks", "not a score", id="iou"),
        pytest.param("UPDATE masks SET is_stale = 7", "masks", "neither 0 nor 1", id="stale"),
        pytest.param("UPDATE masks SET packed = x'00'", "masks", ".", id="mask-bits"),
        # objects
        pytest.param("UPDATE objects SET object_id = 0 WHERE object_id = 2", "objects", ".", id="object-0"),
        pytest.param("UPDATE objects SET object_id = -5 WHERE object_id = 2", "objects", ".", id="object-negative"),
        pytest.param("UPDATE objects SET name = x'ff'", "objects", ".", id="name"),
        pytest.param("UPDATE objects SET locked = '[99]'", "objects", "frames 0 to 4", id="locked-plane"),
        pytest.param("UPDATE objects SET locked = '" + "[" * 100_000 + "'", "objects", ".", id="deep-json"),
        pytest.param("DELETE FROM objects WHERE object_id = 2", "objects", "1 object where 2 were", id="no-object"),
        pytest.param("UPDATE objects SET parent = 9, born = 1", "objects", "no such object", id="parent-missing"),
        pytest.param("UPDATE objects SET parent = 1, born = 1", "objects", "descends from itself", id="own-parent"),
        pytest.param("UPDATE objects SET parent = 3 - object_id, born = 1", "objects", "descends from itself",
                     id="parents-in-a-circle"),
        pytest.param("UPDATE objects SET parent = 1 WHERE object_id = 2", "objects", "not both", id="no-birth"),
        pytest.param("UPDATE objects SET parent = 1, born = 99 WHERE object_id = 2", "objects", "frames 0 to 4",
                     id="born-nowhere"),
        pytest.param("UPDATE objects SET parent = 'one'", "objects", "not an integer", id="parent-text"),
        # prompts
        pytest.param("UPDATE prompts SET plane = 9 WHERE object_id = 1", "prompts", "frames 0 to 4", id="prompt-plane"),
        pytest.param("UPDATE prompts SET candidate = 99", "prompts", "candidate 99", id="candidate"),
        pytest.param("UPDATE prompts SET stamp = 0", "prompts", ".", id="stamp"),
        pytest.param("UPDATE prompts SET prompt = answer WHERE object_id = 1", "prompts", ".", id="prompt-is-answer"),
        pytest.param("UPDATE prompts SET answer = prompt WHERE object_id = 1", "prompts", ".", id="answer-is-prompt"),
        # calls
        pytest.param("""UPDATE operations SET call = '["save", {"path": "x"}]'""", "operations", "cannot be replayed",
                     id="method"),
        pytest.param("""UPDATE operations SET call = '["lock", {"object_id": 1, "frames": [999]}]'""", "operations",
                     "frames 0 to 4", id="call-plane"),
        pytest.param("""UPDATE operations SET call = '["paint", {"frame": 0, "masks": {"__by_number__":
                     [[1, {"__mask__": "40000,40000,0,0,0,0:"}]]}}]'""", "operations", "is not one of an image",
                     id="call-mask"),
        pytest.param("UPDATE operations SET call = '" + "[" * 100_000 + "'", "operations", ".", id="deep-call"),
        # header
        pytest.param("UPDATE header SET value = replace(value, '\"saved_at\": ', '\"saved_at\": 1e300, \"x\": ')",
                     "header", ".", id="saved-at"),
        pytest.param("UPDATE header SET value = replace(value, '\"threads\": null', '\"threads\": {}')", "header",
                     "threads", id="settings"),
        pytest.param("UPDATE header SET value = '" + "[" * 100_000 + "'", "header", ".", id="deep-header"),
        pytest.param("UPDATE header SET value = replace(value, '[5, 48, 64]', '[5, 48]')", "header", ".", id="shape"),
    ],
)  # fmt: skip
def test_values_that_no_session_has_are_refused(written, tmp_path, model, statement, table, match):
    path = changed(written, tmp_path, sql(statement), table)
    with pytest.raises(NapariSAM2Error, match=match):
        Session.load(path, make_movie(5), model=model)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE masks SET packed = ?, y0 = 0, x0 = 0, y1 = 48, x1 = 64", id="mask"),
        pytest.param("UPDATE prompts SET prompt = ?", id="prompt"),
        pytest.param("UPDATE prompts SET base = ?", id="base"),
        pytest.param("UPDATE prompts SET answer = ?", id="answer"),
    ],
)
def test_small_data_does_not_become_large(written, tmp_path, model, statement):
    """A blob of 50 KB that unpacks to 50 MB."""
    path = changed(written, tmp_path, lambda c: c.execute(statement, (_BLOB,)), statement.split()[1])
    with pytest.raises(SessionFileError, match="is damaged"):
        Session.load(path, make_movie(5), model=model)


def test_a_value_far_larger_than_any_mask_is_refused_before_it_is_read(written, tmp_path, model):
    geometry = Session(make_movie(5), model=model).geometry
    path = changed(written, tmp_path, sql(f"UPDATE operations SET call = zeroblob({2**27 + 1})"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SessionFileError, match=r"is damaged \(string or blob too big\)"):
        _content(path, geometry)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10
    path.unlink()


def test_a_file_larger_than_the_memory_says_so(written, monkeypatch):
    def fail(row: object) -> object:
        raise MemoryError

    monkeypatch.setattr(database, "checked", fail)
    with pytest.raises(SessionFileError, match="does not fit into memory"):
        read_header(written)


def test_overlapping_masks_are_refused(written, tmp_path, model):
    def copy_mask(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM masks WHERE object_id = 1 AND plane = 2")
        row = list(connection.execute("SELECT * FROM masks WHERE object_id = 2 AND plane = 2").fetchone())
        row[0] = 1
        connection.execute(f"INSERT INTO masks VALUES ({', '.join('?' * len(row))})", row)

    path = changed(written, tmp_path, copy_mask, "masks")
    with pytest.raises(SessionFileError, match=r"overlaps that of another object|were written"):
        Session.load(path, make_movie(5), model=model)


def test_changed_values_do_not_match_their_checksums(written, tmp_path, model):
    for table, column in (("masks", "iou"), ("objects", "is_visible"), ("prompts", "stamp")):
        path = changed(written, tmp_path, sql(f"UPDATE {table} SET {column} = 1 - coalesce({column}, 0)"))
        with pytest.raises(SessionFileError, match="checksum"):
            Session.load(path, make_movie(5), model=model)


def test_no_damaged_byte_goes_unnoticed(written, tmp_path, model):
    """Each byte flip is refused or changes nothing."""
    geometry = Session(make_movie(5), model=model).geometry
    expected = _content(written, geometry)
    original = written.read_bytes()
    rng = random.Random(7)
    path = tmp_path / "flipped.sam2"
    for _ in range(150):
        data = bytearray(original)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            found = _content(path, geometry)
        except SessionFileError:
            continue
        assert found == expected


def _content(path: Path, geometry: object) -> object:
    header, content = read_header(path), read_content(path, geometry)  # type: ignore[arg-type]
    prompts = {key: (e.stamp, e.prompt.points.tolist(), e.candidate) for key, e in content.prompts.items()}
    return header, content.objects, repr(content.masks), prompts, repr(content.operations), content.settings


def test_an_image_path_that_is_a_pipe_is_not_opened(written, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    os.mkfifo(tmp_path / "pipe.tif")
    value = f"""'"path": "{tmp_path / "pipe.tif"}"'"""
    path = changed(
        written, tmp_path, sql(f"UPDATE header SET value = replace(value, '\"path\": null', {value})"), "header"
    )
    with pytest.raises(NapariSAM2Error, match="pipe"):
        Session.load(path)


@pytest.mark.parametrize("name", ["~no-such-user-at-all/a.tif", "x" * 5000, "a\\u0000b"])
def test_an_image_path_that_cannot_be_is_told(written, tmp_path, name):
    change = sql(f'UPDATE header SET value = replace(value, \'"path": null\', \'"path": "{name}"\')')
    with pytest.raises(NapariSAM2Error):
        Session.load(changed(written, tmp_path, change, "header"))


def test_junk_owner_marks_hide_no_session(written):
    folder = autosave_folder()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(written, folder / "left.sam2")
    (folder / ".left.sam2.owner").write_bytes(b"junk" * 100)
    (folder / ".other.sam2.owner").write_bytes(b"junk")
    assert [r.path.name for r in recoverable_sessions()] == ["left.sam2"]
    assert recoverable_sessions()[0].num_objects == 2


@pytest.mark.skipif(sys.platform != "linux", reason="counts the program's peak memory")
def test_refusing_takes_little_memory(written, tmp_path, model):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for statement in ("UPDATE prompts SET prompt = ?", "UPDATE prompts SET answer = ?"):
        blob = zlib.compress(np.zeros(300_000_000, np.uint8).data)
        before = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        path = changed(written, tmp_path, lambda c, s=statement, b=blob: c.execute(s, (b,)), "prompts")
        with pytest.raises(SessionFileError):
            Session.load(path, make_movie(5), model=model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KB


def test_a_call_without_a_value_says_which(written, tmp_path, model):
    call = '["paint", {"frame": 0, "masks": {}}]'
    path = changed(written, tmp_path, sql(f"UPDATE operations SET call = '{call}'"), "operations")
    with pytest.raises(SessionFileError, match=r"a call of the session cannot be read \(KeyError: '__prompt__'\)"):
        Session.load(path, make_movie(5), model=model)
