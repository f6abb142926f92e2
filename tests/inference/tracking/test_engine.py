"""The engine answers from requests alone: the same request gives the same bytes, whatever was asked before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from factories import make_model, make_movie
from napari_sam2 import DeviceError, Prompt, PromptError, open_frames
from napari_sam2.inference.requests import AnsweredPrompt, PredictRequest, TrackRequest, TrackStep
from napari_sam2.inference.tracking.engine import Engine

CLICK = Prompt(points=[(15, 20)])
OTHER = Prompt(points=[(50, 30)])


@pytest.fixture
def engine():
    return Engine(make_model(), open_frames(make_movie()))


def ask(engine, prompt=CLICK, *, object_id=1, frame=0, **more):
    return engine.predict(PredictRequest(object_id, frame, prompt, **more))


def known(engine, prompt=CLICK, frame=0):
    return {frame: AnsweredPrompt(prompt, ask(engine, prompt, frame=frame).answer)}


def forwards(ids, frames=range(1, 6)):
    return [TrackStep(frame, False, ids, ids) for frame in frames]


def test_same_request_gives_the_same_bytes_whatever_came_between(engine):
    first = ask(engine)
    ask(engine, OTHER, frame=3)
    list(engine.track(TrackRequest({1: known(engine)}, forwards((1,)))))
    again = ask(engine)
    np.testing.assert_array_equal(first.answer.logits, again.answer.logits)
    np.testing.assert_array_equal(first.answer.pointer, again.answer.pointer)
    np.testing.assert_array_equal(first.mask, again.mask)


def test_tracking_from_answers_equals_the_segmenter(engine):
    from napari_sam2 import SAM2VideoSegmenter

    segmenter = SAM2VideoSegmenter(engine.model)
    segmenter.set_video(engine.frames)
    segmenter.add_prompt(0, CLICK)
    expected = list(segmenter.propagate_masklets(1))
    found = list(engine.track(TrackRequest({1: known(engine)}, forwards((1,), range(1, 8)))))
    assert [r.frame for r in found] == [r.frame for r in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.masks, b.masks)


def test_a_growing_prompt_refines_the_mask_before_it(engine):
    first = ask(engine)
    more = Prompt(points=[(15, 20), (30, 40)], labels=[1, 0])
    refined = ask(engine, more, smaller=AnsweredPrompt(CLICK, first.answer))
    alone = ask(engine, more)
    assert refined.answer.view == first.answer.view
    assert not np.array_equal(refined.answer.logits, alone.answer.logits)


def test_candidates_are_three_different_shapes_and_a_fourth_is_refused(engine):
    results = [ask(engine, candidate=n) for n in range(3)]
    shapes = [result.mask for result in results]
    scores = [result.answer.iou for result in results]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 1, "that of a mask that the user drew"
    assert len({mask.tobytes() for mask in shapes}) > 1
    with pytest.raises(PromptError, match="candidate 3 does not exist; choose 0 to 2"):
        ask(engine, candidate=3)


def test_only_reported_objects_are_in_a_result(engine):
    prompts = {1: known(engine), 2: known(engine, OTHER)}
    steps = [TrackStep(1, False, (1, 2), (2,)), TrackStep(2, False, (1, 2), (1, 2))]
    found = list(engine.track(TrackRequest(prompts, steps)))
    assert [r.object_ids for r in found] == [(2,), (1, 2)]
    assert found[0].masks.shape == (1, 48, 64)


def test_a_lost_object_is_not_tracked_further():
    model = make_model()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50.0)
    engine = Engine(model, open_frames(make_movie()))
    request = TrackRequest({1: known(engine)}, forwards((1,)), lost_after=2)
    assert [r.object_ids for r in engine.track(request)] == [(1,), (1,), (), (), ()]
    assert [len(r.object_ids) for r in engine.track(TrackRequest(request.prompts, request.steps))] == [1] * 5


def test_should_stop_is_asked_before_each_object_and_between_frames(engine):
    asked = iter([False, False, False, True])
    found = list(engine.track(TrackRequest({1: known(engine)}, forwards((1,))), lambda: next(asked)))
    assert [r.frame for r in found] == [1, 2]
    asked = iter([False, True])
    prompts = {n: known(engine) for n in (1, 2, 3)}
    assert list(engine.track(TrackRequest(prompts, forwards((1, 2, 3))), lambda: next(asked))) == []


def test_too_little_memory_means_fewer_objects_at_once_then_words(engine, monkeypatch):
    sizes = []
    attend = type(engine.model).attend_to_memory
    limit = 1

    def scarce(model, embedding, batch):
        count = batch.features[0].shape[0]
        sizes.append(count)
        if count > limit:
            raise torch.OutOfMemoryError("out of memory")
        return attend(model, embedding, batch)

    monkeypatch.setattr(type(engine.model), "attend_to_memory", scarce)
    prompts = {n: known(engine, Prompt(points=[(10 + 5 * n, 20)])) for n in (1, 2, 3, 4)}
    steps = forwards((1, 2, 3, 4), range(1, 3))
    assert [r.object_ids for r in engine.track(TrackRequest(prompts, steps))] == [(1, 2, 3, 4)] * 2
    assert sizes[:2] == [4, 2]
    assert sizes[-1] == 1
    limit = 0
    with pytest.raises(DeviceError, match="not enough memory for one object on a frame of 64 x 48"):
        list(engine.track(TrackRequest(prompts, steps)))


def large_movie():
    return np.repeat(np.repeat(make_movie(2), 6, 1), 6, 2)  # larger than the windows of the bundled model


def look_ahead(engine, frame, point):
    return sum(1 for _ in engine.look_ahead(frame, point))


def test_a_click_prepared_by_look_ahead_has_its_answer(monkeypatch):
    ahead, fresh = (Engine("sam2_micro", open_frames(large_movie())) for _ in range(2))
    click, beside = Prompt(points=[(95.25, 120.5)]), Prompt(points=[(95.25, 121.5)])
    assert look_ahead(ahead, 0, (95.25, 120.5)) > 4
    asked = []
    prompt = ahead._frames.prompt
    monkeypatch.setattr(ahead._frames, "prompt", lambda *given: asked.append(given) or prompt(*given))
    for object_id in (3, 4):
        found, expected = ask(ahead, click, object_id=object_id), ask(fresh, click, object_id=object_id)
        assert found.object_id == object_id
        np.testing.assert_array_equal(found.mask, expected.mask)
        np.testing.assert_array_equal(found.answer.logits, expected.answer.logits)
    assert not asked
    encoded = ahead.cache.misses
    ask(ahead, beside)
    assert ahead.cache.misses <= encoded + 2  # the first look at it is encoded too
    refined = Prompt(points=[(95.25, 120.5), (30, 40)], labels=[1, 0])
    for given in (
        ask(ahead, click, frame=1),
        ask(ahead, refined, smaller=AnsweredPrompt(click, found.answer)),
        ask(ahead, click, candidate=1),
    ):
        assert given.answer is not found.answer
    assert len(asked) == 4


def test_what_was_foreseen_is_forgotten_with_the_pixels_it_was_seen_in():
    engine = Engine("sam2_micro", open_frames(large_movie()))
    click = Prompt(points=[(95.25, 120.5)])
    look_ahead(engine, 0, (95.25, 120.5))
    before = ask(engine, click)
    engine.replace_frames(open_frames(large_movie()[::-1].copy()))
    assert not np.array_equal(ask(engine, click).answer.logits, before.answer.logits)


def test_look_ahead_from_outside_the_image_begins_at_its_edge():
    engine = Engine("sam2_micro", open_frames(large_movie()))
    look_ahead(engine, 0, (-9, 500))
    assert len(engine.cache) > 2
    assert engine._foreseen is None
