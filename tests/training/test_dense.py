"""The training-only head: what it is asked, and that it can learn it."""

from __future__ import annotations

import torch

from factories import make_config
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.dense import OFFSETS, DenseHead, dense_loss, dense_targets


def make_labels() -> torch.Tensor:
    labels = torch.zeros(1, 64, 64, dtype=torch.int32)
    labels[:, 8:32, 8:32] = 1
    labels[:, 32:56, 8:32] = 2
    return labels


def test_targets_tell_touching_objects_apart():
    target = dense_targets(make_labels())
    assert target.shape == (1, 1 + len(OFFSETS), 16, 16)
    down = target[0, 1 + OFFSETS.index((1, 0))]
    assert target[0, 0, 7, 4]
    assert target[0, 0, 8, 4]
    assert down[6, 4]
    assert not down[7, 4]  # the last row of object 1: below it lies object 2
    assert down[8, 4]


def test_targets_are_false_where_the_neighbour_lies_outside():
    target = dense_targets(torch.ones(1, 64, 64, dtype=torch.int32))
    for row, (down, right) in enumerate(OFFSETS, start=1):
        expected = torch.ones(16, 16, dtype=torch.bool)
        expected[16 - down :] = False
        if right > 0:
            expected[:, 16 - right :] = False
        if right < 0:
            expected[:, :-right] = False
        assert torch.equal(target[0, row], expected), (down, right)


def test_head_learns_an_image_from_the_features_of_the_network():
    torch.manual_seed(0)
    config = make_config()
    model, head = SAM2(config), DenseHead(config)
    image = torch.where(make_labels()[:, None] > 0, 1.0, -1.0).expand(-1, 3, -1, -1)
    parameters = [*model.image_encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for _ in range(30):
        loss = dense_loss(head(model.encode_image(image)), make_labels())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
