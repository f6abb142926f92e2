"""The network: official names, any image size, shapes, batches equal to one by one."""

from __future__ import annotations

import json

import pytest
import torch

from factories import make_config, make_model
from napari_sam2.network.attention import RotaryMemoryAttention, RotarySelfAttention, attend
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.dense_head import DenseHead
from napari_sam2.network.encoding_cache import EncodingCache
from napari_sam2.network.features import ImageEmbedding, MemoryBatch, ModelPrompt
from napari_sam2.network.position import axial_rotation, rotate
from napari_sam2.network.prompt_encoder import draw_prompt
from napari_sam2.network.sam2 import ABSENT_LOGIT, SAM2
from places import SHARED

KEYS = SHARED / "reference" / "keys"


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "sam2_micro"])
def test_state_dict_has_the_official_names_and_shapes(name: str):
    if not KEYS.is_dir():
        pytest.skip("the reference's key lists are not beside this checkout")
    with torch.device("meta"):
        state = SAM2(CONFIGS[name]).state_dict()
    expected = {key: tuple(shape) for key, shape in json.loads((KEYS / f"{name}.json").read_text())}
    assert {key: tuple(value.shape) for key, value in state.items()} == expected


def test_micro_has_at_most_twelve_megabytes():
    with torch.device("meta"):
        model = SAM2(CONFIGS["sam2_micro"])
    assert 2 * sum(p.numel() for p in model.parameters()) <= 12_000_000  # in half precision


@pytest.mark.parametrize("size", [32, 64, 96, 160])
@torch.inference_mode()
def test_any_multiple_of_32_is_an_image_size(size: int):
    model = make_model()
    embedding = model.encode_image(torch.randn(2, 3, size, size))
    assert embedding.embed.shape == (2, 128, size // 16, size // 16)
    assert embedding.high_res[0].shape == (2, 16, size // 4, size // 4)
    assert embedding.image_size == size
    prompt = ModelPrompt(torch.tensor([[[5.0, 6.0]]] * 2), torch.ones(2, 1, dtype=torch.int32))
    decoded = model.decode_masks(model.without_memory(embedding), embedding.high_res, prompt, multimask=True)
    assert decoded.logits.shape == (2, 3, size // 4, size // 4)
    assert decoded.iou.shape == (2, 3)
    assert torch.isfinite(decoded.logits).all()


@torch.inference_mode()
def test_many_prompts_on_one_image_equal_one_by_one():
    model = make_model()
    embedding = model.encode_image(torch.randn(1, 3, 64, 64))
    features = model.without_memory(embedding)
    points, labels = torch.rand(5, 2, 2) * 64, torch.ones(5, 2, dtype=torch.int32)
    together = model.decode_all(features, embedding.high_res, ModelPrompt(points, labels))
    for i in range(5):
        alone = model.decode_all(features, embedding.high_res, ModelPrompt(points[i : i + 1], labels[i : i + 1]))
        assert torch.allclose(together.logits[i], alone.logits[0], atol=1e-4)
        assert torch.allclose(together.iou[i], alone.iou[0], atol=1e-5)


@pytest.mark.parametrize(
    ("leading", "num_queries", "num_keys"),
    [
        pytest.param((2,), 600, 1500, id="blocks-of-unequal-length"),
        pytest.param((3, 2), 7, 1024, id="heads-of-few-queries"),
        pytest.param((2,), 40, 100, id="short"),
        pytest.param((), 40, 1100, id="no-batch"),
        pytest.param((1, 2), 7, 1024, id="one-image-for-all"),
    ],
)
@torch.inference_mode()
def test_attention_equals_its_formula(leading: tuple[int, ...], num_queries: int, num_keys: int):
    query, key = torch.randn(*leading, num_queries, 32), torch.randn(*leading, num_keys, 32)
    if leading == (1, 2):
        query = torch.randn(3, 2, num_queries, 32)
    value = torch.randn(*leading, num_keys, 16)
    expected = (query @ key.mT / 32**0.5).softmax(-1) @ value
    assert torch.allclose(attend(query, key, value), expected, atol=1e-5)


@pytest.mark.parametrize("gains_speed", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_attention_in_half_precision_is_near_float32_whichever_multiplies_faster(
    dtype: torch.dtype, gains_speed: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("napari_sam2.network.attention._gains_speed", lambda _: gains_speed)
    query, key, value = torch.randn(2, 300, 32), torch.randn(2, 1100, 32), torch.randn(2, 1100, 16)
    found = attend(query.to(dtype), key.to(dtype), value.to(dtype))
    assert found.dtype == dtype
    expected = attend(query, key, value)
    assert (found.float() - expected).square().mean().sqrt() < 0.02 * expected.std()


@torch.inference_mode()
def test_long_products_are_rounded_where_that_is_faster_and_what_all_share_is_not(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(shape, generator=generator) for shape in ((2, 300, 32), (2, 4100, 32), (2, 4100, 16))
    )
    key, value = key + 50, value + 1000  # rounded with all that, nothing would be left of the values
    monkeypatch.setattr("napari_sam2.network.attention._gains_speed", lambda _: True)
    exact = attend(query, key, value)
    rounded = attend(query, key, value, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).square().mean().sqrt() < 0.02 * exact.std()
    short = query, key[:, :4000], value[:, :4000]
    assert torch.equal(attend(*short, torch.bfloat16), attend(*short)), "nothing would be gained"
    monkeypatch.setattr("napari_sam2.network.attention._gains_speed", lambda _: False)
    assert torch.equal(attend(query, key, value, torch.bfloat16), exact)


def test_objects_share_the_first_self_attention(monkeypatch: pytest.MonkeyPatch):
    rows: list[int] = []
    usual = RotarySelfAttention.forward

    def forward(self, x, *rest):  # type: ignore[no-untyped-def]
        rows.append(len(x))
        return usual(self, x, *rest)

    monkeypatch.setattr(RotarySelfAttention, "forward", forward)
    model = make_model()
    with torch.inference_mode():
        embedding = model.encode_image(torch.randn(1, 3, 64, 64))
        memories = MemoryBatch((torch.randn(3, model.config.memory_dim, 4, 4),), (0,))
        shared = model.attend_to_memory(embedding, memories)
        each = ImageEmbedding(embedding.embed.repeat(3, 1, 1, 1), embedding.high_res)
        apart = model.attend_to_memory(each, memories)
    assert rows == [1, 3, 3, 3]
    torch.testing.assert_close(shared, apart, atol=1e-5, rtol=1e-5)


def test_half_precision_on_a_cpu_is_for_the_attention_over_memories(monkeypatch: pytest.MonkeyPatch):
    asked: list[torch.dtype | None] = []

    def noted(query, key, value, products=None):  # type: ignore[no-untyped-def]
        asked.append(products)
        return attend(query, key, value, products)

    for module in ("attention", "hiera"):
        monkeypatch.setattr(f"napari_sam2.network.{module}.attend", noted)
    model = make_model()
    assert model.compute_in(torch.bfloat16) is model
    assert (model.precision, model.dtype) == (torch.bfloat16, torch.float32)
    with torch.inference_mode():
        embedding = model.encode_image(torch.randn(1, 3, 64, 64))
        assert set(asked) == {None}
        asked.clear()
        model.attend_to_memory(embedding, MemoryBatch((torch.randn(1, model.config.memory_dim, 4, 4),), (0,)))
    assert asked == [torch.bfloat16] * 2 * model.config.memory_layers
    model.compute_in(torch.float64)
    assert model.precision == model.dtype == torch.float64


def test_attention_has_gradients():
    query, key = torch.randn(2, 300, 8, requires_grad=True), torch.randn(2, 1100, 8)
    attend(query, key, key).sum().backward()
    assert query.grad is not None
    assert query.grad.abs().max() > 0


@torch.inference_mode()
def test_projecting_values_after_the_attention_changes_nothing():
    attention = RotaryMemoryAttention(32, 8)
    x, memory, position = torch.randn(2, 16, 32), torch.randn(2, 35, 8), torch.randn(1, 35, 8)
    table = axial_rotation((4, 4), 32, device=x.device)
    key = attention.k_proj(memory + position)
    key = torch.cat((rotate(key[:, :32], table), key[:, 32:]), 1)
    expected = torch.nn.functional.scaled_dot_product_attention(
        rotate(attention.q_proj(x), table), key, attention.v_proj(memory)
    )
    found = attention(x, memory, position, 3, table)
    assert torch.allclose(found, attention.out_proj(expected), atol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    table = axial_rotation((1, 6), 16, device=torch.device("cpu"))
    x = torch.randn(16).expand(6, 16)
    turned = rotate(x, table)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    products = turned @ turned.T
    assert torch.allclose(products[0, 2], products[3, 5], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rotation_equals_real_arithmetic(dtype: torch.dtype):
    x = torch.randn(2, 24, 16).to(dtype)  # twice the table's grid
    angle = axial_rotation((3, 4), 16, device=x.device).angle().repeat(2, 1)
    first, second = x[..., 0::2].float(), x[..., 1::2].float()
    turned = torch.stack(
        (first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()), dim=-1
    )
    found = rotate(x, axial_rotation((3, 4), 16, device=x.device))
    assert found.dtype == dtype
    assert torch.allclose(found.float(), turned.flatten(-2), atol=1e-6, rtol=torch.finfo(dtype).eps)


def segment_and_remember(model: SAM2, image: torch.Tensor) -> torch.Tensor:
    embedding = model.encode_image(image)
    found = model.segment_frame(model.without_memory(embedding), embedding.high_res, None, multimask=True)
    memory = MemoryBatch((model.encode_memory(embedding, found.logits, found.object_score, binarise=False),), (4,))
    return model.segment_frame(model.attend_to_memory(embedding, memory), embedding.high_res, None, multimask=True)[0]


def test_training_continues_after_inference_with_the_same_encodings():
    model, image = make_model(), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        first = segment_and_remember(model, image)
    segment_and_remember(model, image).sum().backward()
    assert model.image_encoder.trunk.pos_embed.grad.abs().max() > 0
    with torch.inference_mode():
        assert torch.equal(segment_and_remember(model, image), first)


def test_tables_follow_the_weights_they_come_from():
    model, image = make_model(), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model.encode_image(image).embed
        position = model.sam_prompt_encoder.dense_position(64)
    model.image_encoder.trunk.pos_embed.data.add_(1.0)
    model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(2)
    with torch.inference_mode():
        assert not torch.allclose(model.encode_image(image).embed, before)
        assert not torch.allclose(model.sam_prompt_encoder.dense_position(64), position)


def test_a_fixed_position_frame_gives_a_place_the_same_code_at_any_image_size():
    encoder = make_model(position_frame=512).sam_prompt_encoder
    assert torch.allclose(encoder.dense_position(64), encoder.dense_position(128)[..., 2:6, 2:6], atol=1e-5)
    relative = make_model(position_frame=None).sam_prompt_encoder
    assert not torch.allclose(relative.dense_position(64), relative.dense_position(128)[..., 2:6, 2:6], atol=1e-1)


def test_cache_keeps_the_latest_tables():
    cache = EncodingCache(limit=2)
    made = []

    def table_of(key: int) -> torch.Tensor:
        return cache.get(key, lambda: made.append(key) or torch.full((1,), key))

    for key in (1, 2, 2, 3, 3, 2, 1):
        assert table_of(key).item() == key
    assert made == [1, 2, 3, 1]
    assert len(cache) == 2


def test_positions_of_prompts_keep_float32_in_a_network_of_bfloat16():
    exact, rounded = make_model(), make_model().to(torch.bfloat16)
    unit_xy = torch.rand(20, 2)
    assert torch.equal(rounded.sam_prompt_encoder.pe_layer(unit_xy), exact.sam_prompt_encoder.pe_layer(unit_xy))
    assert rounded.sam_prompt_encoder.dense_position(64).dtype == torch.bfloat16


@torch.inference_mode()
def test_absent_object_has_no_pixels_and_the_pointer_of_absence():
    model = make_model()
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50.0)
    embedding = model.encode_image(torch.randn(1, 3, 64, 64))
    found = model.segment_frame(model.without_memory(embedding), embedding.high_res, None, multimask=True)
    assert (found.logits == ABSENT_LOGIT).all()
    assert torch.allclose(found.pointer, model.no_obj_ptr)


@pytest.mark.parametrize("is_sam21", [True, False])
@torch.inference_mode()
def test_memory_attention_takes_any_number_of_memories_and_pointers(is_sam21: bool):
    model = make_model(is_sam21=is_sam21)
    embedding = model.encode_image(torch.randn(1, 3, 64, 64))
    features = torch.randn(3, 64, 4, 4)
    for memory in (
        MemoryBatch((features,), (4,)),
        MemoryBatch((features, features), (4, 0), torch.randn(3, 2, 128), (3.0, 1.0)),
        MemoryBatch((features,), (4,), torch.randn(3, 1, 128), (0.0,), 0),
    ):
        assert model.attend_to_memory(embedding, memory).shape == (3, 128, 4, 4)


@torch.inference_mode()
def test_drawn_box_is_positive_inside_and_negative_outside():
    corners, labels = torch.tensor([[[16.0, 8.0], [40.0, 32.0]]]), torch.tensor([[2, 3]])
    drawn = draw_prompt(corners, labels, 16)[0, 0]
    assert (drawn[3:8, 5:10] > 2.9).all()
    assert (drawn[9:] < -2.9).all()
    assert (drawn[:, 11:] < -2.9).all()


@torch.inference_mode()
def test_drawn_clicks_have_the_sign_of_their_label_and_padding_draws_nothing():
    points = torch.tensor([[[21.5, 21.5], [45.5, 45.5], [5.5, 5.5]]])
    drawn = draw_prompt(points, torch.tensor([[1, 0, -1]]), 16)[0, 0]
    assert drawn[5, 5] > 5
    assert drawn[11, 11] < -5
    assert drawn[1, 1].abs() < 0.1


@torch.inference_mode()
def test_a_mask_prompt_is_added_to_the_candidates_weighted_by_their_gate():
    model = make_model(keeps_mask=True, draws_prompts=False)
    decoder = model.sam_mask_decoder
    for parameter in (*decoder.mask_gate.parameters(), *decoder.conv_mask.parameters()):
        parameter.zero_()
    embedding = model.encode_image(torch.randn(1, 3, 64, 64))
    prompt = ModelPrompt(mask=torch.randn(2, 1, 16, 16) * 8)
    features = model.without_memory(embedding)
    closed = model.decode_all(features, embedding.high_res, prompt).logits
    decoder.mask_gate.bias.fill_(0.5)
    opened = model.decode_all(features, embedding.high_res, prompt).logits
    torch.testing.assert_close(opened - closed, 0.5 * prompt.mask.clamp(-10, 10).expand(-1, 4, -1, -1))
    # without a mask there is nothing to keep
    click = ModelPrompt(torch.tensor([[[30.0, 30.0]]]), torch.ones(1, 1, dtype=torch.int32))
    before = model.decode_all(features, embedding.high_res, click).logits
    decoder.mask_gate.bias.fill_(0.0)
    torch.testing.assert_close(model.decode_all(features, embedding.high_res, click).logits, before)


def test_only_the_micro_model_keeps_masks_and_the_official_names_stay():
    assert [name for name, config in CONFIGS.items() if config.keeps_mask] == ["sam2_micro"]
    assert [name for name, config in CONFIGS.items() if config.num_fine_blocks] == ["sam2_micro"]
    assert [name for name, config in CONFIGS.items() if config.num_dense_blocks] == ["sam2_micro"]


def test_pixel_blocks_of_the_dense_head_add_nothing_at_first_and_then_see_the_pixels_and_cells_around():
    torch.manual_seed(0)
    model = make_model(num_dense_blocks=5)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        embedding = model.encode_image(image)
    head = model.dense_head
    plain = DenseHead(model.config.hidden_dim)
    plain.load_state_dict(head.state_dict(), strict=False)
    assert torch.equal(head(embedding, image), plain(embedding, image))
    with torch.no_grad():
        head.pixel_blocks.exit.weight.normal_()
    image.requires_grad_()
    reached = torch.autograd.grad(head(embedding, image)[0, :, 8, 8].sum(), image)[0].abs().sum((0, 1))
    assert (reached[32:36, 32:36] > 0).all()
    assert reached[32, 4] > 0  # seven cells away
    assert reached[32, 63] > 0


def test_fine_blocks_add_nothing_at_first_and_then_use_what_is_around():
    blocks = make_model(num_fine_blocks=3).sam_mask_decoder.fine_blocks
    dim = blocks.exit.out_channels // 4
    features = torch.randn(2, dim, 16, 24, requires_grad=True)
    assert torch.equal(blocks(features, None, None), features)
    with torch.no_grad():
        blocks.exit.weight.normal_()
    reached = torch.autograd.grad(blocks(features, None, None)[0, :, 8, 12].sum(), features)[0].abs().sum(1)
    assert reached[0, 4, 12] > 0
    assert reached[0, 8, 2] > 0  # three kernels of seven positions, folded by two
    assert reached[1].sum() == 0


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["click", "mask"])
def test_fine_blocks_see_the_drawn_prompt_and_the_mask_prompt(kind: str):
    blocks = make_model(num_fine_blocks=3).sam_mask_decoder.fine_blocks
    blocks.exit.weight.normal_()
    features = torch.zeros(2, blocks.exit.out_channels // 4, 16, 16)
    one = torch.zeros(1, 1, 16, 16)
    one[..., 8, 8] = 1
    drawn, mask = (one, None) if kind == "click" else (None, one)
    plain, marked = blocks(features, None, None), blocks(features, drawn, mask)
    assert (marked - plain)[:, :, 8, 8].abs().max() > 1e-3
    assert torch.equal(marked[0], marked[1])


def test_dtype_follows_the_parameters():
    model = make_model().to(torch.bfloat16)
    with torch.inference_mode():
        embedding = model.encode_image(torch.randn(1, 3, 64, 64))
        features = model.without_memory(embedding)
        found = model.segment_frame(features, embedding.high_res, None, multimask=True)
        memory = model.encode_memory(embedding, found.logits, found.object_score, binarise=False)
        attended = model.attend_to_memory(embedding, MemoryBatch((memory,), (0,)))
    assert embedding.embed.dtype == memory.dtype == attended.dtype == torch.bfloat16
    assert found.logits.dtype == torch.float32


def test_configurations_differ_where_sam_2_and_2_1_differ():
    assert make_config().is_sam21
    assert not hasattr(SAM2(make_config(is_sam21=False)), "obj_ptr_tpos_proj")
