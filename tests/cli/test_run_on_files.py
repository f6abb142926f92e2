"""``napari-sam2 run --on``: the prompts of a session for the files of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli_tools import run, save_stack
from napari_sam2.batch import running
from napari_sam2.batch.jobs import AutoJob, TrackJob
from napari_sam2.batch.report import BatchReport
from napari_sam2.batch.session_prompts import PROMPTS_NAME
from napari_sam2.session.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A saved session with a click and a mask, and a folder with two stacks of its shape."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    for name in "ab":
        save_stack(folder / f"{name}.tif", np.random.default_rng(0).integers(0, 99, (4, 48, 64), dtype=np.uint8))
    mask = np.zeros((48, 64), bool)
    mask[3:9, 5:20] = True
    with Session(folder / "a.tif") as made:
        made.set_prompt(2, block=False, **_click())
        made.add_mask(mask, frame=1, object_id=7)
        made.save(tmp_path / "cells.sam2")
    return tmp_path / "cells.sam2"


def _click() -> dict[str, object]:
    from napari_sam2 import Prompt

    return {"prompt": Prompt(points=[[20, 18]], labels=[1]), "object_id": 3}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object, object, dict[str, object]]]:
    """What the batch was given; nothing is run."""
    calls: list[tuple[object, object, object, dict[str, object]]] = []

    def record(job: object, inputs: object, output: object, **options: object) -> BatchReport:
        calls.append((job, inputs, output, options))
        return BatchReport((), (), 0, 0.0)

    monkeypatch.setattr(running, "run_batch", record)
    return calls


def test_prompts_are_written_into_a_list_for_each_file(session: Path, tmp_path: Path, given: list):
    out = tmp_path / "out"
    assert run("run", session, "--on", tmp_path / "stacks", "-o", out, "--workers", 2, "--quiet") == 0
    (job, inputs, output, options), *_ = given
    assert isinstance(job, TrackJob)
    assert list(inputs) == [out / PROMPTS_NAME]
    assert (output, options["model"], options["workers"]) == (out, "sam2_micro", 2)
    text = (out / PROMPTS_NAME).read_text()
    assert text.count("[[files]]") == 2
    assert text.count('object = 3\npoint = ["2,18,20"]') == 2
    assert (out / "prompt_masks" / "frame_1.tif").exists()


def test_automatic_segments_everything_with_the_model_of_the_session(session: Path, tmp_path: Path, given: list):
    arguments = ("--on", tmp_path / "stacks", "-o", tmp_path / "out", "--rule", "automatic", "--quiet")
    assert run("run", session, *arguments) == 0
    assert isinstance(given[0][0], AutoJob)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--rule", "near"), "expected same or automatic", id="rule"),
        pytest.param(("--scores", "s.csv"), "with --on", id="scores"),
        pytest.param(("--compute", "127.0.0.1:9"), "cannot be combined", id="compute"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    session: Path, tmp_path: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], given: list
):
    assert run("run", session, "--on", tmp_path / "stacks", "-o", tmp_path / "out", *options) != 0
    assert words in capsys.readouterr().err
    assert given == []


@pytest.mark.slow
def test_the_files_get_the_objects_of_the_session(session: Path, tmp_path: Path):
    pytest.importorskip("distributed")
    from napari_sam2.labels.reading import read_labels

    out = tmp_path / "out"
    assert run("run", session, "--on", tmp_path / "stacks", "-o", out, "--workers", 1, "--quiet") == 0
    for name in "ab":
        labels = read_labels(out / f"{name}.tif")
        assert labels.shape == (4, 48, 64)
        np.testing.assert_array_equal(labels[1, 3:9, 5:20], 7)
