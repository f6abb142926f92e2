"""``napari-sam2 batch``: its options, its report and its exit codes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2.batch import running
from napari_sam2.batch.jobs import AutoJob, GenerateJob, PropagateJob
from napari_sam2.batch.options import FindOptions, KeepOptions, ReadOptions
from napari_sam2.batch.pieces import DONE, FAILED, NOT_RUN, Outcome, Piece, PieceRecord, Source
from napari_sam2.batch.report import BatchReport
from napari_sam2.labels.reading import read_labels
from ome_files import save_positions

pytestmark = pytest.mark.timeout(300)  # processes start slowly on a busy machine


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[object, ...], dict[str, object]]]:
    """What the function below the command was given; nothing is run."""
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def record(*arguments: object, **options: object) -> BatchReport:
        calls.append((arguments, options))
        return BatchReport((), (), 0, 0.0)

    monkeypatch.setattr(running, "run_batch", record)
    return calls


@pytest.mark.parametrize(
    ("arguments", "job"),
    [
        pytest.param(
            ("generate", "--iou", "0.6", "--crop-layers", "1", "--min-area", "5um2", "--frame", "3", "--fix", "P=2"),
            GenerateJob(
                FindOptions(pred_iou_thresh=0.6, crop_n_layers=1),
                KeepOptions("5um2"),
                ReadOptions(fixed=(("P", 2),)),
                3,
            ),
            id="generate",
        ),
        pytest.param(
            ("auto", "--key-frame", "2", "--key-frame", "7", "--spacing", "12", "--overlap", "64", "--keep-stacked"),
            AutoJob(FindOptions(point_spacing_px=12.0), key_frames=(2, 7), split_stacked=False, overlap=64),
            id="auto",
        ),
        pytest.param(
            ("propagate", "--frame", "4", "--give-up", "2", "--channels", "1,0", "--contrast", "5,90"),
            PropagateJob(ReadOptions(channels=(1, 0), contrast=(5.0, 90.0)), (4,), give_up_after=2),
            id="propagate",
        ),
    ],
)
def test_options_describe_the_job(arguments: tuple[str, ...], job: object, given: list):
    command, *options = arguments
    assert run("batch", command, "a", "b", "-o", "out", *options, "--workers", 2, "--format", ".zarr", "-q") == 0
    ((found, inputs, output), named) = given[0]
    assert (found, inputs, output) == (job, ["a", "b"], Path("out"))
    assert (named["workers"], named["suffix"], named["retries"], named["restart"]) == (2, ".zarr", 1, False)


@pytest.mark.parametrize(
    ("command", "function", "options", "expected"),
    [
        ("tiles", "tiles.segment_tiles", ("--tile", "512"), AutoJob(tile=512)),
        (
            "stack",
            "stack_parts.segment_stack_parts",
            ("--every", "4", "--min-score", "0.5"),
            AutoJob(every=4, min_score=0.5),
        ),
    ],
)
def test_one_file_is_divided(
    command: str,
    function: str,
    options: tuple[str, ...],
    expected: AutoJob,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    calls: list[tuple[object, ...]] = []

    def record(*arguments: object, **named: object) -> BatchReport:
        calls.append((*arguments, named["workers"], named["retries"]))
        return BatchReport((), (), 0, 0.0)

    monkeypatch.setattr(f"napari_sam2.batch.{function}", record)
    assert run("batch", command, "a.zarr", "-o", "out.zarr", *options, "--workers", 2, "--retries", 3, "-q") == 0
    assert calls == [(expected, Path("a.zarr"), Path("out.zarr"), 2, 3)]
    assert "wrote out.zarr" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["tiles", "stack"])
def test_each_position_of_a_file_is_divided_by_itself(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    image = save_positions(tmp_path / "a.ome.tif", 3, 2, 8, 8)
    calls: list[tuple[object, str]] = []

    def record(job: AutoJob, _: Path, output: Path, **__: object) -> BatchReport:
        calls.append((dict(job.reading.fixed), output.name))
        output.touch()
        state = NOT_RUN if len(calls) == 2 else DONE
        piece = Piece(output.name, Source(image), output)
        return BatchReport((piece,), (PieceRecord(output.name, state, "", Outcome(1, 1)),), 0, 0.0)

    name = "tiles.segment_tiles" if command == "tiles" else "stack_parts.segment_stack_parts"
    monkeypatch.setattr(f"napari_sam2.batch.{name}", record)
    given = ("batch", command, image, "-o", tmp_path / "out.ome.tif", "-q")
    assert run(*given) == 130
    assert calls == [({"P": number}, f"out_pos{number}.ome.tif") for number in range(2)]  # the second one was stopped
    assert "has 3 positions" in capsys.readouterr().err
    (tmp_path / "out_pos1.ome.tif").unlink()
    assert run(*given) == 0
    assert calls[2:] == [({"P": number}, f"out_pos{number}.ome.tif") for number in (1, 2)]
    assert "out_pos0.ome.tif already exists; position 0 is skipped" in capsys.readouterr().err
    assert run(*given, "--fix", "P=2") == 0
    assert calls[4:] == [({"P": 2}, "out.ome.tif")]


@pytest.mark.parametrize(("state", "code"), [(DONE, 0), (FAILED, 7), (NOT_RUN, 130)])
def test_exit_code_and_table_tell_how_it_ended(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pieces = tuple(Piece(f"{name}.tif", Source(Path(f"in/{name}.tif")), Path(f"out/{name}.tif")) for name in "ab")
    records = (
        PieceRecord("a.tif", DONE, "", Outcome(12, 1)),
        PieceRecord("b.tif", state, "", Outcome(3, 1) if state == DONE else None, "it is\x1b[31m empty"),
    )
    monkeypatch.setattr(running, "run_batch", lambda *_, **__: BatchReport(pieces, records, 0, 2.0))
    assert run("batch", "track", "in", "-o", "out", "-q") == code
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split()[5] == ("15" if state == DONE else "12")
    assert ("failed: in/b.tif: it is\\x1b[31m empty" in told.err) == (state == FAILED)
    assert ("run the same command again" in told.err) == (state == NOT_RUN)


@pytest.mark.parametrize(
    ("command", "function", "told"),
    [
        ("track", "running.run_batch", "warning: in/a.tif: planes are left out (and 1 more file)\n"),
        ("tiles", "tiles.segment_tiles", "warning: planes are left out\n"),
    ],
)
def test_warnings_of_pieces_are_told_once(
    command: str, function: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pieces = tuple(Piece(f"{name}.tif", Source(Path(f"in/{name}.tif")), Path(f"out/{name}.tif")) for name in "ab")
    records = tuple(
        PieceRecord(piece.name, DONE, "", Outcome(1, 1, warnings=("planes are left out",))) for piece in pieces
    )
    monkeypatch.setattr(f"napari_sam2.batch.{function}", lambda *_, **__: BatchReport(pieces, records, 0, 2.0))
    assert run("batch", command, "in", "-o", "out", "-q") == 0
    assert capsys.readouterr().err == told


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run("batch", "auto", tmp_path, "-o", tmp_path / "out") == 5
    assert "pip install 'napari-sam2[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_list_of_prompts_is_tracked_on_workers_of_this_computer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in "ab":
        save_stack(tmp_path / f"{name}.ome.tif", make_disks()[0])
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    (tmp_path / "prompts.csv").write_text(
        'file,object,point\na.ome.tif,3,"1,14,15"\nb.ome.tif,,"0,14,14"\nb.ome.tif,,"0,34,34"\nbroken.tif,,"0,1,1"\n'
    )
    weights = save_random_model(tmp_path / "random.safetensors")
    command = ("batch", "track", tmp_path / "prompts.csv", "-o", tmp_path / "out", "--model", weights, "--workers", 1)
    assert run(*command) == 7
    told = capsys.readouterr()
    assert "dashboard: http://127.0.0.1:" in told.err
    assert f"failed: {tmp_path / 'broken.tif'} cannot be read" in told.err
    assert set(read_labels(tmp_path / "out" / "a.tif").ravel()) <= {0, 3}
    assert run(*command, "--device", "cpu", "--retries", 0, "-q") == 7
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["3", "2", "0", "1"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_broken_files_of_thirty_are_reported_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    images, output, broken = tmp_path / "in", tmp_path / "out", {"f07.tif", "f19.tif"}
    images.mkdir()
    rng = np.random.default_rng(1)
    for number in range(30):
        tifffile.imwrite(images / f"f{number:02}.tif", rng.integers(0, 255, (64, 64), np.uint8))
    (images / "f07.tif").write_bytes(b"II*\0 no more")
    half = (images / "f19.tif").read_bytes()
    (images / "f19.tif").write_bytes(half[: len(half) // 2])
    options = ("--model", save_random_model(tmp_path / "random.safetensors"), "--device", "cpu", "-q")
    options += ("--spacing", 24, "--iou", 0, "--stability", 0)
    command = ("batch", "generate", images, "-o", output, *options, "--workers", 2)

    assert run(*command) == 7
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split()[:5] == ["30", "0", "28", "2", "0"]
    assert [line for line in told.err.splitlines() if not line.startswith("failed: ")] == []
    assert {name for name in broken if f"{images / name}" in told.err} == broken
    with (output / "report.csv").open(newline="") as file:
        rows = {row["result"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["state"] == "failed" and row["reason"]} == broken
    assert {name for name, row in rows.items() if row["state"] == "done"} == {*rows} - broken
    assert len(rows) == 30
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tif")}
    assert set(finished) == {*rows} - broken
    objects = 0
    for name in finished:
        assert run("generate", images / name, "-o", tmp_path / name, *options) == 0
        np.testing.assert_array_equal(read_labels(output / name), read_labels(tmp_path / name), name)
        objects += int(read_labels(output / name).max())
    assert objects

    capsys.readouterr()
    assert run(*command) == 7
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["30", "28", "0", "2", "0"]
    assert {path.name: path.stat().st_mtime_ns for path in output.glob("*.tif")} == finished
