"""Which weights a fine-tuning changes: the decoder, low-rank adapters on the encoder besides, or everything."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_sam2._errors import TrainingError
from napari_sam2._messages import Message, given
from napari_sam2.network.sam2 import SAM2

__all__ = ["PARTS", "LowRank", "Part", "plain_state", "prepare_part"]

Part = Literal["decoder", "adapters", "all"]
PARTS: tuple[Part, ...] = get_args(Part)
_ATTENTION_LINEAR = ("attn.qkv", "attn.proj")


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a frozen weight; the product starts as zero.

    Parameters
    ----------
    weight : Tensor
        (out, in) that it is added to.
    rank : int
        Columns of the first and rows of the second matrix.

    References
    ----------
    .. [1] Hu et al., LoRA, 2021. arXiv:2106.09685
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rank = min(rank, *weight.shape)
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) -> (out, in)."""
        return weight + (self.up @ self.down).to(weight.dtype)


def prepare_part(model: SAM2, part: str, *, rank: int = 8, seed: int = 0) -> None:
    """Freeze the parameters that are not trained, and add adapters if requested.

    Parameters
    ----------
    model : SAM2
        Changed in place. What it computes stays the same.
    part : {"decoder", "adapters", "all"}
        "decoder": prompt encoder, mask decoder and dense head. "adapters": these, and low-rank additions to the
        attention of the image encoder. "all": every weight.
    rank : int, default 8
        Of the adapters.
    seed : int, default 0
        Of their starting values.

    Raises
    ------
    TrainingError
        If the part is not known or the rank is below 1.
    """
    if part not in PARTS:
        raise TrainingError(Message(given("part", part), f" was given; expected {', '.join(PARTS)}"))
    if rank < 1:
        raise TrainingError(f"an adapter rank of {rank} was given; it must be at least 1")
    model.requires_grad_(part == "all")
    model.sam_prompt_encoder.requires_grad_(True)
    model.sam_mask_decoder.requires_grad_(True)
    if model.dense_head is not None:
        model.dense_head.requires_grad_(True)
    if part != "adapters":
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.image_encoder.trunk.named_modules():
            if isinstance(module, nn.Linear) and name.endswith(_ATTENTION_LINEAR):
                parametrize.register_parametrization(module, "weight", LowRank(module.weight.detach(), rank))


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """State dict under the released names, adapters merged into the weights that they are added to."""
    owners = {name: module for name, module in model.named_modules() if parametrize.is_parametrized(module)}
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        owner, found, rest = key.partition(".parametrizations.")
        if not found:
            state[key] = tensor
        elif rest.endswith(".original"):
            name = rest.removesuffix(".original")
            state[f"{owner}.{name}"] = getattr(owners[owner], name).detach()
    return state
