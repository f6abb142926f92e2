"""Prompts, tracking and memory of the video segmenter, on a small random network."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from factories import make_model, make_movie
from napari_sam2._errors import DeviceError, PromptError
from napari_sam2._types import Prompt
from napari_sam2.inference.tracking.claims import DistractorSettings
from napari_sam2.inference.tracking.frame_prompts import FramePrompts
from napari_sam2.inference.tracking.object_frames import ObjectFrames
from napari_sam2.inference.tracking.sharing import SharingSettings
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.embedding_cache import EmbeddingCache

BIT_EQUAL = 0.0


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def native_model():
    return make_model(native_window=24)


def make_segmenter(model, movie=None, **over):
    segmenter = SAM2VideoSegmenter(model, **over)
    segmenter.set_video(make_movie() if movie is None else movie)
    return segmenter


def test_add_clicks_gives_the_mask_on_that_frame_at_once(model):
    segmenter = make_segmenter(model)
    masks = segmenter.add_clicks(2, [(19, 20)])
    assert masks.shape == (1, 48, 64)
    assert masks.dtype == bool
    assert segmenter.object_ids == (1,)
    assert segmenter.prompted_frames(1) == (2,)


def test_image_as_first_frame_stands_for_a_video_of_one_frame(model):
    segmenter = SAM2VideoSegmenter(model)
    masks = segmenter.add_clicks(make_movie()[0], [(15, 20)])
    assert segmenter.shape == (1, 48, 64)
    assert np.array_equal(segmenter.track_objects()[0] == 1, masks[0])


def test_same_prompt_again_gives_the_same_mask(model):
    segmenter = make_segmenter(model)
    first = segmenter.add_clicks(0, [(15, 20)])
    assert np.array_equal(segmenter.add_clicks(0, [(15, 20)]), first)


def test_taking_a_click_back_restores_the_mask_before(model):
    segmenter = make_segmenter(model)
    first = segmenter.add_prompt(0, Prompt([(15, 20)]))
    refined = segmenter.add_prompt(0, Prompt([(15, 20), (30, 30)], [1, 0]))
    back = segmenter.add_prompt(0, Prompt([(15, 20)]))
    again = segmenter.add_prompt(0, Prompt([(15, 20), (30, 30)], [1, 0]))
    assert np.array_equal(back.masks, first.masks)
    assert np.array_equal(again.masks, refined.masks)
    assert np.array_equal(again.iou_scores, refined.iou_scores)


def test_reference_feeds_earlier_logits_back_even_for_the_same_prompt(model):
    segmenter = make_segmenter(model, reference_behaviour=True)
    segmenter.add_clicks(0, [(15, 20)])
    before = segmenter._objects[1].bank.at(0).logits.clone()
    segmenter.add_clicks(0, [(15, 20)])
    assert not torch.equal(segmenter._objects[1].bank.at(0).logits, before)


def test_own_mask_comes_back_pixel_for_pixel(model):
    mask = np.zeros((48, 64), bool)
    mask[10:30:2, 5:40:3] = True
    segmenter = make_segmenter(model)
    assert np.array_equal(segmenter.add_clicks(1, [], mask=mask)[0], mask)
    labels = segmenter.track_objects()
    assert np.array_equal(labels[1] == 1, mask)


def test_reference_passes_a_mask_through_low_resolution(model):
    mask = np.zeros((48, 64), bool)
    mask[10:30:2, 5:40:3] = True
    segmenter = make_segmenter(model, reference_behaviour=True)
    assert not np.array_equal(segmenter.add_clicks(1, [], mask=mask)[0], mask)


def test_correction_on_a_tracked_frame_stays(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)])
    list(segmenter.propagate_masklets())
    corrected = segmenter.add_clicks(4, [(23, 20), (50, 30)], [1, 0])
    results = {r.frame: r for r in segmenter.propagate_masklets(0)}
    assert np.array_equal(results[4].masks[0], corrected[0])
    assert results[4].is_prompted == (True,)
    assert results[3].is_prompted == (False,)


def test_correction_is_lost_with_the_references_default(model):
    segmenter = make_segmenter(model, reference_behaviour=True, corrections_stick=False)
    segmenter.add_clicks(0, [(15, 20)])
    before = {r.frame: r.masks for r in segmenter.propagate_masklets()}
    segmenter.add_clicks(4, [(23, 20), (50, 30)], [1, 0])
    after = {r.frame: r.masks for r in segmenter.propagate_masklets(0)}
    assert all(np.array_equal(before[frame], after[frame]) for frame in before)


@pytest.mark.parametrize("native", [False, True], ids=["whole-frame", "native-window"])
@pytest.mark.parametrize("batch_bytes", [None, 1], ids=["one-batch", "split"])
def test_objects_together_equal_objects_alone(model, native_model, native, batch_bytes):
    network = native_model if native else model
    prompts = {1: (0, (15, 20)), 2: (0, (50, 30)), 3: (3, (40, 10))}
    together = make_segmenter(network, batch_bytes=batch_bytes, sharing=SharingSettings(are_shared=False))
    for object_id, (frame, click) in prompts.items():
        together.add_clicks(frame, [click], object_id=object_id)
    found = {r.frame: r for r in together.propagate_masklets(0, return_logits=True)}
    for object_id, (frame, click) in prompts.items():
        alone = make_segmenter(network)
        alone.add_clicks(frame, [click], object_id=object_id)
        for result in alone.propagate_masklets(return_logits=True):
            row = found[result.frame].object_ids.index(object_id)
            assert np.abs(found[result.frame].logits[row] - result.logits[0]).max() < 1e-4


def test_batch_is_split_to_fit_the_budget(model):
    assert make_segmenter(model, batch_bytes=1)._object_frames().objects_per_batch() == 1
    assert make_segmenter(model)._object_frames().objects_per_batch() > 8


def test_too_little_memory_means_fewer_objects_at_once_and_the_same_masks(model, monkeypatch):
    def tracked(limit=4):
        segmenter, sizes = make_segmenter(model), []
        for object_id in range(1, 5):
            segmenter.add_clicks(0, [(10 * object_id, 20)], object_id=object_id)
        attend = type(model).attend_to_memory

        def scarce(network, embedding, batch):
            sizes.append(batch.features[0].shape[0])
            if sizes[-1] > limit:
                raise torch.OutOfMemoryError("out of memory")
            return attend(network, embedding, batch)

        with monkeypatch.context() as patched:
            patched.setattr(type(model), "attend_to_memory", scarce)
            return list(segmenter.propagate_masklets(stop=3, return_logits=True)), sizes

    (whole, _), (parted, sizes) = tracked(), tracked(limit=2)
    assert sizes == [4, 2, 2, 2, 2], "tried once with all of them, and never again"
    for a, b in zip(whole, parted, strict=True):
        assert a.object_ids == b.object_ids == (1, 2, 3, 4)
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)
    with pytest.raises(DeviceError, match="not enough memory for one object"):
        tracked(limit=0)


def test_tracking_in_chunks_equals_tracking_in_one_go(model):
    movie = make_movie(24)
    whole, chunked = make_segmenter(model, movie), make_segmenter(model, movie)
    for segmenter in (whole, chunked):
        segmenter.add_clicks(0, [(15, 20)])
    expected = [r.logits for r in whole.propagate_masklets(0, return_logits=True)]
    found = []
    for start in (0, 7, 8, 19):
        stop = {0: 7, 7: 8, 8: 19, 19: None}[start]
        found += [r.logits for r in chunked.propagate_masklets(start, stop, return_logits=True)]
    assert len(found) == 24
    assert all(np.abs(a - b).max() == BIT_EQUAL for a, b in zip(expected, found, strict=True))


def test_tracking_continues_after_closing_the_generator_early(model):
    movie = make_movie(12)
    whole, stopped = make_segmenter(model, movie), make_segmenter(model, movie)
    for segmenter in (whole, stopped):
        segmenter.add_clicks(0, [(15, 20)])
    expected = {r.frame: r.masks for r in whole.propagate_masklets()}
    generator = stopped.propagate_masklets()
    for result in generator:
        if result.frame == 5:
            generator.close()
    rest = {r.frame: r.masks for r in stopped.propagate_masklets(6)}
    assert list(rest) == list(range(6, 12))
    assert all(np.array_equal(rest[frame], expected[frame]) for frame in rest)


@pytest.mark.parametrize(
    ("start", "stop", "reverse", "expected"),
    [
        pytest.param(None, None, False, list(range(2, 8)), id="from-the-prompt"),
        pytest.param(0, 3, False, [0, 1, 2], id="three-frames-are-three"),
        pytest.param(None, None, True, [2, 1, 0], id="backwards-from-the-prompt"),
        pytest.param(0, None, True, [0], id="backwards-from-frame-0-gives-it"),
        pytest.param(5, 3, True, [5, 4], id="backwards-range"),
        pytest.param(6, 100, False, [6, 7], id="stop-beyond-the-end"),
    ],
)
def test_frames_of_a_pass(model, start, stop, reverse, expected):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(2, [(19, 20)])
    assert [r.frame for r in segmenter.propagate_masklets(start, stop, reverse=reverse)] == expected


def test_object_is_not_tracked_before_its_first_prompt(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)], object_id=1)
    segmenter.add_clicks(3, [(47, 30)], object_id=2)
    ids = {r.frame: r.object_ids for r in segmenter.propagate_masklets(0)}
    assert ids[2] == (1,)
    assert ids[3] == (1, 2)


def test_scores_come_per_object_and_frame(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)], object_id=1)
    segmenter.add_clicks(0, [(50, 30)], object_id=7)
    for result in segmenter.propagate_masklets():
        assert result.object_ids == (1, 7)
        assert result.masks.shape == (2, 48, 64)
        assert result.iou_scores.shape == result.object_scores.shape == (2,)
        assert ((result.iou_scores >= 0) & (result.iou_scores <= 1)).all()


def test_memory_stays_bounded_over_a_long_stack(model):
    segmenter = make_segmenter(model, make_movie(120, (32, 32)))
    segmenter.cache.max_bytes = 10**6
    segmenter.add_clicks(0, [(15, 20)])
    held = [segmenter.nbytes for _ in segmenter.propagate_masklets()]
    assert max(held[40:]) <= max(held[:40]) + 1


def test_track_objects_fills_both_directions_from_the_prompt(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(4, [], object_id=3, box=(15, 10, 32, 30))
    seen = []
    labels = segmenter.track_objects(on_frame=lambda r: seen.append(r.frame))
    assert labels.shape == (8, 48, 64)
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) <= {0, 3}
    assert seen == [4, 5, 6, 7, 3, 2, 1, 0]


def test_track_objects_takes_each_half_from_the_nearer_prompt(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(1, [(17, 20)])
    segmenter.add_clicks(6, [(27, 20)])
    plan = segmenter.plan()
    assert [s.frame for s in plan.forwards] == [1, 2, 3, 6, 7]
    assert [s.frame for s in plan.backwards] == [5, 4, 0]


def test_tracking_can_be_limited_to_objects_and_frames(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(2, [(15, 20)], object_id=1)
    segmenter.add_clicks(3, [(47, 30)], object_id=2)
    assert [s.frame for s in segmenter.plan(object_ids=[2], start=1, stop=6).forwards] == [3, 4, 5]
    assert {r.object_ids for r in segmenter.track_frames(object_ids=[2])} == {(2,)}
    labels = np.zeros(segmenter.shape, np.int32)
    frames = {r.frame for r in segmenter.track_into(labels, object_ids=[1], start=1, stop=5)}
    assert frames == {1, 2, 3, 4}
    assert set(np.unique(labels)) == {0, 1}
    assert not labels[[0, 5, 6, 7]].any()
    assert np.array_equal(segmenter.track_objects(object_ids=[1], start=1, stop=5), labels)


@pytest.mark.parametrize(("lost_after", "num_tracked"), [(2, 2), (None, 7)])
def test_a_lost_object_is_tracked_as_long_as_it_is_said(lost_after, num_tracked):
    model = make_model()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50.0)
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)])
    labels = np.zeros(segmenter.shape, np.int32)
    results = list(segmenter.track_into(labels, lost_after=lost_after))
    assert sum(r.object_ids == (1,) and r.frame > 0 for r in results) == num_tracked
    assert np.array_equal(segmenter.track_objects(lost_after=lost_after), labels)


def test_the_nearer_prompt_wins_between_passes(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)], object_id=1)
    segmenter.add_clicks(7, [(29, 20)], object_id=2)
    logits = {}
    for result in segmenter.track_frames():
        for row, object_id in enumerate(result.object_ids):
            logits[result.frame, object_id] = result.logits[row]
    labels = segmenter.track_objects()
    for frame in range(8):
        both = np.stack([logits[frame, 1], logits[frame, 2]])
        nearer = 0 if frame <= 3 else 1
        expected = np.where(both[1 - nearer] > 0, 2 - nearer, 0)
        expected[both[nearer] > 0] = nearer + 1
        for prompted_frame, object_id in ((0, 1), (7, 2)):  # prompted masks keep their pixels
            if frame == prompted_frame:
                expected[logits[frame, object_id] > 0] = object_id
        assert np.array_equal(labels[frame], expected)


def test_out_is_written_frame_by_frame(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)])
    out = np.zeros((8, 48, 64), np.int32)
    assert segmenter.track_objects(out=out) is out
    assert out.any()


@pytest.mark.parametrize(
    "labels", [[[0, 1]], np.zeros((48, 64), np.int32), np.zeros((8, 48, 64))], ids=["list", "2d", "float"]
)
def test_labels_that_do_not_fit_are_refused_before_tracking(model, labels):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)])
    with pytest.raises(PromptError, match=r"give an array|has the shape|use int32"):
        segmenter.track_into(labels)


def test_objects_kept_apart_do_not_share_pixels_in_memory(model):
    """The option changes what is remembered, so tracked frames differ from those of free objects."""
    free, apart = make_segmenter(model), make_segmenter(model, keep_apart=True)
    for segmenter in (free, apart):
        segmenter.add_clicks(0, [(15, 20)], object_id=1)
        segmenter.add_clicks(0, [(18, 20)], object_id=2)
    a = [r.logits for r in free.propagate_masklets(return_logits=True)]
    b = [r.logits for r in apart.propagate_masklets(return_logits=True)]
    assert np.array_equal(a[1], b[1])  # memory only tells from the second tracked frame on
    assert not np.array_equal(a[3], b[3])


@pytest.mark.parametrize("native", [False, True])
def test_frames_on_which_another_object_is_a_candidate_stay_in_memory(model, native_model, monkeypatch, native):
    settings = DistractorSettings(are_remembered=True, max_frames=2)
    segmenter = make_segmenter(native_model if native else model, make_movie(20), distractors=settings)
    monkeypatch.setattr("napari_sam2.inference.tracking.frame_overlaps.find_distracted", lambda *_: {1})
    for object_id, column in ((1, 17), (2, 48)):
        segmenter.add_clicks(0, [(column, 20)], object_id=object_id)
    for _ in segmenter.track_frames():
        pass
    assert len(segmenter._objects[1].bank.distractors) == 2
    assert not segmenter._objects[2].bank.distractors


def test_the_last_mask_prompts_the_next_frame_of_models_that_follow_it():
    logits = []
    for follows in (True, False):  # the same weights
        segmenter = make_segmenter(make_model(follows_last_mask=follows))
        segmenter.add_clicks(0, [(15, 20)])
        logits.append([r.logits for r in segmenter.propagate_masklets(0, 3, return_logits=True)])
    assert np.array_equal(logits[0][0], logits[1][0])
    assert not np.allclose(logits[0][1], logits[1][1], atol=1e-3)


def test_window_follows_a_moving_object(native_model):
    movie = np.zeros((6, 64, 200), np.uint8)
    segmenter = make_segmenter(native_model, movie)
    for frame, x in ((0, 20), (5, 180)):
        mask = np.zeros((64, 200), bool)
        mask[28:36, x - 4 : x + 4] = True
        segmenter.add_clicks(frame, [], mask=mask)
    views = [segmenter._objects[1].bank.at(frame).view for frame in (0, 5)]
    assert all(view.is_native for view in views)
    assert views[0].x < 30
    assert views[1].x > 140


def test_remove_clear_and_reset_forget(model):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)], object_id=1)
    segmenter.add_clicks(0, [(50, 30)], object_id=2)
    segmenter.add_clicks(3, [(47, 30)], object_id=2)
    list(segmenter.propagate_masklets())
    segmenter.clear_prompts(3, 2)
    assert segmenter.prompted_frames(2) == (0,)
    segmenter.clear_prompts(0, 2)
    assert segmenter.object_ids == (1,)
    segmenter.remove_object(1)
    assert segmenter.object_ids == ()
    segmenter.add_clicks(0, [(15, 20)])
    segmenter.reset()
    with pytest.raises(PromptError, match="no object was prompted"):
        segmenter.track_objects()


def test_objects_may_be_added_after_tracking_without_touching_the_others(model):
    segmenter, alone = make_segmenter(model), make_segmenter(model)
    for s in (segmenter, alone):
        s.add_clicks(0, [(15, 20)], object_id=1)
    list(segmenter.propagate_masklets())
    segmenter.add_clicks(2, [(48, 30)], object_id=2)
    both, one = segmenter.track_frames(), alone.track_frames()
    expected = {r.frame: r.logits[0] for r in one}
    for result in both:
        if 1 in result.object_ids:
            row = result.object_ids.index(1)
            assert np.abs(result.logits[row] - expected[result.frame]).max() < 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda s: s.add_clicks(99, [(1, 1)]), "frames 0 to 7", id="frame-outside"),
        pytest.param(lambda s: s.add_clicks(0, [(100, 1)]), "outside the image", id="point-outside"),
        pytest.param(lambda s: s.add_clicks(0, []), "empty prompt", id="nothing"),
        pytest.param(lambda s: s.add_clicks(0, [(1, 1)], [2]), "expected 1", id="label"),
        pytest.param(lambda s: s.add_clicks(0, [(1, 1)], object_id=0), "from 1", id="object-0"),
        pytest.param(lambda s: s.add_clicks(0, [], mask=np.ones((3, 3))), "image's shape", id="mask-shape"),
        pytest.param(lambda s: s.add_clicks(0, [], mask=np.zeros((48, 64))), "empty mask", id="mask-empty"),
        pytest.param(lambda s: s.propagate_masklets(), "no object was prompted", id="no-prompt"),
        pytest.param(lambda s: s.remove_object(5), "does not exist", id="no-object"),
        pytest.param(lambda s: s.remove_object([1]), "object_id", id="object-list"),
        pytest.param(lambda s: s.prompted_frames({}), "object_id", id="object-mapping"),
        pytest.param(lambda s: s.clear_prompts([0], 1), "expected an integer", id="clear-nothing"),
        pytest.param(lambda s: s.add_prompt(0, 7), "prompt=7 was given; expected a Prompt", id="no-prompt-object"),
        pytest.param(lambda s: s.add_prompt(0, None), "prompt=None was given; expected a Prompt", id="prompt-none"),
        pytest.param(lambda s: s.add_clicks([[1, 2], [3]], [(1, 1)]), "frame", id="ragged-image"),
        pytest.param(lambda s: s.add_clicks(np.nan, [(1, 1)]), "frame .*nan", id="nan-frame"),
        pytest.param(lambda s: s.add_clicks(0, [(np.inf, 1)]), "NaN or infinite", id="infinite-point"),
        pytest.param(lambda s: s.add_clicks(0, np.zeros((0, 2)), np.zeros(0)), "empty prompt", id="empty-arrays"),
        pytest.param(lambda s: s.add_clicks(np.zeros((5, 5)), [(1, 1)]), "index", id="image-after-video"),
    ],
)
def test_bad_calls_say_what_is_allowed_and_change_nothing(model, call, message):
    segmenter = make_segmenter(model)
    with pytest.raises(PromptError, match=message):
        call(segmenter)
    assert segmenter.object_ids == ()


def test_prompting_before_a_video_is_an_error(model):
    with pytest.raises(PromptError, match="set_video"):
        SAM2VideoSegmenter(model).add_clicks(0, [(1, 1)])


@pytest.mark.parametrize("stop", [1.5, "3", True])
def test_a_stop_that_is_no_frame_is_refused_before_tracking(model, stop):
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)])
    for call in (segmenter.propagate_masklets, segmenter.track_objects, segmenter.plan):
        with pytest.raises(PromptError, match=re.escape(f"stop={stop!r} was given; expected an integer or None")):
            call(stop=stop)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memories_have_the_dtype_of_the_model(dtype):
    segmenter = make_segmenter(make_model().to(dtype))
    segmenter.add_clicks(4, [(23, 20)])
    for _ in segmenter.propagate_masklets(0, 3, reverse=False):
        pass
    list(segmenter.propagate_masklets(4, reverse=True))
    memories = segmenter._objects[1].bank.tracked.values()
    assert {m.features.dtype for m in memories if m.features is not None} == {dtype}


@pytest.mark.parametrize("is_there", [True, False])
def test_tracked_logits_are_refined_by_a_click_unless_the_object_was_absent(monkeypatch, is_there):
    """All-negative logits of absence, fed back, would say that the object is nowhere."""
    model = make_model(follows_last_mask=True)
    segmenter = make_segmenter(model)
    segmenter.add_clicks(0, [(15, 20)])
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(50.0 if is_there else -50.0)
    tracked = list(segmenter.propagate_masklets(0, 4))
    assert tracked[3].masks.any() == is_there
    given = []
    decode = FramePrompts._decode

    def spy(self, tracked, frame, prompt, view, feedback):
        given.append(feedback)
        return decode(self, tracked, frame, prompt, view, feedback)

    monkeypatch.setattr(FramePrompts, "_decode", spy)
    segmenter.add_clicks(3, [(21, 20)])
    assert [feedback is not None for feedback in given] == [is_there]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("prompt", [{"clicks": [(23, 20)]}, {"box": (15, 12, 30, 28)}])
def test_what_is_pointed_at_is_there_whatever_the_model_thinks(native, prompt):
    model = make_model(**({"native_window": 32} if native else {}))
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50.0)
    segmenter = make_segmenter(model)
    assert segmenter.add_clicks(2, prompt.get("clicks"), box=prompt.get("box")).any()
    for result in segmenter.propagate_masklets(2, 4):
        is_prompted = result.frame == 2
        assert result.masks.any() == is_prompted, "tracked frames may still lose it"
        assert (result.object_scores[0] > 0) == is_prompted
    assert not segmenter.add_clicks(3, [(23, 20)], labels=[0]).any(), "what is no object is not made one"
    reference = make_segmenter(model, reference_behaviour=True)
    assert not reference.add_clicks(2, prompt.get("clicks"), box=prompt.get("box")).any()


def test_memory_that_torch_keeps_for_reuse_counts_as_free(monkeypatch):
    monkeypatch.setattr("napari_sam2.inference.tracking.object_frames.bytes_per_object", lambda _: 10)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 200)
    on_gpu = SimpleNamespace(
        settings=SimpleNamespace(batch_bytes=None, reference_behaviour=False),
        model=SimpleNamespace(device=torch.device("cuda")),
    )
    assert ObjectFrames.objects_per_batch(on_gpu) == 20


@pytest.mark.parametrize(
    "option",
    [{"fill_hole_area": np.nan}, {"fill_hole_area": "8"}, {"batch_bytes": 0}, {"batch_bytes": 1.5}],
    ids=["nan", "text", "zero", "fraction"],
)
def test_settings_that_are_not_allowed_are_refused(model, option):
    with pytest.raises(PromptError, match=next(iter(option))):
        SAM2VideoSegmenter(model, **option)


def test_a_cache_of_no_size_is_refused():
    with pytest.raises(PromptError, match="max_bytes"):
        EmbeddingCache("many")


def test_results_hold_objects_in_windows_however_large_the_frames_are(native_model):
    movie = np.zeros((2, 600, 800), np.uint8)
    movie[:, 100:110, 200:212] = 200
    segmenter = make_segmenter(native_model, movie)
    mask = movie[0] > 0
    for object_id in (1, 2):
        segmenter.add_prompt(0, Prompt(mask=mask), object_id=object_id)
    for result in segmenter.track_frames():
        assert all(window.logits.size < 0.05 * mask.size for window in result.windows)
        assert result.masks.shape == (2, *mask.shape)
        if result.frame == 0:
            np.testing.assert_array_equal(result.masks[0], mask)
