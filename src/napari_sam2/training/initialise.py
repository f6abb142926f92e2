"""Starting values that let a small SAM 2 leave the plateau of empty masks."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn

from napari_sam2.network.features import ImageEmbedding
from napari_sam2.network.layers import LayerNorm2d
from napari_sam2.network.sam2 import SAM2

__all__ = ["MEMORY_PARTS", "initialise", "restart_memory"]

MEMORY_PARTS = (
    "memory_attention.",
    "memory_encoder.",
    "obj_ptr_",
    "maskmem_tpos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
)

_DENSE_HEAD = "dense_head"
_PLACE_BIAS = 2.5  # of queries and keys of memories
_CROSS_GAIN = 4.0  # of what memories add to features, whose scale is about 8
_MASK_SHARE = 1.5  # of the mask in a memory, in standard deviations of the features in it
_MASK_KEPT = 0.4  # of a mask prompt's logits, in those of the candidates
_QUERY_KEY_GAIN = 2.5
_FINEST_FREQUENCY = 6.0  # of the prompt encoding, relative to SAM's: the position frame is larger than the input


@torch.no_grad()
def initialise(model: SAM2, seed: int) -> None:
    """Fill a network with starting values.

    Notes
    -----
    Queries and keys of the decoder's cross-attentions start with equal projections, scaled up, so that a prompt
    token attends to the place whose position encoding it shares. The memory attention starts as a small
    correction: its branches are damped and its last normalisation keeps the scale of the features.
    """
    start = _Start(model, seed)
    fine_blocks = model.sam_mask_decoder.fine_blocks
    later = set() if fine_blocks is None else set(fine_blocks.modules())
    for name, part in model.named_children():
        if name != _DENSE_HEAD:  # it and the fine blocks come last, so that all else begins as in a model without them
            start.layers(part, but=later)
    start.normal("image_encoder.trunk.pos_embed", 0.02)
    start.normal("image_encoder.trunk.pos_embed_window", 0.02)
    for index in range(sum(model.config.trunk.stages)):
        start.scale(f"image_encoder.trunk.blocks.{index}.attn.proj.weight", 0.3)
        start.scale(f"image_encoder.trunk.blocks.{index}.mlp.layers.1.weight", 0.3)
    for index in range(4):  # position must not drown in content while nothing is learned yet
        start.scale(f"image_encoder.neck.convs.{index}.conv.weight", 0.3)
    _prompts_and_decoder(start)
    _memory(model, start)
    pixel_blocks = None
    if model.dense_head is not None:
        pixel_blocks = model.dense_head.pixel_blocks
        start.layers(model.dense_head, but=set() if pixel_blocks is None else set(pixel_blocks.modules()))
    if fine_blocks is not None:  # they add nothing at first
        start.layers(fine_blocks)
        fine_blocks.exit.weight.zero_()
    if pixel_blocks is not None:  # nor do these
        start.layers(pixel_blocks)
        pixel_blocks.exit.weight.zero_()


class _Start:
    """Sets parameters by their official names."""

    def __init__(self, model: SAM2, seed: int) -> None:
        self.model = model
        self.state = model.state_dict()
        self.generator = torch.Generator().manual_seed(seed)

    def fill_normal(self, tensor: torch.Tensor, std: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=self.generator) * std)

    def normal(self, name: str, std: float) -> None:
        self.fill_normal(self.state[name], std)

    def scale(self, name: str, factor: float) -> None:
        self.state[name].mul_(factor)

    def fill(self, name: str, value: float) -> None:
        self.state[name].fill_(value)

    def layers(self, part: nn.Module, *, but: Collection[nn.Module] = ()) -> None:
        """Every layer of a part keeps the variance of what goes through it."""
        for module in part.modules():
            if module in but:
                continue
            if isinstance(module, nn.Linear | nn.Conv2d):
                self.fill_normal(module.weight, module.weight[0].numel() ** -0.5)
            elif isinstance(module, nn.ConvTranspose2d):
                self.fill_normal(module.weight, module.in_channels**-0.5)
            elif isinstance(module, nn.Embedding):
                self.fill_normal(module.weight, 0.5)
            elif isinstance(module, nn.LayerNorm | LayerNorm2d):
                module.weight.fill_(1.0)
            bias = getattr(module, "bias", None)
            if isinstance(bias, torch.Tensor):
                bias.zero_()


def _prompts_and_decoder(start: _Start) -> None:
    decoder = "sam_mask_decoder"
    names = ("cross_attn_token_to_image", "cross_attn_image_to_token")
    crosses = [f"{decoder}.transformer.layers.{layer}.{name}" for layer in (0, 1) for name in names]
    crosses.append(f"{decoder}.transformer.final_attn_token_to_image")
    for cross in crosses:
        start.scale(f"{cross}.q_proj.weight", _QUERY_KEY_GAIN)
        start.state[f"{cross}.k_proj.weight"].copy_(start.state[f"{cross}.q_proj.weight"])
    matrix = start.state["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    start.fill_normal(matrix, 1.0)
    matrix.mul_(torch.logspace(0, math.log10(_FINEST_FREQUENCY), matrix.shape[1]))
    for index in (0, 3):  # their normalisation would keep only the sign of a prompt's map if nothing were added to it
        start.normal(f"sam_prompt_encoder.mask_downscaling.{index}.bias", 1.0)
    for index in range(4):
        start.fill(f"{decoder}.output_hypernetworks_mlps.{index}.layers.2.bias", -0.02)
    start.fill(f"{decoder}.pred_obj_score_head.layers.2.bias", 2.0)
    if start.model.config.keeps_mask:
        start.fill(f"{decoder}.mask_gate.weight", 0.0)
        start.fill(f"{decoder}.mask_gate.bias", _MASK_KEPT)
        start.scale(f"{decoder}.conv_mask.weight", 0.3)


def _memory(model: SAM2, start: _Start) -> None:
    start.normal("maskmem_tpos_enc", 0.3)
    start.normal("no_mem_embed", 0.02)
    start.normal("no_obj_ptr", 0.1)
    if model.config.is_sam21:
        start.normal("no_obj_embed_spatial", 0.1)
    for index in range(model.config.memory_layers):
        layer = f"memory_attention.layers.{index}"
        start.scale(f"{layer}.self_attn.out_proj.weight", 0.2)
        start.scale(f"{layer}.linear2.weight", 0.2)
        for projection in ("q_proj", "k_proj"):
            # Pairs of channels turn with their distance; a shared constant makes a place look at its own past.
            start.scale(f"{layer}.cross_attn_image.{projection}.weight", 0.5)
            start.fill(f"{layer}.cross_attn_image.{projection}.bias", 2.0)
    for index in (0, 1):
        start.fill(f"memory_encoder.fuser.layers.{index}.gamma", 0.1)


@torch.no_grad()
def _match_memory_scale(model: SAM2, features: torch.Tensor) -> None:
    """Let the memory attention hand on features as the mask decoder knows them.

    Its last normalisation gets the mean and spread of ``features`` (B, C, h, w) per channel, so that a tracked
    frame first looks to the decoder like a frame without memory.
    """
    norm = model.memory_attention.norm
    norm.bias.copy_(features.mean((0, 2, 3)))
    norm.weight.copy_(features.std((0, 2, 3)))


@torch.no_grad()
def restart_memory(
    model: SAM2, seed: int, features: torch.Tensor, masks: torch.Tensor, image_index: torch.Tensor
) -> None:
    """Give the memory encoder, the memory attention and the object pointers new starting values.

    Parameters
    ----------
    model : SAM2
        All other parts are kept.
    seed : int
        Of the values.
    features : Tensor
        (B, C, h, w) image features without memories, such as the network makes now.
    masks : Tensor
        (N, 1, 16h, 16w) masks of objects in them, 0 to 1.
    image_index : Tensor
        (N,) row of ``features`` that each object lies in.

    Notes
    -----
    Memories have unit variance per channel, to which the features and the mask contribute about equally: if either is
    much larger, the memory attention is saturated or does not see the mask, and learns nothing.
    """
    start = _Start(model, seed)
    attention, encoder = model.memory_attention, model.memory_encoder
    start.layers(encoder)
    start.layers(attention)
    start.normal("maskmem_tpos_enc", 0.3)
    if model.config.is_sam21:
        start.layers(model.obj_ptr_tpos_proj)
    for index in (0, 1):
        start.fill(f"memory_encoder.fuser.layers.{index}.gamma", 0.1)
    for index in range(model.config.memory_layers):
        layer = f"memory_attention.layers.{index}"
        start.scale(f"{layer}.self_attn.out_proj.weight", 0.5)
        start.scale(f"{layer}.linear2.weight", 0.5)
        start.scale(f"{layer}.cross_attn_image.out_proj.weight", _CROSS_GAIN)
        for projection in ("q_proj", "k_proj"):
            start.scale(f"{layer}.cross_attn_image.{projection}.weight", 0.5)
            start.fill(f"{layer}.cross_attn_image.{projection}.bias", _PLACE_BIAS)
    _match_memory_scale(model, model.without_memory(ImageEmbedding(features, (features, features))))
    seen, logits = features[image_index], masks * 20 - 10  # as SAM 2 scales masks for its memory
    _standardise(encoder.pix_feat_proj, encoder.pix_feat_proj(seen), 1.0)
    last = encoder.mask_downsampler.encoder[-1]
    assert isinstance(last, nn.Conv2d)
    _standardise(last, encoder.mask_downsampler(logits), _MASK_SHARE)
    _standardise(encoder.out_proj, encoder(seen, logits), 1.0)


def _standardise(layer: nn.Conv2d, output: torch.Tensor, scale: float) -> None:
    """Give the output (N, C, h, w) of a layer mean 0 and a standard deviation of ``scale`` in each channel."""
    assert layer.bias is not None
    mean, std = output.mean((0, 2, 3)), output.std((0, 2, 3)).clamp(min=1e-3)
    layer.weight.mul_((scale / std)[:, None, None, None])
    layer.bias.sub_(mean).mul_(scale / std)
