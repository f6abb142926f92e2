"""Which configuration a set of weights belongs to, told by names and shapes, and the network filled with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
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
# Tables that some versions saved although they follow from the configuration.
_HARMLESS = re.compile(r"(\.freqs_cis|\.rope_embeddings_(cos|sin)|\.rotary_emb\.inv_freq)$")
_NAMED = 3


def build_network(weights: Weights, source: str) -> SAM2:
    """The network that a set of weights belongs to.

    Parameters
    ----------
    weights : Weights
        With the released names.
    source : str
        What to call the weights in an error.

    Returns
    -------
    SAM2
        On the CPU, in the precision of the file. If the weights are those of an image model alone
        (``Sam2Model`` of transformers), its memory refuses to run.

    Raises
    ------
    CheckpointError
        If the weights fit no configuration; it names the nearest one and the first names that do not fit.
    """
    tensors = {key: tensor for key, tensor in weights.tensors.items() if not _HARMLESS.search(key)}
    is_image_only = not any(_MEMORY.match(key) for key in tensors)
    config = _recognise(tensors, weights.model)
    network = None if config is None else _empty_network(config)
    if network is None or _misfits(network, tensors, is_image_only=is_image_only):
        raise CheckpointError(_explain(tensors, source, weights.model, is_image_only=is_image_only))
    _check_numbers(tensors, source)
    network.load_state_dict(tensors, strict=not is_image_only, assign=True)
    if is_image_only:
        _refuse_memory(network, source)
    if weights.image_size is not None:
        network.image_size = weights.image_size
    return network


def _recognise(tensors: Mapping[str, Tensor], named: str | None) -> SAM2Config | None:
    """The row of the table whose measures show in the weights."""
    embed = tensors["image_encoder.trunk.pos_embed"]
    measures = (embed.shape[1], tuple(embed.shape[2:]), _num_blocks(tensors), _hidden_dim(tensors))
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
    return config if memories is None else replace(config, num_memories=len(memories))


def _num_blocks(tensors: Mapping[str, Tensor]) -> int:
    return len({match.group(1) for key in tensors if (match := _BLOCK.match(key))})


def _hidden_dim(tensors: Mapping[str, Tensor]) -> int | None:
    weight = tensors.get("image_encoder.neck.convs.0.conv.weight")
    return None if weight is None else len(weight)


def _misfits(network: nn.Module, tensors: Mapping[str, Tensor], *, is_image_only: bool) -> list[str]:
    """What keeps the weights from filling the network, one sentence for each kind."""
    expected = {
        key: tensor.shape for key, tensor in network.state_dict().items() if not (is_image_only and _MEMORY.match(key))
    }
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
    nearest: SAM2 | None = None
    most = -1
    for config in CONFIGS.values():
        network = _empty_network(config)
        state = network.state_dict()
        matching = sum(key in tensors and tensors[key].shape == tensor.shape for key, tensor in state.items())
        score = 2 * matching - len(state)
        if nearest is None or score > most:
            nearest, most = network, score
    assert nearest is not None
    reasons = "; ".join(_misfits(nearest, tensors, is_image_only=is_image_only))
    says = f" (the file says {named})" if named else ""
    return (
        f"{source} fits no known configuration{says}; the nearest is {nearest.config.name}. {reasons}. "
        "If it was cut short, fetch it again; weights of a changed architecture cannot be loaded"
    )


def _check_numbers(tensors: Mapping[str, Tensor], source: str) -> None:
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.is_sparse:
            raise CheckpointError(
                f"{key} in {source} is {tensor.dtype}; allowed are float32, float16 and bfloat16: "
                "use the weights before quantisation"
            )
        if not all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor)):
            raise CheckpointError(
                f"{key} in {source} holds NaN or infinite numbers: the file is damaged, or the training that "
                "wrote it diverged; use an earlier checkpoint"
            )


def _refuse_memory(network: SAM2, source: str) -> None:
    """An image model has no memory weights: let it say so instead of tracking with nonsense."""

    def refuse(_module: nn.Module, _inputs: object) -> None:
        raise CheckpointError(
            f"{source} holds an image model without memory: images can be segmented, but tracking needs the "
            "video weights (Sam2VideoModel, or a released checkpoint)"
        )

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if _MEMORY.match(name):
                parameter.zero_()
    for part in (network.memory_attention, network.memory_encoder, network.obj_ptr_proj):
        part.register_forward_pre_hook(refuse)


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: drawing starting values takes far longer than reading the file."""

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
