"""``napari-sam2 track`` and ``demo``: what they write and print, bad input, full disks, Ctrl-C and SIGTERM."""

from __future__ import annotations

import csv
import errno
import os
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import FrameError, open_frames
from napari_sam2.cli import _tracking
from napari_sam2.frames.sources import Frames
from napari_sam2.labels.canvas import LabelCanvas
from napari_sam2.labels.formats import TiffTarget
from napari_sam2.labels.reading import read_labels


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "disks.ome.tif", make_disks()[0])


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """The second disk, drawn on frame 1."""
    labels = make_disks()[1][1]
    tifffile.imwrite(tmp_path / "seeds.tif", np.where(labels == 2, 6, 0).astype(np.uint8))
    return tmp_path / "seeds.tif"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("napari_sam2.weights.loading.load_model", load)


def test_track_writes_labels_scores_and_picture(
    stack: Path, seeds: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, sheet, scores = tmp_path / "out.ome.tif", tmp_path / "sheet.png", tmp_path / "scores.csv"
    code = run(
        "track", stack, "--object", 9, "--point", "2,14,16", "--negative", "2,40,5", "--mask", f"1:{seeds}",
        "--model", weights, "--device", "cpu", "-o", out, "--preview", sheet, "--scores", scores,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0
    labels, truth = read_labels(out), make_disks()[1]
    assert labels.shape == truth.shape
    assert set(np.unique(labels)) <= {0, 6, 9}
    drawn = truth[1] == 2
    assert (labels[1][drawn] > 0).all()  # a mask comes back as it is; where object 9 is surer, it has the pixel
    frames = open_frames(out)
    assert frames.axes == "ZYX"
    assert frames.voxel_size == {"Z": (0.5, "micrometer"), "Y": (0.25, "micrometer"), "X": (0.25, "micrometer")}
    with Image.open(sheet) as picture:
        assert picture.mode == "RGB"
        assert picture.width > 500
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert {(int(r["object"]), int(r["frame"])) for r in rows} == {(o, t) for o in (6, 9) for t in range(4)}
    assert {(r["object"], r["frame"]) for r in rows if r["is_prompted"] == "1"} == {("6", "1"), ("9", "2")}
    assert next(int(r["area"]) for r in rows if r["object"] == "6" and r["frame"] == "1") == drawn.sum()
    lines = printed.splitlines()
    assert lines[0].split()[:2] == ["object", "frames"]
    assert {line.split()[0] for line in lines[1:3]} == {"6", "9"}
    assert f"wrote {out}" in lines
    assert f"wrote {sheet}" in lines


def test_track_fills_only_the_range_and_replaces_only_when_asked(
    stack: Path, seeds: Path, weights: Path, tmp_path: Path
):
    out = tmp_path / "out.zarr"
    arguments = ("track", stack, "--mask", f"1:{seeds}", "--model", weights, "--device", "cpu", "-o", out)
    assert run(*arguments, "--range", "1,1") == 0
    np.testing.assert_array_equal(read_labels(out)[1] == 6, make_disks()[1][1] == 2)
    assert not read_labels(out)[[0, 2, 3]].any()
    assert run(*arguments) == 6
    assert run(*arguments, "--range", "0,1", "--overwrite") == 0
    assert not read_labels(out)[2:].any()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["missing.tif", "--point", "0,1,1"], 3, "missing.tif", id="missing-file"),
        pytest.param(["disks.ome.tif", "--axes", "TZYX", "--point", "0,1,1"], 3, "axes", id="wrong-axes"),
        pytest.param(["disks.ome.tif", "--axis", "T", "--point", "0,1,1"], 3, "frame axis", id="no-such-axis"),
        pytest.param(["disks.ome.tif", "--fix", "C=1", "--point", "0,1,1"], 3, "expected one of Z", id="fix"),
        pytest.param(
            ["disks.ome.tif", "--channels", "a", "--point", "0,1,1"],
            3,
            "'a' was given; the image has 1 channel without",
            id="channels",
        ),
        pytest.param(["disks.ome.tif", "--contrast", "5", "--point", "0,1,1"], 3, "--contrast 5", id="contrast"),
        pytest.param(["disks.ome.tif", "--contrast", "9,5", "--point", "0,1,1"], 3, "low < high", id="contrast-order"),
        pytest.param(["disks.ome.tif", "--gamma", "0", "--point", "0,1,1"], 3, "gamma", id="gamma"),
        pytest.param(["disks.ome.tif", "--range", "2,9", "--point", "0,1,1"], 3, "0 to 3", id="range"),
        pytest.param(["disks.ome.tif", "--point", "4,1,1"], 3, "Z 0 to 3, Y 0 to 47, X 0 to 47", id="prompt-outside"),
        pytest.param(["disks.ome.tif"], 3, "no prompt", id="no-prompt"),
        pytest.param(["disks.ome.tif", "--mask", "no.tif"], 3, "no.tif", id="no-mask"),
        pytest.param(["empty.tif", "--point", "0,1,1"], 3, "empty", id="empty-file"),
        pytest.param(["nan.tif", "--point", "0,1,1"], 3, "no finite value", id="all-nan"),
        pytest.param(["disks.ome.tif", "--point", "0,1,1", "-o", "out.png"], 6, ".ome.zarr", id="suffix"),
        pytest.param(["disks.ome.tif", "--point", "0,1,1", "-o", "nowhere/out.tif"], 6, "nowhere", id="no-folder"),
        pytest.param(["disks.ome.tif", "--point", "0,1,1", "-o", "there.tif"], 6, "--overwrite", id="exists"),
        pytest.param(
            ["disks.ome.tif", "--point", "0,1,1", "-o", "disks.ome.tif", "--overwrite"], 6, "is the input", id="input"
        ),
        pytest.param(
            ["disks.zarr/0", "--point", "0,1,1", "-o", "disks.zarr", "--overwrite"], 6, "contains the input", id="above"
        ),
        pytest.param(["disks.zarr", "--point", "0,1,1", "-o", "disks.zarr/a.zarr"], 6, "is inside the input", id="in"),
        pytest.param(["disks.ome.tif", "--point", "0,1,1", "--preview", "a.jpg"], 6, ".png", id="preview-suffix"),
        pytest.param(["disks.ome.tif", "--point", "0,1,1", "--scores", "there.csv"], 6, "exists", id="scores-exist"),
    ],
)
def test_bad_input_is_one_line_before_any_model_is_loaded(
    arguments: list[str],
    code: int,
    message: str,
    stack: Path,
    no_model: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(stack.parent)
    Path("there.tif").write_bytes(b"old")
    Path("there.csv").write_bytes(b"old")
    Path("empty.tif").write_bytes(b"")
    tifffile.imwrite("nan.tif", np.full((3, 20, 20), np.nan, np.float32), photometric="minisblack")
    zarr.open_group("disks.zarr", mode="w").create_array("0", data=make_disks()[0])
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    given = arguments if "-o" in arguments else [*arguments, "-o", "out.tif"]
    assert run("track", *given) == code
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if not line.startswith("warning")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert said.out == ""
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("model", "message"),
    [pytest.param("sam9", "sam2.1_hiera_tiny", id="unknown"), pytest.param("bad.safetensors", "bad", id="corrupt")],
)
def test_model_that_cannot_be_loaded_leaves_nothing(
    model: str, message: str, stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(stack.parent)
    Path("bad.safetensors").write_bytes(b"no weights")
    before = sorted(Path().iterdir())
    assert run("track", stack, "--point", "0,14,14", "--model", model, "-o", "out.ome.tif") == 4
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(Path().iterdir()) == before


def test_full_disk_while_tracking_leaves_nothing(
    stack: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = sorted(stack.parent.iterdir())

    def write(self: TiffTarget, frame: int, labels: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TiffTarget, "write", write)
    out = stack.parent / "out.tif"
    code = run("track", stack, "--point", "1,14,14", "--model", weights, "--device", "cpu", "-o", out, "-q")
    assert code == 6
    assert "No space left" in capsys.readouterr().err
    assert sorted(stack.parent.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
@pytest.mark.usefixtures("hangup_not_ignored")
def test_ctrl_c_and_the_end_of_a_job_keep_the_finished_frames(
    number: signal.Signals,
    stack: Path,
    seeds: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    before = signal.getsignal(number)
    add = _tracking.Tracked.add

    def add_and_interrupt(self: _tracking.Tracked, result: object) -> None:
        add(self, result)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(_tracking.Tracked, "add", add_and_interrupt)
    out = stack.parent / "out.ome.tif"
    assert run("track", stack, "--mask", f"1:{seeds}", "--model", weights, "--device", "cpu", "-o", out, "-q") == 130
    labels = read_labels(out)
    np.testing.assert_array_equal(labels[1] == 6, make_disks()[1][1] == 2)
    assert not labels[[0, 2, 3]].any()
    with tifffile.TiffFile(out) as file:
        assert "interrupted: 1 of 4 frames" in file.ome_metadata
    said = capsys.readouterr()
    assert f"interrupted: the finished frames are in {out}" in said.err
    assert said.out.splitlines()[0].split()[0] == "object"
    assert signal.getsignal(number) is before
    assert not list(stack.parent.glob(".*"))


@pytest.mark.parametrize("command", ["track", "propagate"])
def test_an_unreadable_frame_in_the_middle_is_skipped_and_listed(
    command: str,
    stack: Path,
    seeds: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    read = Frames.__getitem__

    def unreadable(frames: Frames, frame: int) -> np.ndarray:
        if frame == 3:
            raise FrameError("frame 3 cannot be read")
        return read(frames, frame)

    monkeypatch.setattr(Frames, "__getitem__", unreadable)
    prompts = ["--point", "1,34,33"] if command == "track" else ["--labels", seeds, "--frame", 1]
    out = tmp_path / "out.ome.tif"
    assert run(command, stack, *prompts, "-o", out, "--model", weights, "-q") == 0
    assert "blank, saturated or unreadable frames, skipped: 3\n" in capsys.readouterr().out
    labels = read_labels(out)
    assert labels.shape == make_disks()[1].shape
    assert not labels[3].any()


def test_demo_writes_its_files_and_its_recipe_gives_the_same_labels(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("napari_sam2.training.synthetic.make_demo_stack", lambda seed: make_disks(num_frames=5))
    folder = tmp_path / "a folder"
    for _ in range(2):  # a second run replaces the files of the first
        assert run("demo", "-o", folder, "--model", weights, "--device", "cpu", "-q") == 0
        printed = capsys.readouterr().out.splitlines()
        names = {path.name for path in folder.iterdir()}
        assert names == {"stack.ome.tif", "truth.ome.tif", "labels.ome.tif", "contact_sheet.png"}
    np.testing.assert_array_equal(read_labels(folder / "truth.ome.tif"), make_disks(num_frames=5)[1])
    rows = [line.split() for line in printed[1:3]]
    labels, truth = read_labels(folder / "labels.ome.tif"), read_labels(folder / "truth.ome.tif")
    agreements = []
    for number, row in enumerate(rows, start=1):
        z, y, x = (int(i) for i in row[1].split(","))
        same, other = truth == truth[z, y, x], labels == number
        assert truth[z, y, x] > 0
        agreements.append((same & other).sum() / (same | other).sum())
        assert row[-1] == f"{agreements[-1]:.3f}"
    assert f"{np.mean(agreements):.3f}" in printed[3]
    recipe = next(line for line in printed if line.strip().startswith("napari-sam2 track"))
    assert run(*shlex.split(recipe)[1:], "--device", "cpu", "-q") == 0
    np.testing.assert_array_equal(read_labels(folder / "again.ome.tif"), labels)


@pytest.mark.parametrize("suffix", ["out.ome.tif", "out.tif", "out.zarr"])
def test_canvas_paints_into_a_writer_as_into_an_array(tmp_path: Path, suffix: str):
    from napari_sam2._types import FrameResult, LogitWindow
    from napari_sam2.labels.files import LabelWriter

    rng = np.random.default_rng(0)
    results = []
    for frame, object_id in ((0, 1), (1, 1), (1, 2), (0, 3)):
        logits = rng.normal(size=(1, 9, 7)).astype(np.float32)
        scores = np.ones(1, np.float32)
        windows = (LogitWindow(0, 0, logits[0]),)
        results.append(FrameResult(frame, (object_id,), (9, 7), windows, scores, scores, has_logits=True))
    array = np.zeros((3, 9, 7), np.int32)
    with LabelWriter(tmp_path / suffix, (3, 9, 7)) as writer:
        for target in (array, writer):
            with LabelCanvas(target, (9, 7), {0, 1}) as canvas:
                for result in results:
                    canvas.paint(result)
        np.testing.assert_array_equal(writer[1], array[1])
        assert not writer[2].any()
    np.testing.assert_array_equal(read_labels(tmp_path / suffix), array)


@pytest.mark.parametrize("axes", ["Y", "zyx"])
def test_track_along_other_axes_writes_labels_of_the_stack(stack: Path, weights: Path, tmp_path: Path, axes: str):
    out = tmp_path / "out.ome.tif"
    assert run("track", stack, "--point", "1,14,15", "--model", weights, "--along", axes, "-o", out) == 0
    assert read_labels(out).shape == make_disks()[1].shape
    written, read = (tifffile.TiffFile(path).ome_metadata or "" for path in (out, stack))
    for size in ('PhysicalSizeX="0.25"', 'PhysicalSizeZ="0.5"'):
        assert size in written
        assert size in read


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param(("--box", "1,5,5,20,20"), "clicks on objects only", id="box"),
        pytest.param(("--range", "0,2"), "--range cannot be combined", id="range"),
    ],
)
def test_along_other_axes_takes_clicks_only(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
):
    code = run("track", stack, "--point", "1,14,15", *more, "--along", "Y", "-o", tmp_path / "out.tif")
    assert code == 3
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.tif").exists()
