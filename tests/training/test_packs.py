"""Data packs are read as they are described, and bad ones are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam2._errors import TrainingError
from napari_sam2.training.packs import (
    LabelledStack,
    group_weights,
    load_pack,
    reslice,
    stretch_curve,
    stretch_to_uint8,
)


def make_image(hw: tuple[int, ...] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, hw).astype(np.uint8)


def write_list_pack(folder: Path) -> Path:
    path = folder / "cells.npz"
    items = {}
    for k in range(3):
        items[f"image_{k:04d}"] = make_image((40, 50, 3) if k == 2 else (40, 50))
        items[f"labels_{k:04d}"] = np.full((40, 50), k + 1, np.uint16)
    np.savez(path, kind=np.array(["a", "a", "b"]), adjacent_to_heldout=np.array(["", "tile", ""]), axes="YX", **items)
    return path


def test_list_pack_drops_tiles_beside_held_out_ones(tmp_path: Path) -> None:
    stacks = load_pack(write_list_pack(tmp_path))
    assert [s.group for s in stacks] == ["a", "b"]
    assert stacks[1].frames.shape == (1, 40, 50, 3)
    assert stacks[0].frames.shape == stacks[0].labels.shape == (1, 40, 50)
    assert not stacks[0].is_sequence
    assert len(load_pack(write_list_pack(tmp_path), drop_adjacent=False)) == 3


def test_volume_is_a_sequence_with_its_trusted_ids(tmp_path: Path) -> None:
    path = tmp_path / "volume.npz"
    labels = np.ones((5, 20, 30), np.uint16)
    np.savez(path, image=make_image((5, 20, 30)), labels=labels, axes="ZYX", trusted_ids=np.array([1, 4]))
    (stack,) = load_pack(path)
    assert stack.is_sequence
    assert len(stack) == 5
    assert stack.trusted_ids == {1, 4}


def test_batch_of_images_is_no_sequence(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, image=make_image((5, 20, 30)), labels=np.ones((5, 20, 30), np.uint16), axes="NYX")
    stacks = load_pack(path)
    assert len(stacks) == 5
    assert not any(s.is_sequence for s in stacks)


def test_pack_whose_shapes_disagree_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, image=make_image(), labels=np.ones((40, 51), np.uint16))
    with pytest.raises(TrainingError, match=r"\(1, 40, 50\)"):
        load_pack(path)


def test_pack_without_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, image=make_image())
    with pytest.raises(TrainingError, match="needs image and labels"):
        load_pack(path)


def test_missing_pack_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not exist"):
        load_pack(tmp_path / "none.npz")


def test_reslice_shows_the_same_voxels_along_each_axis() -> None:
    image = make_image((6, 7, 8))
    labels = image.astype(np.uint16)
    along_z, along_y, along_x = reslice(LabelledStack(image, labels, "cube", is_sequence=True))
    assert along_z.frames.shape == (6, 7, 8)
    assert (along_y.frames[3] == image[:, 3]).all()
    assert (along_x.labels[5] == labels[:, :, 5]).all()


def test_stretch_ignores_a_few_extreme_pixels_and_bad_values() -> None:
    image = np.linspace(100, 200, 10_000, dtype=np.float32).reshape(100, 100)
    image[0, 0], image[0, 1], image[0, 2] = np.nan, np.inf, 1e6
    stretched = stretch_to_uint8(image)
    assert int(stretched[50, 50]) == pytest.approx(128, abs=3)
    assert stretched[-1, -1] == 255
    assert (stretch_to_uint8(np.full((5, 5), 7, np.uint16)) == 0).all()


def test_stretch_curve_spans_the_full_range() -> None:
    frames = np.random.default_rng(0).integers(60, 120, (2, 50, 50)).astype(np.uint8)
    curve = stretch_curve(frames)
    assert curve[60] == pytest.approx(0, abs=5)
    assert curve[119] == pytest.approx(255, abs=5)


def test_groups_weigh_by_the_square_root_of_their_number() -> None:
    plane = np.zeros((1, 4, 4), np.uint8)
    stacks = [LabelledStack(plane, plane, str(k), "many" if k < 16 else "few") for k in range(17)]
    weights = group_weights(stacks)
    assert weights.sum() == pytest.approx(1)
    assert weights[:16].sum() / weights[16] == pytest.approx(4)
