"""What the tabs do, called by a script: the same parameters, and layers that lie on their image."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from napari.layers import Image, Labels, Shapes
from safetensors.torch import save_file
from skimage.measure import regionprops

from factories import make_model, make_movie
from napari_sam2 import FrameError, PromptError, fine_tune_layers, measure_layer, segment_layer, track_layer
from napari_sam2._viewer.automatic_work import Searcher
from napari_sam2.training import finetune


@pytest.fixture
def image(monkeypatch) -> Image:
    monkeypatch.setattr("napari_sam2.weights.loading.load_model", lambda *_, **__: make_model(1))
    return Image(make_movie(3), name="cells", scale=(2, 0.5, 0.5), translate=(0, 3, 4), units=("um",) * 3)


def _drawn() -> np.ndarray:
    labels = np.zeros((3, 48, 64), np.int32)
    labels[:, 14:27, 10:24] = 7
    labels[1, 30:40, 40:50] = 2
    return labels


def test_everything_on_a_plane_is_a_layer_on_its_image(image):
    told = []
    found = segment_layer(
        image, plane=1, min_iou=0.0, min_stability=0.0, on_progress=lambda *progress: told.append(progress)
    )
    assert found.data[1].any()
    assert not found.data[[0, 2]].any()
    np.testing.assert_allclose(found.data_to_world((1, 5, 5)), image.data_to_world((1, 5, 5)))
    assert found.units == image.units
    assert told[-1][1] == told[-1][2]


def test_a_script_can_stop_the_work(image):
    found = segment_layer(image, plane=1, min_iou=0.0, min_stability=0.0, should_stop=lambda: True)
    assert not np.asarray(found.data).any()


def test_labels_are_tracked_with_their_numbers(image):
    drawn = _drawn()
    drawn[[0, 2]] = 0
    found = track_layer(image, Labels(drawn, scale=image.scale, translate=image.translate, units=image.units), plane=1)
    assert found.name == "cells tracked"
    np.testing.assert_array_equal(np.asarray(found.data[1]) == 7, drawn[1] == 7)


@pytest.mark.parametrize("all_planes", [True, False])
def test_labels_of_all_planes_are_kept_where_they_are_wanted(image, all_planes):
    drawn = np.zeros((3, 48, 64), np.int32)
    drawn[0, 14:27, 10:24] = drawn[2, 30:40, 40:50] = 7
    labels = Labels(drawn, scale=image.scale, translate=image.translate, units=image.units)
    found = np.asarray(track_layer(image, labels, all_planes=all_planes).data)
    np.testing.assert_array_equal(found[0], drawn[0])
    assert np.array_equal(found[2], drawn[2]) == all_planes


def test_areas_and_the_border_limit_what_is_segmented(image):
    def areas(**limits) -> list[int]:
        found = segment_layer(image, plane=1, min_iou=0.0, min_stability=0.0, **limits)
        return np.bincount(np.asarray(found.data[1]).ravel())[1:].tolist()

    (pixels,) = areas()  # at the border
    area = 0.5 * 0.5 * pixels  # in the unit of the layer
    assert areas(min_area=area - 0.1) == areas(max_area=area + 0.1) == [pixels]
    assert areas(min_area=area + 0.1) == areas(max_area=area - 0.1) == areas(exclude_border=True) == []


def test_tracking_and_measuring_report_their_progress_and_tracking_can_be_stopped(image):
    drawn, tracked, measured = _drawn(), [], []
    labels = Labels(drawn, scale=image.scale, translate=image.translate, units=image.units)
    found = track_layer(image, labels, plane=1, on_progress=lambda *progress: tracked.append(progress))
    assert tracked[-1][1] == tracked[-1][2]
    assert np.asarray(found.data[[0, 2]]).any()
    stopped = track_layer(image, labels, plane=1, should_stop=lambda: True)
    assert not np.asarray(stopped.data[[0, 2]]).any()
    measure_layer(labels, image, on_progress=lambda *progress: measured.append(progress))
    assert measured[0] == ("measuring", 0, 3)
    assert measured[-1] == ("measuring", 3, 3)


def test_measurements_of_layers_equal_scikit_image(image):
    drawn = _drawn()
    labels = Labels(drawn, scale=image.scale, units=image.units, axis_labels=("z", "y", "x"))
    table = measure_layer(labels, image)
    for row, expected in zip(
        table.to_dict("records"), regionprops(drawn, image.data, spacing=(2, 0.5, 0.5)), strict=True
    ):
        assert (row["object"], row["volume"]) == (expected.label, pytest.approx(expected.area))
        assert row["mean"] == pytest.approx(expected.intensity_mean)
    assert len(measure_layer(labels, by="plane")) == 4
    assert "volume" not in measure_layer(Labels(drawn, axis_labels=("t", "y", "x")))
    assert measure_layer(Labels(drawn[1]))["num_pixels"].tolist() == [100, 182]


def test_layers_that_do_not_fit_and_wrong_values_are_refused(image):
    with pytest.raises(FrameError, match="choose labels of the image"):
        measure_layer(Labels(np.ones((4, 4), int)), image)
    with pytest.raises(PromptError, match="expected"):
        segment_layer(image, scope="everything")
    with pytest.raises(PromptError, match="image="):
        segment_layer(np.zeros((4, 4)))


def test_fine_tuning_gets_the_labelled_planes_and_the_parameters(image, monkeypatch):
    calls = []
    monkeypatch.setattr(finetune, "fine_tune", lambda *arguments, **options: calls.append((arguments, options)))
    fine_tune_layers(image, Labels(_drawn()), "mine.safetensors", part="all", minutes=3)
    (images, drawn, output), options = calls[0]
    assert (images[0].shape, drawn[0].shape, output) == ((3, 48, 64, 3), (3, 48, 64), "mine.safetensors")
    assert (options["part"], options["minutes"], options["linked"]) == ("all", 3.0, True)
    others = {"start_from": "theirs.pt", "overwrite": True, "linked": False, "all_labelled": True}
    told = {"on_report": print, "on_step": print, "should_stop": lambda: False}
    fine_tune_layers(image, Labels(_drawn()), "mine.safetensors", **others, **told)
    assert {name: calls[1][1][name] for name in (*others, *told)} == others | told


@pytest.mark.parametrize(
    ("module", "function"), [("automatic_widget", segment_layer), ("fine_tune_widget", fine_tune_layers)]
)
def test_the_controls_of_a_tab_are_parameters_of_its_function(qapp, module, function):
    import importlib

    from napari_sam2._qt.forms import Form

    options = importlib.import_module(f"napari_sam2._qt.{module}")._OPTIONS
    form = Form(function, "test", options)
    parameters = inspect.signature(function).parameters
    assert set(options) <= set(parameters)
    assert form.values() == {name: parameters[name].default for name in options}
    for name in options:
        assert form.native(name).toolTip()


def test_a_region_limits_what_is_segmented(image):
    triangle = np.array([(0, 5), (0, 45), (40, 5)], float) * 0.5 + (3, 4)
    shapes = Shapes([triangle], shape_type="polygon", units=("um", "um"))
    everywhere = segment_layer(image, plane=1, min_iou=0.0, min_stability=0.0)
    found = segment_layer(image, plane=1, min_iou=0.0, min_stability=0.0, region=shapes)
    rows, columns = np.nonzero(found.data[1])
    assert len(rows)
    assert (rows + columns - 5 <= 40).all()
    assert columns.min() >= 5
    assert np.asarray(everywhere.data[1])[:, :5].any()
    np.testing.assert_allclose(found.data_to_world((1, 5, 5)), image.data_to_world((1, 5, 5)))


def test_a_region_holds_for_a_whole_stack(image):
    shapes = Shapes([np.array([(4, 6), (4, 30), (40, 30), (40, 6)]) * 0.5 + (3, 4)], units=("um", "um"))
    found = segment_layer(image, scope="stack", every=3, min_iou=0.0, min_stability=0.0, region=shapes)
    outside = np.asarray(found.data).copy()
    assert outside.any()
    outside[:, 4:41, 6:31] = 0
    assert not outside.any()


def test_a_region_beside_the_image_is_refused(image):
    with pytest.raises(FrameError, match="encloses no part of the image"):
        segment_layer(image, region=Shapes([np.array([(900, 900), (900, 950), (950, 950)])], shape_type="polygon"))


def test_choices_have_words_also_after_the_form_was_shown(qtbot):
    from napari_sam2._qt.automatic_widget import _OPTIONS
    from napari_sam2._qt.forms import Form

    form = Form(segment_layer, "test", _OPTIONS)
    qtbot.addWidget(form.gui.native)
    form.gui.native.show()
    form.gui.reset_choices()
    scope = form.native("scope")
    assert [scope.itemText(at) for at in range(scope.count())] == [text for text, _ in _OPTIONS["scope"]["choices"]]
    assert form.values()["scope"] == "plane"


def test_a_search_reads_weights_that_were_replaced(tmp_path):
    path = tmp_path / "mine.safetensors"
    loaded = []
    for seed in (1, 2):
        model = make_model(seed, native_window=128, image_size=256)
        save_file(model.state_dict(), path, metadata={"model": "sam2_micro"})
        searcher = loaded[0][0] if loaded else Searcher()
        assert not searcher.has_loaded(str(path))
        loaded.append((searcher, searcher._load(str(path))))
        assert searcher.has_loaded(str(path))
    first, second = (network.state_dict() for _, network in loaded)
    assert any(not first[name].equal(second[name]) for name in first)
