"""Sessions that compute on a server give the masks of sessions that compute here; its workers are threads here."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile

from cli_tools import save_random_model
from factories import make_movie
from napari_sam2 import DeviceError
from napari_sam2.frames import open_frames
from napari_sam2.session.engines.connection import Connection
from napari_sam2.session.engines.remote_engine import RemoteEngine, RemoteSettings
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import ModelState
from napari_sam2.session.worker.propagation_handle import PropagationHandle

distributed = pytest.importorskip("distributed")

from napari_sam2.session.engines.engine_actor import PLUGIN  # noqa: E402
from server_tools import SETTINGS, serving  # noqa: E402

pytestmark = pytest.mark.timeout(300)

MOVIE = make_movie(9)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[str]:
    """The address of a server."""
    with serving(weights) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def opened(server: str, weights: Path) -> Iterator[Callable[..., Session]]:
    """Makes sessions that compute on the server, and closes them."""
    made: list[Session] = []

    def make(stack: object = MOVIE, **options: object) -> Session:
        session = Session(stack, **{"model": weights, "compute": server, **options})
        made.append(session)
        return session

    yield make
    for session in made:
        session.close()


def work(session: Session) -> np.ndarray:
    """Clicks, a correction, tracking and one more click on a tracked frame."""
    first = session.add_points([[2, 20, 19]])
    session.add_points([[2, 24, 22]], object_id=first)
    session.add_box([[2, 22, 40], [2, 40, 56]])
    session.propagate()
    session.add_points([[6, 21, 28]], object_id=first)
    session.propagate()
    return np.asarray(session.labels).copy()


@pytest.fixture(scope="module")
def expected(weights: Path) -> np.ndarray:
    with Session(MOVIE, model=weights) as session:
        return work(session)


def engine_of(session: Session) -> RemoteEngine:
    engine = session._engine_keeper._engine
    assert isinstance(engine, RemoteEngine)
    return engine


def test_masks_are_those_of_this_process(opened, expected, server):
    session = opened()
    assert expected.any()
    assert np.array_equal(work(session), expected)
    assert session.model_state.stage == "ready"
    assert session.model_state.server == server
    engine = engine_of(session)
    assert not engine.has_file
    assert engine.traffic.frames == len(MOVIE)  # each frame once
    assert engine.traffic.received < MOVIE.size * 3


def test_dask_computes_in_this_process_as_before(opened, monkeypatch):
    def fail(_client: distributed.Client) -> None:
        raise AssertionError("the default of all threads was changed")

    monkeypatch.setattr(distributed.Client, "as_current", fail)
    session = opened()
    session.add_points([[2, 20, 19]])
    assert np.asarray(session.labels[2]).any()
    session.close()
    assert dask.config.get("scheduler", None) is None


def test_a_file_that_the_server_can_read_is_not_sent(opened, expected, tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, MOVIE, metadata={"axes": "ZYX"}, photometric="minisblack")
    session = opened(open_frames(path, contrast="dtype"))
    session.add_points([[2, 20, 19]])
    session.propagate()
    assert engine_of(session).has_file
    assert engine_of(session).traffic.frames == 0


def test_why_a_file_is_sent_that_the_server_sees_is_said(opened, tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, MOVIE, metadata={"axes": "ZYX"}, photometric="minisblack")
    session = opened(open_frames(path, contrast="dtype"))
    os.utime(path, ns=(0, 0))
    told: list[str] = []
    session.model_changed.connect(lambda state: told.append(state.message))
    session.add_points([[2, 20, 19]])
    assert engine_of(session).traffic.frames
    assert f"{path} has another size or time of change on the server; the frames are sent to the server" in told
    assert session.model_state.stage == "ready"


def test_another_contrast_is_seen_by_the_server(opened, weights):
    limits = [[0, 90]]
    with Session(MOVIE, model=weights) as plain:
        session = opened()
        for each in (plain, session):
            each.add_points([[2, 20, 19]])
            each.set_contrast(limits)
            each.add_points([[2, 30, 48]])
        assert np.array_equal(session.labels, plain.labels)


def test_looking_ahead_changes_no_answer(opened, expected):
    session = opened()
    session.prepare(2)
    session.look_ahead(2, (20, 19))
    assert np.array_equal(work(session), expected)


def test_errors_of_the_server_reach_the_caller(opened, tmp_path):
    with pytest.raises(DeviceError, match="was given as a network in memory"):
        from factories import make_model

        opened(model=make_model()).add_points([[2, 20, 19]])
    session = opened(model=tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match=r"missing\.safetensors"):
        session.add_points([[2, 20, 19]])


def test_a_session_waits_for_its_place_and_says_so(opened, expected):
    first = opened()
    first.add_points([[2, 20, 19]])
    states: list[ModelState] = []
    second = opened()
    second.model_changed.connect(states.append)
    second.add_points([[2, 20, 19]], block=False)
    wait_for(lambda: any("serves one session at a time" in state.message for state in states))
    assert second.is_answering
    assert len([state for state in states if state.message]) == 1
    first.close()
    second.wait_for_answers(60)
    assert (np.asarray(second.labels[2]) > 0).any()


def test_a_waiting_session_can_be_closed(opened):
    first = opened()
    first.add_points([[2, 20, 19]])
    second = opened()
    second.add_points([[2, 20, 19]], block=False)
    time.sleep(0.5)
    begin = time.monotonic()
    second.close()
    assert time.monotonic() - begin < 30


def test_a_silent_session_gives_its_place_to_others(opened, expected, server, weights):
    with distributed.Client(server, set_as_default=False) as client:
        client.run(set_idle, 0.3)
        try:
            first = opened()
            first.add_points([[2, 20, 19]])
            second = opened()
            second.add_points([[2, 20, 19]])
            assert np.array_equal(work(first.__class__(MOVIE, model=weights)), expected)
            first.add_points([[2, 24, 22]], object_id=1)  # it comes back when it is needed
            assert (np.asarray(first.labels[2]) > 0).any()
        finally:
            client.run(set_idle, SETTINGS.idle_s)


def set_idle(seconds: float, dask_worker: object) -> None:
    plugin = dask_worker.plugins[PLUGIN]
    plugin.settings = replace(plugin.settings, idle_s=seconds)


def test_a_small_cache_is_filled_again(opened, server, expected):
    with distributed.Client(server, set_as_default=False) as client:
        client.run(set_cache, 4000)
        try:
            session = opened()
            assert np.array_equal(work(session), expected)
            assert engine_of(session).traffic.frames > len(MOVIE)
        finally:
            client.run(set_cache, SETTINGS.frame_cache_bytes)


def set_cache(size: int, dask_worker: object) -> None:
    plugin = dask_worker.plugins[PLUGIN]
    plugin.settings = replace(plugin.settings, frame_cache_bytes=size)


def test_cancelling_ends_the_work_on_the_server(opened):
    session = opened(make_movie(40))
    session.add_points([[0, 20, 15]])
    handle = session.propagate(block=False)
    wait_for(lambda: handle.num_done >= 2)
    handle.cancel()
    assert handle.wait(30)
    assert 2 <= handle.num_done < 40
    begin = time.monotonic()
    session.add_points([[5, 20, 25]])
    assert time.monotonic() - begin < 30


def test_frames_and_masks_travel_many_at_a_time(weights, monkeypatch):
    """However slow the connection is, it is not waited for at each frame."""
    num_steps, num_waiting = 23, 6
    movie = make_movie(num_steps + 1)
    calls: Counter[str] = Counter()
    given: list[list[int]] = []
    plain = Connection.call

    with serving(weights) as cluster, Session(movie, model=weights, compute=cluster.scheduler_address) as session:

        def is_ahead() -> bool:
            """Whether masks wait at the server, or all are done; without being asked for."""
            actors = [actor for worker in cluster.workers.values() for actor in worker.state.actors.values()]
            works = [work for actor in actors for work in actor._works.values()]
            return any(len(work.results) >= num_waiting or work.is_done for work in works)

        def counted(connection: Connection, method: str, *arguments: object, **options: object) -> object:
            calls[method] += 1
            if method == "give":
                given.append(list(arguments[0]))
            if method == "fetch":
                wait_for(is_ahead)
            return plain(connection, method, *arguments, **options)

        session.add_points([[0, 20, 15]])
        monkeypatch.setattr(Connection, "call", counted)
        session.propagate()
        monkeypatch.undo()
        found = np.asarray(session.labels).copy()
    with Session(movie, model=weights) as session:
        session.add_points([[0, 20, 15]])
        session.propagate()
        assert np.array_equal(found, session.labels)
    assert calls["ask"] == 1
    assert calls["fetch"] <= num_steps // num_waiting + 1
    assert given[0] == list(range(1, 1 + RemoteSettings.frames_ahead))
    sent = [frame for frames in given for frame in frames]
    assert len(set(sent)) == len(sent)
    assert set(calls) == {"ask", "fetch", "give"}


@pytest.mark.parametrize("harm", ["worker", "server"])
def test_tracking_goes_on_with_equal_masks_when_the_server_is_lost(harm, weights, expected):
    states: list[ModelState] = []
    with contextlib.ExitStack() as servers, Session(MOVIE, model=weights) as session:
        cluster = servers.enter_context(serving(weights))
        session.set_compute(cluster.scheduler_address)
        session.model_changed.connect(states.append)

        def harm_once(handle: PropagationHandle) -> None:
            if handle.num_done != 2:
                return
            session.propagation_changed.disconnect(harm_once)
            kept = np.asarray(session.labels).copy()
            if harm == "worker":
                cluster.scale(0)
                wait_for(lambda: not cluster.workers)
                cluster.scale(1)
            else:
                servers.close()
                port = int(cluster.scheduler_address.rpartition(":")[2])
                servers.enter_context(serving(weights, port))
            assert np.array_equal(session.labels, kept)

        session.propagation_changed.connect(harm_once)
        assert np.array_equal(work(session), expected)
        assert states[-1].stage == "ready"
        messages = [state.message for state in states if "trying again" in state.message]
        assert len(messages) == 1
        assert "finished frames are kept" in messages[0]


def test_a_session_can_move_here_and_back(opened, expected, server):
    session = opened(compute=None)
    session.set_compute(server)
    assert session.compute is not None
    session.add_points([[2, 20, 19]])
    assert session.model_state.server == server
    session.set_compute(None)
    session.add_points([[2, 24, 22]], object_id=1)
    assert session.model_state.server == ""
    assert session.compute is None


def test_an_address_without_a_server_is_one_clear_error(weights):
    with Session(MOVIE, model=weights, compute="tcp://127.0.0.1:9") as session:
        with pytest.raises(DeviceError, match=r"no server answers at tcp://127\.0\.0\.1:9 .*napari-sam2 serve"):
            session.add_points([[2, 20, 19]])
        assert session.model_state.stage == "failed"


def test_a_server_of_another_version_is_refused(opened, monkeypatch):
    monkeypatch.setattr("napari_sam2.session.engines.remote_engine.version", lambda _name: "9.9.9")
    with pytest.raises(DeviceError, match=r"server has napari-sam2 .*, this computer has 9\.9\.9; install the same"):
        opened().add_points([[2, 20, 19]])


def test_an_ordinary_scheduler_is_told_apart(weights):
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(protocol="tcp", host="127.0.0.1", **options) as cluster,
        Session(MOVIE, model=weights, compute=cluster.scheduler_address) as session,
        pytest.raises(DeviceError, match="does not serve napari-sam2; run 'napari-sam2 serve --join"),
    ):
        session.add_points([[2, 20, 19]])


def wait_for(is_true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)
