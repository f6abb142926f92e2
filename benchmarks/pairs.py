"""The same seeded weights in this package's network and in transformers' two models, and the same work for both."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from measuring import Workload
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam2 import Prompt
from napari_sam2.inference.tracking.memory_bank import MemoryBank
from napari_sam2.inference.tracking.object_frames import ObjectFrames
from napari_sam2.inference.tracking.settings import SegmentationSettings
from napari_sam2.inference.tracking.tracked_object import TrackedObject
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.encoder import FrameEncoder
from napari_sam2.inference.views.transforms import image_to_model
from napari_sam2.inference.views.view import whole_view
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.features import ModelPrompt
from napari_sam2.weights.loading import load_model

os.environ.setdefault("HF_HUB_OFFLINE", "1")

__all__ = ["CASES", "OURS", "THEIRS", "Case", "PairSide", "make_weights"]

OURS, THEIRS = "napari-sam2", "transformers"
CASES = ("image encoding", "click", "video frame")
_LAST_REMEMBERED = 16  # frames 0 (prompted) to 16: frame 17 attends to 7 memories and 16 pointers
_NUM_FRAMES = _LAST_REMEMBERED + 2


@dataclass(frozen=True)
class Case:
    """One line of the comparison.

    Attributes
    ----------
    name : str
        Of ``CASES``.
    num_objects : int
        Clicks in one decoder call, or objects tracked; 1 for image encoding.
    """

    name: str
    num_objects: int = 1


def _spread_points(num: int, side: int) -> NDArray[np.float32]:
    """(num, 2) clicks as (x, y), spread over a square image."""
    columns = int(np.ceil(np.sqrt(num)))
    cell = side / columns
    index = np.arange(num)
    return np.stack(((index % columns + 0.5) * cell, (index // columns + 0.5) * cell), axis=1).astype(np.float32)


class _TwoPictures:
    """A `FrameSource` at the model's own size: one picture, and another one on the frame that is timed."""

    def __init__(self, side: int) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (2, side // 16, side // 16, 3), np.uint8)
        self.pictures = coarse.repeat(16, axis=1).repeat(16, axis=2)
        self.shape = (_NUM_FRAMES, side, side)
        self.key = f"two-pictures-{side}"

    def __len__(self) -> int:
        return _NUM_FRAMES

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.pictures[int(frame > _LAST_REMEMBERED)]
        return picture

    def pixels(self, frame: int) -> Tensor:
        """(1, 3, S, S) as the networks want it."""
        side = self.shape[1]
        return image_to_model(self[frame], whole_view((side, side)), side, device=torch.device("cpu"))


# ---------------------------------------------------------------------- weights
def _their_config(image_size: int, model: str) -> object:
    """A released model at another side of the input."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    side = image_size // 4
    trunk = CONFIGS[model].trunk
    channels = list(trunk.channels)
    vision = Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(
            image_size=[image_size, image_size],
            hidden_size=trunk.embed_dim,
            num_attention_heads=trunk.num_heads,
            blocks_per_stage=list(trunk.stages),
            embed_dim_per_stage=channels,
            num_attention_heads_per_stage=[trunk.num_heads * 2**stage for stage in range(4)],
            window_size_per_stage=list(trunk.windows),
            window_positional_embedding_background_size=list(trunk.position_grid),
            global_attention_blocks=list(trunk.global_blocks),
        ),
        backbone_channel_list=channels[::-1],
        backbone_feature_sizes=[[side, side], [side // 2, side // 2], [side // 4, side // 4]],
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"image_size": image_size},
        image_size=image_size,
        memory_attention_rope_feat_sizes=[side // 4, side // 4],
    )


@torch.no_grad()
def _fill(model: nn.Module, seed: int) -> None:
    """Numbers of a size that keeps activations alive; the object counts as present, so that nothing is skipped."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted((*model.named_parameters(), *model.named_buffers())):
        if "inv_freq" in name or "position_ids" in name:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and min(parameter.shape[:2]) > 1 and "embed" not in name.rsplit(".", 2)[-2]:
            is_transposed = "upscale_conv" in name
            parameter.copy_(noise * (parameter.shape[0] if is_transposed else parameter[0].numel()) ** -0.5)
        elif "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.1 * noise)
        else:
            parameter.copy_(noise * (0.05 if name.endswith("bias") else 0.5))
        if "pred_obj_score_head" in name and name.endswith("proj_out.bias"):
            parameter.add_(20.0)
    encoding = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(encoding)


def make_weights(folder: Path, image_size: int, *, model: str = "sam2.1_hiera_tiny", seed: int = 0) -> None:
    """Write seeded weights of a released model as transformers saves them; both sides load this folder."""
    from transformers import Sam2VideoModel

    network = Sam2VideoModel(_their_config(image_size, model))
    _fill(network, seed)
    network.save_pretrained(folder)


# ---------------------------------------------------------------------- the two sides
class _Ours:
    """The work, done by this package."""

    def __init__(self, folder: Path, image_size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.frames = _TwoPictures(image_size)
        self.model = load_model(folder, device=device, dtype=dtype).requires_grad_(False)
        self.device = device

    def load(self, _: Case) -> None:
        """Nothing more to load."""

    def encode(self) -> Workload:
        """One image through the encoder and the decoder's projections of the finer levels."""
        pixels = self.frames.pixels(0).to(self.device)
        return Workload(lambda: self.model.encode_image(pixels).embed)

    def click(self, num: int) -> Workload:
        """``num`` clicks in one decoder call, on a known image."""
        model = self.model
        with torch.inference_mode():
            embedding = model.encode_image(self.frames.pixels(0).to(self.device))
            features = model.without_memory(embedding)
        points = torch.from_numpy(_spread_points(num, model.image_size))[:, None].to(self.device)
        prompt = ModelPrompt(points, torch.ones(num, 1, dtype=torch.int32, device=self.device))
        return Workload(lambda: model.decode_masks(features, embedding.high_res, prompt, multimask=True).logits)

    def video(self, num: int) -> Workload:
        """One more frame, image encoding included, with ``num`` objects in steady state."""
        cache = EmbeddingCache()
        settings = SegmentationSettings(
            reference_behaviour=False,
            corrections_stick=True,
            memory_dtype=torch.bfloat16,  # as transformers keeps them
            fill_hole_area=0.0,  # transformers fills none
            keep_apart=False,
            # of the whole GPU: what the other sides keep for their next call would count as taken
            batch_bytes=torch.cuda.mem_get_info(self.device)[1] // 2 if self.device.type == "cuda" else None,
        )
        encoder = FrameEncoder(self.model, self.frames, cache, pil_bicubic=False)
        engine = ObjectFrames(encoder, settings)
        objects = [self._remembering(engine, i, point) for i, point in enumerate(self._points(num))]
        remembered = [dict(tracked.bank.tracked) for tracked in objects]

        def prepare() -> None:
            cache.clear()
            for tracked, memories in zip(objects, remembered, strict=True):
                tracked.bank.tracked = dict(memories)

        def step() -> Tensor:
            engine.advance(objects, _LAST_REMEMBERED + 1, reverse=False, return_logits=False)
            return torch.cat([tracked.bank.tracked[_LAST_REMEMBERED + 1].logits for tracked in objects])

        return Workload(step, prepare)

    def _points(self, num: int) -> NDArray[np.float32]:
        return _spread_points(num, self.model.image_size)

    def _remembering(self, engine: ObjectFrames, index: int, point: NDArray[np.float32]) -> TrackedObject:
        """An object prompted on frame 0 that remembers all frames after it as it remembers that one."""
        config = self.model.config
        tracked = TrackedObject(index + 1, MemoryBank(config.num_memories, config.max_pointers), _NUM_FRAMES)
        with torch.inference_mode():
            engine.prompt(tracked, 0, Prompt(points=point[None]))
            engine.advance([tracked], 0, reverse=False, return_logits=False)
        first = tracked.bank.prompted[0]
        for frame in range(1, _LAST_REMEMBERED + 1):
            tracked.bank.add(replace(first, frame=frame, is_conditioning=False, reverse=False))
        return tracked


class _Theirs:
    """The same work, done by transformers."""

    def __init__(self, folder: Path, image_size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.frames = _TwoPictures(image_size)
        self.folder, self.image_size, self.dtype, self.device = folder, image_size, dtype, device

    @cached_property
    def video_model(self) -> nn.Module:
        """``Sam2VideoModel``."""
        from transformers import Sam2VideoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = Sam2VideoModel.from_pretrained(self.folder, dtype=self.dtype)
        return model.to(self.device).eval().requires_grad_(False)

    @cached_property
    def image_model(self) -> nn.Module:
        """``Sam2Model`` with the weights it shares with the video model."""
        from transformers import Sam2Config, Sam2Model

        video = self.video_model
        config = Sam2Config(
            vision_config=video.config.vision_config.to_dict(),
            prompt_encoder_config=video.config.prompt_encoder_config.to_dict(),
            mask_decoder_config=video.config.mask_decoder_config.to_dict(),
        )
        model = Sam2Model(config).to(self.device, self.dtype).eval().requires_grad_(False)
        missing, _ = model.load_state_dict(video.state_dict(), strict=False)
        assert not missing, missing
        return model

    def load(self, case: Case) -> None:
        """Load the model that the case needs."""
        _ = self.video_model if case.name == "video frame" else self.image_model

    def _pixels(self, frame: int) -> Tensor:
        return self.frames.pixels(frame).to(self.device, self.dtype)

    def encode(self) -> Workload:
        """As ours."""
        pixels, model = self._pixels(0), self.image_model

        def run() -> Tensor:
            features: Tensor = model.get_image_features(pixels, return_dict=True).fpn_hidden_states[-1]
            side = self.image_size // 16
            return features.permute(1, 2, 0).unflatten(2, (side, side))  # (N, B, C) -> (B, C, H, W)

        return Workload(run)

    def click(self, num: int) -> Workload:
        """As ours."""
        model = self.image_model
        with torch.inference_mode():
            embeddings = model.get_image_embeddings(self._pixels(0))
        points = torch.from_numpy(_spread_points(num, self.image_size))[None, :, None].to(self.device, self.dtype)
        labels = torch.ones(1, num, 1, dtype=torch.int32, device=self.device)

        def run() -> Tensor:
            found = model(image_embeddings=embeddings, input_points=points, input_labels=labels, multimask_output=True)
            masks: Tensor = found.pred_masks
            return masks[0]

        return Workload(run)

    def video(self, num: int) -> Workload:
        """As ours."""
        from transformers import Sam2VideoInferenceSession

        model, now = self.video_model, _LAST_REMEMBERED + 1
        first = self._pixels(0)
        session = Sam2VideoInferenceSession(
            video=first.expand(_NUM_FRAMES, -1, -1, -1),
            video_height=self.image_size,
            video_width=self.image_size,
            inference_device=self.device,
            inference_state_device=self.device,
            video_storage_device=self.device,
            dtype=self.dtype,
        )
        session.processed_frames[now] = self._pixels(now)[0]
        for index, point in enumerate(_spread_points(num, self.image_size)):
            session.add_point_inputs(
                session.obj_id_to_idx(index + 1),
                0,
                {
                    "point_coords": torch.from_numpy(point)[None, None, None].to(self.dtype),
                    "point_labels": torch.ones(1, 1, 1, dtype=torch.int32),
                },
            )
            session.obj_with_new_inputs.append(index + 1)
        model(session, frame_idx=0)
        for outputs in session.output_dict_per_obj.values():
            memory = outputs["cond_frame_outputs"][0]
            outputs["non_cond_frame_outputs"] = {t: dict(memory) for t in range(1, now)}

        def prepare() -> None:
            session.cache.clear_all()
            for outputs in session.output_dict_per_obj.values():
                outputs["non_cond_frame_outputs"].pop(now, None)

        def run() -> Tensor:
            masks: Tensor = model(session, frame_idx=now).pred_masks
            return masks

        return Workload(run, prepare)


class PairSide:
    """One side of the comparison.

    Parameters
    ----------
    who : str
        ``OURS`` or ``THEIRS``.
    folder : Path
        Written by ``make_weights`` for the same ``image_size``.
    image_size : int
        Side of the model's input.
    dtype, device
        Of the model.
    """

    def __init__(self, who: str, folder: Path, image_size: int, dtype: torch.dtype, device: torch.device) -> None:
        self._side = (_Ours if who == OURS else _Theirs)(folder, image_size, dtype, device)

    def load(self, case: Case) -> None:
        """Have the weights in memory that a case needs."""
        self._side.load(case)

    def workload(self, case: Case) -> Workload:
        """How this side does a case; ``run`` returns the tensor that the other side's must equal."""
        if case.name == "image encoding":
            workload = self._side.encode()
        else:
            make = self._side.click if case.name == "click" else self._side.video
            workload = make(case.num_objects)
        return Workload(torch.inference_mode()(workload.run), workload.prepare)
