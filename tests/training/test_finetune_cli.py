"""``napari-sam2 train IMAGES LABELS``."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from finetune_tools import save_discs, save_start

from cli_tools import run
from napari_sam2 import load_model
from napari_sam2.training import finetune
from napari_sam2.training.validation import HeldOutObjects, ValidationScore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    save_discs(path)
    save_start(path / "start.safetensors")
    return path


def train(folder: Path, *more: object) -> int:
    return run("train", folder / "images", folder / "labels", "--from", folder / "start.safetensors", "--device", "cpu",
               "--workers", 0, "--batch-size", 1, "--report-every", 1, *more)  # fmt: skip


@pytest.fixture
def rising(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Measurements that rise by 0.1 each time."""
    seen: list[float] = []

    def score(self, model):
        seen.append(0.2 + 0.1 * len(seen))
        return ValidationScore(seen[-1], seen[-1] + 0.05)

    monkeypatch.setattr(HeldOutObjects, "score", score)
    return seen


def test_each_measurement_is_a_line_and_a_table_ends(folder, tmp_path, capsys, rising):
    assert train(folder, "-o", tmp_path / "mine.safetensors", "--steps", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0  start  click 0.200  box 0.250"
    assert lines[1].startswith("1  loss ")
    assert "click 0.300  box 0.350  best  (" in lines[1]
    assert [line.split() for line in lines[3:6]] == [
        ["held-out", "IoU", "click", "box", "mean"],
        ["before", "0.200", "0.250", "0.225"],
        ["after", "0.400", "0.450", "0.425"],
    ]
    assert lines[6].startswith("all steps done; trained on ")
    assert load_model(tmp_path / "mine.safetensors", device="cpu").image_size == 64


def test_every_object_is_labelled_only_if_it_is_said(folder, tmp_path, monkeypatch, rising):
    asked = []
    tune = finetune.fine_tune
    monkeypatch.setattr(
        finetune, "fine_tune", lambda *given, **options: asked.append(options) or tune(*given, **options)
    )
    for number, said in enumerate(([], ["--all-labelled"])):
        assert train(folder, "-o", tmp_path / f"{number}.safetensors", "--steps", 1, *said) == 0
    assert [options["all_labelled"] for options in asked] == [False, True]


def test_ctrl_c_keeps_the_best_and_the_same_command_goes_on(folder, tmp_path, capsys, monkeypatch, rising):
    score = HeldOutObjects.score

    def interrupting(self, model):
        if len(rising) == 1:
            signal.raise_signal(signal.SIGINT)
        return score(self, model)

    monkeypatch.setattr(HeldOutObjects, "score", interrupting)
    arguments = ("-o", tmp_path / "mine.safetensors", "--steps", 2)
    assert train(folder, *arguments) == 130
    said = capsys.readouterr()
    assert "stopping after this step" in said.err
    assert "the same command resumes" in said.err
    assert "better on" in said.out
    assert load_model(tmp_path / "mine.safetensors", device="cpu").image_size == 64
    assert train(folder, *arguments, "--resume") == 0
    assert capsys.readouterr().out.startswith("2  loss ")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["-o", "a.safetensors"], 3, "give IMAGES and LABELS, or --config and --data", id="neither"),
        pytest.param(["images", "-o", "a.safetensors"], 3, "without labels", id="no-labels"),
        pytest.param(["images", "labels", "--config", "c", "-o", "a"], 3, "both IMAGES and --config", id="both"),
        pytest.param(["--config", "c", "-o", "a"], 3, "without --data", id="config-alone"),
        pytest.param(
            ["--config", "c", "--data", "d", "--from", "x", "-o", "a"],
            3,
            "--from cannot be combined",
            id="mixed",
        ),
        pytest.param(["images", "labels", "--data", "d", "-o", "a"], 3, "require --config", id="data"),
        pytest.param(
            ["images", "labels", "--part", "x", "-o", "a.safetensors"], 3, "'decoder', 'adapters' or", id="part"
        ),
        pytest.param(["images", "empty", "-o", "a.safetensors"], 3, "labels are empty", id="empty"),
        pytest.param(["images", "few", "-o", "a.safetensors"], 3, "10 are needed", id="few"),
        pytest.param(["images", "cut", "-o", "a.safetensors"], 3, "(96, 96) and its labels (96, 90)", id="shapes"),
        pytest.param(["images", "labels", "-o", "a.pt"], 6, ".safetensors", id="suffix"),
        pytest.param(["images", "labels", "-o", "no/a.safetensors"], 6, "no does not exist", id="no-folder"),
        pytest.param(["images", "labels", "--from", "x", "-o", "a.safetensors"], 4, "neither a file", id="no-model"),
    ],
)
def test_each_mistake_is_one_line(arguments, code, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "labels"):
        Path(name).symlink_to(folder / name)
    one = tifffile.imread(folder / "labels" / "0.tif")
    for name, mask in (("empty", one * 0), ("few", np.where(one < 4, one, 0)), ("cut", one[:, :90])):
        Path(name).mkdir()
        tifffile.imwrite(f"{name}/0.tif", mask)
    assert run("train", *arguments, "--device", "cpu") == code
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not Path("a.safetensors").exists()
