"""Volumes over time: objects keep their number through z and through time."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from factories import make_model, make_movie
from napari_sam2 import FrameError, PromptError, SAM2AutomaticMaskGenerator
from napari_sam2.inference.stacks.settings import KeySpacingSettings, StackSettings
from napari_sam2.inference.stacks.volumes import segment_timelapse_volumes
from oracle import OracleFinder, OracleTracker, paint


def drifting(num_times: int = 4) -> np.ndarray:
    """(T, Z, Y, X) labels: 1 drifts, 2 leaves after time 1, 3 comes at time 2, 4 is missing at time 1."""
    labels = np.zeros((num_times, 6, 30, 40), np.int32)
    for t in range(num_times):
        labels[t, 1:5, 3:13, 2 + 2 * t : 12 + 2 * t] = 1
        if t <= 1:
            labels[t, 0:4, 18:27, 2:10] = 2
        else:
            labels[t, 2:6, 18:27, 14:22] = 3
        if t != 1:
            labels[t, 1:5, 3:11, 28:36] = 4
    return labels


class TimeTracker(OracleTracker):
    """Knows all time points; each stack it is given is the next one."""

    def __init__(self, truth: np.ndarray) -> None:
        super().__init__(truth[0])
        self.volumes = iter(truth)

    def set_video(self, frames) -> None:
        self.truth = next(self.volumes)
        super().set_video(frames)


def segment(truth, **over):
    over = {"finder": OracleFinder(), "segmenter": TimeTracker(truth), "every": 3} | over
    return segment_timelapse_volumes(paint(truth), **over)


def test_one_number_through_z_and_time():
    truth = drifting()
    labels, report = segment(truth)
    pairs = {(int(a), int(b)) for a, b in zip(truth.ravel(), labels.ravel(), strict=True)}
    assert len(pairs) == 5  # background and four objects, one to one
    assert report.is_complete
    assert sorted(t.times for t in report.tracks) == [(0, 1), (0, 1, 2, 3), (0, 2, 3), (2, 3)]
    assert list(report.lost.values()) == [1]
    assert list(report.appeared.values()) == [2]


def test_settings_and_gamma_reach_every_volume():
    truth = drifting(2)
    seen: list[np.ndarray] = []

    class Finder(OracleFinder):
        def generate_masks(self, image, **options):
            seen.append(image)
            return super().generate_masks(image, **options)

    class Tracker(OracleTracker):
        def set_video(self, frames) -> None:
            shown = np.stack([frame[..., 0] > 0 for frame in frames])
            self.truth = next(volume for volume in truth if np.array_equal(volume > 0, shown))
            super().set_video(frames)

    def looked_at(**over: object) -> list[np.ndarray]:
        seen.clear()
        segment(truth, every=None, finder=Finder(), segmenter=Tracker(truth[0]), contrast=(0, 255), **over)
        return list(seen)

    usual = looked_at()
    close = StackSettings(key_spacing=KeySpacingSettings(min_spacing=1, max_spacing=1))
    assert len(looked_at(settings=close)) > len(usual)
    brighter = looked_at(gamma=0.5)
    assert len(brighter) == len(usual)
    assert all(one.mean() > 1.2 * other.mean() for one, other in zip(brighter, usual, strict=True))


def test_zarr_output_is_filled(tmp_path):
    truth = drifting(2)
    out = zarr.create_array(tmp_path / "out.zarr", shape=truth.shape, chunks=(1, 1, 30, 40), dtype="int32")
    assert segment(truth, out=out).labels is out
    np.testing.assert_array_equal(out[:], segment(truth).labels)


def test_cancelling_keeps_finished_time_points():
    truth, stages = drifting(), []
    labels, report = segment(
        truth,
        on_progress=lambda stage, done, total: stages.append(stage),
        should_stop=lambda: stages[-1].startswith("time 2 of 4"),
    )
    assert not report.is_complete
    np.testing.assert_array_equal(labels[0] > 0, truth[0] > 0)
    assert not labels[1:].any()


def test_what_is_kept_of_each_key_frame_and_track_is_chosen():
    truth = drifting(2)
    numbers = segment(truth, keep=lambda records: [r for r in records if r["area"] < 100]).labels
    np.testing.assert_array_equal(numbers > 0, np.isin(truth, (2, 4)))
    by_key_frame = segment(truth, every=None, key_frames=[2], min_score=0.9)
    np.testing.assert_array_equal(by_key_frame.labels[:, 2] > 0, truth[:, 2] > 0)
    assert not by_key_frame.labels[:, [0, 1, 3, 4, 5]].any()  # tracked masks have 0.8


def test_a_channel_and_a_level_of_the_file_are_chosen(tmp_path):
    truth = drifting(2)
    empty = np.zeros_like(truth)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    volumes = paint(np.stack([empty, truth], axis=1))
    for name, data in (("0", volumes.repeat(2, -1).repeat(2, -2)), ("1", volumes)):
        group.create_array(name, data=data)
    axes = [{"name": n, "type": "channel" if n == "c" else "time" if n == "t" else "space"} for n in "tczyx"]
    scales = ([1, 1, 1, 1, 1], [1, 1, 1, 2, 2])
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [
                {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
                for n, scale in enumerate(scales)
            ],
        }
    ]
    found = segment_timelapse_volumes(
        tmp_path / "a.zarr",
        channels=1,
        level=1,
        contrast=(0, 255),
        finder=OracleFinder(),
        segmenter=TimeTracker(truth),
        every=3,
    )
    np.testing.assert_array_equal(found.labels > 0, truth > 0)


def test_axes_come_from_the_file(tmp_path):
    truth = drifting(2)
    tifffile.imwrite(
        tmp_path / "embryo.ome.tif", paint(truth), ome=True, metadata={"axes": "TZYX"}, photometric="minisblack"
    )
    found = segment_timelapse_volumes(
        tmp_path / "embryo.ome.tif", finder=OracleFinder(), segmenter=TimeTracker(truth), every=3
    )
    np.testing.assert_array_equal(found.labels, segment(truth).labels)


def test_network_and_generator_work_on_volumes():
    model = make_model()
    finder = SAM2AutomaticMaskGenerator(
        model, points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, output_mode="coco_rle"
    )
    volumes = np.stack([make_movie(3), make_movie(3, seed=1)])
    labels, report = segment_timelapse_volumes(volumes, model=model, finder=finder, every=2)
    assert labels.shape == volumes.shape
    numbers = {t.object_id for t in report.tracks}
    assert numbers
    assert set(np.unique(labels)) - {0} <= numbers


@pytest.mark.parametrize(
    ("over", "error", "message"),
    [
        pytest.param({"axes": "CZYX"}, FrameError, "need T and Z", id="axes"),
        pytest.param({"axes": "TZY"}, FrameError, "TZY", id="too-few-axes"),
        pytest.param({"min_link_iou": 0}, PromptError, "min_iou=", id="iou"),
        pytest.param({"max_gap": -1}, PromptError, "max_gap=-1", id="gap"),
        pytest.param({"every": 0}, PromptError, "every=0", id="every"),
    ],
)
def test_bad_values_are_refused(over, error, message):
    with pytest.raises(error, match=message):
        segment(drifting(2), **over)


def test_an_array_of_three_dimensions_is_no_volume_over_time():
    with pytest.raises(FrameError, match="TZYX or TZCYX"):
        segment_timelapse_volumes(np.zeros((3, 20, 20)), finder=OracleFinder(), segmenter=TimeTracker(drifting()))
