"""A deeper image encoder starts where a shallower one ended."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_sam2._errors import TrainingError
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.growth import deepen
from napari_sam2.training.initialise import initialise


def make_micro(stages: tuple[int, int, int, int], global_blocks: tuple[int, ...], seed: int = 0) -> SAM2:
    config = CONFIGS["sam2_micro"]
    model = SAM2(replace(config, trunk=replace(config.trunk, stages=stages, global_blocks=global_blocks)))
    initialise(model, seed)
    return model.eval()


SHALLOW = ((1, 2, 4, 1), (4, 6))


@pytest.mark.parametrize("deep", [((1, 3, 8, 1), (5, 7, 9, 11)), ((2, 2, 5, 2), (5, 7)), SHALLOW])
def test_the_deeper_network_gives_the_same(deep: tuple[tuple[int, int, int, int], tuple[int, ...]]) -> None:
    shallow, model = make_micro(*SHALLOW), make_micro(*deep, seed=1)
    model.load_state_dict(deepen(model, shallow.state_dict()))
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, got = shallow.encode_image(image), model.encode_image(image)
    assert (got.embed - expected.embed).abs().max() < 1e-5
    assert (got.high_res[0] - expected.high_res[0]).abs().max() < 1e-5


def test_new_blocks_learn_from_the_first_step() -> None:
    shallow, model = make_micro(*SHALLOW), make_micro((1, 3, 4, 1), (5, 7), seed=1)
    model.load_state_dict(deepen(model, shallow.state_dict()))
    model.encode_image(torch.randn(1, 3, 64, 64)).embed.square().sum().backward()
    new = model.image_encoder.trunk.blocks[3]
    assert new.attn.proj.weight.grad.abs().max() > 0  # type: ignore[union-attr]


def test_weights_of_a_deeper_network_are_refused() -> None:
    model = make_micro(*SHALLOW)
    with pytest.raises(TrainingError, match=r"\(1, 3, 4, 1\) blocks per stage were given .* with \(1, 2, 4, 1\)"):
        deepen(model, make_micro((1, 3, 4, 1), (5, 7)).state_dict())


def test_weights_of_another_network_are_refused() -> None:
    tensors = make_micro(*SHALLOW).state_dict()
    del tensors["maskmem_tpos_enc"]
    with pytest.raises(TrainingError, match="maskmem_tpos_enc"):
        deepen(make_micro(*SHALLOW), tensors)
