"""``napari-sam2 auto`` and ``propagate``: what they write and print, bad input and Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import open_frames, read_tracks
from napari_sam2.cli import _objects
from napari_sam2.labels.reading import read_labels


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "disks.ome.tif", make_disks()[0])


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Both disks of frame 1, as numbers 7 and 300."""
    drawn = np.choose(make_disks()[1][1], [0, 7, 300]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "seeds.tif", drawn)
    return tmp_path / "seeds.tif"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("napari_sam2.weights.loading.load_model", load)


def anything(weights: Path) -> tuple[object, ...]:
    """Options by which random weights find something."""
    return ("--model", weights, "--device", "cpu", "--iou", 0, "--stability", 0, "--spacing", 16, "-q")


def test_propagate_keeps_numbers_and_reports(
    stack: Path, seeds: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, table = tmp_path / "out.ome.tif", tmp_path / "objects.csv"
    code = run(
        "propagate", stack, "--labels", seeds, "--frame", 1, "-o", out, "--csv", table, "--model", weights, "-q"
    )  # fmt: skip
    printed = capsys.readouterr().out.splitlines()
    assert code == 0
    labels = read_labels(out)
    np.testing.assert_array_equal(labels[1], np.choose(make_disks()[1][1], [0, 7, 300]))
    assert set(np.unique(labels)) <= {0, 7, 300}
    assert open_frames(out).voxel_size == open_frames(stack).voxel_size
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["object"], row["found_on"]) for row in rows] == [("7", "1"), ("300", "1")]
    for row in rows:
        on = [t for t in range(4) if (labels[t] == int(row["object"])).any()]
        assert (int(row["first_frame"]), int(row["last_frame"]), int(row["frames"])) == (on[0], on[-1], len(on))
    assert printed[0] == "2 objects"
    assert printed[-2:] == [f"wrote {out}", f"wrote {table}"]


def test_propagate_reads_labels_of_every_frame(stack: Path, weights: Path, tmp_path: Path):
    truth = make_disks()[1]
    tifffile.imwrite(tmp_path / "all.tif", truth.astype(np.uint16), photometric="minisblack")
    out = tmp_path / "out.zarr"
    assert run("propagate", stack, "--labels", tmp_path / "all.tif", "-o", out, "--model", weights, "-q") == 0
    np.testing.assert_array_equal(read_labels(out), truth)


@pytest.mark.filterwarnings("default:.*were renumbered")
def test_propagate_lists_renumbered_labels(
    stack: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    seeds = make_disks()[1][1].astype(np.uint64)
    seeds[seeds == 2] = 2**33
    tifffile.imwrite(tmp_path / "large.tif", seeds)
    out = tmp_path / "out.json"
    given = ("--labels", tmp_path / "large.tif", "--frame", 1, "--model", weights)
    assert run("propagate", stack, *given, "-o", out, "-q") == 0
    printed = capsys.readouterr()
    assert "which were renumbered" in printed.err
    assert [line.split() for line in printed.out.splitlines()[:2]] == [["label", "object"], [str(2**33), "2"]]
    assert {entry["track_id"] for entry in json.loads(out.read_text())["annotations"]} == {1, 2}


def test_auto_writes_labels_of_a_stack(stack: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, table = tmp_path / "out.ome.tif", tmp_path / "objects.csv"
    assert run("auto", stack, "-o", out, "--every", 2, "--csv", table, *anything(weights)) == 0
    labels = read_labels(out)
    with table.open() as file:
        numbers = {int(row["object"]) for row in csv.DictReader(file)}
    assert numbers
    assert set(np.unique(labels)) - {0} <= numbers
    assert f"wrote {out}" in capsys.readouterr().out


def test_auto_writes_labels_and_lineage_of_cells_that_divide(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("laptrack")
    masks = [
        [(10, 10, 16, 26)],
        [(10, 10, 16, 26)],
        [(10, 6, 16, 16), (10, 20, 16, 30)],
        [(10, 6, 16, 16), (10, 20, 16, 30)],
    ]
    drawn = np.zeros((4, 48, 48), np.int32)
    for plane, boxes in zip(drawn, masks, strict=True):
        for number, (top, left, bottom, right) in enumerate(boxes, 1):
            plane[top:bottom, left:right] = number
    movie = save_stack(tmp_path / "movie.ome.tif", (100 * (drawn > 0)).astype(np.uint8), "TYX")
    found = iter(drawn)
    monkeypatch.setattr("napari_sam2.inference.stacks.dividing_cells.automatic_labels", lambda *_, **__: next(found))
    out, tracks = tmp_path / "out.tif", tmp_path / "lineage.xml"
    assert run("auto", movie, "--divisions", "-o", out, "--tracks", tracks, *anything(weights)) == 0
    labels, lineage = read_labels(out), read_tracks(tracks)
    np.testing.assert_array_equal(labels > 0, drawn > 0)
    assert [len(np.unique(plane)) - 1 for plane in labels] == [1, 1, 2, 2]
    assert sorted(lineage.parents) == sorted(set(np.unique(labels[3])) - {0})
    assert set(lineage.parents.values()) == set(np.unique(labels[0])) - {0}
    assert "3 objects, 1 division" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "asked"), [([], None), (["--split-stacked"], True), (["--keep-stacked"], False)])
def test_stacked_objects_are_split_if_requested(
    options: list[str], asked: bool | None, stack: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setattr(
        "napari_sam2.inference.stacks.key_frame_search.contrasts_for_splitting", lambda *given: seen.append(given[3])
    )
    assert run("auto", stack, "-o", tmp_path / "out.tif", "--every", 2, *options, *anything(weights)) == 0
    assert seen == [asked]


def test_auto_searches_one_picture_in_tiles(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    picture = save_stack(tmp_path / "one.ome.tif", make_disks()[0][0], "YX")
    out = tmp_path / "out.tif"
    assert run("auto", picture, "-o", out, "--tile", 32, "--overlap", 8, *anything(weights)) == 0
    labels = read_labels(out)
    assert labels.shape == (48, 48)
    assert f"{labels.max()} object" in capsys.readouterr().out
    assert run("auto", picture, "-o", out, "--overwrite", "--min-area", "9999um2", *anything(weights)) == 0
    assert not read_labels(out).any()
    assert "0 objects; lower --iou" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["propagate", "disks.ome.tif", "--labels", "none.tif"], 3, "none.tif", id="no-seeds-file"),
        pytest.param(["propagate", "disks.ome.tif", "--labels", "seeds.tif"], 3, "index of its frame", id="no-frame"),
        pytest.param(
            ["propagate", "disks.ome.tif", "--labels", "seeds.tif", "--frame", "4"], 3, "0 to 3", id="frame-outside"
        ),
        pytest.param(
            ["propagate", "disks.ome.tif", "--labels", "empty.tif", "--frame", "1"], 3, "no label", id="no-label"
        ),
        pytest.param(
            ["propagate", "disks.ome.tif", "--labels", "small.tif", "--frame", "1"], 3, "(5, 5)", id="other-size"
        ),
        pytest.param(
            ["propagate", "disks.ome.tif", "--labels", "seeds.tif", "--frame", "1", "-o", "seeds.tif", "--overwrite"],
            6,
            "is the input",
            id="over-the-seeds",
        ),
        pytest.param(["auto", "disks.ome.tif", "--every", "0"], 3, "--every 0", id="every"),
        pytest.param(["auto", "disks.ome.tif", "--key-frame", "9"], 3, "0 to 3", id="key-frame"),
        pytest.param(["auto", "disks.ome.tif", "--min-area", "5 cells"], 3, "--min-area 5 cells", id="area"),
        pytest.param(["auto", "plain.tif", "--max-area", "5um2"], 3, "no pixel size", id="no-pixel-size"),
        pytest.param(["auto", "plain.tif", "--tile", "10", "--overlap", "9"], 3, "overlap=9", id="overlap"),
        pytest.param(["auto", "plain.tif", "--csv", "a.csv"], 3, "generate --csv", id="table-of-a-picture"),
        pytest.param(["auto", "disks.ome.tif", "--csv", "a.txt"], 6, ".csv", id="table-suffix"),
    ],
)
def test_bad_input_is_one_line_before_any_model_is_loaded(
    arguments: list[str],
    code: int,
    message: str,
    stack: Path,
    seeds: Path,
    no_model: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(stack.parent)
    tifffile.imwrite("empty.tif", np.zeros((48, 48), np.uint8))
    tifffile.imwrite("small.tif", np.ones((5, 5), np.uint8))
    tifffile.imwrite("plain.tif", make_disks()[0][0])
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert run(*arguments, *([] if "-o" in arguments else ["-o", "out.tif"])) == code
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if not line.startswith("warning")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_auto_links_volumes_over_time(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stack = make_disks()[0]
    path, out, table = tmp_path / "volumes.ome.tif", tmp_path / "out.ome.zarr", tmp_path / "objects.csv"
    tifffile.imwrite(path, np.stack([stack, stack]), metadata={"axes": "TZYX"}, photometric="minisblack")
    assert run("auto", path, "-o", out, "--every", 2, "--csv", table, *anything(weights)) == 0
    labels = read_labels(out)
    assert labels.shape == (2, *stack.shape)
    assert labels.any()
    np.testing.assert_array_equal(labels[0], labels[1])
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["found_at"] for row in rows} == {"0 1"}
    assert "T=0 is read" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["propagate", "auto"])
def test_ctrl_c_keeps_the_finished_frames(
    command: str,
    stack: Path,
    seeds: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    steps = []

    def interrupt(self: _objects.StageBar, stage: str, done: int, total: int) -> None:
        steps.append(stage)
        if "tracking" in stage and done == total - 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_objects.StageBar, "__call__", interrupt)
    out = stack.parent / "out.ome.tif"
    if command == "auto":
        code = run("auto", stack, "-o", out, "--key-frame", 2, *anything(weights))
    else:
        code = run("propagate", stack, "--labels", seeds, "--frame", 2, "-o", out, "--model", weights, "-q")
    assert code == 130
    labels = read_labels(out)
    assert labels[2].any()
    assert not labels[0].any()
    assert "interrupted: " in capsys.readouterr().err
    assert not list(stack.parent.glob(".*"))
