"""Labels of a coarser level at full resolution: nearer to the truth than enlarged pixels, and written in windows."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

from napari_sam2 import Session, open_frames
from napari_sam2._errors import FrameError, OutputError
from napari_sam2.inference.prompts.full_resolution import FullResolutionSettings, FullResolutionWriter
from napari_sam2.labels.enlarging import enlarged_masks
from napari_sam2.session.results.export import export_labels
from napari_sam2.weights.loading import load_model

SIDE, ZOOM = 512, 4
CELLS = ((120, 130, 60, 40), (360, 150, 45, 70), (250, 380, 80, 50))  # y, x and radii of ellipses


def make_truth() -> np.ndarray:
    yy, xx = np.mgrid[:SIDE, :SIDE]
    truth = np.zeros((SIDE, SIDE), np.int32)
    for number, (y, x, a, b) in enumerate(CELLS, 1):
        truth[((yy - y) / a) ** 2 + ((xx - x) / b) ** 2 < 1] = number
    return truth


def make_coarse() -> np.ndarray:
    """The truth four times coarser: the object that fills at least half of a pixel."""
    blocks = make_truth().reshape(SIDE // ZOOM, ZOOM, SIDE // ZOOM, ZOOM)
    return sum(number * ((blocks == number).mean((1, 3)) >= 0.5).astype(np.int32) for number in (1, 2, 3))


def write_pyramid(path, num_frames: int = 1) -> np.ndarray:
    """An OME-Zarr image of ellipses at two levels, the second four times coarser; returns the coarse labels."""
    truth = make_truth()
    noise = np.random.default_rng(0).normal(0, 60, (SIDE, SIDE))
    image = (gaussian_filter(np.where(truth > 0, 2000.0, 300.0), 1.5) + noise).clip(0, 60_000).astype(np.uint16)
    coarse = image.reshape(SIDE // ZOOM, ZOOM, SIDE // ZOOM, ZOOM).mean((1, 3)).astype(np.uint16)
    group = zarr.open_group(path, mode="w")
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = []
    for level, plane in enumerate((image, coarse)):
        group.create_array(str(level), data=np.stack([plane] * num_frames), chunks=(1, 64, 64))
        scale = [1.0, 0.5 * ZOOM**level, 0.5 * ZOOM**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return make_coarse()


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float(
        np.mean([((found == i) & (truth == i)).sum() / ((found == i) | (truth == i)).sum() for i in (1, 2, 3)])
    )


def test_outlines_are_smooth_and_lie_where_the_object_is():
    truth = make_truth()
    coarse = make_coarse()
    found = np.zeros_like(truth)
    for mask in enlarged_masks(coarse, truth.shape):
        for block in mask.blocks(100):
            found[block][mask.part(*block)] = mask.object_id
    nearest = coarse.repeat(ZOOM, 0).repeat(ZOOM, 1)
    assert iou(found, truth) > max(0.97, iou(nearest, truth))


def test_single_pixels_and_objects_at_the_border_stay():
    coarse = np.zeros((10, 12), np.int32)
    coarse[0, 0], coarse[5, 5], coarse[9, 11] = 3, 7, 2**31 - 1
    found = {mask.object_id: mask.part(slice(0, 40), slice(0, 48)) for mask in enlarged_masks(coarse, (40, 48))}
    assert sorted(found) == [3, 7, 2**31 - 1]
    assert found[3][1, 1]
    assert found[7][22, 22]
    assert found[2**31 - 1][38, 46]
    assert 4 <= found[7].sum() <= 32


def test_the_model_refines_in_the_image_itself(tmp_path):
    coarse = write_pyramid(tmp_path / "a.zarr")
    frames = open_frames(tmp_path / "a.zarr", level=1)
    path = tmp_path / "a.zarr" / "labels" / "cells"
    with FullResolutionWriter(path, frames, load_model=lambda: load_model("sam2_micro")) as writer:
        writer[0] = coarse
    assert writer.report.num_refined == 3
    found = zarr.open_group(path, mode="r")
    truth = make_truth()
    assert iou(found["0"][0], truth) > max(0.97, iou(coarse.repeat(ZOOM, 0).repeat(ZOOM, 1), truth))
    assert iou(found["1"][0], coarse) > 0.9


def test_large_objects_are_enlarged_without_the_model(tmp_path):
    coarse = write_pyramid(tmp_path / "a.zarr", num_frames=2)
    frames = open_frames(tmp_path / "a.zarr", level=1)
    settings = FullResolutionSettings(max_side=64, block=100)
    path = tmp_path / "a.ome.tif"
    with FullResolutionWriter(path, frames, load_model=pytest.fail, settings=settings) as writer:
        writer.write(1, coarse)
    assert "3 were enlarged with a smooth outline (3 too large for a window)" in str(writer.report)
    found = open_frames(path)
    assert not found.raw(0).any()
    assert iou(found.raw(1)[0], make_truth()) > 0.97


def test_after_an_interruption_the_finished_frames_are_enlarged(tmp_path):
    coarse = write_pyramid(tmp_path / "a.zarr", num_frames=2)
    frames = open_frames(tmp_path / "a.zarr", level=1)
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with FullResolutionWriter(tmp_path / "o.ome.zarr", frames, load_model=pytest.fail) as writer:
            writer.write(0, coarse)
            raise KeyboardInterrupt
    assert writer.report.num_unfinished == 3
    assert iou(open_frames(tmp_path / "o.ome.zarr", axes="ZYX").raw(0)[0], make_truth()) > 0.97


def test_where_the_full_resolution_is_damaged_the_coarse_mask_is_kept(tmp_path):
    coarse = write_pyramid(tmp_path / "a.zarr")
    frames = open_frames(tmp_path / "a.zarr", level=1)
    for chunk in (tmp_path / "a.zarr" / "0" / "c" / "0").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    model = load_model("sam2_micro")
    with FullResolutionWriter(tmp_path / "o.ome.zarr", frames, load_model=lambda: model) as writer:
        writer.write(0, coarse)
    assert "3 where the image cannot be read" in str(writer.report)
    assert iou(open_frames(tmp_path / "o.ome.zarr", axes="ZYX").raw(0)[0], make_truth()) > 0.97


def test_planes_too_large_for_a_file_are_refused(tmp_path):
    write_pyramid(tmp_path / "a.zarr")
    frames = open_frames(tmp_path / "a.zarr", level=1)
    settings = FullResolutionSettings(max_plane_bytes=1000)
    with pytest.raises(OutputError, match=r"give a name that ends in \.ome\.zarr"):
        FullResolutionWriter(tmp_path / "a.tif", frames, load_model=pytest.fail, settings=settings)
    assert [each.name for each in tmp_path.iterdir()] == ["a.zarr"]


def test_a_session_on_a_coarser_level_is_exported_at_full_resolution(tmp_path):
    coarse = write_pyramid(tmp_path / "a.zarr", num_frames=2)
    frames = open_frames(tmp_path / "a.zarr", level=1)
    with Session(frames, model="sam2_micro") as session:
        session.add_labels(coarse, frame=0)
        path = export_labels(session, tmp_path / "a.zarr" / "labels" / "cells", full_resolution=True)
    assert iou(zarr.open_group(path, mode="r")["0"][0], make_truth()) > 0.97
    with Session(make_truth().astype(np.uint8), model="sam2_micro") as session:  # noqa: SIM117
        with pytest.raises(FrameError, match="not on a coarser level"):
            export_labels(session, tmp_path / "b.ome.tif", full_resolution=True)
