"""Work on a thread: its values and its end are told on the GUI thread, and nothing is heard after closing."""

from __future__ import annotations

import threading

import pytest
from qtpy.QtWidgets import QWidget

from napari_sam2._qt.background import TELL_AFTER, BackgroundTask


def test_values_and_result_arrive_in_order_on_the_gui_thread(qtbot) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    task, heard = BackgroundTask(parent, "test"), []
    task.progressed.connect(lambda value: heard.append((value, threading.get_ident())))
    with qtbot.waitSignal(task.succeeded) as result:
        assert task.start(lambda context: [context.report(i) for i in range(3)] and "done")
        assert not task.start(lambda _: None)
    assert result.args == ["done"]
    assert heard == [(i, threading.get_ident()) for i in range(3)]
    assert not task.is_running


def test_error_of_the_work_is_told(qtbot) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    task = BackgroundTask(parent, "test")
    with qtbot.waitSignal(task.failed) as result:
        task.start(lambda _: 1 / 0)
    assert isinstance(result.args[0], ZeroDivisionError)


@pytest.mark.parametrize("ends_by", ["close", "destroy"])
def test_thread_ends_and_nothing_is_told_after_the_widget_is_gone(qtbot, ends_by: str) -> None:
    parent = QWidget()
    task, heard, ended = BackgroundTask(parent, "test-closing"), [], threading.Event()

    def work(context) -> None:
        while not context.should_stop():
            context.report("alive")
        ended.set()

    task.start(work)
    task.succeeded.connect(heard.append)
    if ends_by == "close":
        assert task.close(timeout=5)
    else:
        parent.deleteLater()
        qtbot.waitUntil(lambda: not any(t.name == "test-closing" for t in threading.enumerate()), timeout=5000)
    assert ended.wait(5)
    qtbot.wait(60)
    assert heard == []


@pytest.mark.parametrize(("seconds", "told"), [(TELL_AFTER + 1, ["12 objects"]), (TELL_AFTER - 1, [])])
def test_the_end_of_long_work_is_announced(qtbot, monkeypatch, seconds: float, told: list[str]) -> None:
    parent, heard = QWidget(), []
    qtbot.addWidget(parent)
    task = BackgroundTask(parent, "test")
    task.succeeded.connect(task.tell_end)
    monkeypatch.setattr("napari.utils.notifications.show_info", heard.append)
    with qtbot.waitSignal(task.ended):
        task.start(lambda _: "12 objects")
        task._began -= seconds
    assert heard == told
