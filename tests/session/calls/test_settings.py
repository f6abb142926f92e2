"""Settings of a session, and the axes of its stack."""

from __future__ import annotations

import numpy as np
import pytest
from session_tools import square

from factories import make_model, make_movie
from napari_sam2 import PromptError
from napari_sam2.frames.display import displays_of, show_planes
from napari_sam2.session.session import Session


# ---------------------------------------------------------------------- overlap and locks
@pytest.mark.parametrize(("rule", "winner"), [("keep", 1), ("overwrite", 2)])
def test_overlap_rule_decides_who_has_a_pixel(session, rule, winner):
    session.set_overlap(rule)
    session.add_mask(square(10, 10), frame=0)
    session.add_mask(square(14, 14), frame=0)
    assert session.labels[0, 15, 15] == winner
    assert session.store.masks[3 - winner, 0].area == 64 - 16
    assert np.array_equal(session.store.composed(0), session.labels[0])


def test_locked_objects_keep_their_pixels_under_every_rule(session):
    session.add_mask(square(10, 10), frame=0)
    session.lock(1, 0)
    session.set_overlap("overwrite")
    session.add_mask(square(14, 14), frame=0)
    assert np.array_equal(session.labels[0] == 1, square(10, 10))
    with pytest.raises(PromptError, match="is locked on frame 0"):
        session.add_points([[0, 12, 12]], object_id=1)
    session.unlock(1)
    session.add_points([[0, 12, 12]], object_id=1)


def test_overlap_rule_is_taken_back_by_undo(session):
    session.set_overlap("overwrite")
    session.undo()
    assert session.settings.overlap == "keep"
    session.redo()
    assert session.settings.overlap == "overwrite"


# ---------------------------------------------------------------------- other shapes, threads, models
def test_fixed_axes_choose_the_clip(model):
    movie = np.stack([make_movie(3), make_movie(3, seed=1)])
    with Session(movie, model=model, frame_axis=1) as session:
        session.add_points([[1, 0, 20, 15]])
        assert session.propagate().num_steps == 2
        assert session.labels[1].any((1, 2)).all()
        assert not session.labels[0].any()


def test_single_image_and_rgb(model):
    colours = np.repeat(make_movie(1)[0][..., None], 3, axis=-1)
    with Session(colours, model=model) as session:
        session.add_points([[20, 15]])
        assert session.labels.shape == (48, 64)
        assert session.labels.any()
        assert session.propagate().num_steps == 0


def save_weights(path, seed):
    from safetensors.torch import save_file

    save_file(make_model(seed, native_window=128, image_size=256).state_dict(), path, metadata={"model": "sam2_micro"})


def test_weights_that_were_replaced_are_read_when_they_are_chosen_again(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_weights(path, 1)
    with Session(make_movie(2), model=str(path)) as session:
        session.add_points([[0, 20, 15]])
        before = session.store.prompts[1, 0].answer.logits.copy()
        assert not session.model_is_outdated
        save_weights(path, 2)
        assert session.model_is_outdated
        session.set_model(str(path))
        made = session.add_points([[0, 20, 15]])
        assert not session.model_is_outdated
        assert not np.allclose(session.store.prompts[made, 0].answer.logits, before)


# ---------------------------------------------------------------------- contrast
@pytest.mark.parametrize("is_given", [True, False])
def test_a_brighter_plane_has_limits_of_its_own_if_the_usual_brightness_is_given(model, is_given):
    movie = make_movie(6).astype(np.float32)
    movie[4] *= 6
    automatic = show_planes(movie)
    (shown,) = displays_of(automatic)
    with Session(movie, model=model) as session:
        session.set_contrast([shown.limits], usual=[shown.usual] if is_given else None)
        assert np.array_equal(session.frames[3], automatic[3])
        assert np.array_equal(session.frames[4], automatic[4]) == is_given
