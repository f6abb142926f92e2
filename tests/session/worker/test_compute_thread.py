"""The compute thread: answers first, long work between them, looking ahead at last."""

from __future__ import annotations

import threading
import weakref

import pytest

from napari_sam2.session.worker.compute_thread import ComputeThread, Job, Steps
from napari_sam2.session.worker.delivery import wait_until


@pytest.fixture
def thread():
    made = ComputeThread("tested")
    yield made
    made.close()


def steps_of(log: list[str], name: str, count: int, ended: threading.Event | None = None) -> Steps:
    """Work that notes each step."""

    def run():
        for number in range(count):
            log.append(f"{name}{number}")
            yield

    return Steps(run, lambda _: True, lambda _: ended.set() if ended is not None else None)


def test_idle_work_waits_for_jobs_and_steps(thread):
    log: list[str] = []
    held, ended = threading.Event(), threading.Event()
    thread.submit(Job(lambda: held.wait(10), lambda _: None))
    thread.submit_idle(steps_of(log, "idle", 2, ended))
    thread.submit_steps(steps_of(log, "long", 2))
    thread.submit(Job(lambda: log.append("job"), lambda _: None))
    held.set()
    assert ended.wait(10)
    assert log == ["job", "long0", "long1", "idle0", "idle1"]


def test_idle_work_gives_way_to_newer_idle_work_and_does_not_count_as_busy(thread):
    log: list[str] = []
    held, ended = threading.Event(), threading.Event()
    thread.submit(Job(lambda: held.wait(10), lambda _: None))
    thread.submit_idle(steps_of(log, "old", 3))
    thread.submit_idle(steps_of(log, "new", 1, ended))
    held.set()
    assert ended.wait(10)
    assert log == ["new0"]
    assert not thread.is_busy


def test_idle_work_goes_on_while_long_work_is_paused(thread):
    log: list[str] = []
    ended = threading.Event()
    paused = steps_of(log, "long", 1)
    paused.is_paused = lambda: True
    thread.submit_steps(paused)
    thread.submit_idle(steps_of(log, "idle", 1, ended))
    assert ended.wait(10)
    assert log == ["idle0"]


def test_idle_work_that_fails_tells_so_and_ends(thread):
    told: list[BaseException | None] = []
    ended = threading.Event()

    def fails():
        raise ValueError("unreadable")
        yield

    def on_end(error):
        told.append(error)
        ended.set()

    thread.submit_idle(Steps(fails, lambda _: True, on_end))
    assert ended.wait(10)
    assert str(told[0]) == "unreadable"
    after = threading.Event()
    thread.submit(Job(after.set, lambda _: None))
    assert after.wait(10)


def test_callbacks_that_fail_do_not_end_the_thread(thread, caplog):
    def fails(_: object) -> None:
        raise RuntimeError("a listener failed")

    after = threading.Event()
    thread.submit(Job(lambda: 1, fails))
    thread.submit_steps(Steps(lambda: iter(()), lambda _: True, fails))
    thread.submit_steps(Steps(lambda: iter(()), lambda _: True, lambda _: after.set()))
    assert after.wait(10)
    assert len(caplog.records) == 2


def test_the_thread_keeps_nothing_that_has_ended(thread):
    class Work:
        def run(self) -> None:
            pass

    ended = threading.Event()
    work = Work()
    gone = weakref.ref(work)
    thread.submit(Job(work.run, lambda _: None))
    del work
    thread.submit(Job(lambda: None, lambda _: ended.set()))
    assert ended.wait(10)
    wait_until(lambda: gone() is None, 10, None)


def test_what_is_called_at_the_end_waits_for_the_work_under_way_but_the_caller_does_not(thread):
    begun, may_end, called = threading.Event(), threading.Event(), []
    thread.submit(Job(lambda: begun.set() or may_end.wait(10), lambda _: called.append("done")))
    assert begun.wait(10)
    assert not thread.close(0, lambda: called.append(threading.current_thread().name))
    assert called == []
    may_end.set()
    assert thread.close(10)
    assert called == ["done", "tested"]
    thread.close(0, lambda: called.append("at once"))
    assert called[2:] == ["at once"]


def test_what_is_called_at_the_end_of_a_thread_without_work_is_called_at_once(thread):
    called = []
    assert thread.close(0, lambda: called.append(1))
    assert called == [1]
