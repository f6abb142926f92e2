"""``napari-sam2 track --through-time``: objects of volumes over time from prompts at one time point."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import Session, SessionSettings, open_frames
from napari_sam2.cli import _through_time
from napari_sam2.frames.volume_series import VolumeSeries
from napari_sam2.labels.reading import read_labels
from napari_sam2.session.worker.propagation_handle import PropagationHandle

NUM_TIMES, NUM_SLICES = 3, 4


def make_volumes() -> tuple[np.ndarray, np.ndarray]:
    """(T, Z, Y, X): the disks at three time points."""
    stack, labels = make_disks(NUM_SLICES)
    return np.stack([stack] * NUM_TIMES), np.stack([labels] * NUM_TIMES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    volumes, labels = make_volumes()
    save_stack(tmp_path / "volumes.ome.tif", volumes, "TZYX")
    tifffile.imwrite(tmp_path / "drawn.tif", np.where(labels[1, 2] == 2, 6, 0).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def track(weights: Path, *options: object) -> int:
    return run("track", "volumes.ome.tif", "--through-time", *options, "--model", weights, "--device", "cpu")


def in_a_session(weights: Path) -> np.ndarray:
    """The labels that a session gives for the drawn disk."""
    labels = make_volumes()[1]
    first = open_frames("volumes.ome.tif", frame_axis="Z", fixed={"T": 0})
    with Session(
        VolumeSeries(first.at_time, NUM_TIMES), model=weights, settings=SessionSettings(device="cpu")
    ) as session:
        session.add_mask(labels[1, 2] == 2, frame=NUM_SLICES + 2, object_id=6)
        session.propagate_through_time()
        return session.labels.copy()


def test_labels_are_those_of_a_session_and_have_all_axes(
    place: Path, weights: Path, capsys: pytest.CaptureFixture[str]
):
    options = ("--mask", "1,2:drawn.tif", "-o", "o.ome.tif", "--scores", "s.csv", "--preview", "p.png")
    assert track(weights, *options) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("wrote")] == ["wrote o.ome.tif", "wrote p.png", "wrote s.csv"]
    assert printed[0].startswith("object  time points")
    assert printed[1].split()[0] == "6"
    labels = read_labels("o.ome.tif")
    np.testing.assert_array_equal(labels, in_a_session(weights))
    np.testing.assert_array_equal(labels[1, 2] == 6, make_volumes()[1][1, 2] == 2)
    written = open_frames("o.ome.tif", frame_axis="Z", fixed={"T": 0})
    assert written.axes == "TZYX"
    assert written.voxel_size["Z"] == (0.5, "micrometer")
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["object"], r["time"], r["slice"]) for r in rows if r["is_prompted"] == "1"} == {("6", "1", "2")}
    assert {(int(r["time"]), int(r["slice"])) for r in rows} == set(np.ndindex(NUM_TIMES, NUM_SLICES))


def test_points_boxes_and_clicks_on_background_have_four_coordinates(place: Path, weights: Path):
    prompts = ("--point", "1,2,14,16", "--negative", "1,2,40,5", "--box", "1,2,26,24,40,40")
    assert track(weights, *prompts, "-o", "o.zarr", "--session", "a.sam2") == 0
    with Session.load("a.sam2", make_volumes()[0]) as session:
        assert sorted(session.store.prompts) == [(1, 6), (2, 6)]
        np.testing.assert_array_equal(session.store.prompts[1, 6].prompt.points, [[16, 14], [5, 40]])
        np.testing.assert_array_equal(session.store.prompts[2, 6].prompt.box, [24, 26, 40, 40])
        np.testing.assert_array_equal(session.labels, read_labels("o.zarr"))


def test_one_click_gives_a_cell_at_all_times(place: Path):
    assert run("track", "volumes.ome.tif", "--through-time", "--point", "1,2,14,16", "-o", "o.tif", "-q") == 0
    found, truth = read_labels("o.tif") == 1, make_volumes()[1] == 1
    for time in range(NUM_TIMES):
        assert (found & truth)[time].sum() / (found | truth)[time].sum() > 0.7


def stop_after(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Let Ctrl-C be pressed after so many steps of the next run."""
    is_set = _through_time.StopRequest.is_set

    def pressed(self: object) -> bool:
        handle = running.get("handle")
        return is_set(self) or (handle is not None and handle.num_done >= num_steps)

    running: dict[str, PropagationHandle] = {}
    start = Session.propagate_through_time

    def started(self: Session, **options: object) -> PropagationHandle:
        running["handle"] = start(self, **options)
        return running["handle"]

    monkeypatch.setattr(_through_time.StopRequest, "is_set", pressed)
    monkeypatch.setattr(Session, "propagate_through_time", started)


def test_an_interrupted_run_keeps_what_is_finished_and_a_session_continues_it(
    place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = ("--mask", "1,2:drawn.tif", "--session", "a.sam2", "-o", "o.ome.tif")
    with monkeypatch.context() as patched:
        stop_after(patched, NUM_SLICES)
        assert track(weights, *options) == 130
    said = capsys.readouterr().err
    assert "interrupted: the finished planes are in o.ome.tif; run the command again with --overwrite" in said
    labels = read_labels("o.ome.tif")
    assert labels[1, 2].any()
    with Session.load("a.sam2", make_volumes()[0]) as session:
        assert len(session.store.masks) < NUM_TIMES * NUM_SLICES
    assert track(weights, *options, "--overwrite") == 0
    np.testing.assert_array_equal(read_labels("o.ome.tif"), in_a_session(weights))
    assert track(weights, "--session", "a.sam2", "-o", "again.ome.tif") == 0  # nothing is missing
    np.testing.assert_array_equal(read_labels("again.ome.tif"), read_labels("o.ome.tif"))
    assert sorted(path.name for path in place.iterdir()) == [
        "a.sam2", "again.ome.tif", "drawn.tif", "o.ome.tif", "volumes.ome.tif"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--point 1,2,14,16 --range 0,1", 3, "--range cannot be combined with --through-time"),
        ("--point 1,2,14,16 --along Y", 3, "--along Y cannot be combined with --through-time"),
        ("--point 1,2,14,16 --axes-vote", 3, "--along ZYX cannot be combined"),
        ("--point 1,2,14,16 --compute tcp://127.0.0.1:9", 3, "--compute cannot be combined"),
        ("--point 1,2,14,16 --insecure", 5, "require --compute"),
        ("--point 1,2,14,16 --full-resolution", 3, "--full-resolution cannot be combined"),
        ("--point 1,2,14,16 --axis T", 3, "--axis cannot be combined"),
        ("--point 1,2,14,16 --fix T=1", 3, "--fix T=... cannot be combined"),
        ("--point 1,2,14,16 --axes ZYX", 3, "axes"),
        ("--point 3,2,14,16", 3, "T 0 to 2, Z 0 to 3, Y 0 to 47, X 0 to 47"),
        ("--point 2,14,16", 3, "expected numbers T,Z,Y,X"),
        ("--point 1,1.5,14,16", 3, "Z, the second number, must be an integer"),
        ("--mask 1,4:drawn.tif", 3, "T 0 to 2, Z 0 to 3, as T,Z:FILE"),
        ("--mask drawn.tif", 3, "or T,Z:FILE for one frame"),
        ("", 3, "no prompt was given"),
        ("--point 1,2,14,16 --session a.txt", 6, "must end in .sam2"),
        ("--point 1,2,14,16 --session no/a.sam2", 6, "does not exist"),
        ("--point 1,2,14,16 --session text.sam2", 6, "is not a session file"),
        ("--point 1,2,14,16 --preview p.jpg", 6, ".png"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(
    place: Path, options: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
):
    Path("text.sam2").write_text("text")
    before = sorted(place.iterdir())
    assert track(Path("missing.safetensors"), *options.split(), "-o", "o.tif") == code
    assert words in capsys.readouterr().err
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(("axes", "shape"), [("ZYX", (4, 48, 48)), ("TYX", (4, 48, 48)), ("YX", (48, 48))])
def test_a_file_without_volumes_over_time_is_refused(
    place: Path, axes: str, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]
):
    save_stack(place / "other.ome.tif", np.ones(shape, np.uint8), axes)
    assert run("track", "other.ome.tif", "--through-time", "--point", "0,0,1,1", "-o", "o.tif") == 3
    assert "needs volumes over time; other.ome.tif has the axes" in capsys.readouterr().err


def test_a_session_file_needs_through_time(place: Path, capsys: pytest.CaptureFixture[str]):
    assert run("track", "volumes.ome.tif", "--point", "1,14,16", "--session", "a.sam2", "-o", "o.tif") == 3
    assert "requires --through-time" in capsys.readouterr().err


def test_channels_and_positions_are_left_out_of_the_series(tmp_path: Path):
    volumes, _ = make_volumes()
    array = np.stack([volumes, volumes[::-1]], axis=2)  # TZCYX
    first = open_frames(array, axes="TZCYX", frame_axis="Z", fixed={"T": 0}, channels=[1])
    series = VolumeSeries(first.at_time, NUM_TIMES)
    assert series.geometry.shape == volumes.shape
    assert len(series) == NUM_TIMES * NUM_SLICES
    np.testing.assert_array_equal(series[5], first.at_time(1)[1])
    with pytest.raises(IndexError, match="12 was requested"):
        series[12]
