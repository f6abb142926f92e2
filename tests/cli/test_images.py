"""``napari-sam2 segment``, ``generate`` and ``train``, and what ``--help`` says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import open_frames
from napari_sam2._types import MaskPrediction, MaskRecord
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from napari_sam2.labels.reading import read_labels


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disks.png"
    Image.fromarray((make_disks(1)[0][0] // 8).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("command", ["track", "segment", "generate", "demo", "train"])
def test_help_shows_examples_and_every_option_has_a_text(command: str, capsys: pytest.CaptureFixture[str]):
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"  napari-sam2 {command} " in text
    assert "[default:" not in text or "None" not in text


def test_segment_gives_each_pixel_to_the_surest_object(
    image: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Three candidates for a single click, of which the best is taken; one mask for a box."""
    asked = []

    def predict(self, prompts, *, multimask_output, return_logits):
        num_masks = 3 if multimask_output else 1
        asked.append((len(prompts), num_masks))
        logits = np.full((len(prompts), num_masks, 48, 48), -1.0, np.float32)
        if multimask_output:
            logits[:, 1, 10:30, 10:30] = 2.0
        else:
            logits[:, 0, 20:40, 20:40] = 3.0
        return MaskPrediction(logits, np.tile(np.float32([0.2, 0.9, 0.4])[:num_masks], (len(prompts), 1)), logits)

    monkeypatch.setattr("napari_sam2.inference.prompts.image_predictor.SAM2ImagePredictor.predict", predict)
    out, sheet = image.with_name("out.tif"), image.with_name("out.png")
    code = run("segment", image, "--box", "20,20,40,40", "--point", "14,14", "--model", weights, "-o", out,
               "--device", "cpu", "--preview", sheet)  # fmt: skip
    assert code == 0
    assert sorted(asked) == [(1, 1), (1, 3)]
    expected = np.zeros((48, 48), np.int32)
    expected[10:30, 10:30] = 2
    expected[20:40, 20:40] = 1
    np.testing.assert_array_equal(read_labels(out), expected)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["1", "1", "0.200", "400"]
    assert rows[2] == ["2", "1", "0.900", "400"]
    assert sheet.is_file()


def test_segment_runs_on_a_frame_of_a_stack_with_candidates(weights: Path, tmp_path: Path, capsys):
    stack = save_stack(tmp_path / "s.ome.tif", make_disks()[0])
    out = tmp_path / "out.ome.tif"
    arguments = ("segment", stack, "--point", "14,16", "--model", weights, "--device", "cpu", "-o", out)
    assert run(*arguments) == 3
    assert "--frame 0 to 3" in capsys.readouterr().err
    assert run(*arguments, "--frame", 2, "--candidates", "--preview", tmp_path / "p.png") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4 + 2
    frames = open_frames(out)
    assert frames.axes == "YX"
    assert frames.voxel_size is not None
    assert frames.voxel_size["X"] == (0.25, "micrometer")


def test_segment_refines_every_label_of_a_mask(image: Path, weights: Path, capsys):
    labels = make_disks(1)[1][0]
    Image.fromarray((labels * 3).astype(np.uint8)).save(image.with_name("seeds.png"))
    out = image.with_name("out.tif")
    arguments = ("--mask", image.with_name("seeds.png"), "--model", weights, "--device", "cpu", "-o", out)
    assert run("segment", image, *arguments) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["3", "6"]
    assert set(np.unique(read_labels(out))) <= {0, 3, 6}


def test_generate_writes_labels_picture_and_table(
    image: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    masks = make_disks(1)[1][0]

    def generate_masks(self, rgb, *, progress):
        assert self.options.pred_iou_thresh == 0.3
        assert self.options.points_per_side == 4
        progress(16, 16)
        return [
            MaskRecord(segmentation=masks == k, area=int((masks == k).sum()), bbox=[k, 2, 3, 4], predicted_iou=0.5,
                       stability_score=0.75, point_coords=[[7.5, 8.0]], crop_box=[0, 0, 48, 48])
            for k in (1, 2)
        ]  # fmt: skip

    monkeypatch.setattr(SAM2AutomaticMaskGenerator, "generate_masks", generate_masks)
    out, sheet, table = (image.with_name(name) for name in ("o.tif", "o.png", "o.csv"))
    code = run("generate", image, "--model", weights, "--device", "cpu", "--points-per-side", 4, "--iou", 0.3,
               "-o", out, "--preview", sheet, "--csv", table)  # fmt: skip
    assert code == 0
    np.testing.assert_array_equal(read_labels(out), masks)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["area"] for row in rows] == [str((masks == 1).sum()), str((masks == 2).sum())]
    assert (rows[1]["x0"], rows[1]["y0"], rows[1]["point_x"], rows[1]["point_y"]) == ("2", "2", "7.5", "8")
    assert sheet.is_file()
    assert capsys.readouterr().out.startswith("2 objects found\n")


def test_generate_chooses_again_among_candidates_without_a_model(
    image: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    out, kept = image.with_name("o.tif"), image.with_name("found.npz")
    common = ("generate", image, "--model", weights, "--device", "cpu", "--points-per-side", 3, "-q",
              "--candidates", kept, "--stability", 0, "-o", out)  # fmt: skip
    assert run(*common, "--iou", 0) == 0
    everything = read_labels(out)
    assert kept.is_file()
    assert everything.any()

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("napari_sam2.weights.loading.load_model", load)
    assert run(*common, "--iou", 0, "--overwrite") == 0
    np.testing.assert_array_equal(read_labels(out), everything)
    assert run(*common, "--iou", 1, "--overwrite") == 0
    assert not read_labels(out).any()
    assert run(*common, "--iou", 0, "--exclude-border", "--overwrite") == 0
    labels = read_labels(out)
    assert not labels[[0, -1]].any()
    assert not labels[:, [0, -1]].any()
    capsys.readouterr()
    out.unlink()
    assert run(*common[:7], 4, *common[8:], "--iou", 0) == 6
    assert "candidates of another search" in capsys.readouterr().err
    kept.write_bytes(b"something else")
    assert run(*common, "--iou", 0) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_generate_runs_and_finds_nothing_with_thresholds_of_one(image: Path, weights: Path, capsys):
    out = image.with_name("o.tif")
    code = run("generate", image, "--model", weights, "--device", "cpu", "--points-per-side", 2, "--iou", 1, "-o", out)
    assert code == 0
    assert not read_labels(out).any()
    assert "0 objects found; lower --iou" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--config", "no.json", "--data", "."], "no.json", id="no-config"),
        pytest.param(["--config", "bad.json", "--data", "."], "bad.json", id="bad-config"),
        pytest.param(["--config", "run.json", "--data", "nowhere"], "nowhere", id="no-data"),
        pytest.param(["--config", "run.json", "--data", "."], "no .npz", id="empty-data"),
    ],
)
def test_train_refuses_what_it_cannot_train_on(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(json.dumps({"phases": [{"steps": 2}]}))
    Path("bad.json").write_text('{"phases": [{"stepz": 2}]}')
    assert run("train", *arguments, "-o", "out") == 3
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert not Path("out").exists()


def test_train_reports_each_line_and_ends_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"phases": [{"steps": 4}]}))
    seen = {}

    class Trainer:
        step = 0

        def __init__(self, config, sources, folder, *, device, num_workers):
            seen.update(steps=config.num_steps, sources=sources, device=device.type, workers=num_workers)

        def run(self, *, report_every, on_report):
            for step in (2, 4):
                on_report(step, {"loss": 1.5 / step, "seconds": 1.0, "click": 0.25})
            if seen["interrupt"]:
                raise KeyboardInterrupt

    monkeypatch.setattr("napari_sam2.training.loop.Trainer", Trainer)
    monkeypatch.setattr("napari_sam2.training.dataset.load_sources", lambda folder, hold_out: [folder.name, *hold_out])
    arguments = ("train", "--config", tmp_path / "run.json", "--data", tmp_path / "packs", "--hold-out", "fib25",
                 "-o", tmp_path / "out", "--device", "cpu")  # fmt: skip
    seen["interrupt"] = False
    assert run(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "from step 0 of 4, cpu"
    assert lines[1].startswith("2  loss 0.750  click 0.250  (")
    assert lines[-1].endswith("weights.safetensors")
    assert seen["sources"] == ["packs", "fib25"]
    seen["interrupt"] = True
    assert run(*arguments) == 130
    assert "resumes from the last saved state" in capsys.readouterr().err


def test_second_ctrl_c_interrupts_at_once():
    import signal

    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
