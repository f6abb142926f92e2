"""Facts about objects made from dense maps."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.inference.automatic.instances import InstanceSettings, cores, find_instances, possible_instances
from napari_sam2.network.dense_head import DENSE_CHANNELS, DenseChannel
from oracle import dense_maps_of


def test_touching_objects_are_parted_at_the_border():
    labels = np.zeros((30, 40), np.int32)
    labels[5:25, 4:20] = 1
    labels[5:25, 20:36] = 2
    found = find_instances(dense_maps_of(labels), InstanceSettings())
    assert len(found) == 2
    assert found.areas.tolist() == [320, 320]
    assert found.boxes.tolist() == [[5, 4, 25, 20], [5, 20, 25, 36]]
    assert np.array_equal(found.labels > 0, labels > 0)
    np.testing.assert_allclose(found.scores, 1)


def test_middles_lie_in_their_objects():
    labels = np.zeros((40, 40), np.int32)
    labels[2:12, 2:38] = 1
    labels[20:38, 5:15] = 2
    found = find_instances(dense_maps_of(labels), InstanceSettings())
    assert [labels[y, x] for y, x in found.middles_yx] == [1, 2]
    assert [found.labels[y, x] for y, x in found.middles_yx] == [1, 2]


def test_an_object_without_an_inside_is_found_as_a_whole():
    labels = np.zeros((20, 20), np.int32)
    labels[5:7, 3:17] = 1
    found = find_instances(dense_maps_of(labels), InstanceSettings())
    assert found.areas.tolist() == [28]


def test_small_objects_are_dropped_and_numbers_have_no_gaps():
    labels = np.zeros((20, 20), np.int32)
    labels[1, 1] = 1
    labels[5:12, 5:12] = 2
    found = find_instances(dense_maps_of(labels), InstanceSettings(min_cells=3))
    assert np.unique(found.labels).tolist() == [0, 1]
    assert found.areas.tolist() == [49]


def faint_pair():
    """Two objects with a foreground of 0.6, between which it falls to 0.4."""
    maps = np.zeros((DENSE_CHANNELS, 20, 41), np.float32)
    maps[DenseChannel.FOREGROUND, 3:17, 3:38] = 0.6
    maps[DenseChannel.FOREGROUND, 3:17, 18:23] = 0.4
    return maps


def test_faint_objects_are_divided_where_the_interior_falls():
    assert find_instances(faint_pair(), InstanceSettings()).boxes.tolist() == [[3, 3, 17, 21], [3, 20, 17, 38]]
    assert len(find_instances(faint_pair(), InstanceSettings(saddle=0.5))) == 1


def test_cores_leave_out_what_is_only_just_foreground():
    found = cores(faint_pair(), InstanceSettings())
    assert len(found) == 2
    assert not found.labels[:, 20].any()


def test_objects_are_divided_in_two_ways():
    ways = possible_instances(faint_pair(), InstanceSettings())
    assert [len(way) for way in ways] == [2, 2]


@pytest.mark.parametrize("shape", [(1, 1), (7, 9)])
def test_empty_maps_hold_nothing(shape):
    for found in possible_instances(np.zeros((DENSE_CHANNELS, *shape), np.float32), InstanceSettings()):
        assert len(found) == 0
        assert found.labels.shape == shape
        assert found.boxes.shape == (0, 4)
        assert found.middles_yx.shape == (0, 2)
