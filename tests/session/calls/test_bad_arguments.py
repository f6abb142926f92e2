"""Whatever is given to a session's methods is used, or refused with an error that says what was expected."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from factories import make_movie
from napari_sam2 import NapariSAM2Error, Prompt, PromptError, SessionSettings
from napari_sam2.session.session import Session

_THINGS = {
    "number": 5,
    "negative": -1,
    "half": 1.5,
    "none": None,
    "text": "x",
    "bytes": b"x",
    "list": [],
    "dictionary": {1: 2},
    "pair": (1, 2),
    "ragged": [[1, 2], [3]],
    "object": object(),
    "array": np.zeros(3),
    "image": np.ones((48, 64)),
    "nan": math.nan,
    "truth": True,
    "huge": 10**30,
    "names": {"a": np.ones((48, 64))},
    "ragged-masks": {1: [[1], [1, 2]]},
    "prompts-of-numbers": {(1, 2): 3},
    "function": lambda: 1,
    "home-of-nobody": "~no-such-user/x",
    "null": "a\0b",
    "long": "x" * 5000,
}
_CALLS = {
    "prompt": lambda s, b: (s.prompt(b, 0), s.prompt(1, b)),
    "prompt-plane": lambda s, b: s.prompt(1, b),
    "points": lambda s, b: s.add_points(b, block=False),
    "labels": lambda s, b: s.add_points([[0, 1, 1]], b, block=False),
    "points-object": lambda s, b: s.add_points([[0, 1, 1]], object_id=b, block=False),
    "box": lambda s, b: s.add_box(b, block=False),
    "mask": lambda s, b: s.add_mask(b, frame=0),
    "mask-frame": lambda s, b: s.add_mask(np.ones((48, 64)), frame=b),
    "label-image": lambda s, b: s.add_labels(b, frame=0),
    "set-prompts": lambda s, b: s.set_prompts(b),
    "set-prompt": lambda s, b: s.set_prompt(0, b, block=False),
    "set-prompt-frame": lambda s, b: s.set_prompt(b, Prompt(points=[[1, 1]]), block=False),
    "candidate": lambda s, b: s.set_prompt(0, Prompt(points=[[1, 1]]), candidate=b, block=False),
    "remove-prompt": lambda s, b: s.remove_prompt(b, 0),
    "remove-prompt-frame": lambda s, b: s.remove_prompt(1, b),
    "next-candidate": lambda s, b: s.next_candidate(b, 0, block=False),
    "name": lambda s, b: s.new_object(b),
    "new-number": lambda s, b: s.new_object(object_id=b),
    "remove": lambda s, b: s.remove_object(b),
    "rename": lambda s, b: s.rename(b, "x"),
    "rename-to": lambda s, b: s.rename(1, b),
    "visible": lambda s, b: s.set_visible(b, True),
    "show-only": lambda s, b: s.show_only(b),
    "class": lambda s, b: s.set_class(1, b),
    "split-line": lambda s, b: s.split_along(1, b),
    "split-object": lambda s, b: s.split_along(b, [[1, 1, 1], [1, 2, 2]]),
    "visible-flag": lambda s, b: s.set_visible(1, b),
    "lock": lambda s, b: s.lock(b, [4]),
    "unlock-frames": lambda s, b: s.unlock(1, b),
    "adopt": lambda s, b: s.adopt_painting(b),
    "paint-frame": lambda s, b: s.paint(b, {}),
    "paint": lambda s, b: s.paint(0, b),
    "direction": lambda s, b: s.propagate(b, max_frames=0),
    "start": lambda s, b: s.propagate(start=b, max_frames=0),
    "stop": lambda s, b: s.propagate(stop=b, max_frames=0),
    "object-ids": lambda s, b: s.propagate(object_ids=b, max_frames=0),
    "max-frames": lambda s, b: s.propagate(max_frames=b, stop=0),
    "overlap": lambda s, b: s.set_overlap(b),
    "set-keep-apart": lambda s, b: s.set_keep_apart(b),
    "lost-after": lambda s, b: s.set_lost_after(b),
    "frames": lambda s, b: s.set_frames(b),
    "contrast": lambda s, b: s.set_contrast(b),
    "gamma": lambda s, b: s.set_contrast([[0, 1]], gamma=b),
    "colours": lambda s, b: s.set_contrast([[0, 1]], colours=b),
    "stack": lambda s, b: Session(b).close(),
    "frame-axis": lambda s, b: Session(make_movie(3), frame_axis=b).close(),
    "label-array": lambda s, b: Session(make_movie(3), labels=b).close(),
    "settings": lambda s, b: Session(make_movie(3), settings=b).close(),
    "is-rgb": lambda s, b: Session(make_movie(3), is_rgb=b).close(),
    "load": lambda s, b: Session.load(b),
    "prompt-points": lambda s, b: Prompt(points=b),
    "prompt-labels": lambda s, b: Prompt(points=[[1, 1]], labels=b),
    "prompt-box": lambda s, b: Prompt(box=b),
    "prompt-mask": lambda s, b: Prompt(mask=b),
    "threads": lambda s, b: SessionSettings(threads=b),
    "keep-apart": lambda s, b: SessionSettings(keep_apart=b),
    "device": lambda s, b: SessionSettings(device=b),
}


@pytest.mark.parametrize("name", _CALLS)
def test_arguments_are_used_or_refused(model, name):
    raised: list[str] = []
    with Session(make_movie(5), model=model) as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for what, thing in _THINGS.items():
            session.store.objects or session.add_mask(np.ones((48, 64)), frame=1)
            try:
                _CALLS[name](session, thing)
            except NapariSAM2Error:
                pass
            except Exception as error:  # noqa: BLE001 which one is what is tested
                raised.append(f"{what}: {type(error).__name__}: {error}")
        assert raised == []
        session.wait_for_answers(60)
        assert session.to_python()


def test_settings_that_cannot_be_are_not_taken_over(session):
    before = session.settings
    for given in ({"threads": {}}, {"threads": 0}, {"threads": 2**63}, {"device": 3}):
        with pytest.raises(PromptError, match="was given"):
            session.set_hardware(**given)
    assert session.settings == before
    session.add_points([[0, 20, 15]])


@pytest.mark.parametrize("path", [5, None, [], "~no-such-user/x", "a\0b", "x" * 5000], ids=str)
def test_paths_that_cannot_be_are_refused(session, path):
    with pytest.raises(NapariSAM2Error):
        session.save(path)
    with pytest.raises(NapariSAM2Error):
        Session.load(path)
    if path is not None:
        with pytest.raises(NapariSAM2Error):
            session.autosave_path = path
    assert session.autosave_path is None


def test_planes_and_places_to_prepare_exist(session):
    failed = []
    session.failed.connect(failed.append)
    for plane in (-1, 5, 2**31):
        with pytest.raises(PromptError, match="the stack has frames 0 to 4"):
            session.prepare(plane)
        with pytest.raises(PromptError, match="the stack has frames 0 to 4"):
            session.look_ahead(plane, (1, 1))
    with pytest.raises(PromptError, match="point_yx=nan"):
        session.look_ahead(0, (math.nan, 1))
    session.wait_for_answers(60)
    assert failed == []


@pytest.mark.parametrize("labels", [np, object(), "labels"], ids=["module", "object", "text"])
def test_labels_that_are_no_array_are_refused(model, labels):
    with pytest.raises(PromptError, match="given as labels; expected an int32 array of shape"):
        Session(make_movie(3), model=model, labels=labels)
