"""Weights of a shallower image encoder as the start of a deeper one that computes the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_sam2._errors import TrainingError
from napari_sam2.network.sam2 import SAM2

__all__ = ["deepen"]

_BLOCK = "image_encoder.trunk.blocks."
_BRANCH_ENDS = ("attn.proj.", "mlp.layers.1.")  # zero here, a block adds nothing to what goes through it


def deepen(model: SAM2, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ``model`` from one of the same network with fewer blocks in some stages of the image encoder.

    The blocks that are new come last in their stage. Inside they keep the values they have in ``model``, but their
    branches end in zeros: until it is trained, the deeper network gives what the shallower one gave, provided that
    the blocks they share attend in the same windows.

    Parameters
    ----------
    model : SAM2
        The deeper network, with the starting values for what is new.
    tensors : mapping of str to Tensor
        The shallower network's state dict.

    Returns
    -------
    dict of str to Tensor
        For ``model.load_state_dict``.

    Raises
    ------
    TrainingError
        If the two differ in more than the number of blocks.
    """
    own = model.state_dict()
    trunk = model.config.trunk
    given = _blocks_by_stage(tensors, trunk.channels)
    start = 0
    moved = {name: tensor for name, tensor in tensors.items() if not name.startswith(_BLOCK)}
    for depth, blocks in zip(trunk.stages, given, strict=True):
        for offset in range(depth):
            target = f"{_BLOCK}{start + offset}."
            if offset < len(blocks):
                source = f"{_BLOCK}{blocks[offset]}."
                moved |= {target + n.removeprefix(source): t for n, t in tensors.items() if n.startswith(source)}
                continue
            for name in (n for n in own if n.startswith(target)):
                ends = name.removeprefix(target).startswith(_BRANCH_ENDS)
                moved[name] = torch.zeros_like(own[name]) if ends else own[name].clone()
        start += depth
    depths = tuple(len(blocks) for blocks in given)
    misfits = sorted(own.keys() ^ moved.keys()) or [n for n in own if own[n].shape != moved[n].shape]
    if misfits or any(had > has for had, has in zip(depths, trunk.stages, strict=True)):
        raise TrainingError(
            f"weights with {depths} blocks per stage were given to start a {model.config.name} with {trunk.stages}; "
            f"they may have fewer blocks and must be alike in all else ({', '.join(misfits[:3]) or 'more blocks'})"
        )
    return moved


def _blocks_by_stage(tensors: Mapping[str, Tensor], channels: tuple[int, ...]) -> list[list[int]]:
    """Numbers of the blocks of each stage, told by the channels that they put out."""
    stages: list[list[int]] = [[] for _ in channels]
    index = 0
    while (ends := tensors.get(f"{_BLOCK}{index}.attn.proj.weight")) is not None:
        if len(ends) in channels:
            stages[channels.index(len(ends))].append(index)
        index += 1
    return stages
