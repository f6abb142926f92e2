"""Weights saved by Hugging Face transformers (``Sam2Model``, ``Sam2VideoModel``), renamed to the released names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_sam2._errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HUGGING_FACE_ANCHOR", "from_hugging_face"]

HUGGING_FACE_ANCHOR = "vision_encoder.backbone.pos_embed"

_GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINTS = "prompt_encoder.point_embed.weight"
_COPIES = ("prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding")

_WHOLE = {
    **dict.fromkeys(_COPIES, _GAUSSIAN),
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "no_memory_embedding": "no_mem_embed",
    "no_memory_positional_encoding": "no_mem_pos_enc",
    "no_object_pointer": "no_obj_ptr",
    "occlusion_spatial_embedding_parameter": "no_obj_embed_spatial",
}
_ROOMS = (
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
)
_PARTS = (
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
    (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
    (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
    (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
    (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
    (r"\.upscale_conv1\.", ".output_upscaling.0."),
    (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
    (r"\.upscale_conv2\.", ".output_upscaling.3."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (r"\.layer_norm(\d*)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"^(memory_encoder\.fuser\..*)\.scale$", r"\1.gamma"),
)
_MLP = re.compile(r"^(.*(?:\.mlp|_mlps\.\d+|_head|obj_ptr_proj))\.(proj_in|proj_out|layers\.(\d+))\.(weight|bias)$")
_DOWNSAMPLER = re.compile(
    r"^(memory_encoder\.mask_downsampler)\.(?:layers\.(\d+)\.(conv|layer_norm)|final_conv)\.(.*)$"
)


def from_hugging_face(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename a state dict of transformers.

    Parameters
    ----------
    state : mapping of str to Tensor
        Keys of ``Sam2Model`` or ``Sam2VideoModel``, without a prefix.
    source : str
        Name of the weights in error messages.

    Returns
    -------
    dict of str to Tensor
        The same tensors under the released names; the four point embeddings become separate tensors. An unknown
        name is kept, so that it can be reported.

    Raises
    ------
    CheckpointError
        If the two copies of the position encoding differ.
    """
    renamed: dict[str, Tensor] = {}
    _check_copies(state, source)
    for key, tensor in state.items():
        if key == _POINTS and tensor.ndim == 2:
            for index in range(len(tensor)):
                renamed[f"sam_prompt_encoder.point_embeddings.{index}.weight"] = tensor[index : index + 1].clone()
        else:
            renamed[_rename(key, state)] = tensor
    return renamed


def _check_copies(state: Mapping[str, Tensor], source: str) -> None:
    first, second = (state.get(key) for key in _COPIES)
    if first is not None and second is not None and (first.shape != second.shape or bool((first != second).any())):
        raise CheckpointError(
            f"{_COPIES[0]} and {_COPIES[1]} differ in {source}, but the network has one position "
            "encoding; these are not trained weights"
        )


def _rename(key: str, state: Mapping[str, Tensor]) -> str:
    if key in _WHOLE:
        return _WHOLE[key]
    downsampler = _DOWNSAMPLER.match(key)
    if downsampler is not None:
        return _rename_downsampler(downsampler, state)
    new = key
    for pattern, replacement in (*_ROOMS, *_PARTS):
        new = re.sub(pattern, replacement, new)
    mlp = _MLP.match(new)
    if mlp is None:
        return new
    stem, part, inner, leaf = mlp.groups()
    if part == "proj_in":
        layer = 0
    elif part == "proj_out":
        inner_layers = f"{key.rsplit('.', 2)[0]}.layers."
        layer = 1 + sum(other.startswith(inner_layers) and other.endswith(".weight") for other in state)
    else:
        layer = 1 + int(inner)
    return f"{stem}.layers.{layer}.{leaf}"


def _rename_downsampler(match: re.Match[str], state: Mapping[str, Tensor]) -> str:
    """The released names number the convolutions, normalisations and activations of all steps consecutively."""
    stem, step, part, leaf = match.groups()
    if step is None:
        num_steps = sum(key.startswith(f"{stem}.layers.") and key.endswith(".conv.weight") for key in state)
        return f"{stem}.encoder.{3 * num_steps}.{leaf}"
    return f"{stem}.encoder.{3 * int(step) + (part == 'layer_norm')}.{leaf}"
