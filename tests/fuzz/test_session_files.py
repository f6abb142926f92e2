"""Session files with flipped bytes and edited tables: opened as they were saved, or refused; never something else."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fuzz_files import REFUSED, flipped, outcome
from fuzz_world import Files

from napari_sam2 import Session
from napari_sam2.session.files.autosave_folder import recoverable_sessions

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file is opened in a copy of the process")
SEED = int(os.environ.get("NAPARI_SAM2_FUZZ_SEED", "0"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def whole(files: Files) -> str:
    return outcome(partial(content, files.session, files))


def content(path: Path, files: Files) -> str:
    """All that a session shows and would do again, as text."""
    with Session.load(path, files.movie, model=files.model) as session:
        masks = [
            f"{key} {m.kind} {m.iou} {m.object_score} {m.is_stale} {m.area}"
            for key, m in sorted(session.store.masks.items())
        ]
        prompts = [
            f"{key} {e.prompt.points.tolist()} {e.prompt.box} {e.candidate} "
            f"{None if e.answer is None else (e.answer.iou, float(np.abs(e.answer.logits).sum()))}"
            for key, e in sorted(session.store.prompts.items())
        ]
        labels = np.asarray(session.labels)
        found = [
            repr(session.objects),
            *masks,
            *prompts,
            str(session.settings),
            labels.tobytes().hex(),
            session.to_python(),
        ]
        session.undo()
        return "\n".join(found)


def check_mutation(path: Path, files: Files, whole: str, what: str) -> list[str]:
    found = outcome(partial(content, path, files))
    if found in (REFUSED, whole):
        return []
    return [f"{what}\n    -> {_difference(whole, found)}"]


def _difference(whole: str, found: str) -> str:
    before, after = whole.splitlines(), found.splitlines()
    if len(after) < 3:
        return found[:400]
    pairs = zip(before, after, strict=False)
    return "other content: " + next((f"{b[:120]} became {a[:120]}" for b, a in pairs if a != b), "fewer lines")


# ---------------------------------------------------------------------- bytes
def check_flips(files: Files, whole: str, folder: Path, numbers: range) -> None:
    data = files.session.read_bytes()
    faults = []
    for index in numbers:
        rng = random.Random(f"{SEED} flip {index}")
        places = [(rng.randrange(len(data)), rng.randrange(1, 256)) for _ in range(rng.choice((1, 1, 1, 3, 30)))]
        damaged = flipped(data, places)
        if rng.random() < 0.1:
            damaged = damaged[: rng.randrange(len(damaged))]
        path = folder / "flipped.sam2"
        path.write_bytes(damaged)
        faults += check_mutation(path, files, whole, f"flip {index}: {len(damaged)} bytes, {places}")
    assert not faults, f"{len(faults)} of {len(numbers)}\n" + "\n".join(faults)


def test_a_session_opens_the_same_each_time(files, whole):
    assert len(whole.splitlines()) > 5, whole
    assert outcome(partial(content, files.session, files)) == whole


def test_flipped_bytes_are_noticed(files, whole, tmp_path):
    check_flips(files, whole, tmp_path, range(10))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(10, 310, 100))
def test_many_flipped_bytes_are_noticed(files, whole, tmp_path, first):
    check_flips(files, whole, tmp_path, range(first, first + 100))


# ---------------------------------------------------------------------- tables
_VALUES = (
    "NULL", "-1", "0", "1", "2", "999", "-5", "1099511627776", "9223372036854775807", "9e999", "-9e999", "0.5", "''",
    "'a'", "'NaN'",
    "'{}'", "'[]'", "'[1,2'", "'null'", "'true'", "x''", "x'00ff'", "zeroblob(1000)", "zeroblob(200000000)",
    "CAST(x'ff' AS TEXT)",
    "char(55296)", "'[1e999]'", "replace(hex(zeroblob(3000)), '0', '[')",
    "'[\"lock\",{\"object_id\":1,\"frames=[]);__import__(''os'')#\":1}]'",
    "'prompted'", "hex(randomblob(20))", "randomblob(300)",
)  # fmt: skip
_STATEMENTS = (
    "DROP TABLE {table}", "DELETE FROM {table}", "ALTER TABLE {table} RENAME TO other",
    "ALTER TABLE {table} ADD COLUMN extra",
    ("DROP TABLE {table}; CREATE VIEW {table} AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
    "SELECT {columns} FROM r"),
    "ALTER TABLE {table} RENAME TO t; CREATE VIEW {table} AS SELECT * FROM t",
    "INSERT INTO {table} SELECT * FROM {table}", "UPDATE {table} SET rowid = rowid + 100",
    "PRAGMA user_version = {number}",
    "PRAGMA application_id = {number}", "CREATE TRIGGER g AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",
    "DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})",
    "ALTER TABLE {table} RENAME COLUMN {column} TO renamed",
    "UPDATE {table} SET {column} = {value}",
    "UPDATE {table} SET {column} = {value} WHERE rowid = (SELECT max(rowid) FROM {table})",
    "UPDATE {table} SET {column} = (SELECT {other} FROM {table} LIMIT 1)",
    "UPDATE OR REPLACE {table} SET {column} = {value}",
    "UPDATE {table} SET {column} = {column} + 1",
    "UPDATE {table} SET {column} = substr({column}, 1, length({column}) / 2)",
    "UPDATE {table} SET {column} = {column} || {column}", "UPDATE {table} SET {column} = replace({column}, '1', '7')",
)  # fmt: skip


def edit(path: Path, rng: random.Random) -> str:
    """Change a session file as anybody with SQLite can; returns the statement."""
    connection = sqlite3.connect(path)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice(tables)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        pattern = rng.choice(_STATEMENTS) if rng.random() < 0.6 else _STATEMENTS[13]
        statement = pattern.format(
            table=table, column=rng.choice(columns), other=rng.choice(columns), value=rng.choice(_VALUES),
            number=rng.choice((0, 1, 2, -1, 2**31 - 1)), columns=", ".join(f"n AS {column}" for column in columns),
        )  # fmt: skip
        try:
            connection.executescript(statement)
        except sqlite3.Error as error:
            statement += f"  -- {error}"
        connection.commit()
    finally:
        connection.close()
    return statement


def check_edits(files: Files, whole: str, folder: Path, numbers: range) -> None:
    faults = []
    for index in numbers:
        rng = random.Random(f"{SEED} edit {index}")
        path = folder / f"edited{index}.sam2"
        shutil.copy(files.session, path)
        statement = edit(path, rng)
        faults += check_mutation(path, files, whole, f"edit {index}: {statement}")
        path.unlink()
    assert not faults, f"{len(faults)} of {len(numbers)}\n" + "\n".join(faults)


def test_edited_tables_are_noticed(files, whole, tmp_path):
    check_edits(files, whole, tmp_path, range(10))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(10, 210, 100))
def test_many_edited_tables_are_noticed(files, whole, tmp_path, first):
    check_edits(files, whole, tmp_path, range(first, first + 100))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damaged_files_in_the_folder_do_not_hide_the_others(files, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path))
    for index in range(40):
        rng = random.Random(f"{SEED} folder {index}")
        path = tmp_path / f"{index:03}.sam2"
        shutil.copy(files.session, path)
        edit(path, rng)
        (tmp_path / f".{index:03}.sam2.owner").write_bytes(rng.randbytes(rng.choice((0, 10, 5000))))
    shutil.copy(files.session, tmp_path / "whole.sam2")
    found = outcome(lambda: " ".join(session.path.name for session in recoverable_sessions()), cpu_s=20)
    assert "whole.sam2" in found
