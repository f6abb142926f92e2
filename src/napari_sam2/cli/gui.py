"""``napari-sam2 gui``: napari with the widget open."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from napari_sam2._errors import FrameError, NapariSAM2Error
from napari_sam2.cli._options import parse_fixed

__all__ = ["gui"]


def gui(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="An image to open, in any format that napari reads.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            "--fix",
            metavar="P=NAME|NUMBER",
            help="Open one position or scene of a file that has several, by its name or number. Default: all.",
        ),
    ] = None,
) -> None:
    """Open napari with the SAM 2 widget.

    \b
    Example:
      napari-sam2 gui cells.ome.tif
    """
    if file is not None and not file.expanduser().exists():
        raise FrameError(f"{file} does not exist; give the path of an image, or leave it out")
    fixed = parse_fixed(fix or ())
    if set(fixed) - {"P"}:
        raise FrameError(
            f"--fix {(fix or [''])[0]} was given; the viewer shows all time points and slices on sliders: only a "
            "position can be chosen (--fix P=NAME or P=NUMBER)"
        )
    if fixed and file is None:
        raise FrameError(f"--fix {(fix or [''])[0]} was given without a file; give the path of an image")
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
            readers = importlib.import_module("napari_sam2._viewer.readers")
            readers.open_in_viewer(viewer, file.expanduser(), fixed.get("P"))
        except NapariSAM2Error:
            viewer.close()
            raise
        except Exception as error:  # whatever a reader plugin raises
            viewer.close()
            raise FrameError(
                f"napari cannot open {file} ({' '.join(str(error).split())[:200]}); give an image"
            ) from error
    viewer.window.add_plugin_dock_widget("napari-sam2", "SAM 2")
    napari.run()
