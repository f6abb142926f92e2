"""Prompts on one image: forms of input, batches, windows, refinement, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from factories import make_model, make_movie
from napari_sam2._errors import FrameError, PromptError
from napari_sam2._types import Prompt
from napari_sam2.frames import open_frames
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.view import View
from napari_sam2.inference.views.view_tracking import extent_in_image

SMALL_VIEW = View(0, 8, 24, 24, is_native=True)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def native_model():
    return make_model(native_window=24)


def make_predictor(model, **over):
    predictor = SAM2ImagePredictor(model, **over)
    predictor.set_image(make_movie()[0])
    return predictor


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_prediction_unpacks_as_masks_scores_logits(model, multimask, count):
    masks, scores, logits = make_predictor(model).predict(
        point_coords=[(15, 20)], point_labels=[1], multimask_output=multimask
    )
    assert masks.shape == (count, 48, 64)
    assert masks.dtype == bool
    assert scores.shape == (count,)
    assert logits.shape == (count, 16, 16)


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_clicks_of_automatic_masks_have_one_mask_or_three(model, multimask, count):
    predictor, clicks = make_predictor(model), np.array([[15, 20], [40, 30]], np.float32)
    logits, scores, low_resolution = predictor.predict_points(clicks, multimask_output=multimask)
    assert logits.shape == (2, count, 48, 64)
    decoded, decoded_scores, _ = predictor.decode_points(clicks, multimask_output=multimask)
    assert torch.equal(decoded, low_resolution)
    assert torch.equal(decoded_scores, scores)
    assert scores.shape == (2, count)


@pytest.mark.parametrize("native", [False, True], ids=["whole-image", "native-window"])
def test_many_prompts_in_one_call_equal_one_by_one(model, native_model, native):
    predictor = make_predictor(native_model if native else model)
    mask = np.zeros((48, 64), bool)
    mask[5:20, 5:30] = True
    prompts = [
        Prompt([(15, 20)]),
        Prompt([(50, 30)]),
        Prompt([(15, 20), (50, 30)], [1, 0]),
        Prompt(box=(5, 10, 25, 30)),
        Prompt(mask=mask),
    ]
    together = predictor.predict(prompts, return_logits=True)
    assert together.masks.shape == (5, 3, 48, 64)
    for i, prompt in enumerate(prompts):
        alone = predictor.predict(prompt, return_logits=True)
        assert np.abs(together.masks[i] - alone.masks).max() < 1e-4
        assert np.abs(together.scores[i] - alone.scores).max() < 1e-5


def test_arrays_of_the_reference_equal_a_prompt(model):
    predictor = make_predictor(model)
    as_arrays = predictor.predict(point_coords=[(15, 20), (40, 40)], point_labels=[1, 0], box=(5, 10, 45, 44))
    as_prompt = predictor.predict(Prompt([(15, 20), (40, 40)], [1, 0], box=(5, 10, 45, 44)))
    assert np.array_equal(as_arrays.logits, as_prompt.logits)


def test_a_batch_of_boxes_has_a_leading_axis(model):
    boxes = [(5, 10, 25, 30), (40, 20, 60, 40)]
    masks, scores, logits = make_predictor(model).predict(box=boxes, multimask_output=False)
    assert masks.shape == (2, 1, 48, 64)
    assert scores.shape == (2, 1)
    assert logits.shape == (2, 1, 16, 16)


@pytest.mark.parametrize("native", [False, True], ids=["whole-image", "native-window"])
def test_earlier_logits_refine_in_the_view_they_came_from(model, native_model, native):
    predictor = make_predictor(native_model if native else model)
    _, _, logits = predictor.predict(point_coords=[(15, 20)], multimask_output=False)
    plain = predictor.predict(point_coords=[(15, 20), (20, 22)], point_labels=[1, 0], multimask_output=False)
    predictor.predict(point_coords=[(15, 20)], multimask_output=False)
    refined = predictor.predict(
        point_coords=[(15, 20), (20, 22)], point_labels=[1, 0], mask_input=logits, multimask_output=False
    )
    assert refined.masks.shape == plain.masks.shape
    assert not np.array_equal(refined.logits, plain.logits)


def test_logits_threshold_to_the_masks(model):
    predictor = make_predictor(model)
    logits = predictor.predict(Prompt([(15, 20)]), return_logits=True).masks
    masks = predictor.predict(Prompt([(15, 20)])).masks
    assert logits.dtype == np.float32
    assert np.array_equal(logits > 0, masks)


def test_holes_and_islands_up_to_the_area_are_gone(model):
    from scipy import ndimage

    def smallest_regions(**areas):
        predictor = make_predictor(model, **areas)
        sizes = []
        for x in (5, 15, 40, 55):
            _, _, logits = predictor.predict(Prompt([(x, 20)]))
            for mask in (side for plane in logits for side in (plane > 0, plane <= 0)):
                regions, count = ndimage.label(mask, np.ones((3, 3)))
                sizes += [int(np.bincount(regions.ravel())[1:].min())] if count > 1 else []
        return sizes

    assert min(smallest_regions()) <= 6  # there is something to remove
    assert min(smallest_regions(max_hole_area=6, max_sprinkle_area=6), default=7) > 6


def test_image_is_encoded_once(model):
    cache = EmbeddingCache()
    predictor = make_predictor(model, cache=cache)
    for x in range(10, 20):
        predictor.predict(point_coords=[(x, 20)])
    assert cache.misses == 1
    predictor.set_image(make_movie()[0])
    assert cache.misses == 1


def test_embedding_is_shared_with_the_video_side(model):
    cache = EmbeddingCache()
    frames = open_frames(make_movie())
    predictor = SAM2ImagePredictor(model, cache=cache)
    predictor.set_frame(frames, 3)
    segmenter = SAM2VideoSegmenter(model, cache=cache)
    segmenter.set_video(frames)
    segmenter.add_clicks(3, [(15, 20)])
    assert cache.misses == 1
    assert cache.hits >= 1


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(make_movie()[0], id="uint8"),
        pytest.param(make_movie()[0].astype(np.uint16) * 13, id="12-bit"),
        pytest.param(np.where(make_movie()[0] > 240, np.nan, make_movie()[0] / 255.0), id="float-with-nan"),
        pytest.param(make_movie()[0] > 100, id="bool"),
        pytest.param(np.repeat(make_movie()[0][..., None], 3, -1), id="rgb"),
        pytest.param(np.repeat(make_movie()[0][..., None], 4, -1), id="rgba"),
    ],
)
def test_any_intensity_is_an_image(model, image):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(image)
    assert predictor.predict(Prompt([(15, 20)])).masks.shape == (3, 48, 64)


def test_distant_pixels_do_not_affect_a_native_view(native_model):
    image = make_movie()[0]
    other = image.copy()
    other[:, 50:] = 255 - other[:, 50:]
    rgb = [np.repeat(i[..., None], 3, -1) for i in (image, other)]
    found = []
    for picture in rgb:
        predictor = SAM2ImagePredictor(native_model)
        predictor.set_image(picture)
        found.append(predictor.predict(Prompt(box=(12, 17, 18, 23)), return_logits=True).masks)
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({}, "no prompt was given", id="nothing"),
        pytest.param({"point_coords": [(70, 5)]}, "outside the image", id="point-outside"),
        pytest.param({"box": (100, 100, 120, 120)}, "outside the image", id="box-outside"),
        pytest.param({"point_coords": [1, 2, 3]}, r"\(N, 2\)", id="points-shape"),
        pytest.param({"point_coords": [(5, 5)], "point_labels": [1, 0]}, "one label per point", id="labels"),
        pytest.param({"point_coords": [(5, 5)], "mask_input": np.zeros((2, 3, 4, 5))}, "mask_input", id="mask-input"),
        pytest.param({"box": (5, 5, 5, 9)}, "no area", id="flat-box"),
        pytest.param({"point_coords": [(np.nan, 5)]}, "NaN", id="nan"),
        pytest.param({"prompts": []}, "empty list", id="no-prompts"),
        pytest.param({"prompts": Prompt([(1, 1)]), "box": (1, 1, 5, 5)}, "one or the other", id="both"),
    ],
)
def test_bad_prompts_say_what_is_allowed(model, arguments, message):
    with pytest.raises(PromptError, match=message):
        make_predictor(model).predict(**arguments)


def test_predicting_without_an_image_is_an_error(model):
    with pytest.raises(PromptError, match="set_image"):
        SAM2ImagePredictor(model).predict(point_coords=[(1, 1)])


def test_empty_image_is_refused(model):
    with pytest.raises(FrameError):
        SAM2ImagePredictor(model).set_image(np.zeros((0, 5), np.uint8))


def test_points_for_automatic_masks_equal_prompts(model):
    predictor = make_predictor(model)
    points = np.array([(15, 20), (50, 30), (30, 8)], np.float32)
    full, scores, low = predictor.predict_points(points)
    expected = predictor.predict([Prompt(p[None]) for p in points], return_logits=True)
    assert full.shape == (3, 3, 48, 64)
    assert torch.allclose(full, torch.from_numpy(expected.masks), atol=1e-4)
    assert torch.allclose(scores, torch.from_numpy(expected.scores), atol=1e-5)
    assert low.shape == (3, 3, 16, 16)


def test_points_for_automatic_masks_use_one_native_view(native_model):
    cache = EmbeddingCache()
    predictor = make_predictor(native_model, cache=cache)
    full, _, _ = predictor.predict_points(np.array([(15, 20), (50, 30)], np.float32))
    assert cache.misses == 2
    assert (full[0, :, :, 40:] < 0).all()


def test_a_click_is_decoded_in_several_views_and_a_scaled_one(native_model):
    cache = EmbeddingCache()
    predictor = make_predictor(native_model, cache=cache)
    predictor.predict(Prompt([(30, 24)]))
    assert 3 <= cache.misses <= 4
    assert predictor._last_views[0].is_native


def test_a_box_is_decoded_in_three_views_and_alone_equals_in_a_batch(native_model):
    cache = EmbeddingCache()
    predictor = make_predictor(native_model, cache=cache)
    box = Prompt(box=(26, 16, 38, 28))
    alone = predictor.predict(box, multimask_output=False)
    assert cache.misses == 3
    together = predictor.predict([Prompt(box=(2, 2, 12, 12)), box, Prompt([(15, 20)])], multimask_output=False)
    np.testing.assert_allclose(together.logits[1], alone.logits, atol=1e-4)


def test_a_box_on_a_frame_of_a_stack_is_decoded_in_two_views_as_in_a_session(native_model):
    misses = []
    for movie in (make_movie(3), make_movie(1)):
        predictor = make_predictor(native_model, cache=EmbeddingCache())
        predictor.set_frame(open_frames(movie), 0)
        predictor.predict(Prompt(box=(26, 16, 38, 28)), multimask_output=False)
        misses.append(predictor.cache.misses)
    assert misses == [2, 3]


def test_zoomed_predictions_have_one_component(native_model):
    points = np.array([(15, 20), (50, 30)], np.float32)
    boxes = np.array([(5, 10, 25, 30), (44, 24, 56, 36)], np.float32)
    looks = make_predictor(native_model).predict_zoomed(points, boxes)
    assert [look.logits.shape for look in looks] == [(1, 3, 16, 16)] * 2
    assert all(ndimage.label(mask)[1] <= 1 for look in looks for mask in look.logits[0].numpy() > 0)


def test_a_click_outside_the_view_of_the_first_one_enlarges_the_view(native_model):
    predictor = make_predictor(native_model)
    first = predictor.predict(Prompt([(12, 20)]), multimask_output=False)
    predictor._last_views = [SMALL_VIEW]
    outside = (60.0, 30.0)
    both = Prompt([(12, 20), outside], [1, 1])
    second = predictor.predict(both, mask_input=first.logits, multimask_output=False)
    enlarged = predictor._last_views[0]
    assert enlarged.x <= 12
    assert outside[0] < enlarged.x + enlarged.width
    # the second click changes the answer, and the view that it came from is the one to refine next
    alone = make_predictor(native_model)
    alone.predict(Prompt([(12, 20)]), multimask_output=False)
    alone._last_views = [SMALL_VIEW]
    without = alone.predict(Prompt([(12, 20)]), mask_input=first.logits, multimask_output=False, return_logits=True)
    third = predictor.predict(both, mask_input=second.logits, multimask_output=False, return_logits=True)
    assert predictor._last_views[0] == enlarged
    assert not np.array_equal(third.masks, without.masks)


def test_earlier_logits_keep_their_place_in_an_enlarged_view(native_model, monkeypatch):
    predictor = make_predictor(native_model)
    first = predictor.predict(Prompt([(12, 20)]), multimask_output=False)
    predictor._last_views = [SMALL_VIEW]
    drawn = np.full((1, 16, 16), -5, np.float32)
    drawn[:, 4:9, 6:12] = 5
    given = {}

    def decode(self, prompts, views, mask_inputs, *, multimask):
        given.update(view=views[0], logits=mask_inputs[0])
        return torch.zeros(1, 1, 16, 16), torch.ones(1, 1), torch.ones(1)

    monkeypatch.setattr(SAM2ImagePredictor, "_decode", decode)
    predictor.predict(Prompt([(12, 20), (60, 30)]), mask_input=drawn, multimask_output=False)
    assert first.logits.shape == drawn.shape
    before, after = extent_in_image(drawn[0] > 0, SMALL_VIEW), extent_in_image(given["logits"] > 0, given["view"])
    cell = given["view"].width / 16
    assert abs(before.x - after.x) <= cell
    assert abs(before.y - after.y) <= cell
    assert abs(before.side - after.side) <= 2 * cell


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"prompts": 7}, "prompts=7 was given; expected a Prompt", id="number"),
        pytest.param({"prompts": "abc"}, "prompts='abc' was given; expected a Prompt", id="text"),
        pytest.param({"prompts": [None]}, r"prompts=\[None\] was given; expected a Prompt", id="none-among-prompts"),
        pytest.param(
            {"point_coords": np.ones((2, 1, 2)), "point_labels": [[1]]}, "1 rows of point_labels", id="label-rows"
        ),
        pytest.param({"point_coords": np.zeros((0, 1, 2))}, "empty list", id="empty-batch"),
        pytest.param({"point_coords": [(5, 5)], "point_labels": ["a"]}, "point_labels", id="text-labels"),
        pytest.param({"point_coords": [(np.inf, 5)]}, "NaN or infinite", id="infinite"),
        pytest.param({"box": np.zeros((2, 2, 4))}, "a box of 16 numbers", id="box-shape"),
        pytest.param({"box": (1, 2, np.nan, 9)}, "NaN or infinite", id="nan-box"),
        pytest.param({"point_coords": [(5, 5)], "mask_input": [[np.nan]]}, "mask_input", id="nan-logits"),
        pytest.param({"point_coords": [(5, 5)], "mask_input": np.zeros((1, 0, 0))}, "mask_input", id="empty-logits"),
    ],
)
@pytest.mark.parametrize("native", [False, True], ids=["whole-image", "native-window"])
def test_odd_arguments_are_refused_with_what_is_allowed(model, native_model, native, arguments, message):
    with pytest.raises(PromptError, match=message):
        make_predictor(native_model if native else model).predict(**arguments)


def test_frames_that_are_none_are_refused(model):
    predictor = SAM2ImagePredictor(model)
    with pytest.raises(FrameError, match="open_frames"):
        predictor.set_frame(np.zeros((2, 8, 8), np.uint8), 0)
    with pytest.raises(PromptError, match="frames 0 to"):
        predictor.set_frame(open_frames(make_movie()), 10**9)


@pytest.mark.parametrize(
    "option",
    [{"mask_threshold": np.nan}, {"max_hole_area": -1}, {"max_sprinkle_area": "x"}, {"stability_threshold": 2}],
)
def test_odd_settings_are_refused(model, option):
    with pytest.raises(PromptError, match=next(iter(option))):
        SAM2ImagePredictor(model, **option)


def test_dense_maps_and_answers_need_views():
    predictor = SAM2ImagePredictor(make_model(native_window=32))
    predictor.set_image(np.zeros((32, 32, 3), np.uint8))
    view = View(0, 0, 32, 32, is_native=True)
    with pytest.raises(PromptError, match="no view was given"):
        predictor.dense_maps([])
    click, rough = Prompt(points=np.array([[2, 2]], np.float32)), np.zeros((8, 8), np.float32)
    with pytest.raises(PromptError, match="0 objects and 0 views"):
        predictor.answer_objects([], [], [])
    with pytest.raises(PromptError, match="1 objects and 2 views"):
        predictor.answer_objects([click], [rough], [view, view])
    with pytest.raises(PromptError, match="1 objects and 0 rough masks"):
        predictor.answer_objects([click], [], [view])


CLICK = np.float32([[8, 9]])


@pytest.mark.parametrize("points", [np.zeros((0, 2)), [[8, 9, 1]], [8, 9], [[8, np.nan]], [[8, 900]]], ids=str)
@pytest.mark.parametrize("method", ["decode_points", "predict_points", "predict_zoomed", "answer_clicks"])
def test_clicks_that_are_none_or_lie_outside_are_refused(model, method, points):
    predictor = make_predictor(model)
    more = {"predict_zoomed": [np.zeros((1, 4))], "answer_clicks": [[View(0, 0, 32, 32, is_native=True)]]}
    with pytest.raises(PromptError, match=r"points_xy of shape|NaN|lies outside the image"):
        getattr(predictor, method)(np.array(points, np.float32), *more.get(method, []))


@pytest.mark.parametrize(
    "logits",
    [torch.zeros(4, 4).to_sparse(), torch.zeros(16, 16)[None].repeat(2, 1, 1), torch.full((1, 1, 16, 16), torch.nan)],
    ids=["sparse", "of two", "nan"],
)
def test_earlier_logits_of_another_shape_are_refused(model, logits):
    predictor = make_predictor(model)
    for method in (predictor.decode_points, predictor.predict_points):
        with pytest.raises(PromptError, match="mask_input"):
            method(CLICK, mask_input=logits)


@pytest.mark.parametrize("rough", [np.zeros(8), np.full((8, 8), np.nan), np.zeros((0, 8))], ids=["row", "nan", "empty"])
def test_rough_masks_that_are_no_images_are_refused(model, rough):
    with pytest.raises(PromptError, match="rough mask"):
        make_predictor(model).answer_objects([Prompt(points=CLICK)], [rough.astype(np.float32)], [SMALL_VIEW])
