"""``Session.measurements``: names, units, and memory that does not grow with the stack."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from factories import make_model, make_movie
from napari_sam2 import PromptError, Session, open_frames, show_planes


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


@pytest.mark.parametrize("channels", [1, 2])
def test_intensities_are_those_of_the_file_however_it_was_opened(tmp_path, channels):
    image = np.random.default_rng(0).integers(900, 5000, (4, channels, 48, 64)).astype(np.uint16)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, image, imagej=True, metadata={"axes": "ZCYX"})
    y, x = np.mgrid[:48, :64]
    disc = (y - 20) ** 2 + (x - 15) ** 2 < 36
    names = ["mean"] if channels == 1 else ["mean_c0", "mean_c1"]
    expected = image[2][:, disc].mean(1)
    for stack in (path, open_frames(path), *([show_planes(image[:, 0])] if channels == 1 else [])):
        made = Session(stack, model=make_model())
        made.add_mask(disc, frame=2)
        table = made.measurements()
        made.close()
        shown = [name for name in table if name.startswith("mean") and not name.startswith("mean_i")]
        assert shown == names
        np.testing.assert_allclose(table.loc[0, names].to_numpy(float), expected)


def test_a_session_without_masks_gives_an_empty_table():
    made = Session(make_movie(3), model=make_model())
    assert len(made.measurements()) == 0
    assert len(made.measurements("plane")) == 0
    made.close()
