"""Divisions that are proposed from masks: found on their frame, accepted, and not seen where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from session_tools import square

from factories import make_movie
from napari_sam2 import DivisionSettings, PromptError, propose_divisions
from napari_sam2.session.session import Session


def painted(model, masks: list[np.ndarray]) -> Session:
    """Object 1 with a mask on each frame."""
    session = Session(make_movie(len(masks)), model=model)
    for frame, mask in enumerate(masks):
        if mask.any():
            session.paint(frame, {1: mask})
    return session


ONE, TWO = square(10, 10, 10), square(10, 6, 7) | square(10, 20, 8)
SPECK = square(10, 10, 10) | square(10, 30, 2)
NONE = np.zeros((48, 64), bool)


def test_a_division_is_found_on_its_first_frame_and_accepted(model):
    with painted(model, [ONE, ONE, TWO, TWO, TWO]) as session:
        (found,) = propose_divisions(session)
        assert (found.object_id, found.frame, found.num_frames) == (1, 2, 3)
        assert found.share == pytest.approx(49 / (49 + 64))
        assert session.divide(found.object_id, found.frame) == [2, 3]
        assert propose_divisions(session) == []


@pytest.mark.parametrize(
    "masks",
    [
        pytest.param([ONE] * 5, id="one-piece"),
        pytest.param([TWO] * 5, id="two-pieces-from-the-beginning"),
        pytest.param([ONE, ONE, SPECK, SPECK, SPECK], id="a-speck"),
        pytest.param([ONE, ONE, TWO, ONE, ONE], id="parted-on-one-frame"),
        pytest.param([ONE, ONE, square(10, 2, 14) | square(10, 30, 14), NONE, NONE], id="area-jumps"),
    ],
)
def test_other_masks_are_no_divisions(model, masks):
    with painted(model, masks) as session:
        assert propose_divisions(session) == []


def test_a_division_on_the_last_frame_is_proposed(model):
    with painted(model, [ONE, ONE, ONE, ONE, TWO]) as session:
        assert [each.frame for each in propose_divisions(session)] == [4]
        session.lock(1)
        assert propose_divisions(session) == []


def test_impossible_settings_are_refused():
    for change in ({"smallest_share": 0}, {"smallest_share": 0.6}, {"num_frames": 0}, {"largest_change": 0.5}):
        with pytest.raises(PromptError, match="allowed are a share"):
            DivisionSettings(**change)
    for change in ({"num_frames": {}}, {"largest_change": bytearray(4)}, {"smallest_share": "x"}):
        with pytest.raises(PromptError, match=f"{next(iter(change))}=.* was given; expected"):
            DivisionSettings(**change)
    with pytest.raises(PromptError):
        DivisionSettings(largest_change=np.nan)
