"""The default distance of key frames follows from the depth of objects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.inference.stacks.key_frame_search import segment_stack
from napari_sam2.inference.stacks.key_frames import measure_spacing, spacing_for, spans_through
from napari_sam2.inference.stacks.seed_tracking import SeedTrackingSettings
from napari_sam2.inference.stacks.settings import KeySpacingSettings
from napari_sam2.inference.stacks.volumes import segment_timelapse_volumes
from napari_sam2.labels.evaluation import average_precision
from oracle import OracleFinder, OracleTracker, paint


def layers(num_frames: int = 40, depth: int = 5) -> np.ndarray:
    """(T, 40, 40) labels: three columns of objects of ``depth`` planes on each other, the next after a gap of one."""
    labels = np.zeros((num_frames, 40, 40), np.int32)
    for column in range(3):
        for number, start in enumerate(range(column, num_frames, depth + 1)):
            labels[start : start + depth, 4:12, 2 + 12 * column : 10 + 12 * column] = 1 + 20 * column + number
    return labels


class Frames:
    """Grey frames of a truth, and which of them were read."""

    def __init__(self, truth: np.ndarray) -> None:
        self.shape = truth.shape
        self._images = np.repeat(paint(truth)[..., None], 3, axis=3)
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append(frame)
        return self._images[frame]


def measure(truth: np.ndarray, **over: object) -> tuple[int | None, OracleFinder, list[int]]:
    finder, frames = OracleFinder(), Frames(truth)
    return measure_spacing(frames, finder, OracleTracker(truth), SeedTrackingSettings(), **over), finder, frames.read


def test_spans_count_frames_in_a_row():
    labels = np.zeros((9, 1, 4), np.int32)
    labels[3:8, 0, 0] = 1  # to the end of the window
    labels[4, 0, 1] = 2
    labels[[0, 1, 3, 4, 5], 0, 2] = 3  # not on frame 2
    labels[5, 0, 3] = 4  # not on the frame that is asked for
    assert spans_through(labels, range(7), 4) == [4, 1, 3]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([], KeySpacingSettings.max_spacing, id="nothing"),
        pytest.param([20, 20, 20, 20, 1], KeySpacingSettings.max_spacing, id="one-lost-track"),
        pytest.param([8, 8, 9, 12], 6, id="three-quarters-of-most"),
        pytest.param([1, 1, 2, 2], 3, id="not-closer"),
    ],
)
def test_distance_suits_three_quarters_of_the_objects(spans, expected):
    assert spacing_for(spans) == expected


def test_thin_objects_bring_key_frames_together_and_lasting_ones_do_not():
    assert measure(layers(depth=5))[0] == 3
    assert measure(layers(depth=8))[0] == 6
    lasting = np.zeros((40, 40, 40), np.int32)
    lasting[:, 4:12, 4:12] = 1
    assert measure(lasting)[0] == KeySpacingSettings.max_spacing


def test_another_frame_is_searched_where_the_middle_is_empty():
    truth = layers()
    truth[12:] = 0
    spacing, finder, read = measure(truth)
    assert spacing == 3
    assert read[:2] == [20, 10]
    assert len(finder.shapes) == 2


def test_few_frames_and_empty_stacks_need_no_measuring():
    spacing, _, read = measure(layers(3))
    assert (spacing, read) == (KeySpacingSettings.max_spacing, [])
    assert measure(np.zeros((12, 40, 40), np.int32))[0] == KeySpacingSettings.max_spacing


@pytest.mark.parametrize("patience", [0, 1, 5])
def test_cancelling_works_while_detecting_and_tracking(patience):
    said: list[str] = []
    found = measure(
        layers(),
        on_progress=lambda stage, _done, _total: said.append(stage),
        should_stop=lambda: len(said) > patience,
    )
    assert found[0] is None
    assert all(stage.startswith("measuring object depth: ") for stage in said)


def test_by_itself_a_stack_is_searched_where_no_object_slips_through():
    truth = layers(38)
    labels, report = segment_stack(paint(truth), finder=OracleFinder(), segmenter=OracleTracker(truth))
    assert average_precision(truth, labels, [1.0]).at(1.0).average_precision == 1
    assert {frame for track in report.tracks for frame in track.seed_frames} <= set(range(1, 38, 3))
    few, _ = segment_stack(paint(truth), finder=OracleFinder(), segmenter=OracleTracker(truth), every=10)
    assert average_precision(truth, few, [1.0]).at(1.0).average_precision < 0.7


def test_stopping_while_the_distance_is_found_out_gives_an_empty_incomplete_result():
    truth = layers()
    labels, report = segment_stack(
        paint(truth), finder=OracleFinder(), segmenter=OracleTracker(truth), should_stop=lambda: True
    )
    assert not labels.any()
    assert not report.is_complete
    assert report.tracks == ()


def test_volumes_over_time_are_measured_once():
    truth = layers(12)
    volumes = np.stack([paint(truth)] * 2)
    stages: list[str] = []
    linked = segment_timelapse_volumes(
        volumes, axes="TZYX", contrast=(0, 255), finder=OracleFinder(), segmenter=OracleTracker(truth),
        on_progress=lambda stage, _done, _total: stages.append(stage),
    )  # fmt: skip
    assert average_precision(truth, linked.labels[1], [1.0]).at(1.0).average_precision == 1
    measured = [stage for stage in stages if "measuring object depth" in stage]
    assert measured
    assert stages[: len(measured)] == measured
    assert "time 1 of 2, key frame 1 (1 of 4): tracking" in stages
