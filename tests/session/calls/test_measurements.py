"""``Session.measurements``: names, units, and memory that does not grow with the stack."""

from __future__ import annotations

import numpy as np
import pytest

from factories import make_model, make_movie
from napari_sam2 import PromptError, Session


@pytest.fixture
def session():
    made = Session(make_movie(6), model=make_model())
    y, x = np.mgrid[:48, :64]
    for frame in range(1, 5):
        made.add_mask((y - 20) ** 2 + (x - 15) ** 2 < 36, frame=frame, object_id=None if frame == 1 else 1)
    made.add_mask((y - 20) ** 2 + (x - 45) ** 2 < 25, frame=2)
    made.rename(2, "small")
    yield made
    made.close()


def test_objects_of_a_stack_have_volumes_in_the_unit_of_the_scale(session):
    table = session.measurements(scale=(2.0, 0.5, 0.5))
    assert table["name"].tolist() == ["object 1", "small"]
    pixels = [(session.labels == number).sum() for number in (1, 2)]
    assert table["num_pixels"].tolist() == pixels
    np.testing.assert_allclose(table["volume"], np.array(pixels) * 0.5)
    assert table.loc[0, ["num_planes", "first_frame", "last_frame"]].tolist() == [4, 1, 4]
    values = np.asarray(session.frames.raw(2)[0])[session.labels[2] == 2]
    assert table.loc[1, "mean"] == pytest.approx(values.mean())
    assert (table["surface"] > 0).all()


def test_frames_that_are_times_have_areas_and_no_volume(session):
    table = session.measurements(frames_are_times=True)
    assert "volume" not in table
    assert table.loc[0, "area_mean"] == (session.labels[1] == 1).sum()
    by_plane = session.measurements("plane")
    assert by_plane["object"].tolist() == [1, 1, 2, 1, 1]
    assert by_plane["frame"].tolist() == [1, 2, 2, 3, 4]
    assert by_plane["name"].tolist()[2] == "small"


@pytest.mark.parametrize("arguments", [{"by": "cell"}, {"scale": (1, 1)}, {"scale": (1, 0, 1)}])
def test_wrong_arguments_are_refused_in_words(session, arguments):
    with pytest.raises(PromptError, match=r"expected|choose"):
        session.measurements(**arguments)


def test_a_session_without_masks_gives_an_empty_table():
    made = Session(make_movie(3), model=make_model())
    assert len(made.measurements()) == 0
    assert len(made.measurements("plane")) == 0
    made.close()
