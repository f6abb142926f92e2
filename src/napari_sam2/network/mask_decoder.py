"""Two-way transformer and mask heads (SAM 2 paper, section 4, "Prompt encoder and mask decoder")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam2.network.attention import Attention
from napari_sam2.network.features import DecodedMasks
from napari_sam2.network.fine_blocks import FineBlocks
from napari_sam2.network.layers import MLP, LayerNorm2d

__all__ = ["MaskDecoder"]

_KEPT_LIMIT = 10.0  # logits of the mask prompt are clamped to +- this
_NUM_CANDIDATES = 3
_STABILITY_DELTA = 0.05


class _TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, dim, 2)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample=2)

    def forward(self, tokens: Tensor, image: Tensor, token_pos: Tensor, image_pos: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_first:  # tokens still equal their positions: no residual
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_pos
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        image_key = image + image_pos
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pos, image_key, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(image_key, tokens + token_pos, tokens))
        return tokens, image


class _TwoWayTransformer(nn.Module):
    def __init__(self, dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TwoWayBlock(dim, num_heads, mlp_dim, is_first=i == 0) for i in range(2))
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pos: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        out = tokens
        for layer in self.layers:
            out, image = layer(out, image, tokens, image_pos)
        out = self.norm_final_attn(out + self.final_attn_token_to_image(out + tokens, image + image_pos, image))
        return out, image


class MaskDecoder(nn.Module):
    """Image features and prompt tokens -> candidate masks, predicted IoU and object presence.

    Parameters
    ----------
    dim, num_heads, mlp_dim : int
        Widths and heads of the two-way transformer.
    keeps_mask : bool
        Add the mask prompt to the candidates, weighted by their tokens, and to the finest features. Corrections of an
        outline are then changes of the mask prompt and are not limited by the stride-16 grid.
    num_fine_blocks : int
        Let neighbouring positions of the finest features see each other, and the drawn prompt, see ``FineBlocks``.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, *, keeps_mask: bool = False, num_fine_blocks: int = 0
    ) -> None:
        super().__init__()
        num_masks = _NUM_CANDIDATES + 1
        self.transformer = _TwoWayTransformer(dim, num_heads, mlp_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(num_masks, dim)
        self.obj_score_token = nn.Embedding(1, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(dim, dim // 8, 1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, dim // 8, 3) for _ in range(num_masks))
        self.iou_prediction_head = MLP(dim, dim, num_masks, 3, sigmoid=True)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)
        self.keeps_mask = keeps_mask
        if keeps_mask:
            self.mask_gate = nn.Linear(dim, 1)
            self.conv_mask = nn.Conv2d(1, dim // 8, 3, padding=1)
        self.fine_blocks = FineBlocks(dim // 8, num_fine_blocks) if num_fine_blocks else None

    def forward_all(
        self,
        embed: Tensor,
        high_res: tuple[Tensor, Tensor],
        position: Tensor,
        tokens: Tensor,
        dense: Tensor,
        mask: Tensor | None = None,
        drawn: Tensor | None = None,
    ) -> DecodedMasks:
        """Decode all four masks: token 0 for unambiguous prompts, tokens 1 to 3 for ambiguous ones.

        Parameters
        ----------
        embed : Tensor
            (B, C, h, w) image features.
        high_res : tuple of Tensor
            Stride-4 and stride-8 features, (B, C/8, 4h, 4w) and (B, C/4, 2h, 2w).
        position : Tensor
            (1, C, h, w).
        tokens, dense : Tensor
            The encoded prompt, (B, N, C) and (B or 1, C, h, w).
        mask : Tensor, optional
            (B, 1, 4h, 4w) logits of the mask prompt, for decoders with ``keeps_mask``.
        drawn : Tensor, optional
            (B, 1, 4h, 4w) clicks and boxes from ``draw_prompt``, for decoders with fine blocks.
        """
        fixed = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        all_tokens = torch.cat((fixed.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        image = embed + dense
        h, w = image.shape[-2:]
        out, image = self.transformer(
            image.flatten(2).transpose(1, 2),  # (B, C, h, w) -> (B, N, C)
            position.to(image.dtype).flatten(2).transpose(1, 2),
            all_tokens,
        )
        mask_tokens = out[:, 2 : 3 + _NUM_CANDIDATES]
        image = image.transpose(1, 2).unflatten(2, (h, w))  # (B, N, C) -> (B, C, h, w)
        deconv1, norm1, gelu1, deconv2, gelu2 = self.output_upscaling
        upscaled = gelu1(norm1(deconv1(image) + high_res[1]))
        upscaled = deconv2(upscaled) + high_res[0]
        kept = None
        if self.keeps_mask and mask is not None:
            kept = (mask.float().clamp(-_KEPT_LIMIT, _KEPT_LIMIT) / _KEPT_LIMIT).to(upscaled.dtype)
            upscaled = upscaled + self.conv_mask(kept)
        if self.fine_blocks is not None:
            near = None if drawn is None else (drawn / _KEPT_LIMIT).to(upscaled.dtype)
            upscaled = self.fine_blocks(upscaled, near, kept)
        upscaled = gelu2(upscaled)
        weights = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # (B, 4, C/8)
        logits = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
        if kept is not None:
            logits = logits + self.mask_gate(mask_tokens)[..., None] * _KEPT_LIMIT * kept
        return DecodedMasks(
            logits, self.iou_prediction_head(out[:, 1]), self.pred_obj_score_head(out[:, 0]), mask_tokens
        )

    @staticmethod
    def select(decoded: DecodedMasks, *, multimask: bool, stability_threshold: float | None) -> DecodedMasks:
        """Select candidates 1 to 3, or the single mask 0 with its fallback.

        Parameters
        ----------
        decoded : DecodedMasks
            All four masks.
        multimask : bool
            Whether the prompt is ambiguous.
        stability_threshold : float or None
            A single mask with a lower stability is replaced by the candidate with the best IoU, but keeps its pointer
            token; ``None`` never.
        """
        logits, iou, object_score, tokens = decoded
        if multimask:
            return DecodedMasks(logits[:, 1:], iou[:, 1:], object_score, tokens[:, 1:])
        single = DecodedMasks(logits[:, :1], iou[:, :1], object_score, tokens[:, :1])
        if stability_threshold is None:
            return single
        flat = single.logits.flatten(1)
        inner = (flat > _STABILITY_DELTA).sum(-1).float()
        outer = (flat > -_STABILITY_DELTA).sum(-1).float()
        stability = torch.where(outer > 0, inner / outer.clamp(min=1), torch.ones_like(inner))
        is_stable = (stability >= stability_threshold)[:, None]
        best = iou[:, 1:].argmax(dim=-1) + 1
        row = torch.arange(len(best), device=best.device)
        return DecodedMasks(
            torch.where(is_stable[..., None, None], single.logits, logits[row, best][:, None]),
            torch.where(is_stable, single.iou, iou[row, best][:, None]),
            object_score,
            single.tokens,
        )
