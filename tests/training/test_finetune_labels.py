"""A user's images and labels: what is read, what is refused, and what is held out."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from finetune_tools import make_discs, save_discs
from PIL import Image

from napari_sam2._errors import OutputError, TrainingError
from napari_sam2.training.tuning_files import TuningFiles
from napari_sam2.training.user_labels import count_objects, hold_out, labelled_items


def split(images, labels, share: float = 0.2, **over):
    return hold_out(labelled_items(images, labels, **over), share)


def test_folders_files_and_arrays_give_the_same(tmp_path):
    images, labels = make_discs(2)
    folders = save_discs(tmp_path, 2)
    files = [sorted(folder.iterdir()) for folder in folders]
    for given in (folders, files, (images, labels)):
        items = labelled_items(*given)
        assert [stack.labels.shape for item in items for stack in item.stacks] == [(1, 96, 96)] * 2
        assert all(np.array_equal(i.stacks[0].labels[0] > 0, m > 0) for i, m in zip(items, labels, strict=True))
    assert np.array_equal(labelled_items(files[0][0], files[1][0])[0].stacks[0].labels[0] > 0, labels[0] > 0)


def test_pictures_with_alpha_and_other_suffixes_pair_by_name(tmp_path):
    (image,), (mask,) = make_discs(1)
    rgba = np.dstack([image, image // 2, image // 3, np.full_like(image, 255)])
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.fromarray(rgba).save(tmp_path / "images" / "a.png")
    Image.fromarray(rgba).save(tmp_path / "images" / "alone.png")
    tifffile.imwrite(tmp_path / "labels" / "a.tif", mask.astype(np.uint16))
    with pytest.warns(UserWarning, match="1 file without a partner of the same name is left out"):
        (item,) = labelled_items(tmp_path / "images", tmp_path / "labels")
    assert item.name == "a.png"
    assert np.array_equal(item.stacks[0].frames[0], rgba[..., :3])


def test_stack_is_cut_where_frames_are_not_labelled():
    images, labels = (np.stack(arrays) for arrays in make_discs(5))
    labels[2] = 0
    (item,) = labelled_items(images, labels)
    assert [(len(stack), stack.is_sequence) for stack in item.stacks] == [(2, True), (2, True)]
    (item,) = labelled_items(images, labels, linked=False)
    assert [(len(stack), stack.is_sequence) for stack in item.stacks] == [(1, False)] * 4


def test_ids_of_any_size_and_sign_become_small():
    (image,), (mask,) = make_discs(1)
    large = np.where(mask > 0, mask.astype(np.int64) * 10**12, 0)
    (item,) = labelled_items(image, large)
    assert np.array_equal(item.stacks[0].labels[0], mask)
    full = labelled_items(image, mask + 3)[0].stacks[0].labels
    assert full.min() == 1


def test_foreground_mask_becomes_one_object_per_piece():
    (image,), (mask,) = make_discs(1)
    with pytest.warns(UserWarning, match="each connected piece"):
        (item,) = labelled_items(image, (mask > 0) * np.uint8(255))
    assert count_objects(item.stacks) == 16
    with pytest.warns(UserWarning, match="each connected piece"):
        (item,) = labelled_items(np.stack([image] * 2), np.stack([mask > 0] * 2))
    assert [(count_objects([stack]), stack.is_sequence) for stack in item.stacks] == [(16, False)] * 2


def test_images_without_labels_are_left_out_and_named():
    images, labels = make_discs(3)
    labels[1][:] = 0
    with pytest.warns(UserWarning, match="image 1: nothing is labelled"):
        items = labelled_items(images, labels)
    assert [item.name for item in items] == ["image 0", "image 2"]


@pytest.mark.filterwarnings("ignore:image 0")
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        pytest.param(np.zeros((40, 40)), np.zeros((40, 40), int), "labels are empty", id="empty"),
        pytest.param(np.zeros((40, 40)), np.ones((40, 41), int), r"\(40, 40\) and its labels \(40, 41\)", id="shapes"),
        pytest.param(np.zeros((3, 40, 40)), np.ones((40, 40), int), "must agree", id="channels-first"),
        pytest.param(
            np.full((40, 40), np.nan), np.ones((40, 40), int), "no pixel of the image is a finite", id="nan-image"
        ),
        pytest.param(np.zeros((40, 40)), np.full((40, 40), 0.5), "not whole numbers, such as 0.5", id="float-labels"),
        pytest.param(np.zeros((40, 40)), np.arange(1600).reshape(40, 40) - 1, "both -1 and 0", id="negative-labels"),
        pytest.param(np.zeros((40, 40)), np.ones((40, 40), complex), "they must be whole numbers", id="complex-labels"),
        pytest.param(np.zeros((40, 40), complex), np.ones((40, 40), int), "real numbers", id="complex"),
        pytest.param([np.zeros((40, 40))], [], "1 images and 0 label images", id="numbers"),
        pytest.param([], [], "no images were given", id="none"),
        pytest.param("nowhere", "nowhere", "nowhere do not exist", id="no-folder"),
        pytest.param(".", "a.tif", "give two folders", id="folder-and-file"),
        pytest.param("bad.tif", "a.tif", "bad.tif cannot be read", id="damaged"),
        pytest.param("empty", "empty", "no image in empty has a label file", id="no-pair"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(images, labels, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", np.ones((40, 40), np.uint8))
    (tmp_path / "bad.tif").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=message):
        labelled_items(images, labels)


def test_too_few_objects_are_counted_in_the_error():
    (image,), (mask,) = make_discs(1)
    mask[mask > 4] = 0
    with pytest.raises(TrainingError, match=r"too few labels: 4 objects .* 10 are needed"):
        split(image, mask)


def test_too_few_held_out_objects_are_counted_in_the_error():
    images, labels = make_discs(2)
    labels[0][labels[0] > 1] = 0
    labels[1][labels[1] > 10] = 0
    with pytest.raises(TrainingError, match="of 11 objects"):
        split(images, labels, 0.1)


def test_whole_images_are_held_out():
    tuning, held = split(*make_discs(5))
    assert (len(tuning), len(held)) == (4, 1)
    assert not {stack.name for stack in tuning} & {stack.name for stack in held}


def test_image_with_most_objects_is_learned_from():
    images, labels = make_discs(3)
    for row in (0, 2):
        labels[row][labels[row] > 3] = 0
    for seed in range(4):
        tuning, held = hold_out(labelled_items(images, labels), 0.1, seed=seed)
        assert max(count_objects([stack]) for stack in tuning) == 16
        assert count_objects(held) == 3


def test_last_frames_of_a_single_stack_are_held_out():
    images, labels = (np.stack(arrays) for arrays in make_discs(5))
    (tuning,), (held,) = split(images, labels, 0.4)
    assert (len(tuning), len(held)) == (3, 2)
    assert np.array_equal(held.frames, images[3:]) or held.frames.max() == 255
    assert (tuning.is_sequence, held.is_sequence) == (True, True)


def test_strip_of_a_single_image_is_held_out_without_objects_that_are_cut():
    (image,), (mask,) = make_discs(1)
    (tuning,), (held,) = split(image, mask, 0.3)
    assert tuning.labels.shape[1] + held.labels.shape[1] == 96
    shared = np.intersect1d(tuning.labels, held.labels)
    assert shared.tolist() == [0]
    assert count_objects([held]) >= 4


def test_names_that_are_too_long_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="too long"):
        labelled_items("a" * 300, "a" * 300)
    with pytest.raises(OutputError, match="too long"):
        TuningFiles("a" * 300 + ".safetensors")
