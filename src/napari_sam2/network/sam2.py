"""SAM 2: encode an image, attend to memory, decode masks, encode memory (SAM 2 paper, figure 3)."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.config import SAM2Config
from napari_sam2.network.dense_head import DenseHead
from napari_sam2.network.encoding_cache import EncodingCache
from napari_sam2.network.features import DecodedMasks, FrameSegmentation, ImageEmbedding, MemoryBatch, ModelPrompt
from napari_sam2.network.layers import MLP
from napari_sam2.network.mask_decoder import MaskDecoder
from napari_sam2.network.memory_attention import MemoryAttention
from napari_sam2.network.memory_encoder import MemoryEncoder
from napari_sam2.network.neck import ImageEncoder
from napari_sam2.network.position import sine_1d, sine_2d
from napari_sam2.network.prompt_encoder import PromptEncoder

__all__ = ["ABSENT_LOGIT", "LAST_MASK_LIMIT", "SAM2", "STABILITY_THRESHOLD"]

_MIN_PRESENCE = 0.01  # minimum object score of a prompted object
ABSENT_LOGIT = -1024.0  # all mask logits of an absent object
LAST_MASK_LIMIT = 10.0  # logits of the previous frame, used as a mask prompt, are clamped to +- this
_MEMORY_SCALE, _MEMORY_BIAS = 20.0, -10.0  # applied to masks before the memory encoder
STABILITY_THRESHOLD = 0.98


class SAM2(nn.Module):
    """The SAM 2 network; parameter names are those of the released checkpoints.

    Parameters
    ----------
    config : SAM2Config
        The configuration, such as one of ``CONFIGS``.

    Attributes
    ----------
    dense_head : DenseHead or None
        Predicts maps of all objects of an image from its ``ImageEmbedding``; None in the released models.
    """

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        dim, memory_dim = config.hidden_dim, config.memory_dim
        self.config = config
        self.image_size = config.image_size
        self.image_encoder = ImageEncoder(config.trunk, dim)
        self.memory_attention = MemoryAttention(dim, memory_dim, config.memory_mlp_dim, config.memory_layers)
        self.memory_encoder = MemoryEncoder(dim, memory_dim)
        self.sam_prompt_encoder = PromptEncoder(
            dim, position_frame=config.position_frame, draws_prompts=config.draws_prompts
        )
        self.sam_mask_decoder = MaskDecoder(
            dim,
            config.decoder_heads,
            config.decoder_mlp_dim,
            keeps_mask=config.keeps_mask,
            num_fine_blocks=config.num_fine_blocks,
        )
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.obj_ptr_proj = MLP(dim, dim, dim, 3)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.num_memories, 1, 1, memory_dim))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, dim))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, dim))  # in the released files, unused
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, dim))
        if config.is_sam21:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, memory_dim))
            self.obj_ptr_tpos_proj = nn.Linear(dim, memory_dim)
        self.dense_head = DenseHead(dim, config.num_dense_blocks) if config.has_dense_head else None
        self._grids = EncodingCache()

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.no_obj_ptr.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self.no_obj_ptr.dtype

    @property
    def precision(self) -> torch.dtype:
        """The precision set by ``compute_in``."""
        products = self.memory_attention.products
        return self.dtype if products is None or self.device.type != "cpu" else products

    def compute_in(self, dtype: torch.dtype) -> Self:
        """Set the precision of computation.

        Parameters
        ----------
        dtype : torch.dtype
            On a GPU, the precision of all parameters. On a CPU, half precision is used for attention over 4,096 and
            more positions only, and only if it is much faster on this processor: it saves nearly half of the time of
            attention and hardly changes masks. Everything else is float32, which is not much slower on a CPU, whereas
            rounded features would change all outlines.

        Returns
        -------
        SAM2
            Itself.
        """
        is_half_on_cpu = self.device.type == "cpu" and dtype.itemsize < 4
        self.memory_attention.products = dtype if is_half_on_cpu else None
        return self.to(torch.float32 if is_half_on_cpu else dtype)

    # -------------------------------------------------------------- image
    def encode_image(self, image: Tensor) -> ImageEmbedding:
        """Encode normalised images (B, 3, S, S), S a multiple of 32."""
        decoder = self.sam_mask_decoder
        return ImageEmbedding(*self.image_encoder(image.to(self.dtype), (decoder.conv_s0, decoder.conv_s1)))

    def without_memory(self, embedding: ImageEmbedding) -> Tensor:
        """Features of a frame without memories, (B, C, S/16, S/16)."""
        return embedding.embed + self.no_mem_embed[0, 0, :, None, None]

    # -------------------------------------------------------------- masks
    def decode_masks(
        self,
        features: Tensor,
        high_res: tuple[Tensor, Tensor],
        prompt: ModelPrompt,
        *,
        multimask: bool,
        stability_threshold: float | None = STABILITY_THRESHOLD,
        origin: float | None = None,
    ) -> DecodedMasks:
        """Decode a batch of prompts.

        Parameters
        ----------
        features, high_res : Tensor, tuple of Tensor
            (B or 1, C, h, w) and the two finer levels; one image serves all prompts.
        prompt : ModelPrompt
            A batch of B prompts.
        multimask : bool
            Return three candidates instead of a single mask.
        stability_threshold : float or None
            See ``MaskDecoder.select``.
        origin : float, optional
            Offset of the image in the position frame; centred by default.

        Returns
        -------
        DecodedMasks
            Logits in the model's dtype, (B, 3 or 1, 4h, 4w).
        """
        return self.sam_mask_decoder.select(
            self.decode_all(features, high_res, prompt, origin=origin),
            multimask=multimask,
            stability_threshold=stability_threshold,
        )

    def decode_all(
        self, features: Tensor, high_res: tuple[Tensor, Tensor], prompt: ModelPrompt, *, origin: float | None = None
    ) -> DecodedMasks:
        """All four masks of each prompt, before selection."""
        image_size = 16 * features.shape[-1]
        drawn = self.sam_prompt_encoder.draw(prompt, image_size)
        tokens, dense = self.sam_prompt_encoder(prompt, image_size, origin, drawn)
        position = self.sam_prompt_encoder.dense_position(image_size, origin)
        batch = max(features.shape[0], tokens.shape[0])
        if tokens.shape[0] != batch:
            tokens = tokens.expand(batch, -1, -1)
        return self.sam_mask_decoder.forward_all(features, high_res, position, tokens, dense, prompt.mask, drawn)

    def segment_frame(
        self,
        features: Tensor,
        high_res: tuple[Tensor, Tensor],
        prompt: ModelPrompt | None,
        *,
        multimask: bool,
        assume_present: bool = False,
    ) -> FrameSegmentation:
        """One mask and one object pointer per object of a video frame.

        ``prompt=None`` is a tracked frame, segmented from memory only. Of several candidates the one with the best
        predicted IoU is selected, and its token becomes the pointer. Absent objects get logits of ``ABSENT_LOGIT`` and
        the pointer for absence. With ``assume_present``, for prompted objects, no object is absent and scores are at
        least 0.01.
        """
        num_objects = features.shape[0]
        if prompt is None or prompt.points is None or prompt.labels is None:
            mask = None if prompt is None else prompt.mask
            prompt = ModelPrompt.without_points(num_objects, features.device, mask)
        candidates = self.decode_all(features, high_res, prompt)
        decoded = self.sam_mask_decoder.select(candidates, multimask=multimask, stability_threshold=STABILITY_THRESHOLD)
        score = decoded.object_score.clamp(min=_MIN_PRESENCE) if assume_present else decoded.object_score
        is_present = score > 0
        logits = torch.where(is_present[..., None, None], decoded.logits.float(), ABSENT_LOGIT)
        best = decoded.iou.argmax(dim=-1)
        row = torch.arange(num_objects, device=best.device)
        token = decoded.tokens[row, best] if decoded.tokens.shape[1] > 1 else decoded.tokens[:, 0]
        return FrameSegmentation(
            logits[row, best][:, None],
            decoded.iou[row, best],
            score,
            self.object_pointer(token, is_present),
            candidates,
        )

    def object_pointer(self, token: Tensor, is_present: Tensor) -> Tensor:
        """Pointers of objects (O, C) from their mask tokens (O, C) and presence (O, 1)."""
        present = is_present.to(token.dtype)
        pointer: Tensor = self.obj_ptr_proj(token)
        return present * pointer + (1 - present) * self.no_obj_ptr

    def adopt_mask(self, embedding: ImageEmbedding, mask: Tensor) -> FrameSegmentation:
        """Use a mask (O, 1, S, S) of 0 and 1 as the segmentation of a frame.

        The mask is converted to logits of +-10; the decoder only provides the pointer.
        """
        mask = mask.to(self.dtype)
        logits = F.interpolate(
            mask.float() * _MEMORY_SCALE + _MEMORY_BIAS,
            size=embedding.high_res[0].shape[-2:],
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        prompt = ModelPrompt(mask=self.mask_downsample(mask))
        decoded = self.segment_frame(embedding.embed, embedding.high_res, prompt, multimask=False)
        is_present = (mask.flatten(1) > 0).any(dim=1, keepdim=True)
        present = is_present.to(self.dtype)
        pointer = present * decoded.pointer + (1 - present) * self.no_obj_ptr
        score = _MEMORY_SCALE * present + _MEMORY_BIAS
        return FrameSegmentation(logits, torch.ones_like(score[:, 0]), score, pointer, decoded.candidates)

    # -------------------------------------------------------------- memory
    def encode_memory(
        self, embedding: ImageEmbedding, logits: Tensor, object_score: Tensor, *, binarise: bool
    ) -> Tensor:
        """Fuse features and masks into spatial memories.

        Parameters
        ----------
        embedding : ImageEmbedding
            Features of the frame, a batch of O or 1.
        logits : Tensor
            (O, 1, any, any) mask logits; resized to the model's input.
        object_score : Tensor
            (O, 1).
        binarise : bool
            Threshold the mask, for prompted frames; otherwise use probabilities, for tracked frames.

        Returns
        -------
        Tensor
            (O, memory_dim, S/16, S/16).
        """
        size = embedding.image_size
        logits = F.interpolate(logits.float(), size=(size, size), mode="bilinear", align_corners=False)
        mask = (logits > 0).float() if binarise else logits.sigmoid()
        mask = (mask * _MEMORY_SCALE + _MEMORY_BIAS).to(self.dtype)
        features: Tensor = self.memory_encoder(embedding.embed, mask)
        if self.config.is_sam21:
            is_absent = (object_score <= 0).to(features.dtype)
            features = features + is_absent[..., None, None] * self.no_obj_embed_spatial[..., None, None]
        return features

    def attend_to_memory(self, embedding: ImageEmbedding, memory: MemoryBatch) -> Tensor:
        """Condition a frame's features on the memories of O objects -> (O, C, S/16, S/16)."""
        hw = (embedding.embed.shape[-2], embedding.embed.shape[-1])
        grid_position = self._grid(hw, self.config.memory_dim).flatten(2).transpose(1, 2)  # (1, C, h, w) -> (1, N, Cm)
        tokens: list[Tensor] = []
        positions: list[Tensor] = []
        for features, slot in zip(memory.features, memory.time_slots, strict=True):
            tokens.append(features.to(self.dtype).flatten(2).transpose(1, 2))  # (O, Cm, h, w) -> (O, N, Cm)
            positions.append(grid_position + self.maskmem_tpos_enc[slot])
        num_pointer_tokens = 0
        if memory.pointers is not None:
            pointer_tokens, pointer_position = self._pointer_tokens(memory)
            num_pointer_tokens = pointer_tokens.shape[1]
            tokens.append(pointer_tokens)
            positions.append(pointer_position)
        out: Tensor = self.memory_attention(
            embedding.embed,
            self._grid(hw, self.config.hidden_dim),
            torch.cat(tokens, dim=1),
            torch.cat(positions, dim=1),
            num_pointer_tokens,
        )
        return out

    def _grid(self, hw: tuple[int, int], num_channels: int) -> Tensor:
        """Sine encoding of a grid in the precision of the network, (1, num_channels, h, w)."""
        device, dtype = self.device, self.dtype
        key = (hw, num_channels, device, dtype)
        return self._grids.get(key, lambda: sine_2d(hw, num_channels, device=device).to(dtype))

    def _pointer_tokens(self, memory: MemoryBatch) -> tuple[Tensor, Tensor]:
        """Each pointer as C / Cm tokens: (O, P * C/Cm, Cm) and their time encoding (1, P * C/Cm, Cm)."""
        assert memory.pointers is not None
        memory_dim = self.config.memory_dim
        pieces = self.config.hidden_dim // memory_dim
        tokens = memory.pointers.to(self.dtype).unflatten(-1, (pieces, memory_dim)).flatten(1, 2)
        if not self.config.is_sam21:
            return tokens, tokens.new_zeros(1, tokens.shape[1], memory_dim)
        offsets = torch.tensor(memory.pointer_offsets, dtype=torch.float32, device=self.device)
        encoded = sine_1d(offsets / max(memory.pointer_span, 1), self.config.hidden_dim).to(self.dtype)
        position: Tensor = self.obj_ptr_tpos_proj(encoded)
        return tokens, position.repeat_interleave(pieces, dim=0)[None]
