"""A viewer model and a session that follow each other, with no Qt."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from napari_builtins.io import csv_to_layer_data, napari_write_points

from factories import make_model, make_movie
from napari_sam2 import Prompt, PromptError, Session
from napari_sam2._viewer import labels_layer
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.image_source import default_frame_axis
from napari_sam2._viewer.labels_layer import label_colours, object_colour
from napari_sam2._viewer.opening import open_session
from napari_sam2.session.state.records import SessionObject
from napari_sam2.session.state.settings import SessionSettings
from napari_sam2.session.worker.delivery import wait_until


@pytest.fixture(scope="module")
def model():
    return make_model(1, image_size=64)


@pytest.fixture
def opened(model):
    made = []

    def open_(image=None, viewer=None, **layer):
        viewer = viewer or ViewerModel()
        layer = viewer.add_image(make_movie() if image is None else image, name="cells", **layer)
        session = open_session(viewer, layer, model=model)
        made.append(session)
        return viewer, session, session.binding

    yield open_
    for session in made:
        session.binding.close()
        session.close()


def click(binding, *rows):
    binding.points.add(np.atleast_2d(rows))
    binding.session.wait_for_answers()


def test_a_point_added_by_code_becomes_a_mask_in_the_labels_layer(opened):
    _, session, binding = opened()
    click(binding, (3, 20, 21))
    assert binding.labels.data is session.labels
    assert session.prompt(1, 3).points.tolist() == [[21, 20]]
    assert (session.labels[3] == 1).any()
    assert not session.labels[[0, 1, 2, 4, 5, 6, 7]].any()


@pytest.mark.parametrize("is_of_the_same_object", [False, True])
def test_a_click_is_kept_where_an_answer_comes_between_it_and_its_event(opened, monkeypatch, is_of_the_same_object):
    _, session, binding = opened()
    keeper, release = session._engine_keeper, threading.Event()
    answer = keeper.answer
    monkeypatch.setattr(keeper, "answer", lambda *args: (release.wait(60), answer(*args))[1])
    session.set_prompt(0, Prompt(points=[[15, 20]]), block=False)
    if not is_of_the_same_object:
        binding.select(session.new_object())

    def let_the_answer_come(event):
        if str(event.action) == "added":
            release.set()
            session.wait_for_answers(60)

    binding.points.events.data.connect(let_the_answer_come, position="first")
    binding.points.add([[0, 30, 50]])
    binding.points.events.data.disconnect(let_the_answer_come)
    prompts = session.store.prompts
    assert sum(len(entry.prompt.points) for entry in prompts.values()) == 2
    assert len(prompts) == (1 if is_of_the_same_object else 2)


def test_points_are_object_or_background_by_their_kind(opened):
    _, session, binding = opened()
    click(binding, (3, 20, 21))
    binding.set_positive(False)
    click(binding, (3, 2, 2))
    assert session.prompt(1, 3).labels.tolist() == [1, 0]
    assert [str(s) for s in binding.points.symbol] == ["disc", "x"]


def test_a_point_keeps_its_looks_when_the_next_one_is_to_be_another(opened):
    _, _, binding = opened()
    click(binding, (3, 20, 21))
    binding.set_positive(False)
    click(binding, (3, 2, 2))
    colours = binding.points.face_color.copy()
    binding.set_positive(True)
    binding.new_object()
    assert [str(s) for s in binding.points.symbol] == ["disc", "x"]
    np.testing.assert_array_equal(binding.points.face_color, colours)


def test_each_object_has_prompts_of_its_own_and_the_colour_of_its_labels(opened):
    _, session, binding = opened()
    click(binding, (0, 20, 15))
    second = binding.new_object()
    click(binding, (0, 30, 50))
    assert second == 2
    assert set(session.store.prompts) == {(1, 0), (2, 0)}
    for row, object_id in enumerate((1, 2)):
        np.testing.assert_allclose(
            binding.points.face_color[row][:3], binding.labels.get_color(object_id)[:3], atol=0.01
        )


def test_moved_and_deleted_points_change_the_mask(opened):
    _, session, binding = opened()
    click(binding, (0, 20, 15))
    before = session.labels.copy()
    binding.points.data = np.array([[0.0, 30, 50]])
    session.wait_for_answers()
    assert session.prompt(1, 0).points.tolist() == [[50, 30]]
    assert not np.array_equal(before, session.labels)
    binding.points.selected_data = {0}
    binding.points.remove_selected()
    assert session.prompt(1, 0) is None
    assert not session.labels.any()


def test_undo_takes_the_point_and_the_mask_back_and_redo_brings_both(opened):
    _, session, binding = opened()
    click(binding, (0, 20, 15))
    labels = session.labels.copy()
    session.undo()
    assert len(binding.points.data) == 0
    assert not session.labels.any()
    session.redo()
    session.wait_for_answers()
    assert binding.points.data.tolist() == [[0, 20, 15]]
    np.testing.assert_array_equal(session.labels, labels)


@pytest.mark.parametrize(
    ("kind", "data", "has"),
    [
        ("rectangle", [(2, 10, 8), (2, 10, 22), (2, 28, 22), (2, 28, 8)], "box"),
        ("polygon", [(2, 10, 8), (2, 10, 22), (2, 28, 22), (2, 28, 8)], "mask"),
        ("ellipse", [(2, 10, 8), (2, 10, 22), (2, 28, 22), (2, 28, 8)], "mask"),
        ("path", [(2, 14, 10), (2, 18, 18), (2, 26, 22)], "points"),
        ("line", [(2, 14, 10), (2, 26, 22)], "points"),
    ],
)
def test_shapes_are_boxes_masks_and_scribbles(opened, kind, data, has):
    _, session, binding = opened()
    binding.shapes.add(np.array(data, float), shape_type=kind)
    session.wait_for_answers()
    prompt = session.prompt(1, 2)
    assert (prompt.box is not None, prompt.mask is not None, len(prompt.points) > 0) == (
        has == "box",
        has == "mask",
        has == "points",
    )
    if has == "mask":
        np.testing.assert_array_equal(session.labels[2] == 1, prompt.mask)
    if has == "box":
        assert prompt.box.tolist() == [8, 10, 22, 28]


def test_a_box_of_a_slipped_mouse_is_taken_away_with_a_word(opened):
    _, session, binding = opened()
    said = []
    binding.notice.connect(lambda text, _: said.append(text))
    binding.shapes.add(np.array([(2, 10, 8), (2, 10, 9), (2, 11, 9), (2, 11, 8)], float), shape_type="rectangle")
    assert len(binding.shapes.data) == 0
    assert session.prompt(1, 2) is None
    assert "smaller than 2 pixels" in said[0]


def test_painting_on_the_result_is_a_correction_of_that_frame(opened):
    _, session, binding = opened()
    click(binding, (0, 20, 15))
    session.propagate(stop=4)
    binding.labels.paint((2, 5, 5), 1)
    assert session.prompt(1, 2).mask[5, 5]
    assert session.store.masks[1, 3].is_stale
    session.undo()
    assert session.prompt(1, 2) is None
    assert not session.store.masks[1, 3].is_stale


def test_erasing_with_the_layers_own_tool_is_kept(opened):
    _, session, binding = opened()
    click(binding, (0, 20, 15))
    y, x = np.argwhere(session.labels[0] == 1)[0]
    binding.labels.data_setitem((np.array([0]), np.array([y]), np.array([x])), 0)
    assert session.labels[0, y, x] == 0
    assert not session.prompt(1, 0).mask[y, x]


PLACES = {
    "scaled": {"scale": (2, 0.5, 0.25), "translate": (3, -7, 11)},
    "turned": {"rotate": 30, "scale": (1, 0.5, 0.5)},
    "sheared": {"affine": np.array([[1, 0, 0, 0], [0, 1, 0.3, 4], [0, 0.1, 2, -3], [0, 0, 0, 1.0]])},
    "units": {"scale": (0.9, 0.3, 0.3), "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_layers_lie_exactly_on_the_image_and_a_prompt_lands_on_its_pixel(opened, place):
    viewer, session, binding = opened(**place)
    image = viewer.layers["cells"]
    for layer in binding.layers:
        for corner in [(0, 0, 0), (7, 47, 63), (3, 20, 21)]:
            np.testing.assert_allclose(layer.data_to_world(corner), image.data_to_world(corner), atol=1e-9)
        assert tuple(layer.axis_labels) == tuple(image.axis_labels)
        assert layer.units == image.units
    world = image.data_to_world((3, 20, 21))
    click(binding, binding.points.world_to_data(world))
    np.testing.assert_allclose(session.prompt(1, 3).points, [[21, 20]], atol=1e-4)


def test_go_to_and_current_plane_agree_whatever_the_transform(opened):
    _, _, binding = opened(**PLACES["scaled"])
    for plane in (5, 0, 7):
        binding.go_to(plane)
        assert binding.current_plane == plane


@pytest.mark.parametrize("kind", ["dask", "zarr", "float", "uint16"])
def test_any_kind_of_array_gives_the_same_masks_as_numpy(opened, kind):
    movie = make_movie()
    image = {
        "dask": lambda: da.from_array(movie, chunks=(1, 48, 64)),
        "zarr": lambda: zarr.array(movie, chunks=(1, 48, 64)),
        "float": lambda: movie / 255.0,
        "uint16": lambda: movie.astype(np.uint16) * 257,
    }[kind]()
    limits = {"float": (0, 1), "uint16": (0, 65535)}.get(kind, (0, 255))
    _, plain, first = opened(movie, contrast_limits=(0, 255))
    _, session, binding = opened(image, contrast_limits=limits)
    for each in (first, binding):
        click(each, (3, 20, 21))
    np.testing.assert_array_equal(session.labels, plain.labels)


def test_time_and_depth_one_axis_is_followed_and_the_other_stays(opened):
    movie = np.stack([make_movie(seed=s) for s in range(3)])  # (3, 8, 48, 64)
    _, session, binding = opened(movie)
    assert session.geometry.frame_axis == 1
    click(binding, (1, 3, 20, 21))
    session.propagate()
    assert session.labels.shape == movie.shape
    assert (session.labels[1] == 1).any(axis=(1, 2)).sum() >= 2
    assert not session.labels[[0, 2]].any()


def test_flat_and_rgb_images_have_one_frame(opened):
    _, session, binding = opened(make_movie()[0])
    click(binding, (20, 15))
    assert session.labels.shape == (48, 64)
    rgb = np.stack([make_movie()[0]] * 3, -1)
    _, session, binding = opened(rgb, rgb=True)
    click(binding, (20, 15))
    assert session.labels.shape == (48, 64)
    assert session.labels.any()


def test_a_coarse_level_of_a_pyramid_is_labelled_in_place(opened, monkeypatch):
    monkeypatch.setattr("napari_sam2._viewer.image_source.LARGEST_SIDE", 40)
    movie = make_movie()
    levels = [movie, movie[:, ::2, ::2]]
    viewer, session, binding = opened(levels, multiscale=True, scale=(1, 0.5, 0.5))
    assert binding.level == 1
    assert session.labels.shape == (8, 24, 32)
    image = viewer.layers["cells"]
    # pixel 4 of the level covers pixels 8 and 9 of the image
    np.testing.assert_allclose(binding.labels.data_to_world((0, 4, 4)), image.data_to_world((0, 8.5, 8.5)))


def test_a_point_outside_the_image_is_refused_in_words_and_changes_nothing(opened):
    _, session, binding = opened()
    said = []
    binding.notice.connect(lambda text, is_error: said.append((text, is_error)))
    binding.points.add([[3, 20, 500]])
    assert session.objects == []
    assert said[0][1]
    assert "outside the image" in said[0][0]


def test_the_layers_of_a_session_stay_on_an_image_that_is_moved(opened):
    viewer, _, binding = opened()
    image = viewer.layers["cells"]
    for name, value in (
        ("scale", (2, 0.5, 0.5)),
        ("translate", (1, 2, 3)),
        ("rotate", 30),
        ("shear", [0.1, 0, 0]),
        ("affine", np.diag([1.0, 2.0, 1.0, 1.0])),
        ("axis_labels", ("z", "y", "x")),
    ):
        setattr(image, name, value)
        for layer in binding.layers:
            assert layer.axis_labels == image.axis_labels
            np.testing.assert_allclose(layer.data_to_world((3, 20, 30)), image.data_to_world((3, 20, 30)))
    binding.close()
    image.scale = (1, 1, 1)  # heard by nobody
    assert tuple(binding.labels.scale) == (2, 0.5, 0.5)


def test_points_that_are_replaced_while_some_are_selected_are_taken(opened):
    _, session, binding = opened()
    binding.points.add([[3, 20, 25], [3, 20, 27]])
    binding.points.selected_data = {1}
    binding.points.data = binding.points.data[:1]  # as another plugin may do; napari keeps row 1 selected
    binding.new_object()
    assert len(session.objects) == 2
    assert len(session.store.prompts[1, 3].prompt.points) == 1


def test_a_point_beyond_the_last_frame_is_refused_in_the_words_of_the_sliders(opened):
    _, session, binding = opened()
    said = []
    binding.notice.connect(lambda text, is_error: said.append((text, is_error)))
    binding.points.add([[30, 20, 20]])
    assert session.objects == []
    assert len(binding.points.data) == 0
    name, last = binding.images[0].name, binding.geometry.num_frames - 1
    word = binding.plane_word
    assert said == [(f"{name} has {word} 0 to {last}, but 30 is shown; move the slider into this range first", True)]


def test_labels_are_not_drawn_twice_when_a_session_starts(opened, monkeypatch):
    changes, colormap = [], Labels.colormap
    monkeypatch.setattr(
        Labels, "colormap", property(colormap.fget, lambda *given: changes.append(given) or colormap.fset(*given))
    )
    _, _, binding = opened()
    assert changes == []
    click(binding, (3, 20, 21))
    assert changes
    assert 1 in binding.labels.colormap.color_dict


def test_a_point_outside_the_image_leaves_its_layer_again(opened):
    _, session, binding = opened()
    said = []
    binding.notice.connect(lambda text, is_error: said.append(text))
    binding.points.add([[3, 20, 500]])
    assert len(binding.points.data) == 0
    click(binding, (3, 20, 21))
    click(binding, (3, 22, 21))
    binding.shapes.add_rectangles([[[3, 20, 500], [3, 20, 520], [3, 30, 520], [3, 30, 500]]])
    assert len(binding.shapes.data) == 0
    assert len([text for text in said if "outside" in text]) == 2
    assert len(session.prompt(1, 3).points) == 2


def test_objects_start_from_other_layers_of_the_frame_that_is_shown(opened):
    viewer, session, binding = opened()
    drawn = np.zeros((8, 48, 64), np.uint16)
    drawn[2, 10:20, 10:20], drawn[2, 30:40, 40:50] = 7, 300
    cellpose = viewer.add_labels(drawn, name="cellpose")
    assert binding.other_layers() == [cellpose]
    binding.go_to(0)
    with pytest.raises(PromptError, match="no label on the frame shown"):
        binding.start_from(cellpose)
    binding.go_to(2)
    assert binding.start_from(cellpose, label=300) == [300]
    assert binding.current == 300
    assert np.array_equal(session.labels[2] == 300, drawn[2] == 300)
    assert binding.start_from(cellpose) == [7, 300]
    assert np.array_equal(session.labels[2], drawn[2])
    with pytest.raises(PromptError, match=r"no label 5 on this frame; it has \[7, 300\]"):
        binding.start_from(cellpose, label=5)


def test_objects_start_from_points_of_a_file_and_are_undone_together(opened, tmp_path):
    viewer, session, binding = opened()
    rows = np.array([[0, 20, 15], [3, 30, 50], [3, 21, 22]], float)
    napari_write_points(str(tmp_path / "clicks.csv"), rows, {})
    data, options, _ = csv_to_layer_data(str(tmp_path / "clicks.csv"))
    foreign = viewer.add_points(data, **options)
    assert foreign in binding.other_layers()
    assert binding.start_from(foreign) == [1, 2, 3]
    session.wait_for_answers()
    assert [session.prompt(i, int(rows[i - 1, 0])).points.tolist() for i in (1, 2, 3)] == [
        [[15.0, 20.0]], [[50.0, 30.0]], [[22.0, 21.0]]
    ]  # fmt: skip
    assert session.undo()
    assert not session.objects


def test_features_of_a_foreign_layer_say_which_object_and_which_kind(opened):
    viewer, session, binding = opened()
    features = {"object_id": [5, 5, 8], "kind": ["positive", "negative", "positive"]}
    points = viewer.add_points([[2, 20, 15], [2, 40, 40], [2, 30, 50]], features=features)
    assert binding.start_from(points) == [5, 8]
    assert session.prompt(5, 2).labels.tolist() == [1, 0]
    shapes = viewer.add_shapes([np.array([[1, 5, 5], [1, 5, 25], [1, 20, 25], [1, 20, 5]])], shape_type="rectangle")
    (number,) = binding.start_from(shapes)
    assert number == 9
    assert session.prompt(9, 1).box.tolist() == [5.0, 5.0, 25.0, 20.0]


@pytest.mark.parametrize("kind", ["labels", "points", "shapes"])
def test_what_is_shown_on_a_cell_starts_that_cell(opened, kind):
    viewer, session, binding = opened(scale=(2, 0.5, 0.5), translate=(4, 10, -20), units=("um", "um", "um"))
    place = {"scale": (500, 500), "translate": (10_000, -20_000), "units": ("nm", "nm"), "rotate": 90}
    # a turn of 90 degrees: row r and column c of the layer lie at row -c and column r of the image
    if kind == "labels":
        drawn = np.zeros((64, 48), np.uint16)
        drawn[40:50, 10:20] = 3
        place["translate"] = (10_000 + 47 * 500, -20_000)
        layer = viewer.add_labels(drawn, **place)
        binding.go_to(2)
        assert binding.start_from(layer) == [3]
        expected = np.zeros((48, 64), bool)
        expected[47 - 19 : 47 - 9, 40:50] = True
        assert np.array_equal(session.labels[2] == 3, expected)
    elif kind == "points":
        layer = viewer.add_points([[40, -12]], **place)
        binding.go_to(2)
        assert binding.start_from(layer) == [1]
        np.testing.assert_allclose(session.prompt(1, 2).points, [[40, 12]], atol=1e-3)
    else:
        layer = viewer.add_shapes([[[30, -5], [30, -25], [50, -25], [50, -5]]], shape_type="rectangle", **place)
        binding.go_to(2)
        assert binding.start_from(layer) == [1]
        np.testing.assert_allclose(session.prompt(1, 2).box, [30, 5, 50, 25], atol=1e-3)


def test_labels_that_are_no_numbers_of_objects_are_refused_or_split(opened):
    viewer, _, binding = opened()
    binding.go_to(2)
    drawn = np.zeros((8, 48, 64), np.int64)
    drawn[2, 10:20, 10:20], drawn[2, 30:40, 40:50] = 2**33 + 1, 2**33 + 2
    with pytest.raises(PromptError, match="object numbers are limited to 2147483647"):
        binding.start_from(viewer.add_labels(drawn))
    mask = viewer.add_labels(np.where(drawn, 255, 0).astype(np.uint8))
    with pytest.warns(UserWarning, match="split into 2 connected components"):
        assert binding.start_from(mask) == [1, 2]


def test_many_labels_are_announced_once(opened):
    viewer, session, binding = opened()
    drawn = np.zeros((48, 64), np.uint16)
    drawn[::4, ::4] = np.arange(1, 12 * 16 + 1).reshape(12, 16)
    seen = []
    session.changed.connect(seen.append)
    binding.start_from(viewer.add_labels(drawn))
    assert len(seen) == 1
    plane = binding.current_plane
    assert seen[0].boxes == {plane: (0, 0, 45, 61)}
    assert np.array_equal(session.labels[plane], drawn)


def test_foreign_points_outside_the_image_change_nothing(opened):
    viewer, session, binding = opened()
    outside = viewer.add_points([[0, 20, 15], [0, 500, 15]], name="outside")
    empty = viewer.add_points(np.zeros((0, 3)), ndim=3, name="empty")
    for layer, words in ((outside, "500"), (empty, "is empty")):
        with pytest.raises(PromptError, match=words):
            binding.start_from(layer)
    assert not session.objects


@pytest.mark.parametrize("value", ["cell A", float("nan"), 0, 1.5])
def test_an_object_id_that_is_no_number_is_refused_in_words(opened, value):
    viewer, session, binding = opened()
    points = viewer.add_points([[0, 20, 15], [0, 30, 50]], features={"object_id": [1, value]}, name="foreign")
    with pytest.raises(PromptError, match="foreign has the object_id"):
        binding.start_from(points)
    assert not session.objects


def test_points_of_a_locked_object_change_nothing(opened):
    viewer, session, binding = opened()
    session.add_points([[2, 20, 15]], object_id=None)
    session.lock(1, [2])
    points = viewer.add_points([[2, 40, 40], [2, 20, 16]], features={"object_id": [1, 2]})
    before = len(session.history.done)
    with pytest.raises(PromptError, match="object 1 on frame 2"):
        binding.start_from(points)
    assert [o.object_id for o in session.objects] == [1]
    assert len(session.history.done) == before


def test_layers_are_coloured_anew_only_when_their_colours_change(opened):
    _, _, binding = opened()
    click(binding, (3, 20, 21))
    told = []
    binding.labels.events.colormap.connect(lambda event: told.append("labels"))
    click(binding, (3, 22, 21))
    assert told == []
    binding.new_object()
    assert told


def test_removed_image_and_layers_lose_nothing(opened):
    viewer, session, binding = opened()
    click(binding, (0, 20, 15))
    viewer.layers.remove("cells")
    viewer.layers.remove(binding.labels)
    session.propagate(stop=3)
    binding.show_again()
    assert binding.labels in viewer.layers
    assert (binding.labels.data[2] == 1).any()


def test_replaced_data_of_another_shape_is_refused_in_words(opened):
    viewer, session, binding = opened()
    said = []
    binding.notice.connect(lambda text, _: said.append(text))
    before = session.frames
    viewer.layers["cells"].data = np.zeros((2, 10, 10), np.uint8)
    assert session.frames is before
    assert "not the session's" in said[-1]


def test_contrast_is_frozen_until_it_is_taken_anew(opened):
    viewer, session, binding = opened(contrast_limits=(0, 255))
    viewer.layers["cells"].contrast_limits = (0, 100)
    assert session.frames.channels[0].limits == (0, 255)
    assert binding.use_current_contrast()
    assert session.frames.channels[0].limits == (0, 100)
    assert "0 to 100" in binding.contrast


def test_script_and_layers_say_the_same(opened):
    _, session, binding = opened()
    session.add_points([[2, 20, 19]])
    session.add_box([[2, 22, 40], [2, 38, 56]])
    assert binding.points.data.tolist() == [[2, 20, 19]]
    assert binding.shapes.shape_type == ["rectangle"]
    assert binding.shapes.features["object_id"].tolist() == [2]
    session.set_prompt(2, Prompt(points=[(1, 1)]), object_id=2)
    assert len(binding.shapes.data) == 0


def test_closing_disconnects_everything(opened):
    _viewer, session, binding = opened()
    binding.close()
    binding.points.add([[3, 20, 21]])
    assert session.objects == []
    assert len(session.changed) == 0


def test_a_click_where_the_mouse_rested_was_answered_before_whatever_the_scale(monkeypatch):
    viewer = ViewerModel()
    image = viewer.add_image(make_movie(), name="cells", scale=(2, 0.3, 0.3), translate=(1, 7, -3))
    session = open_session(viewer, image, model=make_model(native_window=24))
    binding = session.binding
    session.prepare()
    session.wait_for_answers()
    binding.go_to(3)
    viewer.cursor.position = tuple(binding.labels.data_to_world((3, 20.37, 21.81)))
    binding.look_ahead()
    wait_until(lambda: session._compute._idle is None and not session._compute.is_busy, 30, None)
    engine = session._engine_keeper._engine._engine  # behind the local one
    assert engine._foreseen is not None
    asked = []
    prompt = engine._frames.prompt
    monkeypatch.setattr(engine._frames, "prompt", lambda *given: asked.append(given) or prompt(*given))
    click(binding, binding.points.world_to_data(viewer.cursor.position))
    assert session.prompt(1, 3) is not None
    assert not asked
    click(binding, (3, 30, 40))  # a second click on the object is asked
    assert len(asked) == 1
    binding.close()
    session.close()


def test_tool_is_that_of_the_active_layer_and_its_mode(opened):
    viewer, _, binding = opened()
    heard = []
    binding.tool_changed.connect(heard.append)
    for tool in ("box", "paint", "point", "scribble", "lasso"):
        binding.use_tool(tool)
        assert binding.tool == tool == heard[-1]
    binding.pan()
    assert binding.tool is None
    viewer.layers.selection.active = binding.images[0]
    assert binding.tool is None
    viewer.layers.remove(binding.points)
    binding.use_tool("point")
    assert binding.points in viewer.layers
    assert heard[-1] == "point"


@pytest.mark.parametrize("tool", ["point", "box", "lasso", "scribble", "paint"])
def test_a_tool_that_is_chosen_in_the_3d_display_says_where_it_works(opened, tool):
    viewer, _, binding = opened()
    said = []
    binding.notice.connect(lambda text, is_error: said.append((text, is_error)))
    viewer.dims.ndisplay = 3
    binding.use_tool(tool)
    ((text, is_error),) = said
    assert "go back to the 2D display" in text
    assert is_error


def test_prompt_drawn_in_the_3d_display_is_taken_away_in_words(opened):
    viewer, session, binding = opened()
    click(binding, (3, 20, 21))
    said = []
    binding.notice.connect(lambda text, is_error: said.append((text, is_error)))
    viewer.dims.ndisplay = 3
    binding.points.add([[0, 5, 5]])
    binding.shapes.add_rectangles([[(0, 2, 2), (0, 2, 30), (0, 30, 30), (0, 30, 2)]])
    assert len(binding.points.data) == 1
    assert len(binding.shapes.data) == 0
    assert list(session.store.prompts) == [(1, 3)]
    assert len(said) == 2
    assert all("2D" in text and is_error for text, is_error in said)


@pytest.mark.parametrize("kind", ["point", "box", "lasso"])
def test_prompt_on_another_object_says_so(opened, kind):
    _, session, binding = opened()
    drawn = np.zeros(binding.geometry.hw, bool)
    drawn[10:30, 10:30] = True
    session.add_mask(drawn, frame=3)
    session.rename(1, "nucleus")
    binding.new_object()
    said = []
    binding.notice.connect(lambda text, _: said.append(text))
    corners = [(3, 12, 12), (3, 12, 28), (3, 28, 28), (3, 28, 12)]
    if kind == "point":
        click(binding, (3, 20, 20))
    elif kind == "box":
        binding.shapes.add_rectangles([corners])
    else:
        binding.shapes.add_polygons([corners])
    session.wait_for_answers()
    assert any("nucleus" in text and "object 2" in text for text in said)
    said.clear()
    binding.select(1)
    click(binding, (3, 21, 21))
    assert said == []


def test_object_at_a_position_of_the_world(opened):
    _, session, binding = opened(scale=(2, 0.5, 0.5))
    drawn = np.zeros(binding.geometry.hw, bool)
    drawn[10:30, 10:30] = True
    session.add_mask(drawn, frame=3)
    assert binding.object_at((6, 10, 10)) == 1
    assert binding.object_at((6, 2, 2)) is None
    assert binding.object_at((6, -5, 900)) is None


def test_session_taken_up_again_goes_on_with_the_object_that_was_prompted_last(opened, tmp_path, model):
    viewer, session, binding = opened()
    click(binding, (1, 20, 21))
    binding.new_object()
    click(binding, (6, 30, 40))
    binding.select(1)
    click(binding, (5, 21, 22))
    session.save(tmp_path / "s.sam2")
    loaded = Session.load(tmp_path / "s.sam2", session.frames, model=model)
    again = ViewerBinding(viewer, binding.images, session=loaded)
    assert (again.current, again.current_plane) == (1, 5)
    again.close()
    loaded.close()


@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [
        ((9, 2, 150, 150), ("-4", "-3", "-2", "-1"), 0),
        ((2, 9, 150, 150), ("-4", "-3", "-2", "-1"), 1),
        ((5, 2, 9, 64, 64), ("t", "c", "z", "y", "x"), 2),
        ((9, 20, 64, 64), ("z", "channel", "y", "x"), 0),
        ((30, 3, 64, 64), ("t", "z", "y", "x"), 1),
        ((3, 64, 64), ("-3", "-2", "-1"), 0),
        ((64, 64), ("-2", "-1"), None),
    ],
)
def test_frames_run_along_z_or_time_and_not_along_channels(shape, labels, axis):
    assert default_frame_axis(shape, labels) == axis


@pytest.mark.parametrize(
    ("labels", "word"), [(("t", "y", "x"), "frame"), (("z", "y", "x"), "slice"), (None, "slice")], ids=str
)
def test_a_plane_is_a_frame_of_a_movie_and_a_slice_of_a_stack(opened, labels, word):
    assert opened(axis_labels=labels)[2].plane_word == word


def test_points_have_a_lower_limit_of_size_only_where_there_are_some(opened):
    viewer, _, binding = opened()
    viewer.dims.set_current_step(0, 0)
    assert binding.points.canvas_size_limits[0] == 0, "napari draws a point of size 0 where there is none"
    click(binding, (0, 20, 15))
    assert binding.points.canvas_size_limits[0] > 0
    viewer.dims.set_current_step(0, 2)
    assert binding.points.canvas_size_limits[0] == 0
    viewer.dims.ndisplay = 3
    assert binding.points.canvas_size_limits[0] > 0


@pytest.fixture
def small_limit(monkeypatch):
    """Planes of more than 1,000 pixels count as large."""
    monkeypatch.setattr(labels_layer, "LARGEST_PAINTED", 1000)
    monkeypatch.setattr(labels_layer, "_LARGEST_COARSE", 16)


def test_labels_of_a_large_plane_are_a_pyramid_of_views_of_the_same_array(opened, small_limit):
    viewer, session, binding = opened()
    click(binding, (3, 20, 21))
    assert binding.labels.multiscale
    finest, *coarser = binding.labels.data
    assert finest is session.labels
    assert all(np.shares_memory(level, session.labels) for level in coarser)
    assert [level.shape for level in coarser] == [
        tuple(np.array(session.labels[:, n // 2 :: n, n // 2 :: n].shape)) for n in (2, 4)[: len(coarser)]
    ]
    viewer.dims.set_current_step(0, 3)
    shown = binding.labels._slice.image.raw
    assert (shown == 1).any()


def test_a_large_plane_is_not_coloured_pixel_by_pixel(opened, small_limit, monkeypatch):
    """A picture of 20,000 x 20,000 took minutes to start, and as long with each click."""
    large = np.zeros((600, 600), np.uint8)
    large[300:330, 300:330] = 200
    sizes = []
    whole = Labels._raw_to_displayed

    def counted(layer, raw, *args, **kwargs):
        sizes.append(np.size(raw))
        return whole(layer, raw, *args, **kwargs)

    monkeypatch.setattr(Labels, "_raw_to_displayed", counted)
    _, session, binding = opened(large)
    click(binding, (315, 315))
    assert (session.labels == 1).any()
    assert max(sizes) < large.size / 16


def test_a_click_has_the_labels_coloured_once(opened, monkeypatch):
    _, _, binding = opened()
    click(binding, (3, 20, 21))
    colours = []
    binding.labels.events.colormap.connect(lambda _: colours.append(1))
    binding.select(binding.session.new_object())
    colours.clear()
    binding.new_object()
    binding.points.feature_defaults = {"object_id": 7, "kind": "positive"}
    binding.points.add([[3, 40, 40]])
    assert len(colours) == 1


def test_many_objects_are_coloured_when_it_is_asked_for(opened):
    _, _, binding = opened()
    before = binding.labels.colormap
    with binding.restyling_later():
        for number in range(3):
            binding.session.add_mask(np.eye(48, 64, number) > 0, frame=0)
    assert binding.labels.colormap is before
    assert (binding.labels.data[0] == 3).any()
    binding.restyle()
    np.testing.assert_allclose(binding.labels.colormap.color_dict[3][:3], object_colour(3)[:3])


def test_colours_that_napari_does_not_parse_are_drawn_alike():
    objects = [SessionObject(number, f"object {number}", is_visible=number != 3) for number in range(1, 30)]
    made = label_colours(objects, 2)
    parsed = DirectLabelColormap(color_dict=dict(made.color_dict))
    labels = np.arange(40).reshape(4, 10)
    np.testing.assert_array_equal(made.map(labels), parsed.map(labels))
    assert made.map(labels)[0, [1, 2, 3], 3].tolist() == pytest.approx([0.55, 1, 0], abs=0.01)


def test_the_brush_of_a_large_plane_is_refused_with_its_size(opened, small_limit):
    _, _, binding = opened()
    told = []
    binding.notice.connect(lambda text, is_error: told.append((text, is_error)))
    binding.use_tool("point")
    binding.use_tool("paint")
    assert binding.tool == "point"
    ((text, is_error),) = told
    assert is_error
    assert "lasso" in text
    assert "pixels" in text


def test_coarse_levels_of_labels_on_disk_follow_them(tmp_path, small_limit):
    labels = zarr.create_array(str(tmp_path / "l.zarr"), shape=(3, 75, 90), dtype="int32", chunks=(1, 32, 32))
    levels = labels_layer.label_levels(labels)
    assert len(levels) > 2
    labels[1, 20:50, 30:70] = 4
    for step, level in zip((2, 4, 8, 16), levels[1:], strict=False):
        whole = labels[:, step // 2 :: step, step // 2 :: step]
        assert level.shape == whole.shape
        assert level.dtype == np.int32
        np.testing.assert_array_equal(np.asarray(level), whole)
        np.testing.assert_array_equal(level[1, 2:5], whole[1, 2:5])
        np.testing.assert_array_equal(level[1, :, 1:-1], whole[1, :, 1:-1])


@pytest.mark.parametrize("kind", ["point", "box", "lasso"])
def test_a_prompt_on_another_object_is_told(opened, kind):
    """It took the pixels of the current object's mask without a word."""
    _, session, binding = opened()
    y, x = np.mgrid[:48, :64]
    session.add_mask((x - 21) ** 2 + (y - 20) ** 2 < 64, frame=3)
    binding.new_object()
    told = []
    binding.notice.connect(lambda text, _: told.append(text))
    corners = [[3, 13, 14], [3, 13, 28], [3, 27, 28], [3, 27, 14]]
    if kind == "point":
        binding.points.add([[3, 20, 21]])
    else:
        binding.shapes.add(corners, shape_type="rectangle" if kind == "box" else "polygon")
    session.wait_for_answers()
    assert [text for text in told if "lies on object 1 and was added to object 2" in text]


def test_a_session_opened_by_a_script_takes_axis_and_settings():
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([make_movie(4)] * 3), name="times, slices")
    settings = SessionSettings(overlap="overwrite", keep_apart=True)
    session = open_session(viewer, image, model=make_model(native_window=24), frame_axis=0, settings=settings)
    assert session.geometry.frame_axis == 0
    assert (session.settings.overlap, session.settings.keep_apart) == ("overwrite", True)
    session.close()
