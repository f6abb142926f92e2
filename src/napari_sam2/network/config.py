"""Configurations of the SAM 2 models."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CONFIGS", "HieraConfig", "SAM2Config"]


@dataclass(frozen=True)
class HieraConfig:
    """Hiera image encoder [1]_.

    Attributes
    ----------
    embed_dim : int
        Channels of the first stage; each later stage doubles them.
    num_heads : int
        Attention heads of the first stage; each later stage doubles them.
    stages : tuple of int
        Blocks per stage, four stages at strides 4, 8, 16 and 32.
    global_blocks : tuple of int
        Indices of the blocks that attend to the whole image instead of a window.
    windows : tuple of int
        Window side per stage, in tokens.
    position_grid : tuple of int
        (height, width) of the learned background position embedding.

    References
    ----------
    .. [1] Ryali et al., Hiera, 2023. arXiv:2306.00989
    """

    embed_dim: int
    num_heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int]
    position_grid: tuple[int, int] = (7, 7)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the four stages, fine to coarse."""
        c = self.embed_dim
        return (c, 2 * c, 4 * c, 8 * c)


@dataclass(frozen=True)
class SAM2Config:
    """Configuration of a network.

    Attributes
    ----------
    name : str
        Name in ``CONFIGS``.
    trunk : HieraConfig
        Configuration of the image encoder.
    is_sam21 : bool
        Whether it is SAM 2.1, with time-encoded object pointers and an embedding for memories of absent objects.
    image_size : int
        Side of the square input in pixels, a multiple of 32. The weights also work at other sizes.
    hidden_dim, memory_dim : int
        Channels of image features and of memories.
    num_memories : int
        Number of time slots of the memory: one for prompted frames, the others for recent frames.
    max_pointers : int
        Maximum number of object pointers attended to.
    memory_layers, memory_mlp_dim : int
        Depth and feed-forward width of the memory attention.
    decoder_mlp_dim, decoder_heads : int
        Feed-forward width and heads of the mask decoder's two-way transformer.
    position_frame : int or None
        Side in model pixels of the square that the prompt position encoding maps to the unit square; ``None``: the
        image size.
    draws_prompts : bool
        Draw clicks and boxes into the mask prompt, in addition to tokens. Small models trained on few images learn this
        much faster than position encodings.
    follows_last_mask : bool
        Use the mask of the previous frame as a mask prompt in tracking, in addition to memories.
    keeps_mask : bool
        Predict candidates as changes of the mask prompt, see ``MaskDecoder``.
    native_window : int or None
        Side in image pixels of the square crop around a prompt that fills the model's input. ``None``: the whole image
        is resized to the input, as in the reference. Small models use crops.
    has_dense_head : bool
        Predict maps of all objects of an image, in addition to the masks of prompts, see ``DenseHead``.
    num_dense_blocks : int
        Convolutions of the dense head that see the pixels of the image; none if 0.
    num_fine_blocks : int
        Convolutions on the mask decoder's finest features, see ``FineBlocks``; none if 0.
    """

    name: str
    trunk: HieraConfig
    is_sam21: bool = True
    image_size: int = 1024
    hidden_dim: int = 256
    memory_dim: int = 64
    num_memories: int = 7
    max_pointers: int = 16
    memory_layers: int = 4
    memory_mlp_dim: int = 2048
    decoder_mlp_dim: int = 2048
    decoder_heads: int = 8
    position_frame: int | None = None
    draws_prompts: bool = False
    follows_last_mask: bool = False
    keeps_mask: bool = False
    native_window: int | None = None
    has_dense_head: bool = False
    num_dense_blocks: int = 0
    num_fine_blocks: int = 0


_TINY = HieraConfig(96, 1, (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7))
_SMALL = HieraConfig(96, 1, (1, 2, 11, 2), (7, 10, 13), (8, 4, 14, 7))
_BASE_PLUS = HieraConfig(112, 2, (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7), (14, 14))
_LARGE = HieraConfig(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8))
_MICRO = HieraConfig(32, 1, (1, 3, 14, 1), (5, 7, 9, 11, 13, 15, 17), (8, 4, 8, 4))

_SAM21 = (
    SAM2Config("sam2.1_hiera_tiny", _TINY),
    SAM2Config("sam2.1_hiera_small", _SMALL),
    SAM2Config("sam2.1_hiera_base_plus", _BASE_PLUS),
    SAM2Config("sam2.1_hiera_large", _LARGE),
)

CONFIGS: dict[str, SAM2Config] = {
    config.name: config
    for config in (
        SAM2Config(
            "sam2_micro",
            _MICRO,
            image_size=256,
            hidden_dim=128,
            num_memories=5,
            memory_layers=2,
            memory_mlp_dim=512,
            decoder_mlp_dim=512,
            decoder_heads=4,
            position_frame=512,
            draws_prompts=True,
            follows_last_mask=True,
            keeps_mask=True,
            native_window=128,
            has_dense_head=True,
            num_dense_blocks=5,
            num_fine_blocks=5,
        ),
        *_SAM21,
        *(replace(c, name=c.name.replace("sam2.1", "sam2"), is_sam21=False) for c in _SAM21),
    )
}
