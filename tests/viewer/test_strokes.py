"""Lassos and scribbles that a click has begun and that nobody ends."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from effort import measured_effort
from factories import make_model, make_movie
from napari_sam2 import Prompt, PromptError, Session
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.opening import open_session

PLANE = 3
STROKE = [(12, 10), (12, 20), (12, 30), (28, 30), (28, 10)]


@pytest.fixture
def binding():
    viewer = ViewerModel()
    session = open_session(viewer, viewer.add_image(make_movie(), name="cells"), model=make_model(1, image_size=64))
    session.binding.go_to(PLANE)
    yield session.binding
    session.binding.close()
    session.close()


def event(kind, yx, *, is_dragging=True):
    made = SimpleNamespace(
        type=kind,
        is_dragging=is_dragging,
        modifiers=[],
        position=(PLANE, *yx),
        pos=np.array(yx[::-1]) * 8.0,  # pixels of the canvas
        view_direction=None,
        up_direction=None,
        dims_displayed=[1, 2],
        dims_point=[PLANE, 0, 0],
    )
    return ReadOnlyWrapper(made, exceptions=("handled",))


def press_and_release(layer, *places):
    mouse_press_callbacks(layer, event("mouse_press", places[0]))
    for place in places[1:]:
        mouse_move_callbacks(layer, event("mouse_move", place))
    mouse_release_callbacks(layer, event("mouse_release", places[-1]))


@pytest.mark.parametrize("tool", ["lasso", "scribble"])
@pytest.mark.parametrize("leave", ["another tool", "another layer", "undo"])
def test_an_unfinished_stroke_goes_with_its_tool_and_takes_no_later_one_along(binding, tool, leave):
    session, shapes = binding.session, binding.shapes
    session.add_mask(np.arange(64) < np.full((48, 1), 9), frame=PLANE)
    binding.new_object()
    binding.use_tool(tool)
    press_and_release(shapes, (20, 15))
    assert binding.prompts.strokes.is_drawing
    if leave == "another tool":
        binding.use_tool("point")
    elif leave == "another layer":
        binding.viewer.layers.selection.active = binding.images[0]
    else:
        binding.points.add([[PLANE, 20, 15]])
        session.wait_for_answers()
        session.undo()
        assert session.prompt(2, PLANE) is None
    assert len(shapes.data) == len(shapes.features) == len(shapes.edge_color) == int(binding.prompts.strokes.is_drawing)
    binding.use_tool("point")
    binding.use_tool(tool)
    press_and_release(shapes, *STROKE)
    session.wait_for_answers()
    assert len(shapes.data) == 1
    assert {object_id for object_id, _ in session.store.prompts} == {1, 2}
    assert session.prompt(2, PLANE).has_mask == (tool == "lasso")


def test_a_stroke_that_napari_drops_leaves_its_object_to_nobody(binding):
    session, shapes = binding.session, binding.shapes
    binding.new_object()
    binding.use_tool("scribble")
    for _ in range(2):  # begin, and end at the same place
        press_and_release(shapes, (20, 15))
    assert len(shapes.data) == len(shapes.features) == len(shapes.edge_color) == len(shapes.face_color) == 0
    binding.select(session.new_object())
    press_and_release(shapes, *STROKE)
    session.wait_for_answers()
    assert list(session.store.prompts) == [(2, PLANE)]
    for ndisplay in (3, 2):
        binding.viewer.dims.ndisplay = ndisplay
        assert len(shapes.data) == len(shapes.edge_color) == 1


def test_a_line_that_follows_the_mouse_is_explained_once(binding):
    said = []
    binding.notice.connect(lambda text, _: said.append(text))
    binding.use_tool("lasso")
    press_and_release(binding.shapes, (20, 15))
    for column in range(16, 20):
        mouse_move_callbacks(binding.shapes, event("mouse_move", (20, column), is_dragging=False))
    assert len(said) == 1
    assert "click to end it" in said[0]


def test_boxes_of_a_restored_session_stay_and_a_lasso_is_drawn_beside_them(binding, tmp_path):
    session = binding.session
    boxes = {(number, PLANE): Prompt(box=[left, 10, left + 20, 30]) for number, left in ((1, 4), (2, 40))}
    session.set_prompts(boxes)
    session.wait_for_answers()
    path = session.save(tmp_path / "kept.sam2")
    viewer = ViewerModel()
    image = viewer.add_image(make_movie(), name="cells")
    restored = Session.load(path, image.data, model=make_model(1, image_size=64))
    other = ViewerBinding(viewer, [image], session=restored)
    try:
        assert len(other.shapes.data) == 2
        assert not other.prompts.strokes.is_drawing
        other.new_object()
        other.go_to(PLANE)
        other.use_tool("lasso")
        press_and_release(other.shapes, *STROKE)
        restored.wait_for_answers()
        assert len(other.shapes.data) == 3
        assert restored.prompt(3, PLANE).has_mask
        assert restored.prompt(1, PLANE).box.tolist() == [4, 10, 24, 30]
    finally:
        other.close()
        restored.close()


def drawn_in(layer):
    """Kind, owner, sign and vertices of each shape, in the order of the layer."""
    features = layer.features
    owners, signs = features["object_id"].tolist(), features["kind"].tolist()
    return [
        (str(kind), owner, sign, np.round(data, 3).tolist())
        for data, kind, owner, sign in zip(layer.data, layer.shape_type, owners, signs, strict=True)
    ]


def draw_everything(binding):
    """A lasso and an ellipse of one object, a turned box with a click, and a scribble with a background scribble."""
    session, shapes = binding.session, binding.shapes
    binding.use_tool("lasso")
    press_and_release(shapes, *STROKE)
    shapes.add(
        np.array([(PLANE, y, x) for y, x in ((30, 4), (30, 12), (40, 12), (40, 4))], float), shape_type="ellipse"
    )
    binding.new_object()
    binding.points.add([[PLANE, 20, 45]])
    turned = np.array([(PLANE, 20, 36), (PLANE, 12, 44), (PLANE, 20, 52), (PLANE, 28, 44)], float)
    shapes.add(turned, shape_type="rectangle")
    binding.new_object()
    binding.go_to(1)
    scribble = np.array([(1, 10, 10), (1, 14, 18), (1, 20, 22), (1, 26, 22)], float)
    shapes.add(scribble, shape_type="path")
    binding.set_positive(False)
    shapes.add(scribble + np.array([0, 12, 20]), shape_type="path")
    binding.points.add([[1, 4, 60]])
    binding.set_positive(True)
    session.wait_for_answers()


@pytest.mark.parametrize("way", ["file", "autosave", "script"])
def test_what_was_drawn_comes_back_as_it_was_drawn(binding, tmp_path, way):
    session = binding.session
    if way == "autosave":
        session.autosave_path = tmp_path / "kept.sam2"
    draw_everything(binding)
    before, clicks = drawn_in(binding.shapes), binding.points.data.tolist()
    assert [kind for kind, *_ in before] == ["polygon", "ellipse", "rectangle", "path", "path"]
    viewer = ViewerModel()
    image = viewer.add_image(make_movie(), name="cells")
    model = make_model(1, image_size=64)
    if way == "script":
        names = {"stack": image.data, "model": model}
        exec(session.to_python(), names)
        restored = names["session"]
    else:
        path = tmp_path / "copy.sam2"
        if way == "autosave":  # as a crash would leave it
            assert session.flush_autosave()
            shutil.copy(session.autosave_path, path)
        else:
            session.save(path)
        restored = Session.load(path, image.data, model=model)
    other = ViewerBinding(viewer, [image], session=restored)
    try:
        assert sorted(drawn_in(other.shapes)) == sorted(before)
        assert sorted(other.points.data.tolist()) == sorted(clicks)
        np.testing.assert_array_equal(restored.labels, session.labels)
        prompts = dict(restored.store.prompts)
        other.points.add([[PLANE, 2, 2]])  # nothing else is taken for a change
        assert {key for key, entry in restored.store.prompts.items() if prompts.get(key) is not entry} == {(3, PLANE)}
    finally:
        other.close()
        restored.close()


def test_undo_and_redo_show_what_was_drawn(binding):
    session, shapes = binding.session, binding.shapes
    draw_everything(binding)
    before = drawn_in(shapes)
    for object_id, plane in ((3, 1), (1, PLANE), (2, PLANE)):
        binding.select(object_id)
        binding.points.add([[plane, 2, 2]])
        session.wait_for_answers()
        session.undo()
        assert sorted(drawn_in(shapes)) == sorted(before)
    steps = 0
    while session.can_undo:
        session.undo()
        steps += 1
    assert len(shapes.data) == len(binding.points.data) == 0
    for _ in range(steps):
        session.redo()
    session.wait_for_answers()
    assert sorted(drawn_in(shapes)) == sorted(before)
    assert len(binding.points.data) == 2


def test_a_shape_that_changes_nothing_for_the_model_is_kept_and_undone(binding):
    session, shapes = binding.session, binding.shapes
    binding.use_tool("lasso")
    press_and_release(shapes, *STROKE)
    mask, calls = session.prompt(1, PLANE).packed_mask, len(session.operations)
    inner = np.array([(PLANE, 14, 20), (PLANE, 14, 26), (PLANE, 18, 26)], float)
    shapes.add(inner, shape_type="polygon")
    assert session.prompt(1, PLANE).packed_mask == mask
    assert [shape.kind for shape in session.prompt(1, PLANE).drawn] == ["polygon", "polygon"]
    assert len(session.operations) == calls + 1
    session.undo()
    assert len(shapes.data) == len(session.prompt(1, PLANE).drawn) == 1
    session.redo()
    assert len(shapes.data) == len(session.prompt(1, PLANE).drawn) == 2


def test_the_effort_of_undo_grows_with_the_objects_and_not_with_their_square(binding):
    session = binding.session
    for number in (25, 100):
        labels = np.zeros(binding.geometry.hw, np.int32)
        labels[: number // 5, :5] = np.arange(1, number + 1).reshape(-1, 5)
        session.add_labels(labels, frame=PLANE)
        binding.shapes.add(np.array([(1, 10, 10), (1, 20, 20)], float), shape_type="line")
        session.wait_for_answers()
        session.undo()
        with measured_effort() as effort:
            session.undo()
        assert not session.objects
        if number == 25:
            few = effort.calls
    assert effort.calls < 5 * few


def test_shapes_that_no_longer_give_the_prompt_are_not_shown(binding):
    session = binding.session
    draw_everything(binding)
    painted = np.zeros(binding.geometry.hw, bool)
    painted[5:9, 5:9] = True
    session.add_mask(painted, frame=PLANE, object_id=1)
    session.add_box([(PLANE, 10, 38), (PLANE, 30, 50)], object_id=2)
    session.add_points([[1, 30, 30]], object_id=3)
    session.wait_for_answers()
    assert sorted(kind for kind, *_ in drawn_in(binding.shapes)) == ["path", "path", "rectangle"]
    assert sorted(binding.points.data.tolist()) == [[1, 4, 60], [1, 30, 30], [PLANE, 20, 45]]


SQUARE = np.array([(PLANE, y, x) for y, x in ((10, 10), (10, 30), (30, 30), (30, 10))], float)
RIGHT_HALF = np.array([(PLANE, y, x) for y, x in ((8, 20), (8, 40), (34, 40), (34, 20))], float)


def listen(binding):
    said = []
    binding.notice.connect(lambda text, _: said.append(text))
    return said


def test_a_lasso_stands_for_the_whole_mask_of_its_slice(binding):
    """Clicks that were there before kept the area drawn from becoming the mask."""
    session, said = binding.session, listen(binding)
    binding.points.add([[PLANE, 20, 15]])
    binding.points.add([[PLANE, 22, 16]])
    binding.points.add([[PLANE + 1, 20, 15]])
    session.wait_for_answers()
    binding.use_tool("lasso")
    press_and_release(binding.shapes, *STROKE)
    session.wait_for_answers()
    drawn = session.prompt(1, PLANE)
    assert drawn.is_mask_only
    np.testing.assert_array_equal(session.labels[PLANE] == 1, drawn.mask)
    assert binding.points.data[:, 0].tolist() == [PLANE + 1]
    assert said == ["the outline replaces the 2 other prompts of object 1 on this slice"]
    session.undo()
    session.wait_for_answers()
    assert len(session.prompt(1, PLANE).points) == 2
    assert sorted(binding.points.data[:, 0].tolist()) == [PLANE, PLANE, PLANE + 1]
    assert not len(binding.shapes.data)


def test_clicks_after_a_lasso_refine_it(binding):
    binding.use_tool("lasso")
    press_and_release(binding.shapes, *STROKE)
    binding.points.add([[PLANE, 20, 15]])
    binding.session.wait_for_answers()
    prompt = binding.session.prompt(1, PLANE)
    assert prompt.has_mask
    assert len(prompt.points) == 1


@pytest.mark.parametrize("kind", ["polygon", "rectangle", "ellipse"])
def test_an_area_of_background_is_taken_away(binding, kind):
    """It was added."""
    session, said = binding.session, listen(binding)
    binding.shapes.add(SQUARE, shape_type="polygon")
    session.wait_for_answers()
    before = session.labels[PLANE] == 1
    binding.set_positive(False)
    binding.shapes.add(RIGHT_HALF, shape_type=kind)
    after = session.labels[PLANE] == 1
    assert after[:, :20].sum() == before[:, :20].sum() > 0
    assert not (after & ~before).any()
    assert after[20, 21:30].sum() == 0
    assert not len(binding.shapes.data)
    assert said == ["the area was taken away from object 1 on this slice"]
    session.undo()
    np.testing.assert_array_equal(session.labels[PLANE] == 1, before)
    assert [str(kind) for kind in binding.shapes.shape_type] == ["polygon"]


@pytest.mark.parametrize("has_mask", [True, False])
def test_background_beside_the_object_changes_nothing_and_says_what_to_do(binding, has_mask):
    session, said = binding.session, listen(binding)
    if has_mask:
        session.add_mask(np.arange(64) < np.full((48, 1), 9), frame=PLANE)
        binding.select(1)
    binding.set_positive(False)
    binding.shapes.add(RIGHT_HALF, shape_type="polygon")
    assert not len(binding.shapes.data)
    assert len(session.store.prompts) == has_mask
    assert len(said) == 1
    assert "switch to object (N)" in said[0]


def test_background_is_not_taken_away_from_what_is_locked(binding):
    session, said = binding.session, listen(binding)
    session.failed.connect(lambda error: said.append(str(error)))
    session.add_mask(np.arange(64) < np.full((48, 1), 30), frame=PLANE)
    session.lock(1, [PLANE])
    binding.select(1)
    binding.set_positive(False)
    binding.shapes.add(RIGHT_HALF, shape_type="polygon")
    assert (session.labels[PLANE] == 1).sum() == 48 * 30
    assert len(said) == 1
    assert "locked" in said[0]


def test_an_outline_that_becomes_background_is_taken_away_from_those_before(binding):
    session, shapes = binding.session, binding.shapes
    shapes.add(SQUARE, shape_type="polygon")
    shapes.add(RIGHT_HALF, shape_type="polygon")
    session.wait_for_answers()
    features = shapes.features.copy()
    features.loc[1, "kind"] = "negative"
    shapes.features = features
    session.wait_for_answers()
    assert not (session.labels[PLANE] == 1)[20, 21:40].any()
    assert (session.labels[PLANE] == 1)[20, 11:20].all()


def test_the_brush_erases_where_the_next_prompt_is_background(binding):
    binding.use_tool("paint")
    assert binding.labels.mode == "paint"
    binding.set_positive(False)
    assert (binding.labels.mode, binding.tool) == ("erase", "paint")
    binding.use_tool("point")
    binding.use_tool("paint")
    assert binding.labels.mode == "erase"
    binding.set_positive(True)
    assert binding.labels.mode == "paint"
    binding.labels.mode = "fill"
    binding.set_positive(False)
    assert binding.labels.mode == "fill"


def test_clicks_on_background_alone_say_that_an_object_needs_more(binding):
    session, said = binding.session, listen(binding)
    binding.set_positive(False)
    binding.points.add([[PLANE, 20, 15]])
    session.wait_for_answers()
    assert said == ["background alone does not show where object 1 is: switch to object (N) and click on it"]
    assert [str(symbol) for symbol in binding.points.symbol] == ["x"]
    said.clear()
    binding.set_positive(True)
    binding.points.add([[PLANE, 22, 30]])
    binding.set_positive(False)
    binding.points.add([[PLANE, 5, 60]])
    session.wait_for_answers()
    assert said == []


def test_a_new_object_does_not_begin_with_background(binding):
    binding.set_positive(False)
    binding.new_object()
    assert binding.is_positive


def test_a_layer_of_background_only_starts_no_object(binding):
    layer = binding.viewer.add_shapes(
        [SQUARE], shape_type="polygon", name="lines", features={"object_id": [1], "kind": ["negative"]}
    )
    with pytest.raises(PromptError, match="lines has nothing that starts an object"):
        binding.start_from(layer)


def test_a_slip_of_the_mouse_after_a_lasso_leaves_the_clicks_that_refine_it(binding):
    binding.shapes.add(SQUARE, shape_type="polygon")
    binding.points.add([[PLANE, 20, 15]])
    binding.session.wait_for_answers()
    said = listen(binding)
    slip = np.array([(PLANE, y, x) for y, x in ((5, 5), (5, 6), (6, 6), (6, 5))], float)
    binding.shapes.add(slip, shape_type="rectangle")
    binding.session.wait_for_answers()
    assert len(binding.points.data) == 1
    assert len(binding.session.prompt(1, PLANE).points) == 1
    assert said == ["that box was smaller than 2 pixels and is ignored; drag to draw one"]


@pytest.mark.parametrize("kind", ["polygon", "ellipse"])
def test_an_outline_without_pixels_replaces_nothing(binding, kind):
    binding.points.add([[PLANE, 20, 15]])
    binding.session.wait_for_answers()
    tiny = np.array([(PLANE, y, x) for y, x in ((5.2, 5.2), (5.2, 5.4), (5.4, 5.4), (5.4, 5.2))])
    binding.shapes.add(tiny, shape_type=kind)
    binding.session.wait_for_answers()
    assert len(binding.points.data) == 1
    assert len(binding.session.prompt(1, PLANE).points) == 1
