"""Batches of objects: those with the same memory layout go through the network together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from napari_sam2._errors import DeviceError
from napari_sam2.inference.tracking.memory_bank import FrameMemory, Recall
from napari_sam2.inference.tracking.tracked_object import TrackedObject
from napari_sam2.inference.views.view import View
from napari_sam2.network.features import DecodedMasks, FrameSegmentation, ImageEmbedding, MemoryBatch
from napari_sam2.network.sam2 import SAM2

__all__ = ["attend", "bytes_per_object", "encode_memories", "group_by_layout", "take_row", "to_frame_memories"]


def bytes_per_object(model: SAM2) -> int:
    """Peak memory of one more object in a batch: scores, keys and values of its attention, and masks."""
    config = model.config
    side = model.image_size
    tokens = (side // 16) ** 2
    keys = config.num_memories * tokens
    width = 4 if model.dtype == torch.float32 else 2
    attention = keys * (2 * config.hidden_dim + 2 * config.memory_dim) + 256 * keys + 8 * tokens * config.hidden_dim
    masks = 6 * side * side + 3 * (side // 4) ** 2 * config.hidden_dim
    return width * (attention + masks)


def group_by_layout(
    recalls: Sequence[tuple[TrackedObject, Recall]], *, max_objects: int, apart: Collection[int] = ()
) -> list[list[tuple[TrackedObject, Recall]]]:
    """Group objects by memory layout, at most ``max_objects`` per batch, in the given order.

    Objects in ``apart`` never share a batch with the others.
    """
    groups: dict[object, list[tuple[TrackedObject, Recall]]] = defaultdict(list)
    for tracked, recall in recalls:
        groups[recall.layout, tracked.object_id in apart].append((tracked, recall))
    return [
        group[start : start + max_objects] for group in groups.values() for start in range(0, len(group), max_objects)
    ]


def attend(model: SAM2, embedding: ImageEmbedding, recalls: Sequence[Recall], *, num_frames: int) -> Tensor:
    """Features of a frame conditioned on the memories of O objects with the same layout, (O, C, h, w)."""
    spatial, pointers = recalls[0].spatial, recalls[0].pointers
    features = tuple(
        torch.cat([_features(recall.spatial[i][0]) for recall in recalls]).to(model.device, model.dtype)
        for i in range(len(spatial))
    )
    rows = [memory.pointer for recall in recalls for memory, _ in recall.pointers]  # each (1, C)
    batch = MemoryBatch(
        features,
        tuple(slot for _, slot in spatial),
        torch.cat(rows).unflatten(0, (len(recalls), -1)) if rows else None,
        tuple(float(offset) for _, offset in pointers),
        min(num_frames, model.config.max_pointers) - 1,
    )
    try:
        return model.attend_to_memory(embedding, batch)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{model.device} ran out of memory with a batch of {len(recalls)} object(s); "
            "use a smaller batch_bytes or image_size"
        ) from error


def _features(memory: FrameMemory) -> Tensor:
    assert memory.features is not None, "recall returns encoded memories only"
    return memory.features


def encode_memories(
    model: SAM2, embedding: ImageEmbedding, logits: Tensor, object_score: Tensor, *, binarise: bool, dtype: torch.dtype
) -> Tensor:
    """Spatial memories (O, Cm, h, w) in the precision of the memory bank."""
    return model.encode_memory(embedding, logits, object_score, binarise=binarise).to(dtype)


def to_frame_memories(
    found: FrameSegmentation,
    features: Tensor | None,
    views: Sequence[View],
    *,
    frame: int,
    reverse: bool,
    is_conditioning: bool,
) -> list[FrameMemory]:
    """Split a batch into one memory per object."""
    first = FrameMemory(
        frame, is_conditioning, reverse, views[0], found.logits[:1], found.iou[:1].float(),
        found.object_score[:1].float(), found.pointer[:1],
    )  # fmt: skip
    return [
        replace(
            first,
            view=view,
            logits=found.logits[i : i + 1],
            iou=found.iou[i : i + 1].float(),
            object_score=found.object_score[i : i + 1].float(),
            pointer=found.pointer[i : i + 1],
            features=None if features is None else features[i : i + 1],
        )
        for i, view in enumerate(views)
    ]


def take_row(found: FrameSegmentation, row: int) -> FrameSegmentation:
    """The segmentation of one row of a batch."""
    one = slice(row, row + 1)
    return FrameSegmentation(
        found.logits[one],
        found.iou[one],
        found.object_score[one],
        found.pointer[one],
        DecodedMasks(*(value[one] for value in found.candidates)),
    )
