"""transformers' SAM 2 with the same weights gives the same numbers: a second, live oracle.

Left out is what transformers does differently by design: earlier logits with a new click, mask input without points,
mask prompts in a video (their pointer), hole filling, and a click that makes other objects track. It keeps its memories
in bfloat16. A difference in the last bit of float32, as another number of threads makes it, then decides now and again
which way a memory is rounded, and random weights amplify that from frame to frame: changing one layer's weights by
1e-7 moves up to 44 pixels of a frame here, one thread instead of two moves 72; with float32 memories at most one pixel
moves. So for the comparison both keep them in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2 import load_model
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.transforms import image_to_model
from napari_sam2.inference.views.view import whole_view
from napari_sam2.network.features import ImageEmbedding, ModelPrompt
from napari_sam2.network.sam2 import SAM2

transformers = pytest.importorskip("transformers", reason="transformers is the oracle")

pytestmark = pytest.mark.parity

SIDE = 256
NUM_FRAMES = 6


@dataclass
class Twins:
    """One set of weights in three networks."""

    image: nn.Module
    video: nn.Module
    ours: SAM2


def draw_weights(model: nn.Module, seed: int = 0) -> None:
    """Fill a network so that signals keep their size and objects are mostly present."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("positional_embedding"):
            value = noise
        elif name.endswith("scale"):
            value = 0.3 + 0.05 * noise
        elif tensor.ndim == 1:
            value = 1 + 0.1 * noise if name.endswith("weight") else 0.05 * noise
        elif any(part in name for part in ("embed", "token.", "tokens", "pointer", "encoding")) and "proj" not in name:
            value = 0.5 * noise
        else:
            fan_in = tensor.shape[0] if "upscale" in name else tensor[0].numel()
            gain = 2.0 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.2
            value = noise * gain * fan_in**-0.5
        if name.endswith("pred_obj_score_head.proj_out.bias"):
            value = value + 3.0
        tensor.copy_(value)
    copy, original = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    copy.positional_embedding.data.copy_(original.positional_embedding)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    feature_sizes = [[SIDE // stride] * 2 for stride in (4, 8, 16)]
    vision = {"model_type": "sam2_vision_model", "backbone_feature_sizes": feature_sizes}
    shared = {"vision_config": vision, "prompt_encoder_config": {"image_size": SIDE}}
    video_config = transformers.Sam2VideoConfig(
        **shared, image_size=SIDE, memory_attention_rope_feat_sizes=feature_sizes[-1]
    )
    with torch.no_grad():
        video = transformers.Sam2VideoModel(video_config).eval()
        draw_weights(video)
        image = transformers.Sam2Model(transformers.Sam2Config(**shared)).eval()
        image.load_state_dict({key: video.state_dict()[key] for key in image.state_dict()})
    folder = tmp_path_factory.mktemp("transformers")
    video.save_pretrained(folder / "video")
    return Twins(image, video, load_model(folder / "video", device="cpu"))


def make_frames() -> np.ndarray:
    """(T, S, S, 3) uint8: two blobs that drift over texture."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 60, (SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE]
    frames = []
    for t in range(NUM_FRAMES):
        frame = texture.copy()
        frame[np.hypot(x - 80 - 6 * t, y - 90) < 30] += np.array([120, 90, 40])
        frame[np.hypot(x - 170, y - 180 + 5 * t) < 22] += np.array([30, 130, 110])
        frames.append(frame)
    return np.stack(frames).astype(np.uint8)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """(T, 3, S, S) normalised."""
    view = whole_view((SIDE, SIDE))
    return torch.cat([image_to_model(frame, view, SIDE, device=torch.device("cpu")) for frame in make_frames()])


def largest_difference(first: Tensor, second: Tensor) -> float:
    assert first.shape == second.shape
    return float((first.float() - second.float()).abs().max())


def test_weights_saved_by_transformers_are_recognised_with_their_image_size(twins: Twins) -> None:
    assert twins.ours.config.name == "sam2.1_hiera_tiny"
    assert twins.ours.image_size == SIDE


def test_image_model_of_transformers_segments_but_refuses_to_track(
    twins: Twins, tmp_path: Path, pixels: Tensor
) -> None:
    from napari_sam2 import CheckpointError

    twins.image.save_pretrained(tmp_path)
    ours = load_model(tmp_path / "model.safetensors", device="cpu")
    with torch.inference_mode():
        embedding = ours.encode_image(pixels[:1])
        assert torch.equal(embedding.embed, twins.ours.encode_image(pixels[:1]).embed)
        with pytest.raises(CheckpointError, match="image model without memory"):
            ours.encode_memory(embedding, torch.zeros(1, 1, 64, 64), torch.ones(1, 1), binarise=True)


@pytest.fixture(scope="module")
def embedding(twins: Twins, pixels: Tensor) -> ImageEmbedding:
    with torch.inference_mode():
        return twins.ours.encode_image(pixels[:1])


def test_image_features_agree(twins: Twins, pixels: Tensor, embedding: ImageEmbedding) -> None:
    with torch.inference_mode():
        stride4, stride8, stride16 = twins.image.get_image_embeddings(pixels[:1])
        ours = twins.ours.without_memory(embedding)
    assert largest_difference(ours, stride16) < 1e-4
    assert largest_difference(embedding.high_res[0], stride4) < 1e-4
    assert largest_difference(embedding.high_res[1], stride8) < 1e-4
    assert float(ours.std()) > 0.1


POINTS = {
    "click": ([[80.0, 90.0]], [1]),
    "three-clicks": ([[80.0, 90.0], [92.5, 101.25], [170.0, 180.0]], [1, 1, 0]),
    "corner": ([[0.0, 255.0]], [1]),
    "negative": ([[40.0, 200.0]], [0]),
}


@pytest.mark.parametrize("multimask", [True, False], ids=["three", "single"])
@pytest.mark.parametrize("case", list(POINTS))
@pytest.mark.parametrize("with_mask", [False, True], ids=["", "previous-mask"])
def test_masks_of_points_agree(
    twins: Twins, embedding: ImageEmbedding, case: str, multimask: bool, with_mask: bool
) -> None:
    points, labels = torch.tensor([POINTS[case][0]]), torch.tensor([POINTS[case][1]])
    mask = None
    if with_mask:
        y, x = torch.meshgrid(torch.arange(SIDE // 4), torch.arange(SIDE // 4), indexing="ij")
        mask = (8 - torch.hypot(x - 20.0, y - 22.0))[None, None]
    with torch.inference_mode():
        features = twins.ours.without_memory(embedding)
        ours = twins.ours.decode_masks(
            features, embedding.high_res, ModelPrompt(points, labels, mask), multimask=multimask
        )
        theirs = twins.image(
            image_embeddings=[*embedding.high_res, features],
            input_points=points[:, None],
            input_labels=labels[:, None],
            input_masks=mask,
            multimask_output=multimask,
        )
    assert largest_difference(ours.logits, theirs.pred_masks[:, 0]) < 1e-3
    assert largest_difference(ours.iou, theirs.iou_scores[:, 0]) < 1e-4
    assert largest_difference(ours.object_score, theirs.object_score_logits[:, 0]) < 1e-3
    assert float(ours.logits.std()) > 0.1


def test_masks_of_boxes_agree_in_a_batch(twins: Twins, embedding: ImageEmbedding) -> None:
    boxes = torch.tensor([[50.0, 60.0, 110.0, 120.0], [148.0, 158.0, 192.5, 202.0]])
    labels = torch.tensor([[2, 3], [2, 3]])
    with torch.inference_mode():
        features = twins.ours.without_memory(embedding)
        prompt = ModelPrompt(boxes.unflatten(1, (2, 2)), labels)
        ours = twins.ours.decode_masks(features, embedding.high_res, prompt, multimask=True)
        theirs = twins.image(image_embeddings=[*embedding.high_res, features], input_boxes=boxes[None])
    assert largest_difference(ours.logits, theirs.pred_masks[0]) < 1e-3
    assert largest_difference(ours.iou, theirs.iou_scores[0]) < 1e-4


# clicks after which no pixel is so near to zero that rounding decides its sign: signs are what is remembered of a
# prompted frame, and one that differs moves the logits of all later frames by 0.005
CLICKS = {1: ([(90.0, 90.0)], [1], None), 2: ([(180.0, 180.0), (160.0, 170.0)], [1, 0], None)}
WITH_BOX = {1: ([], [], (50.0, 60.0, 110.0, 120.0)), 2: ([(170.0, 180.0)], [1], (148.0, 158.0, 192.0, 202.0))}


@pytest.mark.parametrize(
    ("prompts", "frame", "reverse"),
    [
        pytest.param(CLICKS, 0, False, id="clicks-forward"),
        pytest.param(CLICKS, NUM_FRAMES - 1, True, id="clicks-backward"),
        pytest.param(WITH_BOX, 0, False, id="boxes-forward"),
    ],
)
def test_tracked_frames_of_two_objects_agree(
    twins: Twins,
    pixels: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    prompts: dict[int, tuple[list, list, tuple | None]],
    frame: int,
    reverse: bool,
) -> None:
    in_float32 = SimpleNamespace(**{**vars(torch), "bfloat16": torch.float32})
    monkeypatch.setattr(f"{type(twins.video).__module__}.torch", in_float32)
    segmenter = SAM2VideoSegmenter(twins.ours, reference_behaviour=True, fill_hole_area=0, memory_dtype=torch.float32)
    segmenter.set_video(make_frames())
    session = transformers.Sam2VideoInferenceSession(pixels, SIDE, SIDE, dtype=torch.float32)
    for object_id, (points, labels, box) in prompts.items():
        segmenter.add_clicks(frame, points, labels, object_id=object_id, box=box)
        corners = [] if box is None else [box[:2], box[2:]]
        coordinates = torch.tensor([[[*corners, *points]]])
        kinds = torch.tensor([[[*([2, 3] if corners else []), *labels]]], dtype=torch.int32)
        index = session.obj_id_to_idx(object_id)
        session.add_point_inputs(index, frame, {"point_coords": coordinates, "point_labels": kinds})
    session.obj_with_new_inputs = list(prompts)
    with torch.inference_mode():
        theirs = {
            output.frame_idx: (output.pred_masks[:, 0], output.object_score_logits.flatten())
            for output in twins.video.propagate_in_video_iterator(session, start_frame_idx=frame, reverse=reverse)
        }
    seen = []
    for result in segmenter.propagate_masklets(reverse=reverse, return_logits=True):
        low, score = theirs[result.frame]
        full = F.interpolate(low[:, None].float(), size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
        assert result.logits is not None
        difference = np.abs(result.logits - full.numpy()).max()
        flipped = ((result.logits > 0) != (full.numpy() > 0)).sum(axis=(1, 2))
        assert difference < 2e-3, (result.frame, difference)
        assert flipped.max() <= (0 if result.frame == frame else 2), (result.frame, flipped)
        assert np.abs(result.object_scores - score.numpy()).max() < 2e-3
        assert full.std() > 0.1
        seen.append(result.frame)
    assert seen == sorted(theirs, reverse=reverse)
    assert len(seen) == NUM_FRAMES
