"""Measurements plane by plane equal those of scikit-image on whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area, regionprops

from napari_sam2.labels.measurements import (
    MeasuredPlane,
    measure_planes,
    measure_stack,
    summarize_objects,
)

SPACING = (2.0, 0.5, 0.5)


@pytest.fixture(scope="module")
def stack():
    """(9, 40, 50) labels of three balls, and two channels."""
    z, y, x = np.mgrid[:9, :40, :50]
    labels = np.zeros((9, 40, 50), np.int32)
    for number, (cz, cy, cx, radius) in enumerate(((4, 12, 12, 9), (4, 28, 34, 8), (2, 6, 40, 4)), start=1):
        inside = ((z - cz) * 2.5) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        labels[inside] = 2 * number
    rng = np.random.default_rng(0)
    return labels, [rng.normal(100, 20, labels.shape), rng.integers(0, 4000, labels.shape).astype(np.uint16)]


def planes_of(stack):
    labels, channels = stack
    return (MeasuredPlane(p, 0, p, labels[p], [channel[p] for channel in channels]) for p in range(len(labels)))


def test_each_plane_equals_regionprops(stack):
    labels, channels = stack
    table = measure_planes(planes_of(stack), spacing=SPACING[1:])
    assert len(table) == sum(len(np.unique(plane)) - 1 for plane in labels)
    for row in table.itertuples():
        mask = (labels[row.plane] == row.object).astype(np.uint8)
        (expected,) = regionprops(mask, channels[1][row.plane], spacing=SPACING[1:])
        assert row.area == pytest.approx(expected.area)
        assert (row.centroid_y, row.centroid_x) == pytest.approx(expected.centroid)
        assert (row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1) == expected.bbox
        assert row.solidity == pytest.approx(expected.solidity)
        assert row.mean_c1 == pytest.approx(expected.intensity_mean)
        assert row.sum_c1 == pytest.approx(expected.image_intensity.sum())


def test_objects_of_a_stack_equal_regionprops_of_the_whole_array(stack):
    labels, channels = stack
    table = summarize_objects(measure_planes(planes_of(stack), spacing=SPACING[1:]), plane_distance=SPACING[0])
    for number, channel in enumerate(channels):
        for row, expected in zip(table.to_dict("records"), regionprops(labels, channel, spacing=SPACING), strict=True):
            assert row["object"] == expected.label
            assert row["volume"] == pytest.approx(expected.area)
            assert row["equivalent_diameter"] == pytest.approx(expected.equivalent_diameter_area)
            assert (row["centroid_z"], row["centroid_y"], row["centroid_x"]) == pytest.approx(expected.centroid)
            assert (row["first_frame"], row["bbox_y0"], row["bbox_x0"]) == expected.bbox[:3]
            assert (row["last_frame"] + 1, row["bbox_y1"], row["bbox_x1"]) == expected.bbox[3:]
            for name in ("mean", "min", "max", "std"):
                assert row[f"{name}_c{number}"] == pytest.approx(getattr(expected, f"intensity_{name}"))
            assert row[f"sum_c{number}"] == pytest.approx(channel[labels == expected.label].sum())


def surface_of_whole(mask: np.ndarray, spacing: tuple[float, float, float]) -> float:
    corners, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=spacing)
    return float(mesh_surface_area(corners, faces))


def test_surfaces_read_plane_by_plane_equal_those_of_whole_objects(stack):
    labels, _ = stack
    holed = labels.copy()
    holed[3] = 0  # an object in two parts
    two = np.concatenate((holed, labels))  # two stacks, the first of which ends at the last plane
    table = measure_stack(range(18), two.__getitem__, scale=SPACING, planes_per_clip=9)
    for clip, array in enumerate((holed, labels)):
        part = table[table["clip"] == clip]
        assert part["object"].tolist() == [2, 4, 6]
        for object_id, area in zip(part["object"], part["surface"], strict=True):
            assert area == pytest.approx(surface_of_whole(array == object_id, SPACING))


def test_surface_of_a_ball_is_that_of_a_sphere():
    z, y, x = np.mgrid[:41, :41, :41]
    ball = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 15**2
    table = measure_stack(range(41), ball.astype(np.int32).__getitem__, scale=(0.5, 0.5, 0.5))
    assert table["surface"].tolist() == [pytest.approx(4 * np.pi * 7.5**2, rel=0.1)]


@pytest.mark.parametrize("is_volume", [False, True])
@pytest.mark.parametrize("by", ["object", "plane"])
def test_nothing_labelled_gives_an_empty_table_with_columns(by, is_volume):
    empty, full = np.zeros((2, 5, 5), np.int32), np.ones((2, 5, 5), np.int32)
    table, expected = (
        measure_stack(range(2), labels.__getitem__, by=by, is_volume=is_volume) for labels in (empty, full)
    )
    assert len(table) == 0
    assert table.columns.tolist() == expected.columns.tolist()


@pytest.mark.parametrize("largest", [2**31 - 1, 2**32 - 1])
def test_large_ids_take_no_memory_and_stay_as_they_are(largest):
    labels = np.zeros((2, 8, 9), np.uint32)
    labels[0, 2:4, 3:6], labels[1, :2, :2], labels[1, 5:, 5:] = largest, 7, largest
    table = measure_stack(range(2), labels.__getitem__)
    assert table["object"].tolist() == [7, largest]
    assert table["num_pixels"].tolist() == [4, 18]
    assert (table["surface"] > 0).all()
