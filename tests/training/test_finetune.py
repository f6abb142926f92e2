"""Fine-tuning: what is trained, kept, measured, stopped and gone on with."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_tools import make_discs, save_start
from safetensors import safe_open
from safetensors.torch import load_file

from napari_sam2 import OutputError, TrainingError, fine_tune, load_model
from napari_sam2.training import tuner
from napari_sam2.training.validation import HeldOutObjects, ValidationScore


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_start(tmp_path_factory.mktemp("start") / "start.safetensors")


def tune(output: Path, start: Path, **over):
    options = {"steps": 4, "validate_every": 2, "validation_objects": 2, "batch_size": 1, "crop": 64, "device": "cpu"}
    return fine_tune(*make_discs(), output, start_from=start, **(options | over))


def scores_of(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Measurements that are known beforehand; the last is repeated."""
    left = list(values)

    def score(self, model):
        value = left.pop(0) if len(left) > 1 else left[0]
        return ValidationScore(value, value)

    monkeypatch.setattr(HeldOutObjects, "score", score)


def test_decoder_alone_changes_and_the_file_says_how_it_was_made(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2, 0.3, 0.4)
    result = tune(tmp_path / "mine.safetensors", start)
    before, after = load_file(start), load_file(result.weights)
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert changed
    assert all(name.startswith(("sam_mask_decoder.", "sam_prompt_encoder.", "dense_head.")) for name in changed)
    assert after["no_obj_ptr"].dtype == torch.float16
    with safe_open(result.weights, "pt") as file:
        metadata = file.metadata()
    assert (metadata["model"], metadata["image_size"], metadata["part"]) == ("sam2_micro", "64", "decoder")
    assert metadata["fine_tuned_from"] == str(start)
    assert metadata["held_out_iou_click_box"] == "0: 0.2000 0.2000; 2: 0.3000 0.3000; 4: 0.4000 0.4000"
    assert load_model(result.weights, device="cpu").image_size == 64
    (tmp_path / "usual").touch()
    assert result.weights.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (result.stopped, result.steps, result.best_step, result.improved) == ("steps", 4, 4, True)
    assert (result.before.click, result.after.click) == (0.2, 0.4)
    assert not list(tmp_path.glob("*.state.pt"))


def test_each_step_is_reported_and_the_seed_decides_what_is_seen(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2)
    losses = []
    for number, seed in enumerate((0, 0, 1)):
        steps: list[tuple[int, float]] = []
        tune(tmp_path / f"{number}.safetensors", start, seed=seed, on_step=lambda *step, to=steps: to.append(step))
        assert [step for step, _ in steps] == [1, 2, 3, 4]
        losses.append([loss for _, loss in steps])
    assert losses[0] == losses[1] != losses[2]


def test_best_weights_stay_when_later_ones_are_worse(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2, 0.4, 0.1)
    seen = []

    def note(report):
        seen.append((report.step, report.is_best, (tmp_path / "a.safetensors").read_bytes()))

    result = tune(tmp_path / "a.safetensors", start, steps=100, patience=2, part="all", on_report=note)
    assert [(step, best) for step, best, _ in seen] == [(0, True), (2, True), (4, False), (6, False)]
    assert seen[1][2] == seen[3][2] != seen[0][2]
    assert (result.stopped, result.best_step, result.steps) == ("patience", 2, 6)
    assert "better on 2 held-out objects: click 0.200 -> 0.400" in result.summary()


def test_worse_than_the_start_is_said_and_the_start_is_kept(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.5, 0.4)
    result = tune(tmp_path / "a.safetensors", start)
    assert not result.improved
    assert result.after == result.before
    assert result.summary().startswith("not better than")
    kept, given = load_file(result.weights), load_file(start)
    assert all(torch.equal(kept[name], given[name].half()) for name in given)


def test_measured_iou_is_that_of_the_weights_on_disk(tmp_path, start):
    result = tune(tmp_path / "a.safetensors", start, steps=2)
    from napari_sam2.training.user_labels import hold_out, labelled_items

    _, held_out = hold_out(labelled_items(*make_discs()), 0.2, seed=0)
    score = HeldOutObjects(held_out, limit=2, seed=0).score(load_model(result.weights, device="cpu"))
    assert score.click == pytest.approx(result.after.click, abs=0.02)
    assert score.box == pytest.approx(result.after.box, abs=0.02)


@pytest.mark.parametrize("ending", ["asked", "crash"])
def test_interrupted_run_goes_on_to_the_same_weights(tmp_path, start, monkeypatch, ending):
    scores_of(monkeypatch, 0.2, 0.3, 0.4)
    whole = tune(tmp_path / "whole.safetensors", start)
    reached = []

    def note(report):
        reached.append(report.step)
        if ending == "crash" and report.step == 2:
            raise MemoryError

    scores_of(monkeypatch, 0.2, 0.3, 0.4)
    if ending == "crash":
        with pytest.raises(MemoryError):
            tune(tmp_path / "parts.safetensors", start, on_report=note)
    else:
        stopped = tune(tmp_path / "parts.safetensors", start, on_report=note, should_stop=lambda: 2 in reached)
        assert (stopped.stopped, stopped.steps, stopped.best_step) == ("asked", 2, 2)
    assert (tmp_path / "parts.state.pt").exists()
    resumed = tune(tmp_path / "parts.safetensors", start, on_report=note, resume=True)
    assert reached == [0, 2, 4]
    assert [r.step for r in resumed.history] == [0, 2, 4]
    assert resumed.before == whole.before
    one, other = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "parts.state.pt").exists()


@pytest.mark.parametrize("all_labelled", [False, True])
def test_background_teaches_what_is_no_object_only_if_every_object_is_labelled(
    tmp_path, start, monkeypatch, all_labelled
):
    scores_of(monkeypatch, 0.2, 0.3)
    empty = []
    step = tuner.still_step

    def spy(model, batch, **options):
        empty.append(int((~batch.truths.flatten(1).any(1)).sum()))
        return step(model, batch, **options)

    monkeypatch.setattr(tuner, "still_step", spy)
    tune(tmp_path / "mine.safetensors", start, steps=8, all_labelled=all_labelled)
    assert (sum(empty) > 0) == all_labelled
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        assert ("empty_share=0.4" in file.metadata()["settings"]) == all_labelled


def test_worker_process_prepares_the_same_batches(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2, 0.3)
    here, apart = (
        tune(tmp_path / f"{n}.safetensors", start, steps=2, num_workers=n).history[-1].loss for n in range(2)
    )
    assert here == pytest.approx(apart, rel=1e-3)


def test_stop_between_measurements_measures_what_was_learned_since(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2, 0.3)
    asked = iter([False, True])
    result = tune(tmp_path / "a.safetensors", start, should_stop=lambda: next(asked))
    assert [r.step for r in result.history] == [0, 1]
    assert result.improved


def test_state_of_another_run_is_refused_until_overwritten(tmp_path, start):
    asked = iter([False, True])
    tune(tmp_path / "a.safetensors", start, should_stop=lambda: next(asked))
    with pytest.raises(TrainingError, match="state of a run with other images"):
        tune(tmp_path / "a.safetensors", start, learning_rate=1e-5)
    assert tune(tmp_path / "a.safetensors", start, learning_rate=1e-5, overwrite=True).steps == 4


class _RunsOnLoading:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"", b"text", pickle.dumps(_RunsOnLoading())])
def test_damaged_or_hostile_state_is_refused(tmp_path, start, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.state.pt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"is damaged.*remove it"):
        tune(tmp_path / "a.safetensors", start)
    assert [path.name for path in tmp_path.iterdir()] == ["a.state.pt"]


@pytest.mark.parametrize("change", [{"trained": {}}, {"step": None}, {"history": [[1]]}, {"optimizer": {}}])
def test_state_with_missing_parts_is_refused(tmp_path, start, change):
    asked = iter([False, True])
    tune(tmp_path / "a.safetensors", start, should_stop=lambda: next(asked))
    state = torch.load(tmp_path / "a.state.pt", weights_only=True)
    torch.save(state | change, tmp_path / "a.state.pt")
    with pytest.raises(TrainingError, match=r"is damaged.*remove it"):
        tune(tmp_path / "a.safetensors", start)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_to_shows_before_any_work(start, monkeypatch):
    monkeypatch.setattr("napari_sam2.training.finetune.labelled_items", lambda *_, **__: pytest.fail("began to work"))
    with pytest.raises(OutputError, match="cannot be written"):
        tune("/proc/a.safetensors", start)


def test_loss_that_is_not_a_number_stops_and_keeps_the_best(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2, 0.3)
    calls = []

    def failing_later(true_step):
        def step(*args, **kwargs):
            calls.append(1)
            return true_step(*args, **kwargs) * (float("nan") if len(calls) > 3 else 1)

        return step

    for name in ("still_step", "clip_step"):
        monkeypatch.setattr(tuner, name, failing_later(getattr(tuner, name)))
    with pytest.raises(TrainingError, match=r"not a number at step 4; .*step 2.*lower learning rate than 0\.0003"):
        tune(tmp_path / "a.safetensors", start)
    assert all(t.isfinite().all() for t in load_file(tmp_path / "a.safetensors").values())
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["step"] == "2"


def test_a_full_disk_is_reported_and_earlier_weights_are_kept(tmp_path, start, monkeypatch):
    scores_of(monkeypatch, 0.2, 0.3)
    write_bytes = Path.write_bytes
    calls = []

    def failing(path, content):
        calls.append(1)
        if len(calls) > 1:
            write_bytes(path, b"half")
            raise OSError(28, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OutputError, match=r"No space left on device.*previous file is unchanged"):
        tune(tmp_path / "a.safetensors", start)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert load_model(tmp_path / "a.safetensors", device="cpu").config.name == "sam2_micro"


def test_unwritable_output_is_noticed_before_the_first_step(tmp_path, start, monkeypatch):
    def failing(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", failing)
    monkeypatch.setattr(tuner, "still_step", None)
    scores_of(monkeypatch, 0.2)
    with pytest.raises(OutputError, match="Read-only file system"):
        tune(tmp_path / "a.safetensors", start)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        pytest.param({"part": "encoder"}, "expected 'decoder', 'adapters' or 'all'", id="part"),
        pytest.param({"steps": 0}, "steps=0 was given", id="steps"),
        pytest.param({"minutes": -1}, "minutes=-1.0 was given", id="minutes"),
        pytest.param({"crop": 100}, "multiple of 32", id="crop"),
        pytest.param({"batch_size": 0}, "batch_size=0", id="batch"),
        pytest.param({"part": "adapters", "adapter_rank": 0}, "adapter rank of 0", id="rank"),
        pytest.param({"precision": "float8"}, "'auto', 'float32' or 'bfloat16'", id="precision"),
        pytest.param({"num_devices": 0}, "num_devices=0", id="devices"),
        pytest.param({"resume": True}, "no unfinished run", id="nothing-to-resume"),
        pytest.param({"resume": True, "overwrite": True}, "both given", id="resume-overwrite"),
        pytest.param({"validation_share": 0.7}, "at most 0.5", id="share"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, start, over, message):
    with pytest.raises(TrainingError, match=message):
        tune(tmp_path / "a.safetensors", start, **over)
    assert not list(tmp_path.iterdir())


def test_outputs_that_would_do_harm_are_refused(tmp_path, start):
    (tmp_path / "there.safetensors").touch()
    for output, message in (
        (tmp_path / "there.safetensors", "already exists; .* give overwrite=True"),
        (tmp_path / "a.pt", r"must end in \.safetensors"),
        (tmp_path / "no" / "a.safetensors", "does not exist"),
        (start, "not overwritten"),
    ):
        with pytest.raises(OutputError, match=message):
            tune(output, start)


def test_held_out_objects_are_spread_over_frames_and_fixed_by_the_seed():
    from napari_sam2.training.user_labels import labelled_items

    stacks = [stack for item in labelled_items(*make_discs(3)) for stack in item.stacks]
    chosen, again = (HeldOutObjects(stacks, limit=6, seed=1) for _ in range(2))
    assert chosen.num_objects == 6
    counts = [len(frame.truths) for frame in chosen._frames]
    assert counts == [2, 2, 2]
    for one, other in zip(chosen._frames, again._frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.truths, other.truths, strict=True))
