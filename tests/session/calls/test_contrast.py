"""A session and a segmenter see the same frames of an array, and give the same labels."""

from __future__ import annotations

import numpy as np

from napari_sam2 import SAM2VideoSegmenter, Session, load_model
from napari_sam2.training.synthetic import make_demo_stack


def clicks_of(labels: np.ndarray, frame: int, count: int) -> list[tuple[int, int, int]]:
    """(frame, y, x) inside the largest objects of a frame."""
    ids, areas = np.unique(labels[frame], return_counts=True)
    largest = [i for i in ids[np.argsort(-areas)] if i][:count]
    points = [np.argwhere(labels[frame] == i) for i in largest]
    return [(frame, *map(int, inside[len(inside) // 2])) for inside in points]


def test_session_and_segmenter_give_equal_labels_of_an_array():
    stack, truth = make_demo_stack(0)
    stack, truth = stack[5:10, :96, :96], truth[5:10, :96, :96]
    model = load_model()
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(stack)
    clicks = clicks_of(truth, 2, 2)
    with Session(stack, model=model) as session:
        for n, (z, y, x) in enumerate(clicks, start=1):
            segmenter.add_clicks(z, [(x, y)], object_id=n)
            session.add_points([[z, y, x]], object_id=n)
        session.propagate()
        expected = segmenter.track_objects()
        np.testing.assert_array_equal(np.asarray(session.labels), expected)
    assert expected.any()
