"""A session as text: what the script says, and that it comes to the same labels."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from factories import make_movie
from napari_sam2 import Prompt, PromptError, SessionFileError
from napari_sam2.session.files.operation_text import operation_from_text, operation_to_text
from napari_sam2.session.files.row_encoding import with_checksum
from napari_sam2.session.files.script import to_python
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session
from napari_sam2.session.state.operations import _RULES, Operation
from napari_sam2.session.state.settings import SessionSettings
from napari_sam2.session.state.snapshot import SessionSnapshot


def everything(session: Session) -> None:
    """A long session with every kind of call."""
    square = np.zeros(session.geometry.hw, bool)
    square[5:12, 40:50] = True
    session.add_points([[0, 20.25, 15]])
    session.add_points([[0, 4, 60]], [0], object_id=1)
    session.add_box([[2, 22, 40], [2, 38, 56]])
    session.add_mask(square, frame=1)
    session.rename(3, "square")
    session.propagate(max_frames=5)
    session.propagate("forward", object_ids=[1, 2])
    session.add_points([[4, 25, 30]], object_id=1)
    session.set_overlap("overwrite")
    session.lock(2, [1])
    session.propagate(start=1, stop=5)
    session.next_candidate(1, 4)
    session.paint(5, {2: np.roll(square, 20, 0), 7: square})
    session.new_object("empty")
    session.remove_object(3)
    session.set_prompt(3, Prompt(points=[[30, 20], [3, 3]], labels=[1, 0], box=[20, 10, 40, 30]), object_id=1)
    session.remove_prompt(1, 4)
    session.set_overlap("highest score")
    session.set_lost_after(3)
    session.set_keep_apart(True)
    session.propagate()


def run_script(text: str, **names: object) -> Session:
    namespace = dict(names)
    exec(text, namespace)
    return namespace["session"]


def test_script_gives_the_same_labels(model):
    with Session(make_movie(6), model=model) as session:
        everything(session)
        again = run_script(session.to_python(), stack=make_movie(6), model=model)
        assert session.labels.any()
        assert np.array_equal(again.labels, session.labels)
        assert [o.name for o in again.objects] == [o.name for o in session.objects]
        again.close()


def test_script_is_short_where_little_was_said(model):
    with Session(make_movie(6), model=model) as session:
        session.add_points([[0, 20, 15.5]])
        session.propagate()
        assert session.to_python().splitlines() == [
            "from napari_sam2 import Session",
            "",
            "# stack: the image, uint8 of shape (6, 48, 64)",
            "# model: the network, as returned by load_model (sam2_micro)",
            "session = Session(stack, model=model, frame_axis=0)",
            "session.add_points([[0, 20, 15.5]], object_id=1)",
            "session.propagate()",
            "labels = session.labels",
        ]


def test_script_names_contrast_and_settings_that_were_chosen(model):
    from napari_sam2.frames.display import show_planes

    planes = show_planes(make_movie(6), limits=[(0, 120)], gamma=[0.5])
    with Session(planes, model=model, settings=SessionSettings(lost_after=2)) as session:
        session.add_points([[0, 20, 15]])
        session.set_contrast([(10, 150)])
        session.add_points([[3, 30, 47]])
        script = session.to_python()
        assert "show_planes(stack, frame_axis=0, limits=[[0.0, 120.0]], gamma=[0.5])" in script
        assert "settings=SessionSettings(lost_after=2)" in script
        again = run_script(script, stack=make_movie(6), model=model)
        assert np.array_equal(again.labels, session.labels)
        again.close()


def test_a_frame_that_is_far_brighter_is_shown_alike_by_session_file_and_script(model, tmp_path):
    movie = make_movie(6).astype(np.uint16) + 20
    movie[2] *= 5
    with Session(movie, model=model) as session:
        session.add_points([[0, 20, 15]])
        shown = [session.frames[t] for t in range(6)]
        assert shown[2].std() > 10
        session.save(tmp_path / "a.sam2")
        with Session.load(tmp_path / "a.sam2", movie) as again:
            assert all(np.array_equal(again.frames[t], shown[t]) for t in range(6))
        automatic = session.frames
        session.set_contrast([(0, 150)])
        session.add_points([[3, 30, 47]])
        session.set_frames(automatic)
        script = session.to_python()
        with run_script(script, stack=movie, model=model) as again:
            assert all(np.array_equal(again.frames[t], shown[t]) for t in range(6))


def test_undone_calls_are_not_in_the_script(model):
    with Session(make_movie(6), model=model) as session:
        session.add_points([[0, 20, 15]])
        session.add_points([[0, 30, 50]])
        session.undo()
        assert session.to_python().count("add_points") == 1


def test_replay_gives_the_same_labels_also_through_text(model):
    with Session(make_movie(6), model=model) as session, Session(make_movie(6), model=model) as again:
        everything(session)
        operations = [operation_from_text(operation_to_text(o), (48, 64)) for o in session.operations]
        assert replay(operations, again) == len(operations)
        assert np.array_equal(again.labels, session.labels)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        pytest.param("save", {"path": "x"}, id="method"),
        pytest.param("lock", {"object_id": 1, "frames=[]); print(1) #": 1}, id="argument"),
        pytest.param("lock", {"object_id": "1); print(1) #", "frames": [0]}, id="object"),
        pytest.param("lock", {"object_id": 1, "frames": ["0); print(1) #"]}, id="frame-in-list"),
        pytest.param("lock", {"object_id": 1}, id="missing"),
        pytest.param("paint", {"frame": "0, {}); print(1) #", "masks": {}}, id="paint"),
        pytest.param("set_prompt", {"frame": 0, "prompt": None, "object_id": 1, "candidate": "0)"}, id="candidate"),
        pytest.param("set_prompt", {"frame": True, "prompt": None, "object_id": 1}, id="truth-value"),
        pytest.param("set_contrast", {"limits": [[0, float("nan")]]}, id="nan"),
        pytest.param("rename", {"object_id": 1, "name": "\ud800"}, id="surrogate"),
    ],
)
def test_only_calls_that_can_be_replayed_become_operations(method, arguments):
    with pytest.raises(PromptError):
        Operation(method, arguments)


def test_operations_hold_plain_values_and_name_methods_of_a_session():
    operation = Operation("lock", {"object_id": np.int64(3), "frames": (np.int32(1), 2)})
    assert repr(dict(operation.arguments)) == "{'object_id': 3, 'frames': [1, 2]}"
    assert all(callable(getattr(Session, method)) for method in _RULES)


def test_code_in_a_session_file_does_not_reach_its_script(model, tmp_path):
    """Names of calls and arguments, and all texts, come from a file that anyone may have written."""
    name = "x'\n__import__('os').abort() #"
    with Session(make_movie(6), model=model) as session:
        session.new_object(name)
        path = session.save(tmp_path / "a.sam2")
        origin = replace(session.origin, model=SimpleNamespace(config=SimpleNamespace(name=name)))
        script = to_python(SessionSnapshot(session.snapshot().content, replace(session.setup, origin=origin)))
    assert not any(line.startswith("__import__") for line in script.splitlines())
    compile(script, "script", "exec")
    call = '["lock", {"object_id": 1, "frames=[]); __import__(\'os\').abort() #": 1}]'
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO operations VALUES (9, ?, ?)", with_checksum((9, call))[1:])
    connection.close()
    with pytest.raises(SessionFileError, match="lock was called with"):
        Session.load(path, make_movie(6), model=model)


def test_hasty_clicks_are_replayed_as_they_were_answered(model):
    with Session(make_movie(6), model=model) as session:
        for x in (13, 14, 15, 16):
            session.set_prompt(0, Prompt(points=[[x, 20]]), object_id=1, block=False)
        session.add_points([[0, 22, 17]], object_id=1, block=False)
        session.new_object("other")
        session.wait_for_answers()
        session.propagate()
        again = run_script(session.to_python(), stack=make_movie(6), model=model)
        assert np.array_equal(again.labels, session.labels)
        assert [o.object_id for o in again.objects] == [1, 2]
        again.close()


def test_command_line_names_what_the_file_cannot_hold(model):
    with Session(make_movie(6), model=model) as session:
        assert session.to_command_line("a b.sam2", "l.tif") == (
            "napari-sam2 run 'a b.sam2' --stack STACK --model MODEL -o l.tif"
        )
        assert session.to_command_line("-x.sam2", "-y.tif").split()[2::6] == ["./-x.sam2", "./-y.tif"]
