"""Which layers a session of several channels may have been made on."""

from __future__ import annotations

import itertools

import numpy as np
from napari.layers import Image
from tests.effort import measured_effort

from napari_sam2._viewer.image_source import channel_choices
from napari_sam2.frames.display import ChannelDisplay

RED, GREEN, WHITE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)


def images(*colormaps: str) -> list[Image]:
    return [Image(np.zeros((2, 8, 8), np.uint8), name=f"{i} {each}", colormap=each) for i, each in enumerate(colormaps)]


def displays(*colours: tuple[float, float, float]) -> list[ChannelDisplay]:
    return [ChannelDisplay((0, 255), colour=colour) for colour in colours]


def names(choices) -> list[str]:
    return ["".join(layer.name[0] for layer in choice) for choice in choices]


def test_layers_of_the_colours_of_a_session_come_first():
    layers = images("red", "green", "gray")
    choices = channel_choices(layers[0], layers, displays(GREEN, RED))
    assert names(choices) == ["10", "01", "02", "12", "20", "21"]


def test_among_layers_of_one_colour_the_given_one_and_those_that_are_visible_come_first():
    layers = images("red", "red", "red")
    layers[0].visible = False
    assert names(channel_choices(layers[1], layers, displays(RED, RED))) == ["12", "10", "21", "20", "01", "02"]


def test_of_many_images_choices_are_made_one_by_one():
    layers = images(*["gray"] * 30)
    with measured_effort() as effort:
        assert len(list(itertools.islice(channel_choices(layers[0], layers, displays(*[WHITE] * 4)), 24))) == 24
    assert effort.calls < 100_000  # all choices are 657,720


def test_too_few_images_give_no_choice():
    layers = images("red")
    assert list(channel_choices(layers[0], layers, displays(RED, GREEN))) == []
