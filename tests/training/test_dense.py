"""The dense head: what it is asked, and that it can learn it."""

from __future__ import annotations

import numpy as np
import torch

from factories import make_config
from napari_sam2.network.dense_head import AFFINITY_OFFSETS, DENSE_CHANNELS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.dense import dense_distances, dense_loss, dense_targets


def make_labels() -> torch.Tensor:
    labels = torch.zeros(1, 64, 64, dtype=torch.int32)
    labels[:, 8:32, 8:32] = 1
    labels[:, 32:56, 8:32] = 2
    return labels


def make_distances() -> torch.Tensor:
    return torch.from_numpy(dense_distances(make_labels()[0].numpy()))[None]


def test_targets_tell_touching_objects_apart():
    target, known = dense_targets(make_labels())
    assert target.shape == known.shape == (1, 2 + len(AFFINITY_OFFSETS), 16, 16)
    down = target[0, 2 + AFFINITY_OFFSETS.index((1, 0))]
    assert target[0, 0, 7, 4]
    assert target[0, 0, 8, 4]
    assert down[6, 4]
    assert not down[7, 4]  # the last row of object 1: below it lies object 2
    assert down[8, 4]


def test_border_runs_around_and_between_objects():
    target, _ = dense_targets(make_labels())
    border = target[0, 1]
    assert border[2:14, 2].all()
    assert border[8, 2:8].all()
    assert not border[4:7, 4:7].any()
    assert not border[:, 12:].any()


def test_affinities_are_unknown_where_the_neighbour_lies_outside():
    _, known = dense_targets(torch.ones(1, 64, 64, dtype=torch.int32))
    for row, (down, right) in enumerate(AFFINITY_OFFSETS, start=2):
        expected = torch.ones(16, 16, dtype=torch.bool)
        expected[16 - down :] = False
        if right > 0:
            expected[:, 16 - right :] = False
        if right < 0:
            expected[:, :-right] = False
        assert torch.equal(known[0, row], expected), (down, right)


def test_unlabelled_places_teach_nothing_but_what_is_no_object_of_a_label():
    labels = make_labels()
    labels[labels == 0] = -1
    target, known = dense_targets(labels)
    assert not known[0, 0, :, 12].any()
    assert known[0, 0, 3:7, 3:7].all()
    right = 2 + AFFINITY_OFFSETS.index((0, 1))
    assert known[0, right, 4, 7]  # an object and something else
    assert not target[0, right, 4, 7]
    assert not known[0, right, 4, 12]  # two unknown places


def test_distances_are_largest_in_the_middle_of_each_object():
    depth, centre = dense_distances(make_labels()[0].numpy()).astype(np.float32)
    for rows in (slice(2, 8), slice(8, 14)):
        one = depth[rows, 2:8]
        assert one.max() > 0.8
        assert one[2:4, 2:4].min() > one[0].max()
        assert np.unravel_index(centre[rows, 2:8].argmax(), (6, 6)) in {(2, 2), (2, 3), (3, 2), (3, 3)}
    assert depth[:, 9:].max() == 0
    assert centre[:, 9:].max() == 0


def test_edge_of_the_crop_is_no_outline():
    depth, _ = dense_distances(np.ones((32, 32), np.int32))
    assert depth.min() == 1


def test_head_learns_an_image_from_the_features_of_the_network():
    torch.manual_seed(0)
    model = SAM2(make_config())
    head = model.dense_head
    assert head is not None
    image = torch.where(make_labels()[:, None] > 0, 1.0, -1.0).expand(-1, 3, -1, -1)
    assert head(model.encode_image(image), image).shape == (1, DENSE_CHANNELS, 16, 16)
    optimizer = torch.optim.Adam([*model.image_encoder.parameters(), *head.parameters()], lr=1e-3)
    losses = []
    for _ in range(30):
        loss = dense_loss(head(model.encode_image(image), image), make_labels(), make_distances())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
