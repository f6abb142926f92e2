"""``napari-sam2 gui``: napari with the widget open."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from napari_sam2._errors import FrameError, NapariSAM2Error

__all__ = ["gui"]


def gui(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="An image to open, in any format that napari reads.")
    ] = None,
) -> None:
    """Open napari with the SAM 2 widget.

    \b
    Example:
      napari-sam2 gui cells.ome.tif
    """
    if file is not None and not file.expanduser().exists():
        raise FrameError(f"{file} does not exist; give the path of an image, or leave it out")
    import torch  # noqa: F401 before Qt: on Windows torch's libraries cannot be loaded after Qt's

    try:
        napari = importlib.import_module("napari")
        viewer = napari.Viewer()
    except ImportError as error:
        raise NapariSAM2Error(
            f"napari cannot open a window ({error}); install it with a Qt binding: pip install 'napari-sam2[gui]'"
        ) from error
    if file is not None:
        try:
            viewer.open(str(file.expanduser()))
        except Exception as error:  # whatever a reader plugin raises
            viewer.close()
            raise FrameError(
                f"napari cannot open {file} ({' '.join(str(error).split())[:200]}); give an image"
            ) from error
    viewer.window.add_plugin_dock_widget("napari-sam2", "SAM 2")
    napari.run()
