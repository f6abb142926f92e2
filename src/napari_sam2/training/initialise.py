"""Starting values that let a small SAM 2 leave the plateau of empty masks."""

from __future__ import annotations

import math

import torch
from torch import nn

from napari_sam2.network.attention import Attention
from napari_sam2.network.layers import LayerNorm2d
from napari_sam2.network.sam2 import SAM2

__all__ = ["initialise", "match_memory_scale"]

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
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: torch.Tensor, std: float) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            normal(module.weight, module.in_features**-0.5)
            module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            normal(module.weight, (module.in_channels / module.groups * module.kernel_size[0] * module.kernel_size[1]) ** -0.5)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.ConvTranspose2d):
            normal(module.weight, module.in_channels**-0.5)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            normal(module.weight, 0.5)
        elif isinstance(module, nn.LayerNorm | LayerNorm2d):
            module.weight.fill_(1.0)
            module.bias.zero_()
    trunk = model.image_encoder.trunk
    normal(trunk.pos_embed, 0.02)
    normal(trunk.pos_embed_window, 0.02)
    for block in trunk.blocks:
        block.attn.proj.weight.mul_(0.3)
        block.mlp.layers[1].weight.mul_(0.3)
    transformer = model.sam_mask_decoder.transformer
    crosses: list[Attention] = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crosses += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for cross in crosses:
        cross.q_proj.weight.mul_(_QUERY_KEY_GAIN)
        cross.k_proj.weight.copy_(cross.q_proj.weight)
    matrix = model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    normal(matrix, 1.0)
    matrix.mul_(torch.logspace(0, math.log10(_FINEST_FREQUENCY), matrix.shape[1]))
    for lateral in model.image_encoder.neck.convs:
        lateral.conv.weight.mul_(0.3)  # position must not drown in content while nothing is learned yet
    for index in (0, 3):  # their normalisation would keep only the sign of a prompt's map if nothing were added to it
        normal(model.sam_prompt_encoder.mask_downscaling[index].bias, 1.0)
    for mlp in model.sam_mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].bias.fill_(-0.02)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)
    normal(model.maskmem_tpos_enc, 0.3)
    normal(model.no_mem_embed, 0.02)
    normal(model.no_obj_ptr, 0.1)
    if model.config.is_sam21:
        normal(model.no_obj_embed_spatial, 0.1)
    for memory_layer in model.memory_attention.layers:
        memory_layer.self_attn.out_proj.weight.mul_(0.2)
        memory_layer.linear2.weight.mul_(0.2)
        cross_attention = memory_layer.cross_attn_image
        # Pairs of channels turn with their distance; a shared constant makes a place look at its own past.
        cross_attention.q_proj.weight.mul_(0.5)
        cross_attention.k_proj.weight.mul_(0.5)
        cross_attention.q_proj.bias.fill_(2.0)
        cross_attention.k_proj.bias.fill_(2.0)
    for fuser_block in model.memory_encoder.fuser.layers:
        fuser_block.gamma.fill_(0.1)


@torch.no_grad()
def match_memory_scale(model: SAM2, features: torch.Tensor) -> None:
    """Let the memory attention hand on features as the mask decoder knows them.

    Its last normalisation gets the mean and spread of ``features`` (B, C, h, w) per channel, so that a tracked
    frame first looks to the decoder like a frame without memory.
    """
    norm = model.memory_attention.norm
    norm.bias.copy_(features.mean((0, 2, 3)))
    norm.weight.copy_(features.std((0, 2, 3)))
