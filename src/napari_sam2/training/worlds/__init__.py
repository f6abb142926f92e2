"""Random worlds: shape, arrangement and appearance drawn independently, so that nothing a microscope shows is new."""

from __future__ import annotations

from napari_sam2.training.worlds.looks import render
from napari_sam2.training.worlds.scenes import ARRANGEMENTS, Scene, draw_scene, number_pieces

__all__ = ["ARRANGEMENTS", "Scene", "draw_scene", "number_pieces", "render"]
