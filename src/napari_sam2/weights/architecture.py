"""Recognise the configuration of weights by their names and shapes, and build the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_sam2._errors import CheckpointError
from napari_sam2.network.config import CONFIGS, SAM2Config
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights.files import Weights

__all__ = ["build_network"]

_BLOCK = re.compile(r"^image_encoder\.trunk\.blocks\.(\d+)\.")
_MEMORY = re.compile(
    r"^(maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial|mask_downsample\.|obj_ptr_proj\."
    r"|obj_ptr_tpos_proj\.|memory_attention\.|memory_encoder\.)"
)
# Tables that some versions saved, although they can be computed from the configuration.
_HARMLESS = re.compile(r"(\.freqs_cis|\.rope_embeddings_(cos|sin)|\.rotary_emb\.inv_freq)$")
_DENSE_HEAD = "dense_head."
_DENSE_BLOCK = re.compile(r"dense_head\.pixel_blocks\.convs\.(\d+)\.")
_FINE_BLOCK = re.compile(r"sam_mask_decoder\.fine_blocks\.blocks\.(\d+)\.")
_NAMED = 3  # of several differences, this many are named
_MAX_MEMORIES = 64  # time slots; released models have 7
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def build_network(weights: Weights, source: str) -> SAM2:
    """Build the network of a set of weights.

    Parameters
    ----------
    weights : Weights
        Under the released names.
    source : str
        Name of the weights in error messages.

    Returns
    -------
    SAM2
        On the CPU, in the precision of the file. If the weights are those of an image model alone
        (``Sam2Model`` of transformers), its memory refuses to run.

    Raises
    ------
    CheckpointError
        If the weights match no configuration; the message names the closest one and the first differences.
    """
    tensors = {key: tensor for key, tensor in weights.tensors.items() if not _HARMLESS.search(key)}
    is_image_only = not any(_MEMORY.match(key) for key in tensors)
    config = _recognise(tensors, weights.model)
    network = None if config is None else _empty_network(config)
    if network is None or _misfits(_shapes_of(network), tensors, is_image_only=is_image_only):
        raise CheckpointError(_explain(tensors, source, weights.model, is_image_only=is_image_only))
    _check_tensors(tensors, source)
    _check_values(tensors, source)
    network.load_state_dict(tensors, strict=not is_image_only, assign=True)
    if is_image_only:
        _refuse_memory(network, source)
    if weights.image_size is not None:
        network.image_size = weights.image_size
    return network


def _recognise(tensors: Mapping[str, Tensor], named: str | None) -> SAM2Config | None:
    """The configuration with the widths and depths of the weights, if there is one."""
    embed = tensors["image_encoder.trunk.pos_embed"]
    if embed.ndim != 4:
        return None
    measures = (embed.shape[1], tuple(embed.shape[2:]), _count(_BLOCK, tensors), _hidden_dim(tensors))
    memories = tensors.get("maskmem_tpos_enc")
    is_sam21 = "no_obj_embed_spatial" in tensors or memories is None
    fitting = [
        config
        for config in CONFIGS.values()
        if config.is_sam21 == is_sam21
        and measures
        == (config.trunk.embed_dim, config.trunk.position_grid, sum(config.trunk.stages), config.hidden_dim)
    ]
    if not fitting:
        return None
    config = next((config for config in fitting if config.name == named), fitting[0])
    # weights of this model from before it had a dense head, and image models, go without one
    config = replace(
        config,
        has_dense_head=config.has_dense_head and any(key.startswith(_DENSE_HEAD) for key in tensors),
        num_dense_blocks=min(config.num_dense_blocks, _count(_DENSE_BLOCK, tensors)),
        num_fine_blocks=min(config.num_fine_blocks, _count(_FINE_BLOCK, tensors)),
    )
    if memories is None or memories.ndim == 0:
        return config
    return replace(config, num_memories=min(max(len(memories), 1), _MAX_MEMORIES))


def _count(block: re.Pattern[str], tensors: Mapping[str, Tensor]) -> int:
    return len({match.group(1) for key in tensors if (match := block.match(key))})


def _hidden_dim(tensors: Mapping[str, Tensor]) -> int | None:
    weight = tensors.get("image_encoder.neck.convs.0.conv.weight")
    return None if weight is None or weight.ndim == 0 else len(weight)


def _misfits(shapes: Mapping[str, Size], tensors: Mapping[str, Tensor], *, is_image_only: bool) -> list[str]:
    """Differences between the weights and those that a network needs, one sentence for each kind."""
    expected = {key: shape for key, shape in shapes.items() if not (is_image_only and _MEMORY.match(key))}
    found: dict[str, Size] = {key: tensor.shape for key, tensor in tensors.items()}
    wrong = (
        f"{key} {tuple(found[key])} instead of {tuple(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    )
    kinds = (
        ("missing", (key for key in expected if key not in found)),
        ("unexpected", (key for key in found if key not in expected)),
        ("of another shape", wrong),
    )
    return [f"{kind}: {text}" for kind, keys in kinds if (text := _first(keys))]


def _first(keys: Iterable[str]) -> str:
    names = list(keys)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _explain(tensors: Mapping[str, Tensor], source: str, named: str | None, *, is_image_only: bool) -> str:
    nearest: SAM2Config | None = None
    most = -1
    for config in CONFIGS.values():
        shapes = _shapes(config)
        matching = sum(key in tensors and tensors[key].shape == shape for key, shape in shapes.items())
        score = 2 * matching - len(shapes)
        if nearest is None or score > most:
            nearest, most = config, score
    assert nearest is not None
    reasons = "; ".join(_misfits(_shapes(nearest), tensors, is_image_only=is_image_only))
    says = f" (the file states {named})" if named else ""
    return (
        f"{source} matches no known configuration{says}; the closest is {nearest.name}. {reasons}. "
        "If the file is incomplete, download it again; weights of a modified architecture cannot be loaded"
    )


def _check_tensors(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors that are not plain arrays of floating-point numbers."""
    for key, tensor in tensors.items():
        if tensor.dtype not in _PRECISIONS:
            raise CheckpointError(
                f"{key} in {source} is {tensor.dtype}; expected float32, float16, bfloat16 or float64: "
                "use the weights before quantisation"
            )
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.numel() == 0:
            what = "empty" if tensor.numel() == 0 else f"{tensor.layout} on {tensor.device}"
            raise CheckpointError(f"{key} in {source} is {what}, not an array of numbers; save the weights themselves")


def _check_values(tensors: Mapping[str, Tensor], source: str) -> None:
    for key, tensor in tensors.items():
        if not all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor)):
            raise CheckpointError(
                f"{key} in {source} contains NaN or infinite numbers: the file is damaged, or the training that "
                "wrote it diverged; use an earlier checkpoint"
            )


def _refuse_memory(network: SAM2, source: str) -> None:
    """Have an image model, which has no memory weights, raise an error when it is asked to track."""

    def refuse(_module: nn.Module, _inputs: object) -> None:
        raise CheckpointError(
            f"{source} contains an image model without memory: it can segment images, but tracking needs the "
            "video weights (Sam2VideoModel, or a released checkpoint)"
        )

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if _MEMORY.match(name):
                parameter.zero_()
    for part in (network.memory_attention, network.memory_encoder, network.obj_ptr_proj):
        part.register_forward_pre_hook(refuse)


@cache
def _shapes(config: SAM2Config) -> Mapping[str, Size]:
    """Names and shapes of the weights of a configuration; building all of its layers takes a tenth of a second."""
    return _shapes_of(_empty_network(config))


def _shapes_of(network: nn.Module) -> Mapping[str, Size]:
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


class _WithoutInitialisation(TorchFunctionMode):
    """Skips the initialisation of new parameters, which takes far longer than reading the file."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else keywords["tensor"]
        return func(*args, **keywords)


def _empty_network(config: SAM2Config) -> SAM2:
    with _WithoutInitialisation():
        return SAM2(config)
