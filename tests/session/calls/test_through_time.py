"""Propagation through volumes and from each time point to the next."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from factories import make_model
from napari_sam2 import DeviceError, PromptError, Session, load_model
from napari_sam2.session.engines.remote_engine import RemoteEngine
from napari_sam2.session.results.replay import replay


def make_volumes(num_times: int = 4, num_slices: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels (T, Z, Y, X) of a bright body that moves, and one that stays."""
    t, z, y, x = np.ogrid[:num_times, :num_slices, :64, :64]
    moving = ((z - 2) / 2.5) ** 2 + ((y - 20) / 9) ** 2 + ((x - 18 - 3 * t) / 9) ** 2 < 1
    still = ((z - 2) / 2.5) ** 2 + ((y - 46) / 8) ** 2 + ((x - 46) / 8) ** 2 + 0 * t < 1
    labels = np.where(moving, 1, np.where(still, 2, 0)).astype(np.int32)
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    return (ndimage.gaussian_filter((labels > 0) * 120.0, (0, 0, 1, 1)) + 40 + noise).astype(np.uint8), labels


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture(scope="module")
def micro():
    return load_model("sam2_micro")


@pytest.fixture(scope="module")
def untrained():
    return make_model(1, image_size=64)


def test_one_click_gives_the_object_at_all_slices_and_times(micro):
    image, truth = make_volumes()
    with Session(image, model=micro) as session:
        session.add_points([[1, 2, 20, 21]])
        session.add_points([[2, 2, 46, 46]])
        handle = session.propagate_through_time()
        assert handle.num_done == handle.num_steps
        for time in range(4):
            for number in (1, 2):
                assert iou(session.labels[time] == number, truth[time] == number) > 0.7, (time, number)
        assert session.propagate_through_time().num_steps == 0
        assert "session.propagate_through_time()" in session.to_python()
        session.undo()
        assert session.store.planes_of(1) == [7]


def test_one_object_is_propagated_alone_and_in_the_background(untrained):
    image, truth = make_volumes(3)
    with Session(image, model=untrained) as session:
        for number in (1, 2):
            session.add_mask(truth[1, 2] == number, frame=7, object_id=number)
        handle = session.propagate_through_time(object_ids=[2], block=False)
        assert handle.wait(60)
        assert session.store.planes_of(1) == [7]
        assert session.store.planes_of(2) == list(range(15))


def test_an_object_that_is_missing_at_one_time_is_found_at_the_next(micro):
    image, truth = make_volumes()
    image[2] = 40
    with Session(image, model=micro) as session:
        session.add_points([[0, 2, 20, 18]])
        session.propagate_through_time()
        assert not (session.labels[2] == 1).any()
        assert iou(session.labels[3] == 1, truth[3] == 1) > 0.6


def test_a_correction_is_kept_and_changes_only_times_up_to_the_next_prompt(untrained):
    image, truth = make_volumes(5)
    with Session(image, model=untrained) as session:
        for time in (0, 2):
            session.add_mask(truth[time, 2] == 1, frame=5 * time + 2, object_id=1)
        session.propagate_through_time()
        assert session.store.planes_of(1) == list(range(25))
        session.add_mask(truth[3, 1] == 1, frame=16, object_id=1)
        stale = {plane // 5 for (_, plane), mask in session.store.masks.items() if mask.is_stale}
        assert stale == {3, 4}
        session.propagate_through_time()
        assert not any(mask.is_stale for mask in session.store.masks.values())
        assert np.array_equal(session.labels[3, 1] == 1, truth[3, 1] == 1)
        assert session.store.masks[1, 16].kind == "painted"


def test_locked_slices_stay(untrained):
    image, truth = make_volumes(3)
    with Session(image, model=untrained) as session:
        session.add_mask(truth[0, 2] == 1, frame=2)
        session.lock(1, [6])
        session.propagate_through_time()
        assert (1, 6) not in session.store.masks
        assert (1, 7) in session.store.masks


def test_a_cancelled_run_keeps_what_is_finished_and_a_script_repeats_it(untrained):
    image, truth = make_volumes(4)
    with Session(image, model=untrained) as session:
        session.add_mask(truth[0, 2] == 1, frame=2)
        session.propagation_changed.connect(lambda handle: handle.cancel() if handle.num_done >= 20 else None)
        handle = session.propagate_through_time()
        assert handle.is_cancelled
        assert (1, 12) in session.store.masks
        assert (1, 19) not in session.store.masks
        with Session(image, model=untrained) as repeated:
            replay(session.operations, repeated)
            assert np.array_equal(repeated.labels, session.labels)


def test_a_run_that_was_stopped_goes_on_where_it_ended(untrained):
    image, truth = make_volumes(4)
    with Session(image, model=untrained) as whole, Session(image, model=untrained) as session:
        for each in (whole, session):
            each.add_mask(truth[0, 2] == 1, frame=2)
        assert whole.propagate_through_time().num_steps == 34
        assert session.propagate_through_time(max_frames=14).num_done == 14  # two of four volumes
        assert session.propagate_through_time().num_steps == 20
        assert np.array_equal(session.labels, whole.labels)


def test_times_can_be_the_frames_and_slices_the_other_axis(untrained):
    image, truth = make_volumes(3)
    with Session(image, model=untrained, frame_axis=0) as session:
        session.add_mask(truth[1, 2] == 1, frame=7)
        session.propagate_through_time()
        assert session.store.planes_of(1) == list(range(15))


@pytest.mark.parametrize("shape", [(20, 30), (4, 20, 30), (1, 4, 20, 30), (2, 2, 2, 20, 30)])
def test_images_without_a_series_of_volumes_are_refused(untrained, shape):
    with Session(np.zeros(shape, np.uint8), model=untrained) as session:
        session.add_mask(np.pad(np.ones((5, 5), bool), ((3, 12), (3, 22))), frame=0)
        with pytest.raises(PromptError, match="no series of volumes"):
            session.propagate_through_time()


def test_nothing_prompted_is_refused(untrained):
    with (
        Session(make_volumes(2)[0], model=untrained) as session,
        pytest.raises(PromptError, match="nothing was prompt"),
    ):
        session.propagate_through_time()


def test_a_server_does_not_track_through_time():
    engine = RemoteEngine.__new__(RemoteEngine)
    with pytest.raises(DeviceError, match="this computer only"):
        engine.track_through_time(None, lambda: False)
