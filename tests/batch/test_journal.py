"""The journal: what it remembers, what a crash leaves, and which runs it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from napari_sam2 import OutputError
from napari_sam2._messages import in_shell_words
from napari_sam2.batch import journal as journal_module
from napari_sam2.batch.jobs import AutoJob, GenerateJob, PropagateJob, TrackJob, settings_of
from napari_sam2.batch.journal import JOURNAL_NAME, Journal, RunIdentity
from napari_sam2.batch.pieces import DONE, FAILED, Outcome, PieceRecord

IDENTITY = RunIdentity("auto", "sam2_micro", "ab" * 32, "0.1.0", {"every": 3, "shapes": {"min_area": "5um2"}})
FIRST = PieceRecord("a.tif", DONE, "11", Outcome(4, 10, 1.5, "tcp://w:1", ("one plane is dark",)))
SECOND = PieceRecord("sub/b.tif", FAILED, "22", None, "b.tif holds no image", "FrameError")


def written(folder: Path) -> Path:
    with Journal(folder, IDENTITY) as journal:
        journal.add(FIRST)
        journal.add(SECOND)
    return folder / JOURNAL_NAME


def test_records_are_there_when_it_is_opened_again(tmp_path: Path):
    written(tmp_path)
    with Journal(tmp_path, IDENTITY) as journal:
        assert not journal.is_new
        assert list(journal.records.values()) == [FIRST, SECOND]


def test_later_record_of_a_piece_counts(tmp_path: Path):
    written(tmp_path)
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(replace(FIRST, name="sub/b.tif"))
    with Journal(tmp_path, IDENTITY) as journal:
        assert journal.records["sub/b.tif"].state == DONE


def test_names_of_results_are_kept_through_failures_and_restarts(tmp_path: Path):
    written(tmp_path)
    for identity in (replace(IDENTITY, settings={"every": 4}), IDENTITY):
        with Journal(tmp_path, identity, restart=True) as journal:
            assert (journal.records, journal.written) == ({}, {"a.tif"})
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(replace(SECOND, name="a.tif"), replace(FIRST, name="c.tif"))
    with Journal(tmp_path, IDENTITY) as journal:
        assert journal.written == {"a.tif", "c.tif"}
        assert list(journal.records) == ["a.tif", "c.tif"]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_line_that_was_cut_off_is_removed_and_the_next_one_is_whole(tmp_path: Path, cut: int):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path, IDENTITY) as journal:
        assert list(journal.records) == ["a.tif"]
        journal.add(SECOND)
    with Journal(tmp_path, IDENTITY) as journal:
        assert list(journal.records.values()) == [FIRST, SECOND]


def test_empty_journal_of_a_full_disk_is_begun_anew(tmp_path: Path):
    (tmp_path / JOURNAL_NAME).touch()
    with Journal(tmp_path, IDENTITY) as journal:
        assert journal.is_new


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        pytest.param(replace(IDENTITY, settings={**IDENTITY.settings, "every": 4}), "every: 3 before, 4 now", id="one"),
        pytest.param(
            replace(IDENTITY, settings={"every": 3, "shapes": {}}),
            "shapes.min_area: 5um2 before, not given now",
            id="inner",
        ),
        pytest.param(
            replace(IDENTITY, command="generate", settings={}),
            "settings: command: auto before, generate now. Give",
            id="command",
        ),
        pytest.param(replace(IDENTITY, version="0.2.0"), "version: 0.1.0 before, 0.2.0 now", id="version"),
        pytest.param(
            replace(IDENTITY, model_hash="cd" * 32), r"model: sam2_micro \(abababababab\) before, .*cdcd", id="weights"
        ),
    ],
)
def test_other_settings_are_refused_and_named(tmp_path: Path, changed: RunIdentity, named: str):
    before = written(tmp_path).read_bytes()
    with pytest.raises(OutputError, match=named) as caught:
        Journal(tmp_path, changed)
    assert str(caught.value).endswith("start over with restart=True")
    assert in_shell_words(caught.value).endswith("start over with --restart")
    if named.startswith("shapes"):
        assert ": --min-area: 5um2 before" in in_shell_words(caught.value)
    assert (tmp_path / JOURNAL_NAME).read_bytes() == before
    with Journal(tmp_path, changed, restart=True) as journal:
        assert journal.is_new
        assert not journal.records


@pytest.mark.parametrize("job", [AutoJob(), GenerateJob(), PropagateJob(), TrackJob()], ids=lambda job: job.command)
def test_settings_are_called_as_in_the_shell(job):
    names = {name for name, _ in journal_module._flat("", settings_of(job))}
    assert [name for name in names if not journal_module._in_shell(name).startswith("--")] == []


def test_other_settings_are_taken_where_nothing_is_done(tmp_path: Path):
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(SECOND)
    other = replace(IDENTITY, settings={"every": 4})
    with Journal(tmp_path, other) as journal:
        assert journal.is_new
        assert not journal.records
    with Journal(tmp_path, other) as journal:
        assert not journal.is_new


def test_same_weights_under_another_name_are_the_same_model(tmp_path: Path):
    written(tmp_path)
    with Journal(tmp_path, replace(IDENTITY, model="copy.safetensors")) as journal:
        assert len(journal.records) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param('{"piece": "c.tif"}', "line 4 of .* is damaged", id="without-state"),
        pytest.param("\x00\x00\x00", "line 4 of .* is damaged", id="zeros"),
        pytest.param('{"piece": "c.tif", "state": "done", "input": "3"}', "line 4", id="done-without-counts"),
    ],
)
def test_damaged_line_is_refused_with_its_number(tmp_path: Path, line: str, message: str):
    with written(tmp_path).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(OutputError, match=message):
        Journal(tmp_path, IDENTITY)


def test_empty_lines_are_skipped(tmp_path: Path):
    with written(tmp_path).open("a") as file:
        file.write("\n  \n")
    with Journal(tmp_path, IDENTITY) as journal:
        assert len(journal.records) == 2


@pytest.mark.parametrize("content", ["no journal\n", "[]\n", json.dumps({"napari-sam2 batch": 99}) + "\n"])
def test_other_file_of_that_name_is_refused(tmp_path: Path, content: str):
    (tmp_path / JOURNAL_NAME).write_text(content)
    with pytest.raises(OutputError, match="is not a journal"):
        Journal(tmp_path, IDENTITY)


def test_folder_in_use_by_another_process_is_refused_until_it_has_ended(tmp_path: Path):
    code = f"""
import sys, time
sys.path[:] = {sys.path!r}
from pathlib import Path
from napari_sam2.batch.journal import Journal, RunIdentity
journal = Journal(Path({str(tmp_path)!r}), RunIdentity("auto", "", "", "", {{}}))
print("open", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"open"
        with pytest.raises(OutputError, match="another batch is writing to"):
            Journal(tmp_path, IDENTITY, restart=True)
        other.kill()
    with Journal(tmp_path, IDENTITY, restart=True) as journal:
        assert journal.is_new


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is one of Linux")
def test_a_full_disk_is_one_error_and_leaves_the_folder_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Journal, "_check_place", lambda *_: None)  # it is another file below
    with pytest.raises(OutputError, match="space"), Journal(tmp_path, IDENTITY) as journal:
        journal.add(PieceRecord("a.tif", DONE, "x", Outcome(1, 1)))
        journal._file.close()
        journal._file = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115 - the journal closes it
        journal.add(PieceRecord("b.tif", DONE, "x", Outcome(1, 1)))
    with Journal(tmp_path, IDENTITY) as journal:
        assert set(journal.records) == {"a.tif"}


@pytest.mark.parametrize("kind", ["removed", "renamed", "replaced"])
def test_a_journal_that_is_gone_from_its_place_takes_no_records(tmp_path: Path, kind: str):
    folder = tmp_path / "out"
    folder.mkdir()
    with Journal(folder, IDENTITY) as journal:
        journal.add(FIRST)
        if kind == "removed":
            journal.path.unlink()
        elif kind == "renamed":
            folder.rename(tmp_path / "other")
        else:
            (tmp_path / "new").write_text(journal.path.read_text())
            (tmp_path / "new").replace(journal.path)
        with pytest.raises(OutputError, match="was removed, renamed or replaced while the batch ran"):
            journal.add(SECOND)
