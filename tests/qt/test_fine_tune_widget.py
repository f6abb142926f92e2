"""Fine-tuning from the window: layers or folders go in, curves and weights come out, the window never waits."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from factories import make_movie
from napari_sam2._errors import OutputError, TrainingError
from napari_sam2._messages import OVERWRITE, Message
from napari_sam2._qt.fine_tune_widget import FineTuneWidget
from napari_sam2.training import finetune
from napari_sam2.training.finetune import FineTuneReport, FineTuneResult
from napari_sam2.training.validation import ValidationScore


@pytest.fixture
def widget(qtbot, tmp_path) -> FineTuneWidget:
    viewer = ViewerModel()
    movie = make_movie(4)
    viewer.add_image(movie, name="cells")
    labels = (movie > 90).astype(np.int32)
    labels[1] = 0
    viewer.add_labels(labels, name="drawn")
    made = FineTuneWidget(viewer)
    qtbot.addWidget(made)
    made.output.setText(str(tmp_path / "mine.safetensors"))
    return made


def _report(step: int, iou: float) -> FineTuneReport:
    return FineTuneReport(step, float(step), None if not step else 1.0 / step, iou, iou + 0.1, is_best=True)


def _result(output: str, reports: list[FineTuneReport]) -> FineTuneResult:
    first, last = ValidationScore(0.5, 0.6), ValidationScore(0.7, 0.8)
    return FineTuneResult(
        Path(output), "sam2_micro", "decoder", first, last, 50, 50, 12, 4, 9.0, tuple(reports), "asked"
    )


def test_layers_are_learned_from_and_curves_follow(widget: FineTuneWidget, qtbot, monkeypatch) -> None:
    calls = []

    def fine_tune(images, labels, output, **options) -> FineTuneResult:
        calls.append((images, labels, output, options, threading.current_thread()))
        reports = [_report(0, 0.5), _report(25, 0.6), _report(50, 0.7)]
        for report in reports:
            options["on_report"](report)
        return _result(output, reports)

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    widget.part.setCurrentIndex(1)
    widget.minutes.setValue(3)
    assert not widget.all_labelled.isChecked(), "labels may be left out unless it is said"
    widget.all_labelled.setChecked(True)
    widget.start_button.click()
    assert not widget.start_button.isEnabled()
    qtbot.waitUntil(lambda: widget.result is not None, timeout=10_000)
    images, labels, output, options, thread = calls[0]
    # the frame without labels was not looked at: it is left out, and the run ends before it
    assert [image.shape for image in images] == [(1, 48, 64, 3), (2, 48, 64, 3)]
    assert [label.shape for label in labels] == [(1, 48, 64), (2, 48, 64)]
    assert (options["part"], options["minutes"], options["start_from"]) == ("adapters", 3.0, "sam2_micro")
    assert options["all_labelled"] is True
    assert thread is not threading.main_thread()
    assert [curve.y.tolist() for curve in widget.iou_plot.curves] == [[0.5, 0.6, 0.7], pytest.approx([0.6, 0.7, 0.8])]
    assert widget.loss_plot.curves[0].y[1:].tolist() == [0.04, 0.02]
    assert "better on 4 held-out objects" in widget.state.text()
    assert widget.start_button.isEnabled()
    widget.use_button.click()
    assert f"{output} is not there any more" in widget.state.text()
    Path(output).touch()
    with qtbot.waitSignal(widget.weights_chosen) as told:
        widget.use_button.click()
    assert told.args == [output]


def test_stop_ends_the_run_and_keeps_its_weights(widget: FineTuneWidget, qtbot, monkeypatch) -> None:
    def fine_tune(images, labels, output, **options) -> FineTuneResult:
        options["on_report"](_report(0, 0.5))
        while not options["should_stop"]():
            time.sleep(0.01)
        return _result(output, [_report(0, 0.5)])

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    widget.start()
    qtbot.waitUntil(lambda: len(widget.reports) == 1, timeout=10_000)
    assert widget.stop_button.isEnabled()
    widget.stop_button.click()
    assert not widget.stop_button.isEnabled()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert not widget.use_button.isHidden()


def test_loss_is_live_between_measurements(widget: FineTuneWidget, qtbot, monkeypatch) -> None:
    def fine_tune(images, labels, output, **options) -> FineTuneResult:
        options["on_report"](_report(0, 0.5))
        for step in range(1, 13):
            options["on_step"](step, 2.0 if step <= 2 else 1.0)
        while not options["should_stop"]():
            time.sleep(0.01)
        return _result(output, [_report(0, 0.5)])

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    widget.start()
    qtbot.waitUntil(lambda: "step 12: loss 1.000" in widget.state.text(), timeout=10_000)
    curve = widget.loss_plot.curves[0]
    assert curve.x.tolist() == list(range(1, 13))
    assert curve.y[[0, 9, 11]].tolist() == pytest.approx([2.0, 1.2, 1.0])
    widget.stop()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    said = widget.state.text()
    widget._show_curves()
    assert widget.state.text() == said


def test_errors_are_told_and_it_can_start_again(widget: FineTuneWidget, qtbot, monkeypatch) -> None:
    def fine_tune(*_, **__) -> FineTuneResult:
        raise TrainingError("too few labels: 3 objects; label some more")

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    widget.start()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert "label some more" in widget.state.text()
    assert widget.start_button.isEnabled()
    assert widget.use_button.isHidden()


def test_a_start_that_is_refused_keeps_the_weights_of_the_run_before(widget: FineTuneWidget, qtbot, monkeypatch):
    result = _result("cells.safetensors", [_report(0, 0.5)])
    there = OutputError(Message("cells.safetensors already exists; choose another name, or ", OVERWRITE))

    def fine_tune(*_, **options) -> FineTuneResult:
        if widget.result is not None or widget._before[2] is not None:
            raise there
        options["on_report"](_report(0, 0.5))
        return result

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    for _ in range(2):
        widget.start()
        qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
        assert widget.result is result
        assert not widget.use_button.isHidden()
        assert not widget.iou_plot.isHidden()
    assert (
        widget.state.text()
        == 'cells.safetensors already exists; choose another name, or check "Replace an existing file"'
    )


def test_what_does_not_apply_is_hidden(widget: FineTuneWidget, qtbot, monkeypatch) -> None:
    monkeypatch.setattr(finetune, "fine_tune", lambda *_, **__: _result("cells.safetensors", [_report(0, 0.5)]))
    assert not widget.linked.isHidden()  # a stack
    assert (widget.start_button.isHidden(), widget.stop_button.isHidden()) == (False, True)
    widget.start()
    assert (widget.start_button.isHidden(), widget.stop_button.isHidden()) == (True, False)
    qtbot.waitUntil(lambda: not widget.is_running, timeout=10_000)
    assert (widget.start_button.isHidden(), widget.stop_button.isHidden()) == (False, True)
    assert widget.loss_plot.isHidden()
    widget.image.choose(widget.viewer.add_image(np.zeros((48, 64)), name="single"))
    assert widget.linked.isHidden()
    widget.source.setCurrentIndex(1)  # folders, which may hold stacks
    assert not widget.linked.isHidden()


def test_missing_layers_and_folders_are_told_at_once(widget: FineTuneWidget) -> None:
    widget.viewer.layers.clear()
    widget.start()
    assert "an image is missing" in widget.state.text()
    widget.source.setCurrentIndex(1)
    widget.start()
    assert "two folders" in widget.state.text()
    assert not widget.is_running
    widget.image_folder.setText("images")
    assert widget.state.text() == ""
    widget.label_folder.setText("labels")
    widget.output.setText(" ")
    widget.start()
    assert "'Save as'" in widget.state.text()


def test_closing_ends_the_training(widget: FineTuneWidget, qtbot, monkeypatch) -> None:
    ended = threading.Event()

    def fine_tune(images, labels, output, **options) -> FineTuneResult:
        while not options["should_stop"]():
            time.sleep(0.01)
        ended.set()
        return _result(output, [_report(0, 0.5)])

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    widget.start()
    widget.close()
    assert ended.wait(10)
    names = {thread.name for thread in threading.enumerate()}
    qtbot.waitUntil(lambda: "napari-sam2 fine-tune" not in names or not _lives("napari-sam2 fine-tune"))
    assert widget.result is None
    widget.viewer.layers.clear()
    assert widget.image.count() == 1  # the viewer is not followed any more


def _lives(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())
